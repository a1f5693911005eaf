"""FusionBrain Challenge 1.0's worlds and trainings. What needs stamps or fonts is skipped where they are missing."""

import json
import re
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from contract_fbc1 import NOTHING, prediction_file, read_boxes
from resume import JOURNAL_NAME
from rudolph import RudolphConfig, RudolphModel, Tokenizer
from rudolph.config import BOS, EOS
from tests.support.handwriting import needs_pictures
from training.fbc1 import TASKS, compare, constant, handwriting, kinds, make_example, objects, rows, train
from training.fbc1.compare import Line, parameters, table
from training.fbc1.export import export, held_out
from training.fbc1.runs import read_runs
from training.fbc1.train import VQGAN_FOLDER, run_stage, ship, stages
from training.nano.bpe import train_bpe
from training.worlds import seeded
from training.worlds.grammar import analyzer


def as_lines(python: str) -> str:
    """The published form as Python is written."""
    lines, line, depth = [], [], 0
    for word in [*python.split(), "NEW_LINE"]:
        if word == "INDENT":
            depth += 1
        elif word == "DEDENT":
            depth -= 1
        elif word != "NEW_LINE":
            line.append(word)
        elif line:
            lines.append("    " * depth + " ".join(line))
            line = []
    assert depth == 0
    return "\n".join(lines)


# --- worlds


def test_translations_are_python_and_short_enough_for_the_model() -> None:
    kinds: Counter[str] = Counter()
    for seed in range(500):
        example = make_example("C2C", seed)
        compile(as_lines(example.answer), "translation", "exec")
        assert example.text.startswith("static int ") and example.text.count("{") == example.text.count("}")
        assert max(len(example.text.split()), len(example.answer.split())) < 100
        kinds[example.kind] += 1
    assert min(kinds.values()) > 20 and set(kinds) == {"formula", "choice", "range", "array", "while"}


def test_a_translation_says_what_the_java_says() -> None:
    loops = 0
    for seed in range(500):
        example = make_example("C2C", seed)
        java, python = example.text, example.answer
        for name, start, order, end in re.findall(r"for \( int (\w+) = (\d+) ; \w+ (<=?) (\w+) ; \w+ \+\+ \)", java):
            bounds = ([] if start == "0" else [start]) + [f"{end} + 1" if order == "<=" else end]
            assert f"for {name} in range ( {' , '.join(bounds)} ) :" in python
            loops += 1
        for here, there in (
            ("Math . max (", "max ("), (" / ", " // "), ("&&", " and "), ("||", " or "), ("{", "INDENT"),
            ("while", "while"), ("return", "return"), ("} else {", "else :"),
        ):  # fmt: skip
            assert java.count(here) == python.count(there), (here, java, python)
    assert loops > 100


@needs_pictures
def test_boxes_hold_their_things_and_nothing_else() -> None:
    for seed in range(40):
        scene = objects.draw_scene(seeded(seed))
        assert scene.image.size == objects.SIZE and 1 <= len(scene.things) <= 3
        outside = np.asarray(scene.image).astype(int)
        for _, (x, y, w, h) in scene.things:
            inside = outside[y : y + h, x : x + w]
            assert inside.shape == (h, w, 3)
            # The thing reaches each side of its box: its outermost row or column is unlike the background beside it.
            for edge, beside in (
                (inside[0], outside[y - 1 : y, x : x + w]), (inside[-1], outside[y + h : y + h + 1, x : x + w]),
                (inside[:, 0], outside[y : y + h, x - 1 : x]), (inside[:, -1], outside[y : y + h, x + w : x + w + 1]),
            ):  # fmt: skip
                if beside.size:  # the box may end with the picture
                    assert np.abs(edge - beside.reshape(-1, 3)).max() > 3  # background beside background: 1
        covered = np.zeros(outside.shape[:2], bool)
        for _, (x, y, w, h) in scene.things:
            assert not covered[y : y + h, x : x + w].any(), "things overlap"
            covered[y : y + h, x : x + w] = True
        # What is left is background: about one colour in each row.
        assert all(np.ptp(row[~hidden], axis=0).max() <= 2 for row, hidden in zip(outside, covered, strict=True)
                   if not hidden.all())  # fmt: skip


