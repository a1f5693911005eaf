"""A submission's output: what is read, what is refused and by which rule, and what is kept of it."""

import gc
import hashlib
import io
import json
import math
import os
import shutil
import signal
import struct
import subprocess
import sys
import zlib
from functools import partial

import numpy as np
import pytest
from PIL import Image

from evaluator.core import limits, strict_json
from evaluator.core.errors import (
    MAX_FINDINGS,
    SHOWN_FAULTS,
    Finding,
    Findings,
    SubmissionError,
)
from evaluator.core.verdict import BAD_OUTPUT
from evaluator.data import images
from evaluator.data.dataset import read_data
from evaluator.data.images import load_image, pixel_digest
from evaluator.data.predictions import read_predictions
from evaluator.metrics import encoders
from tests.support.images import deep_grey


def fault_of(output, data) -> str:
    with pytest.raises(SubmissionError) as caught:
        read_predictions(output, data)
    assert caught.value.exit_code == 1
    return str(caught.value)


def test_good_folders(data_folder, output_folder):
    data = read_data(data_folder)
    assert len(data.examples) == 36 and [task.number for task in data.by_task()] == list(range(12))
    predictions = read_predictions(output_folder, data)
    assert len(predictions.texts) == 33 and len(predictions.images) == 3
    assert predictions.texts["300"] == "рыжая кошка сидит на столе 🐈"


def test_some_tasks_without_tasks_json(make_data, make_output):
    folder = make_data(1, 2)
    (folder / "tasks.json").unlink()
    data = read_data(folder)
    assert [task.name for task in data.by_task()] == ["MathQA", "ImageGeneration"]
    assert len(read_predictions(make_output(folder), data).texts) == 3


# --- predictions.json: ids and entries ---


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("101") and None, "id '101': missing"),
        (lambda d: d.update({"№7": []}), "id '№7': unknown"),
        (lambda d: d.update({"1": []}), "id '1' (TextQA): no text entry"),
        (lambda d: d.update({"1": [{"type": "image", "content": "x.jpg"}]}), "id '1' (TextQA): no text entry"),
        (
            lambda d: d.update({"200": [{"type": "text", "content": "кот"}]}),
            "id '200' (ImageGeneration): no image entry",
        ),
        (lambda d: d.update({"1": "ответ"}), "id '1': must be a list of entries, not a text"),
        (lambda d: d.update({"1": ["ответ"]}), "id '1': entry 0: must be an object with type and content"),
        (lambda d: d.update({"1": [{"content": "ответ"}]}), "id '1': entry 0: type missing"),
        (lambda d: d.update({"1": [{"type": "audio", "content": "x"}]}), "type must be 'text' or 'image', not 'audio'"),
        (lambda d: d.update({"1": [{"type": ["text"], "content": "x"}]}), "type must be 'text' or 'image'"),
        (lambda d: d.update({"1": [{"type": "text", "content": 5}]}), "content must be a text, not a number"),
        (lambda d: d.update({"1": [{"type": "text", "content": None}]}), "content must be a text, not null"),
        (lambda d: d.update({"1": [{"type": "text", "content": ["a"]}]}), "content must be a text, not a list"),
        (
            lambda d: d.update({"1": [{"type": "text", "content": "ё" * 20_001}]}),
            "text of 20001 characters; allowed: at most 20000 characters",
        ),
        (lambda d: [d], "must be an object of ids, not a list"),
    ],
)
def test_fault_in_predictions(data_folder, output_folder, edit_json, change, message):
    data = read_data(data_folder)
    edit_json(output_folder / "predictions.json", change)
    assert message in fault_of(output_folder, data)


def test_first_matching_entry_counts_and_surplus_is_no_error(data_folder, output_folder, edit_json):
    data = read_data(data_folder)
    entries = [
        {"type": "image", "content": "/nowhere.jpg"},
        {"type": "text", "content": "первый"},
        {"type": "text", "content": "второй"},
    ]
    edit_json(output_folder / "predictions.json", lambda d: d.update({"0": entries}))
    assert read_predictions(output_folder, data).texts["0"] == "первый"


