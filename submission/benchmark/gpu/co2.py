"""CO2: a known load for half a minute, read in three ways: the card's energy counter, its power ten times a second, and
eco2AI where it is installed.
"""

from __future__ import annotations

import importlib.util
import tempfile
import threading
import time
from pathlib import Path

import torch

from benchmark.gpu.card import asked, is_cuda, joules
from benchmark.gpu.report import Report
from training.carbon import EMISSION, JOULES_PER_KWH, TrainingCarbon, cpu_seconds, read_rows

SECONDS, PERIOD = 30.0, 0.1
SIDE = 8192
WITHIN = 0.05
AROUND = 12.0  # seconds that the part needs besides the load


def run(report: Report, device: str, small: bool) -> None:
    """Load, readings, and how far they are apart."""
    seconds = 1.0 if small else max(5.0, min(SECONDS, report.left() - AROUND))
    square = torch.randn(256 if small else SIDE, 256 if small else SIDE, device=device, dtype=torch.bfloat16)
    watts: list[tuple[float, float]] = []
    stopped = threading.Event()

    def sample() -> None:
        while not stopped.is_set():
            power = asked(device, lambda pynvml, handle: pynvml.nvmlDeviceGetPowerUsage(handle))
            if power is not None:
                watts.append((time.monotonic(), power / 1000))
            stopped.wait(PERIOD)

    with tempfile.TemporaryDirectory() as temporary:
        carbon = TrainingCarbon(Path(temporary), "load", True, "RU")
        carbon.start(1, cpu_seconds())
        sampler = threading.Thread(target=sample, daemon=True)
        sampler.start()
        before, start, products = joules(device), time.monotonic(), 0
        while time.monotonic() - start < seconds:
            for _ in range(50):
                square @ square
            if is_cuda(device):
                torch.cuda.synchronize()
            products += 50
        end, after = time.monotonic(), joules(device)
        stopped.set()
        sampler.join()
        carbon.end_epoch(cpu_seconds(), 0.0)
        carbon.stop()
        eco2ai_rows = read_rows(Path(temporary) / EMISSION)
        energy = read_rows(Path(temporary) / "energy.csv")[0]
    power = sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in zip(watts, watts[1:], strict=False))
    counter = None if before is None or after is None else after - before
    report.figure("readings", {
        "seconds": end - start, "products": products, "counter_joules": counter,
        "power_joules": power * (end - start) / (watts[-1][0] - watts[0][0]) if len(watts) > 1 else None,
        "power_samples": len(watts), "our_row": energy, "eco2ai_row": eco2ai_rows[-1:],
        "eco2ai_joules": float(eco2ai_rows[-1]["power_consumption(kWh)"]) * JOULES_PER_KWH if eco2ai_rows else None,
        "eco2ai_installed": importlib.util.find_spec("eco2ai") is not None,
    })  # fmt: skip
    report.check("a reading is written", float(energy["kwh"]) > 0, f"{float(energy['kwh']) * JOULES_PER_KWH:.0f} J")
    readings = report.found["figures"]["readings"]
    if counter and readings["power_joules"]:
        apart = abs(counter - readings["power_joules"]) / counter
        report.goal("counter and integrated power, how far apart", apart, WITHIN, at_most=True)
        ours = float(energy["gpu_joules"])
        report.goal("training's reading and the counter, how far apart", abs(ours - counter) / counter, WITHIN,
                    at_most=True)  # fmt: skip
