"""START and SberIDP → TRitW: whole images with all their text, or a cut-out for each box.

Two kinds of annotations are read:

* COCO-like JSON: `images` with id and file_name, and `annotations` with image_id, a polygon (`segmentation`) or a box
  (`bbox`: left, top, width, height in pixels), and the text in `attributes.translation`;
* tables (`info.csv`) with a header: the image in `image_name`, `file_name`, `image` or `path`; the text in `text`,
  `label` or `words`; and, if there are boxes, `box_and_label`: JSON, lists of objects with left, top, width, height (in
  shares of the image) and label.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from training.convert.reading import clean, read_coco, read_table
from training.convert.source import ConvertSettings, Part, find_files, part_of
from training.convert.writer import Picture, Row
from training.data_format import DataError

IMAGE_COLUMNS = ("image_path", "image_name", "file_name", "image", "path")
TEXT_COLUMNS = ("text", "label", "words")
ILLEGIBLE = ("###", "*")  # what annotators write where nobody can read


class Box(NamedTuple):
    """A text and where it stands: left, top, right, bottom."""

    text: str
    edges: tuple[float, float, float, float]


def start(settings: ConvertSettings) -> list[Part]:
    """`train/real/info.csv` with `train/real/images/`, and the same of `synth` and `test`; the test part validates."""
    return _parts(settings, ("info.csv", "annotation*.json", "train*.json", "val*.json", "test*.json"))


def sberidp(settings: ConvertSettings) -> list[Part]:
    """A table or COCO-like JSON with the images beside it."""
    return _parts(settings, ("*.csv", "*.tsv", "*.json"))


def _parts(settings: ConvertSettings, patterns: tuple[str, ...]) -> list[Part]:
    parts: dict[str, list[Path]] = {"val": [], "train": []}
    folders = [folder for folder in settings.inputs if folder.is_dir()]
    for path in find_files(settings.inputs, patterns):
        inside = next((path.relative_to(f) for f in folders if path.is_relative_to(f)), Path(*path.parts[-3:]))
        parts["train" if all(part_of(Path(name)) == "train" for name in inside.parts) else "val"].append(path)

    def rows(paths: list[Path]) -> Iterator[Row]:
        for path in paths:
            is_table = path.name.removesuffix(".gz").endswith((".csv", ".tsv"))
            yield from _table_rows(path, settings) if is_table else _coco_rows(path, settings)

    return [Part(part, rows(paths)) for part, paths in parts.items() if paths]


def _table_rows(path: Path, settings: ConvertSettings) -> Iterator[Row]:
    for place, row in read_table(path, settings.report):
        name_columns = [column for column in IMAGE_COLUMNS if column in row]
        text_columns = [column for column in TEXT_COLUMNS if column in row]
        if not name_columns or not (text_columns or "box_and_label" in row):
            allowed = f"one of {', '.join(IMAGE_COLUMNS)}, and one of {', '.join(TEXT_COLUMNS)}, box_and_label"
            raise DataError(f"{path}: has the columns {', '.join(row)}; allowed: {allowed}")
        name = next((row[column] for column in name_columns if row[column]), "")
        try:
            boxes = _table_boxes(row.get("box_and_label") or "[]")
        except ValueError as error:
            settings.report.bad(place, row["box_and_label"], str(error))
            continue
        size = _size(row.get("width"), row.get("height"))
        picture = Picture(_root(settings, path, name), name, relative=True, size=size)
        yield from _rows(settings, place, picture, boxes, clean(row[text_columns[0]]) if text_columns else "")


def _table_boxes(document: str) -> list[Box]:
    """Raises ValueError."""
    allowed = "box_and_label: JSON lists of objects with left, top, width, height in 0..1 and label"
    try:
        listed = json.loads(document)
    except (ValueError, RecursionError):
        raise ValueError(allowed) from None
    boxes = []
    for item in listed if isinstance(listed, list) else [None]:
        for box in item if isinstance(item, list) else [item]:
            if not isinstance(box, dict):
                raise ValueError(allowed)
            numbers: list[Any] = [box.get(key) for key in ("left", "top", "width", "height")]
            if not all(map(_is_number, numbers)):
                raise ValueError(allowed)
            left, top, width, height = map(float, numbers)
            boxes.append(Box(clean(box.get("label")), (left, top, left + width, top + height)))
    return boxes


def _coco_rows(path: Path, settings: ConvertSettings) -> Iterator[Row]:
    images, annotations = read_coco(path, settings.report)
    boxes: dict[int | str, list[Box]] = {}
    for place, annotation in annotations:
        attributes = annotation.get("attributes")
        if not isinstance(attributes, dict) or "translation" not in attributes:
            settings.report.leave_out("a polygon of something else than text")  # a sheet, a photograph
            continue
        edges = _edges(annotation)
        if edges is None or not isinstance(attributes["translation"], str):
            settings.report.bad(place, annotation, "a text as attributes.translation, and a segmentation or a bbox")
            continue
        boxes.setdefault(annotation["image_id"], []).append(Box(clean(attributes["translation"]), edges))
    for key, image in images.items():
        name = image["file_name"]
        size = _size(image.get("width"), image.get("height"))
        picture = Picture(_root(settings, path, name), name, size=size)
        yield from _rows(settings, f"{settings.report.name(path)}: image {key}", picture, boxes.get(key, []), "")


def _root(settings: ConvertSettings, path: Path, name: str) -> Path:
    """The folder of an image: --images, else `images/` beside the annotations, else where they lie."""
    if settings.images is not None:
        return settings.images
    beside = path.parent / "images"
    try:
        return path.parent if (path.parent / name).is_file() or not beside.is_dir() else beside
    except (OSError, ValueError):  # a name that is too long, or has a zero byte
        return beside


def _rows(settings: ConvertSettings, place: str, picture: Picture, boxes: list[Box], text: str) -> Iterator[Row]:
    """The example of an image with all its text, which is `text` or that of its boxes; or, with --crop, one a box."""
    group = Path(picture.name).name  # an image may be listed under two folders
    readable = [box for box in boxes if box.text and box.text not in ILLEGIBLE]
    if settings.crop:
        for _ in range(len(boxes) - len(readable)):
            settings.report.leave_out("a box without a text that can be read")
        for number, box in enumerate(readable):
            cut = Picture(picture.root, picture.name, box.edges, number, picture.relative, picture.size)
            yield Row("TRitW", f"{place}: box {number}", group, (), _accepted(box.text), picture=cut)
        return
    if not text and len(readable) < len(boxes):
        settings.report.leave_out("an image with a text that nobody can read")
        return
    text = text or " ".join(box.text for box in reading_order(readable))
    if not text:
        settings.report.leave_out("an image without text")
        return
    whole = Picture(picture.root, picture.name)
    yield Row("TRitW", place, group, (), _accepted(text), picture=whole)


def _accepted(text: str) -> tuple[str, ...]:
    """In lower case, as models write, and as it stands: scoring is case-sensitive."""
    return tuple(dict.fromkeys((text.lower(), text)))


def reading_order(boxes: list[Box]) -> list[Box]:
    """Line by line from the top, each from the left. A box is of a line if its middle is within the first of it."""
    lines: list[list[Box]] = []
    for box in sorted(boxes, key=lambda box: (box.edges[1] + box.edges[3], box.edges[0])):
        middle = (box.edges[1] + box.edges[3]) / 2
        if lines and lines[-1][0].edges[1] <= middle <= lines[-1][0].edges[3]:
            lines[-1].append(box)
        else:
            lines.append([box])
    return [box for line in lines for box in sorted(line, key=lambda box: box.edges[0])]


def _edges(annotation: dict[str, Any]) -> tuple[float, float, float, float] | None:
    """What encloses a polygon, which is a list of x, y, x, y, … or a list of such lists; else the bbox."""
    polygon = annotation.get("segmentation")
    if isinstance(polygon, list) and polygon and all(isinstance(part, list) for part in polygon):
        polygon = [number for part in polygon for number in part]
    if isinstance(polygon, list) and len(polygon) >= 6 and len(polygon) % 2 == 0 and all(map(_is_number, polygon)):
        return min(polygon[::2]), min(polygon[1::2]), max(polygon[::2]), max(polygon[1::2])
    box = annotation.get("bbox")
    if isinstance(box, list) and len(box) == 4 and all(map(_is_number, box)):
        return box[0], box[1], box[0] + box[2], box[1] + box[3]
    return None


def _size(width: Any, height: Any) -> tuple[int, int] | None:
    try:
        return int(width), int(height)
    except (TypeError, ValueError, OverflowError):
        return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
