"""The contract of FusionBrain Challenge 1.0: the vectors of its published evaluation as folders, scored from end to
end, and what is said of folders that are not as they should be.
"""

import json
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from evaluator.competition.definition import Definition, find
from evaluator.core.errors import DataError, SubmissionError
from evaluator.data.contracts import CONTRACTS, read_data, read_predictions
from evaluator.data.convert import OTHER
from evaluator.scoring.score import score
from tests.support.fbc1 import write

VECTORS = Path(__file__).parents[2] / "data" / "fbc1"
TASKS = {"C2C": "c2c", "HTR": "htr", "zsOD": "zsod", "VQA": "vqa"}
SCORES = json.loads((VECTORS / "scores.json").read_text(encoding="utf-8"))
LABEL = "grammar: the current one of Python, not comparable with the leaderboard"


@pytest.fixture(scope="module")
def fbc1():
    return find("fbc1")


def vectors(task):
    return json.loads((VECTORS / f"{TASKS[task]}.json").read_text(encoding="utf-8"))


@pytest.fixture
def folders(tmp_path):
    """Writes truths and predictions by task; returns the data folder and the output folder."""

    def write(**tasks):
        data, output = tmp_path / "data", tmp_path / "output"
        for folder in (data, output):
            folder.mkdir(exist_ok=True)
        for task, (truth, prediction) in tasks.items():
            (data / f"true_{task}.json").write_text(json.dumps(truth, ensure_ascii=False), encoding="utf-8")
            text = json.dumps(prediction, ensure_ascii=False)
            (output / f"prediction_{task}.json").write_text(text, encoding="utf-8")
        return data, output

    return write


def scored(folders, fbc1):
    data = read_data(folders[0], fbc1)
    return score(read_predictions(folders[1], data), data)


def of_ids(task, ids):
    known = vectors(task)
    return tuple({id: known[part][id] for id in ids if id in known[part]} for part in ("true", "prediction"))


def number(expected):
    return expected if isinstance(expected, int | float) else expected["score"]


@pytest.mark.parametrize("task", ["HTR", "zsOD", "VQA"])
def test_the_published_scores(folders, fbc1, task):
    known, expected = vectors(task), SCORES[TASKS[task]]
    for name, ids in known["sets"].items():
        [result] = scored(folders(**{task: of_ids(task, ids)}), fbc1).tasks
        assert result.score == pytest.approx(number(expected["sets"][name]), abs=1e-9), name
        assert result.task.name == {"zsOD": "ZsOD"}.get(task, task)
        assert result.n == len(ids) and list(result.ids) == ids
        for id in ids:
            assert result.ids[id] == pytest.approx(number(expected["per_id"][id]), abs=1e-9), id


def test_the_published_integral(folders, fbc1):
    """Each task's score is rounded to three decimals. Without the published grammar C2C's is another."""
    for name in ("size_5", "size_20"):
        tasks = {task: of_ids(task, vectors(task)["sets"][name]) for task in TASKS}
        scores = scored(folders(**tasks), fbc1)
        made = {task.task.name: task for task in scores.tasks}
        assert made["C2C"].labels == (LABEL,) and scores.labels == (LABEL,)
        parts = SCORES["c2c"]["sets"][name]
        for part in ("ngram", "weighted_ngram"):
            assert made["C2C"].parts[part] == pytest.approx(parts[part], abs=1e-9)
        others = [SCORES["integral"][name][TASKS[task]] for task in ("HTR", "zsOD", "VQA")]
        assert scores.integral == pytest.approx(round(made["C2C"].score, 3) + sum(others), abs=1e-12)
        document = scores.to_json()
        assert document["competition"]["name"] == "fbc1" and document["integral"] == scores.integral


