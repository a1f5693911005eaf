"""Build `sample_input/`: 20 examples of each open task and 5 of each hidden one, half real and half generated.

The real half is `real.yaml` on the photographs of `photos/`; the other half comes from the generator of small worlds
(`submission/training/worlds`, held-out split). Everything is drawn from seeds, so that two runs write the same bytes.
`make sample-input` runs it, with `submission/` on Python's path. Needs the Debian fonts named in README.md, and for the
generated half the stamps that the generator needs.
"""

import argparse
import json
import logging
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image, ImageDraw, ImageFilter, ImageFont

HERE = Path(__file__).resolve().parent
FONTS = Path("/usr/share/fonts")
OPEN_TASKS = ("TextQA", "MathQA", "ImageGeneration", "ImageCaptioning", "VisualQA", "TRitW")  # numbers 0..5
# What the hidden tasks of this sample are; the numbers are those of sample_ids.json.
HIDDEN_TASKS = {
    6: ("Hidden1", "an equation inside a picture", "exact_match"),
    7: ("Hidden2", "counting things in a picture", "vqa_meteor"),
    8: ("Hidden3", "a question with options under a picture", "exact_match"),
    9: ("Hidden4", "odd one out", "exact_match"),
    10: ("Hidden5", "text recognition, digits only", "one_minus_ned"),
    11: ("Hidden6", "a caption in a given form", "f1_lemmas"),
}
TASKS = [*enumerate(OPEN_TASKS), *((number, name) for number, (name, _, _) in HIDDEN_TASKS.items())]
OPEN_GENERATED, HIDDEN_GENERATED = 10, 2
SEED = 2022
SIDE = 384  # pixels, the longest side of a picture from a photograph
DRAWN_SIZE = (256, 256)  # pixels, of signs: square, since models crop to the middle square
WORLD_SIDE = 128  # pixels, of the generator's pictures
QUALITY = 84  # of JPEG files
MAX_SEEDS = 2000  # of the generator tried for one kind of example

EQUATION_QUESTIONS = ("Реши уравнение с картинки.", "Чему равно неизвестное на листе?")
DIGIT_QUESTIONS = ("Назови только цифры.", "Какое число на табличке?")
DIGIT_WORDS = ("Квартира", "Кабинет", "Автобус", "Подъезд")
ODD_QUESTIONS = ("Найди лишнее слово.", "Какое слово не подходит к остальным?")
FORM_QUESTIONS = ("Назови предмет одним словом.", "Подпиши картинку, уложись в одно слово.")
CATEGORIES = (
    ("молоко", "хлеб", "сыр", "масло"),
    ("корова", "коза", "овца", "лошадь"),
    ("автобус", "трамвай", "поезд", "самолёт"),
    ("красный", "синий", "зелёный", "жёлтый"),
    ("стол", "шкаф", "диван", "кровать"),
    ("роза", "ромашка", "тюльпан", "мак"),
)
PANELS = (("white", "#22406e"), ("#111111", "#f7f7f7"), ("#111111", "#ffe24a"), ("white", "#7a1f1f"))  # ink, panel
GENERATED_FONTS = ("PTS75F.ttf", "DejaVuSansCondensed-Bold.ttf", "LiberationSerif-Bold.ttf", "PTF75F.ttf")
GENERATED_BACKDROPS = ("brick", "gravel", "meadow", "stream", "sunset")


@dataclass(frozen=True)
class Item:
    """One example: texts and pictures in order, accepted answers, and the reference picture of ImageGeneration."""

    inputs: list[str | Image.Image]
    answers: list[str]
    image: Image.Image | None = None


# ---- drawing


def load_photo(name: str, crop: tuple[float, float, float, float] = (0, 0, 1, 1)) -> Image.Image:
    """A photograph of `photos/`, cropped to (left, top, right, bottom) in shares of it, at most SIDE pixels long."""
    with Image.open(HERE / "photos" / f"{name}.jpg") as opened:
        picture = opened.convert("RGB")
    width, height = picture.size
    left, top, right, bottom = crop
    picture = picture.crop((round(left * width), round(top * height), round(right * width), round(bottom * height)))
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return picture


def load_font(name: str, size: int) -> ImageFont.FreeTypeFont:
    """A font of the Debian packages named in README.md.

    Raises:
        FileNotFoundError: no font file of that name is installed.
    """
    path = next(iter(sorted(FONTS.rglob(name))), None)
    if path is None:
        raise FileNotFoundError(f"font {name} is not under {FONTS}: install the font packages named in README.md")
    return ImageFont.truetype(str(path), size)


