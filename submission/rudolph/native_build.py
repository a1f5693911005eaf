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
_AVX2, _AVX512 = ("avx2", "bmi2", "f16c", "fma", "movbe"), ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")
#: Instruction sets, the best first: the compiler's names, each behind `-m`, and Linux's for what a processor must have.
SETS = {
    "avx512bf16": ((*_AVX2, *_AVX512, "avx512bf16"), {*_AVX2, *_AVX512, "avx512_bf16"}),
    "avx512": ((*_AVX2, *_AVX512), {*_AVX2, *_AVX512}),
    "avx2": (_AVX2, {*_AVX2}),
}


def library_of(instructions: str) -> Path:
    """Where the library for an instruction set of `SETS` is: beside the environment's packages, under a name that is
    another one where source or options are others.
    """
    said = b"\0".join((SOURCE.read_bytes(), *(option.encode() for option in _options(instructions))))
    name = f"{hashlib.sha256(said).hexdigest()[:16]}-{instructions}.so"
    return Path(sysconfig.get_path("platlib")) / "rudolph_native" / name


def _options(instructions: str) -> list[str]:
    return [*FLAGS, *(f"-m{name}" for name in SETS[instructions][0])]


def built(cpuinfo: Path = Path("/proc/cpuinfo")) -> Path | None:
    """The best library for this processor that is there, if one is. Raises OSError."""
    lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    flags = {flag for line in lines if line.startswith("flags") for flag in line.split()}
    paths = (library_of(instructions) for instructions, (_, needed) in SETS.items() if needed <= flags)
    return next((path for path in paths if path.exists()), None)


def build() -> None:
    """Builds what is not there yet. What was built of other sources stays, as other checkouts may use it. Raises
    OSError, and at the end subprocess.CalledProcessError where the compiler failed for a set.
    """
    compiler = os.environ.get("CXX", "g++").split()
    failed: subprocess.CalledProcessError | None = None
    for instructions in SETS:
        path = library_of(instructions)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            continue
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            subprocess.run([*compiler, *_options(instructions), "-o", temporary, SOURCE], check=True)
            temporary.replace(path)  # whoever loads it never sees half of it
        except subprocess.CalledProcessError as error:
            failed = error
        finally:
            temporary.unlink(missing_ok=True)
    if failed is not None:
        raise failed


if __name__ == "__main__":
    try:
        build()
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"native.cpp is not built for all processors; RUDOLPH may be slower here: {error}", file=sys.stderr)
