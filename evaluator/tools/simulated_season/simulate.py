"""A whole season in minutes: teams, real submissions, a clock of its own, and whatever can go wrong.

    python -m evaluator.tools.simulated_season.simulate --teams 30 --days 14 --seed 0 --out build/season-demo

The season is what `plan` says, so one seed gives one season. Whatever a team or an organizer does is the call of the
library that their command makes, in this process, with the simulated clock; the worker on the queue is a process of its
own, which can be killed. The clock stands still but for two things: from one event of the plan to the next, and in the
worker where all there is to do is to wait for a next try.

`journal.jsonl` in the folder has a line for each event and what came of it. Where the simulation is interrupted, in
whatever way, the same command goes on with the event that has no line yet.
"""

import argparse
import contextlib
import ctypes
import gc
import json
import os
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy import Connection, Engine, select

from evaluator.cli.season import texts
from evaluator.competition.definition import default
from evaluator.core import files
from evaluator.core.errors import DataError, EvaluatorError, SubmissionError
from evaluator.core.text import aligned
from evaluator.metrics import assets
from evaluator.season import PUBLIC, TEST_SETS, actions, schema
from evaluator.season.changes import RESCORED
from evaluator.season.ledger import Ledger, Refused
from evaluator.season.organize import Organizer
from evaluator.season.rescore import Request, rescore
from evaluator.season.site.build import build
from evaluator.season.store import Store, digest
from evaluator.tools.simulated_season.events import ZONE, Mode, Plan, PlannedEvent
from evaluator.tools.simulated_season.plan import CHOSEN, INVALID_A_DAY, VALID_A_DAY, plan
from evaluator.tools.simulated_season.programs import corrected, make_zip, write_data

LEASE_SECONDS = 9  # heartbeats, of real time, come three times in it; the lease itself is of simulated time
START_SECONDS = 120.0  # at most, until a run starts
PLAN, JOURNAL, DIGESTS = "plan.json", "journal.jsonl", "digests.json"
SAID = "said"  # the folder with boards as they were looked at, and what scoring again showed
ORGANIZER = "Ёжик"
_PR_SET_PDEATHSIG = 1  # linux/prctl.h

# Three examples a task are not enough for the challenge's own numbers.
_RULES = """# Written by `python -m evaluator.tools.simulated_season.simulate`.
[season]
name = "Пробный сезон «Ёж»"
time_zone = "{zone}"
start = {plan.start}
end = {plan.end}
choose_until = {plan.choose_until}

[attempts]
valid_a_day = {valid}
invalid_a_day = {invalid}
chosen = {chosen}

[data]
public = "data/public"
private = "data/private"
assets = "assets"

[runs]
runner = "local"
country = "{country}"
tries = 3
lease_seconds = {lease}
retry_seconds = 120

[limits]
time = "{seconds}s"
grace = "1s"

[formula]
{formula}
[baseline]
{baseline}
[thresholds]
{thresholds}
"""
_SECONDS: dict[Mode, int] = {"nano": 90, "quick": 6}
# eco2AI knows no country ZZ and does not start, which saves a quick run more than half of its time.
_COUNTRY: dict[Mode, str] = {"nano": "RU", "quick": "ZZ"}
_WITHOUT_ENCODERS = "2 = 0\n3 = 0\n"
_BASELINE = dict.fromkeys(default().numbers, 0.1)
_THRESHOLDS: dict[Mode, dict[int, float]] = {
    "nano": {0: 0.1, 1: 0.1, 2: 0.05, 3: 0.15, 4: 0.1, 5: 0.02},
    "quick": {0: 0.1, 1: 0.0, 4: 0.0, 5: 0.02},
}


class Clock:
    """Stands at `now`. With `jumps`, as a worker has it: where nothing runs and all that waits, waits for a next try,
    it goes to that moment.
    """

    def __init__(self, now: datetime, jumps: bool = False) -> None:
        self.now, self._jumps = now, jumps

    def __call__(self, connection: Connection) -> datetime:
        if self._jumps:
            rows = connection.execute(select(schema.job.c.token, schema.job.c.available_at)).all()
            if rows and all(row.token is None for row in rows):
                self.now = max(self.now, min(row.available_at for row in rows))
        return self.now