@needs_pictures
def test_requests_name_what_is_there_and_what_is_not() -> None:
    absent = total = 0
    for seed in range(100):
        rng = seeded(seed)
        scene = objects.draw_scene(rng)
        there = {named.phrase(language): scene.boxes(named) for named, _ in scene.things for language in ("ru", "en")}
        for example in objects.requests(rng, scene, 4):
            assert example.boxes == there.get(example.text, ())
            absent += not example.boxes
            total += 1
    assert 0.4 < absent / total < 0.7


@needs_pictures
def test_answers_of_questions_are_true_and_their_own_normal_forms() -> None:
    kinds: Counter[str] = Counter()
    for seed in range(400):
        rng = seeded(seed)
        scene = objects.draw_scene(rng)
        example = objects.question(rng, scene)
        kinds[example.kind] += 1
        if example.language == "ru" and not example.answer.isdigit():
            assert analyzer().parse(example.answer)[0].normal_form == example.answer
        if example.kind == "count":
            assert example.answer == str(len(scene.things))
        elif example.kind == "presence":
            asked = any(named.noun(example.language) in example.text for named, _ in scene.things)
            assert asked == (example.answer in ("да", "yes"))
        elif example.kind == "side":
            left = example.text.rstrip("?").endswith(("слева", "left"))
            end = (min if left else max)(scene.things, key=lambda thing: thing[1][0])
            assert example.answer == end[0].noun(example.language)
    assert min(kinds.values()) > 20 and len(kinds) == 5


@needs_pictures
def test_a_word_is_never_written_twice_alike() -> None:
    file = handwriting.FONT_FILES["ru"][0]
    one, other = (handwriting.draw_word(seeded(seed), "час", file) for seed in (0, 1))
    assert one.tobytes() != other.tobytes()
    assert one.tobytes() == handwriting.draw_word(seeded(0), "час", file).tobytes()
    assert one.width == handwriting.PAPER < handwriting.draw_word(seeded(0), 4 * "час", file).width


@needs_pictures
def test_an_export_has_the_published_layout(tmp_path: Path) -> None:
    export(tmp_path, 6, 100)
    read = {path.relative_to(tmp_path).as_posix(): json.loads(path.read_text()) for path in tmp_path.rglob("*.json")}
    assert set(read) == {
        "C2C/requests.json", "zsOD/requests.json", "VQA/questions.json", *(f"true_{task}.json" for task in TASKS),
    }  # fmt: skip
    assert list(read["C2C/requests.json"]) == list(read["true_C2C.json"]) == [str(number) for number in range(6)]
    for task, names in (("HTR", read["true_HTR.json"]), ("zsOD", read["true_zsOD.json"])):
        assert {path.name for path in (tmp_path / task / "images").iterdir()} == set(names)
    assert {name: list(boxes) for name, boxes in read["true_zsOD.json"].items()} == read["zsOD/requests.json"]
    for id, question in read["VQA/questions.json"].items():
        assert Image.open(tmp_path / "VQA" / "images" / question["file_name"]).size == objects.SIZE
        assert read["true_VQA.json"][id]["question_id"] == int(id)
        assert read["true_VQA.json"][id]["lang"] == ("ru" if set(question["question"]) & set("аеиоу") else "en")


@needs_pictures
def test_the_best_constant_box_meets_boxes(tmp_path: Path) -> None:
    assert constant.iou((0, 0, 2, 2), (1, 0, 2, 2)) == pytest.approx(1 / 3)
    assert constant.iou((0, 0, 2, 2), (2, 0, 2, 2)) == 0
    export(tmp_path / "data", 4, 0)
    constant.write_constants(tmp_path / "data", tmp_path)
    boxes = {str(box) for labels in json.loads((tmp_path / "prediction_zsOD.json").read_text()).values()
             for box in labels.values()}  # fmt: skip
    assert len(boxes) == 1
    answers = json.loads((tmp_path / "prediction_VQA.json").read_text()).values()
    assert set(answers) <= {"да", "нет", "yes", "no", "1", "2", "3"}

    true = [box for seed in range(constant.EXAMPLES) for box in make_example("zsOD", seed).boxes]
    hits = {
        box: sum(constant.iou(box, other) >= 0.5 for other in true)
        for box in (constant.best_box(), (0, 0, *objects.SIZE), (50, 30, 60, 60), (55, 35, 55, 55), (0, 0, 60, 60))
    }
    assert boxes == {str([list(constant.best_box())])} and hits[constant.best_box()] == max(hits.values()) > 20


