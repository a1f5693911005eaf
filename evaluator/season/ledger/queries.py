"""What is read and written within a transaction of the ledger, and what holds in it."""

import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from math import fsum
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, func, insert, or_, select

from evaluator.competition.definition import default
from evaluator.core.errors import DataError, EvaluatorError, show
from evaluator.core.validation import ONE_LINE, is_line
from evaluator.season import changes, names, schema
from evaluator.season.board import BoardResult, Choice, Sharing
from evaluator.season.changes import Change, Standing
from evaluator.season.config import Season
from evaluator.season.ledger.records import (
    Edition,
    Job,
    NewEdition,
    Refused,
    RunState,
    Submission,
    Team,
)

_team = schema.team
_submission = schema.submission
_run = schema.run
_event = schema.event
_result = schema.result
_job = schema.job
_test_set = schema.test_set
_change = schema.change
_edition = schema.edition
_rescored = schema.rescored
_rescored_score = schema.rescored_score


@dataclass(frozen=True)
class View:
    """What holds in one transaction: the changes and what follows from them, and all teams by number."""

    changes: tuple[Change, ...]
    standing: Standing
    teams: Mapping[int, Team]

    @property
    def season(self) -> Season:
        """The rules as they are now."""
        return self.standing.season

    def of(self, id: int) -> Team:
        """The team that what a team has sent is of now."""
        return self.teams[self.standing.team(id)]

    def find(self, name: str) -> Team:
        """The team that is meant by a name. Raises `Refused` where there is none."""
        key = name_key(name)
        if not key.isprintable():  # bytes of the command line that are no text, for instance
            raise Refused(f"there is no team {show(name)}")
        named = [team for team in self.teams.values() if name_key(team.name) == key]
        for team in named:
            if team.into is None:
                return team
            raise Refused(f"team {show(team.name)} was merged into team {show(self.teams[team.into].name)}")
        raise Refused(f"there is no team {show(name)}; `python -m evaluator teams add NAME` adds one")

    def is_out(self, submission: int, team: int, test_set: str) -> bool:
        """Whether nothing of a submission counts, or is run, on a test set."""
        is_gone = submission in self.standing.withdrawn or test_set not in self.season.data
        return is_gone or self.standing.is_hidden(self.standing.team(team))


AT_ONCE = 500  # values of a statement, which takes only so many
CHANGE_COLUMNS = tuple(
    _change.c[name]
    for name in ("id", "at", "by", "kind", "team_id", "submission_id", "test_set", "detail", "reason", "undoes")
)
EVENT_COLUMNS = tuple(_event.c[name] for name in ("kind", "at", "verdict", "detail", "fault"))
TEAM_COLUMNS = (_team.c.id, _team.c.name, _team.c.created_at)
SUBMISSION_COLUMNS = tuple(
    _submission.c[name] for name in ("id", "team_id", "digest", "name", "bytes", "image", "submitted_at", "day")
)


def read_view(connection: Connection, season: Season) -> View:
    """What holds now, of the rules in season.toml and of the database."""
    rows = connection.execute(select(*CHANGE_COLUMNS).order_by(_change.c.id))
    found = tuple(Change(*row) for row in rows)
    standing = changes.standing(season, found)
    teams = {}
    for id, name, created_at in connection.execute(select(*TEAM_COLUMNS).order_by(_team.c.id)):
        members = standing.members.get(id, {})
        teams[id] = Team(
            id,
            standing.names.get(id, name),
            created_at,
            standing.status.get(id),
            standing.merged.get(id),
            standing.until.get(id),
            tuple(members.get("members", ())),
            members.get("contact", ""),
        )
    return View(found, standing, teams)


def formula_weights(season: Season) -> dict[str, float]:
    """The weights as editions have them."""
    return {str(number): weight for number, weight in sorted(season.weights.items())}


def best_score(season: Season) -> float:
    """What no score of any task exceeds, those too that have no weight: they are entered as well."""
    return max(map(season.competition.best, season.competition.numbers))


def total_of(season: Season, weights: Mapping[str, float], scores: Mapping[int, float]) -> float:
    """The total by an edition's weights of scores by task."""
    return fsum(weight * season.competition.part(scores[int(task)]) for task, weight in weights.items())


