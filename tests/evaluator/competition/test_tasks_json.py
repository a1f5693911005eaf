import json
import math
import textwrap
from pathlib import Path

import pytest

from evaluator.competition import tasks_json
from evaluator.competition.definition import default, find
from evaluator.competition.task import Task
from evaluator.core.errors import DataError
from evaluator.metrics import registry
from evaluator.metrics.assets import FOLDER
from evaluator.metrics.base import Resources, Sample
from evaluator.metrics.encoders import ENCODERS
from evaluator.metrics.registry import METRICS

METEOR = {"metric": "vqa_meteor"}
GOOD = {"name": "Hidden1", "title": "Лишний предмет", "output": "text", "metric": "exact_match", "threshold": 0.3}


OPEN_TASKS = tuple(default().tasks.values())


def parse_tasks(document):
    return tasks_json.parse_tasks(document, find("fbc2"))


def test_numbers_stay_as_they_are_written():
    task = parse_tasks({"7": GOOD | {"baseline": 1, "threshold": 0}})[7]
    assert repr((task.baseline, task.threshold)) == "(1, 0)"


def test_hidden_task_is_configuration():
    tasks = parse_tasks({"7": GOOD})
    assert sorted(tasks) == [0, 1, 2, 3, 4, 5, 7]
    assert (tasks[7].title, tasks[7].output, tasks[7].threshold, tasks[7].baseline) == (
        "Лишний предмет",
        "text",
        0.3,
        None,
    )


def scored(name, prediction, *answers, **parameters):
    sample = Sample("0", prediction=prediction, answers=answers)
    return METRICS[name].evaluate([sample], Resources(FOLDER), **parameters).total


def test_every_text_metric_scores_a_perfect_answer():
    others = ("codebleu", "vqa_accuracy")  # of programs; with answers that are lemmas
    text_metrics = [
        name
        for name, metric in METRICS.items()
        if metric.output == "text" and ENCODERS not in metric.requires and name not in others
    ]
    assert len(text_metrics) == 5
    for name in text_metrics:
        assert scored(name, "рыжий кот спит на тёплой печи", "рыжий кот спит на тёплой печи") > 0.9, name
        assert scored(name, "поезд", "рыжий кот") < 0.2, name


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        ("12", {}, "task '12' is not one of 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11"),
        ("06", {}, "task '06' is not one of 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11"),
        ("6", {"hidden": "yes"}, "task 6: hidden must be true or false, not 'yes'"),
        ("6", {"parameters": [1]}, "task 6: parameters must be an object, not [1]"),
        (
            "6",
            {"parameters": {"gamma": 0.5}},
            "tasks.json: task 6: parameters: unknown key 'gamma'; metric exact_match allows option_letters",
        ),
        ("6", {"parameters": {"option_letters": 1}}, "parameters: option_letters must be true or false, not 1"),
        (
            "6",
            METEOR | {"parameters": {"gama": 0.5}},
            "parameters: unknown key 'gama'; metric vqa_meteor allows alpha, beta, gamma, stemmer; is 'gamma' meant?",
        ),
        ("6", METEOR | {"parameters": {"gamma": 1.5}}, "parameters: gamma must be a number in 0..1, not 1.5"),
        ("6", METEOR | {"parameters": {"gamma": True}}, "parameters: gamma must be a number in 0..1, not True"),
        ("6", METEOR | {"parameters": {"gamma": "0.5"}}, "parameters: gamma must be a number in 0..1, not '0.5'"),
        ("6", METEOR | {"parameters": {"beta": -1}}, "parameters: beta must be a number in 0..100, not -1"),
        ("6", METEOR | {"parameters": {"beta": math.nan}}, "parameters: beta must be a number in 0..100, not nan"),
        (
            "6",
            METEOR | {"parameters": {"stemmer": "snowball"}},
            "parameters: stemmer must be one of 'russian', 'porter', 'none', not 'snowball'",
        ),
        (
            "6",
            {"output": "image", "metric": "image_generation", "parameters": {"fid_ceiling": 0}},
            "parameters: fid_ceiling must be a number >= 1, not 0",
        ),
        ("6", {"metric": "bleu"}, "metric 'bleu' is unknown; known are f1_lemmas"),
        ("6", {"metric": ["exact_match"]}, "metric ['exact_match'] is unknown"),
        ("6", {"output": "image"}, "metric exact_match scores text output, but output is 'image'"),
        ("6", {"output": ["text"]}, "output must be 'text', 'image' or 'json'"),
        ("6", {"threshold": 1.5}, "threshold must be a number in 0..1, not 1.5"),
        ("6", {"baseline": True}, "baseline must be a number in 0..1, not True"),
        ("6", {"name": " "}, "name must be a text that is not empty"),
        ("6", {"name": "TextQA"}, "two tasks are named 'TextQA'"),
        ("6", {"weight": 2}, "unknown key 'weight'"),
    ],
)
def test_wrong_configuration_is_named(key, change, message):
    with pytest.raises(DataError) as caught:
        parse_tasks({key: GOOD | change})
    assert message in str(caught.value)


