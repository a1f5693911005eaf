import hashlib
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluator.competition.definition import find
from evaluator.core.errors import DataError, EvaluatorError
from evaluator.data import kept
from evaluator.data.contracts import read_data, read_predictions
from evaluator.metrics.assets import FOLDER
from evaluator.metrics.base import Resources
from evaluator.metrics.encoders import ENCODERS
from evaluator.scoring.score import score
from tests.support.data import ANSWERS, noise
from tests.support.fbc1 import build_fbc1, write
from tests.support.images import deep_grey
from tests.support.pixel_encoders import PixelEncoders


def scored(predictions, data):
    return score(predictions, data, Resources(FOLDER, {ENCODERS: PixelEncoders()})).to_json()


def keep(path: Path, output: Path, data) -> str:
    return kept.write(path, read_predictions(output, data))


def same(a, b) -> bool:
    names = ("texts", "values", "images", "types", "surplus", "files", "notes")
    return all(getattr(a, name) == getattr(b, name) for name in names)


@pytest.fixture
def varied_output(output_folder, edit_json):
    """An output with images of several kinds, one of which two ids name, and with more entries than are scored."""
    deep_grey(output_folder / "images" / "deep.png")
    noise(1).convert("RGBA").save(output_folder / "images" / "прозрачно ё.webp", lossless=True)

    def change(predictions):
        text = {"type": "text", "content": "«рядом» \U0001f408\t\n"}
        predictions["200"] = [text, {"type": "image", "content": "images/deep.png"}]
        predictions["201"] = [{"type": "image", "content": "images/прозрачно ё.webp"}]
        predictions["202"] = [{"type": "image", "content": "images/прозрачно ё.webp"}, text]
        predictions["300"] = [text, {"type": "image", "content": "images/none.png"}, text]

    edit_json(output_folder / "predictions.json", change)
    return output_folder


def test_what_is_kept_is_scored_as_it_was(data_folder, varied_output, tmp_path):
    data = read_data(data_folder)
    predictions = read_predictions(varied_output, data)
    digest = kept.write(tmp_path / "new" / "output.zip", predictions)
    assert digest == hashlib.sha256((tmp_path / "new" / "output.zip").read_bytes()).hexdigest()
    again = kept.read(tmp_path / "new" / "output.zip", digest, data)
    assert same(again, predictions) and len(again.notes) == 1 and len(again.surplus) == 2
    assert all(np.array_equal(again.image(id), predictions.image(id)) for id in ("200", "201", "202"))
    assert scored(again, data) == scored(predictions, data)
    root = again.root
    again.close()
    assert not root.exists()


def test_the_same_output_makes_the_same_file(data_folder, varied_output, tmp_path):
    data = read_data(data_folder)
    digests = {keep(tmp_path / name, varied_output, data) for name in ("a.zip", "b.zip")}
    (digest,) = digests
    again = kept.read(tmp_path / "a.zip", digest, data)
    assert kept.write(tmp_path / "c.zip", again) == digest
    assert sorted(path.name for path in tmp_path.glob("*.zip*")) == ["a.zip", "b.zip", "c.zip"]
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        names = archive.namelist()
    assert names[-1] == "output.json" and len(names) == 3, "two images, one of them of two ids"


def test_json_answers_of_the_first_challenge(tmp_path):
    data = read_data(build_fbc1(tmp_path / "data"), find("fbc1"))
    output = tmp_path / "output"
    write(output / "prediction_C2C.json", {"0": "def x ( ) :\n\tpass"})
    write(output / "prediction_HTR.json", {"0.png": ["после", 0.1, 1e300, -0.0, 10**90, None, {"ключ": True}]})
    write(output / "prediction_zsOD.json", {"0.jpg": {"рыжий кот": [[1, 2.5, 30, 1 / 3]], "bald man": []}})
    write(output / "prediction_VQA.json", {"0": "вниз"})
    predictions = read_predictions(output, data)
    assert [note.rule for note in predictions.notes] == ["htr-missing"]
    digest = kept.write(tmp_path / "output.zip", predictions)
    again = kept.read(tmp_path / "output.zip", digest, data)
    assert same(again, predictions) and repr(again.values) == repr(predictions.values)
    assert scored(again, data) == scored(predictions, data)

    write(tmp_path / "data" / "zsOD" / "requests.json", {"0.jpg": ["рыжий кот", "собака"]})
    write(tmp_path / "data" / "zsOD" / "true_zsOD.json", {"0.jpg": {"рыжий кот": [], "собака": []}})
    write(tmp_path / "data" / "HTR" / "true_HTR.json", {"0.png": "последовал", "1.png": "за", "2.png": "и"})
    noise(1).save(tmp_path / "data" / "HTR" / "images" / "2.png")
    with pytest.raises(kept.Unanswered) as caught:
        kept.read(tmp_path / "output.zip", digest, read_data(tmp_path / "data", find("fbc1")))
    lines = str(caught.value).splitlines()
    assert len(lines) == 2 and "id 'HTR/2.png' (HTR): was not asked for" in lines[0] and "собака" in lines[1]


