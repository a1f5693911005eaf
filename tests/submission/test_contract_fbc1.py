"""FusionBrain Challenge 1.0's input in, its four prediction files out, and what a model's texts say."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import run
from contract import InputError
from contract_fbc1 import (
    NOTHING,
    STEPS,
    Request,
    Writer,
    is_fbc1,
    prompt,
    read_answer,
    read_boxes,
    read_requests,
    restore_case,
    write_boxes,
)  # fmt: skip
from resume import Journal
from tests.submission.rudolph.test_images import png_claiming
from tests.submission.test_run import FILES, SUBMISSION

JAVA = "static int findSum ( int n ) { return n ; }"
ASKED: dict[str, Any] = {
    "C2C/requests.json": {"0": JAVA, "7": "int x ;"},
    "zsOD/requests.json": {"0.jpg": ["bald man", "рыжий кот"], "1.jpg": []},
    "VQA/questions.json": {"0": {"file_name": "1.jpg", "question": "Куда он смотрит?"}},
}


def write_input(folder: Path, documents: dict[str, Any] = ASKED) -> Path:
    """A folder of the published layout with small pictures."""
    for task, names in {"HTR": ("10.png", "2.png"), "zsOD": ("0.jpg", "1.jpg"), "VQA": ("1.jpg",)}.items():
        (folder / task / "images").mkdir(parents=True)
        for name in names:
            Image.new("RGB", (50, 100), "red").save(folder / task / "images" / name)
    for name, document in documents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    return folder


def test_a_layout_is_told_by_its_folders(tmp_path):
    assert not is_fbc1(tmp_path / "nowhere") and not is_fbc1(tmp_path) and not is_fbc1(tmp_path / ("x" * 300))
    (tmp_path / "HTR").mkdir()
    assert is_fbc1(tmp_path)
    (tmp_path / "input.json").write_text("{}")
    assert not is_fbc1(tmp_path)


def test_requests_of_all_tasks_are_read_in_order(tmp_path, caplog):
    folder = write_input(tmp_path)
    found = read_requests(folder)
    assert [(r.id, r.task, r.key, r.asked) for r in found] == [
        ("C2C/0", "C2C", "0", JAVA), ("C2C/7", "C2C", "7", "int x ;"),
        ("HTR/2.png", "HTR", "2.png", ""), ("HTR/10.png", "HTR", "10.png", ""),
        ("zsOD/0/0.jpg", "zsOD", "0.jpg", "bald man"), ("zsOD/1/0.jpg", "zsOD", "0.jpg", "рыжий кот"),
        ("zsOD/-/1.jpg", "zsOD", "1.jpg", None), ("VQA/0", "VQA", "0", "Куда он смотрит?"),
    ]  # fmt: skip
    assert all(request.kinds == ("text",) for request in found)
    assert found[0].entries == (JAVA,)
    assert found[4].entries == (prompt("zsOD", "bald man"), folder / "zsOD" / "images" / "0.jpg")
    assert not caplog.records


@pytest.mark.parametrize(
    ("name", "document", "named", "texts"),
    [
        ("C2C/requests.json", {"0": 5}, "'0': is 5; it must be a text", {"C2C/0": ""}),
        ("zsOD/requests.json", {"0.jpg": "cat"}, "'0.jpg': is 'cat'; it must be a list", {"zsOD/-/0.jpg": None}),
        ("zsOD/requests.json", {"0.jpg": [None]}, "is None; it must be a text", {"zsOD/0/0.jpg": ""}),
        ("zsOD/requests.json", {"9.jpg": ["cat"]}, "'9.jpg'; there is no such file", {"zsOD/0/9.jpg": "cat"}),
        ("zsOD/requests.json", {"../x": ["cat"]}, "must be a path inside", {"zsOD/0/../x": "cat"}),
        ("VQA/questions.json", {"0": "Кто?"}, "must be an object with file_name and question", {"VQA/0": ""}),
        ("VQA/questions.json", {"0": {"question": "Кто?"}}, "picture is ''; it must be the name", {"VQA/0": "Кто?"}),
        ("VQA/questions.json", {"0": {"question": "Кто?", "file_name": 3}}, "picture is 3;", {"VQA/0": "Кто?"}),
    ],
)
def test_a_faulty_request_is_named_and_costs_nothing_else(tmp_path, caplog, name, document, named, texts):
    found = {r.id: r.asked for r in read_requests(write_input(tmp_path, ASKED | {name: document}))}
    assert texts.items() <= found.items()
    assert {"HTR/2.png", "HTR/10.png"} <= found.keys()
    assert any(named in record.message for record in caplog.records)
    assert all(record.levelname == "WARNING" for record in caplog.records)


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        ("C2C/requests.json", None, "cannot be read"),
        ("zsOD/requests.json", "[]", "it must be an object"),
        ("VQA/questions.json", "{", "is not JSON"),
        ("HTR/images", None, "cannot be read"),
    ],
)
def test_a_task_without_its_file_is_an_error(tmp_path, name, content, named):
    folder = write_input(tmp_path)
    if (folder / name).is_dir():
        shutil.rmtree(folder / name)
    elif content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(content)
    with pytest.raises(InputError, match=named):
        read_requests(folder)


def test_a_task_that_is_not_there_is_not_asked(tmp_path, caplog):
    shutil.rmtree(write_input(tmp_path) / "VQA")
    assert {request.task for request in read_requests(tmp_path)} == {"C2C", "HTR", "zsOD"}
    assert "no folder VQA" in caplog.text


@pytest.mark.parametrize("size", [(100, 100), (640, 480), (37, 999)])
def test_boxes_survive_as_text_to_half_a_step(size):
    width, height = size
    boxes = [(0, 0, width, height), (width * 0.31, height * 0.2, width * 0.4, height * 0.55)]
    found = read_boxes(write_boxes(boxes, size), size)
    for (x, y, w, h), (left, top, wide, high) in zip(boxes, found, strict=True):
        edges = zip((x, y, x + w, y + h), (left, top, left + wide, top + high), (*size, *size), strict=True)
        assert all(abs(wanted - got) <= side / STEPS / 2 + 0.11 for wanted, got, side in edges)  # 0.1: decimals


@pytest.mark.parametrize(
    "text", [NOTHING, "", "пустая строка", "a b c", "a b a d", "d b c e", "a b c ж", "ab cd ef gh", "a b c dd"]
)
def test_what_is_no_box_is_no_box(text):
    assert read_boxes(text, (100, 100)) == []


def test_nothing_is_written_as_nothing():
    assert write_boxes([], (10, 10)) == NOTHING
    assert write_boxes([(0, 0, 5, 10)], (10, 10)) == "+ a a m z"
    assert read_boxes("+ a b c d ж a a z z", (100, 50)) == [[0.0, 2.0, 8.0, 4.0], [0.0, 0.0, 100.0, 50.0]]


def test_case_is_that_of_python_and_of_the_source():
    answer = "def findsum ( n ) : new_line indent return true new_line dedent"
    assert restore_case(answer, JAVA) == "def findSum ( n ) : NEW_LINE INDENT return True NEW_LINE DEDENT"
    assert restore_case("x", "boolean X = true ;") == "X"
    assert restore_case("return true", "return true ;") == "return True", "Python's words before those of the source"


def test_a_request_without_its_picture_has_no_boxes():
    assert read_answer(Request("zsOD/0/0", ("найди: кот",), True, "zsOD", "0", "кот"), "a b c d") == []


def test_a_picture_that_cannot_be_read_has_no_boxes(tmp_path):
    """Not even one whose header alone is refused: it costs its own answer, not the run."""
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(png_claiming(30_000, 30_000))
    none = Request("zsOD/0/0", ("найди: кот", bomb), True, "zsOD", "0", "кот")
    assert read_answer(none, "+ a b c d") == []


def test_no_two_requests_have_one_id(tmp_path):
    asked = {"a.jpg": ["кот"], "a.jpg/0": [], "0/a.jpg": ["кот"], "-/a.jpg": []}
    folder = write_input(tmp_path, ASKED | {"zsOD/requests.json": asked})
    ids = [request.id for request in read_requests(folder) if request.task == "zsOD"]
    assert len(set(ids)) == len(ids) == 4


def test_a_stopped_writer_has_everything_and_goes_on(tmp_path):
    requests = read_requests(write_input(tmp_path / "input"))
    output = tmp_path / "output"
    with Writer(output, requests, 95) as writer:
        assert writer.begin("нет", Image.new("RGB", (8, 8)), Journal(output, "same")) == []
        writer.add("C2C/0", text="def findsum ( n ) : new_line indent return n new_line dedent")
        writer.add("zsOD/1/0.jpg", text="a a z z")
        writer.save()
    with Writer(output, requests, 95) as writer:
        records = writer.begin("нет", Image.new("RGB", (8, 8)), Journal(output, "same"))
        assert {record["id"] for record in records} == {"C2C/0", "zsOD/1/0.jpg"}
        writer.add("HTR/2.png", text="слово")
        assert writer.finish() == output
    assert {path.name: json.loads(path.read_text()) for path in output.iterdir()} == {
        "prediction_C2C.json": {"0": "def findSum ( n ) : NEW_LINE INDENT return n NEW_LINE DEDENT", "7": ""},
        "prediction_HTR.json": {"2.png": "слово", "10.png": ""},
        "prediction_zsOD.json": {"0.jpg": {"bald man": [], "рыжий кот": [[0.0, 0.0, 50.0, 100.0]]}, "1.jpg": {}},
        "prediction_VQA.json": {"0": ""},
    }


def test_run_py_answers_the_input_in_its_working_folder(tmp_path, model_folder):
    """As an original submission is started: `input` and `output` stand in the folder of run.py."""
    for name in (*FILES, "config_fbc1.yaml"):
        copy = shutil.copytree if (SUBMISSION / name).is_dir() else shutil.copy
        copy(SUBMISSION / name, tmp_path / name)
    shutil.copytree(model_folder, tmp_path / "weights" / "fbc1")
    write_input(tmp_path / "input")
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(tmp_path / "run.py")], cwd=tmp_path, env=environment, capture_output=True, text=True,
        encoding="utf-8", timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr
    written = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in (tmp_path / "output").iterdir()}
    assert {name: list(answers) for name, answers in written.items()} == {
        "prediction_C2C.json": ["0", "7"], "prediction_HTR.json": ["2.png", "10.png"],
        "prediction_zsOD.json": ["0.jpg", "1.jpg"], "prediction_VQA.json": ["0"],
    }  # fmt: skip
    assert list(written["prediction_zsOD.json"]["0.jpg"]) == ["bald man", "рыжий кот"]
    # The same from anywhere.
    options = ["--input", tmp_path / "input", "--output", tmp_path / "other", "--model", model_folder]
    assert run.main(list(map(str, options))) == 0
    assert {path.name: json.loads(path.read_text()) for path in (tmp_path / "other").iterdir()} == written
