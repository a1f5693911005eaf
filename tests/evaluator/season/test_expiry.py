"""Outputs are kept with their runs, for as long as the rules say."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from evaluator.data import kept
from evaluator.data.contracts import read_data
from evaluator.season import PUBLIC, expiry
from evaluator.season.config import Season
from evaluator.season.expiry import Expiry
from evaluator.season.ledger import Ledger
from evaluator.season.store import OUTPUT, Shared, Store, digest
from tests.evaluator.season.test_queue import submit
from tests.support.season import TRUTH, Clock, enter, scored
from tests.support.workers import SECONDS, start


@pytest.fixture
def keep(ledger: Ledger, clock: Clock) -> Callable[..., Ledger]:
    """The ledger with a rule, and three runs of which the first has ended four days ago and the third waits."""

    def keep(days: int | None, storage: str | None = None) -> Ledger:
        ledger.season = ledger.season.model_copy(update={"keep_outputs_days": days, "storage": storage})
        enter(ledger, "Кот", 1, scored(0.5))
        clock.forward(days=3)
        enter(ledger, "Кот", 2, scored(0.6))
        enter(ledger, "Кот", 3)
        clock.forward(days=1)
        for run in (1, 2, 3):
            folder = Store(ledger.season.folder).run(run)
            folder.mkdir(parents=True)
            for name in (OUTPUT, "scores.json"):
                (folder / name).write_text(str(run))
            if storage is not None:
                Shared(storage).send(run, folder / OUTPUT)
        return ledger

    return keep


def look(expiry: Expiry) -> None:
    """Until what was begun has ended."""
    expiry.look()
    while expiry.busy:
        expiry.look()


def kept_runs(season: Season) -> list[int]:
    return sorted(int(path.parent.name) for path in season.folder.glob(f"runs/*/{OUTPUT}"))


@pytest.mark.parametrize(("days", "left"), [(None, [1, 2, 3]), (5, [1, 2, 3]), (4, [2, 3]), (2, [2, 3]), (0, [3])])
def test_outputs_are_kept_for_so_many_days(keep: Callable[..., Ledger], days: int | None, left: list[int]) -> None:
    ledger = keep(days)
    lines: list[str] = []
    look(Expiry(ledger, lines.append))
    assert kept_runs(ledger.season) == left
    assert len(list(ledger.season.folder.glob("runs/*/scores.json"))) == 3
    removed = 3 - len(left)
    said = f"what {removed} runs answered is removed: they ended more than {days} days ago"
    assert lines == ([said] if removed else [])


@pytest.fixture
def an_hour_later(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Sets the machine's clock, which says when to look, forward."""
    now = [0.0]
    monkeypatch.setattr(expiry, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def forward() -> None:
        now[0] += 3600

    return forward


def test_it_looks_again_after_an_hour(
    keep: Callable[..., Ledger], clock: Clock, an_hour_later: Callable[[], None]
) -> None:
    ledger = keep(2)
    lines: list[str] = []
    removing = Expiry(ledger, lines.append)
    look(removing)
    clock.forward(days=2)
    look(removing)
    assert kept_runs(ledger.season) == [2, 3]
    an_hour_later()
    look(removing)
    assert kept_runs(ledger.season) == [3] and len(lines) == 2


def test_a_storage_is_cleared_as_well(keep: Callable[..., Ledger], tmp_path: Path) -> None:
    storage = str(tmp_path / "общее")
    ledger = keep(4, storage)
    lines: list[str] = []
    look(Expiry(ledger, lines.append))
    shared = Shared(storage)
    assert [shared.read(run, OUTPUT) for run in (1, 2, 3)] == [None, b"2", b"3"]
    assert kept_runs(ledger.season) == [2, 3] and lines[0].startswith("what 1 runs answered")


def test_what_cannot_be_removed_is_said_and_tried_again(
    keep: Callable[..., Ledger], an_hour_later: Callable[[], None]
) -> None:
    ledger = keep(4)
    output = Store(ledger.season.folder).run(1) / OUTPUT
    output.unlink()
    output.mkdir()
    lines: list[str] = []
    removing = Expiry(ledger, lines.append)
    look(removing)
    assert "outputs that were kept long enough cannot be removed" in lines[0] and str(output) in lines[0]
    output.rmdir()
    output.write_text("1")
    an_hour_later()
    look(removing)
    assert not output.exists() and len(lines) == 2


def test_a_run_leaves_its_output_and_the_queue_removes_it(
    make_running: Callable[..., Season], make_zip: Callable[..., Path]
) -> None:
    season = make_running()
    ledger, _ = submit(season, make_zip(TRUTH))
    _, fails = submit(season, make_zip(code="raise SystemExit(3)", name="fails"))
    worker = start(season, "--drain")
    output = worker.communicate(timeout=SECONDS)[0]
    assert worker.returncode == 0, output
    details: dict[int, Any] = {event.run: event.detail for event in ledger.history(1) if event.kind == "done"}
    path = Store(season.folder).run(1) / OUTPUT
    assert details[1]["output_sha256"] == digest(path) and kept_runs(season) == [1]
    data = read_data(season.data[PUBLIC], season.competition)
    assert set(kept.read(path, details[1]["output_sha256"], data).texts.values()) == {TRUTH}
    assert [event.detail["output_sha256"] for event in ledger.history(fails) if event.kind == "done"] == [None]

    text = season.path.read_text(encoding="utf-8")
    season.path.write_text(text.replace("[runs]", "[runs]\nkeep_outputs_days = 0"), encoding="utf-8")
    submit(season, make_zip("Ёлки"))
    worker = start(season, "--drain")
    output = worker.communicate(timeout=SECONDS)[0]
    assert worker.returncode == 0 and "what 1 runs answered is removed" in output
    assert kept_runs(season) == [] and (Store(season.folder).run(3) / "scores.json").exists()
    (event,) = [event for event in ledger.history(3) if event.kind == "done"]
    assert event.verdict == "OK" and event.detail["output_sha256"] is None
