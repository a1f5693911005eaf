"""The organizer's data: what is read, and each fault with its place and its rule."""

import json
import re
import shutil

import pytest

from evaluator.carbon import rules as carbon_rules
from evaluator.competition import tasks_json
from evaluator.core import files, strict_json
from evaluator.core.errors import DataError
from evaluator.data import dataset, entries, images, predictions
from evaluator.data.dataset import data_digest, read_data
from evaluator.package import rules as package_rules
from evaluator.sandbox import launch
from tests.support.data import noise
from tests.support.images import deep_grey
from tests.support.rules import rules_of

RULES = rules_of(files, strict_json, tasks_json, dataset, entries, images, predictions, package_rules, carbon_rules)


def data_fault(folder) -> str:
    with pytest.raises(DataError) as caught:
        read_data(folder)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_every_rule_says_what_to_do():
    for name, rule in RULES.items():
        assert name == rule.name and re.fullmatch(r"[a-z]+(-[a-z]+)*", name) and rule.allowed and rule.fix
        line = str(rule.finding("predictions.json: id '7'", "found this"))
        assert line.startswith("predictions.json: id '7': found this; allowed: ") and line.endswith(f"[{name}]")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("ground_truth.json", lambda d: d.pop("0") and None, "ground_truth.json: id '0': missing"),
        ("sample_ids.json", lambda d: d.update({"x": 1}), "sample_ids.json: id 'x': unknown"),
        ("sample_ids.json", lambda d: d.update({"0": 12}), "id '0': task 12 is not one of 0, 1,"),
        ("sample_ids.json", lambda d: d.update({"0": True}), "id '0': task True is not one of"),
        ("sample_ids.json", lambda d: d.update({"0": [0]}), "id '0': task [0] is not one of"),
        (
            "tasks.json",
            lambda d: d.pop("6") and None,
            "task 6 is not one of 0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11 (it must",
        ),
        ("ground_truth.json", lambda d: d.update({"0": []}), "id '0' (TextQA): no text entry"),
        (
            "ground_truth.json",
            lambda d: d.update({"0": [{"type": "text", "content": "a"}]}),
            "list of accepted answers",
        ),
        ("ground_truth.json", lambda d: d.update({"0": [{"type": "text", "content": []}]}), "list of accepted answers"),
        ("ground_truth.json", lambda d: d.update({"0": {"type": "text", "content": "a"}}), "list of accepted answers"),
        ("ground_truth.json", lambda d: d.update({"0": {"content": ["a"]}}), "a list of entries, not an object"),
        ("input.json", lambda d: d.update({"0": d["0"][0]}), "must be a list of entries, not an object"),
        (
            "ground_truth.json",
            lambda d: d.update({"200": [{"type": "image", "content": "images/300.png"}]}),
            "id '200' (ImageGeneration): image 'images/300.png': is an input's image as well",
        ),
        (
            "input.json",
            lambda d: d["300"].append({"type": "image", "content": "gt_images/200.png"}),
            "id '300' (ImageCaptioning): image 'gt_images/200.png': must not lie in gt_images/",
        ),
        ("input.json", lambda d: d["300"].pop() and None, "id '300' (ImageCaptioning): no image entry"),
        ("input.json", lambda d: d["201"].clear(), "id '201' (ImageGeneration): no text entry"),
        ("input.json", lambda d: {}, "input.json: has no examples"),
    ],
)
def test_fault_in_data(data_folder, edit_json, name, change, message):
    edit_json(data_folder / name, change)
    assert message in data_fault(data_folder)