def test_all_faults_are_collected_and_the_first_are_shown(data_folder, output_folder):
    data = read_data(data_folder)
    (output_folder / "predictions.json").write_text("{}", encoding="utf-8")
    with pytest.raises(SubmissionError) as caught:
        read_predictions(output_folder, data)
    lines = str(caught.value).splitlines()
    assert len(caught.value.reasons) == 36 and len(lines) == 1, "36 times the same"
    assert lines[0].startswith("predictions.json: id '0': missing; allowed: every id of input.json once; fix: ")
    places = "predictions.json: id '0', predictions.json: id '1', predictions.json: id '2', ..."
    assert lines[0].endswith(f"(36 of this kind: {places})")


def test_the_first_of_many_different_faults_are_shown():
    error = SubmissionError(BAD_OUTPUT, [Finding(f"rule-{n}", f"id {n}", "wrong") for n in range(50)], 60)
    assert str(error).splitlines()[SHOWN_FAULTS - 1 :] == [f"id {SHOWN_FAULTS - 1}: wrong", "... and 40 more"]


def rules_of(output, data) -> list[str]:
    with pytest.raises(SubmissionError) as caught:
        read_predictions(output, data)
    return [finding.rule for finding in caught.value.findings]


def test_faults_of_all_kinds_are_found_in_one_reading(data_folder, output_folder):
    data = read_data(data_folder)
    predictions = json.loads((output_folder / "predictions.json").read_text(encoding="utf-8"))
    del predictions["0"]
    predictions["new"] = []
    predictions["1"] = "ответ"
    predictions["2"] = [{"type": "image", "content": "images/image_200.jpg"}]
    predictions["100"] = [{"type": "text", "content": "ё" * 20_001}]
    predictions["101"] = [{"type": "text", "content": "a\x1b[2J"}]
    predictions["102"] = [{"type": "text", "content": "a\ud83d"}]
    predictions["200"] = [{"type": "image", "content": "images/link.jpg"}]
    predictions["300"] = [{"type": "text", "content": 10**200}]
    (output_folder / "images" / "link.jpg").symlink_to("image_200.jpg")
    shutil.copy(data_folder / "gt_images" / "201.png", output_folder / "images" / "image_201.jpg")
    (output_folder / "images" / "image_202.jpg").write_bytes(b"rubbish")
    text = json.dumps(predictions)[:-1] + ', "301": [], "301": [NaN]}'
    (output_folder / "predictions.json").write_text(text, encoding="utf-8")
    assert sorted(rules_of(output_folder, data)) == sorted(
        ["missing-id", "unknown-id", "missing-output", "text-length", "control-character", "half-surrogate"]
        + ["file-link", "reference-image", "image-format", "duplicate-key", "duplicate-key"]
        + ["json-number"] * 2  # 10**200 and NaN, which are also no text and no entry
        + ["json-shape"] * 3
    )


def test_findings_beyond_those_kept_are_counted(data_folder, output_folder, edit_json):
    data = read_data(data_folder)
    edit_json(output_folder / "predictions.json", lambda d: d.update({f"new{n}": [] for n in range(3000)}))
    with pytest.raises(SubmissionError) as caught:
        read_predictions(output_folder, data)
    assert (len(caught.value.findings), caught.value.total) == (MAX_FINDINGS, 3000)
    assert len(str(caught.value).splitlines()) == 1 and "(3000 of this kind: " in str(caught.value)
    document = caught.value.to_json()
    assert (document["verdict"], document["fault"]) == ("BAD_OUTPUT", "team")
    assert (len(document["findings"]), document["findings_total"]) == (MAX_FINDINGS, 3000)


@pytest.mark.parametrize("character", ["\0", "\x07", "\x1b", "\x7f"])
def test_control_characters_are_refused_and_white_space_is_not(data_folder, output_folder, edit_json, character):
    data = read_data(data_folder)
    text = [{"type": "text", "content": "раз\tдва\r\n\u200bтри\x85"}]
    edit_json(output_folder / "predictions.json", lambda d: d.update({"0": text}))
    assert read_predictions(output_folder, data).texts["0"] == text[0]["content"]
    text[0]["content"] += character
    edit_json(output_folder / "predictions.json", lambda d: d.update({"0": text}))
    assert f"control character, U+{ord(character):04X} at character 14" in fault_of(output_folder, data)


