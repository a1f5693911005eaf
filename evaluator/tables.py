"""One row for each id, as CSV or Parquet, for notebooks.

    id, task, name, title, metric, score, prediction, answers, instruction, images, labels, error

`score` is that of the id (ImageGeneration: its ruCLIP alone), missing where the task could not be scored, with the
reason in `error`. `prediction` is the scored text, or the path of the generated image below the output folder;
`answers` the accepted texts, or the path of the reference image below the data folder; `instruction` the input's texts,
one below the other; `images` the input's image paths; `labels` why the score is not the leaderboard's. In Parquet
`answers`, `images` and `labels` are lists, in CSV they are JSON.

CSV is UTF-8, every text is quoted and keeps its line breaks. A spreadsheet takes a cell that begins with = + - or @
for a formula, and a prediction comes from strangers; so in CSV an apostrophe is put before each text that begins with
one of these, or with their full-width forms, after white space or not, and before each that begins with a tab, a line
break, a NUL or an apostrophe. Taking one leading apostrophe off gives the text back. Parquet has the texts as they are.
`pandas.read_csv(path, dtype={"id": str, "prediction": str}, keep_default_na=False, na_values={"score": [""]})` reads
the file without making numbers of texts.
"""

import csv
import json
import os
from pathlib import Path

import pandas as pd

from evaluator.contract import Data
from evaluator.errors import DataError
from evaluator.limits import TABLE_FORMATS
from evaluator.score import Scores

_TEXTS = ("id", "name", "title", "metric", "prediction", "instruction", "error")
_LISTS = ("answers", "images", "labels")
_FORMULA = tuple("=+-@＝＋－＠")
_UNSAFE = ("\t", "\r", "\n", "\0", "'")


def frame(scores: Scores, data: Data) -> pd.DataFrame:
    """The rows described above, by task number, then in the order of the input."""
    examples = {example.id: example for example in data.examples}
    rows = []
    for task_score in scores.tasks:
        task = task_score.task
        for id, prediction in task_score.predictions.items():
            example = examples[id]
            rows.append(
                {
                    "id": id,
                    "task": task.number,
                    "name": task.name,
                    "title": task.title,
                    "metric": task.metric,
                    "score": task_score.ids.get(id),
                    "prediction": prediction,
                    "answers": list(example.answers) if example.truth_image is None else [example.truth_image],
                    "instruction": "\n".join(example.texts),
                    "images": list(example.images),
                    "labels": list(task_score.labels),
                    "error": task_score.error or "",
                }
            )
    return pd.DataFrame(rows).astype({"score": "float64"})


def write(path: Path, rows: pd.DataFrame) -> None:
    """Write `frame`'s rows in the format that the name tells, whole or not at all. Raises `DataError` for another."""
    if path.suffix.lower() not in TABLE_FORMATS:
        raise DataError(f"table {path}: the name must end in {' or '.join(TABLE_FORMATS)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        if path.suffix.lower() == ".csv":
            safe = rows.copy()
            for column in _LISTS:
                safe[column] = [json.dumps(cell, ensure_ascii=False) for cell in rows[column]]
            for column in _TEXTS:
                safe[column] = rows[column].map(escape)
            safe.to_csv(temporary, index=False, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n", encoding="utf-8")
        else:
            rows.to_parquet(temporary, index=False)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def escape(text: str) -> str:
    """`text`, with an apostrophe before it where a spreadsheet might calculate it or swallow its first character."""
    return f"'{text}" if text.lstrip().startswith(_FORMULA) or text.startswith(_UNSAFE) else text
