"""Generated rubbish as output folder and as JSON: whatever it is, it gets a verdict, never another exception."""

import contextlib
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from evaluator.core import files, limits, strict_json
from evaluator.core.errors import MAX_FINDINGS, SHOWN_FAULTS, Findings, RuleBroken, SubmissionError
from evaluator.core.verdict import BAD_OUTPUT
from evaluator.data import dataset, entries, images, predictions
from evaluator.data.dataset import Data, read_data
from evaluator.data.predictions import Predictions, read_predictions
from tests.support.rules import rules_of

pytestmark = pytest.mark.slow
SECONDS = 300.0  # far beyond what any example takes, also on a busy machine
RULES = {*rules_of(files, strict_json, dataset, entries, images, predictions), files.file_size(0).name}

many = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
few = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture
def data(make_data) -> Data:
    return read_data(make_data(0, 2, 4))


@pytest.fixture
def valid(data, make_output) -> Path:
    return make_output(data.root)


def verdict(output: Path, data: Data) -> SubmissionError | None:
    """The verdict on a folder: None for predictions that can be scored. Fails for anything that is none."""
    start = time.monotonic()
    try:
        predictions = read_predictions(output, data)
    except SubmissionError as error:
        assert error.exit_code == 1 and error.verdict is BAD_OUTPUT
        assert 0 < len(error.findings) <= MAX_FINDINGS and error.total >= len(error.findings)
        for finding in error.findings:
            assert finding.rule in RULES
            assert finding.found and finding.allowed and finding.fix and str(finding).isprintable()
        assert len(str(error).splitlines()) <= SHOWN_FAULTS + 1
        json.dumps(error.to_json(), ensure_ascii=False).encode()  # can be written
        return error
    else:
        assert isinstance(predictions, Predictions)
        wanted = {example.id: example.task.output for example in data.examples}
        assert wanted == dict.fromkeys(predictions.texts, "text") | dict.fromkeys(predictions.images, "image")
        for text in predictions.texts.values():
            assert len(text.encode()) <= 4 * limits.MAX_TEXT_CHARACTERS
        for id in predictions.images:
            assert predictions.image(id).mode == "RGB"
        return None
    finally:
        assert time.monotonic() - start < SECONDS


def mutated(content: bytes, edits: list[tuple[float, int, bytes]]) -> bytes:
    """`content` after each edit (place as a fraction, number of bytes to take out, bytes to put in)."""
    for place, taken, put in edits:
        at = int(place * len(content))
        content = content[:at] + put + content[at + taken :]
    return content


TOKENS = [*b'{}[]",:\\', *range(0, 32), 0x7F, 0xFF]
PIECES = st.one_of(
    st.binary(max_size=4),
    st.sampled_from([bytes([token]) for token in TOKENS]),
    st.sampled_from(
        [b"NaN", b"-Infinity", b"1e999", b"9" * 5000, b"null", b"true", b"\\ud83d", b"\\u0000", b"[" * 50, b"../"]
        + [b'"0":[],', b'"type":', b'"content":5,', b"/etc/passwd", b"images", b'{"":{"":[', b"\xef\xbb\xbf", b"\xb8"]
    ),
)
EDITS = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 3) | st.integers(0, 400), PIECES), min_size=1, max_size=4)


@given(edits=EDITS)
@many
def test_mutated_predictions(data, valid, edits):
    path = valid / "predictions.json"
    original = path.read_bytes()
    try:
        path.write_bytes(mutated(original, edits))
        verdict(valid, data)
    finally:
        path.write_bytes(original)


@given(content=st.binary(max_size=300) | st.text(alphabet='{}[]",:\\ud8019eE.-aNфtrue ', max_size=60).map(str.encode))
@example(content=b"")
@example(content=b"[" * 10**6)
@example(content=b'{"":' * 10**5)
@example(content=b'["' + b"\\" * 10**6)
@example(content=b'{"0": ' + b"9" * 10**6 + b"}")
@example(content=b'{"0": 1e' + b"9" * 10**6 + b"}")
@example(content=b'{"\\ud800": [{"type": "text", "content": "\\udfff"}]}')
@many
def test_any_bytes_as_predictions(data, tmp_path, content):
    output = tmp_path / "bytes"
    output.mkdir(exist_ok=True)
    (output / "predictions.json").write_bytes(content)
    assert verdict(output, data) is not None


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["text", "image"])
ANY_JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)
SHALLOW = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(st.text(max_size=4), SCALARS, max_size=2)
ENTRY = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["text", "image"]) | SHALLOW,
        "content": st.text("aё/.\ud83d\udc31\0\x1b", max_size=20) | SHALLOW,
        "more": SHALLOW,
    },
)


