"""The boards, computed from results: pure functions, and `lines`, which asks the ledger for what they need.

Public: each team's best result. Private: the best of the submissions that the team chose, else of as many of its best
public ones. Of equal results the earlier submission is better.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from evaluator.season import PRIVATE, PUBLIC
from evaluator.season.config import Season


@dataclass(frozen=True)
class Sharing:
    """What a run found of the rule of a unified model: whether it is `met`, and the share of parameters that all tasks'
    models have in common; None where it could not be counted.
    """

    met: bool = False
    share: float | None = None

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Sharing":
        """Of `shared_parameters` in scores.json, or as `to_json` wrote it."""
        return cls(document["met"], document["share"])

    def to_json(self) -> dict[str, Any]:
        """As it stands on the board, and in the ledger."""
        return {"met": self.met, "share": self.share}


@dataclass(frozen=True)
class BoardResult:
    """A submission's total on a test set; `sharing` is of use where the competition asks for it. `entered_at` is when
    the first result of the submission came; `edition` is the one that it is of (None: the first), `rescored` the number
    under which it was scored again, where it was; `competes` tells whether its team has a rank, `counts` whether it
    stands on boards at all.
    """

    run: int
    submission: int
    team: str
    submitted_at: datetime
    total: float
    sharing: Sharing = Sharing()
    entered_at: datetime | None = None
    edition: int | None = None
    rescored: int | None = None
    competes: bool = True
    counts: bool = True

    @property
    def order(self) -> tuple[float, datetime, int]:
        """Sorts the best first."""
        return -self.total, self.submitted_at, self.submission


@dataclass(frozen=True)
class Choice:
    """The submissions that a team has chosen last, by number."""

    team: str
    at: datetime
    submissions: tuple[int, ...]


class Source(Protocol):
    """What the boards are computed of: the ledger, or a snapshot of it."""

    def rules(self) -> Season:
        """The rules that hold."""

    def results(self, test_set: str) -> list[BoardResult]:
        """All results on a test set, in the order of their submissions."""

    def choices(self) -> list[Choice]:
        """What teams have chosen for the private board, in the order of time."""

    def scores(self, results: Iterable[BoardResult]) -> dict[int, dict[int, float]]:
        """The scores of each of these results, by run and task number."""

    @property
    def frozen_at(self) -> datetime | None:
        """The moment whose public board is shown; None where it is shown as it is."""


@dataclass(frozen=True)
class Line:
    """A row of a board: a team's, or with `team` None the baseline's, which has no rank; nor has a team that does not
    compete. `result` is the best one, None where there is none yet; `scores` are its tasks'. `count` is of the results
    it is the best of, `expected` how many there will be. `sharing` is the best result's, None where the competition
    does not ask for it.
    """

    rank: int | None
    team: str | None
    total: float | None
    scores: Mapping[int, float] = field(default_factory=dict)
    result: BoardResult | None = None
    count: int = 0
    expected: int = 0
    sharing: Sharing | None = None
    competes: bool = True

    @property
    def name(self) -> str:
        """Whose row it is, in a table."""
        return self.team or "(baseline)"

    def misses(self, thresholds: Mapping[int, float]) -> dict[int, float]:
        """The thresholds, by task, that the scores do not reach."""
        return {task: least for task, least in thresholds.items() if not self.scores.get(task, -1.0) >= least}

    def to_json(self, season: Season) -> dict[str, Any]:
        """The row as `board --json` writes it; scores by task number."""
        best = self.result
        return {
            "rank": self.rank,
            "team": self.team,
            "total": self.total,
            "scores": {str(task): value for task, value in sorted(self.scores.items())},
            "submission": best and best.submission,
            "submitted_at": best and season.moment(best.submitted_at),
            "results": self.count,
            "expected": self.expected,
            "competes": self.competes,
            **({"shared_parameters": self.sharing.to_json()} if self.sharing else {}),
        }


def lines(source: Source, test_set: str, live: bool = False) -> list[Line]:
    """The board of a test set, as the ledger or a snapshot has it; of a public one that is frozen, the one of that
    moment, unless it is to be `live`.
    """
    season, found = source.rules(), source.results(test_set)
    if test_set == PRIVATE:
        wanted = finals(source.results(PUBLIC), source.choices(), season.chosen)
        private = private_results(found, wanted)
        return private_lines(private, wanted, source.scores(best(private).values()), season)
    if test_set == PUBLIC and not live:
        found = until(found, source.frozen_at)
    return public_lines(found, source.scores(best(found).values()), season)


def until(results: Iterable[BoardResult], moment: datetime | None) -> list[BoardResult]:
    """Those that were there at a moment; all where it is None."""
    return [result for result in results if moment is None or result.entered_at is None or result.entered_at <= moment]


def best(results: Iterable[BoardResult]) -> dict[str, BoardResult]:
    """Each team's best result."""
    found: dict[str, BoardResult] = {}
    for result in results:
        if result.team not in found or result.order < found[result.team].order:
            found[result.team] = result
    return found