def draw_sign(
    rng: random.Random,
    lines: list[str],
    font: str,
    ink: str,
    panel: str,
    photo: str | None,
    border: str | None = None,
) -> Image.Image:
    """Lines on a panel seen at an angle before a photograph (or a plain wall), with noise, blur and uneven light."""
    face = load_font(font, 90)
    boxes = [face.getbbox(line) for line in lines]
    width = int(max(box[2] for box in boxes)) + 90
    row = 120
    board = Image.new("RGB", (width, row * len(lines) + 50), panel)
    pen = ImageDraw.Draw(board)
    if border:
        pen.rounded_rectangle((9, 9, board.width - 10, board.height - 10), 18, outline=border, width=8)
    for number, line in enumerate(lines):
        pen.text((board.width / 2, 25 + row * (number + 0.5)), line, fill=ink, font=face, anchor="mm")
    if photo:
        backdrop = load_photo(photo)
        scale = max(DRAWN_SIZE[0] / backdrop.width, DRAWN_SIZE[1] / backdrop.height)
        backdrop = backdrop.resize((round(backdrop.width * scale) + 1, round(backdrop.height * scale) + 1))
        left, top = (backdrop.width - DRAWN_SIZE[0]) // 2, (backdrop.height - DRAWN_SIZE[1]) // 2
        backdrop = backdrop.crop((left, top, left + DRAWN_SIZE[0], top + DRAWN_SIZE[1]))
    else:
        backdrop = Image.new("RGB", DRAWN_SIZE, tuple(rng.randint(120, 220) for _ in range(3)))
    return weather(rng, hang(rng, board, backdrop))


def hang(rng: random.Random, board: Image.Image, backdrop: Image.Image) -> Image.Image:
    """The board in perspective over the middle of the backdrop, with a soft shadow."""
    width, height = backdrop.size
    scale = min(0.86 * width / board.width, 0.72 * height / board.height)
    half_w, half_h = board.width * scale / 2, board.height * scale / 2
    center_x, center_y = width / 2 + rng.uniform(-6, 6), height / 2 + rng.uniform(-12, 12)
    corners = [
        (
            center_x + sx * half_w + rng.uniform(-0.05, 0.05) * width,
            center_y + sy * half_h + rng.uniform(-0.06, 0.06) * height,
        )
        for sx, sy in ((-1, -1), (1, -1), (1, 1), (-1, 1))
    ]
    sources = [(0.0, 0.0), (board.width, 0.0), (board.width, board.height), (0.0, board.height)]
    coefficients = perspective(corners, sources)
    # Shrink first: PERSPECTIVE samples points, so that a large step would alias thin strokes.
    fine = backdrop.resize((2 * width, 2 * height))
    half = [c / 2 if i in (0, 1, 3, 4, 6, 7) else c for i, c in enumerate(coefficients)]
    mask = Image.new("L", board.size, 255)
    args: dict[str, Any] = {"resample": Image.Resampling.BICUBIC}
    warped = board.transform(fine.size, Image.Transform.PERSPECTIVE, half, **args)
    cover = mask.transform(fine.size, Image.Transform.PERSPECTIVE, half, **args)
    shadow = Image.new("L", fine.size, 0)
    shadow.paste(cover.point(lambda v: v * 0.45), (8, 10))
    fine.paste("black", (0, 0), shadow.filter(ImageFilter.GaussianBlur(7)))
    fine.paste(warped, (0, 0), cover)
    return fine.resize(backdrop.size, Image.Resampling.LANCZOS)


def perspective(targets: list[tuple[float, float]], sources: list[tuple[float, float]]) -> list[float]:
    """The eight coefficients by which PIL maps each target point of the output to its source point."""
    rows, values = [], []
    for (x, y), (u, v) in zip(targets, sources, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    return np.linalg.solve(np.array(rows), np.array(values)).tolist()


def weather(rng: random.Random, picture: Image.Image) -> Image.Image:
    """Light that falls off to one side, a little blur and sensor noise."""
    noise = np.random.default_rng(rng.getrandbits(32))
    pixels = np.asarray(picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.9))), dtype=np.float64)
    start, stop = rng.uniform(0.75, 1.1), rng.uniform(0.75, 1.1)
    light = np.linspace(start, stop, picture.width)[None, :, None]
    pixels = pixels * light + noise.normal(0, rng.uniform(2, 7), pixels.shape)
    return Image.fromarray(pixels.clip(0, 255).round().astype(np.uint8))