@pytest.mark.parametrize(
    ("name", "change", "rule"),
    [
        ("input.json", lambda d: {}, "no-examples"),
        ("sample_ids.json", lambda d: [], "sample-task"),
        ("sample_ids.json", lambda d: d.update({"0": 12}), "sample-task"),
        ("ground_truth.json", lambda d: d.update({"0": []}), "truth-output"),
        (
            "ground_truth.json",
            lambda d: d.update({"200": [{"type": "image", "content": "images/300.png"}]}),
            "truth-place",
        ),
        (
            "ground_truth.json",
            lambda d: d.update({"200": [{"type": "image", "content": "./images//300.png"}]}),
            "truth-place",
        ),
        ("input.json", lambda d: d["300"].append({"type": "image", "content": "./gt_images/200.png"}), "input-place"),
        ("input.json", lambda d: d["300"].pop() and None, "input-entry"),
        ("input.json", lambda d: d["201"].clear(), "input-entry"),
        ("tasks.json", lambda d: [d], "tasks-shape"),
        ("tasks.json", lambda d: d.update({"12": {}}), "tasks-shape"),
        ("tasks.json", lambda d: d["6"].update(threshold=2), "tasks-value"),
        ("tasks.json", lambda d: d.update({"0": {"metric": "exact_match"}}), "tasks-fixed"),
        ("tasks.json", lambda d: d["6"].update(name="Hidden2"), "tasks-name"),
    ],
)
def test_faults_in_data_have_rules(data_folder, edit_json, name, change, rule):
    edit_json(data_folder / name, change)
    with pytest.raises(DataError) as caught:
        read_data(data_folder)
    assert [finding.rule for finding in caught.value.findings] == [rule] and rule in RULES
    assert caught.value.findings[0].where.startswith(name)


def test_digest_of_the_data(data_folder, edit_json, tmp_path):
    """The same for the same questions and answers, however they are written down; another for any other."""
    before = data_digest(read_data(data_folder))
    assert re.fullmatch("[0-9a-f]{64}", before)

    def same(d):
        return dict(reversed(d.items()))

    for name in ("input.json", "ground_truth.json", "sample_ids.json"):
        edit_json(data_folder / name, same)
    (data_folder / "images" / "300.png").rename(data_folder / "images" / "кот.png")
    edit_json(data_folder / "input.json", lambda d: d["300"][1].update(content="images/кот.png"))
    edit_json(data_folder / "tasks.json", lambda d: d["6"].update(title="Иное", threshold=0.5))
    assert data_digest(read_data(data_folder)) == before

    digests = {before}
    for name, change in (
        ("input.json", lambda d: d["0"][0].update(content="другой вопрос")),
        ("ground_truth.json", lambda d: d["0"][0]["content"].append("ещё ответ")),
        ("ground_truth.json", lambda d: d["1"][0]["content"].reverse()),
        ("tasks.json", lambda d: d["6"].update(metric="f1_lemmas")),
        ("tasks.json", lambda d: d["8"].update(parameters={"gamma": 0.3})),
        ("sample_ids.json", lambda d: d.update({"0": 1})),
    ):
        edit_json(data_folder / name, change)
        digests.add(data_digest(read_data(data_folder)))
    for path in ("images/301.png", "gt_images/200.png"):
        noise(4321).save(data_folder / path)
        digests.add(data_digest(read_data(data_folder)))
    assert len(digests) == 9


def test_missing_data_files(data_folder, tmp_path):
    assert "does not exist" in data_fault(tmp_path / "nowhere")
    (data_folder / "images" / "300.png").unlink()
    (data_folder / "gt_images" / "200.png").write_bytes(b"rubbish")
    fault = data_fault(data_folder)
    assert "id '300' (ImageCaptioning): image 'images/300.png': the file does not exist" in fault
    assert "id '200' (ImageGeneration): image 'gt_images/200.png': the file is not a readable image" in fault
    (data_folder / "ground_truth.json").unlink()
    assert data_fault(data_folder).startswith("ground_truth.json: the file does not exist; allowed: ")


@pytest.mark.parametrize(
    ("name", "near"),
    [("input.json", "sample_input.json"), ("sample_ids.json", "ids.json"), ("ground_truth.json", "groundtruth.json")],
)
def test_data_under_a_near_name_is_named(data_folder, name, near):
    (data_folder / name).rename(data_folder / near)
    assert data_fault(data_folder).startswith(f"{name}: the file does not exist; there is {near!r}; allowed: ")


def test_byte_order_mark_is_read_over(data_folder):
    path = data_folder / "input.json"
    expected = read_data(data_folder).examples
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_data(data_folder).examples == expected


