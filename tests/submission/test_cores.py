"""How many threads are taken, by quota, affinity and load, and that it is settled before torch is loaded."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

import cores

ROOT = Path(__file__).resolve().parents[2]
UNSET = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return root


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, math.inf),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, math.inf),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "300000 100000\n"}, 3.0),
        # The narrowest of a cgroup and those that it lies in.
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
          "sys/fs/cgroup/a/cpu.max": "150000 100000\n"}, 1.5),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "50000 100000\n",
          "sys/fs/cgroup/a/cpu.max": "150000 100000\n"}, 0.5),
        # In a container the path may be the host's.
        ({"proc/self/cgroup": "0::/docker/1234\n", "sys/fs/cgroup/cpu.max": "100000 100000\n"}, 1.0),
        ({"proc/self/cgroup": "0::/../x\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2.0),
        # Version 1, its controllers mounted together or alone.
        ({"proc/self/cgroup": "4:memory:/m\n3:cpu,cpuacct:/docker/1234\n",
          "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}, 2.0),
        ({"proc/self/cgroup": "1:cpu:/a\n0::/\n", "sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": "-1\n",
          "sys/fs/cgroup/cpu/a/cpu.cfs_period_us": "100000\n"}, math.inf),
        ({"proc/self/cgroup": "2:cpuset:/a\n", "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000\n",
          "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}, math.inf),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "nonsense\n"}, math.inf),
    ],
)  # fmt: skip
def test_the_quota_of_cgroups(tmp_path: Path, files: dict[str, str], quota: float) -> None:
    assert cores.cpu_quota(tree(tmp_path, files)) == quota


@pytest.mark.parametrize(
    ("cpus", "quota", "others", "threads"),
    [
        (2, math.inf, 0.0, 2), (2, math.inf, 0.3, 2), (2, math.inf, 1.0, 1), (2, math.inf, 2.0, 1),
        (64, 3.0, 0.0, 3), (64, 3.0, 40.0, 3), (64, 3.0, 63.0, 1), (64, 2.5, 0.0, 2), (3, math.inf, 1.0, 2),
        (2, 1.0, 0.0, 1), (2, 1.5, 0.0, 1), (2, 0.5, 0.0, 1), (1, math.inf, 1.0, 1), (96, math.inf, 0.0, 96),
    ],
)  # fmt: skip
def test_threads_fit_affinity_quota_and_load(cpus: int, quota: float, others: float, threads: int) -> None:
    assert cores.thread_count(cpus, quota, others) == threads


def test_busy_cpus_are_those_of_others_that_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the CPUs asked for alone, from the ticks between two readings; a guest's are not counted twice."""
    rows = iter(
        [
            "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 0 0 0 0 0 0 0 0 0 0\ncpu1 0 0 0 0 0 0 0 0 0 0\ncpu2 0 0 0 0 0 0 0 0 0 0\n",
            "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 9 0 1 0 0 0 0 0 9 0\ncpu1 0 0 0 5 5 0 0 0 0 0\ncpu2 9 0 1 0 0 0 0 0 9 0\n",
            "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 9 5 6 0 0 0 0 0 9 0\ncpu1 0 0 0 5 5 0 0 10 0 0\ncpu2 9 5 6 0 0 0 0 0 9 0\n",
        ]
    )
    assert cores.busy_cpus({0, 1}, tmp_path / "none") == 0.0
    stat = tmp_path / "stat"
    stat.write_text(next(rows))
    monkeypatch.setattr(cores.time, "sleep", lambda seconds: stat.write_text(next(rows)))
    # One of the two CPUs is busy in both tenths (in the second CPU 1 is stolen, too): of it, this process is a quarter.
    own = iter([(1.0, 50.0), (1.025, 50.1), (1.05, 50.2)])
    monkeypatch.setattr(cores, "_own_times", lambda: next(own))
    assert cores.busy_cpus({0, 1}, stat) == pytest.approx(0.75)


def test_a_neighbour_that_is_busy_is_seen() -> None:
    cpu = min(os.sched_getaffinity(0))
    with subprocess.Popen(
        [sys.executable, "-c", "print(flush=True)\nwhile True: pass"], stdout=subprocess.PIPE,
        preexec_fn=lambda: os.sched_setaffinity(0, {cpu}),
    ) as neighbour:  # fmt: skip
        try:
            assert neighbour.stdout is not None
            neighbour.stdout.readline()
            assert cores.busy_cpus({cpu}) > 0.8
        finally:
            neighbour.kill()


def test_a_process_is_not_its_own_neighbour() -> None:
    """A thread of its own computes meanwhile, as when `run.py` reads its settings."""
    cpu = min(os.sched_getaffinity(0))
    code = (
        "import cores, threading, time\n"
        "def compute():\n    while True: pass\n"
        "threading.Thread(target=compute, daemon=True).start()\n"
        "computed, clock = time.process_time(), time.monotonic()\n"
        f"print(cores.busy_cpus({{{cpu}}}), (time.process_time() - computed) / (time.monotonic() - clock))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT / "submission")}
    said = subprocess.check_output(
        [sys.executable, "-c", code], env=environment, preexec_fn=lambda: os.sched_setaffinity(0, {cpu})
    )
    others, own = map(float, said.split())
    assert others + own < 1.2  # of one CPU


SETTLED = """
import json, os, sys
import cores
said = cores.settle()
before = "torch" in sys.modules
import torch
print(json.dumps([said, before, torch.get_num_threads(), os.environ.get("GOMP_SPINCOUNT")]))
"""


def settled(cpus: int, **own: str) -> tuple[str, int, str | None]:
    chosen = sorted(os.sched_getaffinity(0))[:cpus]
    environment = {name: value for name, value in os.environ.items() if name not in UNSET} | own
    done = subprocess.run(
        [sys.executable, "-c", SETTLED], env=environment | {"PYTHONPATH": str(ROOT / "submission")}, text=True,
        capture_output=True, timeout=300, check=True, preexec_fn=lambda: os.sched_setaffinity(0, chosen),
    )  # fmt: skip
    said, before, threads, spins = json.loads(done.stdout)
    assert not before
    return said, threads, spins


def test_torch_takes_what_was_settled() -> None:
    said, threads, spins = settled(1)
    assert (threads, spins) == (1, str(cores.SPIN_COUNT))
    assert said == f"threads: OMP_NUM_THREADS=1 of 1 CPUs, 0.0 of them busy; GOMP_SPINCOUNT={cores.SPIN_COUNT}"


def test_what_is_set_by_hand_goes_before() -> None:
    said, threads, spins = settled(2, OMP_NUM_THREADS="1", OMP_WAIT_POLICY="active")
    assert (threads, spins) == (1, None) and said == "threads: OMP_NUM_THREADS=1; OMP_WAIT_POLICY=active"
    said, threads, spins = settled(2, MKL_NUM_THREADS="1", GOMP_SPINCOUNT="7")
    assert (threads, spins) == (1, "7") and said == "threads: MKL_NUM_THREADS=1; GOMP_SPINCOUNT=7"


def test_both_halves_have_the_same_file() -> None:
    assert (ROOT / "submission/cores.py").read_bytes() == (ROOT / "evaluator/core/cores.py").read_bytes()
