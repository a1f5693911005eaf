"""The file contract: what is read, what is left out with a warning, what is refused; and what is written."""

import json
import os

import pytest
from PIL import Image

from contract import InputError, PredictionWriter, image_name, read_examples
from resume import Journal


def write_input(folder, document) -> None:
    text = document if isinstance(document, str) else json.dumps(document, ensure_ascii=False)
    text = text.replace(f'"{LONG}"', "7" * 5000).replace(f'"{DEEP}"', "[" * 200_000 + '"]"' + "]" * 200_000)
    (folder / "input.json").write_text(text, encoding="utf-8")


def text(content) -> dict:
    return {"type": "text", "content": content}


def image(content) -> dict:
    return {"type": "image", "content": content}


#: Stand-ins in a document, which `write_input` replaces: 5000 digits, 200 000 lists in each other.
LONG, DEEP = "<long>", "<deep>"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    for name in ("a.jpg", "ёж 🦔.png"):
        Image.new("RGB", (8, 8), "red").save(tmp_path / "images" / name)
    return tmp_path


def test_entries_and_ids_keep_their_order(folder, caplog):
    write_input(folder, {
        "10": [text("«Ёжик» — кто это? 🦔"), image("images/a.jpg"), text("a) зверь; b) птица")],
        "2": [image("images/ёж 🦔.png")], "ж": [text("")], "0": [],
    })  # fmt: skip
    examples = read_examples(folder)
    assert [example.id for example in examples] == ["10", "2", "ж", "0"]
    assert examples[0].entries == ("«Ёжик» — кто это? 🦔", folder / "images/a.jpg", "a) зверь; b) птица")
    assert examples[0].texts == ("«Ёжик» — кто это? 🦔", "a) зверь; b) птица")
    assert examples[1].images == (folder / "images/ёж 🦔.png",) and examples[1].texts == ()
    assert examples[2].texts == ("",) and examples[3].entries == ()
    assert not any(example.answer_in_text for example in examples) and not caplog.records


@pytest.mark.parametrize(
    ("entry", "named", "answer_in_text"),
    [
        (image("../secret.jpg"), "'../secret.jpg'; it must be a path inside the input folder", True),
        (image("images/../../x.jpg"), "inside the input folder", True),
        (image("/etc/passwd"), "'/etc/passwd'; it must be a path inside the input folder", True),
        (image(""), "''; it must be a path inside", True),
        (image("images/нет.jpg"), "'images/нет.jpg'; there is no such file", True),
        (image("images"), "not a folder, pipe or device", True),
        (image("images/pipe"), "not a folder, pipe or device", True),
        (image("images/\0.jpg"), "must be a file", True),
        (image("x" * 5000), "must be a file", True),
        (image(7), "content is 7; it must be a text", True),
        (image(None), "content is None", True),
        (text(None), "content is None; it must be a text", False),
        (text(["да"]), "content is ['да']", False),
        (text(LONG), f"content is {'7' * 80}…; it must be a text", False),
        (image(LONG), f"content is {'7' * 80}…; it must be a text", True),
        ({"type": LONG, "content": "x"}, f"type is {'7' * 80}…; it must be", False),
        (text({"x": [1, LONG]}), "content is {'x': [1, 777", False),
        (LONG, "entry 1 is 777", False),
        (text(DEEP), "content is [[[[", False),
        (image(DEEP), "content is [[[[", True),
        (text([{"x": DEEP}, "]}", DEEP]), "content is [{'x': [[[[", False),
        ({"type": "text", "content": "x"} | {"more": DEEP, "type": 1}, "type is 1; it must be", False),
        (DEEP, "entry 1 is [[[[", False),
        ({"type": "audio", "content": "x"}, "type is 'audio'; it must be 'text' or 'image'", False),
        ({"content": "x"}, "type is None", False),
        ({"type": ["text"], "content": "x"}, "type is ['text']", False),
        ("просто текст", "entry 1 is 'просто текст'; it must be an object", False),
        (None, "entry 1 is None", False),
    ],
)
def test_a_faulty_entry_is_named_and_costs_nothing_else(folder, caplog, entry, named, answer_in_text):
    os.mkfifo(folder / "images" / "pipe")
    write_input(folder, {"7": [text("Что это?"), entry, image("images/a.jpg")], "8": [text("Кто это?")]})
    faulty, sound = read_examples(folder)
    assert faulty.texts == ("Что это?",) and faulty.images == (folder / "images/a.jpg",)
    assert faulty.answer_in_text == answer_in_text
    assert sound.texts == ("Кто это?",)
    (record,) = caplog.records
    assert record.levelname == "WARNING" and "id '7'" in record.message and named in record.message
    assert "\n" not in record.message and len(record.message) < 500


