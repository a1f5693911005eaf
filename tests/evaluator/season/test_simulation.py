"""A whole season with everything that can go wrong, by the one command, and all of it computed anew (`simulated`).

SEASON_DEMO=build/season-demo names a finished season to check in place of the small one that is made here.
"""

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

import evaluator
from evaluator.tools.simulated_season import changes
from evaluator.tools.simulated_season import plan as plans
from evaluator.tools.simulated_season.plan import plan
from evaluator.tools.simulated_season.simulate import JOURNAL, PLAN, Simulation, main, read_journal

pytest.register_assert_rewrite("tests.support.simulated_season")
from tests.support import simulated_season as simulated  # noqa: E402

ROOT = Path(evaluator.__file__).parents[1]
SECONDS = 1200.0  # at most, of each of two processes


@pytest.mark.timeout(2 * SECONDS)  # a hundred runs, of which other tests have their part of the machine
def test_a_season_that_was_killed_in_the_midst_is_what_its_plan_and_the_scores_of_its_runs_make_it(
    tmp_path: Path,
) -> None:
    named = os.environ.get("SEASON_DEMO")
    folder = Path(named) if named else killed_and_finished(tmp_path / "season")
    figures = simulated.check(folder)
    for what in (
        "valid attempts",
        "invalid attempts",
        "days with a fourth by an infrastructure failure",
        "results that another team has, too",
        "teams on the private board",
        "can win the main prize",
        "can win the other",
        "totals that another version changed",
        "withdrawn that were a team's best",
        "withdrawn that were chosen",
        "looks at a frozen board that differs",
    ):
        assert figures[what] > 0, (what, figures)
    document = json.loads((folder / PLAN).read_text(encoding="utf-8"))
    days = (date.fromisoformat(document["end"]) - date.fromisoformat(document["start"])).days + 1
    made = plan(document["seed"], len(document["teams"]) - len(changes.TEAMS), days, document["mode"], document["rate"])
    assert made.to_json() == document
    if not named:
        change_a_score(folder)
        with pytest.raises(AssertionError):
            simulated.check(folder)


def killed_and_finished(folder: Path) -> Path:
    """A small season whose process was killed while a run was held, and started again."""
    options = ["--teams", 6, "--days", 4, "--seed", 0, "--program", "quick", "--rate", 0, "--out", folder]
    command = [sys.executable, "-m", "evaluator.tools.simulated_season.simulate", *map(str, options)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + SECONDS
    while len(read_journal(folder)) < 40 or not a_run_is_held(folder):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.communicate()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "What was injected" in done.stdout and "The most sustainable solution: Зря обвинённые" in done.stdout
    return folder


def a_run_is_held(folder: Path) -> bool:
    with closing(sqlite3.connect(folder / "season.sqlite3", timeout=30)) as connection:
        return connection.execute("SELECT 1 FROM job WHERE token IS NOT NULL").fetchone() is not None


def change_a_score(folder: Path) -> None:
    ((run,),) = simulated.Season(folder).rows("SELECT max(run_id) FROM result")
    path = folder / "runs" / str(run) / "scores.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    document["tasks"]["0"]["score"] += 1e-9
    path.write_text(json.dumps(document), encoding="utf-8")


def test_what_was_changed_before_a_kill_is_not_changed_again(tmp_path: Path) -> None:
    whole = plan(0, plans.MIN_TEAMS, plans.MIN_DAYS, "quick", 0)
    events = [event for event in whole.events if event.how in ("extend", "rename", "freeze", "set_rules")]
    last = whole.events[-1]
    assert last.do == "look"
    simulation = Simulation(replace(whole, events=(*events, last)), tmp_path / "season", 1)
    simulation.run(lambda number, event: None)
    before = entered(simulation.folder)
    assert len(before) == len(events) == 5
    (simulation.folder / JOURNAL).unlink()  # as where it was killed before it took them down
    simulation.run(lambda number, event: None)
    assert entered(simulation.folder) == before
    assert [entry["came"] for entry in read_journal(simulation.folder)][:-1] == ["entered before"] * 5


def entered(folder: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(folder / "season.sqlite3")) as connection:
        return connection.execute("SELECT kind, at FROM change ORDER BY id").fetchall()


def test_a_plan_follows_from_its_seed_and_has_every_case() -> None:
    season = plan(0, 30, 14)
    assert season == plan(0, 30, 14) and season.to_json() != plan(1, 30, 14).to_json()
    times = [event.at for event in season.events]
    assert times == sorted(times) and len(set(season.teams)) == 30 + len(changes.TEAMS)
    cases = Counter(event.case for event in season.events)
    for kind in (*plans.FAILING, "brittle"):
        assert cases[f"program: {kind}"]
    for kind in plans.TURNED_AWAY:
        assert cases[f"ZIP: {kind}"]
    for fault in plans.WORK_FAULTS:
        assert cases[f"work: {fault}"]
    for fault in plans.DATA_FAULTS:
        assert cases[fault] and cases[f"{fault}, put back"]
    for case in (
        *("sending killed: copying", "sending killed: kept", "stored ZIP damaged", "stored ZIP put back"),
        *("the same ZIP again", "the ZIP of another team", "a fourth of the day", "too many failures a day"),
        *("before the start", "in the last minute", "after the end", "unknown team"),
        *("cancelled: queued", "cancelled: running"),
        *("choice: another team's", "choice: without a score", "choice: more than three", "choice: changed"),
        *("choice: too late", "finals before the last choice", "finals twice"),
        *(f"scored again: {how}" for how in ("killed", "dry run", "corrected", "once more", "weights", "undone")),
        *("disqualified", "reinstated", "out of competition", "merged", "renamed", "day corrected"),
        *("withdrawn: the best one", "restored", "frozen", "unfrozen", "the last day moved", "on the added day"),
    ):
        assert cases[case], case
    sent = {event.programs[0] for event in season.events if event.do == "send"}
    assert sum(season.programs[key].kind == "nano" for key in sent) >= 30
    assert {season.programs[key].emission for key in sent} == {"", *plans.EMISSIONS}


def test_every_seed_gives_a_plan_of_the_smallest_season() -> None:
    for seed in range(50):
        assert len(plan(seed, plans.MIN_TEAMS, plans.MIN_DAYS, "quick", 0).events) > 90
    with pytest.raises(ValueError, match="6 teams, 4 days"):
        plan(0, 5, 14)


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ёж.txt").write_text("🦔", encoding="utf-8")
    assert main(["--out", str(tmp_path)]) == 2
    assert "is not empty, and has no plan.json of a simulated season" in capsys.readouterr().err
    (tmp_path / PLAN).write_text("{}", encoding="utf-8")
    assert main(["--out", str(tmp_path)]) == 2
    assert "has another season" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"ёж.txt", PLAN}
