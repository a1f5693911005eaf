"""The card: its name and clocks, its energy counter (NVML), and what it can do at most, measured."""

from __future__ import annotations

import contextlib
import importlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from benchmark.measure import cpu_name

COPY_BYTES = 2**32  # several times any cache
PRODUCT_SIDE = 8192
COUNTER_SECONDS = 2.0  # the energy counter moves some ten times a second


def is_cuda(device: str) -> bool:
    """Whether a device is a GPU of CUDA's."""
    return device.startswith("cuda")


def wait(device: str) -> None:
    """Return when the device has done all that it was given."""
    if is_cuda(device):
        torch.cuda.synchronize()


@contextlib.contextmanager
def nvml(device: str) -> Iterator[tuple[Any, Any] | None]:
    """NVML and the handle of a device; None on a CPU, and where NVML cannot be used."""
    if not is_cuda(device):
        yield None
        return
    try:
        pynvml: Any = importlib.import_module("pynvml")
        pynvml.nvmlInit()
    except Exception:  # no package, no library, no permission: NVML's errors have no common base with import's
        yield None
        return
    try:
        uuid = f"GPU-{torch.cuda.get_device_properties(0).uuid}"
        yield pynvml, pynvml.nvmlDeviceGetHandleByUUID(uuid)
    except pynvml.NVMLError:
        yield None
    finally:
        pynvml.nvmlShutdown()


def asked(device: str, question: Callable[[Any, Any], Any]) -> Any:
    """What `question(pynvml, handle)` gives; None where there is no NVML or it has no answer."""
    with nvml(device) as found:
        if found is None:
            return None
        try:
            return question(*found)
        except found[0].NVMLError:
            return None


def joules(device: str) -> float | None:
    """What the card has taken since its driver was loaded, by its energy counter."""
    millijoules = asked(device, lambda pynvml, handle: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle))
    return None if millijoules is None else millijoules / 1000


def describe(device: str) -> dict[str, Any]:
    """Names and versions, memory, clocks and power as they are now."""
    found: dict[str, Any] = {"device": cpu_name(), "torch": torch.__version__, "cpu": cpu_name()}
    if is_cuda(device):
        properties = torch.cuda.get_device_properties(0)
        found |= {
            "device": properties.name, "memory_bytes": properties.total_memory, "cuda": torch.version.cuda,
            "multiprocessors": properties.multi_processor_count,
            "driver": asked(device, lambda pynvml, _: pynvml.nvmlSystemGetDriverVersion()),
            "power_limit_watts": asked(device, lambda pynvml, handle: pynvml.nvmlDeviceGetPowerManagementLimit(handle)),
            "clocks": clocks(device),
        }  # fmt: skip
        if found["power_limit_watts"] is not None:
            found["power_limit_watts"] /= 1000
    return found


def clocks(device: str) -> dict[str, int] | None:
    """Clocks of the multiprocessors and of the memory now, in MHz."""
    return asked(
        device,
        lambda pynvml, handle: {
            "sm": pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM),
            "memory": pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_MEM),
        },
    )


def seconds_of(run: Callable[[], object], device: str, repeats: int = 5) -> float:
    """The median of the seconds of `run`, after one more to warm up."""
    found = []
    for _ in range(repeats + 1):
        wait(device)
        start = time.perf_counter()
        run()
        wait(device)
        found.append(time.perf_counter() - start)
    return sorted(found[1:])[repeats // 2]


@torch.inference_mode()
def limits(device: str, small: bool) -> dict[str, float]:
    """Bytes a second of a large copy, read and written, and operations a second of a large product in bfloat16."""
    size, side = (2**20, 256) if small else (COPY_BYTES, PRODUCT_SIDE)
    if is_cuda(device):
        size = min(size, torch.cuda.mem_get_info()[0] // 4)
    both = torch.empty(2, size, dtype=torch.uint8, device=device).random_(0, 256)
    copied = seconds_of(lambda: both[0].copy_(both[1]), device)
    square = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    multiplied = seconds_of(lambda: square @ square, device)
    return {"bytes_per_second": 2 * size / copied, "flops": 2 * side**3 / multiplied}


def energy_of(run: Callable[[], object], device: str, seconds: float = COUNTER_SECONDS) -> tuple[float | None, int]:
    """Joules and number of runs, repeated for `seconds` at least; no joules where there is no counter."""
    wait(device)
    before, start, runs = joules(device), time.monotonic(), 0
    if before is None:
        return None, 0
    while time.monotonic() - start < seconds:
        run()
        wait(device)
        runs += 1
    after = joules(device)
    return None if after is None else after - before, runs
