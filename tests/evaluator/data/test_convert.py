"""The converter between FusionBrain Challenge 1.0's layout and the standard contract: there and back, the same scores,
and what is said where the other layout cannot say it.
"""

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from evaluator.cli.app import main
from evaluator.competition import definition
from evaluator.competition.definition import find
from evaluator.core.errors import DataError, SubmissionError
from evaluator.data.contracts import read_data, read_predictions
from evaluator.data.convert import convert_data, convert_predictions
from evaluator.data.dataset import data_digest
from evaluator.scoring.score import score
from tests.support.fbc1 import build_fbc1, write

ROOT = Path(__file__).parents[3]
VECTORS = Path(__file__).parents[2] / "data" / "fbc1"
SAMPLE = ROOT / "sample_input" / "fbc1"
FBC1 = find("fbc1")
OUTPUT = {
    "C2C": {"0": "def x ( ) : NEW_LINE INDENT return DEDENT"},
    "HTR": {"0.png": "последовал", "1.png": None},
    "zsOD": {"0.jpg": {"рыжий кот": [[1, 2, 30, 41], [0, 0, 1, 1]], "bald man": []}},
    "VQA": {"0": "Вниз!"},
}


def contents(folder):
    """Documents and the bytes of pictures, by path."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): json.loads(path.read_bytes())
        if path.suffix == ".json"
        else path.read_bytes()
        for path in files
    }


def document(path):
    return json.loads(path.read_text(encoding="utf-8"))


def change(path, edit):
    value = document(path)
    edit(value)
    write(path, value)


def answered(folder, documents=OUTPUT):
    for task, predictions in documents.items():
        write(folder / f"prediction_{task}.json", predictions)
    return folder


def scored(output, data, competition=FBC1):
    read = read_data(data, competition)
    scores = score(read_predictions(output, read), read).to_json()
    del scores["competition"]
    return scores


@pytest.fixture
def standard(tmp_path):
    """The small data folder in the standard contract."""
    convert_data(build_fbc1(tmp_path / "fbc1"), tmp_path / "standard", FBC1)
    return tmp_path / "standard"


def test_the_sample_there_and_back(tmp_path):
    convert_data(SAMPLE, tmp_path / "standard", FBC1)
    convert_data(tmp_path / "standard", tmp_path / "fbc1", FBC1)
    convert_data(tmp_path / "fbc1", tmp_path / "again", FBC1)
    original = {path: value for path, value in contents(SAMPLE).items() if path not in ("README.md", "build.py")}
    assert contents(tmp_path / "fbc1") == original
    assert contents(tmp_path / "again") == contents(tmp_path / "standard")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "fbc1", "standard"]


def test_what_the_standard_contract_says(standard):
    made = contents(standard)
    assert {name for name in made if name.endswith(".json")} == {"input.json", "ground_truth.json", "sample_ids.json"}
    assert made["sample_ids.json"] == {"C2C/0": 0, "HTR/0.png": 1, "HTR/1.png": 1, "zsOD/0.jpg": 2, "VQA/0": 3}
    assert made["input.json"]["zsOD/0.jpg"] == [
        {"type": "image", "content": "images/zsOD/0.jpg"},
        {"type": "text", "content": "рыжий кот"},
        {"type": "text", "content": "bald man"},
    ]
    assert made["ground_truth.json"]["VQA/0"] == [
        {"type": "text", "content": ["вниз"], "language": "ru"},
        {"type": "json", "content": {"question_id": 5, "answer": ["вниз"]}},
    ]


def test_scores_are_the_same(tmp_path, standard):
    """For each id and task, with intervals, and the digest of the data: so the two can be compared."""
    data, output = tmp_path / "fbc1", answered(tmp_path / "output")
    convert_predictions(output, tmp_path / "predicted", read_data(data, FBC1))
    convert_predictions(tmp_path / "predicted", tmp_path / "back", read_data(standard, FBC1))
    assert scored(tmp_path / "predicted", standard) == scored(output, data)
    assert contents(tmp_path / "back") == contents(output)
    integral = scored(output, data)["integral"]
    assert integral is not None and integral > 1


def test_scores_of_the_published_vectors_are_the_same(tmp_path):
    """Truths alone, for there are no pictures; by a definition of one's own in the standard contract, too."""
    data, output = tmp_path / "data", tmp_path / "output"
    for task in OUTPUT:
        known = document(VECTORS / f"{task.lower()}.json")
        ids = [id for id in known["sets"]["size_20"] if id in known["prediction"]]
        write(data / f"true_{task}.json", {id: known["true"][id] for id in ids})
        write(output / f"prediction_{task}.json", {id: known["prediction"][id] for id in ids})
    convert_data(data, tmp_path / "standard", FBC1)
    assert set(map(len, document(tmp_path / "standard" / "input.json").values())) == {0}
    assert read_data(tmp_path / "standard", FBC1).shown == read_data(data, FBC1).shown == {}
    convert_predictions(output, tmp_path / "predicted", read_data(data, FBC1))
    before = scored(output, data)
    assert scored(tmp_path / "predicted", tmp_path / "standard") == before and before["integral"] > 0
    definition = (ROOT / "evaluator/competition/fbc1/competition.toml").read_text(encoding="utf-8")
    own = tmp_path / "own"
    own.mkdir()
    changed = definition.replace('contract = "fbc1"', 'contract = "standard"')
    (own / "competition.toml").write_text(changed, encoding="utf-8")
    after = scored(tmp_path / "predicted", tmp_path / "standard", find(str(own)))
    assert after["integral"] == before["integral"] and after["data_digest"] == before["data_digest"]
    for number, task in before["tasks"].items():
        folder = {"ZsOD": "zsOD"}.get(task["name"], task["name"])
        ids = {f"{folder}/{key}": value for key, value in task["ids"].items()}
        assert after["tasks"][number] == task | {"ids": ids}
    convert_data(tmp_path / "standard", tmp_path / "back", find(str(own)))
    assert contents(tmp_path / "back") == contents(data)