def impossible(season: Season, scores: Mapping[int, float]) -> str | None:
    """What no metric can have given, or the triggers of the database would refuse."""
    best = {task: season.competition.best(task) for task in scores}
    bad = {task: value for task, value in scores.items() if not -best[task] <= value <= best[task]}  # NaN, too
    if bad:
        return ", ".join(
            f"task {task} has the score {value!r}; a score must be in {-best[task]:g}..{best[task]:g}"
            for task, value in sorted(bad.items())
        )
    most, total = season.total(best) or 0.0, season.total(scores)
    if total is not None and not -most / 2 <= total <= most:  # at most half of a score is a cosine, can be negative
        return f"the total {total!r} is not in the formula's range, {-most / 2:g}..{most:g}"
    return None


def check_name(name: str, teams: Iterable[Team]) -> None:
    """Raises `Refused` for a name that is one of the teams', or looks like it."""
    for team in teams:
        if name_key(team.name) == name_key(name):
            raise Refused(f"team {show(name)}: there is a team {show(team.name)} already")
        if names.looks(name) & names.looks(team.name):
            raise Refused(f"team {show(name)}: looks like the team {show(team.name)}; choose another name")


def check_view(before: View, after: View) -> None:
    """Raises `Refused` where a change has made something that cannot be. What could not be before, as season.toml was
    edited, hinders no change of something else.
    """
    same_end = after.season.choose_until == before.season.choose_until
    for team in after.teams.values():
        if team.name != before.teams[team.id].name:
            check_name(team.name, (other for other in after.teams.values() if other.id != team.id))
        if team.into is not None and team.into in after.standing.merged:
            raise Refused(f"team {show(team.name)}: would be merged in a circle")
        if team.into is not None and team.status is not None:
            raise Refused(
                f"team {show(team.name)}: would be {team.status} and merged into another; undo one of the two"
            )
        is_new = not (same_end and team.until == before.teams[team.id].until)
        if is_new and team.until is not None and team.until > after.season.choose_until:
            last = f"choose_until, {after.season.choose_until}"
            raise Refused(f"team {show(team.name)}: its last day must not be after {last}, as {team.until} is")
    found = changes.rules_fault(after.season)
    if found is not None and found != changes.rules_fault(before.season):
        raise Refused(found)


def check_editions(connection: Connection, before: View, after: View) -> None:
    """Raises `Refused` where boards show results that were made by another formula than the rules have now, or stay as
    they are while their data are others: what runs from then on could not stand beside them.
    """
    fix = "undo later changes first, or use `python -m evaluator season rescore`"
    weights = formula_weights(after.season)
    for name, folder in after.season.data.items():
        edition, was = current_edition(connection, after, name), before.season.data.get(name, folder)
        if edition is None:
            continue
        if edition.weights != weights:
            raise Refused(
                f"the {name} results that the board would show were made with the weights {edition.weights}, not with"
                f" {weights}: {fix}"
            )
        if folder != was and edition == current_edition(connection, before, name):
            raise Refused(f"the {name} results that the board would show are of the data in {was}, not {folder}: {fix}")


def check_submission(connection: Connection, submission: int) -> int:
    """The number of its team. Raises `Refused` where there is no such submission."""
    team = connection.execute(select(_submission.c.team_id).where(_submission.c.id == submission)).scalar()
    if team is None:
        raise Refused(f"there is no submission {submission}")
    return int(team)


def check_counts(connection: Connection, view: View, submission: int, test_set: str) -> None:
    """Raises `Refused` where nothing of a submission counts."""
    team = check_submission(connection, submission)
    if submission in view.standing.withdrawn:
        raise Refused(f"submission {submission} was withdrawn")
    if view.is_out(submission, team, test_set):
        raise Refused(f"submission {submission}: team {show(view.of(team).name)} is {view.of(team).status}")


def said_by(reason: str | None, by: str | None) -> dict[str, Any]:
    """Why something was done, and by whom, as far as that is known. Raises `DataError` where these are no lines of
    text.
    """
    said: dict[str, Any] = {key: text for key, text in (("reason", reason), ("by", by)) if text is not None}
    for key, text in said.items():
        if not is_line(text):
            raise DataError(f"{key} must be {ONE_LINE}, not {show(text)}")
    return said