@pytest.mark.parametrize(
    ("task", "special", "score_or_fault"),
    [
        ("C2C", "empty", "must be an object with at least one key, not {}"),
        ("C2C", "list_as_truth", "must be a text, not ["),
        ("C2C", "missing_first", "missing"),
        ("C2C", "missing_last", "missing"),
        ("C2C", "no_prediction", "missing"),
        ("C2C", "none", "must be a text, not null"),
        ("C2C", "number", "must be a text, not a number"),
        ("HTR", "empty", "must be an object with at least one key, not {}"),
        ("HTR", "list", 0.75),
        ("HTR", "none", 0.6),
        ("HTR", "number", 0.6),
        ("HTR", "number_as_truth", 1.0),
        ("HTR", "no_prediction", 0.0),
        ("HTR", "extra_key", 1.0),
        ("VQA", "empty", "must be an object with at least one key, not {}"),
        ("VQA", "answer_null", 0.5),
        ("VQA", "answer_number", 0.0),
        ("VQA", "extra", "unknown, not among what was asked"),
        ("VQA", "missing", "missing"),
        ("VQA", "no_answer", "must be an object with answer and lang"),
        ("VQA", "no_lang", "lang must be a text, not None"),
        ("VQA", "none", "must be a text, not null"),
        ("VQA", "rounded", 0.062),
        ("zsOD", "box_not_nested", "boxes of four numbers, not [10, 10, 5, 5]"),
        ("zsOD", "extra_image", "unknown, not among what was asked"),
        ("zsOD", "extra_label", 0.7272727272727272),
        ("zsOD", "missing_image", "missing"),
        ("zsOD", "missing_label", "has no entry for"),
        ("zsOD", "negative_with_nested_pair", 0.0),
        ("zsOD", "nested_among_boxes", "boxes of four numbers, not [[], [10"),
        ("zsOD", "no_labels", 0.0),
        ("zsOD", "none", "must have a list of boxes, not None"),
        ("zsOD", "only_negatives_right", 0.0),
        ("zsOD", "strings", "boxes of four numbers, not [['10'"),
        ("zsOD", "three_numbers", "boxes of four numbers, not [[1, 2, 3]]"),
        ("zsOD", "true_nested_missed", "must have boxes of four finite numbers, not [[]]"),
        ("zsOD", "true_nested_predicted", "must have boxes of four finite numbers, not [[]]"),
        ("zsOD", "twice_nested", "boxes of four numbers, not [[], []]"),
    ],
)  # fmt: skip
def test_files_that_are_not_as_they_should_be(folders, fbc1, task, special, score_or_fault):
    known = vectors(task)["special"][special]
    made = folders(**{task: (known["true"], known["prediction"])})
    if isinstance(score_or_fault, str):
        with pytest.raises((DataError, SubmissionError)) as caught:
            scored(made, fbc1)
        fault = str(caught.value)
        name = f"{'true' if caught.type is DataError else 'prediction'}_{task}.json"
        assert score_or_fault in fault and name in fault
        of_truth = special in ("empty", "list_as_truth", "no_answer", "no_lang") or special.startswith("true_nested")
        assert (caught.type is DataError) == of_truth
    else:
        [result] = scored(made, fbc1).tasks
        assert result.score == pytest.approx(score_or_fault, abs=1e-9)


def test_missing_texts_of_handwriting_are_counted_and_noted(folders, fbc1):
    scores = scored(folders(HTR=({"0.png": "ёж", "1.png": "", "2.png": "кот"}, {"0.png": "ёж"})), fbc1)
    assert scores.tasks[0].score == pytest.approx(2 / 3)
    [note] = scores.to_json()["findings"]
    assert note["found"] == "2 of 3 pictures have no prediction, which counts as an empty text"


@pytest.fixture
def whole(tmp_path):
    """A data folder with what is asked, too, in `input/`, and truths beside it."""
    root = tmp_path / "whole"
    write(root / "input" / "C2C" / "requests.json", {"0": "int x ( ) { }"})
    write(root / "input" / "zsOD" / "requests.json", {"0.jpg": ["рыжий кот", "bald man"]})
    write(root / "input" / "VQA" / "questions.json", {"0": {"file_name": "1.jpg", "question": "Куда он смотрит?"}})
    for name in ("HTR/images/0.png", "zsOD/images/0.jpg", "VQA/images/1.jpg"):
        path = root / "input" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((8, 8, 3), dtype=np.uint8)).save(path)
    write(root / "true_C2C.json", {"0": "def x ( ) : NEW_LINE INDENT pass DEDENT"})
    write(root / "HTR" / "true_HTR.json", {"0.png": "последовал"})
    write(root / "true" / "true_zsOD.json", {"0.jpg": {"рыжий кот": [[1, 2, 3, 4]], "bald man": []}})
    write(root / "true_VQA.json", {"0": {"answer": "вниз", "lang": "ru", "question_id": 5}})
    return root