@pytest.mark.parametrize("depth", [90, 101, 300, 900, 960, 990, 1000, 2000])
def test_lists_of_any_depth_cost_one_entry(folder, caplog, depth):
    nested = "[" * depth + "]" * depth
    write_input(folder, f'{{"0": [{{"type": "text", "content": {nested}}}, {{"type": "text", "content": "да"}}]}}')
    (example,) = read_examples(folder)
    assert example.entries == ("да",) and "entry 0: content is [[[" in caplog.text.replace("a list, nested", "[[[")


@pytest.mark.parametrize("entries", [None, 5, "текст", {"type": "text", "content": "x"}, LONG, {"x": DEEP}])
def test_an_example_that_is_no_list_keeps_its_id(folder, caplog, entries):
    write_input(folder, {"0": entries, "1": [text("да?")]})
    assert [example.entries for example in read_examples(folder)] == [(), ("да?",)]
    assert "id '0'" in caplog.text and "must be a list of entries" in caplog.text


def test_repeated_ids_are_named_and_the_last_counts(folder, caplog):
    write_input(folder, '{"0": [{"type": "text", "content": "раз"}], "0": [{"type": "text", "content": "два"}]}')
    (example,) = read_examples(folder)
    assert example.texts == ("два",) and "id '0' occurs more than once" in caplog.text


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b'{"0": [', "is not JSON in UTF-8"),
        (b"", "is not JSON in UTF-8"),
        ('{"0": []}'.encode("utf-16"), "is not JSON in UTF-8"),
        (b"[" * 100_000, "is not JSON in UTF-8"),
        (b"[" * 100_000 + b"]" * 100_000, "is [[[["),
        (b"[" * 100_000 + b"}" * 100_000, "is not JSON in UTF-8: } at character 100000 closes nothing"),
        (b'{"0": ' + b"[" * 100_000 + b"]" * 100_001, "is not JSON in UTF-8"),
        (b"7" * 5000, "is 7777"),
        (b"[1, 2]", "is [1, 2]; it must be an object"),
        (b"null", "is None; it must be an object"),
    ],
)
def test_a_file_that_cannot_be_read_as_a_whole_is_refused(tmp_path, content, named):
    (tmp_path / "input.json").write_bytes(content)
    with pytest.raises(InputError, match="input.json") as error:
        read_examples(tmp_path)
    assert named in str(error.value)


def test_missing_input_and_byte_order_mark(tmp_path):
    with pytest.raises(InputError, match=r"input\.json: cannot be read: No such file"):
        read_examples(tmp_path)
    (tmp_path / "input.json").write_bytes(b'\xef\xbb\xbf{"0": []}')
    assert [example.id for example in read_examples(tmp_path)] == ["0"]