def check_set(view: View, test_set: str) -> None:
    """Raises `Refused` for a test set that is not there."""
    if test_set not in view.season.data:
        raise Refused(f"test set {show(test_set)}: must be one of {', '.join(view.season.data)}")


def read_editions(connection: Connection, view: View, test_set: str) -> list[Edition]:
    """All of a test set's that were ever made, the first one first."""
    row = connection.execute(select(_test_set).where(_test_set.c.name == test_set)).first()
    if row is None or row.data_digest is None:
        return []
    competition = row.competition or default().digest
    pinned = (row.data_digest, row.weights, tuple(row.labels or ()), competition, row.evaluator)
    found = [Edition(test_set, None, *pinned)]
    for row in connection.execute(select(_edition).where(_edition.c.test_set == test_set).order_by(_edition.c.id)):
        pinned = (row.data_digest, row.weights, tuple(row.labels), row.competition, row.evaluator)
        holds = row.change_id in view.standing.in_force
        found.append(Edition(test_set, row.id, *pinned, row.change_id, holds))
    return found


def current_edition(connection: Connection, view: View, test_set: str) -> Edition | None:
    """The one that boards show: the last that holds."""
    return next((edition for edition in reversed(read_editions(connection, view, test_set)) if edition.holds), None)


def enter_edition(connection: Connection, season: Season, change: int, test_set: str, new: NewEdition) -> int:
    """Returns the number of the new edition."""
    values = {
        "change_id": change,
        "test_set": test_set,
        "data_digest": new.data_digest,
        "weights": formula_weights(season),
        "labels": list(new.labels),
        "competition": season.competition.digest,
        "best": best_score(season),
        "evaluator": new.evaluator,
    }
    return connection.execute(insert(_edition).values(values).returning(_edition.c.id)).scalar_one()


def enter_rescored(
    connection: Connection,
    edition: int | None,
    test_set: str,
    submission: int,
    run: int,
    total: float,
    scores: Mapping[int, float],
) -> None:
    """Enter a result of a submission that has one already, in another edition."""
    values = {"edition_id": edition, "test_set": test_set, "submission_id": submission, "run_id": run, "total": total}
    id = connection.execute(insert(_rescored).values(values).returning(_rescored.c.id)).scalar_one()
    rows = [{"rescored_id": id, "task": task, "value": value} for task, value in scores.items()]
    connection.execute(insert(_rescored_score), rows)


def in_edition(connection: Connection, test_set: str, edition: int | None, submission: int | None = None) -> set[int]:
    """The submissions that have a result of an edition; of one alone, whether that has."""
    found: set[int] = set()
    for table in (_result, _rescored):
        its = [table.c.test_set == test_set, table.c.edition_id.is_not_distinct_from(edition)]
        its += [] if submission is None else [table.c.submission_id == submission]
        found |= set(connection.execute(select(table.c.submission_id).where(*its)).scalars())
    return found


def read_rescored_scores(connection: Connection, results: Iterable[BoardResult]) -> dict[int, dict[int, float]]:
    """The scores by task, by run, of those that were scored again."""
    runs = {result.rescored: result.run for result in results if result.rescored is not None}
    scores: dict[int, dict[int, float]] = {run: {} for run in runs.values()}
    wanted = sorted(runs)
    for start in range(0, len(wanted), AT_ONCE):
        rows = select(_rescored_score).where(_rescored_score.c.rescored_id.in_(wanted[start : start + AT_ONCE]))
        for id, task, value in connection.execute(rows.order_by(_rescored_score.c.task)):
            scores[runs[id]][task] = value
    return scores


def for_update(query: Select[Any]) -> Select[Any]:
    """Lock the rows, yet not against new rows that refer to them. (SQLite has one writer, and no such locks.)"""
    return query.with_for_update(key_share=True)


def lock_set(connection: Connection, name: str) -> Row[Any]:
    """A test set's row; until the transaction ends nobody else locks it."""
    return connection.execute(for_update(select(_test_set).where(_test_set.c.name == name))).one()


def name_key(name: str) -> str:
    """Two names that look alike but for case and kind of letters are one."""
    return unicodedata.normalize("NFKC", name).strip().casefold()


def of_team(view: View, team: Team) -> ColumnElement[bool]:
    """Whether a submission is one of this team's, or of those that were merged into it."""
    return _submission.c.team_id.in_(view.standing.parts(team.id))