def test_what_is_asked(whole, fbc1):
    data = read_data(whole, fbc1)
    by_key = {f"{example.task.name} {example.key}": example for example in data.examples}
    assert set(by_key) == {"C2C 0", "HTR 0.png", "ZsOD 0.jpg", "VQA 0"}
    assert by_key["ZsOD 0.jpg"].texts == ["рыжий кот", "bald man"]
    assert by_key["ZsOD 0.jpg"].images == ["input/zsOD/images/0.jpg"]
    assert by_key["VQA 0"].texts == ["Куда он смотрит?"] and by_key["VQA 0"].language == "ru"
    assert data.shown == {
        place: f"input/{place}"
        for place in (
            *("C2C/requests.json", "HTR/images/0.png", "zsOD/requests.json", "zsOD/images/0.jpg"),
            *("VQA/questions.json", "VQA/images/1.jpg"),
        )
    }


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("input/C2C/requests.json", {}, "input/C2C/requests.json: '0': missing"),
        ("input/C2C/requests.json", {"0": "a", "1": "b"}, "input/C2C/requests.json: '1': unknown, not in the truth"),
        ("input/zsOD/requests.json", {"0.jpg": "кот"}, "input/zsOD/requests.json: '0.jpg': is 'кот'"),
        ("input/VQA/questions.json", {"0": {"question": "?"}}, "input/VQA/questions.json: '0': is {'question': '?'}"),
        ("input/VQA/questions.json", {"0": {"file_name": "9.jpg", "question": "?"}}, "input/VQA/images/9.jpg: "),
        ("input/VQA/questions.json", {"0": {"file_name": "../../../x", "question": "?"}}, "x: "),
        ("true_C2C.json", [], "true_C2C.json: must be an object with at least one key"),
    ],
)
def test_faults_of_the_data_are_named(whole, fbc1, name, content, said):
    write(whole / name, content)
    with pytest.raises(DataError) as caught:
        read_data(whole, fbc1)
    assert said in str(caught.value), str(caught.value)


def test_a_picture_under_a_near_name_is_named(whole, fbc1):
    (whole / "input" / "HTR" / "images" / "0.png").rename(whole / "input" / "HTR" / "images" / "0.PNG")
    with pytest.raises(DataError, match=r"input/HTR/images/0.png: the file does not exist; there is '0.PNG'"):
        read_data(whole, fbc1)


def test_truths_alone_may_lie_in_their_tasks_folders(tmp_path, fbc1):
    """A folder of a task that has its truth has not what is asked, too."""
    for task, truth in (("HTR", {"0.png": "ёж"}), ("C2C", {"0": "x"})):
        write(tmp_path / "data" / task / f"true_{task}.json", truth)
        write(tmp_path / "output" / f"prediction_{task}.json", truth)
    data = read_data(tmp_path / "data", fbc1)
    assert data.shown == {} and not any(example.inputs for example in data.examples)
    assert [task.score for task in score(read_predictions(tmp_path / "output", data), data).tasks][1] == 1


TRUE = {
    "C2C": "def x ( ) :\n\treturn 1\r\n",
    "HTR": "ёж",
    "VQA": {"answer": "кот", "lang": "ru"},
}