@needs_pictures
def test_kinds_count_what_is_right(tmp_path: Path) -> None:
    examples = held_out(12, 100)
    export(tmp_path / "data", 12, 100)
    truth = {task: json.loads((tmp_path / "data" / f"true_{task}.json").read_text()) for task in TASKS}
    truth["VQA"] = {id: question["answer"] for id, question in truth["VQA"].items()}

    def measured() -> dict[str, list[bool]]:
        for task, document in truth.items():
            (tmp_path / prediction_file(task)).write_text(json.dumps(document))
        return kinds.kinds(examples, tmp_path)

    found = measured()
    assert all(all(right) for right in found.values())
    for task, number in (("C2C", 12), ("HTR", 12), ("zsOD", 6 * 4 + 6), ("VQA", 2 * 12)):
        assert sum(len(right) for kind, right in found.items() if kind.startswith(task)) == number
    assert {"C2C range", "HTR ru", "HTR en", "zsOD 0 boxes", "zsOD 1 boxes", "VQA ru", "VQA count"} <= set(found)

    truth["HTR"] = {name: word + "a" for name, word in truth["HTR"].items()}
    truth["zsOD"] = {name: dict.fromkeys(boxes, [[0, 0, 1, 1]]) for name, boxes in truth["zsOD"].items()}
    found = measured()
    wrong = {kind for kind, right in found.items() if not any(right)}
    assert wrong == {kind for kind in found if kind.startswith(("HTR", "zsOD"))}


# --- trainings


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """runs.yaml with a tiny model and few steps."""
    values = read_runs().model_dump(mode="json")
    values["model"] |= {"num_layers": 1, "hidden_size": 32, "num_attention_heads": 2}
    values["bpe_examples"] = 300
    for training in values["decoder"].values():
        training["shares"] = dict.fromkeys(training["shares"], 2)
        training |= {"samples": 4 * len(training["shares"]), "warmup": 2, "whole_from": 0}
    path = tmp_path_factory.mktemp("fbc1") / "runs.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return path


@needs_pictures
def test_rows_ask_as_the_submission_does(tmp_path: Path) -> None:
    runs = read_runs()
    config = RudolphConfig(**runs.model)
    train_bpe(rows.texts(1000), tmp_path / "bpe.model", config.bpe_vocab_size)
    tokenizer = Tokenizer.from_file(tmp_path / "bpe.model")
    training = runs.decoder["fused"].model_copy(update={"whole_share": 0.0, "shares": dict.fromkeys(TASKS, 3)})
    steps = rows.Steps(config, tmp_path / "bpe.model", VQGAN_FOLDER, training, 0, 0, 0, 1)
    asked: Counter[str] = Counter()
    for code, pictures in islice(steps, 3):
        assert (code.name, len(code.ids)) == ("C2C", 3) and (pictures.name, len(pictures.ids)) == ("HTR+zsOD+VQA", 9)
        assert code.layout.side == 2 and not code.ids[:, code.layout.left : code.layout.left + 4].any()
        left, side, right = pictures.layout
        assert side == config.image_tokens_per_dim
        for row in pictures.ids:
            assert row[0] == row[left + side**2] == BOS and row[1] == config.special_id("LT_UNK")
            question, answer = (tokenizer.decode(part) for part in (row[:left], row[left + side**2 :]))
            assert EOS in row[left + side**2 :], "no answer is cut"
            if question == "прочитай":
                asked["HTR"] += answer in {*handwriting.WORDS["ru"], *handwriting.WORDS["en"]}
            elif question.startswith("найди"):
                asked["zsOD"] += answer == NOTHING or len(read_boxes(answer, objects.SIZE)) >= 1
            else:
                asked["VQA"] += 1
    assert asked == {"HTR": 9, "zsOD": 9, "VQA": 9}


