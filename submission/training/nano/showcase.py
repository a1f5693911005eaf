"""What `nano` makes of fixed requests and of the first held-out examples, as it comes out: pictures and a page.

    cd submission && python -m training.nano.showcase --out ../docs/nano

writes strip.png (pictures and answers), zero_shot.png (the four zero-shot uses) and README.md, which has all of it as
text. Nothing is chosen: requests are those below, examples the first numbers of the held-out split, draws the first
seeds, settings those of config.yaml. The same weights make the same files on one machine; fonts and scenes are those of
the generator.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from PIL import Image, ImageDraw, ImageFont

from rudolph import Question, Rudolph, Sampling, Settings, caption, classify, continue_text, inpaint
from rudolph.answer import join_texts
from rudolph.files import sha256_of
from rudolph.images import preprocess, to_image
from training.worlds import IMAGE_SIZE, Example, make_example, scenes, seeded
from training.worlds.signs import FONTS

log = logging.getLogger("showcase")

SUBMISSION = Path(__file__).resolve().parents[2]
INSTRUCTION = "Нарисуй картинку по описанию."
REQUESTS = (
    "красный круг на белом фоне", "жёлтая звезда ночью", "синий квадрат на розовом фоне",
    "белый полумесяц на чёрном фоне", "зелёное кольцо на жёлтом фоне", "оранжевый треугольник у моря",
    "красный круг слева и синий квадрат справа на сером фоне", "три фиолетовых ромба на снегу",
    "апельсин на голубом фоне", "кит у моря", "баклажан на жёлтом фоне", "божья коровка на траве",
    "розовый фламинго у моря", "снеговик на снегу", "полная луна ночью", "паровоз на закате",
)  # fmt: skip
TASKS = ("ImageCaptioning", "TRitW", "VisualQA", "MathQA", "TextQA")
EXAMPLES = 4  # of each task

CAPTIONED = 4  # scenes
DRAWS = 3  # of a picture or a text, side by side
CAPTION_SAMPLING = Sampling(top_k=64, top_p=0.95)
PAINTINGS: tuple[dict[str, Any], ...] = ({"top": 4}, {"left": 4}, dict.fromkeys(("top", "bottom", "left", "right"), 1))
CLASSES = 5
BEGINNINGS = ("Если 6 умножить на y", "Нарисуй картинку:", "Улица Строителей находится", "Найди и прочитай")

INK, GREY, GREEN, RED, PAPER = "#222222", "#777777", "#1a7f37", "#b35900", "#ffffff"
PICTURE, GAP, LINE = 112, 10, 15  # pixels
CELL, WIDTH = PICTURE + GAP, 8  # pixels of a cell, cells of a row


@dataclass(frozen=True)
class Cell:
    """Lines, each with its colour, below a picture or, where the cell is wider than one, beside it."""

    lines: tuple[tuple[str, str], ...]
    picture: Image.Image | None = None
    width: int = 1  # in cells

    @property
    def beside(self) -> bool:
        """Whether the lines stand beside the picture."""
        return self.picture is not None and self.width > 1


@dataclass(frozen=True)
class Asked:
    """An example, and what was answered."""

    example: Example
    answer: str

    @property
    def right(self) -> bool:
        """Whether the answer is one of the accepted ones, whatever the case."""
        return self.answer.lower() in [text.lower() for text in self.example.answers]

    @property
    def picture(self) -> Image.Image | None:
        """The first picture of the question, if any."""
        return next((entry for entry in self.example.inputs if isinstance(entry, Image.Image)), None)

    @property
    def text(self) -> str:
        """The texts of the question, joined."""
        return join_texts([entry for entry in self.example.inputs if isinstance(entry, str)])


def show(out: Path, settings: Settings, model: Path) -> None:
    """Writes strip.png, zero_shot.png and README.md into `out`."""
    rudolph = Rudolph.from_pretrained(model, "cpu", settings.dtype)
    out.mkdir(parents=True, exist_ok=True)
    drawn, asked = _draw(rudolph, settings), _ask(rudolph, settings)
    page = [
        "# What nano answers", "",
        f"Weights: `model.safetensors`, SHA-256 `{weights_digest(model)}`.", "",
        "Written by `make showcase`, as it came out: no draw was repeated and no example chosen. Scores are in "
        "[the card](../../submission/weights/nano/README.md).",
        "",
        "![Pictures that nano drew, and its answers](strip.png)", "",
        f"Green: among the accepted answers. Requests are `{INSTRUCTION}` and the text below the picture; the examples "
        "are the first of the held-out split, with instructions that training never showed. Objects in the scenes are "
        "from Debian's tuxpaint-stamps-default (GPL-2).", "",
    ]  # fmt: skip
    for task in TASKS:
        page += [f"## {task}", *_table(("input", "answer", "accepted"), (
            (one.text, f"**{one.answer}**" if one.right else one.answer, "; ".join(one.example.answers))
            for one in asked[task]
        )), ""]  # fmt: skip
    _compose(out / "strip.png", [
        *_rows(drawn), [_cell(one) for task in ("ImageCaptioning", "TRitW") for one in asked[task]],
        *([_cell(one, 2) for one in asked[task]] for task in ("VisualQA", "MathQA")),
        *_rows([_cell(one, 4) for one in asked["TextQA"]]),
    ])  # fmt: skip
    cells, text = _zero_shot(rudolph, model.name)
    _compose(out / "zero_shot.png", cells)
    (out / "README.md").write_text("\n".join([*page, *text]).rstrip() + "\n", encoding="utf-8")


def weights_digest(model: Path) -> str:
    """The SHA-256 of a model's weights."""
    return sha256_of(model / "model.safetensors")


