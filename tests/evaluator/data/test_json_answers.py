"""JSON answers in the standard contract: of the metric's schema, and only where a task has any."""

import json

import numpy as np
import pytest
from PIL import Image

from evaluator.competition.definition import find
from evaluator.core.errors import DataError, SubmissionError
from evaluator.data.contracts import read_data, read_predictions
from evaluator.scoring.score import score

DEFINITION = """
name = "boxes"
image = "a/b:1"
title = { en = "Boxes" }

[[tasks]]
number = 3
name = "Boxes"
answer = "json"
metric = "box_f1"
weight = 1
"""


def entry(type, content):
    return [{"type": type, "content": content}]


@pytest.fixture
def folders(tmp_path):
    """Writes a definition, data and an output folder; returns what reads and scores them."""

    def make(truth, predicted, definition=DEFINITION, number=3):
        (tmp_path / "competition.toml").write_text(definition, encoding="utf-8")
        data, output = tmp_path / "data", tmp_path / "output"
        for folder in (data / "images", output):
            folder.mkdir(parents=True)
        Image.fromarray(np.zeros((60, 80, 3), dtype=np.uint8)).save(data / "images" / "ё.png")
        asked = [{"type": "image", "content": "images/ё.png"}, {"type": "text", "content": "Где рыжий кот?"}]
        documents = {"input.json": {"a": asked}, "ground_truth.json": {"a": truth}, "sample_ids.json": {"a": number}}
        for name, document in documents.items():
            (data / name).write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
        (output / "predictions.json").write_text(json.dumps({"a": predicted}, ensure_ascii=False), encoding="utf-8")
        return data, output, find(str(tmp_path))

    return make


def scored(data, output, competition):
    read = read_data(data, competition)
    return score(read_predictions(output, read), read)


def test_boxes_are_scored(folders):
    boxes = {"кот": [[0, 0, 10, 10], [50, 0, 10, 10]], "пёс": []}
    found = {"кот": [[1, 0, 10, 10]], "пёс": [[0, 0, 1, 1]]}
    made = folders(entry("json", boxes), [*entry("text", "лишнее"), *entry("json", found)])
    [result] = scored(*made).tasks
    assert result.parts == {"tp": 1, "fp": 1, "fn": 1} and result.ids == {"a": result.score} == {"a": 0.5}
    assert json.loads(result.predictions["a"]) == found
    other = read_data(made[0], made[2])
    assert other.examples[0].truth_json == boxes


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([1], "Input should be a valid dictionary"),
        ({"кот": 1}, "Input should be a valid list at ['кот']"),
        ({"кот": [1]}, "Input should be a valid list at ['кот'][0]"),
    ],
)
def test_what_is_not_of_the_schema_is_named(folders, value, said):
    data, output, competition = folders(entry("json", {"кот": []}), entry("json", value))
    with pytest.raises(SubmissionError) as caught:
        scored(data, output, competition)
    assert f"id 'a' (Boxes): {said}" in str(caught.value) and caught.value.findings[0].rule == "answer-json"
    (data / "ground_truth.json").write_text(json.dumps({"a": entry("json", value)}), encoding="utf-8")
    with pytest.raises(DataError, match="truth-json"):
        scored(data, output, competition)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"кот": [[1, 2, 3]]}, "'кот' must have boxes of four numbers, not [[1, 2, 3]]"),
        ({"кот": [["1", 2, 3, 4]]}, "'кот' must have boxes of four numbers, not [['1', 2, 3, 4]]"),
        ({"пёс": []}, "has no entry for 'кот', which was asked for"),
    ],
)
def test_boxes_that_are_none_are_the_submissions_fault(folders, value, said):
    """Not the metric's, which could not go on with them."""
    with pytest.raises(SubmissionError) as caught:
        scored(*folders(entry("json", {"кот": [[1, 2, 3, 4]]}), entry("json", value)))
    assert f"id 'a' (Boxes): {said}" in str(caught.value) and caught.value.findings[0].rule == "answer-json"


def test_true_boxes_that_are_none_are_the_organizers(folders):
    with pytest.raises(
        DataError, match=r"'кот' must have boxes of four finite numbers, not \[\[\]\]; .*\[truth-json\]"
    ):
        scored(*folders(entry("json", {"кот": [[]]}), entry("json", {"кот": []})))


def test_an_answer_of_another_type_is_missing(folders):
    with pytest.raises(SubmissionError, match="no json entry, and the task's output is json"):
        scored(*folders(entry("json", {}), entry("text", "{}")))


def test_where_no_task_has_them_they_are_refused(folders):
    text = DEFINITION.replace('"json"', '"text"').replace("box_f1", "exact_match")
    made = folders(entry("text", ["кот"]), [*entry("text", "кот"), *entry("json", {})], text)
    with pytest.raises(SubmissionError, match="type must be 'text' or 'image', not 'json'"):
        scored(*made)
