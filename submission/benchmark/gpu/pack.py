"""Writes one folder with all that `python -m benchmark.gpu` needs, to be taken to a machine with a GPU.

    cd submission && python -m benchmark.gpu.pack ../build/gpu-check-pack

There: `sh run.sh`. The machine needs torch, transformers, safetensors, numpy, Pillow and PyYAML, and for the parts
learning and co2 accelerate, peft and tensorboard; what it lacks can lie as wheels in the folder's wheels/ (--wheels).
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
MOST_BYTES = 60 * 10**6
#: Of the repository, with what is left out.
TAKEN = {
    "submission": ("output", "weights"), "submission/weights/nano": (), "evaluator": ("assets", "season"),
    "tests/data/rudolph": (), "tests/data/vqgan": (), "tests/data/ruclip": (),
    "sample_input": ("photos", "report.html"),
}  # fmt: skip
ALWAYS_LEFT_OUT = ("__pycache__", "*.pyc", ".*")
RUN = """#!/bin/sh
# Checks and measures on this machine's GPU; figures come into build/gpu-check. Options: sh run.sh --help
set -e
cd "$(dirname "$0")"
if ls wheels/*.whl >/dev/null 2>&1; then
    python3 -m pip install -q --no-index --no-deps --target site wheels/*.whl
    PYTHONPATH="$PWD/site${PYTHONPATH:+:$PYTHONPATH}"
    export PYTHONPATH
fi
cd submission
exec python3 -m benchmark.gpu "$@"
"""


def pack(target: Path, wheels: Path | None) -> int:
    """Writes the folder, whole or not at all; returns its bytes. Raises FileExistsError, ValueError if it is too large.

    wheels: a folder of wheels for the other machine's Python.
    """
    if target.exists():
        raise FileExistsError(f"{target} is there already")
    temporary = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    for name, left_out in TAKEN.items():
        ignored = shutil.ignore_patterns(*ALWAYS_LEFT_OUT, *left_out)
        shutil.copytree(REPOSITORY / name, temporary / name, ignore=ignored)
    if wheels is not None:
        shutil.copytree(wheels, temporary / "wheels")
    (temporary / "run.sh").write_text(RUN, encoding="ascii")
    size = sum(path.stat().st_size for path in temporary.rglob("*") if path.is_file())
    if size > MOST_BYTES:
        shutil.rmtree(temporary)
        raise ValueError(f"the folder would have {size} bytes; it must have at most {MOST_BYTES}: fewer wheels help")
    temporary.rename(target)
    return size


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", type=Path, help="the folder to write; it must not be there yet")
    parser.add_argument("--wheels", type=Path, metavar="DIR", help="wheels for the other machine")
    options = parser.parse_args()
    try:
        size = pack(options.target, options.wheels)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{options.target}: {size / 1e6:.1f} MB; there: sh run.sh")
    return 0


if __name__ == "__main__":
    sys.exit(main())
