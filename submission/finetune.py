"""Fine-tunes RUDOLPH as a YAML file says, and leaves a model, a submission with it, and emission.csv.

The same command goes on where it was interrupted. Over several GPUs: torchrun --nproc-per-node N finetune.py FILE
"""

import argparse
import logging
import os
import sys
from pathlib import Path

import cores
from training.processes import exit_now

HERE = Path(__file__).resolve().parent
EXIT_OK, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 0, 2, 130

logger = logging.getLogger("finetune")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="settings; training/configs/demo.yaml explains them")
    parser.add_argument("--output", type=Path, metavar="DIR", help="where everything is written (default: the file's)")
    options = parser.parse_args()
    first = os.environ.get("RANK", "0") == "0"
    logging.basicConfig(level=logging.INFO if first else logging.ERROR, format="%(asctime)s %(message)s")
    for library in ("apscheduler", "accelerate", "httpx"):
        logging.getLogger(library).setLevel(logging.WARNING)
    logger.info("%s", cores.settle())

    from transformers.utils.logging import disable_progress_bar

    from training.finetune.config import FineTuning  # torch takes seconds to import
    from training.finetune.trainer import finetune

    if not sys.stderr.isatty():
        disable_progress_bar()

    try:
        target = finetune(FineTuning.from_file(options.config, options.output))
    except (ValueError, OSError) as error:
        logger.error("%s", error)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        logger.error("interrupted; the same command goes on from the last checkpoint")
        return EXIT_INTERRUPTED
    if first:
        archive = target.with_suffix(".zip")
        logger.info("the submission is in %s; to pack and check it:", target)
        print(f'make pack-submission SUBMISSION="{target}" ZIP="{archive}" ARGS=--force')
        print(f'make check-submission ZIP="{archive}"')
        print(f'make test-submission ZIP="{archive}"')
    return EXIT_OK


if __name__ == "__main__":
    exit_now(main())
