"""CO2 of training: eco2AI's rows by epoch, and beside them a reading that does not depend on it.

`folder`/emission.csv and encoded_emission.csv are eco2AI's. eco2AI follows `top` and the GPUs' power at moments, so
`folder`/energy.csv has what counters say, which miss nothing: the CPU time that the kernel charged to the processes,
times their share of the chips' TDP, and the GPUs' energy counters (NVML). A gap of more than `DISAGREEMENT` is warned
about. No network is used, and nothing is written outside of `folder`.
"""

from __future__ import annotations

import csv
import functools
import importlib
import importlib.util
import io
import logging
import math
import os
import resource
import shutil
import threading
import time
import warnings
from pathlib import Path
from typing import Any

from rudolph.files import replacing

log = logging.getLogger(__name__)

EMISSION, ENCODED, ENERGY = "emission.csv", "encoded_emission.csv", "energy.csv"
TARGET = "TargetValue"  # in the description of rows that can count for the prize
DISAGREEMENT = 0.10  # relative to the larger of the two readings
SAMPLE_SECONDS = 2.0  # eco2AI's own period, 10, misses short epochs: a single look at their end finds the machine idle
FALLBACK_TDP_WATTS = 100.0  # eco2AI's own constant for a CPU that its table lacks
JOULES_PER_KWH = 3.6e6
KWH_PER_MWH = 1000.0
MAX_GPU_WATTS, MAX_GPUS_WATTS = 1500.0, 100_000.0  # of one GPU of any kind, and of all in a machine
MAX_RAM_WATTS = 0.375 * 2048  # eco2AI's 3/8 W a GB, of 2 TB
ENERGY_COLUMNS = (
    "stage", "epoch", "complete", "start_time", "seconds", "cpu_seconds", "cpu_watts_per_core", "gpu_joules", "kwh",
    "kg", "eco2ai_kwh", "eco2ai_kg", "gap",
)  # fmt: skip


class ImpossibleReading(Exception):
    """eco2AI says what cannot have been."""


class SteadyClock:
    """The module `time` as eco2AI has it, which takes durations from the wall clock: that of now, and whoever sets the
    machine's clock later does not change it.
    """

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def time(self) -> float:
        """Seconds since the epoch that no setting of the clock moves."""
        return self._offset + time.monotonic()

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


def use_steady_clock() -> None:
    """Have eco2AI take the durations that it measures from now on from a clock that nobody sets."""
    clock = SteadyClock()
    for name in ("emission_track", "tools.tools_cpu", "tools.tools_gpu", "tools.tools_ram"):
        vars(importlib.import_module(f"eco2ai.{name}"))["time"] = clock


@functools.cache
def _cpu_info() -> dict[str, Any]:
    """What eco2AI asks of py-cpuinfo at each start, which starts a Python to answer. A failure is not kept."""
    return {"brand_raw": importlib.import_module("cpuinfo").get_cpu_info()["brand_raw"]}