def of_day(view: View, day: date) -> ColumnElement[bool]:
    """Whether a submission may be one of this day: its own says, unless that was corrected."""
    return or_(_submission.c.day == day, _submission.c.id.in_(sorted(view.standing.days)))


def read_submitters(connection: Connection) -> dict[int, int]:
    """The numbers of the teams that sent each submission."""
    return {id: team for id, team in connection.execute(select(_submission.c.id, _submission.c.team_id))}


def read_submission(view: View, row: Sequence[Any]) -> Submission:
    """A submission of a row with `SUBMISSION_COLUMNS`, as it is now."""
    id, team, digest, name, size, image, submitted_at, day = row
    day, withdrawn = view.standing.days.get(id, day), id in view.standing.withdrawn
    return Submission(id, view.of(team).name, digest, name, size, image, submitted_at, day, withdrawn)


def get_submission(connection: Connection, view: View, id: int) -> Submission:
    """A submission by its number."""
    row = connection.execute(select(*SUBMISSION_COLUMNS).where(_submission.c.id == id)).one()
    return read_submission(view, tuple(row))


def find_sent(connection: Connection, view: View, team: Team, digest: str) -> Submission | None:
    """The submission of this ZIP by a team, or by one that was merged into it."""
    same = (
        select(*SUBMISSION_COLUMNS)
        .where(of_team(view, team), _submission.c.digest == digest)
        .order_by(_submission.c.id)
    )
    row = connection.execute(same).first()
    return None if row is None else read_submission(view, tuple(row))


def read_states(connection: Connection, view: View, *where: Any) -> list[RunState]:
    """The latest run of each submission on each test set, of those that `where` (of submission and run) selects."""
    latest = (
        select(func.max(_run.c.id).label("id"))
        .join(_submission, _submission.c.id == _run.c.submission_id)
        .where(*where)
        .group_by(_run.c.submission_id, _run.c.test_set)
        .subquery()
    )
    last = select(func.max(_event.c.step)).where(_event.c.run_id == _run.c.id).correlate(_run).scalar_subquery()
    rows = connection.execute(
        select(
            *SUBMISSION_COLUMNS,
            _run.c.test_set,
            _run.c.id.label("run"),
            _run.c.failures,
            *(_event.c[name] for name in ("kind", "at", "verdict", "fault", "detail")),
            _job.c.worker,
            _job.c.expires_at,
            _job.c.available_at,
            _result.c.run_id.is_not(None),
        )
        .join(_run, _run.c.submission_id == _submission.c.id)
        .join(latest, latest.c.id == _run.c.id)
        .join(_event, and_(_event.c.run_id == _run.c.id, _event.c.step == last))
        .outerjoin(_job, _job.c.run_id == _run.c.id)
        .outerjoin(_result, and_(_result.c.submission_id == _submission.c.id, _result.c.test_set == _run.c.test_set))
        .order_by(_submission.c.id, _run.c.id)
    )
    size = len(SUBMISSION_COLUMNS)
    return [
        RunState(read_submission(view, row[:size]), *(*row[size:], view.is_out(row[0], row[1], row[size])))
        for row in rows
    ]


def locked_state(connection: Connection, view: View, submission: int, test_set: str) -> RunState:
    """The state, which nobody else changes before this transaction ends. Raises `Refused` where no run ever was, or
    nothing is run any more.
    """
    check_set(view, test_set)
    connection.execute(for_update(select(_submission.c.id).where(_submission.c.id == submission)))
    jobs = select(_job.c.run_id).where(_job.c.submission_id == submission).order_by(_job.c.run_id)
    connection.execute(for_update(jobs))
    states = read_states(connection, view, _submission.c.id == submission, _run.c.test_set == test_set)
    if not states:
        raise Refused(f"submission {submission} has no run on the {test_set} test set")
    return states[0]


def is_of(view: View, teams: Collection[str]) -> ColumnElement[bool]:
    """Whether a job is of one of these teams, or of one that was merged into it."""
    ids = [part for team in view.teams.values() if team.name in teams for part in view.standing.parts(team.id)]
    return _job.c.submission_id.in_(select(_submission.c.id).where(_submission.c.team_id.in_(sorted(ids))))


def lease(job: Job) -> tuple[Any, Any]:
    """What tells a job that is still held by its lease."""
    return _job.c.run_id == job.run, _job.c.token == job.token


