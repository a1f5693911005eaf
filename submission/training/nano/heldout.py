"""Held-out examples of the worlds as a data folder of the challenge, with what a model has to beat.

    python -m training.nano.heldout sizes                           # how large the worlds are, counted
    python -m training.nano.heldout export --n 200 --out FOLDER     # data, and predictions of two opponents
    python -m training.nano.heldout passages --out FOLDER           # questions about long passages, as data
    python -m training.nano.heldout pictures FOLDER OUTPUT          # do generated pictures show what was asked?
    python -m training.nano.heldout pictures FOLDER [--vqgan DIR]   # do the true ones, at most through a VQGAN?
    python -m training.nano.heldout routes FOLDER OUTPUT            # was each text-only question answered in kind?

`training.nano.bars` has such examples answered and scored. `export` writes `data/` (the challenge's files),
`kinds.json` and two output folders for the evaluator: `constant/`, for each task the answer that scores best if given
always, and `chance/`, a random one of the options where there are options, else a random training answer; for a
picture, that of another request.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from training.worlds import IMAGE_SIZE, TASKS, make_example, scenes, seeded, textqa
from training.worlds.stamps import COLOURS, nearest_colour
from training.worlds.stories import World
from training.worlds.wording import instruct

log = logging.getLogger("heldout")


def export(out: Path, n: int, first_seed: int, size: int, opponents: bool = True) -> None:
    """Writes `n` examples of each task, seeds `first_seed`..; ids are mixed over the tasks by the order of writing.
    `opponents`: their predictions too.
    """
    data = out / "data"
    for folder in (data / "images", data / "gt_images"):
        folder.mkdir(parents=True, exist_ok=True)
    inputs: dict[str, list[dict[str, str]]] = {}
    truth: dict[str, list[dict[str, Any]]] = {}
    tasks: dict[str, int] = {}
    kinds: dict[str, dict[str, Any]] = {}
    answers: dict[str, list[list[str]]] = {}
    for i in range(n):
        for number, task in enumerate(TASKS):
            rng = seeded("heldout", task, first_seed + i)
            scene = scenes.draw_scene(rng, size) if task == "ImageGeneration" else None
            example = make_example(task, first_seed + i, "heldout", size)
            key = str(len(inputs))
            entries = []
            for entry in example.inputs:
                if isinstance(entry, Image.Image):
                    entry.save(data / "images" / f"{key}.png")
                    entries.append({"type": "image", "content": f"images/{key}.png"})
                else:
                    entries.append({"type": "text", "content": entry})
            inputs[key], tasks[key], kinds[key] = entries, number, {"kind": example.kind}
            if scene is not None and example.image is not None:
                example.image.save(data / "gt_images" / f"{key}.png")
                truth[key] = [{"type": "image", "content": f"gt_images/{key}.png"}]
                shapes = [[thing.colour, thing.name.text] for thing in scene.things if thing.is_shape]
                kinds[key] |= {"background": scene.background, "shapes": shapes}
            else:
                truth[key] = [{"type": "text", "content": example.answers}]
                answers.setdefault(task, []).append(example.answers)
    _write(data / "input.json", inputs)
    _write(data / "ground_truth.json", truth)
    _write(data / "sample_ids.json", tasks)
    _write(out / "kinds.json", kinds)
    if opponents:
        _opponents(out, inputs, truth, tasks, size)


def export_passages(out: Path, n: int, first_seed: int, others: int) -> None:
    """Writes `n` questions of TextQA into out/data, whose passage has `others` stories around the one asked about."""
    data = out / "data"
    data.mkdir(parents=True, exist_ok=True)
    inputs, truth = {}, {}
    for i in range(n):
        rng = seeded("heldout", "passages", others, first_seed + i)
        texts, _, answers = textqa.compose(World(rng, "heldout"), others)
        asked = instruct(rng, "TextQA", *texts, split="heldout")
        inputs[str(i)] = [{"type": "text", "content": text} for text in asked]
        truth[str(i)] = [{"type": "text", "content": answers}]
    _write(data / "input.json", inputs)
    _write(data / "ground_truth.json", truth)
    _write(data / "sample_ids.json", dict.fromkeys(inputs, TASKS.index("TextQA")))


def _opponents(out: Path, inputs: dict[str, Any], truth: dict[str, Any], tasks: dict[str, int], size: int) -> None:
    constants = {number: _best_constant(truth, tasks, number) for number, task in enumerate(TASKS) if _is_text(task)}
    rng = random.Random(0)
    training = {task: [make_example(task, seed, "train", size).answers[0] for seed in range(200)]
                for task in TASKS if _is_text(task)}  # fmt: skip
    pictures = [key for key, number in tasks.items() if not _is_text(TASKS[number])]
    swapped = dict(zip(pictures, pictures[1:] + pictures[:1], strict=True))
    for name in ("constant", "chance"):
        folder = out / name
        (folder / "images").mkdir(parents=True, exist_ok=True)
        predictions = {}
        for key, number in tasks.items():
            if key in swapped:
                picture = Image.open(out / "data" / "gt_images" / f"{swapped[key]}.png")
                picture.save(folder / "images" / f"image_{key}.jpg", quality=90)
                predictions[key] = [{"type": "image", "content": f"images/image_{key}.jpg"}]
                continue
            options = [e["content"] for e in inputs[key] if e["type"] == "text" and "a) " in e["content"]]
            answer = constants[number]
            if name == "chance":
                answer = rng.choice(_split_options(options[-1]) if options else training[TASKS[number]])
            predictions[key] = [{"type": "text", "content": answer}]
        _write(folder / "predictions.json", predictions)


def _best_constant(truth: dict[str, Any], tasks: dict[str, int], number: int) -> str:
    """The answer accepted for most examples of a task."""
    counts = Counter(
        answer for key, entries in truth.items() if tasks[key] == number for answer in set(entries[0]["content"])
    )
    return counts.most_common(1)[0][0]


def _split_options(text: str) -> list[str]:
    """The texts of `a) one; b) two`."""
    return [part.split(") ", 1)[1].strip() for part in text[text.index("a) ") :].split(";") if ") " in part]


def _is_text(task: str) -> bool:
    return task != "ImageGeneration"


def check_pictures(folder: Path, output: Path) -> dict[str, tuple[float, int]]:
    """Shares of generated pictures that show what was asked, each with its n: the background's colour; of a single
    shape its colour, its shape, and both at once; of two shapes the colour and shape of each, on its side.
    """
    kinds = json.loads((folder / "kinds.json").read_text(encoding="utf-8"))
    facts = ("background", "colour", "shape", "colour and shape", "two shapes")
    hits: dict[str, list[bool]] = {fact: [] for fact in facts}
    for key, kind in kinds.items():
        if "background" not in kind:
            continue
        names = _colour_names(output / "images" / f"image_{key}.jpg")
        if kind["background"] in COLOURS:
            border = (names[:4], names[-4:], names[:, :4], names[:, -4:])
            seen = Counter(np.concatenate([part.ravel() for part in border]).tolist())
            hits["background"].append(seen.most_common(1)[0][0] == kind["background"])
        if kind["kind"] == "shape":
            ((colour, shape),) = kind["shapes"]
            hits["colour"].append(bool((names == colour).mean() > 0.1))
            hits["shape"].append(_nearest_shape(names == colour) == shape)
            hits["colour and shape"].append(hits["colour"][-1] and hits["shape"][-1])
        elif kind["kind"] == "two shapes":
            halves = zip((names[:, :32], names[:, 32:]), kind["shapes"], strict=True)
            hits["two shapes"].append(all(_nearest_shape(half == colour) == shape for half, (colour, shape) in halves))
    return {fact: (float(np.mean(values)) if values else float("nan"), len(values)) for fact, values in hits.items()}


def true_pictures(folder: Path, output: Path, vqgan: Path | None = None) -> None:
    """Writes the true pictures as if a model had drawn them: the best that `check_pictures` can find. vqgan: the folder
    of one that they go through, as all that its model draws does.
    """
    from rudolph import VQGAN  # torch takes seconds, and nothing else here needs it
    from rudolph.images import load_image, preprocess, save_jpeg, to_image

    (output / "images").mkdir(parents=True, exist_ok=True)
    model = None if vqgan is None else VQGAN.from_pretrained(vqgan).eval()
    for path in (folder / "data" / "gt_images").iterdir():
        picture = load_image(path)
        if model is not None:
            pixels = preprocess(picture, picture.width)
            picture = to_image(model.decode(model.encode(pixels[None]))[0])
        save_jpeg(picture, output / "images" / f"image_{path.stem}.jpg")


def check_routes(folder: Path, output: Path) -> dict[str, tuple[float, int]]:
    """By task: the share of text-only questions whose first entry is of the right kind, and their number."""
    predictions = json.loads((output / "predictions.json").read_text(encoding="utf-8"))
    tasks = json.loads((folder / "data" / "sample_ids.json").read_text(encoding="utf-8"))
    truth = json.loads((folder / "data" / "ground_truth.json").read_text(encoding="utf-8"))
    hits: dict[str, list[bool]] = {task: [] for task in ("TextQA", "MathQA", "ImageGeneration")}
    for key, number in tasks.items():
        if TASKS[number] in hits:
            hits[TASKS[number]].append(predictions[key][0]["type"] == truth[key][0]["type"])
    return {task: (float(np.mean(values)), len(values)) for task, values in hits.items()}


def _colour_names(picture: Path) -> np.ndarray:
    """The name of the nearest colour of each pixel, [64, 64]; '' for a picture that is not there."""
    if not picture.exists():
        return np.full((64, 64), "")
    pixels = np.asarray(Image.open(picture).convert("RGB").resize((64, 64)))
    return np.array(list(COLOURS))[nearest_colour(pixels)]


def _nearest_shape(mask: np.ndarray) -> str | None:
    """The shape whose outline overlaps a mask [H, W] best, both cut to their boxes and made 32 × 32."""
    if mask.sum() < 30:
        return None
    best = {}
    for shape in scenes.SHAPES:
        alpha = scenes.draw_shape(random.Random(0), shape, "красный").getchannel("A")
        wanted = _boxed(np.asarray(alpha) > 128)
        found = _boxed(mask)
        best[shape] = (wanted & found).sum() / (wanted | found).sum()
    return max(best, key=lambda shape: best[shape])


def _boxed(mask: np.ndarray) -> np.ndarray:
    """A mask cut to its bounding square, whose proportions it keeps, as 32 × 32."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    cut = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    side = max(cut.shape)
    square = np.zeros((side, side), dtype=np.uint8)
    top, left = (side - cut.shape[0]) // 2, (side - cut.shape[1]) // 2
    square[top : top + cut.shape[0], left : left + cut.shape[1]] = cut * 255
    return np.asarray(Image.fromarray(square).resize((32, 32), Image.Resampling.BOX)) > 127