class TrainingCarbon:
    """Tracks one stage of a training by epoch. No failure of eco2AI leaves it; energy.csv is written without it too.

    `cpu_seconds` of the methods is the CPU time so far of all processes of the training (see `cpu_seconds()`).
    `country` is the ISO 3166 alpha-2 code, never guessed from the network. Raises ValueError where eco2AI's table of
    coefficients lacks it.
    """

    def __init__(self, folder: Path, stage: str, is_final: bool, country: str) -> None:
        self.folder, self.stage, self.country = folder, stage, country
        self.description = f"{stage}, {TARGET}" if is_final else stage
        check_country(country)
        folder.mkdir(parents=True, exist_ok=True)
        self._work = folder / ".eco2ai"  # left there by a run that was killed
        shutil.rmtree(self._work, ignore_errors=True)
        self._work.mkdir()
        self._earlier = read_rows(folder / ENERGY)
        self._tracker: Any = None
        self._kg_per_mwh: float | None = None
        self._watts_per_core = FALLBACK_TDP_WATTS / (os.cpu_count() or 1)
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def start(self, epoch: int, cpu_seconds: float) -> None:
        """Begin with an epoch, numbered from 1."""
        try:
            self._tracker = self._start_tracker(epoch)
        except Exception as error:  # whatever breaks in eco2AI, training goes on
            self._give_up(error)
        else:
            self._kg_per_mwh = float(self._tracker.emission_level())
            tdp = float(self._tracker._cpu.tdp()) * int(self._tracker._cpu.cpu_num())
            # eco2AI passes a flag where its table look-up expects the fallback, and gets 1 W.
            self._watts_per_core = (tdp if tdp > 1 else FALLBACK_TDP_WATTS) / (os.cpu_count() or 1)
            threading.Thread(target=self._sample_for_ever, daemon=True).start()
        self._begin_epoch(epoch, cpu_seconds)

    def read(self, cpu_seconds: float) -> None:
        """Write the counters' reading of the epoch so far, lest a kill lose it."""
        self._write_energy(self._row(cpu_seconds))

    def end_epoch(self, cpu_seconds: float, loss: float) -> None:
        """Write the rows of the epoch that ends, and begin the next one."""
        row = self._row(cpu_seconds)
        if self._tracker is not None:
            try:
                with self._lock:
                    kwh, kg = self._new_epoch(loss, row["seconds"])
            except ImpossibleReading as error:
                log.warning("%s, epoch %d: %s; %s does not get its row", self.stage, row["epoch"], error, EMISSION)
            except Exception as error:
                self._give_up(error)
            else:
                gap = abs(kwh - row["kwh"]) / max(kwh, row["kwh"]) if max(kwh, row["kwh"]) > 0 else 0.0
                row |= {"eco2ai_kwh": kwh, "eco2ai_kg": kg, "gap": gap}
                (log.warning if gap > DISAGREEMENT else log.info)(
                    "%s, epoch %d: %.4g g of CO2; %.1f J by eco2AI, which samples the whole machine, %.1f J by the"
                    " counters of this training: %.0f%% apart",
                    self.stage, row["epoch"], kg * 1000, kwh * JOULES_PER_KWH, row["kwh"] * JOULES_PER_KWH, gap * 100,
                )  # fmt: skip
        self._write_energy(row | {"complete": 1})
        self._earlier.append(row | {"complete": 1})
        self._begin_epoch(row["epoch"] + 1, cpu_seconds)

    def stop(self) -> None:
        """End the tracking. What follows the last `end_epoch` is not written."""
        self._stopped.set()
        with self._lock:
            if self._tracker is not None:
                self._tracker.stop_training()
        shutil.rmtree(self._work, ignore_errors=True)

    # --- eco2AI ---

    def _start_tracker(self, epoch: int) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # eco2AI and the pkg_resources it imports warn of themselves
            # The submodule by its name: the package exports a function that hides it.
            emission_track: Any = importlib.import_module("eco2ai.emission_track")
        # Both keep a file in site-packages, which may be read-only and is shared; every value it holds is given here.
        emission_track.get_params = dict
        emission_track.set_params = lambda **_: None
        use_steady_clock()
        vars(importlib.import_module("eco2ai.tools.tools_cpu"))["get_cpu_info"] = _cpu_info
        tracker = emission_track.Tracker(
            project_name="FusionBrain Challenge 2.0", experiment_description=self.description,
            file_name=str(self._work / EMISSION), measure_period=SAMPLE_SECONDS, alpha_2_code=self.country, pue=1,
            cpu_processes="all",  # a training can have several
            ignore_warnings=True, timezone="UTC",
        )  # fmt: skip
        tracker._encode_file = str(self._work / ENCODED)  # its own argument breaks on paths with folders
        tracker.start_training(start_epoch=epoch)
        return tracker

    def _new_epoch(self, loss: float, seconds: float) -> tuple[float, float]:
        """kWh and kg of eco2AI's new row, of an epoch of so many seconds. It writes in place, so a copy is written and
        put in the place of the file. Raises `ImpossibleReading` for a row that cannot be, which gets nowhere.
        """
        for name in (EMISSION, ENCODED):
            if (self.folder / name).exists():
                shutil.copyfile(self.folder / name, self._work / name)
        self._tracker.new_epoch({"loss": f"{loss:.4f}"})
        id = self._tracker.id()
        row = [row for row in read_rows(self._work / EMISSION) if row["id"] == id][-1]
        kwh, kg = float(row["power_consumption(kWh)"]), float(row["CO2_emissions(kg)"])
        watts, most = kwh * JOULES_PER_KWH / max(1.0, seconds), self._most_watts()
        if not (0 <= kwh and 0 <= kg < math.inf and float(row["duration(s)"]) >= 0 and watts <= most):
            for name in (EMISSION, ENCODED):
                (self._work / name).unlink(missing_ok=True)
            raise ImpossibleReading(
                f"eco2AI's reading cannot be, {kwh:g} kWh and {kg:g} kg of CO2 in {float(row['duration(s)']):.1f} s of"
                f" {seconds:.1f} s: {watts:.4g} W of a machine of at most {most:.4g} W"
            )
        for name in (EMISSION, ENCODED):
            os.replace(self._work / name, self.folder / name)
        return kwh, kg

    def _most_watts(self) -> float:
        """The most that this machine draws, with room: by its CPUs' TDP, its GPUs and its memory as eco2AI counts."""
        gpus = self._tracker._gpu.gpu_num() * MAX_GPU_WATTS
        return 2 * (self._watts_per_core * (os.cpu_count() or 1) + gpus + MAX_RAM_WATTS)

    def _sample_for_ever(self) -> None:
        """What eco2AI's scheduler does between `start` and `stop`; by epoch it would look at each one's end alone."""
        while not self._stopped.wait(SAMPLE_SECONDS):
            with self._lock:
                tracker = self._tracker
                if tracker is None:
                    return
                try:
                    joined = [tracker._cpu, tracker._ram] + ([tracker._gpu] if tracker._gpu.is_gpu_available else [])
                    tracker._consumption += sum(part.calculate_consumption() for part in joined)
                except Exception as error:
                    self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._tracker = None
        log.warning(
            "eco2AI failed, so %s has no further rows; %s goes on: %s: %s",
            self.folder / EMISSION, ENERGY, type(error).__name__, " ".join(str(error).split()),
        )  # fmt: skip

    # --- counters ---

    def _begin_epoch(self, epoch: int, cpu_seconds: float) -> None:
        self._epoch, self._cpu_start, self._gpu_start = epoch, cpu_seconds, _gpu_joules()
        self._start_time, self._start = time.strftime("%Y-%m-%d %H:%M:%S"), time.monotonic()

    def _row(self, cpu_seconds: float) -> dict[str, Any]:
        used, gpu_end = cpu_seconds - self._cpu_start, _gpu_joules()
        seconds = time.monotonic() - self._start
        gpu = None if self._gpu_start is None or gpu_end is None else gpu_end - self._gpu_start
        if gpu is not None and not 0 <= gpu <= MAX_GPUS_WATTS * max(1.0, seconds):
            log.warning(
                "%s, epoch %d: the GPUs' energy counters cannot be right, %.4g J in %.1f s, and are left out",
                self.stage, self._epoch, gpu, seconds,
            )  # fmt: skip
            gpu = None
        kwh = (used * self._watts_per_core + (gpu or 0.0)) / JOULES_PER_KWH
        kg = None if self._kg_per_mwh is None else kwh / KWH_PER_MWH * self._kg_per_mwh
        return {
            "stage": self.stage, "epoch": self._epoch, "complete": 0,
            "start_time": self._start_time, "seconds": seconds, "cpu_seconds": used,
            "cpu_watts_per_core": self._watts_per_core, "gpu_joules": gpu, "kwh": kwh, "kg": kg,
        }  # fmt: skip

    def _write_energy(self, row: dict[str, Any]) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, ENERGY_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows([*self._earlier, row])
        with replacing(self.folder / ENERGY) as temporary:
            temporary.write_text(text.getvalue(), encoding="utf-8")