def test_a_corrected_truth(data_folder, output_folder, edit_json, tmp_path):
    data = read_data(data_folder)
    path = tmp_path / "output.zip"
    digest = keep(path, output_folder, data)
    wrong = [{"type": "text", "content": ["не то"]}]
    edit_json(data_folder / "ground_truth.json", lambda truth: truth.update({"500": wrong}))
    corrected = read_data(data_folder)
    before, after = (scored(kept.read(path, digest, each), each)["tasks"]["5"]["score"] for each in (data, corrected))
    assert (before, after) == (1.0, pytest.approx(2 / 3, abs=0.1))


def test_ids_that_are_withdrawn_are_left_out(data_folder, output_folder, make_data, tmp_path):
    data, some = read_data(data_folder), read_data(make_data(2, 5))
    digest = keep(tmp_path / "output.zip", output_folder, data)
    again = kept.read(tmp_path / "output.zip", digest, some)
    assert (
        again.texts.keys() == {"500", "501", "502"} and again.images.keys() == again.types.keys() - again.texts.keys()
    )
    assert len(list(again.root.iterdir())) == 3
    whole = scored(kept.read(tmp_path / "output.zip", digest, data), data)["tasks"]
    assert scored(again, some)["tasks"] == {number: whole[number] for number in ("2", "5")}


def test_ids_without_an_answer_are_named(data_folder, make_data, make_output, tmp_path):
    some = make_data(2, 5)
    digest = keep(tmp_path / "output.zip", make_output(some), read_data(some))
    with pytest.raises(kept.Unanswered) as caught:
        kept.read(tmp_path / "output.zip", digest, read_data(data_folder))
    assert caught.value.total == 30 and caught.value.exit_code == 2
    assert "output.zip: id '0' (TextQA): was not asked for" in str(caught.value) and "30 of this kind" in str(
        caught.value
    )


def test_a_task_that_changed_what_it_asks_for(data_folder, output_folder, edit_json, tmp_path):
    surplus = [{"type": "image", "content": "images/image_200.jpg"}, {"type": "text", "content": ANSWERS[5]}]
    edit_json(output_folder / "predictions.json", lambda d: d.update({"200": surplus}))
    digest = keep(tmp_path / "output.zip", output_folder, read_data(data_folder))
    edit_json(data_folder / "sample_ids.json", lambda d: d.update({"200": 5, "201": 5}))
    text = [{"type": "text", "content": [ANSWERS[5]]}]
    edit_json(data_folder / "ground_truth.json", lambda d: d.update({"200": text, "201": text}))
    with pytest.raises(kept.Unanswered, match="id '201' .*: no text is kept") as caught:
        kept.read(tmp_path / "output.zip", digest, read_data(data_folder))
    assert caught.value.total == 1
    edit_json(data_folder / "sample_ids.json", lambda d: d.update({"201": 2, "500": 2}))
    image = [{"type": "image", "content": "gt_images/201.png"}]
    edit_json(data_folder / "ground_truth.json", lambda d: d.update({"201": image, "500": image}))
    with pytest.raises(kept.Unanswered, match="id '500' .*: no image is kept"):
        kept.read(tmp_path / "output.zip", digest, read_data(data_folder))
    edit_json(data_folder / "sample_ids.json", lambda d: d.update({"500": 5}))
    edit_json(data_folder / "ground_truth.json", lambda d: d.update({"500": text}))
    assert kept.read(tmp_path / "output.zip", digest, read_data(data_folder)).texts["200"] == ANSWERS[5]


def test_an_image_that_is_a_reference_by_now(data_folder, output_folder, tmp_path):
    digest = keep(tmp_path / "output.zip", output_folder, read_data(data_folder))
    with Image.open(output_folder / "images" / "image_201.jpg") as image:
        image.save(data_folder / "gt_images" / "200.png")
    with pytest.raises(kept.Unanswered, match="id '201' .*: the image is a reference image"):
        kept.read(tmp_path / "output.zip", digest, read_data(data_folder))