class Simulation:
    """Carries out a plan in `folder`."""

    def __init__(self, season: Plan, folder: Path, workers: int) -> None:
        self.plan, self.folder, self._workers = season, folder.resolve(), workers
        self.store = Store(self.folder)
        self._digests: dict[str, str] = {}
        self._runners: set[int] = set()  # processes of this one

    # --- the whole ---

    def run(self, progress: Callable[[int, PlannedEvent], None]) -> None:
        """Do what is not done yet. Raises `DataError` where the folder holds something else."""
        done = self._begin()
        for number, event in enumerate(self.plan.events):
            if number >= done:
                progress(number, event)
                self._note({"event": number, "came": self._do(event)})
        ledger = self._ledger(self.plan.events[-1].at)
        for test_set in TEST_SETS:
            board = actions.read_board(ledger, test_set)
            files.write_json(self.folder / f"{test_set}.json", board.to_json())
            files.write_text(self.folder / f"{test_set}.txt", texts.board(board) + "\n")
        prizes = actions.award_prizes(ledger)
        files.write_json(self.folder / "prizes.json", prizes.to_json())
        files.write_text(self.folder / "prizes.txt", texts.prizes(prizes) + "\n")
        build(ledger, self.folder / "site", private=True)

    def _begin(self) -> int:
        """Make the season, where it is not there; returns how many events are done."""
        text = json.dumps(self.plan.to_json(), ensure_ascii=False, indent=1)
        path = self.folder / PLAN
        if not path.exists():
            if self.folder.exists() and any(self.folder.iterdir()):
                raise DataError(f"{self.folder} is not empty, and has no {PLAN} of a simulated season")
            with tempfile.TemporaryDirectory(dir=_made(self.folder.parent)) as aside:
                made = Path(aside, "season")
                self._make(made)
                (made / PLAN).write_text(text, encoding="utf-8")
                if self.folder.exists():
                    self.folder.rmdir()
                os.replace(made, self.folder)
        elif path.read_text(encoding="utf-8") != text:
            raise DataError(f"{self.folder} has another season; name another folder, or remove it")
        journal = read_journal(self.folder)
        done = sum("event" in entry for entry in journal)
        if journal:
            lines = [json.dumps(entry, ensure_ascii=False) for entry in [*journal, {"resumed": done}]]
            files.write_text(self.folder / JOURNAL, "\n".join(lines) + "\n")
        if (self.folder / DIGESTS).exists():
            self._digests = json.loads((self.folder / DIGESTS).read_text(encoding="utf-8"))
        return done

    def _make(self, folder: Path) -> None:
        folder.mkdir()
        write_data(folder / "data", self.plan.mode)
        (folder / "assets").mkdir()
        (folder / "runs").mkdir()
        (folder / SAID).mkdir()
        quick = self.plan.mode == "quick"
        rules = _RULES.format(
            plan=self.plan,
            zone=ZONE,
            valid=VALID_A_DAY,
            invalid=INVALID_A_DAY,
            chosen=CHOSEN,
            lease=LEASE_SECONDS,
            country=_COUNTRY[self.plan.mode],
            seconds=_SECONDS[self.plan.mode],
            formula=_WITHOUT_ENCODERS if quick else "",
            baseline="\n".join(f"{task} = {value}" for task, value in _BASELINE.items()),
            thresholds="\n".join(f"{task} = {least}" for task, least in _THRESHOLDS[self.plan.mode].items()),
        )
        (folder / "season.toml").write_text(rules, encoding="utf-8")
        actions.migrate(folder / "season.toml")
        ledger = actions.open_ledger(folder / "season.toml", Clock(self.plan.events[0].at))
        for team in self.plan.teams:
            ledger.add_team(team)

    def _note(self, entry: dict[str, Any]) -> None:
        with open(self.folder / JOURNAL, "a", encoding="utf-8") as file:
            file.write(json.dumps(entry, ensure_ascii=False) + "\n")

    def _ledger(self, at: datetime, jumps: bool = False) -> Ledger:
        """The season's ledger at that moment."""
        return actions.open_ledger(self.folder / "season.toml", Clock(at, jumps))

    # --- events ---

    def _do(self, event: PlannedEvent) -> str:
        """Do it; returns what came of it."""
        came: str = getattr(self, "_" + event.do.replace("-", "_"))(event)
        return came

    def _send(self, event: PlannedEvent) -> str:
        with self._zip(event.programs[0]) as path:
            try:
                sent = actions.submit(self._ledger(event.at), path, event.team)
            except SubmissionError:
                return "turned away"
            except Refused:
                return "refused"
        return "accepted" if sent.is_new else "the same attempt"

    def _kill_sending(self, event: PlannedEvent) -> str:
        """Send in a process that is killed: when the ZIP is copied and not named yet, or when it is kept and not in the
        database.
        """
        with self._zip(event.programs[0]) as path:
            pid = os.fork()
            if not pid:
                self._in_child()
                with _ending():
                    if event.how == "copying":
                        sys.addaudithook(_kill_before_rename)
                    else:
                        sqlalchemy.event.listen(Engine, "before_cursor_execute", _kill_before_insert)
                    actions.submit(self._ledger(event.at), path, event.team)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if status != -signal.SIGKILL:
            return f"ended with {status}"
        kept = self._stored(event.programs[0]).exists()
        return "killed, the ZIP is kept" if kept else "killed, the ZIP is not kept"

    def _choose(self, event: PlannedEvent) -> str:
        numbers = [self._number(key, event.team) for key in event.programs]
        try:
            actions.choose(self._ledger(event.at), event.team, numbers)
        except Refused:
            return "refused"
        return "chosen"

    def _cancel(self, event: PlannedEvent) -> str:
        number = self._number(event.programs[0], event.team)
        with contextlib.nullcontext() if event.how == "queued" else self._runner(event.at, 1) as pid:
            if pid is not None:
                self._wait_for_run(pid, event.delay)
            try:
                self._ledger(event.at).cancel(number, PUBLIC, "отозвана: ёж")
            except Refused:
                return "refused"
        return "cancelled"

    def _spoil(self, event: PlannedEvent) -> str:
        public = self._ledger(event.at).rules().data[PUBLIC]
        encoder = self.folder / "assets" / assets.INCEPTION.path
        match event.how:
            case "store":
                path = self._stored(event.programs[0])
                path.chmod(0o644)
                path.write_bytes(path.read_bytes()[:-7])
            case "data-changed":
                path = public / "ground_truth.json"
                document = json.loads(path.read_text(encoding="utf-8"))
                first = next(entries[0] for entries in document.values() if entries[0]["type"] == "text")
                first["content"] = [*dict.fromkeys([*first["content"], "ёж"])]
                path.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
            case "data-missing":
                (public / "ground_truth.json").unlink(missing_ok=True)
            case "encoders-damaged":
                encoder.write_bytes(b"half of a file")
                record = assets.LockEntry(assets.INCEPTION.source, 10**8, assets.INCEPTION.digest.ljust(64, "0"))
                lock = {assets.INCEPTION.path: vars(record)}
                files.write_json(self.folder / "assets" / assets.LOCK_FILE, lock)
        return "spoilt"

    def _restore(self, event: PlannedEvent) -> str:
        match event.how:
            case "store":
                path = self._stored(event.programs[0])
                with self._zip(event.programs[0]) as again:
                    shutil.copyfile(again, path)
                path.chmod(0o444)
            case "encoders-damaged":
                (self.folder / "assets" / assets.INCEPTION.path).unlink(missing_ok=True)
                (self.folder / "assets" / assets.LOCK_FILE).unlink(missing_ok=True)
            case _:
                write_data(self.folder / "data", self.plan.mode)
        return "put back"

    def _retry(self, event: PlannedEvent) -> str:
        """What an organizer does after mending: another run for all that ended by no fault of the team's."""
        query = """
            SELECT run.submission_id, run.test_set FROM run JOIN event ON event.run_id = run.id AND event.step = 2
            WHERE run.id IN (SELECT max(id) FROM run GROUP BY submission_id, test_set)
                AND (event.kind = 'lost' OR event.fault IN ('infra', 'organizer'))
        """
        found = self._rows(query)
        for number, test_set in found:
            self._ledger(event.at).retry(number, test_set, "исправлено: ёж")
        return f"{len(found)} queued again"

    def _finals(self, event: PlannedEvent) -> str:
        try:
            found = actions.queue_finals(self._ledger(event.at))
        except Refused:
            return "refused"
        return f"{found.queued} private runs queued"

    # --- what organizers change ---

    def _organize(self, event: PlannedEvent) -> str:
        ledger = self._ledger(event.at)
        if self._is_entered(ledger, event):
            return "entered before"
        before = self._counts()
        try:
            self._change(Organizer(ledger, ORGANIZER), event)
        except Refused:
            return "refused"
        came = ["entered"]
        for kind, what in (("cancelled", "cancelled"), ("queued", "queued again")):
            if number := self._counts()[kind] - before[kind]:
                came.append(f"{number} {what}")
        return ", ".join(came)

    def _change(self, organizer: Organizer, event: PlannedEvent) -> None:
        reason = _reason(event)
        match event.how:
            case "disqualify" | "reinstate" | "take_out_of_competition":
                getattr(organizer, event.how)(event.team, reason)
            case "merge" | "rename":
                getattr(organizer, event.how)(event.team, event.to, reason)
            case "extend" if event.to.isdecimal():
                organizer.extend(event.team, reason, None, int(event.to), None)
            case "extend":
                organizer.extend(event.team, reason, date.fromisoformat(event.to), None, None)
            case "withdraw" | "restore":
                getattr(organizer, event.how)(self._number(event.programs[0], event.team), reason)
            case "set_day":
                number = self._number(event.programs[0], event.team)
                organizer.set_day(number, date.fromisoformat(event.to), reason)
            case "set_rules":
                end, choose_until = map(date.fromisoformat, event.to.split())
                organizer.set_rules({"end": end, "choose_until": choose_until}, reason)
            case "freeze":
                organizer.freeze(None, reason)
            case "unfreeze":
                organizer.unfreeze(reason)
            case "undo":
                rescorings = [change.id for change in organizer.ledger.changes() if change.kind == RESCORED]
                organizer.undo(rescorings[-1], reason)

    def _rescore(self, event: PlannedEvent) -> str:
        """In a process of its own, which is killed in one case: it loads what scores, and this one only forks."""
        ledger = self._ledger(event.at)
        if self._is_entered(ledger, event):
            return "entered before"
        said: list[str] = []

        def say(line: str) -> None:
            said.append(line)
            if event.how == "killed" and len(said) == 2:
                os.kill(os.getpid(), signal.SIGKILL)

        pid = os.fork()
        if not pid:
            with self._child("rescore.log"):
                found = rescore(Organizer(self._ledger(event.at), ORGANIZER), self._request(event), _reason(event), say)
                files.write_json(self._said(event), found.to_json())
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if status:
            return "killed" if status == -signal.SIGKILL else f"ended with {status}"
        (found,) = json.loads(self._said(event).read_text(encoding="utf-8"))["sets"]
        moved = sum(
            (line["rank_before"], line["total_before"]) != (line["rank_after"], line["total_after"])
            for line in found["board"]
        )
        return f"{found['results']} results, {found['changed']} other totals, {moved} teams moved"

    def _request(self, event: PlannedEvent) -> Request:
        if event.how == "weights":
            task, _, weight = event.to.partition("=")
            return Request(weights={int(task): float(weight)})
        new = None if event.how == "once more" else corrected(self.folder / "data" / event.to)
        return Request(event.to, new, dry_run=event.how in ("killed", "dry run"))

    def _look(self, event: PlannedEvent) -> str:
        """Keep a board as it is now."""
        board = actions.read_board(self._ledger(event.at), event.to, live=event.how == "live")
        files.write_json(self._said(event), board.to_json())
        return f"{board.waiting} results are not of this version"

    @staticmethod
    def _is_entered(ledger: Ledger, event: PlannedEvent) -> bool:
        """Whether that was done before this simulation was interrupted."""
        return _reason(event) in {change.reason for change in ledger.changes()}

    def _said(self, event: PlannedEvent) -> Path:
        """The file with what an event showed."""
        return self.folder / SAID / f"{event.at:%m-%d-%H%M%S}.json"

    def _counts(self) -> Counter[str]:
        """How many events of each kind there are."""
        return Counter(dict(self._rows("SELECT kind, count(*) FROM event GROUP BY kind")))

    # --- work ---

    def _work(self, event: PlannedEvent) -> str:
        before = self._endings()
        came = []
        later = event.at + timedelta(seconds=LEASE_SECONDS + 1)
        first = 2 if event.how == "two-runners" else self._workers
        blocked = self._block() if event.how == "blocked-folder" else None
        if event.how in ("kill-runner", "stop"):
            with self._runner(event.at, self._workers) as pid:
                if self._wait_for_run(pid, event.delay):
                    os.kill(pid, signal.SIGKILL if event.how == "kill-runner" else signal.SIGTERM)
                else:
                    came.append("nothing to kill")
            self._drain(later)
        elif event.how == "stall":
            with self._runner(event.at, 1) as pid:
                if self._wait_for_run(pid, event.delay):
                    os.kill(pid, signal.SIGSTOP)
                    try:
                        self._drain(later)
                    finally:
                        os.kill(pid, signal.SIGCONT)
        elif event.how == "two-runners":
            with self._runner(event.at, 1):
                self._drain(event.at, 1)
        elif event.how == "kill-evaluator":
            with self._runner(event.at, 1) as pid:
                if self._wait_for_run(pid, event.delay):
                    for child in _children(pid):
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(child, signal.SIGKILL)
        else:
            self._drain(event.at, first)
        if blocked is not None and blocked.is_file():
            blocked.unlink()
        ended = self._endings() - before
        came += [f"{number} {what}" for what, number in sorted(ended.items())]
        return ", ".join(came) or "nothing to do"

    def _drain(self, at: datetime, workers: int | None = None) -> None:
        """Work until nothing waits. A runner that ends after infrastructure failures in a row is started again: it is
        known why, and the next event mends it.
        """
        for _ in range(100):
            if not self._rows("SELECT 1 FROM job"):
                return
            with self._runner(at, workers or self._workers):
                pass
        raise EvaluatorError(f"the queue does not become empty; look at {self.folder / 'queue.log'}")

    def _after_dead_leases(self, at: datetime) -> datetime:
        """That moment, or the first in which no lease stands any more of a runner that was killed, as with an
        interrupted simulation: nobody else would wait for it, as the clock stands still.
        """
        expires = None if self._runners else self._rows("SELECT max(expires_at) FROM job")[0][0]
        if expires is None:
            return at
        return max(at, datetime.fromisoformat(expires).replace(tzinfo=UTC) + timedelta(seconds=1))

    @contextlib.contextmanager
    def _runner(self, at: datetime, workers: int) -> Iterator[int]:
        """`queue run --drain` in a process of its own, which has ended when this is left."""
        at = self._after_dead_leases(at)
        pid = os.fork()
        if not pid:
            with self._child("queue.log"):
                actions.work(self._ledger(at, jumps=True), _log_line, workers, ray=None, drain=True)
        self._runners.add(pid)
        try:
            yield pid
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            raise
        finally:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
            self._runners.discard(pid)

    @contextlib.contextmanager
    def _child(self, log_name: str) -> Iterator[None]:
        """In a forked process, which ends when this is left, and prints to a log."""
        self._in_child()
        with _ending(), open(self.folder / log_name, "a", encoding="utf-8") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            sys.stdout = sys.stderr = log
            # Alike on machines with GPUs and without; and each of several runs has a core.
            os.environ |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
            try:
                yield
            except Exception:
                traceback.print_exc()
                raise

    @staticmethod
    def _in_child() -> None:
        """A forked process ends with this one, and leaves this one's connections to the database alone."""
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        gc.freeze()

    def _wait_for_run(self, pid: int, delay: float) -> bool:
        """Wait until a runner has started a run, and then so long; False where it has ended before."""
        deadline = time.monotonic() + START_SECONDS
        while not (_children(pid) and self._rows("SELECT 1 FROM job WHERE token IS NOT NULL")):
            if time.monotonic() > deadline or os.waitpid(pid, os.WNOHANG)[0]:
                return False
            time.sleep(0.02)
        time.sleep(delay)
        return not os.waitpid(pid, os.WNOHANG)[0]

    def _block(self) -> Path | None:
        """Put a file where the next run's folder has to be."""
        found = self._rows("SELECT min(run_id) FROM job")[0][0]
        if found is None or self.store.run(found).exists():
            return None
        self.store.run(found).write_text("", encoding="utf-8")
        return self.store.run(found)

    def _endings(self) -> Counter[str]:
        rows = self._rows("SELECT kind, coalesce(verdict, ''), coalesce(fault, '') FROM event WHERE step = 2")
        return Counter(
            f"{verdict} ({fault})" if fault in ("infra", "organizer") else verdict or kind
            for kind, verdict, fault in rows
        )

    # --- what is where ---

    @contextlib.contextmanager
    def _zip(self, key: str) -> Iterator[Path]:
        """A program's ZIP, for as long as it is needed."""
        with tempfile.TemporaryDirectory(prefix="outbox-", dir=self.folder) as outbox:
            path = Path(outbox, f"заявка {key}.zip")
            make_zip(self.plan.programs[key], path, self.folder / "data" / PUBLIC)
            if key not in self._digests:
                self._digests[key] = digest(path)
                files.write_json(self.folder / DIGESTS, self._digests)
            yield path

    def _stored(self, key: str) -> Path:
        return self.store.archive(self._digests[key])

    def _number(self, key: str, team: str) -> int:
        """The submission of a ZIP: the team's own, else another's; 0, which is none's, where it was never accepted."""
        query = """
            SELECT submission.id FROM submission JOIN team ON team.id = submission.team_id
            WHERE digest = ? ORDER BY team.name != ?, submission.id
        """
        rows = self._rows(query, self._digests.get(key, ""), team)
        return int(rows[0][0]) if rows else 0

    def _rows(self, query: str, *values: object) -> list[Any]:
        path = self.folder / "season.sqlite3"
        with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=30)) as connection:
            return connection.execute(query, values).fetchall()

    # --- the table at the end ---

    def table(self) -> list[str]:
        """What was injected and what came of it, a line for each case."""
        came: dict[str, list[str]] = {}
        journal = [entry for entry in read_journal(self.folder) if "event" in entry]
        query = """
            SELECT run.submission_id, run.test_set, event.kind, event.verdict FROM run
            JOIN event ON event.run_id = run.id AND event.step = 2
            WHERE run.id IN (SELECT max(id) FROM run GROUP BY submission_id, test_set) ORDER BY run.id
        """
        ends: dict[int, list[str]] = {}
        for number, test_set, kind, verdict in self._rows(query):
            ends.setdefault(number, []).append(f"{test_set} {verdict or kind}")
        for entry in journal:
            event = self.plan.events[entry["event"]]
            if event.case:
                what = entry["came"]
                if what == "accepted":
                    what = ", ".join([what, *ends[self._number(event.programs[0], event.team)]])
                came.setdefault(event.case, []).append(what)
        rows = [("case", "times", "what came of it")]
        for case, what in sorted(came.items()):
            counts = Counter(what)
            told = "; ".join(each + (f" ({number} times)" if number > 1 else "") for each, number in counts.items())
            rows.append((case, str(len(what)), told))
        return aligned(rows, left=(0, 2))

    def figures(self) -> dict[str, int]:
        """How many submissions, results, failures … the database has, by name."""
        one = {
            "submissions": "SELECT count(*) FROM submission",
            "public results": "SELECT count(*) FROM result WHERE test_set = 'public'",
            "private results": "SELECT count(*) FROM result WHERE test_set = 'private'",
            "runs": "SELECT count(*) FROM run",
            "runs lost": "SELECT count(*) FROM event WHERE kind = 'lost'",
            "runs interrupted or cancelled": ("SELECT count(*) FROM event WHERE kind IN ('interrupted', 'cancelled')"),
            "infrastructure failures": "SELECT count(*) FROM event WHERE fault IN ('infra', 'organizer')",
            "changes of organizers": "SELECT count(*) FROM change",
            "results scored again": "SELECT count(*) FROM rescored",
        }
        return {name: self._rows(query)[0][0] for name, query in one.items()}


