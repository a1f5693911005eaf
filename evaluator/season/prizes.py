"""The prizes of a season, by the private board: the main one by thresholds, that for the most sustainable solution by
`evaluator.carbon.prize`, with the emission.csv of the submission that a team's private result comes from.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from evaluator.carbon import emission, prize
from evaluator.carbon.emission import Emission
from evaluator.competition.definition import least_total
from evaluator.core.errors import DataError, SubmissionError, show
from evaluator.season import PRIVATE, PUBLIC, board
from evaluator.season.board import Line
from evaluator.season.config import Season
from evaluator.season.ledger import Snapshot
from evaluator.season.store import Shared, Store, local_archive


@dataclass(frozen=True)
class Eligibility:
    """Whether a team can win the main prize: `missed` are the thresholds, by task, that its private result does not
    reach; `amount` is what it gets by its place among those who can, in the competition's unit, where the rules say so.
    Where they ask for one model of all tasks, a count of shared parameters that is too low, or could not be made, puts
    a team out, too.
    """

    line: Line
    missed: Mapping[int, float]
    amount: float | None = None

    @property
    def eligible(self) -> bool:
        """Whether no threshold was missed, and the model is one of all tasks."""
        return not self.missed and (self.line.sharing is None or self.line.sharing.met)

    def to_json(self, season: Season) -> dict[str, Any]:
        """The line of the board, with `eligible`, the threshold of each task that was `missed`, and the `amount`."""
        missed = {str(task): least for task, least in sorted(self.missed.items())}
        return {**self.line.to_json(season), "eligible": self.eligible, "missed": missed, "amount": self.amount}


@dataclass(frozen=True)
class Nomination:
    """The best score of a task, and the team that has it; None where nobody reaches the task's threshold."""

    task: int
    team: str | None
    score: float | None

    def to_json(self) -> dict[str, Any]:
        return {"task": self.task, "team": self.team, "score": self.score}


@dataclass(frozen=True)
class Unfinished:
    """How many runs that may still change the private board are not at their end, or wait for somebody after an
    infrastructure failure: `private` ones that it needs, `public` ones of teams that chose nothing, whose best ones it
    takes.
    """

    private: int
    public: int

    def __bool__(self) -> bool:
        return self.private + self.public > 0

    def __str__(self) -> str:
        return f"Preliminary: runs not done: private {self.private}, public {self.public}"


def unfinished(snapshot: Snapshot) -> Unfinished:
    """What the private board still waits for."""
    chose = {choice.team for choice in snapshot.choices()}
    finals = board.finals(snapshot.results(PUBLIC), snapshot.choices(), snapshot.season.chosen)
    going = [state for state in snapshot.states if state.pending or state.is_infrastructure_failure]
    ended = {state.submission.id for state in snapshot.states if state.test_set == PRIVATE}
    ended -= {state.submission.id for state in going if state.test_set == PRIVATE}
    return Unfinished(
        sum(submission not in ended for of_team in finals.values() for submission in of_team),
        sum(state.test_set == PUBLIC and state.submission.team not in chose for state in going),
    )


def main_prize(lines: Iterable[Line], season: Season) -> list[Eligibility]:
    """The teams of the private board that have a result, in its order."""
    rules = season.competition.definition.prizes
    minimum = least_total(season.weights, season.thresholds, season.competition.definition.integral.round_parts)
    found: list[Eligibility] = []
    place = 0
    for line in lines:
        if line.rank is None or line.total is None:
            continue
        each = Eligibility(line, line.misses(season.thresholds))
        if each.eligible:
            each, place = replace(each, amount=rules.amount(place, line.total, minimum)), place + 1
        found.append(each)
    return found


def nominations(lines: Sequence[Line], season: Season) -> list[Nomination]:
    """The best score of each task that has a threshold, where the competition has such prizes. Of equal ones the line
    that stands higher.
    """
    if season.competition.definition.prizes.nomination is None:
        return []
    found = []
    for task, least in sorted(season.thresholds.items()):
        ranked = [line for line in lines if line.team and line.competes and line.scores.get(task, -1.0) >= least]
        if ranked:
            best = max(ranked, key=lambda line: line.scores[task])
            found.append(Nomination(task, best.team, best.scores[task]))
        else:
            found.append(Nomination(task, None, None))
    return found


def sustainable(
    lines: Iterable[Line], season: Season, store: Store | Shared, digests: Mapping[int, str]
) -> prize.Prize | None:
    """The prize for the most sustainable solution among the teams of the private board; None where the competition has
    none. `digests` are those of the stored ZIPs, by submission. Only those of teams that are in by their score are
    looked into, as each is read whole and, where the store is no folder, fetched.

    Raises `DataError` where such a ZIP is not there, is not the one that was sent, or cannot be read: a storage that is
    down must not decide who wins.
    """
    if not season.competition.definition.prizes.sustainable:
        return None
    baseline = season.total(season.baseline)
    if baseline is None:
        raise DataError(f"season {season.path}: [baseline] has no score for some task that has weight")
    teams = {line.team: line for line in lines if line.team and line.competes}
    candidates = {team: prize.Candidate(team, line.total) for team, line in teams.items()}
    for place in prize.award(candidates.values(), baseline).places:
        if place.cause == "no-file":  # all that a team without a file can be out for, but its score
            result = teams[place.team].result
            assert result is not None  # it has a score
            candidates[place.team] = _look(place, season, store, digests[result.submission])
    return prize.award(candidates.values(), baseline)


def _look(place: prize.Place, season: Season, store: Store | Shared, digest: str) -> prize.Candidate:
    found: Emission | None = None
    problem = None
    try:
        with local_archive(store, digest) as path:
            found = emission.read_archive(path, season.limits.archive, season.limits.unpacked)
    except SubmissionError as error:  # of the bytes that the team sent
        problem = f"{emission.NAME} cannot be read: {error.reasons[0]}"
    except (DataError, OSError) as error:
        raise DataError(f"team {show(place.team)}: the ZIP of its private result cannot be read: {error}") from None
    return prize.Candidate(place.team, place.score, found, problem)


def to_json(
    season: Season,
    main: Sequence[Eligibility],
    nominated: Sequence[Nomination],
    green: prize.Prize | None,
    missing: Unfinished,
) -> dict[str, Any]:
    """All prizes as `prizes --json` writes them; `not_done` are runs that the private board still waits for."""
    not_done = {"private": missing.private, "public": missing.public}
    return {
        "preliminary": bool(missing),
        "not_done": not_done,
        "main": [each.to_json(season) for each in main],
        "nominations": [each.to_json() for each in nominated],
        "sustainable": green and green.to_json(),
    }
