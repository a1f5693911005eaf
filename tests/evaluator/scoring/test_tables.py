import csv
import io
import json
import re

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluator.cli.app import main
from evaluator.core.errors import DataError
from evaluator.data.dataset import read_data
from evaluator.metrics.meteor import WITHOUT_RUWORDNET
from evaluator.scoring import tables
from tests.support.pixel_encoders import BrokenEncoders, PixelEncoders, score_folder

pytestmark = pytest.mark.slow

HOSTILE = {
    "0": '=HYPERLINK("http://example.org","нажми")',
    "1": '+1\n-1; "кавычки", запятая',
    "2": " \t@SUM(A1:A9)",
    "100": "-38",
    "101": "'апостроф",
    "102": "",
    "400": "первая\r\nвторая",
    "401": "＝1+1",
    "402": "05",
    "500": 'ответ;=HYPERLINK("http://example.org")',
    "501": "первая\n=1+1;\t-2;'3; \"@SUM(A1);\u2028＝4",
}


@pytest.fixture
def rows(data_folder, output_folder, edit_json):
    def change(predictions):
        for id, text in HOSTILE.items():
            predictions[id] = [{"type": "text", "content": text}]

    edit_json(output_folder / "predictions.json", change)
    data = read_data(data_folder)
    return tables.frame(score_folder(output_folder, data, PixelEncoders()), data)


def test_a_row_for_each_id(rows):
    assert list(rows.columns) == (
        "id task name title metric score prediction answers instruction images labels error".split()
    )
    assert len(rows) == 36 and list(rows.task) == sorted(rows.task) and rows.id.is_unique
    by_id = rows.set_index("id")
    assert by_id.loc["502"].to_dict() == {
        "task": 5,
        "name": "TRitW",
        "title": "Текст на изображении",
        "metric": "one_minus_ned",
        "score": 1.0,
        "prediction": "Ёлки-палки",
        "answers": ["Ёлки-палки", "иной ответ"],
        "instruction": "Инструкция «5»: ответь на вопрос, ёж?",
        "images": ["images/502.png"],
        "labels": [],
        "error": "",
    }
    picture = by_id.loc["200"]
    assert picture.prediction == "images/image_200.jpg" and picture.answers == ["gt_images/200.png"]
    assert picture.instruction == "Нарисуй картинку.\nКрасный мяч на траве."
    assert by_id.loc["400"].labels == [WITHOUT_RUWORDNET]


def test_csv_has_no_formula_and_keeps_every_text(rows, tmp_path):
    path = tmp_path / "new" / "rows.csv"
    tables.write(path, rows)
    with open(path, encoding="utf-8", newline="") as file:
        cells = list(csv.DictReader(file))
    assert len(cells) == 36 and [file.name for file in path.parent.iterdir()] == ["rows.csv"]
    for row in cells:
        for name, cell in row.items():
            assert name == "score" or not cell.strip().startswith(tuple("=+-@＝＋－＠")), (name, cell)
    read = {row["id"]: row for row in cells}
    for id, text in HOSTILE.items():
        cell = read[id]["prediction"]
        assert tables.unescape(cell) == text
    assert read["100"]["prediction"] == "'-38" and read["101"]["prediction"] == "''апостроф"
    assert json.loads(read["500"]["answers"]) == ["Ёлки-палки", "иной ответ"]
    assert [float(row["score"]) for row in cells] == pytest.approx(list(rows.score))


def test_csv_is_read_as_documented(rows, tmp_path):
    path = tmp_path / "rows.csv"
    tables.write(path, rows)
    kinds = {"id": str, "prediction": str}
    read = pd.read_csv(path, dtype=kinds, keep_default_na=False, na_values={"score": [""]})
    assert list(read.columns) == list(rows.columns) and read.score.dtype == "float64"
    assert [tables.unescape(cell) for cell in read.prediction] == list(rows.prediction)


