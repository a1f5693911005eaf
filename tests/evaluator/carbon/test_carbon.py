import csv
import math
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import eco2ai
import pytest

from evaluator.carbon import meter as carbon
from evaluator.carbon.meter import JOULES_PER_KWH, CarbonMeter
from evaluator.core import gpus

# eco2AI writes its rows in a way that pandas will refuse from version 3 on.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

BUSY = "import time; end = time.process_time() + {seconds}\nwhile time.process_time() < end: pass"


def spend(seconds: float) -> None:
    subprocess.run([sys.executable, "-c", BUSY.format(seconds=seconds)], check=True)


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*arguments, **_):
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_both_readings_of_a_busy_run(tmp_path, no_network):
    config = Path(eco2ai.__file__).parent / "data" / "config.txt"
    before = config.read_bytes() if config.exists() else None
    with CarbonMeter("RU", tmp_path / "emission.csv") as meter:
        spend(1.0)
    reading = meter.reading
    assert reading is not None and reading.eco2ai_error is None
    assert reading.kg_per_mwh == 347.451  # Russia as a whole in eco2AI's table
    assert reading.eco2ai_kwh is not None and reading.eco2ai_kwh >= 0
    assert reading.eco2ai_kg == pytest.approx(reading.eco2ai_kwh * 0.347451, rel=1e-6)
    assert 1.0 <= reading.cpu_seconds < 4.0
    assert reading.counters_kwh * JOULES_PER_KWH >= 1.0 * reading.cpu_watts_per_core
    assert (tmp_path / "emission.csv").read_text(encoding="utf-8").startswith("id,project_name,")
    assert (config.read_bytes() if config.exists() else None) == before  # site-packages stay as they are
    assert reading.to_json()["counters"]["cpu_seconds"] == reading.cpu_seconds


def test_disagreement_is_a_warning(monkeypatch):
    monkeypatch.setattr(carbon, "_last_row", lambda path: (1e-5, 0.347e-5))  # 36 J
    with CarbonMeter("RU") as meter:
        pass
    assert meter.reading and "disagree by more than 10%" in meter.reading.warnings[-1]


def test_agreement_is_none(monkeypatch):
    monkeypatch.setattr(carbon, "children_cpu_seconds", iter([10.0, 11.0]).__next__)
    monkeypatch.setattr(gpus, "energy_joules", iter([500.0, 510.0]).__next__)
    meter = CarbonMeter("RU")

    def same(path: Path) -> tuple[float, float]:
        kwh = (meter_watts + 10) / JOULES_PER_KWH
        return kwh * 1.05, kwh * 0.347

    monkeypatch.setattr(carbon, "_last_row", same)
    with meter:
        meter_watts = meter._tracker._cpu.tdp() * meter._tracker._cpu.cpu_num() / (carbon.os.cpu_count() or 1)
    assert meter.reading and meter.reading.warnings == []
    assert (meter.reading.cpu_seconds, meter.reading.gpu_joules) == (1.0, 10.0)
    assert "+ GPU energy counters 10.0 J" in "\n".join(meter.reading.lines())


@pytest.mark.parametrize("step", [-7200.0, -400 * 86400.0, 7200.0, 400 * 86400.0])
def test_a_clock_that_is_set_during_a_run_changes_no_duration(tmp_path, monkeypatch, step):
    real = time.time
    began = time.monotonic()
    with CarbonMeter("RU", tmp_path / "emission.csv") as meter:
        spend(0.2)
        monkeypatch.setattr(time, "time", lambda: real() + step)
        spend(0.2)
    with open(tmp_path / "emission.csv", encoding="utf-8", newline="") as file:
        row = list(csv.DictReader(file))[-1]
    assert 0.4 <= float(row["duration(s)"]) <= time.monotonic() - began
    reading = meter.reading
    assert reading is not None and reading.eco2ai_error is None
    assert reading.eco2ai_kg is not None and reading.eco2ai_kg >= 0
    most = reading.cpu_watts_per_core * (os.cpu_count() or 1) + 768
    assert reading.eco2ai_kwh * JOULES_PER_KWH <= 2.2 * most * (time.monotonic() - began)


@pytest.mark.parametrize(
    ("kwh", "kg"),
    [(-0.2, -0.07), (0.0, -1e-9), (1.0, 0.347), (1e9, 3e8), (math.nan, 0.1), (0.1, math.nan), (math.inf, math.inf)],
)
def test_a_reading_that_cannot_be_is_named_and_never_shown(monkeypatch, kwh, kg):
    monkeypatch.setattr(carbon, "_last_row", lambda path: (kwh, kg))
    with CarbonMeter("RU") as meter:
        spend(0.1)
    reading = meter.reading
    assert reading is not None and reading.eco2ai_kwh is None and reading.eco2ai_kg is None
    assert f"its reading cannot be, {kwh:g} kWh and {kg:g} kg of CO2 in" in str(reading.eco2ai_error)
    assert reading.lines()[0].startswith("CO2 (eco2AI, RU): not measured: its reading cannot be")
    assert reading.to_json()["eco2ai"]["kg"] is None and reading.counters_kg is not None


@pytest.mark.parametrize("end", [499.0, 0.0, 1e12])
def test_gpu_counters_that_begin_anew_or_jump_are_left_out(monkeypatch, end):
    monkeypatch.setattr(gpus, "energy_joules", iter([500.0, end]).__next__)
    with CarbonMeter("RU") as meter:
        spend(0.1)
    assert meter.reading is not None and meter.reading.gpu_joules is None
    assert any("the GPUs' energy counters cannot be right" in warning for warning in meter.reading.warnings)
    assert 0 < meter.reading.counters_kwh * JOULES_PER_KWH < 1000


def test_unknown_country_is_not_silently_the_worlds_average():
    with CarbonMeter("XX") as meter:
        spend(0.1)
    assert meter.reading and "country 'XX' is not in eco2AI's table" in str(meter.reading.eco2ai_error)
    assert meter.reading.cpu_seconds > 0 and meter.reading.counters_kg is None
    assert meter.reading.lines()[0].startswith("CO2 (eco2AI, XX): not measured: ValueError: ")
    assert meter.reading.lines()[1].startswith("CO2 (counters): unknown (")


def test_a_broken_tracker_does_not_stop_the_run(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))  # eco2AI needs `top` and does not find it
    with CarbonMeter("RU") as meter:
        ran = True
    assert ran and meter.reading and "top" in str(meter.reading.eco2ai_error)
    assert meter.reading.eco2ai_kwh is None and meter.reading.counters_kg is not None


def test_a_hanging_tracker_does_not_hang_the_run(monkeypatch):
    monkeypatch.setattr(carbon, "STOP_TIMEOUT_SECONDS", 0.2)
    monkeypatch.setattr(carbon, "_start_tracker", lambda *_: __import__("time").sleep(5))
    with CarbonMeter("RU") as meter:
        pass
    assert meter.reading and "did not answer within" in str(meter.reading.eco2ai_error)


def test_an_error_of_the_run_passes_through():
    meter = CarbonMeter("RU")
    with pytest.raises(ZeroDivisionError), meter:
        raise ZeroDivisionError
    assert meter.reading is not None


def test_the_cpu_time_of_a_run_elsewhere_is_given():
    with CarbonMeter("RU") as meter:
        spend(0.3)
        meter.cpu_seconds = 12.5  # of a container, whose processes are not our children
    assert meter.reading is not None and meter.reading.cpu_seconds == 12.5
