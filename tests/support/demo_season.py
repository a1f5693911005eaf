"""A lively season for the tests of the site, and to look at it: `python -m tests.support.demo_season FOLDER`.

Played through the ledger on its own clock: teams with names of all kinds, every verdict, infrastructure failures, lost
and cancelled runs, two machines, choices, private runs, and what runs and submissions leave, with secrets in it.
"""

import hashlib
import io
import json
import random
import sys
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy

from evaluator.carbon import emission
from evaluator.core.verdict import INFRA, METRIC_ERROR, TABLE
from evaluator.package.metadata import Metadata
from evaluator.reports import html as report_html
from evaluator.season import PRIVATE
from evaluator.season.config import Season, read_season
from evaluator.season.database import Database
from evaluator.season.ledger import Archive, Job, Ledger, RunEnd
from evaluator.season.store import Store
from tests.support.emission import emission_files

NAMES = (
    "Ёжики",
    "«Кот & Пёс» 🦔",
    "<script>window.hacked = 1</script>",
    '"><img src=x onerror="window.hacked = 1">',
    "../../x",
    "{{ season.url }}{% raw %}",
    "Щ" * 60,
    "=HYPERLINK(1)",
    "Лис",
    "Нейросети и чай",
    "שלום עולם",
    "Команда, которая ничего не послала",
)
START = datetime(2022, 9, 28, 6, tzinfo=UTC)
TASKS = range(12)

# What must be in no page for everybody, and in no other team's. The texts are as long as to be found nowhere else.
TRUTH = "ТАЙНА-ИСТИНА-Ёлки-палки"
LOG = "ТАЙНА-ЖУРНАЛ-печать программы"
OURS = "the evaluator ended with 3"  # of a run that failed by no fault of the team's
TAIL = "ТАЙНА-ХВОСТ-evaluator.log"


def finding_of(team: str) -> str:
    """What is found wrong with a team's runs, and is for this team alone."""
    return f"НАХОДКА-{sum(map(ord, team))}-{len(team)}"


@dataclass
class Demo:
    season: Season
    database: Database
    ledger: Ledger
    now: datetime


class _Clock:
    now = START

    def __call__(self, _: object) -> datetime:
        return self.now


