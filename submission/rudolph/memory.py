"""How much memory a device has left, and whether it ran out."""

from __future__ import annotations

import gc
from pathlib import Path

import torch

_UNLIMITED = 2**60  # bytes; version 1 of cgroups says 'no limit' with a number near 2**63
#: By torch's allocators, libraries, CUDA itself and Triton, in errors of other kinds.
_SAID = (
    "DefaultCPUAllocator", "can't allocate memory", "std::bad_alloc", "CUBLAS_STATUS_ALLOC_FAILED", "out of memory",
)  # fmt: skip


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch (or Python) raised this for want of memory, on a GPU or on a CPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return any(part in str(error) for part in _SAID)


def free_memory() -> None:
    """Gives back what no tensor uses any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def free_bytes(device: torch.device) -> int:
    """Free memory of a device. On a CPU: what the machine has to give, and what the cgroups of this process leave."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    available = _UNLIMITED
    for line in _read(Path("/proc/meminfo")).splitlines():
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1]) * 1024
    return min(available, cgroup_free_bytes())


def cgroup_free_bytes(proc: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> int:
    """What is left below the tightest memory limit of the process's control groups (version 1 or 2) and their parents;
    2**60 without one. File pages that the kernel can drop at once (`inactive_file`) count as free.
    """
    left = _UNLIMITED
    for line in _read(proc).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        mount = root / "memory" if controllers else root
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if controllers else ("memory.max", "memory.current")
        group = mount / path.lstrip("/")
        # In a container the path may be the host's, of which only the mount's root is seen.
        for folder in (group, *group.parents):
            if not folder.is_relative_to(mount):
                break
            limit, usage = (_read(folder / name).strip() for name in names)
            if not (limit.isdigit() and usage.isdigit()) or int(limit) >= _UNLIMITED:
                continue
            droppable = 0
            for entry in _read(folder / "memory.stat").splitlines():
                name, _, value = entry.partition(" ")
                if name == ("total_inactive_file" if controllers else "inactive_file"):
                    droppable = int(value)
            left = min(left, int(limit) - int(usage) + droppable)
    return max(0, left)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
