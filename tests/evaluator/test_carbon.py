import socket
import subprocess
import sys
from pathlib import Path

import eco2ai
import pytest

from evaluator import carbon
from evaluator.carbon import JOULES_PER_KWH, CarbonMeter

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
        spend(3.0)
    reading = meter.reading
    assert reading is not None and reading.eco2ai_error is None
    assert reading.kg_per_mwh == 347.451  # Russia as a whole in eco2AI's table
    assert reading.eco2ai_kwh is not None and reading.eco2ai_kwh >= 0
    assert reading.eco2ai_kg == pytest.approx(reading.eco2ai_kwh * 0.347451, rel=1e-6)
    assert 3.0 <= reading.cpu_seconds < 6.0
    assert reading.counters_kwh * JOULES_PER_KWH >= 3.0 * reading.cpu_watts_per_core
    assert (tmp_path / "emission.csv").read_text(encoding="utf-8").startswith("id,project_name,")
    assert (config.read_bytes() if config.exists() else None) == before  # site-packages stay as they are
    assert reading.to_json()["counters"]["cpu_seconds"] == reading.cpu_seconds


def test_disagreement_is_a_warning(monkeypatch):
    monkeypatch.setattr(carbon, "_last_row", lambda path: (1.0, 0.347))
    with CarbonMeter("RU") as meter:
        pass
    assert meter.reading and "disagree by more than 10%" in meter.reading.warnings[-1]


def test_agreement_is_none(monkeypatch):
    monkeypatch.setattr(carbon, "children_cpu_seconds", iter([10.0, 110.0]).__next__)
    monkeypatch.setattr(carbon, "_gpu_joules", iter([500.0, 1500.0]).__next__)
    meter = CarbonMeter("RU")

    def same(path: Path) -> tuple[float, float]:
        kwh = (100 * meter_watts + 1000) / JOULES_PER_KWH
        return kwh * 1.05, kwh * 0.347

    monkeypatch.setattr(carbon, "_last_row", same)
    with meter:
        meter_watts = meter._tracker._cpu.tdp() * meter._tracker._cpu.cpu_num() / (carbon.os.cpu_count() or 1)
    assert meter.reading and meter.reading.warnings == []
    assert (meter.reading.cpu_seconds, meter.reading.gpu_joules) == (100.0, 1000.0)
    assert "+ GPU energy counters 1000.0 J" in "\n".join(meter.reading.lines())


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
