"""CO2 of a run: what eco2AI says, and beside it a reading that does not depend on it.

eco2AI follows `top` at its sampling moments, so a short or bursty run is easily missed. The reading beside it comes
from counters that miss nothing: the CPU time that the kernel charged to the run's processes, and the GPUs' energy
counters (NVML).
"""

import csv
import functools
import importlib
import importlib.util
import logging
import math
import os
import resource
import threading
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from evaluator.carbon.hardware import FALLBACK_TDP_WATTS, most_watts
from evaluator.core import gpus, leftovers, limits

logger = logging.getLogger(__name__)

MEASURE_PERIOD_SECONDS = 2
STOP_TIMEOUT_SECONDS = 30.0
DISAGREEMENT = 0.10  # relative to the larger of the two readings
JOULES_PER_KWH = 3.6e6
GRAMS_PER_KG = 1000.0
KWH_PER_MWH = 1000.0
WORLD, WHOLE_COUNTRY = "WORLD", "Whole country"  # as eco2AI's table of coefficients writes them


@dataclass(frozen=True)
class CarbonReading:
    """Energy in kWh and CO2 in kg of one run, from two sources. `eco2ai_*` are None where eco2AI failed, with
    `eco2ai_error` saying why.
    """

    country: str
    kg_per_mwh: float | None
    eco2ai_kwh: float | None
    eco2ai_kg: float | None
    eco2ai_error: str | None
    counters_kwh: float
    cpu_seconds: float
    cpu_watts_per_core: float
    gpu_joules: float | None
    warnings: list[str] = field(default_factory=list)

    @property
    def counters_kg(self) -> float | None:
        """CO2 in kg of the energy that the counters tell of; None where the country has no coefficient."""
        return None if self.kg_per_mwh is None else self.counters_kwh / KWH_PER_MWH * self.kg_per_mwh

    def lines(self) -> list[str]:
        """The reading as lines for the table."""
        if self.eco2ai_kwh is None or self.eco2ai_kg is None:
            lines = [f"CO2 (eco2AI, {self.country}): not measured: {self.eco2ai_error}"]
        else:
            lines = [
                f"CO2 (eco2AI, {self.country}): {_grams(self.eco2ai_kg)} ({self.eco2ai_kwh * JOULES_PER_KWH:.1f} J)"
            ]
        gpu = "" if self.gpu_joules is None else f" + GPU energy counters {self.gpu_joules:.1f} J"
        lines.append(
            f"CO2 (counters): {_grams(self.counters_kg)} ({self.counters_kwh * JOULES_PER_KWH:.1f} J ="
            f" {self.cpu_seconds:.1f} s of CPU time x {self.cpu_watts_per_core:.1f} W a core{gpu})"
        )
        return lines + [f"! CO2: {warning}" for warning in self.warnings]

    def to_json(self) -> dict[str, Any]:
        """`carbon` of a run in scores.json; units are in the keys."""
        return {
            "country": self.country,
            "kg_per_mwh": self.kg_per_mwh,
            "eco2ai": {"kwh": self.eco2ai_kwh, "kg": self.eco2ai_kg, "error": self.eco2ai_error},
            "counters": {
                "kwh": self.counters_kwh,
                "kg": self.counters_kg,
                "cpu_seconds": self.cpu_seconds,
                "cpu_watts_per_core": self.cpu_watts_per_core,
                "gpu_joules": self.gpu_joules,
            },
            "warnings": self.warnings,
        }


def _grams(kg: float | None) -> str:
    return "unknown" if kg is None else f"{kg * GRAMS_PER_KG:.4g} g"


