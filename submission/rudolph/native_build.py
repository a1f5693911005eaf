"""Builds `native.cpp` for the instruction sets that processors have, into the environment that runs this file.

    python submission/rudolph/native_build.py

`make` and docker/Dockerfile do so where they install packages, so it needs nothing but Python and a C++ compiler:
`CXX`, else g++.
"""

import hashlib
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

SOURCE = Path(__file__).with_name("native.cpp")
FLAGS = ("-std=c++17", "-O3", "-fno-math-errno", "-fopenmp", "-fPIC", "-shared")
_V4 = {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
#: Instruction sets, the best first: the compiler's options, and Linux's names for what a processor must have.
SETS = {
    "avx512bf16": (("-march=x86-64-v4", "-mavx512bf16"), {*_V4, "avx512_bf16"}),
    "avx512": (("-march=x86-64-v4",), _V4),
    "avx2": (("-march=x86-64-v3",), {"avx2", "bmi2", "f16c", "fma", "movbe"}),
}


def library_of(instructions: str) -> Path:
    """Where the library for an instruction set of `SETS` is: beside the environment's packages, under a name that is
    another one where source or options are others.
    """
    said = b"\0".join((SOURCE.read_bytes(), *(option.encode() for option in (*FLAGS, *SETS[instructions][0]))))
    name = f"{hashlib.sha256(said).hexdigest()[:16]}-{instructions}.so"
    return Path(sysconfig.get_path("platlib")) / "rudolph_native" / name


def built(cpuinfo: Path = Path("/proc/cpuinfo")) -> Path | None:
    """The best library for this processor; None where it has no set of `SETS`, or nothing was built. Raises OSError."""
    lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    flags = {flag for line in lines if line.startswith("flags") for flag in line.split()}
    for instructions, (_, needed) in SETS.items():
        if needed <= flags:
            path = library_of(instructions)
            return path if path.exists() else None
    return None


def build() -> None:
    """Builds what is not there yet, and removes what was built before of other sources. Raises OSError, and
    subprocess.CalledProcessError where the compiler fails.
    """
    wanted = {instructions: library_of(instructions) for instructions in SETS}
    folder = next(iter(wanted.values())).parent
    folder.mkdir(parents=True, exist_ok=True)
    compiler = os.environ.get("CXX", "g++").split()
    for instructions, path in wanted.items():
        if not path.exists():
            temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
            try:
                subprocess.run([*compiler, *FLAGS, *SETS[instructions][0], "-o", temporary, SOURCE], check=True)
                temporary.replace(path)  # whoever loads it never sees half of it
            finally:
                temporary.unlink(missing_ok=True)
    for old in set(folder.glob("*.so")) - set(wanted.values()):
        old.unlink()


if __name__ == "__main__":
    try:
        build()
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"native.cpp is not built, so RUDOLPH is slower on a CPU: {error}", file=sys.stderr)
