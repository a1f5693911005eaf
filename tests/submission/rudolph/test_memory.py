"""Memory: what control groups leave, and which errors say that it ran out."""

from pathlib import Path

import pytest
import torch

from rudolph.memory import cgroup_free_bytes, is_out_of_memory

MiB = 2**20


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("CUDA error: out of memory"), RuntimeError("Triton Error [CUDA]: out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:1] . DefaultCPUAllocator: not enough memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)  # fmt: skip
def test_want_of_memory_is_known_whoever_says_so(error: Exception) -> None:
    assert is_out_of_memory(error)


def test_a_fault_of_another_kind_is_no_want_of_memory() -> None:
    with pytest.raises(RuntimeError) as raised:
        torch.zeros(2, 3) @ torch.zeros(2, 3)
    assert not is_out_of_memory(raised.value)


def _group(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (folder / name.replace("__", ".")).write_text(f"{value}\n")


def test_version_2_the_tightest_of_the_groups_and_their_parents_counts(tmp_path: Path) -> None:
    (tmp_path / "cgroup").write_text("0::/pod/run\n")
    root = tmp_path / "fs"
    _group(root / "pod", memory__max=100 * MiB, memory__current=70 * MiB, memory__stat=f"inactive_file {5 * MiB}")
    _group(root / "pod" / "run", memory__max="max", memory__current=60 * MiB)
    assert cgroup_free_bytes(tmp_path / "cgroup", root) == 35 * MiB


def test_version_1_and_a_path_that_only_the_host_knows(tmp_path: Path) -> None:
    (tmp_path / "cgroup").write_text("3:cpu,cpuacct:/x\n2:memory:/docker/0123\n")
    root = tmp_path / "fs"
    _group(
        root / "memory", memory__limit_in_bytes=64 * MiB, memory__usage_in_bytes=50 * MiB,
        memory__stat=f"inactive_file 7\ntotal_inactive_file {MiB}",
    )  # fmt: skip
    assert cgroup_free_bytes(tmp_path / "cgroup", root) == 15 * MiB


def test_no_limit_no_group_and_more_used_than_allowed(tmp_path: Path) -> None:
    assert cgroup_free_bytes(tmp_path / "missing", tmp_path) == 2**60
    (tmp_path / "cgroup").write_text("0::/\n")
    _group(tmp_path, memory__limit_in_bytes=2**63 - 4096, memory__max="max", memory__current=1)
    assert cgroup_free_bytes(tmp_path / "cgroup", tmp_path) == 2**60
    _group(tmp_path, memory__max=MiB, memory__current=2 * MiB)
    assert cgroup_free_bytes(tmp_path / "cgroup", tmp_path) == 0