def append_event(
    connection: Connection,
    run: int,
    kind: str,
    at: datetime,
    detail: Mapping[str, Any],
    verdict: str | None = None,
    fault: str | None = None,
) -> None:
    """Append an event, if it may follow what happened last."""
    events = select(_event.c.kind).where(_event.c.run_id == run).order_by(_event.c.step.desc()).limit(1)
    last = connection.execute(events).scalar()
    if kind not in schema.AFTER.get(last, ()):
        raise EvaluatorError(f"run {run} is {last}, so it cannot become {kind}")
    values = {"kind": kind, "at": at, "verdict": verdict, "fault": fault, "detail": dict(detail)}
    connection.execute(insert(_event).values(run_id=run, step=schema.STEPS[kind], **values))


def read_results(connection: Connection, view: View, test_set: str, all_editions: bool = False) -> list[BoardResult]:
    """Those that count, in the edition that boards show; or of each submission, of those too that do not count, the one
    in that edition or else its latest.
    """
    edition = current_edition(connection, view, test_set)
    if edition is None:
        return []
    by_submission: dict[int, BoardResult] = {}
    # When a result came is when the first one did: a run that is done again is of what was there before.
    first, came = _result.alias(), _event.alias()
    for table, id in ((_result, None), (_rescored, _rescored.c.id)):
        wanted = table.c.test_set == test_set
        if not all_editions:
            wanted = and_(wanted, table.c.edition_id.is_not_distinct_from(edition.id))
        rows = connection.execute(
            select(
                table.c.run_id,
                _submission.c.id,
                _submission.c.team_id,
                _submission.c.submitted_at,
                table.c.total,
                _event.c.detail["shared_parameters"],
                came.c.at,
                table.c.edition_id,
                *(() if id is None else (id,)),
            )
            .join(_submission, _submission.c.id == table.c.submission_id)
            .join(_event, and_(_event.c.run_id == table.c.run_id, _event.c.step == schema.STEPS["done"]))
            .join(first, and_(first.c.submission_id == table.c.submission_id, first.c.test_set == table.c.test_set))
            .join(came, and_(came.c.run_id == first.c.run_id, came.c.step == schema.STEPS["done"]))
            .where(wanted)
            .order_by(table.c.run_id if id is None else id)
        )
        for run, submission, team, at, total, counted, entered_at, its_edition, *rescored in rows:
            counts = not view.is_out(submission, team, test_set)
            if not counts and not all_editions:
                continue
            if submission in by_submission and by_submission[submission].edition == edition.id:
                continue
            its_team = view.of(team)
            sharing = Sharing.from_json(counted) if counted else Sharing()
            competes = view.standing.competes(its_team.id)
            number = rescored[0] if rescored else None
            by_submission[submission] = BoardResult(
                run, submission, its_team.name, at, total, sharing, entered_at, its_edition, number, competes, counts
            )
    return sorted(by_submission.values(), key=lambda result: (result.submitted_at, result.submission))


def read_choices(connection: Connection, view: View) -> list[Choice]:
    """The last one of each team, or of any that was merged into it, in the order of teams."""
    rows = connection.execute(
        select(
            schema.choice.c.id,
            schema.choice.c.team_id,
            schema.choice.c.at,
            schema.chosen.c.submission_id,
            _submission.c.team_id,
        )
        .join(schema.chosen, schema.chosen.c.choice_id == schema.choice.c.id)
        .join(_submission, _submission.c.id == schema.chosen.c.submission_id)
        .order_by(schema.choice.c.id, schema.chosen.c.submission_id)
    )
    last: dict[int, tuple[int, datetime, tuple[int, ...]]] = {}  # by team: number, moment, submissions
    for id, team, at, submission, sender in rows:
        team = view.standing.team(team)
        before = last[team][2] if team in last and last[team][0] == id else ()
        its = view.standing.team(sender) == team  # not of one that was merged into it, and is not any more
        last[team] = (id, at, (*before, submission) if its else before)
    choices = []
    for team, (_, at, submissions) in sorted(last.items()):
        kept = tuple(submission for submission in submissions if submission not in view.standing.withdrawn)
        if kept and not view.standing.is_hidden(team):
            choices.append(Choice(view.teams[team].name, at, kept))
    return choices
