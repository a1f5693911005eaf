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
        ([1], "must be an object of descriptions, not [1]"),
        ({"кот": 1}, "'кот' must have a list of boxes, not 1"),
        ({"кот": [1]}, "'кот' must have boxes of four numbers, not [1]"),
    ],
)
def test_what_are_no_boxes_is_named(folders, value, said):
    data, output, competition = folders(entry("json", {"кот": [[0, 0, 1, 1]]}), entry("json", value))
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


def test_what_is_only_counted_may_be_anything(folders):
    """As in the layout of FusionBrain Challenge 1.0, so that an answer scores the same in both."""
    [result] = scored(*folders(entry("json", {"кот": []}), entry("json", {"кот": [5], "пёс": 7}))).tasks
    assert result.parts == {"tp": 0, "fp": 1, "fn": 0}


OWN_METRIC = """
from evaluator.metrics.base import Metric, Result

def evaluate(samples, resources):
    return Result.mean([float(each.predicted_json == each.reference_json) for each in samples])

METRICS = (Metric("equal", "equal values", "json", evaluate),)
"""


@pytest.mark.parametrize(("answer", "score"), [({"a": [1, None]}, 1.0), (None, 0.0), ("{}", 0.0)])
def test_an_own_metric_without_a_schema_takes_any_value(folders, tmp_path, answer, score):
    (tmp_path / "equal.py").write_text(OWN_METRIC, encoding="utf-8")
    text = 'metrics = ["equal.py"]\n' + DEFINITION.replace("box_f1", "equal")
    [result] = scored(*folders(entry("json", {"a": [1, None]}), entry("json", answer), text)).tasks
    assert result.score == score


def test_what_is_not_of_an_own_metrics_schema_is_named(folders, tmp_path):
    own = OWN_METRIC.replace("evaluate)", "evaluate, schema=dict[str, list[int]])")
    (tmp_path / "equal.py").write_text(own, encoding="utf-8")
    text = 'metrics = ["equal.py"]\n' + DEFINITION.replace("box_f1", "equal")
    with pytest.raises(SubmissionError, match=r"id 'a' \(Boxes\): Input should be a valid integer at \['кот'\]\[1\]"):
        scored(*folders(entry("json", {"кот": [1]}), entry("json", {"кот": [1, "2"]}), text))


def test_a_json_answer_that_is_a_text_keeps_the_rules_of_texts(folders):
    text = DEFINITION.replace("box_f1", "string_accuracy")
    with pytest.raises(SubmissionError, match=r"id 'a' \(Boxes\): a text with a control character, U\+007F"):
        scored(*folders(entry("json", "кот"), entry("json", "кот\x7f"), text))


def test_a_metric_that_compares_by_language_must_be_told_it(folders):
    """By the data, which no submission answers for; an English question must not be taken for a Russian one."""
    text = DEFINITION.replace('"json"', '"text"').replace("box_f1", "vqa_accuracy")
    data, output, competition = folders(entry("text", ["cat"]), entry("text", "a cat"), text)
    with pytest.raises(DataError, match="no language, but metric vqa_accuracy compares by it.*truth-language"):
        read_data(data, competition)
    truth = [{"type": "text", "content": ["cat"], "language": "en"}]
    (data / "ground_truth.json").write_text(json.dumps({"a": truth}), encoding="utf-8")
    assert scored(data, output, competition).tasks[0].score == 1


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
