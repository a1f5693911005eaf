"""report.html: one self-contained page about a scored submission, for a person to browse.

What is shown of a submission is what was scored: the texts and images that were read into `Predictions`, wherever the
output folder is by now, and whatever it holds.

Everything that comes from data or predictions is untrusted. It travels as JSON in an inert `<script
type="application/json">` with `<`, `>` and `&` escaped, and the page's script shows it through text nodes alone.
"""

import base64
import difflib
import io
import itertools
import json
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from fractions import Fraction
from pathlib import Path
from typing import Any

from markupsafe import Markup
from PIL import Image

from evaluator.competition.task import Task
from evaluator.core.errors import Finding
from evaluator.core.files import write_text
from evaluator.data.dataset import Data, Example
from evaluator.data.images import load_image
from evaluator.data.predictions import Predictions
from evaluator.metrics.box_f1 import is_box
from evaluator.metrics.codebleu import KEYWORDS
from evaluator.reports.provenance import digests, versions
from evaluator.reports.rendering import environment, russian_label, visible

# A page that a browser still opens at once, whatever the size of the data. Worst examples come first in both budgets.
MAX_TEXT_CHARACTERS = 24 * 10**6  # of all examples together
MAX_IMAGE_CHARACTERS = 24 * 10**6  # base64 of all thumbnails together
MAX_SHOWN_CHARACTERS = 4000  # of one text
MAX_SHOWN_ENTRIES = 20  # of one input, and of one list of accepted answers
EXAMPLE_OVERHEAD = 100  # characters that an example costs beside its texts
THUMBNAIL_PIXELS = 256  # the longer side
THUMBNAIL_QUALITY = 78
HISTOGRAM_BINS = 10
MAX_SHOWN_BOXES = 200  # over one image
MAX_LABEL_CHARACTERS = 60
MAX_COORDINATE = 1e6


def write(
    path: Path,
    document: Mapping[str, Any],
    data: Data,
    predictions: Predictions,
    submission: Path | str | None = None,
    ruwordnet: Path | str | None = None,
    assets: Path | str | None = None,
    private: bool = False,
    zone: tzinfo = UTC,
) -> None:
    """Write the report of scored predictions to `path`, whole or not at all. The arguments are those of `build`."""
    write_text(path, render(build(document, data, predictions, submission, ruwordnet, assets, private, zone)))


def build(
    document: Mapping[str, Any],
    data: Data,
    predictions: Predictions,
    submission: Path | str | None = None,
    ruwordnet: Path | str | None = None,
    assets: Path | str | None = None,
    private: bool = False,
    zone: tzinfo = UTC,
) -> dict[str, Any]:
    """The content of the page: everything that it shows, as one JSON object.

    `document` is the content of scores.json, of which `interval`s, `counts`, `findings`, `run`, `shared_parameters`
    and `data_digest` may be absent;
    `predictions` are those that were scored; `submission` is the ZIP or folder that made them, if known; `ruwordnet`
    and `assets` are what they were scored with, where these are not the evaluator's own. `zone` is the one of its time.

    With `private` only aggregates remain, as a team may see them: no input, prediction, truth, id or score of a single
    example; of hidden tasks neither title, metric nor parts; no digest from which a truth could be guessed.
    """
    competition = data.competition
    groups = {str(task.number): (task, examples) for task, examples in data.by_task().items()}
    tasks = [
        _task(*groups[number], entry, predictions, private, int(number) in competition.hidden_numbers)
        for number, entry in document["tasks"].items()
    ]
    page = {
        "created": _moment(datetime.now(zone)),
        "private": private,
        "counts": document.get("counts", True),
        "integral": document.get("integral"),
        "interval": document.get("interval"),
        "open_part": document["open_part"],
        "open_part_interval": document.get("open_part_interval"),
        "competition": competition.title,
        "best": sum(task.weight * task.metric.best for task, _ in groups.values()),
        "baseline": competition.definition.integral.baseline,
        "published": [result.model_dump() for result in competition.definition.published],
        "baseline_open": competition.baseline_of(competition.open_numbers),
        "keywords": sorted(KEYWORDS) if any(task.metric.shows == "code" for task, _ in groups.values()) else [],
        "labels": document["labels"],
        "russian": {label: russian_label(label) for label in document["labels"]},
        "notes": _notes(document, private),
        "tasks": tasks,
        "run": document.get("run"),
        "shared_parameters": _shared_parameters(document.get("shared_parameters")),
        "count": len(data.examples),
        "versions": versions(),
        "digests": digests(document, data, predictions, submission, ruwordnet, assets, private),
    }
    browsed = _Browsed(data, predictions)
    if not private:
        scores = {number: entry["ids"] for number, entry in document["tasks"].items()}
        for example in _worst_first([(examples, scores[number]) for number, (_, examples) in groups.items()]):
            browsed.add(example, scores[str(example.task.number)].get(example.key))
    return page | {
        "examples": browsed.examples,
        "images": browsed.images,
        "left_out": {"examples": browsed.left_out_examples, "images": browsed.left_out_images},
        "limits": {
            "thumbnail": THUMBNAIL_PIXELS,
            "images": MAX_IMAGE_CHARACTERS,
            "texts": MAX_TEXT_CHARACTERS,
            "text": MAX_SHOWN_CHARACTERS,
        },
    }