# --- predictions.json: bytes ---


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "invalid JSON at line 1, column 1"),
        (b'{"0": [}', "invalid JSON at line 1"),
        (b'{"0": NaN}', "the number NaN; allowed: finite numbers"),
        (b'{"0": [{"type": "text", "content": -Infinity}]}', "the number -Infinity; allowed: finite numbers"),
        (b'{"0": [], "1": [], "0": []}', "the key '0' occurs twice"),
        (b'{"0": [{"type": "text", "type": "image", "content": "x"}]}', "the key 'type' occurs twice"),
        ('{"0": "ё"}'.encode("cp1251"), "not UTF-8 at byte 7"),
        (b'{"0": [{"type": "text", "content": "\\ud83d"}]}', "half of a surrogate pair"),
        (b"[" * 200_000, "nested more than 32 deep"),
        (b'{"0":' * 100_000 + b"1" + b"}" * 100_000, "nested more than 32 deep"),
        (b'{"0": ' + b"9" * 10_000 + b"}", "a number of 10000 characters"),
    ],
)
def test_broken_json(data_folder, output_folder, content, message):
    data = read_data(data_folder)
    (output_folder / "predictions.json").write_bytes(content)
    fault = fault_of(output_folder, data)
    assert message in fault
    assert all(line.startswith(("predictions.json: ", "... and ")) for line in fault.splitlines())


def test_escaped_pair_is_a_text(tmp_path):
    (tmp_path / "x.json").write_bytes(b'{"0": "\\ud83d\\ude00 \\u0451\\u0436"}')
    findings = Findings()
    assert strict_json.parse_file(tmp_path, "x.json", findings) == {"0": "😀 ёж"} and not findings


def test_too_large_json(tmp_path):
    (tmp_path / "x.json").write_text('{"0": "' + "a" * 100 + '"}')
    findings = Findings()
    assert strict_json.parse_file(tmp_path, "x.json", findings, limit=50) is None
    assert "has 109 bytes; allowed: at most 50 bytes" in str(findings.kept[0])


# --- predicted images ---


def image_fault(data_folder, output_folder, edit_json, path: str) -> str:
    data = read_data(data_folder)
    entry = [{"type": "image", "content": path}]
    edit_json(output_folder / "predictions.json", lambda d: d.update({"200": entry}))
    fault = fault_of(output_folder, data)
    assert fault.startswith("predictions.json: id '200' (ImageGeneration): image ") and "\n" not in fault
    return fault


def png_header(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims any size."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("images/none.jpg", "the file does not exist"),
        ("/etc/hostname", "the path is absolute"),
        ("../data/gt_images/200.png", "the path has '..'"),
        ("images/../../data/gt_images/200.png", "the path has '..'"),
        ("images", "is a folder, not a regular file"),
        ("", "the path is empty"),
        ("images/\x00.jpg", "character that is not allowed"),
        ("images\\image_200.jpg", "character that is not allowed"),
        ("predictions.json/x", "goes through a file that is no folder"),
        ("predictions.json", "not a readable image"),
        ("images/" + "a" * 5000, "the path has 5007 characters"),
        ("images/" + "a" * 500, "cannot be read"),
    ],
)
def test_image_path(data_folder, output_folder, edit_json, path, message):
    assert message in image_fault(data_folder, output_folder, edit_json, path)


def test_image_behind_a_link(data_folder, output_folder, edit_json):
    (output_folder / "images" / "file.png").symlink_to(data_folder / "gt_images" / "200.png")
    (output_folder / "folder").symlink_to(data_folder / "gt_images")
    for path in ("images/file.png", "folder/200.png"):
        assert "symbolic link" in image_fault(data_folder, output_folder, edit_json, path)


def test_image_that_is_a_fifo(data_folder, output_folder, edit_json):
    os.mkfifo(output_folder / "images" / "pipe.jpg")
    assert "not a regular file" in image_fault(data_folder, output_folder, edit_json, "images/pipe.jpg")


def test_links_for_the_folder_and_its_json(data_folder, output_folder, tmp_path):
    data = read_data(data_folder)
    (tmp_path / "link").symlink_to(output_folder)
    assert "is a symbolic link" in fault_of(tmp_path / "link", data)
    (output_folder / "predictions.json").rename(tmp_path / "elsewhere.json")
    assert "the file does not exist" in fault_of(output_folder, data)
    (output_folder / "predictions.json").symlink_to(tmp_path / "elsewhere.json")
    assert "symbolic link" in fault_of(output_folder, data)


def test_copy_of_a_reference_image_is_refused_in_any_lossless_file(data_folder, output_folder, edit_json):
    reference = data_folder / "gt_images" / "201.png"
    target = output_folder / "images"
    (target / "copy.png").write_bytes(reference.read_bytes())
    os.link(reference, target / "hard.png")
    Image.open(reference).save(target / "again.bmp")
    Image.open(reference).convert("RGBA").save(target / "again.webp", lossless=True)
    for name in ("copy.png", "hard.png", "again.bmp", "again.webp"):
        assert "is a copy of a reference image" in image_fault(data_folder, output_folder, edit_json, f"images/{name}")