def check_country(country: str) -> None:
    """Raises ValueError for a code that is not in eco2AI's table; eco2AI would silently take the world's mean."""
    spec = importlib.util.find_spec("eco2ai")
    if spec is None or spec.origin is None:
        return  # without eco2AI there is no coefficient either
    codes = {row["alpha_2_code"] for row in read_rows(Path(spec.origin).parent / "data" / "carbon_index.csv")}
    if country not in codes - {"", "WORLD"}:
        raise ValueError(f"country is {country!r}; it must be a two-letter code of eco2AI's table, such as RU")


def cpu_seconds() -> float:
    """CPU time of this process, and of all that it has waited for."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def _gpu_joules() -> float | None:
    """Sum of the energy counters of all GPUs seen, since the driver was loaded; None without a GPU that has one."""
    try:
        nvml: Any = importlib.import_module("pynvml")
        nvml.nvmlInit()
    except Exception as error:  # no library, no driver, no GPU: nothing to read
        log.debug("no NVML: %s", error)
        return None
    try:
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        return sum(nvml.nvmlDeviceGetTotalEnergyConsumption(handle) for handle in handles) / 1000.0 if handles else None
    except nvml.NVMLError as error:
        log.debug("no energy counter: %s", error)
        return None
    finally:
        nvml.nvmlShutdown()


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a CSV file by their columns' names; none where there is no file."""
    if not path.exists():
        return []
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
