"""The submission's entrypoint: answers `../input/input.json` with RUDOLPH and writes `./output`.

The defaults are the leaderboard's; every option is for people.
"""

import argparse
import dataclasses
import logging
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from tqdm import tqdm

from challenge import InputError, PredictionWriter, read_examples

if TYPE_CHECKING:
    from rudolph.answer import Settings

logger = logging.getLogger("run")

HERE = Path(__file__).resolve().parent
EXIT_OK, EXIT_FAILED, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 0, 1, 2, 130
EXIT_CODES = """exit codes:
  0    every example is answered
  1    the model, the device or the output folder cannot be used
  2    the input, an option or a setting is wrong
  130  interrupted

An example with a faulty entry or an unreadable image is answered from the rest of it, with a warning."""
LOG_SECONDS = 15.0


class Stop(Exception):
    """A foreseen end before the answers are there."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class ProgressBars:
    """A bar a stage on a terminal; elsewhere a line every `LOG_SECONDS` and at the end of a stage."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None
        self._stage = ""
        self._next_line = time.monotonic() + LOG_SECONDS

    def __call__(self, stage: str, done: int, total: int) -> None:
        if not sys.stderr.isatty():
            if done == total or time.monotonic() >= self._next_line:
                logger.info("%s: %d of %d", stage, done, total)
                self._next_line = time.monotonic() + LOG_SECONDS
            return
        if self._bar is None or stage != self._stage:
            self._bar, self._stage = tqdm(total=total, desc=stage, unit="question"), stage
        self._bar.update(done - self._bar.n)
        if done == total:
            self._bar.close()


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Answer the challenge's input with RUDOLPH.", epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument(
        "--input", type=Path, default=Path("../input"), metavar="DIR",
        help="folder with input.json and images/ (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--output", type=Path, default=Path("output"), metavar="DIR",
        help="folder for predictions.json and images/ (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--model", metavar="DIR", help="model folder (default: `model` of the settings)")
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto",
        help="auto takes CUDA where it can be used (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, metavar="N", help="seed of every draw (default: `seed` of the settings)")
    parser.add_argument(
        "--batch-size", type=int, metavar="N",
        help="examples at a time; changes speed and memory, not the answers (default: `batch_size` of the settings)",
    )  # fmt: skip
    parser.add_argument(
        "--config", type=Path, default=HERE / "config.yaml", metavar="FILE",
        help="settings (default: config.yaml beside run.py)",
    )  # fmt: skip
    parser.add_argument("--verbose", action="store_true", help="log the route of every example")
    return parser.parse_args(arguments)


def read_settings(options: argparse.Namespace) -> "Settings":
    """Settings of the file, then those of the command line. Raises Stop.

    A relative model folder counts from run.py's folder where the file names it, else from the working directory.
    """
    from rudolph.answer import Settings

    try:
        values = yaml.safe_load(options.config.read_text(encoding="utf-8"))
        settings = Settings.from_dict({} if values is None else values, str(options.config))
    except OSError as error:
        raise Stop(f"{options.config}: cannot be read: {error.strerror}", EXIT_BAD_INPUT) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Stop(f"{options.config}: is not YAML in UTF-8: {error}", EXIT_BAD_INPUT) from error
    except ValueError as error:
        raise Stop(str(error), EXIT_BAD_INPUT) from error
    try:
        return dataclasses.replace(
            settings,
            model=str(HERE / settings.model) if options.model is None else options.model,
            seed=settings.seed if options.seed is None else options.seed,
            batch_size=settings.batch_size if options.batch_size is None else options.batch_size,
        )
    except ValueError as error:
        raise Stop(f"command line: {error}", EXIT_BAD_INPUT) from error


def answer(options: argparse.Namespace) -> None:
    """Read, answer, write. Raises Stop."""
    try:
        examples = read_examples(options.input)  # before torch is imported: a faulty input shows at once
    except InputError as error:
        raise Stop(str(error), EXIT_BAD_INPUT) from error
    _silence_libraries()
    settings = read_settings(options)

    import torch

    from rudolph.answer import ModelError, Question, Rudolph

    start = time.monotonic()
    questions = [Question(e.id, e.texts, e.images, answer_in_text=e.faulty_image) for e in examples]
    try:
        # The output folder comes first: that it cannot be written to should not show after hours of work.
        writer = PredictionWriter(options.output, [example.id for example in examples], settings.jpeg_quality)
        rudolph = Rudolph.from_pretrained(settings.model, options.device, settings.dtype)
        logger.info(
            "%s on %s in %s, loaded in %.1f s; %d examples",
            settings.model, rudolph.model.device, rudolph.model.dtype, time.monotonic() - start, len(examples),
        )  # fmt: skip
        for made in rudolph.answer(questions, settings, ProgressBars()):
            writer.add(made.id, made.text, made.image, image_first=made.fallback == "text")
        path = writer.write()
    except ModelError as error:
        raise Stop(str(error), EXIT_FAILED) from error
    except torch.OutOfMemoryError as error:
        hint = f"batch size {settings.batch_size} does not fit into the device's memory; give a smaller --batch-size"
        raise Stop(f"{hint}: {error}", EXIT_FAILED) from error
    except OSError as error:
        raise Stop(f"output folder {options.output}: {error}", EXIT_FAILED) from error
    logger.info("%s: %d answers in %.1f s", path, len(examples), time.monotonic() - start)


def _silence_libraries() -> None:
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code, which --help documents."""
    options = parse_arguments(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s", force=True)
    for name in ("run", "challenge", "rudolph"):
        logging.getLogger(name).setLevel(logging.DEBUG if options.verbose else logging.INFO)
    try:
        answer(options)
        return EXIT_OK
    except Stop as stop:
        logger.error("%s", " ".join(str(stop).split()))
        return stop.code
    except KeyboardInterrupt:
        logger.error("interrupted")
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    # The leaderboard has no network, and a model folder needs none. Not in main(): whoever calls that from Python keeps
    # an environment of their own.
    for name in ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_PROGRESS_BARS"):
        os.environ.setdefault(name, "1")
    sys.exit(main())
