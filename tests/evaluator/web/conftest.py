"""Seasons that run."""

from tests.support.running import make_running, make_zip  # noqa: F401  fixtures