def _write(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document, ensure_ascii=False, indent=1), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.nano.heldout", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    exporting = commands.add_parser("export", help="write the data and the opponents' predictions")
    exporting.add_argument("--size", type=int, default=IMAGE_SIZE)
    long = commands.add_parser("passages", help="write questions about long passages")
    long.add_argument("--others", type=int, default=5, help="stories around the one that is asked about")
    for writing in (exporting, long):
        writing.add_argument("--n", type=int, default=200, help="examples of each task")
        writing.add_argument("--first-seed", type=int, default=0)
        writing.add_argument("--out", type=Path, required=True)
    looking = commands.add_parser("pictures", help="look for the asked colours and shapes in pictures")
    looking.add_argument("--vqgan", type=Path, help="without an output folder: what the true pictures go through")
    routing = commands.add_parser("routes", help="count the text-only questions that were answered in the right kind")
    for checking in (looking, routing):
        checking.add_argument("folder", type=Path, help="what export wrote")
    looking.add_argument("output", type=Path, nargs="?", help="the output folder of run.py (default: true pictures)")
    routing.add_argument("output", type=Path, help="the output folder of run.py")
    counting = commands.add_parser("sizes", help="how many objects, scenes, words, equations, passages there are")
    counting.add_argument("--draws", type=int, default=20_000, help="examples drawn where nothing can be counted")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    for library in ("pymorphy3", "PIL"):
        logging.getLogger(library).setLevel(logging.WARNING)
    if arguments.command == "export":
        export(arguments.out, arguments.n, arguments.first_seed, arguments.size)
    elif arguments.command == "passages":
        export_passages(arguments.out, arguments.n, arguments.first_seed, arguments.others)
    elif arguments.command == "sizes":
        from training.worlds.sizes import sizes

        for line in sizes(arguments.draws):
            log.info("%s", line)
    elif arguments.command == "pictures" and arguments.output is None:
        with tempfile.TemporaryDirectory() as temporary:
            true_pictures(arguments.folder, Path(temporary), arguments.vqgan)
            _tell(check_pictures(arguments.folder, Path(temporary)))
    else:
        check = check_pictures if arguments.command == "pictures" else check_routes
        _tell(check(arguments.folder, arguments.output))


def _tell(found: dict[str, tuple[float, int]]) -> None:
    for fact, (share, n) in found.items():
        log.info("%-20s %.3f of %d", fact, share, n)


if __name__ == "__main__":
    main()
