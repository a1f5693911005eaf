"""The submission's entrypoint: answers `../input/input.json` with RUDOLPH and writes `./output`.

An input of FusionBrain Challenge 1.0 (see `contract_fbc1`), in `input` or `../input`, is told by its folders.

The defaults are the leaderboard's; every option is for people.
"""

import argparse
import contextlib
import dataclasses
import gc
import logging
import math
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from tqdm import tqdm

import budget
import cores
from budget import Budget, Watch, parse_seconds
from contract import FBC2, KINDS, Example, InputError, Layout, PredictionWriter
from contract_fbc1 import FBC1, is_fbc1
from resume import Journal, fingerprint

if TYPE_CHECKING:
    from rudolph.answer import Output, Rudolph
    from rudolph.settings import Settings

logger = logging.getLogger("run")

HERE = Path(__file__).resolve().parent
EXIT_OK, EXIT_FAILED, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 0, 1, 2, budget.EXIT_INTERRUPTED
EXIT_CODES = """exit codes:
  0    every example is answered, or as many as the budget allowed
  1    the model, the device or the output folder cannot be used
  2    the input, an option or a setting is wrong
  130  interrupted
  143  told to end (SIGTERM)

An example with a faulty entry or an unreadable image is answered from the rest of it, with a warning.

From a few seconds after the model is loaded, predictions.json has an entry for every example at any time; what is not
answered yet has a placeholder. A run that was stopped, however it happened, goes on when it is started again with the
same input, settings and weights (output/.resume.jsonl, removed when all is done)."""
LOG_SECONDS = 15.0
INPUTS = (Path("input"), Path("../input"))  # of FusionBrain Challenge 1.0 and 2.0, in this order


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
    """The options of the command line, by default this process's; ends the process where they are wrong."""
    parser = argparse.ArgumentParser(
        description="Answer the challenge's input with RUDOLPH.", epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument(
        "--input", type=Path, metavar="DIR",
        help="folder with input.json and images/, or with C2C/, HTR/, zsOD/, VQA/ (default: input where it has one of "
        "these four, else ../input)",
    )  # fmt: skip
    parser.add_argument(
        "--output", type=Path, default=Path("output"), metavar="DIR",
        help="folder for predictions.json and images/, or the four prediction_{TASK}.json (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--model", metavar="DIR", help="model folder (default: `model` of the settings)")
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto",
        help="auto takes CUDA where it can be used (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, metavar="N", help="seed of every draw (default: `seed` of the settings)")
    parser.add_argument(
        "--batch-size", type=_batch_size, metavar="N",
        help="examples at a time, or auto: by the free memory; changes speed and memory, not the answers "
        "(default: `batch_size` of the settings)",
    )  # fmt: skip
    parser.add_argument(
        "--budget", metavar="TIME",
        help="end within this time from the start on, such as 90s, 30min, 5h or 18000, with what fits into it: texts "
        f"go before images (default: ${budget.VARIABLE}, else no limit)",
    )  # fmt: skip
    parser.add_argument(
        "--config", type=Path, metavar="FILE",
        help=f"settings (default: {FBC2.config} beside run.py, or {FBC1.config} for FusionBrain Challenge 1.0)",
    )  # fmt: skip
    parser.add_argument("--verbose", action="store_true", help="log the route of every example")
    return parser.parse_args(arguments)


def _batch_size(text: str) -> int | str:
    return text if text == "auto" else int(text)


def read_budget(options: argparse.Namespace, started: float) -> Budget:
    """The budget of the command line, else of the environment. Raises Stop."""
    name, text = "--budget", options.budget
    if text is None:
        name, text = budget.VARIABLE, os.environ.get(budget.VARIABLE)
    try:
        return Budget(parse_seconds(text) if text else math.inf, started)
    except ValueError as error:
        raise Stop(f"{name}: {error}", EXIT_BAD_INPUT) from error


def find_input(options: argparse.Namespace) -> tuple[Layout, Path]:
    """The input folder and how it is laid out."""
    for folder in INPUTS if options.input is None else (options.input,):
        if is_fbc1(folder):
            return FBC1, folder
    return FBC2, folder


def read_settings(options: argparse.Namespace, config: Path) -> "Settings":
    """Settings of the file, then those of the command line. Raises Stop.

    A relative model folder counts from run.py's folder where the file names it, else from the working directory.
    """
    from rudolph.settings import Settings

    try:
        values = yaml.safe_load(config.read_text(encoding="utf-8"))
        settings = Settings.from_dict({} if values is None else values, str(config))
    except OSError as error:
        raise Stop(f"{config}: cannot be read: {error.strerror}", EXIT_BAD_INPUT) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Stop(f"{config}: is not YAML in UTF-8: {error}", EXIT_BAD_INPUT) from error
    except ValueError as error:
        raise Stop(str(error), EXIT_BAD_INPUT) from error
    given = {
        "model": str(HERE / settings.model) if options.model is None else options.model,
        "vqgan": settings.vqgan and str(HERE / settings.vqgan),
        "seed": options.seed,
        "batch_size": options.batch_size,
    }
    given = {name: value for name, value in given.items() if value is not None}
    try:
        return Settings.from_dict(vars(settings) | given, "command line")
    except ValueError as error:
        raise Stop(str(error), EXIT_BAD_INPUT) from error


def answer(options: argparse.Namespace, limit: Budget, watch: Watch | None) -> None:
    """Read, answer, write. Raises Stop."""
    layout, root = find_input(options)
    with ThreadPoolExecutor(1, thread_name_prefix="cores") as pool:  # it mostly waits
        settled = None if watch is None else pool.submit(cores.settle)
        try:
            examples = layout.read(root)  # before torch is imported: a faulty input or setting shows at once
        except InputError as error:
            raise Stop(str(error), EXIT_BAD_INPUT) from error
        settings = read_settings(options, options.config or HERE / layout.config)
        if settled is not None:
            logger.info("%s", settled.result())

    from rudolph.answer import ModelError, Rudolph
    from rudolph.memory import is_out_of_memory

    start = time.monotonic()
    try:
        # The output folder comes first: that it cannot be written to should not show after hours of work.
        with layout.writer(options.output, examples, settings.jpeg_quality) as writer:
            if watch is not None:
                watch.save = writer.save_soon
            rudolph = Rudolph.from_pretrained(
                settings.model, options.device, settings.dtype, settings.fast, settings.vqgan
            )
            logger.info(
                "%s on %s in %s, loaded in %.1f s; %d examples",
                settings.model, rudolph.model.device, rudolph.model.dtype, time.monotonic() - start, len(examples),
            )  # fmt: skip
            run_id = _run_fingerprint(rudolph, examples, settings, root, layout.files)
            if watch is not None:
                _keep_what_is_there()
            complete = _answer_all(rudolph, writer, examples, settings, run_id, limit)
            path = writer.finish(keep_journal=not complete)
    except ModelError as error:
        raise Stop(str(error), EXIT_FAILED) from error
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise Stop(f"not even one example at a time fits into the device's memory: {error}", EXIT_FAILED) from error
    except OSError as error:
        raise Stop(f"output folder {options.output}: {error}", EXIT_FAILED) from error
    logger.info("%d entries in %s after %.1f s", len(examples), path, time.monotonic() - start)


def _answer_all(
    rudolph: "Rudolph", writer: PredictionWriter, examples: Sequence[Example], settings: "Settings", run_id: str,
    limit: Budget,
) -> bool:  # fmt: skip
    """Whether all was answered: there was time for it."""
    from rudolph.answer import EMPTY_ANSWER, Done, Question

    journal = Journal(writer.folder, run_id)
    records = writer.begin(EMPTY_ANSWER, rudolph.empty_image(), journal)
    made: set[tuple[str, Output]] = {(r["id"], kind) for r in records for kind in KINDS if kind in r}
    done = Done(frozenset(made), {r["id"]: r["text_probability"] for r in records if "text_probability" in r})
    questions = [Question(e.id, e.texts, e.images, answer_in_text=e.answer_in_text) for e in examples]
    wanted: dict[str, tuple[Output, ...]] = {}
    for part in rudolph.answer_each(questions, settings, ProgressBars(), seconds_left=limit.left, done=done):
        writer.add(part.id, part.outputs, part.text, part.image, part.text_probability)
        if part.outputs is not None:
            wanted[part.id] = tuple(kind for kind in part.outputs if not kind == part.fallback == "image")
        made |= {(part.id, kind) for kind in KINDS if getattr(part, kind) is not None}
    lacking = sum(e.id not in wanted or any((e.id, kind) not in made for kind in wanted[e.id]) for e in examples)
    if lacking:
        logger.warning("%d of %d examples have a placeholder, for want of time", lacking, len(examples))
    return not lacking


def _run_fingerprint(
    rudolph: "Rudolph", examples: Sequence[Example], settings: "Settings", root: Path, asked: Sequence[str]
) -> str:
    """Of all that answers depend on. The batch size is not part of it, nor is where the model's, the VQGAN's and the
    input's folder lie.
    """
    import torch

    from rudolph.answer import vqgan_of
    from rudolph.native_build import built

    library = built()  # its name has a digest of its source
    values = dataclasses.asdict(settings) | {
        "model": None, "vqgan": None, "batch_size": None, "device": rudolph.model.device.type,
        "dtype": str(rudolph.model.dtype), "torch": torch.__version__,
        "native": None if rudolph.model.native is None or library is None else library.name,
        "images": [[e.id, [path.relative_to(root).as_posix() for path in e.images]] for e in examples],
    }  # fmt: skip
    model = Path(settings.model)
    vqgan = vqgan_of(model, settings.vqgan)
    images = dict.fromkeys(path for example in examples for path in example.images)
    files = [(name, root / name) for name in asked if (root / name).is_file()]
    files += [(path.relative_to(root).as_posix(), path) for path in images]
    for kind, folder, found in (
        ("model", model, model.rglob("*")), ("vqgan", vqgan, vqgan.rglob("*")),
        ("code", HERE, (*HERE.glob("*.py"), *HERE.glob("rudolph/*.py"))),
    ):  # fmt: skip
        files += [(f"{kind}/{path.relative_to(folder)}", path) for path in sorted(found) if path.is_file()]
    return fingerprint(values, files)


def _keep_what_is_there() -> None:
    """The garbage collector passes over all objects there are from now on: half a million, of modules for the most
    part, which stay to the end. To look through them costs a run half a second, most of it at the very end.
    """
    gc.freeze()
    gc.enable()


def main(arguments: Sequence[str] | None = None, own_process: bool = False) -> int:
    """Command line; returns the exit code, which --help documents.

    own_process: signals and the last moment of the budget may end the process, how many threads it has is chosen, and
    the garbage collector begins when the model is loaded.
    """
    started = time.monotonic()  # Python and what is imported by now took some 0.2 s: see `Budget`
    options = parse_arguments(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s", force=True)
    for name in ("run", "contract", "contract_fbc1", "rudolph"):
        logging.getLogger(name).setLevel(logging.DEBUG if options.verbose else logging.INFO)
    try:
        limit = read_budget(options, started)
        with contextlib.closing(Watch(limit)) if own_process else contextlib.nullcontext() as watch:
            answer(options, limit, watch)
        return EXIT_OK
    except Stop as stop:
        logger.error("%s", " ".join(str(stop).split()))
        return stop.code
    except KeyboardInterrupt:
        logger.error("interrupted")
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    gc.disable()  # while modules are imported: see `_keep_what_is_there`
    sys.exit(main(own_process=True))
