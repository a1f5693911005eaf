"""The prizes of a season, by the private board: the main one by thresholds, that for the most sustainable solution by
`evaluator.prize`, with the emission.csv of the submission that a team's private result comes from.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evaluator import emission, prize
from evaluator.errors import DataError, EvaluatorError
from evaluator.season.board import Line
from evaluator.season.rules import Season
from evaluator.season.store import Shared, Store, local_archive


@dataclass(frozen=True)
class Eligibility:
    """Whether a team can win the main prize: `missed` are the thresholds, by task, that its private result does not
    reach.
    """

    line: Line
    missed: Mapping[int, float]

    @property
    def eligible(self) -> bool:
        return not self.missed

    def to_json(self) -> dict[str, Any]:
        missed = {str(task): least for task, least in sorted(self.missed.items())}
        return {**self.line.to_json(), "eligible": self.eligible, "missed": missed}


def main_prize(lines: Iterable[Line], season: Season) -> list[Eligibility]:
    """The teams of the private board that have a result, in its order."""
    return [Eligibility(line, line.misses(season.thresholds)) for line in lines if line.rank is not None]


def sustainable(
    lines: Iterable[Line], season: Season, store: Store | Shared, digests: Mapping[int, str]
) -> prize.Prize:
    """The prize for the most sustainable solution among the teams of the private board. `digests` are those of the
    stored ZIPs, by submission; where the store is no folder, each is fetched to look into it.
    """
    baseline = season.total(season.baseline)
    if baseline is None:
        raise DataError(f"season {season.path}: [baseline] has no score for some task that has weight")
    return prize.award([_candidate(line, season, store, digests) for line in lines if line.team], baseline)


def _candidate(line: Line, season: Season, store: Store | Shared, digests: Mapping[int, str]) -> prize.Candidate:
    team = line.team or ""
    if line.result is None:
        return prize.Candidate(team, None)
    limits = season.limits
    try:
        with local_archive(store, digests[line.result.submission]) as path:
            found = emission.read_archive(path, limits.archive, limits.unpacked)
    except (EvaluatorError, OSError) as error:
        reason = error.reasons[0] if isinstance(error, EvaluatorError) else error
        return prize.Candidate(team, line.total, None, f"{emission.NAME} cannot be read: {reason}")
    return prize.Candidate(team, line.total, found)


def to_json(main: Sequence[Eligibility], green: prize.Prize) -> dict[str, Any]:
    return {"main": [each.to_json() for each in main], "sustainable": green.to_json()}
