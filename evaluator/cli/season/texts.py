"""What a season's commands print for people."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from evaluator.core.text import LABEL_MARKS, aligned
from evaluator.season import PRIVATE

if TYPE_CHECKING:
    from evaluator.season.accounts import Token
    from evaluator.season.actions import Board, Prizes, Season
    from evaluator.season.board import Sharing
    from evaluator.season.changes import Announcement
    from evaluator.season.history import EventRow, RunRow
    from evaluator.season.listing import InForce, SubmissionRow
    from evaluator.season.rescore import Rescoring


def board(board: "Board") -> str:
    """A board for a terminal."""
    names = board.season.competition.names
    numbers = sorted(board.season.weights)
    needed = board.season.competition.definition.prizes.shared_parameters
    rows = [
        [
            line.rank or "",
            line.name + ("" if line.competes else " (out of competition)"),
            _score(line.total),
            *(f"{line.scores[number]:.2f}" if number in line.scores else "-" for number in numbers),
            *([] if needed is None else [_sharing(line.sharing)]),
            f"{line.count}/{line.expected}" if board.test_set == PRIVATE and line.team else line.count or "",
            line.result.submission if line.result else "",
            moment(line.result.submitted_at, board.season) if line.result else "",
        ]
        for line in board.lines
    ]
    shared_column = [] if needed is None else ["shared"]
    tasks = [names[number] for number in numbers]
    marks = dict(zip(board.labels, LABEL_MARKS, strict=False))
    score = " ".join(["score", *([] if not marks else ["".join(marks.values())])])
    header = ["rank", "team", score, *tasks, *shared_column, "results", "submission", "sent"]
    about = [f"{board.season.name}: {board.test_set} board"]
    if board.frozen_at is not None:
        about.append(f"frozen: as it was at {moment(board.frozen_at, board.season)} ({board.season.zone})")
    if board.waiting:
        about.append(f"{board.waiting} more results wait to be scored again, as these were: `season rescore`")
    return "\n".join([*about, table(header, rows), *(f"{mark} {label}" for label, mark in marks.items())])


def rescoring(found: "Rescoring", dry_run: bool) -> str:
    """What scoring again changes, or has changed, for a terminal."""
    lines: list[str] = []
    for each in found.sets:
        lines.append(f"{each.test_set}: {each.results} results scored again, {each.changed} with another total")
        moved = [place for place in each.moved if place.is_changed]
        rows: list[list[object]] = []
        for place in [place.to_json() for place in moved]:
            totals = [_score(place[f"total_{when}"]) for when in ("before", "after")]
            rows.append([place["team"], *totals, *(place[f"rank_{when}"] or "-" for when in ("before", "after"))])
        lines += [table(["team", "before", "after", "rank before", "rank after"], rows)] if moved else []
        lines += [f"submission {submission} is missing: {why}" for submission, why in each.missing.items()]
    if dry_run:
        return "\n".join([*lines, "nothing was changed: a dry run"])
    if found.change is not None:
        lines.append(f"change {found.change.id}: boards show this now; `changes undo {found.change.id}` takes it back")
    else:
        lines.append("boards show this already, or there are no results yet")
    if found.queued:
        lines.append(f"queued again: submissions {', '.join(map(str, found.queued))}")
    return "\n".join(lines)


def prizes(prizes: "Prizes") -> str:
    """The prizes for a terminal."""
    names, rules = prizes.season.competition.names, prizes.season.competition.definition.prizes
    unit = rules.unit if rules.places else None
    needed = rules.shared_parameters
    rows: list[list[object]] = []
    for each in prizes.main:
        line = each.line
        missed = [f"{names[task]} {_score(line.scores.get(task))} < {least}" for task, least in each.missed.items()]
        amount = [] if unit is None else ["" if each.amount is None else f"{each.amount:.3f}"]
        can = "yes" if each.eligible else "no"
        shared_parameters = [] if needed is None else [_sharing(line.sharing)]
        rows.append([line.rank, line.team, _score(line.total), can, *amount, *shared_parameters, ", ".join(missed)])
    lines = [f"{prizes.missing}\n"] if prizes.missing else []
    lines += ["Main prize, by the private board"]
    shared_column = [] if needed is None else ["shared"]
    header = ["rank", "team", "score", "eligible", *([] if unit is None else [unit]), *shared_column]
    lines += [table([*header, "below the threshold"], rows)]
    if needed is not None:
        lines += [f"shared: of all parameters, by the models of all tasks; at least {100 * needed:g} % for a place"]
    if prizes.nominations:
        best = [[names[each.task], each.team or "nobody", _score(each.score)] for each in prizes.nominations]
        lines += [f"\nThe best score of each task: {rules.nomination:g} {rules.unit} each"]
        lines += [table(["task", "team", "score"], best)]
    if prizes.sustainable is not None:
        lines += ["\nPrize for the most sustainable solution", *prizes.sustainable.lines()]
    return "\n".join(lines)


def teams(rows: Sequence[Mapping[str, Any]]) -> str:
    """Teams with their attempts of today, as `listing.team_rows` has them."""
    header = ["team", "valid", "invalid", "not done", "left today", "status"]
    cells = [[row["team"], row["valid"], row["invalid"], row["pending"], row["left"], _status(row)] for row in rows]
    return table(header, cells)


def team(row: Mapping[str, Any]) -> str:
    """What holds of a team, in a line."""
    said = [
        f"members: {row['members']}" if row["members"] else "",
        f"contact: {row['contact']}" if row["contact"] else "",
    ]
    left = f"{row['left']} attempts left today" if "left" in row else ""
    return "; ".join([f"team {row['team']}: {_status(row) or 'competes'}", *filter(None, (left, *said))])


def _status(row: Mapping[str, Any]) -> str:
    until = f"until {row['until']}" if row["until"] else ""
    merged = f"merged into {row['merged_into']}" if row["merged_into"] else ""
    return ", ".join(filter(None, (row["status"], merged, until)))


def submissions(rows: "Sequence[SubmissionRow]", season: "Season") -> str:
    """Submissions for a terminal; of digests the beginning."""
    cells = [
        [
            row.submission,
            row.team,
            str(row.day),
            moment(row.submitted_at, season),
            row.digest[:12],
            row.public.name,
            "" if row.public_total is None else _score(row.public_total),
            "" if row.private is None else row.private.name,
            "" if row.private_total is None else _score(row.private_total),
            "withdrawn" if row.withdrawn else "",
        ]
        for row in rows
    ]
    header = ["submission", "team", "day", "sent", "digest", "public", "score", "private", "score", ""]
    return table(header, cells)


def changes(rows: Sequence[Mapping[str, Any]], season: "Season") -> str:
    """Changes for a terminal, as `listing.change_rows` has them."""
    cells = [
        [
            row["id"],
            moment(datetime.fromisoformat(row["at"]), season),
            row["by"],
            row["what"],
            "yes" if row["in_force"] else f"undone by {row['undone_by']}",
            row["reason"],
        ]
        for row in rows
    ]
    return table(["change", "when", "by", "what", "in force", "why"], cells)


def test_sets(rows: Sequence[Mapping[str, Any]]) -> str:
    """Test sets for a terminal, as `listing.test_set_rows` has them."""
    cells = [[row["test_set"], row["data"], row["results"], row["digest"][:12], row["labels"]] for row in rows]
    return table(["test set", "data", "results", "digest", "labels"], cells)


def in_force(found: "InForce") -> str:
    """A change that was entered, and what holds now."""
    if found.team is not None:
        now = team(found.team)
    elif found.submission is not None:
        now = submissions([found.submission], found.season)
    elif found.test_sets is not None:
        now = test_sets(found.test_sets)
    elif found.announcements is not None:
        now = announcements(found.announcements, found.season)
    else:
        now = rules(found.season, found.frozen_at, found.private_shown)
    return f"change {found.change['id']}: {found.change['what']}\n{now}"


def announcements(found: "Sequence[Announcement]", season: "Season") -> str:
    """What is said to all."""
    lines = [f"{moment(each.at, season)}  {each.text}" for each in found]
    return "\n".join(lines) or "nothing is announced"


def rules(season: "Season", frozen_at: datetime | None, private_shown: bool) -> str:
    """The days and attempts that hold, whether the public board is frozen, and whether the private one is shown."""
    frozen = "not frozen" if frozen_at is None else f"frozen as of {moment(frozen_at, season)}"
    return (
        f"{season.name}: {season.start} to {season.end}, choices until {season.choose_until} ({season.zone})\n"
        f"a day {season.valid_a_day} valid and {season.invalid_a_day} invalid attempts; {season.chosen} are chosen\n"
        f"the public board is {frozen}; the private one is {'' if private_shown else 'not '}shown"
    )


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _sharing(sharing: "Sharing | None") -> str:
    if sharing is None:
        return ""
    share = "not counted" if sharing.share is None else f"{100 * sharing.share:.1f} %"
    return share if sharing.met or sharing.share is None else f"{share}, too little"


def moment(moment: "datetime | None", season: "Season") -> str:
    return "" if moment is None else f"{moment.astimezone(season.zone):%Y-%m-%d %H:%M:%S}"


def queue(rows: "Sequence[RunRow]", season: "Season") -> str:
    """What waits, runs or needs somebody, and how much of it there is."""
    failures = [row.state not in ("queued", "running") for row in rows]
    cells = [
        [
            row.run,
            row.submission,
            row.team,
            row.test_set,
            row.verdict or row.state,
            moment(row.last_at, season),
            row.failures + failed,
            moment(row.next_try, season),
            _doing(row, season),
        ]
        for row, failed in zip(rows, failures, strict=True)
    ]
    header = ["run", "submission", "team", "set", "state", "since", "failures", "next try", "worker or why"]
    counts = {state: sum(row.state == state for row in rows) for state in ("queued", "running")}
    line = f"{counts['queued']} queued, {counts['running']} running, {sum(failures)} infrastructure failures: retry or"
    lines = [table(header, cells), f"{line} cancel"]
    if overdue := sum(row.overdue_since is not None for row in rows):
        lines.append(f"{overdue} overdue: the worker is dead or cut off; the next `queue run` queues the run again")
    return "\n".join(lines)


def _doing(row: "RunRow", season: "Season") -> str:
    if row.state != "running":
        return row.reason
    if row.overdue_since is None:
        return row.worker or ""
    return f"{row.worker}: overdue since {moment(row.overdue_since, season)}"


def runs(rows: "Sequence[RunRow]", season: "Season") -> str:
    """Runs for a terminal."""
    cells = [
        [
            row.run,
            row.submission,
            row.team,
            row.test_set,
            row.verdict or row.state,
            moment(row.queued_at, season),
            moment(row.started_at, season),
            moment(row.ended_at, season),
            row.reason or row.worker or "",
        ]
        for row in rows
    ]
    header = ["run", "submission", "team", "set", "state", "queued", "started", "ended", "why or worker"]
    return f"{table(header, cells)}\n{len(rows)} runs"


def events(rows: "Sequence[EventRow]", season: "Season") -> str:
    """Events for a terminal."""
    cells = [
        [
            row.run,
            row.submission,
            row.test_set,
            row.state,
            moment(row.at, season),
            row.verdict or "",
            row.team,
            row.by,
            row.reason,
        ]
        for row in rows
    ]
    return table(["run", "submission", "set", "what", "when", "verdict", "team", "by", "why"], cells)


def machines(rows: Sequence[Mapping[str, Any]], season: "Season") -> str:
    """Machines for a terminal, as `usage.machines` has them."""
    cells = [
        [
            row["machine"],
            row["runs"],
            row["lost"],
            f"{row['seconds'] / 3600:.1f}",
            f"{row['mean']:.2f}",
            row["most"],
            f"{100 * row['used']:.0f} %",
            *(moment(datetime.fromisoformat(row[key]), season) for key in ("first", "last")),
        ]
        for row in rows
    ]
    return table(["machine", "runs", "lost", "hours", "at a time", "most", "used", "from", "to"], cells)


def tokens(found: "Sequence[Token]", season: "Season", now: datetime) -> str:
    """Tokens and invitations, and whether they hold."""
    if not found:
        return "no tokens"
    cells = []
    for each in found:
        ended = "" if each.ended_by is None else f"ended by {each.ended_by}"
        state = "holds" if each.holds(now) else ended or "expired"
        at, until = (moment(value, season) for value in (each.at, each.expires_at))
        cells.append([each.id, each.kind, each.name, at, each.by, until, state])
    return table(["token", "kind", "name", "made", "by", "until", "state"], cells)


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns as wide as they need to be; numbers to the right."""
    cells = [list(header), *([str(cell) for cell in row] for row in rows)]
    left = {column for column in range(len(header)) if not rows or not isinstance(rows[0][column], int | float)}
    return "\n".join(aligned(cells, left, rules=(1,)))
