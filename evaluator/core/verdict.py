"""The closed table of verdicts. A run, a check or a scoring ends with exactly one of them."""

from dataclasses import dataclass
from typing import Any, Literal

Fault = Literal["team", "organizer", "infra"]


@dataclass(frozen=True)
class Verdict:
    """`fault` is None where nobody has one. `counts` says whether the attempt is one of the team's three of that day:
    only a valid, scored one is (published: an attempt whose scoring raises is not counted). `fix` is one line for
    whoever has to act.
    """

    name: str
    fault: Fault | None
    fix: str

    @property
    def counts(self) -> bool:
        return self.fault is None

    def to_json(self) -> dict[str, Any]:
        """What stands first in scores.json."""
        return {"verdict": self.name, "fault": self.fault, "counts": self.counts, "fix": self.fix}


OK = Verdict("OK", None, "")
BAD_ZIP = Verdict(
    "BAD_ZIP", "team", "pack the folder with `make pack-submission` and look at `make check-submission`"
)
BAD_METADATA = Verdict(
    "BAD_METADATA", "team", 'write metadata.json as {"image": "name:tag", "entrypoint": "python3 run.py"}'
)
BAD_IMAGE = Verdict(
    "BAD_IMAGE", "team", "name an image that the leaderboard has, or push yours and ask for it to be loaded"
)
OOM = Verdict("OOM", "team", "use less memory: /tmp, /dev/shm and output/ lie in memory and count as well")
TIMEOUT = Verdict("TIMEOUT", "team", "answer faster, and write predictions.json before the time limit")
EXIT = Verdict("EXIT", "team", "have the entrypoint end with exit code 0; `make test-submission` shows its log")
DISK = Verdict("DISK", "team", "write less into output/ and /tmp")
BAD_OUTPUT = Verdict("BAD_OUTPUT", "team", "write output/ as the contract says; the findings name each fault")
METRIC_ERROR = Verdict(
    "METRIC_ERROR", "infra", "nothing for the team to do: scoring failed, and the organizers must look at it"
)
INFRA = Verdict("INFRA", "infra", "nothing for the team to do: the evaluator failed; run the submission again")

TABLE = {
    verdict.name: verdict
    for verdict in (
        OK,
        BAD_ZIP,
        BAD_METADATA,
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
