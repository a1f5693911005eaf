"""The ledger: teams, submissions, their attempts and runs, what comes of these, and what organizers change.

`records` are what it hands out and takes, `ledger` has its transactions, `queries` what is read and written in them.
"""

from evaluator.season.ledger.ledger import Ledger
from evaluator.season.ledger.queries import View
from evaluator.season.ledger.records import (
    Archive,
    Attempts,
    Edition,
    Event,
    Job,
    NewEdition,
    Queued,
    Refused,
    RunEnd,
    RunState,
    Snapshot,
    Submission,
    Team,
    reason,
    shown_labels,
)

__all__ = [
    "Archive",
    "Attempts",
    "Edition",
    "Event",
    "Job",
    "Ledger",
    "NewEdition",
    "Queued",
    "Refused",
    "RunEnd",
    "RunState",
    "Snapshot",
    "Submission",
    "Team",
    "View",
    "reason",
    "shown_labels",
]