@pytest.mark.parametrize("task", TRUE)
def test_texts_keep_the_rules_of_the_standard_contract(folders, fbc1, task):
    """Lines and tabs, as programs have them, and no other control characters, which terminals obey."""
    made = folders(**{task: ({"0": TRUE[task]}, {"0": "def x ( ) :\n\treturn 1\r\n"})})
    scored(made, fbc1)
    folders(**{task: ({"0": TRUE[task]}, {"0": "кот\x1b[2J"})})
    with pytest.raises(SubmissionError) as caught:
        scored(made, fbc1)
    (finding,) = caught.value.findings
    assert finding.rule == "control-character" and finding.where == f"prediction_{task}.json: '0'"
    assert finding.found == "a text with a control character, U+001B at character 3"
    folders(**{task: ({"0": TRUE[task]}, {"0": "x" * 20_001})})
    with pytest.raises(SubmissionError, match=r"a text of 20001 characters; .*\[text-length\]"):
        scored(made, fbc1)


OWN_METRICS = """
from evaluator.metrics.base import Metric, Result

def evaluate(samples, resources):
    return Result.mean([float(each.predicted_json == each.reference_json) for each in samples])

def short(answer, truth):
    return "must be as long as the truth" if len(answer) != len(truth) else None

METRICS = (Metric("equal_lists", "equal lists", "json", evaluate, schema=list[int], check_answer=short),)
"""


@pytest.mark.parametrize("task", ["HTR", "zsOD"])
def test_an_own_metric_says_what_an_answer_is(folders, tmp_path, task):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "lists.py").write_text(OWN_METRICS, encoding="utf-8")
    (tmp_path / "own" / "competition.toml").write_text(
        'name = "other"\nimage = "a/b:1"\ntitle = {}\ncontract = "fbc1"\nmetrics = ["lists.py"]\n'
        f'[[tasks]]\nnumber = 0\nname = "{task}"\nanswer = "json"\nmetric = "equal_lists"\nweight = 1\n',
        encoding="utf-8",
    )
    own = find(str(tmp_path / "own"))
    assert scored(folders(**{task: ({"0": [1, 2]}, {"0": [1, 2]})}), own).integral == 1
    for truth, answer, error, said in (
        ([1], ["1"], SubmissionError, "Input should be a valid integer at [0]"),
        ([1], [1, 2], SubmissionError, "must be as long as the truth"),
        ({"кот": []}, [1], DataError, "Input should be a valid list"),
    ):
        with pytest.raises(error) as caught:
            scored(folders(**{task: ({"0": truth}, {"0": answer})}), own)
        assert f"_{task}.json: '0': {said}" in str(caught.value)


def test_every_contract_has_what_it_needs():
    assert set(CONTRACTS) == set(get_args(Definition.model_fields["contract"].annotation)) == set(OTHER)
    for name, contract in CONTRACTS.items():
        assert OTHER[OTHER[name]] == name != OTHER[name] and contract.layout.output.startswith("/")


def test_no_truth_at_all(tmp_path, fbc1):
    with pytest.raises(DataError, match="has none of true_C2C.json, true_HTR.json"):
        read_data(tmp_path, fbc1)


def test_names_of_the_published_pages_are_hinted_at(folders, fbc1):
    data, output = folders(C2C=({"0": "x"}, {"0": "x"}), zsOD=({"0.jpg": {}}, {"0.jpg": {}}))
    (output / "prediction_C2C.json").rename(output / "prediction_С2С.json")  # Cyrillic
    (output / "prediction_zsOD.json").rename(output / "prediction_OD.json")
    with pytest.raises(SubmissionError) as caught:
        read_predictions(output, read_data(data, fbc1))
    text = str(caught.value)
    assert "is written as prediction_C2C.json, in Latin letters" in text
    assert "prediction_OD.json: is written as prediction_zsOD.json" in text


def test_the_contract_has_four_tasks(whole, tmp_path):
    (tmp_path / "competition.toml").write_text(
        'name = "other"\nimage = "a/b:1"\ntitle = {}\ncontract = "fbc1"\n'
        '[[tasks]]\nnumber = 0\nname = "C2D"\nanswer = "text"\nmetric = "codebleu"\nweight = 1\n',
        encoding="utf-8",
    )
    with pytest.raises(DataError, match=r"competition other: C2D: the contract fbc1 has C2C \(text\), HTR \(json\)"):
        read_data(whole, find(str(tmp_path)))
