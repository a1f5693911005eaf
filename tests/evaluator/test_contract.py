import io
import json
import os
import shutil
import struct
import zlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from evaluator import limits
from evaluator.contract import load_image, pixel_digest, read_data, read_json, read_predictions
from evaluator.errors import SHOWN_FAULTS, DataError, EvaluatorError, SubmissionError


def fault_of(output, data) -> str:
    with pytest.raises(SubmissionError) as caught:
        read_predictions(output, data)
    assert caught.value.exit_code == 1
    return str(caught.value)


def data_fault(folder) -> str:
    with pytest.raises(DataError) as caught:
        read_data(folder)
    assert caught.value.exit_code == 2
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
        (lambda d: d.pop("101") and None, "id '101' is missing"),
        (lambda d: d.update({"№7": []}), "id '№7' is unknown"),
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
            "text of 20001 characters; at most 20000",
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
    assert len(caught.value.reasons) == 36 and len(lines) == SHOWN_FAULTS + 1 and lines[-1] == "... and 16 more"


# --- predictions.json: bytes ---


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "invalid JSON at line 1, column 1"),
        (b'{"0": [}', "invalid JSON at line 1"),
        (b'{"0": NaN}', "NaN is not allowed"),
        (b'{"0": [{"type": "text", "content": -Infinity}]}', "-Infinity is not allowed"),
        (b'{"0": [], "1": [], "0": []}', "the key '0' occurs twice"),
        (b'{"0": [{"type": "text", "type": "image", "content": "x"}]}', "the key 'type' occurs twice"),
        ('{"0": "ё"}'.encode("cp1251"), "not UTF-8 at byte 7"),
        (b'{"0": [{"type": "text", "content": "\\ud83d"}]}', "half of a surrogate pair"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"0":' * 100_000 + b"1" + b"}" * 100_000, "nested too deeply"),
        (b'{"0": ' + b"9" * 10_000 + b"}", "predictions.json: "),
    ],
)
def test_broken_json(data_folder, output_folder, content, message):
    data = read_data(data_folder)
    (output_folder / "predictions.json").write_bytes(content)
    fault = fault_of(output_folder, data)
    assert message in fault and fault.startswith("predictions.json: ") and "\n" not in fault


def test_escaped_pair_is_a_text(tmp_path):
    (tmp_path / "x.json").write_bytes(b'{"0": "\\ud83d\\ude00 \\u0451\\u0436"}')
    assert read_json(tmp_path, "x.json", SubmissionError) == {"0": "😀 ёж"}


def test_too_large_json(tmp_path):
    (tmp_path / "x.json").write_text('{"0": "' + "a" * 100 + '"}')
    with pytest.raises(SubmissionError, match="larger than the allowed 50 bytes"):
        read_json(tmp_path, "x.json", SubmissionError, limit=50)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_json_gets_a_verdict(data_folder, output_folder, document):
    data = read_data(data_folder)
    (output_folder / "predictions.json").write_text(json.dumps({"0": document, "1": [document]}))
    fault_of(output_folder, data)


@given(st.binary(max_size=300))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_get_a_verdict(tmp_path, content):
    (tmp_path / "x.json").write_bytes(content)
    (tmp_path / "x.png").write_bytes(content)
    try:
        read_json(tmp_path, "x.json", SubmissionError)
    except EvaluatorError as error:
        assert error.exit_code == 1
    with pytest.raises(ValueError):
        load_image(tmp_path, "x.png")


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
        ("images", "is not a regular file"),
        ("", "the path is empty"),
        ("images/\x00.jpg", "character that is not allowed"),
        ("images\\image_200.jpg", "character that is not allowed"),
        ("predictions.json/x", "cannot be read"),
        ("predictions.json", "not a readable image"),
        ("images/" + "a" * 5000, "cannot be read"),
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
        "text.jpg": "not a readable image of a known format (JPEG, PNG, WEBP, BMP)",
        "wide.png": f"has 5000 x 5000 pixels; at most {limits.MAX_IMAGE_PIXELS}",
        "bomb.png": "has more than the allowed",
        "zero.png": "not a readable image",
        "other.jpg": "not a readable image",
    }.items():
        assert message in image_fault(data_folder, output_folder, edit_json, f"images/{name}")


def test_too_large_image_file(data_folder, output_folder, edit_json):
    with open(output_folder / "images" / "large.jpg", "wb") as file:
        file.truncate(limits.MAX_IMAGE_BYTES + 1)
    assert "larger than the allowed" in image_fault(data_folder, output_folder, edit_json, "images/large.jpg")


def test_decoded_image_is_pixels_alone(tmp_path):
    image = Image.new("RGBA", (7, 5), (10, 20, 30, 128))
    image.info["comment"] = "скрытый текст"
    image.save(tmp_path / "x.png")
    loaded = load_image(tmp_path, "x.png")
    assert (loaded.mode, loaded.size, loaded.info, loaded.getpixel((3, 3))) == ("RGB", (7, 5), {}, (10, 20, 30))
    assert pixel_digest(loaded) == pixel_digest(Image.new("RGB", (7, 5), (10, 20, 30)))
    assert pixel_digest(loaded) != pixel_digest(Image.new("RGB", (5, 7), (10, 20, 30)))


# --- the organizer's data ---


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("ground_truth.json", lambda d: d.pop("0") and None, "ground_truth.json: id '0' is missing"),
        ("sample_ids.json", lambda d: d.update({"x": 1}), "sample_ids.json: id 'x' is unknown"),
        ("sample_ids.json", lambda d: d.update({"0": 12}), "id '0': task 12 is not one of 0, 1,"),
        ("sample_ids.json", lambda d: d.update({"0": True}), "id '0': task True is not one of"),
        ("sample_ids.json", lambda d: d.update({"0": [0]}), "id '0': task [0] is not one of"),
        ("tasks.json", lambda d: d.pop("6") and None, "task 6 is not one of 0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11 (6..11"),
        ("ground_truth.json", lambda d: d.update({"0": []}), "id '0' (TextQA): no text entry"),
        (
            "ground_truth.json",
            lambda d: d.update({"0": [{"type": "text", "content": "a"}]}),
            "list of accepted answers",
        ),
        ("ground_truth.json", lambda d: d.update({"0": [{"type": "text", "content": []}]}), "list of accepted answers"),
        (
            "ground_truth.json",
            lambda d: d.update({"200": [{"type": "image", "content": "images/300.png"}]}),
            "id '200' (ImageGeneration): image 'images/300.png': must lie in gt_images/",
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


def test_missing_data_files(data_folder, tmp_path):
    assert "does not exist" in data_fault(tmp_path / "nowhere")
    (data_folder / "images" / "300.png").unlink()
    (data_folder / "gt_images" / "200.png").write_bytes(b"rubbish")
    fault = data_fault(data_folder)
    assert "id '300' (ImageCaptioning): image 'images/300.png': the file does not exist" in fault
    assert "id '200' (ImageGeneration): image 'gt_images/200.png': is not a readable image" in fault
    (data_folder / "ground_truth.json").unlink()
    assert data_fault(data_folder) == "ground_truth.json: the file does not exist"


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
