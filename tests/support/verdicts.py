"""What tests expect of a submission that fails."""

import contextlib
from collections.abc import Iterator

import pytest

from evaluator.core.errors import SubmissionError
from evaluator.core.verdict import Verdict


@contextlib.contextmanager
def raises_verdict(verdict: Verdict, match: str | None = None) -> Iterator[pytest.ExceptionInfo[SubmissionError]]:
    """As `pytest.raises`, of a `SubmissionError` with this verdict; its fix may be another than the table's."""
    with pytest.raises(SubmissionError, match=match) as caught:
        yield caught
    assert caught.value.verdict.name == verdict.name