def draw_board(rng: random.Random, text: str, font: str = "PTZ56F.ttf") -> Image.Image:
    """A text in chalk on the photographed blackboard."""
    board = load_photo("blackslate")
    board = board.resize((2 * board.width, 2 * board.height), Image.Resampling.LANCZOS)
    face = load_font(font, 84)
    chalk = Image.new("L", board.size, 0)
    ImageDraw.Draw(chalk).text((board.width / 2, board.height / 2), text, fill=235, font=face, anchor="mm")
    chalk = chalk.rotate(rng.uniform(-6, 6), Image.Resampling.BICUBIC, center=(board.width / 2, board.height / 2))
    grain = np.random.default_rng(rng.getrandbits(32)).uniform(0.55, 1, (board.height, board.width))
    strokes = Image.fromarray((np.asarray(chalk) * grain).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.8))
    board.paste("#f2f2ea", (0, 0), strokes)
    return weather(rng, board.resize((board.width // 2, board.height // 2), Image.Resampling.LANCZOS))


# ---- the two halves


def real_items(task: str) -> list[Item]:
    """The items of a task in `real.yaml`, in its order."""
    written = yaml.safe_load((HERE / "real.yaml").read_text("utf-8"))[task]
    return [_real_item(random.Random(f"{SEED}/real/{task}/{number}"), item) for number, item in enumerate(written)]


def _real_item(rng: random.Random, item: dict[str, Any]) -> Item:
    inputs = [_real_input(rng, entry) for entry in item["input"]]
    if "image" in item:
        return Item(inputs, [], load_photo(item["image"]["photo"], item["image"].get("crop", (0, 0, 1, 1))))
    answers = item.get("answers")
    if answers is None:  # a sign: what is written on it, as it stands and in lower case
        lines = next(entry["sign"]["lines"] for entry in item["input"] if isinstance(entry, dict))
        text = " ".join(lines)
        answers = list(dict.fromkeys([text, text.lower()]))
    return Item(inputs, answers)


def _real_input(rng: random.Random, entry: str | dict[str, Any]) -> str | Image.Image:
    if isinstance(entry, str):
        return entry
    if "photo" in entry:
        return load_photo(entry["photo"], entry.get("crop", (0, 0, 1, 1)))
    return draw_board(rng, **entry["board"]) if "board" in entry else draw_sign(rng, **entry["sign"])


def generated_items(task: str) -> Iterator[Item]:
    """Endless examples of an open or hidden task from the generator's held-out split."""
    from training.worlds import make_example

    task_numbers = {name: number for number, name in TASKS}

    def examples(world: str, wanted: Callable[[Any], bool]) -> Iterator[Any]:
        # Each task has seeds of its own: no scene of an open task comes again in a hidden one.
        found, first = 0, task_numbers[task] * MAX_SEEDS
        for seed in range(first, first + MAX_SEEDS):
            example = make_example(world, seed, split="heldout", size=WORLD_SIDE)
            if wanted(example):
                found += 1
                yield example
        raise ValueError(f"{task}: {found} fitting {world} examples in {MAX_SEEDS} seeds")

    if task in OPEN_TASKS:
        for example in examples(task, lambda _: True):
            yield Item(list(example.inputs), list(example.answers), example.image)
    elif task in ("Hidden2", "Hidden3"):
        counting = task == "Hidden2"
        for example in examples("VisualQA", lambda e: e.kind == "count" if counting else e.kind == "what options"):
            yield Item(list(example.inputs), list(example.answers))
    elif task == "Hidden6":
        for number, example in enumerate(examples("VisualQA", lambda e: e.kind == "what" and e.answers[0].isalpha())):
            picture = next(entry for entry in example.inputs if isinstance(entry, Image.Image))
            yield Item([FORM_QUESTIONS[number % len(FORM_QUESTIONS)], picture], list(example.answers))
    else:
        make = {"Hidden1": _make_equation, "Hidden4": _make_odd, "Hidden5": _make_digits}[task]
        number = 0
        while True:
            yield make(random.Random(f"{SEED}/generated/{task}/{number}"), number)
            number += 1


def _make_equation(rng: random.Random, number: int) -> Item:
    factor, value, shift = rng.randint(2, 9), rng.randint(-9, 9), rng.randint(2, 30)
    sign, total = rng.choice((("+", factor * value + shift), ("-", factor * value - shift)))
    text = f"{factor}{rng.choice('xyz')} {sign} {shift} = {total}"
    ink, panel = rng.choice(PANELS)
    picture = draw_sign(rng, [text], rng.choice(GENERATED_FONTS), ink, panel, None)
    question = EQUATION_QUESTIONS[number % len(EQUATION_QUESTIONS)]
    values = rng.sample([v for v in range(value - 6, value + 7) if v != value], 3) + [value]
    rng.shuffle(values)
    options = "; ".join(f"{letter}) {v}" for letter, v in zip("abcd", values, strict=True))
    return Item([question, picture, options], [str(value), "abcd"[values.index(value)]])


def _make_odd(rng: random.Random, number: int) -> Item:
    usual, other = rng.sample(CATEGORIES, 2)
    odd = rng.choice(other)
    words = [*rng.sample(usual, 3), odd]
    rng.shuffle(words)
    options = "; ".join(f"{letter}) {word}" for letter, word in zip("abcd", words, strict=True))
    return Item([ODD_QUESTIONS[number % len(ODD_QUESTIONS)], options], [odd, "abcd"[words.index(odd)]])


def _make_digits(rng: random.Random, number: int) -> Item:
    digits = str(rng.randint(10, 999))
    ink, panel = rng.choice(PANELS)
    lines = [rng.choice(DIGIT_WORDS), digits]
    picture = draw_sign(rng, lines, rng.choice(GENERATED_FONTS), ink, panel, rng.choice(GENERATED_BACKDROPS))
    return Item([DIGIT_QUESTIONS[number % len(DIGIT_QUESTIONS)], picture], [digits])


# ---- the folder


def collect(real_only: bool) -> list[tuple[int, Item]]:
    """All examples with their task numbers, tasks mixed."""
    items: list[tuple[int, Item]] = []
    for number, task in TASKS:
        items += [(number, item) for item in real_items(task)]
        if not real_only:
            wanted = OPEN_GENERATED if task in OPEN_TASKS else HIDDEN_GENERATED
            items += [(number, item) for item, _ in zip(generated_items(task), range(wanted), strict=False)]
    random.Random(SEED).shuffle(items)
    return items


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a JPEG of the pixels alone: Pillow would carry the comments of a photograph over."""
    bare = picture.convert("RGB")
    bare.info.clear()
    bare.save(path, "JPEG", quality=QUALITY, optimize=True)


def write(items: list[tuple[int, Item]], folder: Path) -> None:
    """Write the challenge's files into an existing folder.

    Raises:
        ValueError: an example has an empty text, no answer, or not exactly one kind of answer.
    """
    inputs: dict[str, list[dict[str, str]]] = {}
    truth: dict[str, list[dict[str, Any]]] = {}
    for sub in ("images", "gt_images"):
        (folder / sub).mkdir()
    for number, (task, item) in enumerate(items):
        texts = [entry for entry in item.inputs if isinstance(entry, str)] + item.answers
        if not all(text.strip() for text in texts) or bool(item.answers) == (item.image is not None):
            raise ValueError(f"example {number} of task {task}: empty text, or not either answers or an image: {texts}")
        key = str(number)
        inputs[key] = []
        for entry in item.inputs:
            if isinstance(entry, str):
                inputs[key].append({"type": "text", "content": entry})
            else:
                name = f"images/image_{key}.jpg"
                save_picture(entry, folder / name)
                inputs[key].append({"type": "image", "content": name})
        if item.image is None:
            truth[key] = [{"type": "text", "content": item.answers}]
        else:
            name = f"gt_images/image_{key}.jpg"
            save_picture(item.image, folder / name)
            truth[key] = [{"type": "image", "content": name}]
    sample_ids = {str(number): task for number, (task, _) in enumerate(items)}
    tasks = {
        str(number): {"name": name, "title": title, "output": "text", "metric": metric}
        for number, (name, title, metric) in HIDDEN_TASKS.items()
    }
    for name, content in (("input", inputs), ("ground_truth", truth), ("sample_ids", sample_ids), ("tasks", tasks)):
        (folder / f"{name}.json").write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--real-only", action="store_true", help="leave the generated half out")
    parser.add_argument("--output", type=Path, default=HERE, help="folder to write to (default: this one)")
    arguments = parser.parse_args()
    logging.basicConfig(format="%(message)s")
    logger = logging.getLogger("sample_input")
    logger.setLevel(logging.INFO)
    arguments.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.output, prefix=".build-") as work:
        items = collect(arguments.real_only)
        write(items, Path(work))
        for entry in sorted(Path(work).iterdir()):
            target = arguments.output / entry.name
            if target.is_dir():
                shutil.rmtree(target)
            os.replace(entry, target)
    logger.info("%d examples written to %s", len(items), arguments.output)


if __name__ == "__main__":
    main()