def render(page: Mapping[str, Any]) -> str:
    """The page as HTML, with `page` in it as JSON."""
    text = json.dumps(page, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    template = environment("report.css", "report.js").get_template("report.html")
    return template.render(data=Markup(text), title=page["competition"])


def _moment(moment: datetime) -> str:
    """`2022-11-13 23:59 Europe/Moscow, UTC+03:00`, or of UTC itself `2022-11-13 20:59 UTC`."""
    name, offset = str(moment.tzinfo), moment.isoformat()[-6:]
    return f"{moment:%Y-%m-%d %H:%M} {name}" + ("" if name == "UTC" else f", UTC{offset}")


def _notes(document: Mapping[str, Any], private: bool) -> list[str]:
    """The findings of scores that count: what is unusual, though not wrong. Places, which name ids, are not for all."""
    findings = document.get("findings", []) if document.get("counts", True) else []
    return [visible(str(Finding(**finding | ({"where": ""} if private else {})))) for finding in findings]


def _shared_parameters(counted: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The count of a run's shared parameters; all of it is about the submission's own files, as they were delivered."""
    if counted is None:
        return None
    shown: dict[str, Any] = {key: counted.get(key) for key in ("met", "share", "required", "total", "shared")}
    notes = counted.get("errors") or counted["notes"]
    return shown | {"notes": [visible(note) for note in notes]}


def _task(
    task: Task,
    examples: Sequence[Example],
    entry: Mapping[str, Any],
    predictions: Predictions,
    private: bool,
    is_hidden: bool,
) -> dict[str, Any]:
    """A task's aggregates: scores, histogram over the ids, routes taken, lengths of the answers. `is_hidden` stays true
    of a task that was revealed to the teams.
    """
    routes = [_route(predictions.types[example.id]) for example in examples]
    secret = private and task.hidden
    titles = dict(task.metric.part_titles)
    error = entry["error"] and ("the reason is in the organizer's report" if private else visible(entry["error"]))
    return {
        "number": task.number,
        "name": visible(task.name),
        "title": None if secret else visible(task.title),
        "hidden": task.hidden,
        "metric": None if secret else task.metric_title,
        "score": entry["score"],
        "interval": entry.get("interval"),
        "weight": task.weight,
        "share": str(Fraction(task.weight).limit_denominator(1000)),
        "best": task.metric.best,
        "is_hidden": is_hidden,
        "n": entry["n"],
        "baseline": task.baseline,
        "threshold": task.threshold,
        "labels": entry["labels"],
        "error": error,
        "parts": {} if secret else {titles.get(name, name): value for name, value in entry["parts"].items()},
        "interval_of": None if secret else entry.get("interval_of"),
        "histogram": histogram(entry["ids"].values(), task.metric.best),
        "output": task.output,
        "routes": {route: routes.count(route) for route in sorted(set(routes))},
        "lengths": _lengths([predictions.texts[example.id] for example in examples if task.output == "text"]),
    }


def histogram(scores: Iterable[float], best: float = 1.0) -> list[int]:
    """How many of `scores` lie in each of `HISTOGRAM_BINS` equal parts of 0..`best`, which belongs to the last part; a
    cosine below 0 is counted in the first.
    """
    counts = [0] * HISTOGRAM_BINS
    for score in scores:
        counts[min(HISTOGRAM_BINS - 1, max(0, int(score / best * HISTOGRAM_BINS)))] += 1
    return counts


def _lengths(texts: Sequence[str]) -> dict[str, float] | None:
    """Characters of the texts that were scored; None where there are none."""
    if not texts:
        return None
    lengths = [len(text) for text in texts]
    return {"min": min(lengths), "median": statistics.median(lengths), "max": max(lengths), "empty": lengths.count(0)}


def _route(types: Sequence[str]) -> str:
    """What a prediction has entries of: "text", "image", or "text + image"."""
    return " + ".join(type for type in ("text", "image", "json") if type in types)


def _worst_first(tasks: Iterable[tuple[Sequence[Example], Mapping[str, float]]]) -> Iterator[Example]:
    """All examples, given each task's with the scores of their ids: the worst of every task, then the second worst of
    every task, and so on. Without scores, the order of the data.
    """
    ranked = []
    for number, (examples, scores) in enumerate(tasks):
        order = sorted(range(len(examples)), key=lambda i: (scores.get(examples[i].key, 0.0), i))
        ranked += [(rank, number, examples[i]) for rank, i in enumerate(order)]
    return (example for _, _, example in sorted(ranked, key=lambda item: item[:2]))


@dataclass
class _Browsed:
    """The examples of the page, and their thumbnails `[width, height, base64]`, each image once."""

    data: Data
    predictions: Predictions
    examples: list[dict[str, Any]] = field(default_factory=list)
    images: list[list[Any]] = field(default_factory=list)
    left_out_examples: int = 0
    left_out_images: int = 0
    _texts_left: int = field(default_factory=lambda: MAX_TEXT_CHARACTERS)
    _images_left: int = field(default_factory=lambda: MAX_IMAGE_CHARACTERS)
    _known: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    _sizes: list[tuple[int, int]] = field(default_factory=list)  # of the images that the thumbnails are of

    def add(self, example: Example, score: float | None) -> None:
        """Take in one example, as far as the budgets go."""
        id, predictions = example.id, self.predictions
        surplus = predictions.surplus.get(id)
        inputs, answers = example.inputs[:MAX_SHOWN_ENTRIES], example.answers[:MAX_SHOWN_ENTRIES]
        texts = [entry.content for entry in inputs if entry.type == "text"] + [*answers, predictions.texts.get(id, "")]
        cost = EXAMPLE_OVERHEAD + sum(min(len(text), MAX_SHOWN_CHARACTERS) for text in (*texts, surplus or ""))
        if cost > self._texts_left:
            self.left_out_examples += 1
            return
        self._texts_left -= cost
        content: dict[str, Any] = {
            "id": visible(example.key),
            "task": example.task.number,
            "score": score,
            "route": _route(predictions.types[id]),
            "input": [
                _text(entry.content) if entry.type == "text" else self._data_image(entry.content) for entry in inputs
            ],
            "answer": self._answer(example),
            "accepted": [_text(answer) for answer in answers],
        }
        if surplus is not None:
            content["surplus"] = _text(surplus)
        if example.task.output == "json":
            content["accepted"].append(self._value(example, example.truth_json))
        if example.task.metric.shows == "code" and example.answers:
            content["answer"]["parts"] = difference(example.answers[0], self.predictions.texts[id])
            for shown in content["accepted"]:
                shown["parts"] = [["same", shown["text"]]]
        if example.truth_image is not None:
            content["accepted"].append(self._data_image(example.truth_image))
        more = len(example.inputs) - len(inputs), len(example.answers) - len(answers)
        if any(more):
            content["more"] = more
        self.examples.append(content)

    def _answer(self, example: Example) -> dict[str, Any]:
        if example.task.output == "image":
            return self._predicted_image(example.id)
        if example.task.output == "text":
            return _text(self.predictions.texts[example.id])
        return self._value(example, self.predictions.values[example.id])

    def _value(self, example: Example, value: Any) -> dict[str, Any]:
        """A JSON value as a text; boxes also with what they are drawn over."""
        shown = _text(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        if example.task.metric.shows == "boxes" and example.images:
            over = self._data_image(example.images[0])
            if "image" in over:
                shown |= {"boxes": _boxes(value), "over": over["image"], "size": self._sizes[over["image"]]}
        return shown

    def _data_image(self, path: str) -> dict[str, Any]:
        return self._image(("data", path), lambda: load_image(self.data.root, path))

    def _predicted_image(self, id: str) -> dict[str, Any]:
        return self._image(("predicted", self.predictions.images[id]), lambda: self.predictions.image(id))

    def _image(self, key: tuple[str, str], load: Callable[[], Image.Image]) -> dict[str, Any]:
        """`{"image": number}` of a thumbnail, or `{"note": why there is none}`."""
        if key not in self._known:
            if self._images_left <= 0:
                self.left_out_images += 1
                return {"note": "left out: the report's limit for images is reached"}
            try:
                image = load()
                width, height, content = thumbnail(image)
            except ValueError as error:
                self._known[key] = {"note": visible(f"no picture: {error}")}
            else:
                if len(content) > self._images_left:
                    self._images_left = 0
                    return self._image(key, load)
                self._images_left -= len(content)
                self._known[key] = {"image": len(self.images)}
                self.images.append([width, height, content])
                self._sizes.append(image.size)
        return self._known[key]


def thumbnail(image: Image.Image) -> tuple[int, int, str]:
    """Width, height and base64 of `image` as a new small JPEG, which carries nothing but pixels."""
    small = image.convert("RGB")
    small.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS), Image.Resampling.LANCZOS)
    small.info.clear()  # Pillow would write a comment that it finds there
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=THUMBNAIL_QUALITY, optimize=True)
    return small.width, small.height, base64.b64encode(buffer.getvalue()).decode("ascii")


def _boxes(value: Any) -> list[list[Any]]:
    """Label, x, y, width and height of the boxes of each label that can be drawn, as far as there is room for them."""
    drawn = (
        [visible(label[:MAX_LABEL_CHARACTERS]), *map(float, box)]
        for label, boxes in (value.items() if isinstance(value, dict) else ())
        for box in (boxes if isinstance(boxes, list) else ())  # of a label that nobody asked for it may be anything
        if is_box(box) and all(abs(number) < MAX_COORDINATE for number in box)
    )
    return list(itertools.islice(drawn, MAX_SHOWN_BOXES))


def difference(reference: str, answer: str) -> list[list[str]]:
    """A program word by word: `["same", words]`, `["more", words]` that the reference does not have, and
    `["less", words]` that the answer lacks.
    """
    before, after = (text[:MAX_SHOWN_CHARACTERS].split() for text in (reference, answer))
    parts: list[list[str]] = []
    for kind, i, j, k, m in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if kind == "equal":
            parts.append(["same", visible(" ".join(after[k:m]))])
            continue
        for name, words in (("less", before[i:j]), ("more", after[k:m])):
            if words:
                parts.append([name, visible(" ".join(words))])
    return parts


def _text(text: str) -> dict[str, Any]:
    shown = {"text": visible(text[:MAX_SHOWN_CHARACTERS])}
    return shown | ({"cut": len(text) - MAX_SHOWN_CHARACTERS} if len(text) > MAX_SHOWN_CHARACTERS else {})
