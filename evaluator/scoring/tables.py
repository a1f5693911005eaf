"""One row for each id, as CSV or Parquet, for notebooks.

    id, task, name, title, metric, score, prediction, answers, instruction, images, labels, error

`score` is that of the id (of generated images: its ruCLIP alone), missing where the task could not be scored, with the
reason in `error`. `prediction` is the scored text, or the path of the generated image below the output folder;
`answers` the accepted texts, or the path of the reference image below the data folder; `instruction` the input's texts,
one below the other; `images` the input's image paths; `labels` why the score is not the leaderboard's. In Parquet
`answers`, `images` and `labels` are lists, in CSV they are JSON.

CSV is UTF-8, every text is quoted and keeps its line breaks. A spreadsheet takes a cell that begins with = + - or @
for a formula, and a prediction comes from strangers. One that separates by semicolon (as Russian ones do) or tab reads
no quotes of ours, and begins a cell after each of these and each line break as well. So in CSV an apostrophe stands
wherever a cell may begin, which is where a text does and after each ; tab and line break of it, if what follows, after
white space and quotes or not, is one of = + - @ or their full-width forms, or is an apostrophe; and before a text that
begins with a tab, a line break or a NUL. `unescape` takes these off again. In the JSON of lists such a = + - or @ is
written as its \\u escape, which readers of JSON undo. Parquet has the texts as they are.
`pandas.read_csv(path, dtype={"id": str, "prediction": str}, keep_default_na=False, na_values={"score": [""]})` reads
the file without making numbers of texts.
"""

import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from evaluator.core.errors import DataError
from evaluator.core.files import replacing
from evaluator.core.limits import TABLE_FORMATS
from evaluator.data.dataset import Data, Example
from evaluator.scoring.score import Scores

_FORMULA = "=+-@＝＋－＠"
_UNSAFE = ("\t", "\r", "\n", "\0", "'")
_BREAKS = ";\t\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"  # after which some spreadsheet begins a cell
# What may stand between a cell's start and its formula: taken as a whole, so that the time is linear.
_BLANKS = rf'[{_BREAKS}\s"\0\ufeff]'
_BLANK = re.compile(f"{_BLANKS}+")
_BREAK = re.compile(f"[{_BREAKS}]")
_FORMULA_IN_LIST = re.compile(f"(?<!{_BLANKS})({_BLANKS}++)([{re.escape(_FORMULA)}])")
_DISARMED = re.compile(f"['{re.escape(_FORMULA)}]")  # before which `escape` writes an apostrophe, in some places
_ESCAPED = re.compile(rf"(\A|[{_BREAKS}])'")


def frame(scores: Scores, data: Data) -> pd.DataFrame:
    """The rows described above, by task number, then in the order of the input."""
    examples = {(example.task.number, example.key): example for example in data.examples}
    rows = []
    for task_score in scores.tasks:
        task = task_score.task
        for id, prediction in task_score.predictions.items():
            example = examples[task.number, id]
            rows.append(
                {
                    "id": id,
                    "task": task.number,
                    "name": task.name,
                    "title": task.title,
                    "metric": task.metric.name,
                    "score": task_score.ids.get(id),
                    "prediction": prediction,
                    "answers": _accepted(example),
                    "instruction": "\n".join(example.texts),
                    "images": list(example.images),
                    "labels": list(task_score.labels),
                    "error": task_score.error or "",
                }
            )
    return pd.DataFrame(rows).astype({"score": "float64"})


def _accepted(example: Example) -> list[str]:
    if example.task.output == "json":
        return [json.dumps(example.truth_json, ensure_ascii=False)]
    return list(example.answers) if example.truth_image is None else [example.truth_image]


def write(path: Path, rows: pd.DataFrame) -> None:
    """Write rows, such as `frame`'s, in the format that the name tells, whole or not at all. Raises `DataError` for
    another.
    """
    if path.suffix.lower() not in TABLE_FORMATS:
        raise DataError(f"table {path}: the name must end in {' or '.join(TABLE_FORMATS)}")
    with replacing(path) as temporary:
        if path.suffix.lower() == ".csv":
            temporary.write_bytes(to_csv(rows))
        else:
            rows.to_parquet(temporary, index=False)


def to_csv(rows: pd.DataFrame) -> bytes:
    """Rows as `write` has them in a CSV."""
    safe = rows.copy()
    for column in rows.select_dtypes("object"):
        safe[column] = rows[column].map(_cell)
    text: str = safe.to_csv(index=False, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    return text.encode()


def of_rows(rows: Sequence[dict[str, Any]], columns: Sequence[str] = ()) -> pd.DataFrame:
    """A frame of rows that have the same keys; `columns` are these, where there may be no row. Whole numbers stay so
    where some are missing.
    """
    found = pd.DataFrame(rows, columns=None if rows else list(columns))
    for column in found:
        if {type(row[column]) for row in rows} == {int, type(None)}:  # pandas would make them floats
            found[column] = pd.array([row[column] for row in rows], dtype="Int64")
    return found


def escape(text: str) -> str:
    """`text`, with an apostrophe wherever a spreadsheet might begin a cell and calculate it, or swallow its first
    character.
    """
    line = f"\n{text}"  # its start begins a cell, too

    def disarm(match: re.Match[str]) -> str:
        following = line[match.end() : match.end() + 1]
        if following and following in _FORMULA:
            return _BREAK.sub(r"\g<0>'", match[0])
        return f"{match[0]}'" if following == "'" and _BREAK.match(match[0][-1]) else match[0]

    escaped = _BLANK.sub(disarm, line)[1:] if _DISARMED.search(text) else text
    return f"'{escaped}" if text.startswith(_UNSAFE) and not escaped.startswith("'") else escaped


def unescape(cell: str) -> str:
    """The text that `escape` made this cell of."""
    return _ESCAPED.sub(r"\1", cell)


def _cell(value: Any) -> Any:
    """What stands in a CSV for a text or a list; other values as they are."""
    if isinstance(value, list):
        return _list(value)
    return escape(value) if isinstance(value, str) else value


def _list(texts: list[str]) -> str:
    """JSON in which nothing that a spreadsheet might take for a cell's start goes before a formula."""

    def disarm(match: re.Match[str]) -> str:
        return f"{match[1]}\\u{ord(match[2]):04x}" if _BREAK.search(match[1]) else match[0]

    return _FORMULA_IN_LIST.sub(disarm, json.dumps(texts, ensure_ascii=False))
