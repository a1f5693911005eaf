import json
from pathlib import Path

import pytest

from evaluator.errors import DataError
from evaluator.tasks import (
    BASELINE_INTEGRAL,
    HIDDEN_NUMBERS,
    HIDDEN_WEIGHT,
    METRICS,
    OPEN_TASKS,
    OPEN_WEIGHT,
    parse_tasks,
)

GOOD = {"name": "Hidden1", "title": "Лишний предмет", "output": "text", "metric": "exact_match", "threshold": 0.3}


def test_open_tasks_are_the_slides():
    assert [task.name for task in OPEN_TASKS] == [
        "TextQA",
        "MathQA",
        "ImageGeneration",
        "ImageCaptioning",
        "VisualQA",
        "TRitW",
    ]
    assert [task.threshold for task in OPEN_TASKS] == [0.20, 0.25, 0.21, 0.15, 0.24, 0.13]
    baseline = sum(task.baseline or 0 for task in OPEN_TASKS) * OPEN_WEIGHT
    hidden = [0.20, 0.20, 0.27, 0.17, 0.30, 0.11]  # the slides' row for the leaderboard's own hidden tasks
    assert round(baseline + sum(hidden) * HIDDEN_WEIGHT, 3) == BASELINE_INTEGRAL
    assert len(hidden) == len(HIDDEN_NUMBERS)


def test_hidden_task_is_configuration():
    tasks = parse_tasks({"7": GOOD})
    assert sorted(tasks) == [0, 1, 2, 3, 4, 5, 7]
    assert (tasks[7].title, tasks[7].output, tasks[7].threshold, tasks[7].baseline) == (
        "Лишний предмет",
        "text",
        0.3,
        None,
    )


def test_every_text_metric_scores_a_perfect_answer():
    for name, metric in METRICS.items():
        if metric.per_answer:
            assert metric.per_answer("рыжий кот спит на тёплой печи", ["рыжий кот спит на тёплой печи"], None) > 0.9, (
                name
            )
            assert metric.per_answer("поезд", ["рыжий кот"], None) < 0.2, name


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        ("0", {}, "task '0' is not one of 6..11"),
        ("12", {}, "task '12' is not one of 6..11"),
        ("06", {}, "task '06' is not one of 6..11"),
        ("6", {"metric": "bleu"}, "metric 'bleu' is unknown; known are f1_lemmas"),
        ("6", {"metric": ["exact_match"]}, "metric ['exact_match'] is unknown"),
        ("6", {"output": "image"}, "metric exact_match scores text output, but output is 'image'"),
        ("6", {"output": ["text"]}, "output must be 'text' or 'image'"),
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


def test_all_faults_at_once():
    with pytest.raises(DataError) as caught:
        parse_tasks({"6": {"name": "Hidden1"}, "7": "text", "99": GOOD})
    assert len(caught.value.reasons) == 4  # output and metric missing; no object; unknown number


def test_shipped_sample_configuration_is_valid():
    path = Path(__file__).parents[2] / "sample_input" / "tasks.json"
    tasks = parse_tasks(json.loads(path.read_text(encoding="utf-8")))
    assert sorted(tasks) == list(range(12))
