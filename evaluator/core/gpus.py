"""The NVIDIA GPUs of this machine, as far as its driver tells of them."""

import importlib
import logging
from dataclasses import dataclass
from typing import Any

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Gpu:
    """A GPU as its driver names it: `memory` and `used` in bytes, None where it does not say."""

    index: int
    uuid: str
    name: str
    memory: int | None
    used: int | None


@dataclass(frozen=True)
class Gpus:
    """The GPUs that can be used. `absent` says why there is no driver to ask, and `refused` what it does not answer, a
    line each: a GPU that is lost, or one that this user may not ask about.
    """

    usable: tuple[Gpu, ...] = ()
    driver: str = ""
    absent: str = ""
    refused: tuple[str, ...] = ()


def find() -> Gpus:
    """Ask NVML, which can refuse any single question after it has begun. A GPU whose UUID is not told cannot be named
    to a container, and is none of the usable ones.
    """
    try:
        nvml = _begin()
    except Exception as error:
        return Gpus(absent=str(error) or type(error).__name__)
    refused: list[str] = []

    def ask(subject: str, question: str, *arguments: Any) -> Any:
        try:
            return getattr(nvml, question)(*arguments)
        except Exception as error:  # NVMLError, or a library of another age that lacks the question
            refused.append(f"{subject}: {error}")
            return None

    try:
        driver = ask("the driver's version", "nvmlSystemGetDriverVersion") or ""
        usable = []
        for index in range(ask("the number of GPUs", "nvmlDeviceGetCount") or 0):
            handle = ask(f"GPU {index}", "nvmlDeviceGetHandleByIndex", index)
            uuid = None if handle is None else ask(f"GPU {index}'s UUID", "nvmlDeviceGetUUID", handle)
            if uuid is None:
                continue
            name = ask(f"GPU {index}'s name", "nvmlDeviceGetName", handle) or "GPU of an unknown name"
            memory = ask(f"GPU {index}'s memory", "nvmlDeviceGetMemoryInfo", handle)
            usable.append(Gpu(index, uuid, name, getattr(memory, "total", None), getattr(memory, "used", None)))
    finally:
        ask("the end", "nvmlShutdown")
    return Gpus(tuple(usable), driver, "", tuple(refused))


def energy_joules() -> float | None:
    """Sum of the energy counters of all GPUs, in joules since the driver was loaded; None where a GPU has none, or no
    GPU is there.
    """
    try:
        nvml = _begin()
    except Exception:
        return None
    try:
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        return sum(nvml.nvmlDeviceGetTotalEnergyConsumption(handle) for handle in handles) / 1000.0 if handles else None
    except nvml.NVMLError as error:
        logger.debug("no energy counter: %s", error)
        return None
    finally:
        nvml.nvmlShutdown()


def _begin() -> Any:
    """NVML, which must be shut down. Raises any kind of exception where there is no library, no driver or no GPU:
    NVML's errors have no common base with import's.
    """
    try:
        nvml: Any = importlib.import_module("pynvml")
        nvml.nvmlInit()
    except Exception as error:
        logger.debug("no NVML: %s", error)
        raise
    return nvml