def test_broken_and_oversized_images(data_folder, output_folder, edit_json):
    target = output_folder / "images"
    whole = (target / "image_201.jpg").read_bytes()
    (target / "short.jpg").write_bytes(whole[: len(whole) // 2])
    (target / "text.jpg").write_text("это не картинка", encoding="utf-8")
    (target / "wide.png").write_bytes(png_header(5000, 5000))
    (target / "bomb.png").write_bytes(png_header(60_000, 60_000))
    (target / "zero.png").write_bytes(b"")
    gif = io.BytesIO()
    Image.new("RGB", (8, 8)).save(gif, "GIF")
    (target / "other.jpg").write_bytes(gif.getvalue())
    for name, message in {
        "short.jpg": "cannot be decoded",
        "text.jpg": "of a known format; allowed: an image of a known format (JPEG, PNG, WEBP, BMP)",
        "wide.png": f"has 5000 x 5000 pixels; allowed: at most {limits.MAX_IMAGE_PIXELS}",
        "bomb.png": f"has more than {limits.MAX_IMAGE_PIXELS} pixels",
        "zero.png": "not a readable image",
        "other.jpg": "not a readable image",
    }.items():
        assert message in image_fault(data_folder, output_folder, edit_json, f"images/{name}")


def test_too_large_image_file(data_folder, output_folder, edit_json):
    with open(output_folder / "images" / "large.jpg", "wb") as file:
        file.truncate(limits.MAX_IMAGE_BYTES + 1)
    fault = image_fault(data_folder, output_folder, edit_json, "images/large.jpg")
    assert f"has {limits.MAX_IMAGE_BYTES + 1} bytes; allowed: at most {limits.MAX_IMAGE_BYTES}" in fault


def test_metrics_see_what_the_verdict_was_about(data_folder, output_folder):
    data = read_data(data_folder)
    path = "images/image_200.jpg"
    before = load_image(output_folder, path)
    digest = hashlib.sha256((output_folder / path).read_bytes()).hexdigest()
    predictions = read_predictions(output_folder, data)
    shutil.copy(data_folder / "gt_images" / "200.png", output_folder / path)
    assert predictions.images["200"] == path and predictions.files[path] == digest
    assert pixel_digest(predictions.image("200")) == pixel_digest(before)
    assert pixel_digest(load_image(output_folder, path)) != pixel_digest(before)
    root = predictions.root
    assert root != output_folder and root.stat().st_mode & 0o077 == 0
    del predictions
    gc.collect()
    assert not root.exists() and output_folder.is_dir()


@pytest.mark.slow
def test_the_largest_image_that_is_allowed_can_be_scored(data_folder, output_folder):
    """Its private copy is larger than an image file may be."""
    side = math.isqrt(limits.MAX_IMAGE_PIXELS)
    assert 3 * side**2 > limits.MAX_IMAGE_BYTES
    Image.new("RGB", (side, side), (9, 8, 7)).save(output_folder / "images" / "image_200.jpg", quality=95)
    predictions = read_predictions(output_folder, read_data(data_folder))
    assert predictions.image("200").size == (side, side)


@pytest.mark.parametrize("path", ["images/./image_200.jpg", "./images//image_200.jpg", "images/" + "ё" * 120 + ".jpg"])
def test_an_image_is_kept_whatever_its_path(data_folder, output_folder, edit_json, path):
    if not (output_folder / path).exists():
        (output_folder / "images" / "image_200.jpg").rename(output_folder / path)
    edit_json(output_folder / "predictions.json", lambda d: d["200"][0].update(content=path))
    predictions = read_predictions(output_folder, read_data(data_folder))
    assert predictions.images["200"] == path and predictions.image("200").size == (48, 40)


def test_types_and_surplus_of_entries(data_folder, output_folder, edit_json):
    def change(d):
        d["200"] += [{"type": "text", "content": "лишнее"}, {"type": "text", "content": "ещё"}]
        d["0"].append({"type": "image", "content": "/nowhere.jpg"})

    edit_json(output_folder / "predictions.json", change)
    predictions = read_predictions(output_folder, read_data(data_folder))
    assert predictions.types["200"] == ("image", "text", "text") and predictions.types["0"] == ("text", "image")
    assert predictions.surplus == {"200": "лишнее"}


def test_what_a_killed_evaluator_left_goes_with_the_next_reading(data_folder, output_folder, tmp_path, monkeypatch):
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    code = (
        "import os, sys; from evaluator.data.dataset import read_data;"
        "from evaluator.data.predictions import read_predictions;"
        "kept = read_predictions(sys.argv[1], read_data(sys.argv[2])); os.kill(os.getpid(), 9)"
    )
    command = [sys.executable, "-c", code, str(output_folder), str(data_folder)]
    killed = subprocess.run(command, env=os.environ | {"TMPDIR": str(temporary)}, check=False)
    assert killed.returncode == -signal.SIGKILL
    (left,) = temporary.iterdir()
    assert len(list(left.iterdir())) == 3
    predictions = read_predictions(output_folder, read_data(data_folder))
    assert list(temporary.iterdir()) == [predictions.root]


def test_a_refused_folder_leaves_nothing_behind(data_folder, output_folder, edit_json, tmp_path, monkeypatch):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    edit_json(output_folder / "predictions.json", lambda d: d.update({"202": []}))
    fault_of(output_folder, read_data(data_folder))
    gc.collect()
    assert not any((tmp_path / "tmp").iterdir())


def test_an_image_that_many_ids_name_is_decoded_once(data_folder, output_folder, edit_json, monkeypatch):
    data = read_data(data_folder)
    decoded = []
    original = images.Decoder.decode
    monkeypatch.setattr(images.Decoder, "decode", lambda self, content: decoded.append(1) or original(self, content))
    entry = [{"type": "image", "content": "images/image_200.jpg"}]
    edit_json(output_folder / "predictions.json", lambda d: d.update({"200": entry, "201": entry}))
    assert len(read_predictions(output_folder, data).images) == 3 and len(decoded) == 2


def test_a_folder_of_too_much_to_decode(data_folder, output_folder, monkeypatch):
    data = read_data(data_folder)
    for name, limit, rule in (
        ("MAX_FOLDER_PIXELS", 48 * 40, "folder-pixels"),  # the first two images have 48 x 40 pixels each
        ("MAX_FOLDER_IMAGE_BYTES", (output_folder / "images" / "image_200.jpg").stat().st_size, "folder-bytes"),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(limits, name, limit)
            assert rules_of(output_folder, data) == [rule]
    monkeypatch.setattr(limits, "FOLDER_DECODE_SECONDS", 0.0)
    assert rules_of(output_folder, data) == ["folder-time"] * 2


def test_an_output_folder_that_is_the_data(data_folder, output_folder):
    data = read_data(data_folder)
    predictions = json.loads((output_folder / "predictions.json").read_text(encoding="utf-8"))
    predictions |= {id: [{"type": "image", "content": f"gt_images/{id}.png"}] for id in ("200", "201", "202")}
    (data_folder / "predictions.json").write_text(json.dumps(predictions), encoding="utf-8")
    assert rules_of(data_folder, data) == ["reference-image"] * 3
    assert fault_of(data_folder, data).count("is a reference image; allowed: ") == 3


def test_long_thin_image(data_folder, output_folder, edit_json):
    Image.new("RGB", (101, 1)).save(output_folder / "images" / "thin.png")
    assert "has 101 x 1 pixels" in image_fault(data_folder, output_folder, edit_json, "images/thin.png")
    Image.new("RGB", (1, 100)).save(output_folder / "images" / "thin.png")
    read_predictions(output_folder, read_data(data_folder))


# --- files under other names, and what is kept ---


@pytest.mark.parametrize(
    "near",
    ["prediction.json", "Predictions.json", "predictions.json.txt", "predictions (1).json", "predictions.jsonl",
     "preds.json", "output/predictions.json", "output/output/predictions.json", "Output/prediction.json"],
)  # fmt: skip
def test_predictions_under_a_near_name_are_named(data_folder, output_folder, near):
    (output_folder / near).parent.mkdir(exist_ok=True, parents=True)
    (output_folder / "predictions.json").rename(output_folder / near)
    (output_folder / "notes.json").write_text("{}")
    fault = fault_of(output_folder, read_data(data_folder))
    assert fault.startswith(f"predictions.json: the file does not exist; there is {near!r}; allowed: ")


def test_the_only_json_file_is_named(data_folder, output_folder):
    (output_folder / "predictions.json").rename(output_folder / "answers.json")
    fault = fault_of(output_folder, read_data(data_folder))
    assert fault.startswith("predictions.json: the file does not exist; there is 'answers.json'; allowed: ")


def test_what_is_not_near_is_not_named(data_folder, output_folder):
    (output_folder / "predictions.json").rename(output_folder / "x.bin")
    (output_folder / "prediction.json").symlink_to(output_folder / "x.bin")
    (output_folder / "prediction").mkdir()
    for number in range(3000):
        (output_folder / f"{number}.json").touch()
    assert fault_of(output_folder, read_data(data_folder)).startswith(
        "predictions.json: the file does not exist; allowed: "
    )


def test_large_images_are_kept_as_small_as_they_were_sent(make_data, make_output, monkeypatch):
    """Flat images of a million pixels each: their files are kept, and no more than fits a batch is held decoded."""
    monkeypatch.setattr(encoders, "BATCH_PIXELS", 2**21)
    data = read_data(make_data(2))
    folder = make_output(data.root)
    sent = {}
    for number, example in enumerate(data.examples):
        path = folder / "images" / f"image_{example.id}.jpg"
        Image.new("RGB", (1024, 1024), (number, 2, 3)).save(path, "PNG")
        sent[example.id] = path.stat().st_size
    predictions = read_predictions(folder, data)
    kept = [path.stat().st_size for path in predictions.root.iterdir()]
    assert sorted(kept) == sorted(sent.values()) and sum(kept) < 10**5
    loaders = [partial(predictions.image, example.id) for example in data.examples]
    batches: list[list[tuple[int, int, int]]] = []

    def encode(images):
        batches.append([image.getpixel((1023, 1023)) for image in images])
        return np.array([[color[0]] for color in batches[-1]])

    assert encoders.encode_images(encode, loaders)[:, 0].tolist() == list(range(len(loaders)))
    assert max(map(len, batches)) == 2 and len(loaders) > 2


def test_an_image_whose_decoder_ended_is_decoded_again(make_data, make_output):
    data = read_data(make_data(2))
    predictions = read_predictions(make_output(data.root), data)
    before = pixel_digest(predictions.image(data.examples[0].id))
    predictions.decoder._process.kill()
    predictions.decoder._process.wait()
    assert pixel_digest(predictions.image(data.examples[0].id)) == before
    process = predictions.decoder._process
    del predictions
    gc.collect()
    assert process.wait() != 0


@pytest.mark.parametrize(
    ("written", "wanted"),
    [("prediction.json", "predictions.json"), ("Predictions.json", "predictions.json"),
     ("images/image_200.png", "images/image_200.jpg"), ("images/imag_200.jpg", "images/image_200.jpg")],
)  # fmt: skip
def test_a_file_of_nearly_the_name_is_named(data_folder, output_folder, written, wanted):
    (output_folder / wanted).rename(output_folder / written)
    message = fault_of(output_folder, read_data(data_folder))
    assert f"the file does not exist; there is {os.path.basename(written)!r};" in message


def test_no_near_name_is_looked_for_where_there_is_none(data_folder, output_folder):
    (output_folder / "predictions.json").rename(output_folder / "answers")
    message = fault_of(output_folder, read_data(data_folder))
    assert "the file does not exist; allowed" in message


def test_grey_of_16_bits_keeps_the_published_pixels_and_is_a_note(data_folder, output_folder, edit_json):
    """PIL's own conversion, which the published code uses, clips; the scores keep that, and say so."""
    for id in ("200", "201"):
        deep_grey(output_folder / "images" / f"image_{id}.jpg")
    data = read_data(data_folder)
    assert data.notes == ()
    predictions = read_predictions(output_folder, data)
    assert np.asarray(predictions.image("200"))[0, :, 0].tolist() == [0, 100, 255, 255, 255, 255]
    (note,) = predictions.notes
    assert (note.rule, note.where) == ("image-depth", "predictions.json: id '200', '201'")
    assert note.found == "grey with 16 bits in 2 of the images" and "every level above 255 counts as white" in str(note)


def test_grey_of_8_bits_is_no_note(data_folder, output_folder):
    Image.fromarray(np.full((8, 8), 200, dtype=np.uint8)).save(output_folder / "images" / "image_200.jpg", "PNG")
    assert read_predictions(output_folder, read_data(data_folder)).notes == []