@needs_pictures
def test_everything_is_trained_and_shipped_by_settings_alone(tiny: Path, tmp_path: Path) -> None:
    runs = read_runs(tiny)
    assert runs.behind("fused") == ("first", "fused") and runs.behind("HTR") == ("HTR",)
    assert stages(runs) == ("bpe", "first", "fused", *TASKS)
    for stage in ("fused", "HTR"):  # with the BPE and what they begin with
        run_stage(stage, runs, tmp_path, "RU")
        for trained in runs.behind(stage):
            assert (tmp_path / trained / "energy.csv").exists() and (tmp_path / trained / "checkpoint.pt").exists()
    ship(tmp_path, "fused", tmp_path / "shipped")
    found = {path.relative_to(tmp_path / "shipped").as_posix() for path in (tmp_path / "shipped").rglob("*.*")}
    assert {"config.json", "model.safetensors", "bpe.model"} <= found
    whole = sum(p.numel() for p in RudolphModel.from_pretrained(tmp_path / "shipped").parameters())
    assert parameters(tmp_path / "shipped" / "model.safetensors") == whole
    before = (tmp_path / "HTR" / "model.safetensors").stat().st_mtime_ns
    run_stage("HTR", runs, tmp_path, "RU")
    assert (tmp_path / "HTR" / "model.safetensors").stat().st_mtime_ns == before, "what is trained stays"


def test_settings_that_do_not_exist_are_named(tmp_path: Path) -> None:
    path = tmp_path / "runs.yaml"
    path.write_text("decoderz: {}", encoding="utf-8")
    with pytest.raises(ValueError, match="decoderz"):
        read_runs(path)


@needs_pictures
def test_stages_are_those_of_the_settings(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    values = yaml.safe_load(tiny.read_text(encoding="utf-8"))
    values["decoder"] = {"small": values["decoder"]["C2C"]}
    path = tmp_path / "other.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    arguments = ["train", "--out", str(tmp_path / "out"), "--runs", str(path), "--stage"]
    monkeypatch.setattr("sys.argv", [*arguments, "fused"])
    with pytest.raises(SystemExit):
        train.main()
    assert f"--stage fused: with {path} it is one of bpe, small, ship" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", [*arguments, "small"])
    train.main()
    assert (tmp_path / "out" / "small" / "model.safetensors").exists()


@pytest.mark.slow
@needs_pictures
def test_an_interrupted_comparison_scores_no_placeholders(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "data-2.begun" / "C2C").mkdir(parents=True)  # an export that was cut off
    (tmp_path / "data-2.begun" / "C2C" / "requests.json").write_text("{")
    run = tmp_path / "answers-2" / "runs" / "C2C"  # and answers
    run.mkdir(parents=True)
    (run / prediction_file("C2C")).write_text('{"0": "placeholder", "1": ""}')
    (run / JOURNAL_NAME).write_text("")
    lines = compare.compare(tmp_path, read_runs(tiny), 2, "RU")
    assert [line.name for line in lines] == list(compare.MODELS)
    assert "placeholder" not in (run / prediction_file("C2C")).read_text() and not (run / JOURNAL_NAME).exists()
    assert len(json.loads((tmp_path / "data-2" / "true_HTR.json").read_text())) == 2
    for line in lines:
        assert line.integral == pytest.approx(sum(round(score, 3) for score in line.scores.values()))
    assert lines[1].parameters == len(TASKS) * lines[2].parameters > 0 < lines[2].hours
    folder = tmp_path / "answers-2" / "single-task-models"
    assert (folder / prediction_file("C2C")).read_bytes() == (run / prediction_file("C2C")).read_bytes()

    whole = (run / prediction_file("C2C")).stat().st_mtime_ns
    assert compare.compare(tmp_path, read_runs(tiny), 2, "RU") == lines
    assert (run / prediction_file("C2C")).stat().st_mtime_ns == whole, "what is answered stays"


def test_the_table_is_that_of_the_slides() -> None:
    scores = dict(zip(TASKS, (0.39, 0.61, 0.21, 0.3), strict=True))
    lines = [Line("constant", scores, 1.51), Line("one", scores, 1.51, 150.5, 988_272_474, 27.45, float("nan"))]
    assert table(lines).splitlines()[2:] == [
        "| constant | 0.390 | 0.610 | 0.210 | 0.300 | 1.510 |  |  |  |  |",
        "| one | 0.390 | 0.610 | 0.210 | 0.300 | 1.510 | 150.50 | 988 272 474 | 27.4500 | - |",
    ]