def test_input_image_in_any_folder_but_the_truths(data_folder, edit_json):
    (data_folder / "pictures").mkdir()
    shutil.copy(data_folder / "images" / "300.png", data_folder / "pictures" / "кот.png")
    edit_json(data_folder / "input.json", lambda d: d["300"].append({"type": "image", "content": "pictures/кот.png"}))
    example = next(example for example in read_data(data_folder).examples if example.id == "300")
    assert "pictures/кот.png" in example.images


def test_notes_on_the_data_name_three_ids(data_folder):
    for path in (data_folder / "gt_images").iterdir():
        deep_grey(path)
    inputs = json.loads((data_folder / "input.json").read_text(encoding="utf-8"))
    shown = [(id, entry["content"]) for id, entries in inputs.items() for entry in entries if entry["type"] == "image"]
    assert len(shown) > 3
    for _, path in shown:
        deep_grey(data_folder / path)
    asked, true = sorted(read_data(data_folder).notes, key=lambda note: note.where, reverse=True)
    assert asked.where == f"input.json: id {', '.join(repr(id) for id, _ in shown[:3])}, …"
    assert asked.found == f"grey with 16 bits in {len(shown)} of the images"
    assert true.where == "ground_truth.json: id '200', '201', '202'"


def test_the_published_shapes_are_read(tmp_path):
    """The data as the challenge's README writes it: answers of TextQA and MathQA as an object, reference images of
    ImageGeneration in images/, beside the input's.
    """
    (tmp_path / "images").mkdir()
    for number in range(4):
        noise(number).save(tmp_path / "images" / f"0000{number}.jpg", "JPEG")
    text, image = {"type": "text"}, {"type": "image"}
    asked = {
        "0": [text | {"content": "Кто опередил немок?"}, text | {"content": "a) на секунду; b) на 0,3 секунды"}],
        "1": [text | {"content": "6 умножить на y – 54 это -72, для y."}, text | {"content": "a) -4; b) -3"}],
        "2": [text | {"content": " Сгенерируй изображение по тексту."}, text | {"content": "Торт."}],
        "3": [text | {"content": "Что представлено на картинке?"}, image | {"content": "images/00001.jpg"}],
        "4": [text | {"content": "Какого цвета плакат?"}, image | {"content": "images/00002.jpg"}],
        "5": [text | {"content": "Распознай текст."}, image | {"content": "images/00003.jpg"}],
    }
    truth = {
        "0": text | {"content": ["b", "на 0,3 секунды", "b на 0,3 секунды"]},
        "1": text | {"content": ["b", "-3", "b -3"]},
        "2": [image | {"content": "images/00000.jpg"}],
        "3": [text | {"content": ["Торт.", "Детский торт."]}],
        "4": [text | {"content": ["желтого"]}],
        "5": [text | {"content": ["хор"]}],
    }
    for name, document in (("input", asked), ("ground_truth", truth), ("sample_ids", {id: int(id) for id in asked})):
        (tmp_path / f"{name}.json").write_text(json.dumps(document), encoding="utf-8")
    data = read_data(tmp_path)
    examples = {example.id: example for example in data.examples}
    assert examples["0"].answers == ("b", "на 0,3 секунды", "b на 0,3 секунды")
    assert examples["1"].answers == ("b", "-3", "b -3")
    assert examples["2"].truth_image == "images/00000.jpg" and len(data.truth_digests) == 1
    digest = data_digest(data)
    truth |= {"0": [truth["0"]], "1": [truth["1"]]}
    (tmp_path / "ground_truth.json").write_text(json.dumps(truth), encoding="utf-8")
    assert data_digest(read_data(tmp_path)) == digest


def test_a_reference_image_in_images_is_not_handed_out(make_data, edit_json, tmp_path):
    folder = make_data(2, 4)
    for id in ("200", "201", "202"):
        (folder / "gt_images" / f"{id}.png").rename(folder / "images" / f"{id}.png")
    edit_json(
        folder / "ground_truth.json",
        lambda d: d.update({id: [{"type": "image", "content": f"images/{id}.png"}] for id in ("200", "201", "202")}),
    )
    data = read_data(folder)
    submission = tmp_path / "submission"
    submission.mkdir()
    with launch.workspace(submission, data) as space:
        given = sorted(path.name for path in (space.input / "images").iterdir())
    assert given == ["400.png", "401.png", "402.png"]