def test_another_file_and_none(data_folder, output_folder, tmp_path):
    data, path = read_data(data_folder), tmp_path / "output.zip"
    digest = keep(path, output_folder, data)
    with pytest.raises(DataError, match="kept output .*none.zip cannot be read: No such file"):
        kept.read(tmp_path / "none.zip", digest, data)
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(DataError, match="output.zip is not the output that was kept: its SHA-256 is"):
        kept.read(path, digest, data)


def test_where_nothing_can_be_written(data_folder, output_folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EvaluatorError, match=r"the output cannot be kept in .*file/output\.zip") as caught:
        keep(tmp_path / "file" / "output.zip", output_folder, read_data(data_folder))
    assert caught.value.exit_code == 3


def test_a_changed_byte_is_found_or_means_nothing(make_data, make_output, tmp_path):
    """Even where the digest is that of the changed file."""
    folder = make_data(2)
    data, path = read_data(folder), tmp_path / "output.zip"
    keep(path, make_output(folder), data)
    content = path.read_bytes()
    whole = kept.read(path, hashlib.sha256(content).hexdigest(), data)
    found = 0
    # The images' own bytes have a checksum: some of them will do.
    for position in [*range(0, len(content), 499), *range(content.index(b"output.json") - 30, len(content), 5)]:
        changed = bytearray(content)
        changed[position] ^= 1 << position % 8
        path.write_bytes(changed)
        try:
            again = kept.read(path, hashlib.sha256(changed).hexdigest(), data)
        except DataError as error:
            assert "output.zip" in str(error)
            found += 1
        else:
            assert same(again, whole), position
            assert all(np.array_equal(again.image(id), whole.image(id)) for id in again.images), position
            again.close()
    assert found > len(content) // 499 // 2
    for size in (0, 10, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(DataError, match="is no kept output, or a damaged one"):
            kept.read(path, hashlib.sha256(content[:size]).hexdigest(), data)


def entries(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.parametrize(
    ("change", "method", "message"),
    [
        ({"output.json": b"[" * 10**6}, zipfile.ZIP_DEFLATED, "recursion|output.json"),
        ({"output.json": b"{}"}, zipfile.ZIP_DEFLATED, "version is missing"),
        ({"output.json": b"{}"}, zipfile.ZIP_STORED, "output.json has 2 bytes, by the method 0"),
        ({"output.json": b" " * (10**6 + 1)}, zipfile.ZIP_DEFLATED, "output.json has 1000001 bytes"),
        ({}, zipfile.ZIP_DEFLATED, r"images/\w+\.png has \d+ bytes, by the method 8"),
    ],
    ids=["nested", "empty", "stored", "bomb", "images that expand"],
)
def test_what_no_run_has_written(make_data, make_output, tmp_path, monkeypatch, change, method, message):
    monkeypatch.setattr(kept, "_MAX_DOCUMENT_BYTES", 10**6)
    folder = make_data(2)
    data, path = read_data(folder), tmp_path / "output.zip"
    keep(path, make_output(folder), data)
    content = entries(path) | change
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, entry in content.items():
            archive.writestr(name, entry)
    with pytest.raises(DataError, match=f"output.zip is no kept output, or a damaged one: .*({message})"):
        kept.read(path, hashlib.sha256(path.read_bytes()).hexdigest(), data)


def test_a_name_leads_nowhere_else(make_data, make_output, tmp_path):
    folder = make_data(2)
    data, path = read_data(folder), tmp_path / "output.zip"
    keep(path, make_output(folder), data)
    content = entries(path)
    document = json.loads(content["output.json"])
    (first, *_) = document["pixels"]
    document["pixels"][first] = "../../../escaped"
    picture = io.BytesIO()
    noise(3).save(picture, "PNG")
    with zipfile.ZipFile(path, "w") as archive:
        for name, entry in content.items():
            if name != "output.json":
                archive.writestr(name, entry)
        archive.writestr("images/../../../escaped.png", picture.getvalue())
        archive.writestr("output.json", json.dumps(document), zipfile.ZIP_DEFLATED)
    again = kept.read(path, hashlib.sha256(path.read_bytes()).hexdigest(), data)
    assert sorted(each.name for each in again.root.iterdir()) == ["0.image", "1.image", "2.image"]
    assert not list(tmp_path.rglob("escaped*")) and not list(again.root.parent.glob("escaped*"))
