"""A season: its teams, their submissions, the queue of runs, boards, choices, prizes and pages.

The library is imported when a command is called, as it needs packages that other commands do without.
"""

import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from evaluator.cli import shared
from evaluator.core import files
from evaluator.core.text import aligned
from evaluator.season import PRIVATE, PUBLIC

if TYPE_CHECKING:
    from evaluator.season.actions import Board, Prizes, Season, Sent
    from evaluator.season.board import Sharing

PANEL = "Season"
app = typer.Typer()
season_app = typer.Typer(cls=shared.Group, help="Make a season's database, look at its rules.")
teams_app = typer.Typer(cls=shared.Group, help="The teams and their attempts of today.")
queue_app = typer.Typer(cls=shared.Group, help="The runs that wait, and working on them.")
for name, group in (("season", season_app), ("teams", teams_app), ("queue", queue_app)):
    app.add_typer(group, name=name, rich_help_panel=PANEL)

_number = shared.whole_number(2**31 - 1)  # of a submission or a run, as the database can have them

Rules = Annotated[Path, shared.path_option("--season", help="the season's rules")]
DEFAULT_RULES = Path("season.toml")
Team = Annotated[str, typer.Option("--team", metavar="NAME", help="the team")]
Submission = Annotated[int, typer.Argument(metavar="N", parser=_number, help="number of a submission")]
TestSetName = Annotated[Literal["public", "private"], typer.Option("--set", help="of its run on which test set")]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="for the record")]


@season_app.command("migrate")
def migrate(season: Rules = DEFAULT_RULES) -> None:
    """Make the database, or bring it to this version."""
    from evaluator.season import actions

    print(f"{actions.migrate(season)}: ready")


@season_app.command("check")
def check(season: Rules = DEFAULT_RULES) -> None:
    """Read the rules and the test sets, and say what they are."""
    from evaluator.season import actions

    rules = actions.open_ledger(season).season
    print(f"{rules.name}: {rules.start} to {rules.end}, choices until {rules.choose_until} ({rules.zone})")
    print(f"a day {rules.valid_a_day} valid and {rules.invalid_a_day} invalid attempts; {rules.chosen} are chosen")
    for found in actions.read_test_sets(rules):
        print(f"{found.name}: {found.examples} examples of {found.tasks} tasks, digest {found.digest}")


@teams_app.command("list")
def list_teams(season: Rules = DEFAULT_RULES) -> None:
    """All teams."""
    from evaluator.season import actions

    rows = [
        [team, attempts.valid, attempts.invalid, attempts.pending, attempts.left]
        for team, attempts in actions.open_ledger(season).all_attempts().items()
    ]
    print(_table(["team", "valid", "invalid", "not done", "left today"], rows))


@teams_app.command("add")
def add_team(
    name: Annotated[str, typer.Argument(metavar="NAME", help="the team's name")], season: Rules = DEFAULT_RULES
) -> None:
    """Add a team."""
    from evaluator.season import actions

    print(f"team {actions.open_ledger(season).add_team(name).name}: added")


@app.command("submit", rich_help_panel=PANEL)
def submit(
    archive: Annotated[Path, shared.path_argument("the submission", "ZIP")],
    team: Team,
    season: Rules = DEFAULT_RULES,
) -> None:
    """Check a ZIP, keep it and queue its run."""
    from evaluator.season import actions

    ledger = actions.open_ledger(season)
    print(_sent(actions.submit(ledger, archive, team), ledger.season))


def _sent(sent: "Sent", season: "Season") -> str:
    submission, attempts = sent.state.submission, sent.attempts
    if sent.is_new:
        return (
            f"submission {submission.id}: queued; on {attempts.day}: {attempts.valid} valid, {attempts.invalid}"
            f" invalid, {attempts.pending} not done yet, {attempts.left} left"
        )
    costs = "and still one attempt"
    if sent.state.is_infrastructure_failure or sent.state.kind == "cancelled":
        costs = "which costs no attempt; only the organizers can `queue retry` it"
    return (
        f"submission {submission.id}: the same ZIP was sent {_moment(submission.submitted_at, season)};"
        f" it is {sent.state.name}, {costs}"
    )


