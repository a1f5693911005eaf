"""Why results are not the leaderboard's, as the pages mark it: each label's sign, and the tasks that it is of."""

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from evaluator.core.errors import RuleBroken
from evaluator.core.files import read_regular
from evaluator.core.text import LABEL_MARKS

logger = logging.getLogger(__name__)

NAME = "scores.json"
MAX_BYTES = 64 * 10**6
MAX_TRIES = 5  # of runs that left no scores.json, or one that cannot be read


@dataclass(frozen=True)
class Labels:
    """The labels of a test set's results, and those of single tasks by number; of no task where nobody knows which."""

    texts: tuple[str, ...] = ()
    by_task: Mapping[int, tuple[str, ...]] = field(default_factory=dict)

    @property
    def signs(self) -> dict[str, str]:
        """Each label's sign, which stands beside what it is of."""
        return {text: LABEL_MARKS[i] if i < len(LABEL_MARKS) else f"({i + 1})" for i, text in enumerate(self.texts)}

    def of(self, task: int) -> str:
        """The signs beside a task's name."""
        return "".join(self.signs[text] for text in self.by_task.get(task, ()))


def find(texts: tuple[str, ...], runs: Iterable[Path]) -> Labels:
    """The labels `texts` of a test set. All of its results have the same, so the first scores.json in the folders
    `runs` that has just these tells which task has which.
    """
    if not texts:
        return Labels()
    for run, _ in zip(runs, range(MAX_TRIES), strict=False):
        try:
            tasks = json.loads(read_regular(run, NAME, MAX_BYTES))["tasks"]
            by_task = {int(number): tuple(task["labels"]) for number, task in tasks.items()}
        except (OSError, RuleBroken, ValueError, KeyError, TypeError, AttributeError) as error:
            logger.info("%s: %s does not tell the labels of its tasks: %s", run, NAME, error)
            continue
        if {text for found in by_task.values() for text in found} == set(texts):
            return Labels(texts, by_task)
    return Labels(texts)