IDS = st.sampled_from(["0", "1", "2", "201", "400", "new"])


@given(changes=st.dictionaries(IDS, st.lists(ENTRY, max_size=3) | ANY_JSON))
@settings(many, max_examples=40)  # most of them start a decoder
def test_any_structure_as_predictions(data, valid, changes):
    path = valid / "predictions.json"
    original = path.read_bytes()
    try:
        path.write_text(json.dumps(json.loads(original) | changes), encoding="utf-8")
        verdict(valid, data)
    finally:
        path.write_bytes(original)


def image_file(format: str, **options: object) -> bytes:
    pixels = np.random.default_rng(7).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format, **options)
    return file.getvalue()


IMAGE_FILES = [
    image_file("JPEG"),
    image_file("JPEG", progressive=True, exif=b"Exif\0\0" + bytes(40)),
    image_file("PNG"),
    image_file("WEBP"),
    image_file("WEBP", lossless=True),
    image_file("BMP"),
    image_file("GIF"),
    image_file("TIFF"),
]
BYTES_EDITS = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 8), st.binary(max_size=8)), min_size=0, max_size=4)
IMAGE_BYTES = st.builds(mutated, st.sampled_from(IMAGE_FILES), BYTES_EDITS) | st.binary(max_size=100)


@pytest.fixture
def decoder():
    with contextlib.closing(images.Decoder()) as decoder:
        yield decoder


@given(content=IMAGE_BYTES)
@many
def test_mutated_images_decode_alike_in_both_processes(decoder, content):
    results = []
    for decode in (images.decode, decoder.decode):
        try:
            results.append(images.pixel_digest(decode(content)))
        except RuleBroken as broken:
            results.append(broken.rule.name)
    assert results[0] == results[1]


NAMES = st.one_of(
    st.sampled_from(["images/image_200.jpg", "images/image_201.jpg", "images", "predictions.json", "a", "a/b", ".."]),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=30),
    st.text(st.sampled_from("./\\a\n\0~"), max_size=12),
    st.sampled_from(["/dev/zero", "images/" + "x/" * 200, "a/" * 600, "a" * 300, "link/200.png", "."]),
)
KINDS = st.sampled_from(["file", "folder", "fifo", "socket", "link", "dangling", "sparse", "loop", "unreadable"])


def put(output: Path, name: str, kind: str, content: bytes, data: Data) -> None:
    """Put a thing of some kind under a name into the folder, as far as the file system allows."""
    path = output / name.lstrip("/")
    if ".." in path.parts or "\0" in name:
        return
    with contextlib.suppress(OSError, ValueError):
        # Through a link that was put there before, or into a FIFO, which would wait for a reader, nothing is written.
        if not Path(os.path.realpath(path.parent)).is_relative_to(os.path.realpath(output)) or path.is_fifo():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "file":
            path.write_bytes(content)
        elif kind == "folder":
            path.mkdir()
        elif kind == "fifo":
            os.mkfifo(path)
        elif kind == "socket":
            with socket.socket(socket.AF_UNIX) as endpoint:
                endpoint.bind(str(path))
        elif kind == "link":
            path.symlink_to(data.root / "gt_images")
        elif kind == "dangling":
            path.symlink_to("nowhere")
        elif kind == "loop":
            path.symlink_to(path.name)
        elif kind == "sparse":
            with open(path, "wb") as file:
                file.truncate(limits.MAX_JSON_BYTES + 1)
        elif kind == "unreadable":
            path.write_bytes(content)
            path.chmod(0)


