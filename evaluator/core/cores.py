"""How many threads to compute with, and how they wait for each other. To be settled before torch is loaded.

torch takes a thread for every CPU that it may run on, and at the end of each parallel part OpenMP's threads wait for
the slowest, first by spinning. Under a quota of CPU time, or beside a process that is busy, the slowest waits for a CPU
on which another spins: with one busy neighbour on two CPUs a run took six times as long.

submission/ and evaluator/ share no code, so each has this file.
"""

import math
import os
import time
from pathlib import Path

THREADS, SPINS = "OMP_NUM_THREADS", "GOMP_SPINCOUNT"
#: Set by hand, these go before what is chosen here.
_OF_THREADS, _OF_SPINS = (THREADS, "MKL_NUM_THREADS"), (SPINS, "OMP_WAIT_POLICY")
#: Some 10 µs: longer than threads that all have a CPU wait for each other. libgomp's own is 300 000, milliseconds.
SPIN_COUNT = 1000
_SAMPLES, _SAMPLE_SECONDS = 2, 0.1


def settle() -> str:
    """Sets the number of threads and their spins for this process and those it starts; returns a line for the log."""
    said = [f"{name}={os.environ[name]}" for name in (*_OF_THREADS, *_OF_SPINS) if name in os.environ]
    if not any(name in os.environ for name in _OF_THREADS):
        cpus, quota = os.sched_getaffinity(0), cpu_quota()
        others = busy_cpus(cpus) if min(len(cpus), quota) >= 2 else 0.0
        os.environ[THREADS] = str(thread_count(len(cpus), quota, others))
        limit = "" if math.isinf(quota) else f", a quota of {quota:g}"
        said.append(f"{THREADS}={os.environ[THREADS]} of {len(cpus)} CPUs{limit}, {others:.1f} of them busy")
    if not any(name in os.environ for name in _OF_SPINS):
        os.environ[SPINS] = str(SPIN_COUNT)
        said.append(f"{SPINS}={SPIN_COUNT}")
    return f"threads: {'; '.join(said)}"


def thread_count(cpus: int, quota: float, others: float) -> int:
    """One for each CPU that others leave free, within the quota: with more than it allows, all stand still at times."""
    return max(1, math.floor(min(cpus, quota, cpus - others + 0.5)))


def cpu_quota(root: Path = Path("/")) -> float:
    """CPUs' worth of time that this process's cgroups allow, version 1 or 2; infinite without a limit."""
    quotas = [math.inf]
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return math.inf
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
        # In a container the path can be the host's, which is not there: then the mount itself is this cgroup.
        inside = [part for part in path.split("/") if part not in ("", "..")]
        for depth in range(len(inside) + 1):
            quotas.append(_quota_of(mount.joinpath(*inside[:depth])))
    return min(quotas)


def _quota_of(folder: Path) -> float:
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text(encoding="utf-8")
            period = (folder / "cpu.cfs_period_us").read_text(encoding="utf-8")
        return float(quota) / float(period) if float(quota) > 0 else math.inf  # "max" or -1: no limit
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf


def busy_cpus(cpus: set[int], stat: Path = Path("/proc/stat")) -> float:
    """How many of these CPUs others keep busy beside this process; 0 where that cannot be read.

    The least of several moments counts: what is over in a tenth of a second is no neighbour.
    """
    seen = []
    before, began = _times(stat, cpus), _own_times()
    for _ in range(_SAMPLES):
        time.sleep(_SAMPLE_SECONDS)
        after, now = _times(stat, cpus), _own_times()
        shares = [
            (busy - before[cpu][0]) / max(1, total - before[cpu][1])
            for cpu, (busy, total) in after.items() if cpu in before
        ]  # fmt: skip
        own = (now[0] - began[0]) / (now[1] - began[1])  # of this process's other threads
        seen.append(max(0.0, sum(shares) - own))
        before, began = after, now
    return min(seen)


def _own_times() -> tuple[float, float]:
    """Seconds that this process has computed, all its threads together, and the clock."""
    return time.process_time(), time.monotonic()


def _times(stat: Path, cpus: set[int]) -> dict[int, tuple[int, int]]:
    """Ticks that each CPU was busy, and all its ticks. A guest's are part of its host's; time stolen was not ours."""
    try:
        lines = stat.read_text(encoding="ascii").splitlines()
        times = {int(line.split()[0][3:]): [int(ticks) for ticks in line.split()[1:9]]
                 for line in lines if line.startswith("cpu") and line[3:4].isdigit()}  # fmt: skip
        return {cpu: (sum(row) - row[3] - row[4], sum(row)) for cpu, row in times.items() if cpu in cpus}
    except (OSError, ValueError, IndexError):
        return {}
