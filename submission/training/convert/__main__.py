"""`python -m training.convert SOURCE --input … --output …`: a public data set in the challenge's training format."""

from __future__ import annotations

import argparse
import itertools
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from training.convert.counter import RowCounter
from training.convert.mathematics import mathematics
from training.convert.pictures import coco, visual_genome
from training.convert.signs import sberidp, start
from training.convert.source import ConvertSettings, Part, Source
from training.convert.text_qa import muserc, sberquad
from training.convert.writer import Writer
from training.data_format import FOLDERS, SPLITS, DataError, read_split, write_evaluation_data
from training.worlds import TASKS, make_example, scene_example, scenes, seeded

logger = logging.getLogger("training.convert")

SOURCES = {
    "sberquad": Source(("TextQA",), "SberQuAD → textqa: SQuAD's JSON, JSON lines or Parquet", sberquad),
    "muserc": Source(("TextQA",), "MuSeRC → textqa: train.jsonl, val.jsonl", muserc),
    "mathematics": Source(("MathQA",), "DeepMind Mathematics → mathqa: folders with algebra__linear_1d.txt, "
                          "algebra__linear_2d.txt, comparison__*.txt", mathematics),
    "coco": Source(("ImageCaptioning", "ImageGeneration"), "COCO → captioning, generation: captions_*.json", coco),
    "visual_genome": Source(("VisualQA",), "Visual Genome → vqa: question_answers.json, image_data.json",
                            visual_genome),
    "start": Source(("TRitW",), "START → text_recognition: info.csv with images/, or COCO-like JSON", start),
    "sberidp": Source(("TRitW",), "SberIDP → text_recognition: a table or COCO-like JSON", sberidp),
}  # fmt: skip
SCENE_TASKS = ("ImageGeneration", "ImageCaptioning", "VisualQA")
SHAPES = tuple((kind, share) for kind, share in scenes.KINDS if "shape" in kind)
VAL_SHARE = 0.05  # where a source has no part of its own that validates
EXIT_OK, EXIT_BAD_DATA, EXIT_FAILED, EXIT_INTERRUPTED = 0, 1, 3, 130
EXIT_CODES = """exit codes:
  0    written
  1    the data cannot be used: a file, or more bad rows than --tolerance
  2    the command line is wrong
  3    the output cannot be written
  130  interrupted

A folder of --output appears whole or not at all."""


def convert(
    name: str, settings: ConvertSettings, output: Path, *, val_share: float | None = None, limit: int | None = None,
    max_side: int | None = None, tolerance: float = 0.01, replace: bool = False,
) -> None:  # fmt: skip
    """Convert the source `name` into task folders of `output`; a run that raises leaves `output` as it was.

    Raises DataError where the source cannot be read, or where more than `tolerance` of its rows is bad; OSError where
    `output` cannot be written to.
    """
    source = SOURCES[name]
    parts = source.parts(settings)
    if val_share is None:
        val_share = 0.0 if any(part.name == "val" for part in parts) else VAL_SHARE
    with Writer(
        output, name, source.tasks, settings.report, seed=settings.seed, val_share=val_share, limit=limit,
        max_side=max_side, replace=replace,
    ) as writer:  # fmt: skip
        for part in sorted(parts, key=_val_first):
            if writer.is_full(part.name):
                continue
            for row in part.rows:
                writer.add(row, part.name)
                if writer.is_full(part.name):
                    break
        writer.finish(tolerance)


def _val_first(part: Part) -> bool:
    return part.name != "val"


def write_worlds(
    output: Path, tasks: tuple[str, ...], limit: int, val: int, size: int, shapes: bool, replace: bool
) -> None:
    """Write `limit` examples of each task for training and `val` for validation, from the project's own generator.

    With `shapes`, no scene shows the objects of Debian's stamps.
    """
    report = RowCounter("worlds")
    with Writer(output, "worlds", tasks, report, replace=replace) as writer:
        for task in tasks:
            for split, world, number in (("train", "train", limit), ("val", "heldout", val)):
                for seed in range(number):
                    if shapes and task in SCENE_TASKS:
                        rng = seeded(world, task, seed)
                        example = scene_example(task, rng, scenes.draw_scene(rng, size, SHAPES), world)
                    else:
                        example = make_example(task, seed, world, size)
                    writer.add_ready(task, split, example.inputs, example.answers, example.image)
        writer.finish(0.0)