def test_parameters_are_configuration():
    entry = GOOD | METEOR | {"parameters": {"gamma": 1, "stemmer": "russian", "alpha": 0.9}, "hidden": False}
    task = parse_tasks({"8": entry})[8]
    assert dict(task.parameters) == {"gamma": 1, "stemmer": "russian"}, "alpha is at its default"
    assert task.metric_title == "METEOR (gamma 1, stemmer russian)" and not task.hidden
    assert parse_tasks({"8": GOOD})[8].hidden and not any(task.hidden for task in OPEN_TASKS)
    assert hash(task) != hash(OPEN_TASKS[0]), "tasks are keys"


def test_of_an_open_task_only_what_is_shown_can_be_set():
    shown = {"title": "Фото", "baseline": 0.1, "threshold": None, "description": "наши фото"}
    task = parse_tasks({"4": shown})[4]
    assert task == Task(4, "VisualQA", "Фото", METRICS["vqa_meteor"], 1 / 15, 0.1, None)
    same = {"name": "VisualQA", "output": "text", "metric": "vqa_meteor", "parameters": {"gamma": 0}, "hidden": False}
    assert parse_tasks({"4": same})[4] == OPEN_TASKS[4]
    with pytest.raises(DataError) as caught:
        parse_tasks({"4": {"name": "VQA", "metric": "exact_match", "hidden": True}, "0": {"parameters": {"gamma": 0}}})
    assert [f"{finding.where}: {finding.found}" for finding in caught.value.findings] == [
        "tasks.json: task 4: name of an open task is 'VisualQA' and cannot be 'VQA'",
        "tasks.json: task 4: metric of an open task is 'vqa_meteor' and cannot be 'exact_match'",
        "tasks.json: task 4: hidden of an open task is False and cannot be True",
        "tasks.json: task 0: parameters: unknown key 'gamma'; metric f1_lemmas allows option_letters",
    ]
    assert [finding.rule for finding in caught.value.findings] == ["tasks-fixed"] * 3 + ["tasks-value"]
    with pytest.raises(DataError, match="task 4: parameters: gamma of an open task is 0.0 and cannot be 0.5"):
        parse_tasks({"4": {"parameters": {"gamma": 0.5}}})


def test_parameters_change_scores():
    assert scored("caption_meteor", "кот", "кот") == 0.5
    assert scored("caption_meteor", "кот", "кот", gamma=0.0) == 1.0
    assert scored("caption_meteor", "коты", "котов") == 0.5
    assert scored("caption_meteor", "коты", "котов", stemmer="porter") == 0.0
    assert scored("caption_meteor", "кот пёс", "кот", gamma=0.0, alpha=0.0) == 0.5, "precision alone"
    assert scored("caption_meteor", "кот пёс", "кот", gamma=0.0, alpha=1.0) == 1.0, "recall alone"
    assert scored("exact_match", "b) 7", "b") == 1.0
    assert scored("exact_match", "b) 7", "b", option_letters=False) == 0.0
    assert scored("one_minus_ned", "ВХОД", "вход") == 0.0
    assert scored("one_minus_ned", "ВХОД", "вход", ignore_case=True) == 1.0


def test_every_metric_can_be_named_and_takes_its_defaults():
    for name, metric in METRICS.items():
        assert metric.name == name and metric.parameters(**metric.defaults()).model_dump() == metric.defaults()
        entry = {"name": "H", "output": metric.output, "metric": name, "parameters": metric.defaults()}
        assert parse_tasks({"6": entry})[6].parameters == {}


def test_a_metric_is_one_file_and_one_line(tmp_path, monkeypatch):
    (tmp_path / "share_of_letters.py").write_text(
        textwrap.dedent(
            """
            from typing import Annotated
            from evaluator.core.validation import number
            from evaluator.metrics.base import Parameters, text_metric

            class Power(Parameters):
                power: Annotated[float, number(0, 4)] = 1.0

            def share(prediction, answers, *, power=1.0):
                return max(len(set(prediction) & set(answer)) / len(set(answer)) for answer in answers) ** power

            METRICS = (text_metric("share_of_letters", "shared letters", share, Power),)
            """
        ),
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    added = registry.collect(["evaluator.metrics.edit", "share_of_letters"])
    assert list(added) == ["one_minus_ned", "share_of_letters"]
    with pytest.raises(ValueError, match="'one_minus_ned' is already defined"):
        registry.collect(["evaluator.metrics.edit", "evaluator.metrics.edit"])
    monkeypatch.setitem(METRICS, "share_of_letters", added["share_of_letters"])
    task = parse_tasks({"6": GOOD | {"metric": "share_of_letters", "parameters": {"power": 2}}})[6]
    sample = Sample("0", prediction="кот", answers=("кита", "кот да"))
    result = task.metric.evaluate([sample], Resources(FOLDER), **task.parameters)
    assert result.total == pytest.approx((3 / 6) ** 2)


def test_all_faults_at_once():
    with pytest.raises(DataError) as caught:
        parse_tasks({"6": {"name": "Hidden1"}, "7": "text", "99": GOOD})
    # output and metric missing; no object; unknown number
    assert [finding.rule for finding in caught.value.findings] == ["tasks-shape"] * 4


def test_shipped_sample_configuration_is_valid():
    path = Path(__file__).parents[3] / "sample_input" / "tasks.json"
    tasks = parse_tasks(json.loads(path.read_text(encoding="utf-8")))
    assert sorted(tasks) == list(range(12))