class CarbonMeter:
    """Context manager around the run of child processes; `reading` is set when it ends. No failure of eco2AI leaves it.

    The child processes must have been waited for inside the block: the kernel charges CPU time only then. Where the run
    is no child of this process, set `cpu_seconds` inside the block. `country` is the ISO 3166 alpha-2 code, never
    guessed from the network. eco2AI's CSV is written to `csv_path`.
    """

    def __init__(self, country: str, csv_path: Path | None = None) -> None:
        self.country = country
        self.reading: CarbonReading | None = None
        self.cpu_seconds: float | None = None
        leftovers.sweep("carbon")
        self._temporary = leftovers.PrivateFolder("carbon")
        self._csv = csv_path or self._temporary.path / "emission.csv"
        self._tracker: Any = None
        self._error: str | None = None

    def __enter__(self) -> "CarbonMeter":
        self._started = time.monotonic()
        self._error, self._tracker = _guarded(lambda: _start_tracker(self.country, self._csv))
        # Read last: what the tracker spends while it starts is not the run's.
        self._gpu_start, self._cpu_start = gpus.energy_joules(), children_cpu_seconds()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        cpu_seconds = self.cpu_seconds
        if cpu_seconds is None:
            cpu_seconds = max(0.0, children_cpu_seconds() - self._cpu_start)
        gpu_end = gpus.energy_joules()
        gpu_joules = None if self._gpu_start is None or gpu_end is None else gpu_end - self._gpu_start
        tdp, kg_per_mwh, kwh, kg = FALLBACK_TDP_WATTS, None, None, None
        notes: list[str] = []
        seconds = max(1.0, time.monotonic() - self._started)
        if gpu_joules is not None and not 0 <= gpu_joules <= limits.MAX_EMISSION_WATTS * seconds:
            notes.append(
                f"the GPUs' energy counters cannot be right, {gpu_joules:.4g} J in {seconds:.1f} s, and are left out"
            )
            gpu_joules = None
        if self._tracker is not None:
            tracker = self._tracker
            kg_per_mwh = float(tracker.emission_level())
            tdp = float(tracker._cpu.tdp()) * int(tracker._cpu.cpu_num())
            self._error, _ = _guarded(tracker.stop)
            if self._error is None:
                self._error, energy = _guarded(lambda: _last_row(self._csv))
                if energy is not None:
                    failure, impossible = _guarded(lambda: _impossible(energy[0], energy[1], seconds, tracker))
                    self._error = failure or impossible
                    if self._error is None:
                        kwh, kg = energy
        if tdp <= 1.0:  # eco2AI passes a flag where its table look-up expects the fallback, and gets 1 W
            tdp = FALLBACK_TDP_WATTS
            notes.append(
                f"eco2AI does not know this CPU's TDP; {FALLBACK_TDP_WATTS:.0f} W are assumed for the counters"
            )
        # eco2AI's own convention (the chips' TDP over the logical CPUs seen), so that the readings differ by
        # measurement alone. In a virtual machine with a slice of a chip both are too high.
        watts_per_core = tdp / (os.cpu_count() or 1)
        counters_kwh = (cpu_seconds * watts_per_core + (gpu_joules or 0.0)) / JOULES_PER_KWH
        if kwh is not None and abs(kwh - counters_kwh) > DISAGREEMENT * max(kwh, counters_kwh):
            notes.append(
                f"eco2AI and the counters disagree by more than {DISAGREEMENT:.0%}"
                f" ({kwh * JOULES_PER_KWH:.1f} J and {counters_kwh * JOULES_PER_KWH:.1f} J): eco2AI samples the whole"
                f" machine every {MEASURE_PERIOD_SECONDS} s, the counters follow this run's processes"
            )
        self.reading = CarbonReading(
            self.country, kg_per_mwh, kwh, kg, self._error, counters_kwh, cpu_seconds, watts_per_core, gpu_joules, notes
        )
        self._temporary.remove()


def _start_tracker(country: str, csv_path: Path) -> Any:
    if country == WORLD or country not in emission_levels():
        raise ValueError(f"country {country!r} is not in eco2AI's table of emission coefficients")
    clock = SteadyClock()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # eco2AI and the pkg_resources it imports warn of themselves
        emission_track: Any = importlib.import_module("eco2ai.emission_track")
        # Both would touch a file in site-packages, which may be read-only and is shared by all runs; every value it
        # holds is given here.
        emission_track.get_params = dict
        emission_track.set_params = lambda **_: None
        for name in ("emission_track", "tools.tools_cpu", "tools.tools_gpu", "tools.tools_ram"):
            vars(importlib.import_module(f"eco2ai.{name}"))["time"] = clock
        vars(importlib.import_module("eco2ai.tools.tools_cpu"))["get_cpu_info"] = _cpu_info
        tracker = emission_track.Tracker(
            project_name="FusionBrain Challenge 2.0",
            experiment_description="evaluator run",
            file_name=str(csv_path),
            measure_period=MEASURE_PERIOD_SECONDS,
            alpha_2_code=country,
            cpu_processes="all",  # the run is another process than this one
            pue=1,
            ignore_warnings=True,
            timezone="UTC",
        )
        tracker.start()
    return tracker