def write(folder: Path, teams: int = 16, days: int = 40, over: bool = True, rate: float = 0.09, seed: int = 1) -> Demo:
    """Play a season of so many days into a new folder, to the end of the last; with `over` to its private results.
    `rate` is how likely a team sends something in two hours; more teams have more machines.
    """
    chance = random.Random(seed)
    machines = max(1, teams // 16)
    end = (START + timedelta(days=days - 1)).date()
    folder.mkdir(parents=True)
    rules = Path(report_html.__file__).parents[1] / "season" / "season.example.toml"
    text = rules.read_text(encoding="utf-8").replace("end = 2022-11-13", f"end = {end}")
    (folder / "season.toml").write_text(text.replace("2022-11-15", str(end + timedelta(days=3))), encoding="utf-8")
    for name in ("public", "private"):
        (folder / "data" / name).mkdir(parents=True)
        (folder / "data" / name / "ground_truth.json").write_text(TRUTH, encoding="utf-8")
    season = read_season(folder / "season.toml")
    database = Database(season.url, season.folder)
    database.migrate()
    sqlalchemy.event.listen(database.engine, "connect", _hurry)
    database.engine.dispose()
    clock = _Clock()
    ledger = Ledger(season, database, clock)
    names = [*NAMES, *(f"Команда {number}" for number in range(teams))][:teams]
    skill = {}
    for name in names:
        ledger.add_team(name)
        skill[name] = chance.uniform(0.1, 0.5)
    store, running = Store(folder), list[Job]()
    player = _Player(season, ledger, store, chance, skill)

    def drain(worker: str) -> None:
        while ledger.unfinished():
            clock.now += timedelta(minutes=30) / machines
            if job := ledger.claim(worker):
                clock.now += timedelta(minutes=chance.randrange(20, 70)) / machines
                player.finish(job)

    for day in range(days):
        for hour in range(6, 22, 2):
            clock.now = START + timedelta(days=day, hours=hour - 6, minutes=chance.randrange(60))
            for job in running:
                player.finish(job)
            running = [job for name in ("gpu1:101", "gpu1:101", "gpu2:77") * machines if (job := ledger.claim(name))]
            for name in names:
                if name != NAMES[-1] and chance.random() < rate:
                    player.submit(name, day)
    if over:
        for job in running:
            player.finish(job)
        drain("gpu1:101")
        for name in names[:3]:
            own = [state for state in ledger.states(name) if state.verdict == "OK"][-2:]
            ledger.choose(name, [state.submission.id for state in own])
        clock.now = START + timedelta(days=days + 4)
        ledger.queue_finals()
        drain("gpu2:78")
    return Demo(season, database, ledger, clock.now)


def _hurry(connection: Any, _: object) -> None:
    connection.execute("PRAGMA synchronous = OFF")  # thousands of transactions, of which none is to outlive a crash


class _Player:
    def __init__(
        self, season: Season, ledger: Ledger, store: Store, chance: random.Random, skill: dict[str, float]
    ) -> None:
        self.season, self.ledger, self.store, self.chance, self.skill = season, ledger, store, chance, skill
        self.sent = 0

    def submit(self, team: str, day: int) -> None:
        if not self.ledger.attempts(team).left:
            return
        self.sent += 1
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as file:
            file.writestr("run.py", f"print({self.sent})")
            number = sum(map(ord, team))
            if number % 7 != 3:
                plain, encoded = emission_files(0.2 + number % 97 / 12)
                file.writestr(emission.NAME, plain)
                if number % 7:
                    file.writestr(emission.ENCODED_NAME, encoded)
        digest = hashlib.sha256(packed.getvalue()).hexdigest()
        facts = Metadata("fusionbrain/fbc2:latest", "python3 run.py", ("python3", "run.py"))
        name = "<b>решение</b>.zip" if self.sent % 7 == 0 else f"submission_{self.sent}.zip"
        self.ledger.submit(team, Archive(digest, name, 10**6, facts))
        path = self.store.archive(digest)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(packed.getvalue())
        self.skill[team] = min(0.85, self.skill[team] + self.chance.uniform(-0.01, 0.04))

    def finish(self, job: Job) -> None:
        """End a run in one of all the ways, and leave what a run leaves."""
        chance, team = self.chance, job.submission.team
        folder = self.store.run(job.run)
        folder.mkdir(parents=True)
        (folder / "log.txt").write_text(LOG, encoding="utf-8")
        (folder / "evaluator.log").write_text(f"{LOG} {TAIL}", encoding="utf-8")
        detail = {"seconds": chance.uniform(600, 9000), "peak_memory": 10**9 * chance.uniform(3, 90), "labels": []}
        luck = chance.random()
        if job.test_set == PRIVATE or luck < 0.72:
            scores = {task: min(1.0, max(0.0, chance.gauss(self.skill[team], 0.1))) for task in TASKS}
            digest = ("d" if job.test_set == PRIVATE else "e") * 64
            self.ledger.finish(job, RunEnd("OK", None, scores, digest, detail | {"findings": [], "fix": ""}))
            (folder / "report.html").write_text(report(team, job.run, scores), encoding="utf-8")
        elif luck < 0.88:
            verdict = TABLE[chance.choice(("TIMEOUT", "OOM", "EXIT", "BAD_OUTPUT", "BAD_ZIP", "DISK"))]
            found = {
                "rule": "output-missing",
                "where": f"<i>{finding_of(team)}</i>",
                "found": f"{finding_of(team)} <b>5</b> of this kind",
                "allowed": "every id exactly once",
                "fix": "write an entry for every id of input.json",
            }
            detail |= {"findings": [found], "fix": verdict.fix}
            self.ledger.finish(job, RunEnd(verdict.name, verdict.fault, detail=detail))
        elif luck < 0.94:
            found = {"rule": "evaluator-failure", "found": OURS}
            detail |= {"findings": [found], "log": TAIL}
            self.ledger.finish(job, RunEnd(INFRA.name, INFRA.fault, detail=detail))
        elif luck < 0.97:
            found = {"rule": "metric-failure", "found": "1 of this kind"}
            detail |= {"findings": [found], "fix": METRIC_ERROR.fix}
            self.ledger.finish(job, RunEnd(METRIC_ERROR.name, METRIC_ERROR.fault, detail=detail))
        elif luck < 0.985:
            self.ledger.cancel(job.submission.id, job.test_set, "команда попросила")
        else:
            self.ledger.give_back(job, "the worker was stopped")


def report(team: str, run: int, scores: dict[int, float]) -> str:
    """A small report.html as `run --private` writes it."""
    page = {"private": True, "created": "2022-10-01", "run_of_test": f"{finding_of(team)} {run}", "scores": scores}
    return "<!doctype html>" + json.dumps(page, ensure_ascii=False, separators=(",", ":"))


if __name__ == "__main__":
    made = write(Path(sys.argv[1]), over="--going" not in sys.argv)
    made.database.engine.dispose()
    print(made.now.isoformat())
