"""Build `sample_input/fbc1/`: 24 programs, words and questions and 12 pictures each for zsOD and VQA, with their truth.

They come from the generator of FusionBrain Challenge 1.0's worlds (`submission/training/fbc1`, held-out split, numbers
from 0 on), so two runs write the same bytes. Needs the Debian packages named in README.md. With `submission/` on
Python's path: `PYTHONPATH=submission python sample_input/fbc1/build.py`.
"""

import argparse
import shutil
from pathlib import Path

from training.fbc1.example import TASKS
from training.fbc1.export import export

HERE = Path(__file__).resolve().parent
EXAMPLES = 24
FIRST_SEED = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=HERE, help="where it is written (default: this folder)")
    folder = parser.parse_args().output
    for task in TASKS:  # pictures of an earlier run
        shutil.rmtree(folder / task, ignore_errors=True)
    export(folder, EXAMPLES, FIRST_SEED)


if __name__ == "__main__":
    main()