def _draw(rudolph: Rudolph, settings: Settings) -> list[Cell]:
    """A picture for each request; one that the model takes for a question has the picture of codes that are all 0."""
    answers = rudolph.answer([Question(text, (INSTRUCTION, text)) for text in REQUESTS], settings)
    return [
        Cell(((text, INK), *(((f"→ {answer.text}", RED),) if answer.fallback == "image" else ())), answer.image)
        for text, answer in zip(REQUESTS, answers, strict=True)
    ]


def _ask(rudolph: Rudolph, settings: Settings) -> dict[str, list[Asked]]:
    """The first held-out examples of each task with a text for an answer, and what was answered."""
    found: dict[str, list[Asked]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for task in TASKS:
            examples = [make_example(task, number, "heldout") for number in range(EXAMPLES)]
            questions = []
            for number, example in enumerate(examples):
                paths = []
                for entry in example.inputs:
                    if isinstance(entry, Image.Image):
                        paths.append(Path(folder) / f"{task}-{number}.png")
                        entry.save(paths[-1])
                texts = tuple(entry for entry in example.inputs if isinstance(entry, str))
                questions.append(Question(f"{task}-{number}", texts, tuple(paths), answer_in_text=True))
            answers = rudolph.answer(questions, settings)
            found[task] = [Asked(e, a.text or "") for e, a in zip(examples, answers, strict=True)]
    return found


def _cell(one: Asked, width: int = 1) -> Cell:
    text = one.text if one.example.task in ("VisualQA", "MathQA", "TextQA") else ""
    lines = ((text, GREY), (f"→ {one.answer}", GREEN if one.right else RED))
    return Cell(tuple(line for line in lines if line[0]), one.picture, width)


# --- zero-shot uses --------------------------------------------------------------------------------------------------


def _zero_shot(rudolph: Rudolph, name: str) -> tuple[list[list[Cell]], list[str]]:
    """Rows of zero_shot.png and lines of README.md."""
    page = [
        "## Zero-shot uses", "",
        "```python", "from rudolph import Rudolph, Sampling, caption, classify, continue_text, inpaint", "",
        f'rudolph = Rudolph.from_pretrained("submission/weights/{name}", dtype="float32")',
        "# Below, each row of a table has its own in place of these.",
        'image, template, beginning = "sample_input/photos/cat.jpg", "{} на траве", "если 6 умножить на y"',
        'classes = ["кот", "паровоз", "лиса"]', "```", "",
        "![Captions by perplexity, inpainting, classes by perplexity, texts that go on](zero_shot.png)", "",
    ]  # fmt: skip
    captions, painted, classes, texts = (use(rudolph) for use in (_captions, _paintings, _classes, _continuations))
    beside = [[*row, *told] for row, told in zip(painted[0], classes[0], strict=True)]
    rows = [
        [_heading("caption", 8)], *captions[0], [_heading("inpaint", 5), _heading("classify", 3)], *beside,
        [_heading("continue_text", 8)], *texts[0],
    ]  # fmt: skip
    return rows, [*page, *(line for _, lines in (captions, painted, classes, texts) for line in lines)]


def _heading(text: str, width: int) -> Cell:
    return Cell(((text, INK),), width=width)


def _scene(use: str, number: int, kinds: scenes.Kinds) -> scenes.Scene:
    return scenes.draw_scene(seeded("heldout", "showcase", use, number), IMAGE_SIZE, kinds)


def _captions(rudolph: Rudolph) -> tuple[list[list[Cell]], list[str]]:
    cells, table = [], []
    for number in range(CAPTIONED):
        scene = _scene("caption", number, (("object", 0.5), ("two objects", 0.5)))
        ranked = caption(rudolph, scene.image, 16, sampling=CAPTION_SAMPLING)[:DRAWS]
        cells.append(Cell(tuple((f"{one.perplexity:.2f} {one.text}", INK) for one in ranked), scene.image, 4))
        table += [(scenes.captions(scene)[0] if not i else "", one.text, f"{one.perplexity:.2f}", str(one.count))
                  for i, one in enumerate(ranked)]  # fmt: skip
    return _rows(cells), [
        "### Captions ranked by perplexity", "",
        "```python", f"caption(rudolph, image, 16, sampling={CAPTION_SAMPLING})[:{DRAWS}]", "```",
        *_table(("the scene", "caption", "perplexity", "times of 16"), table), "",
    ]  # fmt: skip


def _paintings(rudolph: Rudolph) -> tuple[list[list[Cell]], list[str]]:
    rows, table = [], []
    for number, borders in enumerate(PAINTINGS):
        scene = _scene("inpaint", number, (("object", 1.0),))
        wanted = scenes.captions(scene)[0]
        made = inpaint(rudolph, scene.image, wanted, DRAWS, **borders)
        hidden = _hidden(rudolph, scene.image, borders)
        arguments = ", ".join(f"{side}={cells}" for side, cells in borders.items())
        rows.append([Cell(((wanted, INK),), scene.image), Cell(((arguments, GREY),), hidden),
                     *(Cell((), one.image) for one in made)])  # fmt: skip
        table.append((wanted, f"`inpaint(rudolph, image, caption, {DRAWS}, {arguments})`"))
    return rows, [
        "### Inpainting from borders", "",
        "The picture, what is kept of it, and the first three draws. The seam is that of nano's "
        "VQGAN, whose pictures are softer; `paste=False` leaves the kept part as the VQGAN gives it back.",
        *_table(("caption", "call"), table), "",
    ]  # fmt: skip


def _hidden(rudolph: Rudolph, image: Image.Image, borders: dict[str, int]) -> Image.Image:
    """The picture with what is drawn anew in grey."""
    shown = to_image(preprocess(image, rudolph.image_side))
    cell = rudolph.image_side // rudolph.model.config.image_tokens_per_dim
    left, top, right, bottom = (borders.get(side, 0) * cell for side in ("left", "top", "right", "bottom"))
    ImageDraw.Draw(shown).rectangle((left, top, shown.width - right - 1, shown.height - bottom - 1), fill="#cccccc")
    return shown


def _classes(rudolph: Rudolph) -> tuple[list[list[Cell]], list[str]]:
    cells, table = [], []
    for number in range(len(PAINTINGS)):  # in the same rows
        scene = _scene("classify", number, (("object", 1.0),))
        rng = seeded("heldout", "showcase", "classes", number)
        true = scene.things[0].name.text
        names = [true, *scenes._other_names(rng, scene, CLASSES - 1)]
        found = classify(rudolph, scene.image, names, template=f"{{}} {scene.where}")
        lines = tuple((f"{share:.2f} {name}", GREEN if name == true else INK) for name, share in found.items())
        cells.append([Cell(lines, scene.image, 3)])
        table.append((true, f"`{{}} {scene.where}`", "; ".join(f"{name} {share:.2f}" for name, share in found.items())))
    return cells, [
        "### Classes by perplexity", "", "```python", "classify(rudolph, image, classes, template=template)", "```",
        *_table(("the object", "template", "probabilities"), table), "",
    ]  # fmt: skip


def _continuations(rudolph: Rudolph) -> tuple[list[list[Cell]], list[str]]:
    made = [(text, continue_text(rudolph, text, DRAWS)) for text in BEGINNINGS]
    cells = [Cell(((text, GREY), (f"→ {texts[0]}", INK)), width=4) for text, texts in made]
    return _rows(cells), [
        "### Texts that go on", "", "```python", f"continue_text(rudolph, beginning, {DRAWS})", "```",
        *_table(("beginning", "texts"), ((text, "<br>".join(map(_plain, texts))) for text, texts in made), plain=False),
        "",
    ]  # fmt: skip


# --- pages and pictures ----------------------------------------------------------------------------------------------


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], plain: bool = True) -> list[str]:
    """Lines of a Markdown table."""
    clean = _plain if plain else str
    lines = [header, ["---"] * len(header), *([clean(cell) for cell in row] for row in rows)]
    return ["", *(f"| {' | '.join(line)} |" for line in lines)]