def test_a_missing_text_of_handwriting_becomes_the_empty_one(tmp_path, standard):
    output = answered(tmp_path / "output", OUTPUT | {"HTR": {"0.png": "за"}})
    data = read_data(tmp_path / "fbc1", FBC1)
    [note] = convert_predictions(output, tmp_path / "predicted", data)
    assert note.rule == "htr-missing"
    assert scored(tmp_path / "predicted", standard)["tasks"] == scored(output, data.root)["tasks"]


TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
NAMES = st.text(st.sampled_from("абвё XЯz9.-_🐈e\u0301/"), min_size=1, max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
BOXES = st.lists(st.lists(st.integers(-5, 10**6) | st.floats(-1e6, 1e6), min_size=4, max_size=4), max_size=3)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    programs=st.dictionaries(TEXTS, st.tuples(TEXTS, TEXTS), max_size=3),
    written=st.dictionaries(NAMES, VALUES, max_size=3),
    boxes=st.dictionaries(NAMES, st.tuples(st.lists(TEXTS, max_size=3), st.dictionaries(TEXTS, BOXES)), max_size=3),
    questions=st.dictionaries(
        TEXTS,
        st.tuples(NAMES, TEXTS, TEXTS | st.lists(TEXTS, min_size=1), TEXTS, st.dictionaries(TEXTS, VALUES, max_size=2)),
        max_size=3,
    ),
    inside=st.booleans(),
)
def test_whatever_is_written_comes_back(programs, written, boxes, questions, inside):
    truths = {
        "C2C": {key: truth for key, (_, truth) in programs.items()},
        "HTR": written,
        "zsOD": {key: truth for key, (_, truth) in boxes.items()},
        "VQA": {
            key: more | {"answer": answer, "lang": language}
            for key, (_, _, answer, language, more) in questions.items()
        },
    }
    asked = {
        "C2C/requests": {key: source for key, (source, _) in programs.items()},
        "zsOD/requests": {key: labels for key, (labels, _) in boxes.items()},
        "VQA/questions": {key: {"file_name": q[0], "question": q[1]} for key, q in questions.items()},
    }
    pictures = [("HTR", name) for name in written] + [("zsOD", name) for name in boxes]
    pictures += [("VQA", question[0]) for question in questions.values()]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        base = root / "data" / "input" if inside else root / "data"
        for name, value in [*((f"true_{task}", truth) for task, truth in truths.items()), *asked.items()]:
            if value:
                write((root / "data" if name.startswith("true") else base) / f"{name}.json", value)
        for task, name in pictures:
            path = base / task / "images" / name
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.full((2, 3, 3), len(name), dtype=np.uint8)).save(path, "PNG")
            except OSError:  # "а" and "а/б", or a folder's name
                return
        try:
            data = read_data(root / "data", FBC1)
        except DataError:  # no example at all
            return
        made = convert_data(root / "data", root / "standard", FBC1)
        convert_data(root / "standard", root / "back", FBC1)
        assert data_digest(made) == data_digest(data)
        back = {name.removeprefix("input/"): value for name, value in contents(root / "data").items()}
        assert contents(root / "back") == back