@functools.cache
def _cpu_info() -> dict[str, Any]:
    """What eco2AI asks of py-cpuinfo at each start, which starts a Python to answer. A failure is not kept."""
    return {"brand_raw": importlib.import_module("cpuinfo").get_cpu_info()["brand_raw"]}


class SteadyClock:
    """The module `time` as eco2AI has it, which takes durations from the wall clock: that of now, and whoever sets the
    machine's clock later does not change it.
    """

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def time(self) -> float:
        """Seconds since the epoch, by the clock's setting at the start."""
        return self._offset + time.monotonic()

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


def _impossible(kwh: float, kg: float, seconds: float, tracker: Any) -> str | None:
    """Why a reading of so many seconds cannot be; None where it can."""
    said = f"its reading cannot be, {kwh:g} kWh and {kg:g} kg of CO2 in {seconds:.1f} s"
    if not (0 <= kwh < math.inf and 0 <= kg < math.inf):
        return said
    cpu, gpu = tracker._cpu, tracker._gpu
    names = f"{cpu.name()}/{cpu.cpu_num()} device(s), TDP:{cpu.tdp()}", f"{gpu.name()} {gpu.gpu_num()} device(s)"
    watts, most = kwh * JOULES_PER_KWH / seconds, most_watts(*names)
    return f"{said}: {watts:.4g} W of a machine of at most {most:.4g} W" if watts > most else None


@functools.cache
def emission_levels() -> dict[str, dict[str, float]]:
    """eco2AI's coefficients in kg/MWh: by alpha-2 code, then by region, and its other names in lower case. A country's
    own is that of `WHOLE_COUNTRY`; for a code that is not there eco2AI silently takes that of `WORLD`.

    Some regions stand in the table twice, with different values. As eco2AI finds them: of rows with the same list of
    other names the first holds, of different lists that share a name the last.
    """
    spec = importlib.util.find_spec("eco2ai")
    if spec is None or spec.origin is None:
        raise ImportError("eco2ai is not installed")
    levels: dict[str, dict[str, float]] = {}
    by_list: dict[str, float] = {}
    with open(Path(spec.origin).parent / "data" / "carbon_index.csv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["alpha_2_code"]:  # Namibia's NA was lost when the table was made
                regions, names = levels.setdefault(row["alpha_2_code"], {}), row["alternative_name"]
                level = float(row["Emission intensity, kg/MWh"])
                regions.setdefault(row["region"], level)
                if names != "N/A":
                    regions |= dict.fromkeys(names.lower().split(","), by_list.setdefault(names, level))
    return levels


def _last_row(csv_path: Path) -> tuple[float, float]:
    """kWh and kg of the last row of eco2AI's CSV."""
    with open(csv_path, encoding="utf-8", newline="") as file:
        row = list(csv.DictReader(file))[-1]
    return float(row["power_consumption(kWh)"]), float(row["CO2_emissions(kg)"])


def _guarded(call: Any) -> tuple[str | None, Any]:
    """(reason of failure or None, result). The call runs in a thread, as eco2AI can wait for ever on a file that
    another process holds.
    """
    outcome: dict[str, Any] = {}

    def target() -> None:
        try:
            outcome["result"] = call()
        except Exception as error:  # whatever breaks in the tracker, the run goes on
            logger.debug("eco2AI failed", exc_info=True)
            outcome["error"] = " ".join(f"{type(error).__name__}: {error}".split())

    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    thread.join(STOP_TIMEOUT_SECONDS)
    if thread.is_alive():
        return f"eco2AI did not answer within {STOP_TIMEOUT_SECONDS:.0f} s", None
    return outcome.get("error"), outcome.get("result")


def children_cpu_seconds() -> float:
    """CPU time of all processes that this one has waited for, and of those that they have."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