def _plain(text: str) -> str:
    """Text in a cell of a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def _rows(cells: list[Cell]) -> list[list[Cell]]:
    """Rows of equal cells."""
    n = WIDTH // cells[0].width
    return [cells[start : start + n] for start in range(0, len(cells), n)]


def _compose(path: Path, rows: list[list[Cell]]) -> None:
    """One picture of all cells, with 256 colours: a third of the bytes, and hardly a difference to be seen."""
    font = ImageFont.truetype(str(FONTS / "dejavu/DejaVuSans.ttf"), 12)
    laid = [[(cell, _wrapped(cell, font)) for cell in row] for row in rows]
    heights = [max(_height(cell, len(lines)) for cell, lines in row) + GAP for row in laid]
    canvas = Image.new("RGB", (GAP + WIDTH * CELL, sum(heights) + GAP), PAPER)
    draw = ImageDraw.Draw(canvas)
    y = GAP
    for row, height in zip(laid, heights, strict=True):
        x = GAP
        for cell, lines in row:
            if cell.picture:
                canvas.paste(cell.picture.resize((PICTURE, PICTURE), Image.Resampling.BICUBIC), (x, y))
            text_x, text_y = (x + CELL, y) if cell.beside else (x, y + (PICTURE if cell.picture else 0))
            for number, (line, colour) in enumerate(lines):
                draw.text((text_x, text_y + number * LINE), line, fill=colour, font=font)
            x += CELL * cell.width
        y += height
    canvas.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def _height(cell: Cell, lines: int) -> int:
    picture, text = PICTURE if cell.picture else 0, LINE * lines
    return max(picture, text) if cell.beside else picture + text


def _wrapped(cell: Cell, font: ImageFont.FreeTypeFont) -> list[tuple[str, str]]:
    """The lines of a cell, broken at spaces to fit its width."""
    room = CELL * (cell.width - cell.beside) - GAP
    made = []
    for text, colour in cell.lines:
        line = ""
        for word in text.split():
            longer = f"{line} {word}".strip()
            if line and font.getlength(longer) > room:
                made.append((line, colour))
                line = word
            else:
                line = longer
        made.append((line, colour))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.nano.showcase", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the pictures and the page")
    parser.add_argument("--model", type=Path, help="model folder (default: the one in config.yaml)")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    config = SUBMISSION / "config.yaml"
    settings = Settings.from_dict(yaml.safe_load(config.read_text(encoding="utf-8")) or {}, config.name)
    show(arguments.out, settings, arguments.model or SUBMISSION / settings.model)
    for path in sorted(arguments.out.iterdir()):
        log.info("%s: %d bytes", path, path.stat().st_size)


if __name__ == "__main__":
    main()