@pytest.mark.parametrize(
    ("name", "edit", "said"),
    [
        ("VQA/true_VQA.json", lambda d: d["0"].update(answer=[3, None]), "true_VQA.json: '0': has no such answer"),
        ("VQA/true_VQA.json", lambda d: d["0"].update(answer=[]), "at least one accepted answer that is a text"),
        ("VQA/questions.json", lambda d: d["0"].update(note=1), "VQA/questions.json: '0': says more than"),
        ("HTR/true_HTR.json", lambda d: d.update({"0.png": deep(30)}), "ground_truth.json of the new folder: nested"),
    ],
)
def test_what_the_standard_contract_cannot_say(tmp_path, name, edit, said):
    data = build_fbc1(tmp_path / "fbc1")
    change(data / name, edit)
    read_data(data, FBC1)
    with pytest.raises(DataError) as caught:
        convert_data(data, tmp_path / "new", FBC1)
    assert said in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["fbc1"]


def deep(levels):
    value = "ё"
    for _ in range(levels):
        value = [value]
    return value


TRUTH, INPUT = "ground_truth.json", "input.json"


@pytest.mark.parametrize(
    ("name", "edit", "said"),
    [
        (TRUTH, lambda d: d["C2C/0"][0]["content"].append("pass"), "id 'C2C/0' (C2C): 2 accepted texts"),
        (TRUTH, lambda d: d["C2C/0"][0].update(language="ru"), "id 'C2C/0' (C2C): has a language, 'ru'"),
        (TRUTH, lambda d: d["VQA/0"][1].update(content=5), "id 'VQA/0' (VQA): a further entry of the truth, 5"),
        (TRUTH, lambda d: d["VQA/0"][1]["content"].update(lang="en"), "(VQA): a further entry of the truth, {"),
        (TRUTH, lambda d: d["VQA/0"][1]["content"].update(answer="да"), "(VQA): a further entry of the truth, {"),
        (TRUTH, lambda d: d["VQA/0"][0].update(note=""), "ground_truth.json: 'VQA/0': says more than"),
        (TRUTH, lambda d: d["HTR/0.png"].append({"type": "text", "content": [""]}), "'HTR/0.png': says more than"),
        (INPUT, lambda d: d["C2C/0"].append({"type": "text", "content": "?"}), "(C2C): what is asked is text, text"),
        (INPUT, lambda d: d["VQA/0"].reverse(), "id 'VQA/0' (VQA): what is asked is text, image"),
        (INPUT, lambda d: d["zsOD/0.jpg"].append(d["HTR/0.png"][0]), "what is asked is image, text, text, image"),
        (INPUT, lambda d: d["HTR/1.png"].clear(), "id 'HTR/1.png' (HTR): what is asked is nothing"),
        (INPUT, lambda d: d["HTR/1.png"][0].update(content="images/HTR/0.png"), "picture 'images/HTR/0.png'"),
        (INPUT, lambda d: d["VQA/0"][0].update(content="images/HTR/0.png"), "picture 'images/HTR/0.png'"),
        ("tasks.json", {"3": {"title": "Вопросы"}}, "tasks.json: has no place in the other layout"),
    ],
)
def test_what_fbc1_cannot_say(tmp_path, standard, name, edit, said):
    if callable(edit):
        change(standard / name, edit)
    else:
        write(standard / name, edit)
    read_data(standard, FBC1)
    with pytest.raises(DataError) as caught:
        convert_data(standard, tmp_path / "new", FBC1)
    assert said in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fbc1", "standard"]


