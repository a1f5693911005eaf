"""Reading the files of data sets: JSON, lists of JSON too large for memory, JSON lines, CSV, Parquet; gzip or not."""

from __future__ import annotations

import csv
import gzip
import json
import re
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from contract import show
from training.convert.counter import RowCounter
from training.data_format import DataError

# What reading a file that is damaged, cut off or not UTF-8 raises.
READ_ERRORS = (OSError, EOFError, UnicodeDecodeError, zlib.error)
CHUNK = 2**20  # characters read at a time
_BLANK = " \t\n\r"
# What no text of a question needs: control characters, soft hyphens, marks of zero width and of direction.
_INVISIBLE = re.compile("[\x00-\x08\x0e-\x1f\x7f\xad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")


def clean(value: Any) -> str:
    """A text on one line without invisible characters; empty where `value` is no text or UTF-8 does not have it."""
    if not isinstance(value, str):
        return ""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:  # half of a surrogate pair
        return ""
    return " ".join(_INVISIBLE.sub("", value).split())


def open_text(path: Path) -> IO[str]:
    """A file as UTF-8 text, unpacked where its name ends in .gz. Raises DataError."""
    try:
        if path.suffix == ".gz":
            return cast(IO[str], gzip.open(path, "rt", encoding="utf-8-sig"))
        return path.open(encoding="utf-8-sig", newline="")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def read_json(path: Path) -> Any:
    """A whole JSON file. Raises DataError."""
    try:
        with open_text(path) as file:
            return json.load(file)
    except (*READ_ERRORS, ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not JSON in UTF-8: {error}") from error


def read_coco(
    path: Path, report: RowCounter
) -> tuple[dict[int | str, dict[str, Any]], list[tuple[str, dict[str, Any]]]]:
    """Of a JSON file in COCO's layout, the images by id, and (place, annotation) of each annotation of one of them.

    What has no id or no image is reported as bad. Raises DataError for another layout.
    """
    document = read_json(path)
    if not isinstance(document, dict) or not all(isinstance(document.get(k), list) for k in ("images", "annotations")):
        raise DataError(f"{path}: must be a JSON object with the lists images and annotations")
    images: dict[int | str, dict[str, Any]] = {}
    for number, image in enumerate(document["images"]):
        key = image.get("id") if isinstance(image, dict) else None
        if not isinstance(key, int | str) or not isinstance(image.get("file_name"), str) or key in images:
            report.bad(f"{report.name(path)}: images {number}", image, "an id of its own and a file_name")
        else:
            images[key] = image
    annotations = []
    for number, annotation in enumerate(document["annotations"]):
        place = f"{report.name(path)}: annotations {number}"
        key = annotation.get("image_id") if isinstance(annotation, dict) else None
        if not isinstance(key, int | str) or key not in images:
            report.bad(place, annotation, "the image_id of one of images")
        else:
            annotations.append((place, annotation))
    return images, annotations


def read_records(path: Path, report: RowCounter) -> Iterator[tuple[str, Any]]:
    """(place, value) of each record: a line of JSON lines, a row of Parquet, an item of a JSON list, or the JSON value.

    A line that is not JSON is reported as bad; a file that cannot be read to its end raises DataError.
    """
    kind = [suffix for suffix in path.suffixes if suffix != ".gz"][-1:]
    if kind == [".jsonl"]:
        yield from _json_lines(path, report)
    elif kind == [".parquet"]:
        yield from _parquet_rows(path, report.name(path))
    else:
        yield from _json_items(path, report.name(path))


def _json_lines(path: Path, report: RowCounter) -> Iterator[tuple[str, Any]]:
    try:
        with open_text(path) as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                place = f"{report.name(path)}: line {number}"
                try:
                    value = json.loads(line)
                except (ValueError, RecursionError):
                    report.bad(place, line, "JSON")
                    continue
                yield place, value
    except READ_ERRORS as error:
        raise DataError(f"{path}: cannot be read to its end as UTF-8: {error}") from error


def _parquet_rows(path: Path, name: str) -> Iterator[tuple[str, Any]]:
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    try:
        number = 0
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    yield f"{name}: row {number}", row
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{path}: cannot be read as Parquet: {error}") from error


def _json_items(path: Path, name: str) -> Iterator[tuple[str, Any]]:
    """The items of a list, read piece by piece; of anything else, the one value."""
    decoder = json.JSONDecoder()
    text, at, number = "", 0, 0

    def fail(what: object) -> DataError:
        return DataError(f"{path}: is not JSON in UTF-8: item {number}: {what}")

    try:
        with open_text(path) as file:

            def more(size: int = CHUNK) -> bool:
                nonlocal text, at
                piece = file.read(size)
                text, at = text[at:] + piece, 0
                return bool(piece)

            def next_character() -> str:
                nonlocal at
                while True:
                    while at < len(text) and text[at] in _BLANK:
                        at += 1
                    if at < len(text):
                        return text[at]
                    if not more():
                        raise fail("the file ends before its list does")

            if next_character() != "[":
                while more():
                    pass
                yield name, json.loads(text[at:])
                return
            at += 1
            while next_character() != "]":
                if number:
                    if text[at] != ",":
                        raise fail(f"{show(text[at])} where a comma is expected")
                    at += 1
                    next_character()
                number += 1
                size = CHUNK
                while True:
                    try:
                        value, end = decoder.raw_decode(text, at)
                        if end < len(text):  # else it may be a number whose digits go on
                            break
                    except ValueError as error:
                        problem: object = error
                    else:
                        problem = "the file ends before its list does"
                    if not more(size):
                        raise fail(problem)
                    size *= 2  # so that a large item is not decoded over and over
                at = end
                yield f"{name}: item {number}", value
    except (*READ_ERRORS, ValueError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise fail(error) from error


def read_table(path: Path, report: RowCounter) -> Iterator[tuple[str, dict[str, str]]]:
    """(place, row) of a CSV file with a header, or of a TSV file; rows of another length than the header are bad."""
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    try:
        with open_text(path) as file:
            reader = csv.reader(file, delimiter="\t" if path.name.removesuffix(".gz").endswith(".tsv") else ",")
            header = next(reader, [])
            for row in reader:
                place = f"{report.name(path)}: line {reader.line_num}"
                if len(row) != len(header):
                    if row:
                        report.bad(place, row, f"{len(header)} fields, as the header has")
                    continue
                yield place, dict(zip(header, row, strict=True))
    except (*READ_ERRORS, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as CSV in UTF-8: {error}") from error