def test_linked_images_are_read(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "b.jpg"
    Image.new("RGB", (4, 4)).save(elsewhere)
    (folder / "images" / "b.jpg").symlink_to(elsewhere)
    write_input(folder, {"0": [image("images/b.jpg")]})
    assert read_examples(folder)[0].images == (folder / "images" / "b.jpg",)


def writer_of(folder, outputs) -> PredictionWriter:
    return PredictionWriter(folder, outputs, jpeg_quality=95)


def begin(writer, fingerprint="f") -> list[dict]:
    return writer.begin("пусто", Image.new("RGB", (8, 8), "white"), Journal(writer.folder, fingerprint))


def test_predictions_in_the_order_of_the_input(tmp_path):
    both = ("text", "image")
    with writer_of(tmp_path / "новая" / "output", {"2": ("text",), "0": both, "ж": both, "3": both}) as writer:
        assert begin(writer) == []
        path = writer.folder / "predictions.json"
        placeholder = [text("пусто"), image("images/placeholder.jpg")]
        first = json.loads(path.read_text(encoding="utf-8"))
        assert first == {"2": [text("пусто")], "0": placeholder, "ж": placeholder, "3": placeholder}
        assert (writer.folder / "images/placeholder.jpg").is_file()
        writer.add("0", ("image", "text"), text="да", image=Image.new("RGB", (8, 8), "red"))
        writer.add("ж", text="«ёж» 🦔")
        writer.add("ж", image=Image.new("RGB", (8, 8), "blue"))
        writer.add("2", text="a)")
        assert writer.finish() == path.parent
    content = path.read_text(encoding="utf-8")
    assert list(json.loads(content)) == ["2", "0", "ж", "3"]
    assert json.loads(content) == {
        "2": [text("a)")],
        "0": [image("images/image_0.jpg"), text("да")],
        "ж": [text("«ёж» 🦔"), image("images/image_ж.jpg")],
        "3": [text("пусто"), image("images/image_3.jpg")],
    }
    assert "«ёж» 🦔" in content
    with Image.open(writer.folder / "images/image_0.jpg") as drawn:
        assert drawn.format == "JPEG" and drawn.getpixel((4, 4))[0] > 240
    assert sorted(p.name for p in writer.folder.rglob("*") if p.is_file()) == [
        "image_0.jpg", "image_3.jpg", "image_ж.jpg", "predictions.json",
    ]  # fmt: skip


def test_a_second_writer_takes_over_what_is_there(tmp_path):
    outputs = {"0": ("text", "image"), "1": ("text", "image")}
    red = Image.new("RGB", (8, 8), "red")
    with writer_of(tmp_path, outputs) as writer:
        begin(writer)
        writer.add("0", text="да", image=red)
        writer.add("1", text="нет", image=red)
        writer.finish(keep_journal=True)
    (tmp_path / "images" / "image_1.jpg").unlink()
    with open(tmp_path / ".resume.jsonl", "ab") as journal:
        journal.write(b'{"id": "1", "te')  # a line that a kill cut off
    with writer_of(tmp_path, outputs) as writer:
        found = {(record["id"], *sorted(record.keys() - {"id"})) for record in begin(writer)}
        assert found == {("0", "text"), ("1", "text"), ("0", "image")}
        predictions = json.loads((tmp_path / "predictions.json").read_text(encoding="utf-8"))
        assert predictions["0"] == [text("да"), image("images/image_0.jpg")]
        assert predictions["1"] == [text("нет"), image("images/placeholder.jpg")]
        with pytest.raises(BlockingIOError, match="another run is writing to it"):
            writer_of(tmp_path, outputs)
    with writer_of(tmp_path, outputs) as writer:
        assert begin(writer, "another fingerprint") == []


def test_writer_refuses_what_the_contract_does_not_know(tmp_path):
    with writer_of(tmp_path, {"0": ("text",)}) as writer:
        with pytest.raises(ValueError, match="begin.. comes before add"):
            writer.add("0", text="")
        begin(writer)
    with writer_of(tmp_path, {"0": ("text",)}) as writer:
        begin(writer)
        with pytest.raises(ValueError, match="id '1' was not asked"):
            writer.add("1", text="да")
        writer.add("0", text="")
        with pytest.raises(ValueError, match="id '0' has its text already"):
            writer.add("0", text="нет")


def test_an_interrupted_write_leaves_the_earlier_file(tmp_path, monkeypatch):
    with writer_of(tmp_path, {"0": ("text",)}) as writer:
        begin(writer)
        earlier = (tmp_path / "predictions.json").read_bytes()
        writer.add("0", text="да")

        def full(*_):
            raise OSError("disk full")

        with monkeypatch.context() as patched:
            patched.setattr(os, "replace", full)
            with pytest.raises(OSError, match="disk full"):
                writer.save()
        assert (tmp_path / "predictions.json").read_bytes() == earlier
        assert not list(tmp_path.glob("*.tmp")) and not list(tmp_path.glob(".*.tmp"))


def test_odd_ids_stay_inside_the_folder(tmp_path):
    ids = ["../../etc/x", "a/b", "", "ё" * 300, "a\0b", "\ud83e", "0"]
    with writer_of(tmp_path / "output", {id: ("image",) for id in ids}) as writer:
        begin(writer)
        for id in ids:
            writer.add(id, image=Image.new("RGB", (4, 4)))
        predictions = json.loads((writer.finish() / "predictions.json").read_text(encoding="utf-8"))
    assert list(predictions) == ids
    paths = {predictions[id][0]["content"] for id in ids}
    assert len(paths) == len(ids) and image_name("0") == "image_0.jpg"
    assert all((tmp_path / "output" / path).is_file() for path in paths)
    assert {p.parent for p in tmp_path.rglob("*.jpg")} == {tmp_path / "output" / "images"}
