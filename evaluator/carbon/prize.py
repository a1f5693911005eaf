"""The prize for the most sustainable solution: who may win it, and who does.

By the rules a team is in when its main score is at least mean + std of the scores that beat the baseline; of these
teams the one whose training made the least CO2 wins, by the row of its emission.csv that counts
(`evaluator.carbon.emission`).

    award(candidates, baseline) -> Prize         pure: what a season calls
    read_candidates(paths) -> list[Candidate]    from folders of runs
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from evaluator.carbon import emission
from evaluator.carbon.emission import Emission
from evaluator.competition.definition import Competition, named_in
from evaluator.core import verdict
from evaluator.core.errors import DataError, EvaluatorError, SubmissionError, show
from evaluator.core.strict_json import read_document
from evaluator.core.text import aligned

# The rules print `mean + std` and no more. That of the population is what NumPy means by it, and teams above the
# baseline are no sample of others; 1 would make it that of a sample.
DELTA_DEGREES_OF_FREEDOM = 0

Cause = Literal["problem", "no-score", "baseline", "threshold", "no-file", "faults"]

_ROUNDING = 1e-9
RESULTS = ("scores.json", "record.json")  # in a team's folder; the first that is there is read


@dataclass(frozen=True)
class Candidate:
    """A team: its main score, None where it has none, and its emission.csv, None where it sent none. `problem` says why
    there is none.
    """

    team: str
    score: float | None
    emission: Emission | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Place:
    """What became of a team: with `rank` it is in, 1 has won; else `reason` says why it is out, and `cause` in a word,
    which quotes nothing. CO2 in kg.
    """

    team: str
    score: float | None
    emission: Emission | None
    rank: int | None = None
    reason: str | None = None
    cause: Cause | None = None

    @property
    def kg(self) -> float | None:
        """CO2 of the row that counts."""
        return self.emission.counting.kg if self.emission and self.emission.counting else None

    def to_json(self) -> dict[str, Any]:
        """What `prize --json` says of the team."""
        return {
            "rank": self.rank,
            "team": self.team,
            "score": self.score,
            "kg": self.kg,
            "reason": self.reason,
            "emission": self.emission and self.emission.to_json(),
        }


@dataclass(frozen=True)
class Prize:
    """The places: teams that are in by rank, then those that are out by score. `mean` and `deviation` are of the
    `beating` scores above the `baseline`, None where no score is.
    """

    baseline: float
    beating: int
    mean: float | None
    deviation: float | None
    places: tuple[Place, ...]

    @property
    def threshold(self) -> float | None:
        """The score that is needed, mean + standard deviation; None where no score beats the baseline."""
        return None if self.mean is None or self.deviation is None else self.mean + self.deviation

    @property
    def winners(self) -> tuple[str, ...]:
        """The team with rank 1; several where they tie."""
        return tuple(place.team for place in self.places if place.rank == 1)

    @property
    def ties(self) -> tuple[tuple[str, ...], ...]:
        """Teams that share a rank."""
        by_rank: dict[int, list[str]] = {}
        for place in self.places:
            if place.rank is not None:
                by_rank.setdefault(place.rank, []).append(place.team)
        return tuple(tuple(teams) for teams in by_rank.values() if len(teams) > 1)

    def to_json(self) -> dict[str, Any]:
        """The content of the file that `prize --json` writes."""
        return {
            "baseline": self.baseline,
            "beating": self.beating,
            "mean": self.mean,
            "deviation": self.deviation,
            "delta_degrees_of_freedom": DELTA_DEGREES_OF_FREEDOM,
            "threshold": self.threshold,
            "winners": list(self.winners),
            "ties": [list(teams) for teams in self.ties],
            "places": [place.to_json() for place in self.places],
        }

    def lines(self) -> list[str]:
        """A table with a line for each team, ties, and what organizers should look at before they give the prize."""
        if self.mean is None or self.deviation is None:
            lines = [f"No score is above the baseline, {self.baseline:g}: nobody can win"]
        else:
            lines = [
                f"In with a score of {self.threshold:.4f} = {self.mean:.4f} + {self.deviation:.4f}, mean + standard"
                f" deviation of the {self.beating} above the baseline, {self.baseline:g}"
            ]
        rows = [("rank", "team", "score", "CO2 that counts", "all TargetValue", "whole file", "")]
        for place in self.places:
            file = place.emission
            rows.append(
                (
                    "-" if place.rank is None else str(place.rank),
                    place.team,
                    "-" if place.score is None else f"{place.score:.4f}",
                    _kg(place.kg),
                    _kg(file.target_kg if file else None),
                    _kg(file.kg if file else None),
                    f"out: {place.reason}" if place.reason else "",
                )
            )
        lines += aligned(rows, left=(1, len(rows[0]) - 1))
        lines += [f"! tie: {', '.join(teams)} have the same CO2 and share a rank" for teams in self.ties]
        for place in self.places:
            if place.rank is not None and place.emission is not None:
                lines += [f"! {place.team}: {note}" for note in emission.by_rule(place.emission.notes)]
        lines.append(f"The most sustainable solution: {', '.join(self.winners) or 'none'}")
        return lines


def award(candidates: Iterable[Candidate], baseline: float) -> Prize:
    """Rank the candidates. A score counts for mean and deviation whether its team is in for this prize or not. What the
    files of several teams have in common is noted.

    Computed exactly: of two teams above the baseline the better one lies right on mean + std, and rounding must not
    decide. Raises `DataError` for a team that occurs twice.
    """
    candidates = list(candidates)
    teams = [candidate.team for candidate in candidates]
    if twice := sorted({team for team in teams if teams.count(team) > 1}):
        raise DataError([f"team {show(team)} occurs more than once" for team in twice])
    notes = emission.shared({c.team: c.emission for c in candidates if c.emission is not None})
    candidates = [
        replace(c, emission=c.emission and replace(c.emission, notes=(*c.emission.notes, *notes[c.team])))
        for c in candidates
    ]
    scores = [Fraction(c.score) for c in candidates if c.score is not None and c.score > baseline]
    mean = variance = None
    if scores:
        mean = sum(scores, Fraction()) / len(scores)
        # A single score has no deviation, whatever the degrees of freedom.
        variance = sum(((score - mean) ** 2 for score in scores), Fraction())
        variance /= max(1, len(scores) - DELTA_DEGREES_OF_FREEDOM)
    places = [_judge(candidate, baseline, mean, variance) for candidate in candidates]
    inside = sorted((p for p in places if p.reason is None), key=lambda place: (place.kg or 0.0, place.team))
    amounts = [place.kg for place in inside]
    ranked = [
        Place(place.team, place.score, place.emission, amounts.index(place.kg) + 1)  # the first of equals
        for place in inside
    ]
    outside = sorted((p for p in places if p.reason is not None), key=lambda p: (-(p.score or 0.0), p.team))
    return Prize(
        baseline,
        len(scores),
        None if mean is None else float(mean),
        None if variance is None else math.sqrt(variance),
        (*ranked, *outside),
    )


def _judge(candidate: Candidate, baseline: float, mean: Fraction | None, variance: Fraction | None) -> Place:
    reason, file = candidate.problem, candidate.emission
    cause: Cause | None = None
    if reason is not None:
        cause = "problem"
    elif candidate.score is None:
        cause, reason = "no-score", "has no score"
    elif not candidate.score > baseline:
        cause, reason = "baseline", f"does not beat the baseline, {baseline:g}"
    elif mean is not None and variance is not None and not _reaches(Fraction(candidate.score), mean, variance):
        cause, reason = "threshold", f"below mean + std, {float(mean) + math.sqrt(variance):.4f}"
    elif file is None:
        cause, reason = "no-file", f"sent no {emission.NAME}"
    elif not file.ok:
        more = f" (and {file.faults_total - 1} more)" if file.faults_total > 1 else ""
        cause, reason = "faults", f"{file.faults[0]}{more}"
    return Place(candidate.team, candidate.score, file, reason=reason, cause=cause)


def _reaches(score: Fraction, mean: Fraction, variance: Fraction) -> bool:
    return score >= mean and (score - mean) ** 2 >= variance


def _kg(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g} kg"


# --- candidates from files ---


def read_candidates(paths: Sequence[Path], competition: Competition) -> list[Candidate]:
    """The teams below `paths`. Each is a team's folder, a folder of such folders, or a team's scores.json or record.

    A team is called as its folder, which has its scores.json or record.json, and its ZIP or emission.csv with the
    encoded one; what the ZIP carries goes before what lies beside it. A folder with neither score is listed, not passed
    over. Raises `DataError` for paths that cannot be read, and for scores of another competition or of different data.
    """
    results: list[tuple[Path, Path | None]] = []  # a team's folder, and its result
    for path in paths:
        try:
            results += _results(path)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            raise DataError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    digests: dict[str, str] = {}
    candidates = []
    for folder, result in results:
        team = folder.resolve().name
        score, problem = None, None
        if result is None:
            problem = f"its folder has neither {' nor '.join(RESULTS)}"
        else:
            document = read_document(result)
            score, problem = _score(document, result, competition)
            digest = document.get("data_digest")
            if digest is not None and not (isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest)):
                raise DataError(f"{result}: data_digest must be a SHA-256, not {show(digest)}")
            if score is not None and digest is not None:
                digests[team] = digest
        emitted = None
        try:
            emitted = _emission(folder)
        except (SubmissionError, DataError) as error:
            problem = problem or f"{emission.NAME} cannot be read: {_first(error)}"
        candidates.append(Candidate(team, score, emitted, problem))
    if len(set(digests.values())) > 1:
        raise DataError(
            [
                f"the scores are of different data: {show(team)} has data_digest {digest[:12]}..."
                for team, digest in digests.items()
            ]
        )
    return candidates


def read_baseline(text: str | None, competition: Competition) -> float:
    """The baseline's score: a number, the path of its scores.json or record, or None for the competition's one. Raises
    `DataError`.
    """
    if text is None:
        stated = competition.definition.integral.baseline
        if stated is None:
            raise DataError(f"competition {competition.name} states no baseline: name its score")
        return stated
    try:
        value = float(text)
    except ValueError:
        path = Path(text)
        score, problem = _score(read_document(path), path, competition)
        if score is None:
            raise DataError(f"baseline {path}: {problem}") from None
        return score
    if not math.isfinite(value):
        raise DataError(f"baseline must be a number or a scores.json, not {show(text)}")
    return value


def _results(path: Path) -> list[tuple[Path, Path | None]]:
    """A team's folder and its result, for each team at `path`."""
    if path.is_file():
        return [(path.parent, path)]
    if not path.is_dir():
        raise DataError(f"{path} is neither a folder of runs nor a scores.json")
    if (own := _result(path)) is not None:
        return [(path, own)]
    folders = sorted(f for f in path.iterdir() if f.is_dir() and not f.name.startswith("."))
    if not folders:
        raise DataError(f"{path} has neither {' nor '.join(RESULTS)}, and no folders of teams")
    return [(folder, _result(folder)) for folder in folders]


