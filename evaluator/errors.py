"""Three kinds of failure, kept apart by their exit codes: the submission's, the organizer's, ours."""

from collections.abc import Iterable

SHOWN_FAULTS = 20
SHOWN_CHARACTERS = 60


class EvaluatorError(Exception):
    """A failure with its reasons, one line each. An instance of this very class is the evaluator's own fault."""

    exit_code = 3

    def __init__(self, reasons: str | Iterable[str]) -> None:
        self.reasons = [reasons] if isinstance(reasons, str) else list(reasons)
        super().__init__(*self.reasons)

    def __str__(self) -> str:
        """The first `SHOWN_FAULTS` reasons, one a line, and how many more there are."""
        lines = self.reasons[:SHOWN_FAULTS]
        hidden = len(self.reasons) - len(lines)
        return "\n".join(lines + ([f"... and {hidden} more"] if hidden else []))


class SubmissionError(EvaluatorError):
    """The submission broke the contract, failed, or ran out of time."""

    exit_code = 1


class DataError(EvaluatorError):
    """The organizer's data, or the way the evaluator was called, is wrong. (argparse ends with 2 as well.)"""

    exit_code = 2


def show(value: object) -> str:
    """An untrusted value as a short piece of one line: its repr, which escapes control characters, cut."""
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 3] + "..."