@given(
    things=st.lists(st.tuples(NAMES, KINDS, IMAGE_BYTES), max_size=6),
    paths=st.lists(NAMES, min_size=3, max_size=3),
    written=st.sampled_from(["before", "after", "never"]),
)
@few
def test_any_folder(data, tmp_path, things, paths, written):
    output = tmp_path / "rubbish"
    entries: dict[str, list[dict[str, str]]] = {
        example.id: [{"type": "text", "content": "ответ"}] for example in data.examples
    }
    for id, path in zip(("200", "201", "202"), paths, strict=True):
        entries[id].append({"type": "image", "content": path})
    try:
        output.mkdir()
        predictions = ("predictions.json", "file", json.dumps(entries).encode(), data)
        if written == "before":
            put(output, *predictions)
        for thing in things:
            put(output, *thing, data)
        if written == "after":
            put(output, *predictions)
        verdict(output, data)
    finally:
        shutil.rmtree(output, ignore_errors=True)
        assert {path.name for path in (data.root / "gt_images").iterdir()} == {"200.png", "201.png", "202.png"}


def structure(content: bytes) -> tuple[int, int]:
    """Depth and number of values of a JSON document, byte by byte: the oracle of `check_structure`.

    A backslash takes a quote or backslash after it. Before a bracket outside of strings it is a syntax error anyway.
    """
    depth = deepest = values = 0
    inside = escaped = False
    for byte in map(chr, content):
        if escaped and byte in '"\\':
            escaped = False
            continue
        escaped = False
        if byte == "\\":
            escaped = True
        elif byte == '"':
            inside = not inside
        elif not inside:
            depth += (byte in "[{") - (byte in "]}")
            deepest = max(deepest, depth)
            values += byte in "[{,"
    return deepest, values


@given(
    content=st.text(alphabet='[]{}",\\a:', max_size=60).map(str.encode)
    | ANY_JSON.map(lambda document: json.dumps(document).encode()),
    chunk=st.integers(1, 9),
)
@example(content=b'["a\\\\", "\\\\\\"[["]', chunk=5)
@settings(many, max_examples=150)
def test_structure_is_counted_as_byte_by_byte(monkeypatch, content, chunk):
    deepest, values = structure(content)
    with monkeypatch.context() as patched:
        patched.setattr(strict_json, "CHUNK_BYTES", chunk)
        patched.setattr(limits, "MAX_JSON_DEPTH", deepest)
        patched.setattr(limits, "MAX_JSON_VALUES", values)
        strict_json.check_structure(content)
        for name, most, rule in (("MAX_JSON_DEPTH", deepest, "json-depth"), ("MAX_JSON_VALUES", values, "json-values")):
            if most:
                with patched.context() as tighter:
                    tighter.setattr(limits, name, most - 1)
                    with pytest.raises(RuleBroken) as caught:
                        strict_json.check_structure(content)
                    assert caught.value.rule.name == rule


@given(document=ANY_JSON.filter(lambda document: "nan" not in repr(document) and "inf" not in repr(document)))
@many
def test_strict_documents_are_read_as_python_reads_them(document):
    content = json.dumps(document, ensure_ascii=False).encode()
    findings = Findings()
    assert strict_json.parse(content, "x.json", findings) == document and not findings


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b'{"0": [' + b"1," * 7_900_000 + b"1]}", "entry-count"),
        (b'{"0": [' + b"{}," * 999_998 + b"1]}", "json-shape"),
        (b'{"0": [' + b'"\\ud800",' * 3_000_000 + b"1]}", "half-surrogate"),
    ],
)
def test_faults_without_number_cost_little_memory(data_folder, tmp_path, content, rule):
    """Measured in a process of its own, by the kernel's figure of its own memory: getrusage's begins with what the
    process that started it had.
    """
    (tmp_path / "predictions.json").write_bytes(content)
    program = (
        "import sys\n"
        "from evaluator.core.errors import SubmissionError\n"
        "from evaluator.data.dataset import read_data\n"
        "from evaluator.data.predictions import read_predictions\n"
        "data = read_data(sys.argv[1])\n"
        "try: read_predictions(sys.argv[2], data)\n"
        "except SubmissionError as error: print(error.findings[0].rule, len(error.findings))\n"
        "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM:')))"
    )
    command = [sys.executable, "-c", program, str(data_folder), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3])
    named, kilobytes = done.stdout.splitlines()
    assert named.split()[0] == rule and int(named.split()[1]) <= 1000
    assert int(kilobytes) < 900_000  # 130 MB before anything is read