def write_evaluation(data: Path, output: Path, split: str, limit: int | None) -> int:
    """Write a split of all tasks that a data folder has as a data folder of the evaluator; returns the examples."""
    samples = itertools.chain.from_iterable(read_split(data, task, split)[:limit] for task in FOLDERS)
    return write_evaluation_data(samples, output)


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options of the command line; ends the process where they are wrong."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m training.convert", description=__doc__, epilog=EXIT_CODES, formatter_class=raw
    )
    commands = parser.add_subparsers(dest="command", metavar="SOURCE", required=True)
    for name, source in SOURCES.items():
        command = commands.add_parser(
            name, help=source.help, description=source.parts.__doc__, epilog=EXIT_CODES, formatter_class=raw
        )
        command.add_argument("--input", type=Path, required=True, nargs="+", help="files, or folders to look into")
        command.add_argument("--output", type=Path, required=True, help="the data folder; task folders appear in it")
        command.add_argument("--val-share", type=_share, help="share of the documents or images to validate on, chosen "
                             f"by a hash of each; default: {VAL_SHARE}, or 0 where the source has a part for it")
        command.add_argument("--limit", type=_positive, help="at most so many examples of each task and part")
        command.add_argument("--seed", type=int, default=0, help="of wordings, options and what is drawn; default: 0")
        command.add_argument("--tolerance", type=_share, default=0.01, help="share of bad rows above which nothing is "
                             "written; default: 0.01")
        command.add_argument("--replace", action="store_true", help="replace task folders that are there")
        if set(source.tasks) & {"ImageCaptioning", "VisualQA", "TRitW"}:
            command.add_argument("--images", type=Path, help="the folder of images; default: beside the annotations")
            command.add_argument("--max-side", type=_positive, help="make images smaller, to so many pixels")
        if name in ("coco", "visual_genome"):
            command.add_argument("--translations", type=Path, help="a JSON object of translations by their originals")
        if name == "visual_genome":
            command.add_argument("--per-image", type=int, default=1, help="questions an image, 0 for all; default: 1")
        if source.tasks == ("TRitW",):
            command.add_argument("--crop", action="store_true", help="an example a box, cut out, instead of an image")
    worlds = commands.add_parser("worlds", help="the project's own generator → all tasks; needs no download")
    worlds.add_argument("--output", type=Path, required=True)
    worlds.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    worlds.add_argument("--limit", type=_positive, required=True, help="examples of each task for training")
    worlds.add_argument("--val", type=int, required=True, help="examples of each task for validation")
    worlds.add_argument("--size", type=_positive, default=64, help="side of the pictures in pixels; default: 64")
    worlds.add_argument("--shapes", action="store_true", help="scenes of shapes alone, for which no stamps are needed")
    worlds.add_argument("--replace", action="store_true", help="replace task folders that are there")
    evaluation = commands.add_parser("evaluation", help="a data folder → one for run.py and the evaluator: input.json, "
                                     "ground_truth.json, …")
    evaluation.add_argument("--input", type=Path, required=True, help="the data folder")
    evaluation.add_argument("--output", type=Path, required=True, help="a folder that does not exist")
    evaluation.add_argument("--split", choices=SPLITS, default="val")
    evaluation.add_argument("--limit", type=_positive, help="at most so many examples of each task")
    return parser.parse_args(arguments)


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text}; allowed: 0 to 1")
    return share


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text}; allowed: 1 and more")
    return number


def run(options: argparse.Namespace) -> None:
    """Raises DataError, OSError."""
    if options.command == "worlds":
        write_worlds(
            options.output, tuple(options.tasks), options.limit, options.val, options.size, options.shapes,
            options.replace,
        )  # fmt: skip
    elif options.command == "evaluation":
        number = write_evaluation(options.input, options.output, options.split, options.limit)
        logger.info("%s: %d examples", options.output, number)
    else:
        given = vars(options)
        settings = ConvertSettings(
            options.input, RowCounter(options.command, options.input), given.get("images"), given.get("translations"),
            options.seed, given.get("crop", False), given.get("per_image", 1),
        )  # fmt: skip
        convert(
            options.command, settings, options.output, val_share=options.val_share, limit=options.limit,
            max_side=given.get("max_side"), tolerance=options.tolerance, replace=options.replace,
        )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code, which --help documents."""
    options = parse_arguments(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", force=True)
    logging.getLogger("training").setLevel(logging.INFO)
    try:
        run(options)
        return EXIT_OK
    except DataError as error:
        logger.error("%s", error)
        return EXIT_BAD_DATA
    except OSError as error:
        logger.error("%s: %s", options.output, error)
        return EXIT_FAILED
    except KeyboardInterrupt:
        logger.error("interrupted")
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
