"""The systemd units of docs/examples/ are ones that systemd takes, and call commands that the program has."""

import configparser
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from evaluator.cli.app import main
from evaluator.season.config import Season
from evaluator.season.runs import STOP_SECONDS
from evaluator.web.serving import GRACEFUL_SECONDS
from tests.support.workers import SECONDS

ROOT = Path(__file__).parents[3]
UNITS = sorted((ROOT / "docs" / "examples" / "systemd").iterdir())
PLACE = "/opt/fusionbrain"


def read(unit: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=True, delimiters="=")
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(unit, encoding="utf-8")
    return parser


def test_each_timer_has_its_service() -> None:
    names = {unit.name for unit in UNITS}
    assert {unit.name for unit in UNITS if unit.suffix == ".timer"} == {
        "fusionbrain-site.timer",
        "fusionbrain-backup.timer",
    }
    without = {"fusionbrain-queue.service", "fusionbrain-web.service"}
    assert names >= {"fusionbrain-site.service", "fusionbrain-backup.service"} | without
    for unit in UNITS:
        assert ("Install" in read(unit)) == (unit.suffix == ".timer" or unit.name in without)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not here (Debian: systemd)")
def test_systemd_takes_them(tmp_path: Path) -> None:
    """With a program in the place that they name."""
    for unit in UNITS:
        text = unit.read_text(encoding="utf-8").replace(
            f"{PLACE}/.venv/bin/python", shutil.which("true") or "/bin/true"
        )
        (tmp_path / unit.name).write_text(text, encoding="utf-8")
    paths = [str(tmp_path / unit.name) for unit in UNITS]
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *paths], capture_output=True, text=True)
    ours = [line for line in done.stderr.splitlines() if "fusionbrain" in line]
    assert (done.returncode, ours) == (0, [])


@pytest.mark.parametrize("unit", [unit for unit in UNITS if unit.suffix == ".service"], ids=lambda unit: unit.name)
def test_the_program_takes_their_commands(unit: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` behind all else is shown where that is right."""
    service = read(unit)["Service"]
    python, dash_m, program, *words = shlex.split(service["ExecStart"])
    assert (python, dash_m, program) == (f"{PLACE}/.venv/bin/python", "-m", "evaluator")
    assert service["WorkingDirectory"] == PLACE
    assert main([*words, "--help"]) == 0, capsys.readouterr().err
    assert main([*words, "--no-such-option", "--help"]) == 2  # so the check above is one


def test_the_queue_has_the_time_that_it_needs_to_stop(
    make_running: Callable[..., Season], make_zip: Callable[..., Path], tmp_path: Path
) -> None:
    """By the unit's signal to the main process alone, with a run under way, it ends well: systemd starts it no more."""
    service = read(ROOT / "docs/examples/systemd/fusionbrain-queue.service")["Service"]
    assert (service["KillMode"], service["Restart"]) == ("mixed", "on-failure")
    assert float(service["TimeoutStopSec"]) >= 2 * STOP_SECONDS
    season = make_running()
    waiting = make_zip(code="import time; print('begun', flush=True); time.sleep(600)")
    assert main(["submit", str(waiting), "--team", "Ёжики", "--season", str(season.path)]) == 0
    command = [*shlex.split(service["ExecStart"])[1:-1], str(season.path)]
    with subprocess.Popen([sys.executable, *command], cwd=ROOT) as process:
        while not (season.folder / "runs/1/evaluator.log").exists():
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.Signals[service["KillSignal"]])
        assert process.wait(float(service["TimeoutStopSec"])) == 0


def test_the_service_has_the_time_that_it_needs_to_stop(make_running: Callable[..., Season]) -> None:
    """By the unit's signal it ends well, though a caller is connected."""
    service = read(ROOT / "docs/examples/systemd/fusionbrain-web.service")["Service"]
    assert float(service["TimeoutStopSec"]) >= 2 * GRACEFUL_SECONDS
    season = make_running()
    words = shlex.split(service["ExecStart"])[1:]
    words[words.index("--season") + 1] = str(season.path)
    words[words.index("--port") + 1] = "0"
    with subprocess.Popen([sys.executable, *words], cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = next(line for line in process.stderr if "serving on" in line)
        with socket.create_connection(("127.0.0.1", int(said.rsplit(":", 1)[1]))):
            process.send_signal(signal.Signals[service["KillSignal"]])
            assert process.wait(SECONDS) == 0