def test_parquet_has_the_texts_as_they_are(rows, tmp_path):
    path = tmp_path / "rows.parquet"
    tables.write(path, rows)
    read = pd.read_parquet(path)
    assert read.set_index("id").prediction[list(HOSTILE)].to_dict() == HOSTILE
    assert [list(answers) for answers in read.answers] == list(rows.answers)
    assert list(read.score) == list(rows.score)


def test_a_task_without_a_score_has_rows_and_the_reason(data_folder, output_folder, tmp_path):
    data = read_data(data_folder)
    rows = tables.frame(score_folder(output_folder, data, BrokenEncoders()), data)
    failed = rows[rows.score.isna()]
    assert set(failed.task) == {2, 3, 10} and set(failed.error) == {"RuntimeError: out of memory"}
    tables.write(tmp_path / "rows.csv", rows)
    with open(tmp_path / "rows.csv", encoding="utf-8", newline="") as file:
        assert {row["score"] for row in csv.DictReader(file) if row["task"] == "2"} == {""}
    tables.write(tmp_path / "rows.parquet", rows)
    assert pd.read_parquet(tmp_path / "rows.parquet").score.isna().sum() == 9


def cells_of_any_spreadsheet(content):
    """What is a cell's start to a spreadsheet that separates by comma, semicolon or tab, heeds quotes or not, and ends
    a row at a line break inside of quotes or not.
    """
    for delimiter in ",;\t":
        for lines in (io.StringIO(content, newline=""), io.StringIO("\n".join(content.splitlines()), newline="")):
            for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_NONE):
                if delimiter == "," and quoting == csv.QUOTE_NONE:
                    continue  # every number after a comma would be one
                lines.seek(0)
                for row in csv.reader(lines, delimiter=delimiter, quoting=quoting):
                    yield from row


def test_no_spreadsheet_finds_a_formula_in_the_file(rows, tmp_path):
    rows.at[0, "answers"] = ["a;=1+1", 'b;"+2', "\u2028@c", "-d"]
    rows.at[1, "instruction"] = "Сравни:\n-4;\n\n+5"
    tables.write(tmp_path / "rows.csv", rows)
    content = (tmp_path / "rows.csv").read_text(encoding="utf-8")
    for cell in cells_of_any_spreadsheet(content):
        assert not cell.strip(' "\t').startswith(tuple("=+-@＝＋－＠")), cell
    with open(tmp_path / "rows.csv", encoding="utf-8", newline="") as file:
        first = next(csv.DictReader(file))
    assert json.loads(first["answers"]) == ["a;=1+1", 'b;"+2', "\u2028@c", "-d"]


@given(st.text(st.one_of(st.sampled_from("=-;\t\n\r\"' а"), st.characters()), max_size=12))
def test_escaping_can_be_undone_and_leaves_no_formula(text):
    cell = tables.escape(text)
    assert tables.unescape(cell) == text
    for part in re.split("[;\t\n\r\x85\u2028\u2029]", cell):
        assert not part.strip(' "').startswith(tuple("=+-@＝＋－＠"))
    assert not cell.startswith(("\t", "\r", "\n"))


def test_other_formats_are_refused(rows, tmp_path):
    with pytest.raises(DataError, match="must end in .csv or .parquet"):
        tables.write(tmp_path / "rows.xlsx", rows)


def test_command_line(make_data, make_output, tmp_path, capsys):
    folder = make_data(0, 5)
    arguments = ["score", str(make_output(folder)), "--data", str(folder), "--table"]
    assert main([*arguments, str(tmp_path / "new" / "rows.parquet")]) == 0
    assert list(pd.read_parquet(tmp_path / "new" / "rows.parquet").score) == pytest.approx([1.0] * 6)
    assert main([*arguments, str(tmp_path / "rows.txt")]) == 2
    assert "must end in .csv or .parquet" in capsys.readouterr().err