def _result(folder: Path) -> Path | None:
    return next((folder / name for name in RESULTS if (folder / name).is_file()), None)


def _score(document: Any, path: Path, competition: Competition) -> tuple[float | None, str | None]:
    """The integral score of a scores.json or of a record, or why there is none. Raises `DataError` for neither."""
    ending = document.get("verdict") if isinstance(document, dict) else None
    if not isinstance(ending, str) or ending not in verdict.TABLE:
        raise DataError(f"{path}: is no scores.json and no record of a run: it has no verdict")
    if ending != verdict.OK.name:
        return None, f"its run ended with the verdict {ending}"
    named = named_in(document)
    if not (isinstance(named, dict) and named.get("digest") == competition.digest):
        other = show(named.get("name") if isinstance(named, dict) else named)
        raise DataError(f"{path}: is of the competition {other}, not of {competition.name} as it is defined here")
    scores = document["scores"] if isinstance(document.get("scores"), dict) else document
    integral = scores.get("integral")
    if isinstance(integral, bool) or not isinstance(integral, int | float):
        return None, "has no integral score: not all tasks have one"
    if abs(integral) > (best := competition.best_total + _ROUNDING):
        raise DataError(f"{path}: an integral score lies in {-best:g}..{best:g}, not {show(integral)}")
    return float(integral), None


def _emission(folder: Path) -> Emission | None:
    """Of the team's ZIP where that carries one, else of its folder."""
    archives = sorted(folder.glob("*.zip"))
    if len(archives) > 1:
        raise DataError(f"{folder} has {len(archives)} ZIPs; leave the one that was scored")
    carried = emission.read_archive(archives[0]) if archives else None
    if carried is None or carried.misnamed:
        return emission.read_folder(folder) or carried
    return carried


def _first(error: EvaluatorError) -> str:
    more = f" (and {error.total - 1} more)" if error.total > 1 else ""
    return f"{error.findings[0]}{more}"