@queue_app.command("list")
def list_queue(
    submission: Annotated[
        int | None,
        typer.Option("--submission", metavar="N", parser=_number, help="all that ever happened to this submission"),
    ] = None,
    season: Rules = DEFAULT_RULES,
) -> None:
    """What waits, runs, or needs somebody."""
    from evaluator.season import actions

    ledger = actions.open_ledger(season)
    if submission is not None:
        events = [
            [run, test_set, kind, _moment(at, ledger.season), verdict or "", _why(detail)]
            for run, test_set, kind, at, verdict, detail in ledger.history(submission)
        ]
        print(_table(["run", "set", "what", "when", "verdict", "why"], events))
        return
    states = ledger.waiting()
    rows = [
        [
            state.submission.id,
            state.submission.team,
            state.test_set,
            state.name,
            _moment(state.at, ledger.season),
            state.failures + state.is_infrastructure_failure,
            state.worker or _why(state.detail),
        ]
        for state in states
    ]
    print(_table(["submission", "team", "set", "state", "since", "failures", "worker or why"], rows))
    queued = sum(state.kind == "queued" for state in states)
    stuck = sum(state.is_infrastructure_failure for state in states)
    running = len(states) - queued - stuck
    print(f"{queued} queued, {running} running, {stuck} infrastructure failures: retry or cancel")


@queue_app.command("run")
def run_queue(
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            metavar="N",
            parser=shared.whole_number(1000),
            help="runs at a time (default: as many as GPUs allow, or 1)",
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray",
            metavar="ADDRESS",
            help="run on the nodes of this Ray cluster, `auto` for the one of this machine",
        ),
    ] = None,
    drain: Annotated[bool, shared.flag("--drain", help="end when the queue is empty")] = False,
    season: Rules = DEFAULT_RULES,
) -> int:
    """Work on the queue, on this machine or a cluster."""
    from evaluator.season import actions

    ledger = actions.open_ledger(season)

    def say(line: str) -> None:
        print(f"{datetime.now(ledger.season.zone):%Y-%m-%d %H:%M:%S} {line}", flush=True)

    if actions.work(ledger, say, workers, ray, drain):
        return 0
    checks = "`python -m evaluator season check` and `python -m evaluator doctor`"
    shared.note(f"evaluator error: look at runs/*/evaluator.log, {checks}")
    return 3


@queue_app.command("logs")
def show_logs(
    run: Annotated[
        int,
        typer.Argument(metavar="RUN", parser=_number, help="its number, as `queue list --submission N` has it"),
    ],
    follow: Annotated[bool, shared.flag("--follow", help="go on until the run has ended")] = False,
    printed: Annotated[
        bool,
        shared.flag("--printed", help="what the submission printed, when it has ended; may have hidden data"),
    ] = False,
    season: Rules = DEFAULT_RULES,
) -> None:
    """What the evaluator of a run says, of one under way too."""
    from evaluator.season import actions

    ledger, name = actions.open_ledger(season), "log.txt" if printed else "evaluator.log"
    is_empty = True
    for text in actions.read_log(ledger, run, name, follow):
        sys.stdout.write(text)
        sys.stdout.flush()
        is_empty = False
    if is_empty:
        print(f"run {run} has no {name} yet" if ledger.is_pending(run) else f"run {run} left no {name}")


@queue_app.command("retry")
def retry(
    submission: Submission, reason: Reason, test_set: TestSetName = "public", season: Rules = DEFAULT_RULES
) -> None:
    """Queue another run of a submission that failed."""
    from evaluator.season import actions

    actions.open_ledger(season).retry(submission, test_set, reason)
    print(f"submission {submission} ({test_set}): queued")


@queue_app.command("cancel")
def cancel(
    submission: Submission, reason: Reason, test_set: TestSetName = "public", season: Rules = DEFAULT_RULES
) -> None:
    """End a run that waits or runs; it costs no attempt."""
    from evaluator.season import actions

    actions.open_ledger(season).cancel(submission, test_set, reason)
    print(f"submission {submission} ({test_set}): cancelled")


@queue_app.command("finals")
def finals(season: Rules = DEFAULT_RULES) -> None:
    """Queue the private runs, after the last day to choose."""
    from evaluator.season import actions

    found = actions.queue_finals(actions.open_ledger(season))
    print(f"{found.queued} private runs queued")
    if found.pending:
        print(f"{found.pending} public runs are not done; do this again when they are")
    if found.failed:
        print(f"{found.failed} public runs ended as infrastructure failures: retry or cancel them, then do this again")


@app.command("board", rich_help_panel=PANEL)
def board(
    public: Annotated[bool, shared.flag("--public", help="the public one (default)")] = False,
    private: Annotated[bool, shared.flag("--private", help="the private one")] = False,
    json: shared.Json = None,
    season: Rules = DEFAULT_RULES,
) -> None:
    """The leaderboard."""
    from evaluator.season import actions

    shared.exclusive(public=public, private=private)
    files.check_writable("--json", json)
    found = actions.read_board(actions.open_ledger(season), PRIVATE if private else PUBLIC)
    print(board_text(found))
    if json is not None:
        files.write_json(json, found.to_json())


