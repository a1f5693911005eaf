"""The rules, clock, submissions and outcomes of a season, for tests."""

import dataclasses
import hashlib
import io
import zipfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy

from evaluator.carbon import emission
from evaluator.package.metadata import Metadata
from evaluator.season import PUBLIC, schema
from evaluator.season.changes import Change
from evaluator.season.config import Season, read_season
from evaluator.season.ledger import Archive, Job, Ledger, NewEdition, RunEnd
from evaluator.season.store import Store
from tests.support.emission import emission_files

BACKENDS = ("sqlite", "postgresql")
NOON = datetime(2022, 10, 3, 9, 0, tzinfo=UTC)  # in Moscow
TASK = 5  # the one that is quickest to score
TRUTH = "Ёлки-палки"

# eco2AI knows no country ZZ and does not start, which saves each run more than a second.
RULES = """
[season]
name = "Проба"
time_zone = "Europe/Moscow"
start = 2022-10-01
end = 2022-10-20
choose_until = 2022-10-22

[attempts]
valid_a_day = 3
invalid_a_day = 5

[data]
public = "data/public"
private = "data/private"

[runs]
runner = "local"
country = "ZZ"
tries = 3
lease_seconds = 30
retry_seconds = 60

[formula]
open = 0
hidden = 0
5 = 1
"""

RUN = """
import json
examples = json.load(open("../input/input.json", encoding="utf-8"))
predictions = {id: [{"type": "text", "content": %r}] for id in examples}
json.dump(predictions, open("output/predictions.json", "w", encoding="utf-8"))
"""


class Clock:
    """A season's clock that a test sets."""

    def __init__(self, now: datetime = NOON) -> None:
        self.now = now

    def __call__(self, _: object) -> datetime:
        return self.now

    def forward(self, **by: float) -> None:
        self.now += timedelta(**by)


def write_season(folder: Path, url: str, **replace: str) -> Season:
    """A season's folder with its rules; each `key="value"` of `replace` replaces the value of that key."""
    lines = RULES.splitlines()
    for key, value in replace.items():
        (number,) = [number for number, line in enumerate(lines) if line.startswith(f"{key} =")]
        lines[number] = f"{key} = {value}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "season.toml").write_text("\n".join([*lines, "[database]", f'url = "{url}"']), encoding="utf-8")
    return read_season(folder / "season.toml")


def archive(content: object) -> Archive:
    """A ZIP as the ledger knows one; another for each `content`."""
    digest = f"{content}".encode().hex().zfill(64)[-64:]
    return Archive(digest, f"{content}.zip", 100, Metadata("example/image:1", "python3 run.py", ("python3", "run.py")))


def put_zip(season: Season, content: object, kg: float | None, twin: bool = True, broken: bool = False) -> Archive:
    """Store a ZIP, for `enter`, with an emission.csv of so much CO2; with `broken` a file that is none."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("run.py", f"print({content})")
        if kg is not None:
            plain, encoded = emission_files(kg)
            file.writestr(emission.NAME, plain)
            if twin:
                file.writestr(emission.ENCODED_NAME, encoded)
    data = packed.getvalue()[: -10 if broken else None]
    sent = dataclasses.replace(archive(content), digest=hashlib.sha256(data).hexdigest())
    path = Store(season.folder).archive(sent.digest)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return sent


def scored(value: float, digest: str = "d" * 64) -> RunEnd:
    return RunEnd("OK", None, {TASK: value}, digest)


def labelled(value: float, *labels: str) -> RunEnd:
    """As `scored`, with reasons why the score is not the leaderboard's."""
    return RunEnd("OK", None, {TASK: value}, "d" * 64, {"labels": list(labels), "findings": []})


def failed(verdict: str, fault: str) -> RunEnd:
    return RunEnd(verdict, fault, detail={"findings": []})


def enter(ledger: Ledger, team: str, content: object, *ends: RunEnd) -> int:
    """Submit an `Archive`, or one of this content, and end one run after another with these; the queue must be
    empty. Returns the submission.
    """
    submission, is_new = ledger.submit(team, content if isinstance(content, Archive) else archive(content))
    assert is_new
    for end in ends:
        job = ledger.claim("worker")
        assert isinstance(job, Job) and job.submission == submission
        assert ledger.finish(job, end) is not None
    return submission.id


def publish(
    ledger: Ledger,
    values: Mapping[int, float],
    test_set: str = PUBLIC,
    digest: str = "f" * 64,
    labels: Sequence[str] = (),
    weights: Mapping[int, float] | None = None,
    seen: int | None = None,
    is_first: bool = False,
) -> Change | None:
    """Scores of submissions, by their numbers, in a new edition of a test set. Whoever makes it has seen the one so
    far, or the one of the number `seen`, or the first.
    """
    edition = ledger.edition(test_set)
    assert edition is not None
    runs = {result.submission: result.run for result in ledger.runs_of(test_set)}
    scores = {submission: (runs[submission], {TASK: value}) for submission, value in values.items()}
    new = NewEdition(digest, tuple(labels), "e" * 64, scores)
    shown = None if is_first else seen or edition.id
    return ledger.publish("Судья", "эталон исправлен", {test_set: new}, {}, weights, {test_set: shown})


def public_state(ledger: Ledger, submission: int) -> str:
    (state,) = [state for state in ledger.states() if state.submission.id == submission and state.test_set == PUBLIC]
    return state.name


def check_lives(ledger: Ledger, charged: int | None = None, team: str = "Ёжики") -> None:
    """What holds at any moment: each run's events are a life's beginning or all of it, the queue has exactly the runs
    that have not ended, a submission has at most one of them, and each submission is charged once or not at all.
    `charged` is how many the team has, none of which failed.
    """
    with ledger.database.read() as connection:
        rows = connection.execute(
            sqlalchemy.select(schema.run.c.id, schema.run.c.submission_id, schema.event.c.kind)
            .outerjoin(schema.event, schema.event.c.run_id == schema.run.c.id)
            .order_by(schema.run.c.id, schema.event.c.step)
        ).all()
        queue = connection.execute(sqlalchemy.select(schema.job.c.run_id, schema.job.c.token))
        jobs = {run: token for run, token in queue}
        public = schema.result.c.test_set == PUBLIC
        scored = connection.execute(sqlalchemy.select(schema.result.c.submission_id).where(public)).scalars().all()
    lives: dict[int, list[str]] = {}
    submission_of: dict[int, int] = {}
    for run, submission, kind in rows:
        lives.setdefault(run, []).append(kind)
        submission_of[run] = submission
    for run, life in lives.items():
        assert life in (["queued"], ["queued", "running"], ["queued", "running", "done"], ["queued", "running", "lost"])
        assert (run in jobs) == (len(life) < 3)
        assert run not in jobs or (jobs[run] is not None) == (len(life) == 2)
    waiting = [submission_of[run] for run in jobs]
    assert len(waiting) == len(set(waiting))
    assert len(scored) == len(set(scored)) and not set(scored) & set(waiting)
    if charged is not None:
        attempts = ledger.attempts(team)
        assert (attempts.pending + attempts.valid, attempts.invalid) == (charged, 0)


def failures(rules: Path) -> list[str]:
    """What `season check` finds wrong."""
    from evaluator.season import check  # imports torch, which most tests of a season do without

    return [line.subject for line in check.examine(rules) if line.state == check.FAILURE]
