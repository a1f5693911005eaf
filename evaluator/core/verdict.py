"""The closed table of verdicts. A run, a check or a scoring ends with exactly one of them."""

from dataclasses import dataclass, replace
from typing import Any, Literal

Fault = Literal["team", "organizer", "infra"]
_EXIT_CODES: dict[Fault | None, int] = {None: 0, "team": 1, "organizer": 2, "infra": 3}
REFUSED_EXIT_CODE = 4  # of what a season's rules do not allow: nothing is at fault, and no run ends so


@dataclass(frozen=True)
class Verdict:
    """A row of the table: the verdict's name, whose fault it is (None where nobody has one), `fix`, one line for
    whoever has to act, and `rule`, which findings of no other rule are named after.

    `quotes_data` says that its findings may quote what was read or written after the submission saw the data.
    """

    name: str
    fault: Fault | None
    fix: str
    rule: str
    quotes_data: bool = False

    def __str__(self) -> str:
        return self.name

    @property
    def counts(self) -> bool:
        """Whether the attempt is one of the team's three of that day: only a valid, scored one is (published: an
        attempt whose scoring raises is not counted).
        """
        return self.fault is None

    @property
    def exit_code(self) -> int:
        """What a command ends with; 2, of the organizer's faults, is also what a wrong command line ends with."""
        return _EXIT_CODES[self.fault]

    def to_json(self) -> dict[str, Any]:
        """What stands first in scores.json."""
        return {"verdict": self.name, "fault": self.fault, "counts": self.counts, "fix": self.fix}


OK = Verdict("OK", None, "", "")
BAD_ZIP = Verdict(
    "BAD_ZIP",
    "team",
    "pack the folder with `make pack-submission` and look at `make check-submission`",
    "archive-failure",
)
BAD_METADATA = Verdict(
    "BAD_METADATA",
    "team",
    'write metadata.json as {"image": "name:tag", "entrypoint": "python3 run.py"}',
    "metadata-failure",
)
BAD_WEIGHTS = Verdict(
    "BAD_WEIGHTS",
    "team",
    "save weights with safetensors, or state dicts with torch.save; models.json says which of them serve which task",
    "weights-failure",
)
BAD_IMAGE = Verdict(
    "BAD_IMAGE",
    "team",
    "name an image that the leaderboard has, or push yours and ask for it to be loaded",
    "image-failure",
)
OOM = Verdict(
    "OOM", "team", "use less memory: /tmp, /dev/shm and output/ lie in memory and count as well", "memory-limit"
)
TIMEOUT = Verdict("TIMEOUT", "team", "answer faster, and write predictions.json before the time limit", "time-limit")
EXIT = Verdict(
    "EXIT", "team", "have the entrypoint end with exit code 0; `make test-submission` shows its log", "exit-code"
)
DISK = Verdict("DISK", "team", "write less into output/ and /tmp", "disk-limit")
BAD_OUTPUT = Verdict(
    "BAD_OUTPUT",
    "team",
    "write output/ as the contract says; the findings name each fault",
    "output-failure",
    quotes_data=True,
)
METRIC_ERROR = Verdict(
    "METRIC_ERROR",
    "infra",
    "nothing for the team to do: scoring failed, and the organizers must look at it",
    "metric-failure",
    quotes_data=True,
)
INFRA = Verdict(
    "INFRA",
    "infra",
    "nothing for the team to do: the evaluator failed; run the submission again",
    "evaluator-failure",
    quotes_data=True,
)

TABLE = {
    verdict.name: verdict
    for verdict in (
        OK,
        BAD_ZIP,
        BAD_METADATA,
        BAD_WEIGHTS,
        BAD_IMAGE,
        OOM,
        TIMEOUT,
        EXIT,
        DISK,
        BAD_OUTPUT,
        METRIC_ERROR,
        INFRA,
    )
}

# The same two where the organizer's data, or the way the evaluator was called, is wrong.
_ORGANIZER = "nothing for the team to do: the organizers correct the data, or how the evaluator was called"
METRIC_DATA_ERROR = replace(METRIC_ERROR, fault="organizer", fix=_ORGANIZER)
DATA_ERROR = replace(INFRA, fault="organizer", fix=_ORGANIZER, rule="data-failure")