def board_text(board: "Board") -> str:
    """A board for a terminal."""
    names = board.season.competition.names
    numbers = sorted(board.season.weights)
    needed = board.season.competition.definition.prizes.shared_parameters
    rows = [
        [
            line.rank or "",
            line.team or "(baseline)",
            _score(line.total),
            *(f"{line.scores[number]:.2f}" if number in line.scores else "-" for number in numbers),
            *([] if needed is None else [_sharing(line.sharing)]),
            f"{line.count}/{line.expected}" if board.test_set == PRIVATE and line.team else line.count or "",
            line.result.submission if line.result else "",
            _moment(line.result.submitted_at, board.season) if line.result else "",
        ]
        for line in board.lines
    ]
    shared_column = [] if needed is None else ["shared"]
    tasks = [names[number] for number in numbers]
    header = ["rank", "team", "score", *tasks, *shared_column, "results", "submission", "sent"]
    return f"{board.season.name}: {board.test_set} board\n{_table(header, rows)}"


@app.command("choose", rich_help_panel=PANEL)
def choose(
    team: Team,
    submissions: Annotated[
        list[int] | None,
        typer.Argument(metavar="N", parser=_number, help="submissions; none: show the choice"),
    ] = None,
    season: Rules = DEFAULT_RULES,
) -> None:
    """A team's choice for the private board, or what it is."""
    from evaluator.season import actions

    found = actions.choose(actions.open_ledger(season), team, submissions or ())
    how = "chosen" if found.chosen else "nothing chosen, so its best public ones"
    print(f"team {found.team}: {how}: {', '.join(map(str, found.submissions)) or 'none yet'}")


@app.command("prizes", rich_help_panel=PANEL)
def prizes(json: shared.Json = None, season: Rules = DEFAULT_RULES) -> None:
    """Who wins the prizes, and why others cannot."""
    from evaluator.season import actions

    files.check_writable("--json", json)
    found = actions.award_prizes(actions.open_ledger(season))
    print(prizes_text(found))
    if json is not None:
        files.write_json(json, found.to_json())


def prizes_text(prizes: "Prizes") -> str:
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
    lines += [_table([*header, "below the threshold"], rows)]
    if needed is not None:
        lines += [f"shared: of all parameters, by the models of all tasks; at least {100 * needed:g} % for a place"]
    if prizes.nominations:
        best = [[names[each.task], each.team or "nobody", _score(each.score)] for each in prizes.nominations]
        lines += [f"\nThe best score of each task: {rules.nomination:g} {rules.unit} each"]
        lines += [_table(["task", "team", "score"], best)]
    if prizes.sustainable is not None:
        lines += ["\nPrize for the most sustainable solution", *prizes.sustainable.lines()]
    return "\n".join(lines)


@app.command("site", rich_help_panel=PANEL)
def site(
    out: Annotated[Path, shared.path_option("--out", "--output", help="new, or of an earlier call", metavar="FOLDER")],
    private: Annotated[
        bool,
        shared.flag("--private", help="show the private board and the prizes to everybody, when it is final"),
    ] = False,
    season: Rules = DEFAULT_RULES,
) -> None:
    """Write the season's pages into a folder, all at once."""
    from evaluator.season import actions
    from evaluator.season.site import pages

    built = pages.build(actions.open_ledger(season), out, private)
    print(f"{out}: {built.pages} pages, {built.reports} reports; public/ is for everybody,")
    print("teams/ for each team its own folder (organizer/teams.json names them), organizer/ for you alone")


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _sharing(sharing: "Sharing | None") -> str:
    if sharing is None:
        return ""
    share = "not counted" if sharing.share is None else f"{100 * sharing.share:.1f} %"
    return share if sharing.met or sharing.share is None else f"{share}, too little"


def _why(detail: Mapping[str, Any]) -> str:
    findings = detail.get("findings") or [{}]
    return str(detail.get("reason") or findings[0].get("found") or detail.get("worker") or "")


def _moment(moment: datetime, season: "Season") -> str:
    return f"{moment.astimezone(season.zone):%Y-%m-%d %H:%M:%S}"


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns as wide as they need to be; numbers to the right."""
    cells = [list(header), *([str(cell) for cell in row] for row in rows)]
    left = {column for column in range(len(header)) if not rows or not isinstance(rows[0][column], int | float)}
    return "\n".join(aligned(cells, left, rules=(1,)))