def by_team(results: Iterable[BoardResult]) -> dict[str, list[BoardResult]]:
    """Each team's results, in their order."""
    found: dict[str, list[BoardResult]] = {}
    for result in results:
        found.setdefault(result.team, []).append(result)
    return found


def finals(public: Iterable[BoardResult], choices: Iterable[Choice], chosen: int) -> dict[str, tuple[int, ...]]:
    """Each team's submissions for the private board: those it chose, else its `chosen` best public ones."""
    wanted = {
        team: tuple(result.submission for result in sorted(results, key=lambda result: result.order)[:chosen])
        for team, results in by_team(public).items()
    }
    return wanted | {choice.team: choice.submissions for choice in choices}


def public_lines(
    results: Sequence[BoardResult], scores: Mapping[int, Mapping[int, float]], season: Season
) -> list[Line]:
    """The public board. `scores` has the scores by task of at least the best results' runs (`best`), by run."""
    counts: dict[str, int] = {}
    for result in results:
        counts[result.team] = counts.get(result.team, 0) + 1
    return _ranked(best(results), scores, season, counts, counts)


def private_results(private: Iterable[BoardResult], wanted: Mapping[str, Sequence[int]]) -> list[BoardResult]:
    """Those private results that count, given what `finals` returned."""
    return [result for result in private if result.submission in wanted.get(result.team, ())]


def private_lines(
    private: Sequence[BoardResult],
    wanted: Mapping[str, Sequence[int]],
    scores: Mapping[int, Mapping[int, float]],
    season: Season,
) -> list[Line]:
    """The private board, given what `finals` and `private_results` returned; teams without a result yet stand below,
    unranked.
    """
    counts = dict.fromkeys(wanted, 0)
    for result in private:
        counts[result.team] += 1
    expected = {team: len(submissions) for team, submissions in wanted.items()}
    return _ranked(best(private), scores, season, counts, expected)


def baseline_line(season: Season) -> Line:
    """The row of the baseline, which has no rank."""
    return Line(None, None, season.total(season.baseline), season.baseline)


def _ranked(
    found: Mapping[str, BoardResult],
    scores: Mapping[int, Mapping[int, float]],
    season: Season,
    counts: Mapping[str, int],
    expected: Mapping[str, int],
) -> list[Line]:
    """Lines in order, the baseline's below every team that reaches it."""
    asked = season.competition.definition.prizes.shared_parameters is not None
    lines: list[Line] = []
    ranks = 0
    for result in sorted(found.values(), key=lambda result: result.order):
        ranks += result.competes
        lines.append(
            Line(
                ranks if result.competes else None,
                result.team,
                result.total,
                scores[result.run],
                result,
                counts[result.team],
                expected[result.team],
                result.sharing if asked else None,
                result.competes,
            )
        )
    baseline = baseline_line(season)
    above = [line for line in lines if baseline.total is None or (line.total or 0.0) >= baseline.total]
    waiting = [Line(None, team, None, expected=expected[team]) for team in sorted(counts) if team not in found]
    return [*above, baseline, *lines[len(above) :], *waiting]