def read_journal(folder: Path) -> list[dict[str, Any]]:
    """The lines of a journal; a last one that was not written to its end is none."""
    path = folder / JOURNAL
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.rpartition("\n")[0].splitlines()]


def _log_line(line: str) -> None:
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {line}", flush=True)


def _reason(event: PlannedEvent) -> str:
    """One for each event, by which it is known again."""
    return f"{event.case}, {event.at:%m-%d %H:%M}"


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _kill_before_insert(_c: object, _d: object, statement: str, *_: object) -> None:
    if statement.startswith("INSERT INTO submission"):
        os.kill(os.getpid(), signal.SIGKILL)


def _kill_before_rename(name: str, _: object) -> None:
    if name == "os.rename":
        os.kill(os.getpid(), signal.SIGKILL)


@contextlib.contextmanager
def _ending() -> Iterator[None]:
    """End this forked process with what is in it, whatever happens there."""
    code = 1
    try:
        yield
        code = 0
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        os._exit(code)


def _children(pid: int) -> list[int]:
    """The processes that this one has started (Linux)."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with contextlib.suppress(OSError, ValueError, IndexError):
                if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                    found.append(int(folder.name))
    return found


# --- the command line ---


class _Bar:
    """How far it is: a bar on a terminal, else a line a day."""

    def __init__(self, season: Plan) -> None:
        self._plan, self._began, self._day = season, time.monotonic(), ""
        self._bar = sys.stderr.isatty()

    def __call__(self, number: int, event: PlannedEvent) -> None:
        total, seconds = len(self._plan.events), time.monotonic() - self._began
        day = f"{event.at:%m-%d}"
        text = f"{day}  event {number + 1} of {total}  {seconds:.0f} s"
        if self._bar:
            filled = 30 * number // total
            print(f"\r[{'#' * filled}{'.' * (30 - filled)}] {text} ", end="", file=sys.stderr, flush=True)
        elif day != self._day:
            print(text, file=sys.stderr, flush=True)
        self._day = day

    def end(self) -> None:
        if self._bar:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--teams", type=int, default=30)
    parser.add_argument("--days", type=int, default=14)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rate", type=float, default=0.15, help="how often a team sends (default: %(default)s)")
    parser.add_argument(
        "--program",
        choices=("nano", "quick"),
        default="nano",
        help="what teams send: nano and small programs, or these alone, on tasks without encoders and without eco2AI",
    )
    parser.add_argument("--workers", type=int, default=2, help="runs at a time (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("build/season-demo"), help="default: %(default)s")
    options = parser.parse_args(arguments)
    try:
        season = plan(options.seed, options.teams, options.days, options.program, options.rate)
    except ValueError as error:
        parser.error(str(error))
    simulation = Simulation(season, options.out, options.workers)
    bar, began = _Bar(season), time.monotonic()
    try:
        simulation.run(bar)
    except EvaluatorError as error:
        print(f"{'data' if isinstance(error, DataError) else 'evaluator'} error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on", file=sys.stderr)
        return 130
    finally:
        bar.end()
    for name in ("public", "private", "prizes"):
        print((simulation.folder / f"{name}.txt").read_text(encoding="utf-8"))
    print("\n".join(["What was injected", *simulation.table(), ""]))
    print(", ".join(f"{name}: {number}" for name, number in simulation.figures().items()))
    print(f"{len(season.events)} events, {time.monotonic() - began:.0f} s; the season is in {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