def test_ids_without_their_task(tmp_path, standard):
    """They can be scored, as they are; all of them are named at once."""
    for path in standard.glob("*.json"):
        value = document(path)
        write(path, {id.replace("/", ":"): each for id, each in value.items()})
    assert read_data(standard, FBC1).examples[0].key == "C2C:0"
    with pytest.raises(DataError) as caught:
        convert_data(standard, tmp_path / "new", FBC1)
    assert str(caught.value).count("the id does not begin with C2C/") == 1
    assert sum("does not begin" in finding.found for finding in caught.value.findings) == 5


def test_an_entry_may_stand_without_its_list(tmp_path, standard):
    change(standard / TRUTH, lambda d: d.update({"HTR/0.png": d["HTR/0.png"][0]}))
    convert_data(standard, tmp_path / "back", FBC1)
    assert document(tmp_path / "back" / "true_HTR.json")["0.png"] == "последовал"


def test_a_language_that_no_metric_needs(tmp_path, standard):
    """And the other layout does."""
    published = Path(definition.__file__).parent / "fbc1" / "competition.toml"
    text = published.read_text(encoding="utf-8").replace("vqa_accuracy", "exact_match")
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "competition.toml").write_text(text, encoding="utf-8")
    own = definition.find(str(tmp_path / "own"))
    change(standard / TRUTH, lambda d: d["VQA/0"][0].pop("language"))
    with pytest.raises(DataError, match=r"no language, but metric vqa_accuracy compares by it"):
        read_data(standard, FBC1)
    read_data(standard, own)
    with pytest.raises(DataError, match=r"id 'VQA/0' \(VQA\): has no language"):
        convert_data(standard, tmp_path / "new", own)


def test_a_language_is_a_text(tmp_path, standard):
    change(standard / TRUTH, lambda d: d["VQA/0"][0].update(language=1))
    with pytest.raises(DataError, match=r"id 'VQA/0': entry 0: language must be a text, not 1; .*\[answer-language\]"):
        read_data(standard, FBC1)


def test_a_picture_behind_a_link_is_refused(tmp_path):
    data = build_fbc1(tmp_path / "fbc1")
    shutil.move(data / "HTR" / "images" / "0.png", tmp_path / "0.png")
    (data / "HTR" / "images" / "0.png").symlink_to(tmp_path / "0.png")
    with pytest.raises(DataError, match="symbolic link"):
        convert_data(data, tmp_path / "new", FBC1)


def test_what_exists_is_never_written_to(tmp_path):
    data = build_fbc1(tmp_path / "fbc1")
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "file").write_text("ё", encoding="utf-8")
    for name, said in (("empty", "exists"), ("link", "exists"), ("file", "exists"), ("file/new", "cannot be written")):
        with pytest.raises(DataError, match=said):
            convert_data(data, tmp_path / name, FBC1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "fbc1", "file", "link"]


def test_other_tasks_have_no_such_layout(tmp_path):
    with pytest.raises(DataError, match=r"competition fbc2: TextQA, .*: the contract fbc1 has C2C"):
        convert_data(build_fbc1(tmp_path / "fbc1"), tmp_path / "new", find("fbc2"))


def test_predictions_that_neither_contract_takes(tmp_path):
    output = answered(tmp_path / "output", OUTPUT | {"VQA": {"0": "\x07"}})
    data = read_data(build_fbc1(tmp_path / "fbc1"), FBC1)
    with pytest.raises(SubmissionError, match="prediction_VQA.json: '0': a text with a control character"):
        convert_predictions(output, tmp_path / "new", data)
    assert not (tmp_path / "new").exists()


def test_the_commands(tmp_path, capsys):
    data, output = build_fbc1(tmp_path / "fbc1"), answered(tmp_path / "output")
    new, predicted = tmp_path / "new", tmp_path / "predicted"
    assert main(["competition", "convert", str(data), str(new)]) == 0
    call = ["competition", "convert-predictions", str(output), str(predicted), "--data", str(data)]
    assert main(call) == 0
    said = capsys.readouterr().out.splitlines()
    assert said == [
        f"{new}: contract standard; C2C 1, HTR 2, ZsOD 1, VQA 1",
        f"{predicted}: contract standard; 5 answers",
    ]
    assert main(["competition", "convert", str(data), str(new)]) == 2
    assert f"data error: {new} exists" in capsys.readouterr().err
