"""The reports of a team's runs, as the site hands them out: aggregates alone, and whole or not at all."""

import logging
import os
from pathlib import Path

from evaluator.core.errors import RuleBroken
from evaluator.core.files import read_regular

logger = logging.getLogger(__name__)

NAME = "report.html"
MAX_BYTES = 64 * 10**6


def hand_out(run: Path, before: Path, target: Path) -> bool:
    """Put the report that a run left in its folder at `target`. One that is as it was at `before`, in the site before,
    is linked from there. False where the run left none, or one with single examples. Raises `OSError`.
    """
    try:
        found = os.stat(run / NAME, follow_symlinks=False)
    except OSError:
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        there = os.stat(before, follow_symlinks=False)
        if (there.st_size, there.st_mtime_ns) == (found.st_size, found.st_mtime_ns):
            os.link(before, target, follow_symlinks=False)
            return True
    except OSError:  # no such report before, or no links on this disk
        pass
    content = read(run)
    if content is None:
        return False
    target.write_bytes(content)
    os.utime(target, ns=(found.st_mtime_ns, found.st_mtime_ns))
    return True


def read(run: Path) -> bytes | None:
    """The report that a run left in its folder; None where it left none, or one with single examples."""
    try:
        content = read_regular(run, NAME, MAX_BYTES)
    except RuleBroken as broken:
        logger.warning("%s: %s is left out: %s", run, NAME, broken)
        return None
    if b'"private":true' not in content:  # no text within the report's JSON can have these quotes
        logger.warning("%s: %s is left out: it was not made with --private", run, NAME)
        return None
    return content
