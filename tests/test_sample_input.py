"""The folder `sample_input/` is consistent with itself, with real.yaml and with its licence table."""

import hashlib
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

SAMPLE = Path(__file__).resolve().parents[1] / "sample_input"
TEXT_METRICS = {"f1_lemmas", "exact_match", "caption_meteor", "vqa_meteor", "one_minus_ned", "captioning"}
IMAGE_GENERATION = 2
OPTIONS_TASKS_LETTER = {1, 6, 8}  # tasks scored by exact match whose option questions accept the letter
FONT_NEEDED = Path("/usr/share/fonts/truetype/paratype")


def load(name: str) -> Any:
    return json.loads((SAMPLE / f"{name}.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def sample() -> tuple[dict[str, Any], dict[str, Any], dict[str, int]]:
    return load("input"), load("ground_truth"), load("sample_ids")


@pytest.fixture(scope="module")
def written() -> dict[str, Any]:
    return yaml.safe_load((SAMPLE / "real.yaml").read_text("utf-8"))


def options_of(texts: list[str]) -> dict[str, str]:
    """The options of an example by letter; empty when there are none."""
    found = [text for text in texts if re.match(r"(варианты: ?)?a\) ", text, re.IGNORECASE)]
    if not found:
        return {}
    parts = found[-1][found[-1].index("a) ") :].split("; ")
    return {part[0]: part[3:] for part in parts}


def test_ids_and_counts(sample):
    inputs, truth, tasks = sample
    expected = [str(number) for number in range(150)]
    assert list(inputs) == list(truth) == list(tasks) == expected
    assert Counter(tasks.values()) == {task: 20 if task < 6 else 5 for task in range(12)}
    assert list(tasks.values()) != sorted(tasks.values()), "tasks are mixed"


def test_entries_are_well_formed(sample):
    inputs, truth, tasks = sample
    for key, entries in inputs.items():
        assert entries
        for entry in entries:
            assert set(entry) == {"type", "content"} and entry["type"] in ("text", "image")
            assert entry["content"].strip() == entry["content"] != ""
            assert entry["type"] == "text" or entry["content"] == f"images/image_{key}.jpg"
        (answer,) = truth[key]
        if tasks[key] == IMAGE_GENERATION:
            assert answer == {"type": "image", "content": f"gt_images/image_{key}.jpg"}
        else:
            assert answer["type"] == "text" and answer["content"]
            assert all(text.strip() for text in answer["content"])
            assert len(set(answer["content"])) == len(answer["content"])


def test_no_example_comes_twice(sample):
    inputs, _, _ = sample
    seen = Counter()
    for entries in inputs.values():
        texts = tuple(entry["content"] for entry in entries if entry["type"] == "text")
        pictures = tuple((SAMPLE / e["content"]).read_bytes() for e in entries if e["type"] == "image")
        seen[texts, pictures] += 1
        assert len(pictures) <= 1
    assert max(seen.values()) == 1


def test_tasks_get_the_inputs_that_they_need(sample):
    inputs, _, tasks = sample
    for key, entries in inputs.items():
        pictures = sum(entry["type"] == "image" for entry in entries)
        assert pictures == (tasks[key] in {3, 4, 5, 6, 7, 8, 10, 11}), key


def test_generation_captions_can_be_told_from_the_instruction(sample):
    inputs, _, tasks = sample
    for key, entries in inputs.items():
        if tasks[key] == IMAGE_GENERATION:
            texts = [entry["content"] for entry in entries]
            # One text is 'instruction. caption', since scoring drops its first sentence.
            assert len(texts) == 2 or (len(texts) == 1 and len(texts[0].split(". ")) >= 2), texts


def test_every_image_opens_and_none_is_left_over(sample):
    inputs, truth, _ = sample
    for folder, data in (("images", inputs), ("gt_images", truth)):
        named = {entry["content"] for entries in data.values() for entry in entries if entry["type"] == "image"}
        assert named == {f"{folder}/{path.name}" for path in (SAMPLE / folder).iterdir()}
        for name in named:
            with Image.open(SAMPLE / name) as picture:
                picture.load()
                assert picture.format == "JPEG" and picture.mode == "RGB"
                assert 32 <= min(picture.size) and max(picture.size) <= 512, (name, picture.size)
                assert not picture.getexif() and "comment" not in picture.info, name


def test_nothing_of_the_truth_is_in_the_input(sample):
    raw = (SAMPLE / "input.json").read_text("utf-8")
    assert "gt_images" not in raw and "answer" not in raw
    digests = [
        {hashlib.sha256(path.read_bytes()).hexdigest() for path in (SAMPLE / folder).iterdir()}
        for folder in ("images", "gt_images")
    ]
    assert not digests[0] & digests[1]
    inputs, truth, tasks = sample
    for key, entries in inputs.items():
        texts = [entry["content"] for entry in entries if entry["type"] == "text"]
        if tasks[key] in (3, 5, 7, 10, 11):  # nothing there may spell the answer out
            words = set(re.findall(r"\w+", " ".join(texts).lower()))
            for answer in truth[key][0]["content"]:
                assert not set(re.findall(r"\w+", answer.lower())) <= words, (key, texts, answer)


def test_option_answers_are_options(sample):
    inputs, truth, tasks = sample
    seen = 0
    for key, entries in inputs.items():
        options = options_of([entry["content"] for entry in entries if entry["type"] == "text"])
        if not options or tasks[key] == IMAGE_GENERATION:
            continue
        seen += 1
        assert len(set(options.values())) == len(options), options
        answers = truth[key][0]["content"]
        right = [letter for letter, text in options.items() if text in answers]
        assert len(right) == 1, (key, options, answers)
        if tasks[key] in OPTIONS_TASKS_LETTER:
            assert right[0] in answers, (key, options, answers)
    assert seen >= 30


def test_sums_of_the_hand_written_items_are_right(written):
    count = 0
    for item in written["MathQA"] + written["Hidden1"]:
        texts = [entry for entry in item["input"] if isinstance(entry, str)]
        options = options_of(texts)
        if "checks" in item:
            holds = [bool(eval(check, {"__builtins__": {"min": min}})) for check in item["checks"]]
        else:
            values = [int(text) for text in options.values()] or [int(item["answers"][0])]
            holds = [
                bool(eval(item["check"], {"__builtins__": {}}, item.get("known", {}) | {item["unknown"]: value}))
                for value in values
            ]
        assert sum(holds) == 1, item
        if options:
            letter = "abcd"[holds.index(True)]
            assert item["answers"] == [options[letter], letter], item
        count += 1
    assert count == 13


def test_real_half_is_in_the_sample(sample, written):
    inputs, truth, _ = sample
    examples = [
        ([entry["content"] for entry in inputs[key] if entry["type"] == "text"], truth[key][0]["content"])
        for key in inputs
    ]
    for task, items in written.items():
        assert len(items) == (3 if task.startswith("Hidden") else 10), task
        for item in items:
            texts = [entry for entry in item["input"] if isinstance(entry, str)]
            assert any(
                texts == found and (answers == item["answers"] if "answers" in item else True)
                for found, answers in examples
            ), (task, texts)


def test_hidden_tasks_are_described():
    tasks = load("tasks")
    assert list(tasks) == [str(number) for number in range(6, 12)]
    for number, task in tasks.items():
        assert set(task) == {"name", "title", "output", "metric"}
        assert task["name"] == f"Hidden{int(number) - 5}" and task["title"]
        assert task["output"] == "text" and task["metric"] in TEXT_METRICS


def test_every_photograph_has_a_free_licence_in_the_readme(written):
    rows = {}
    for line in (SAMPLE / "README.md").read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0].endswith(".jpg") and len(cells) == 5:
            rows[cells[0]] = cells[1:]
    assert set(rows) == {path.name for path in (SAMPLE / "photos").iterdir()}
    for name, (author, licence, source, package) in rows.items():
        assert re.fullmatch(r"Public Domain|CC0-1\.0|CC-BY-[234]\.0", licence), (name, licence)
        assert author and source and package, name
        with Image.open(SAMPLE / "photos" / name) as picture:
            assert max(picture.size) <= 512, name
    for item in written["TextQA"]:
        assert item["source"] in (SAMPLE / "README.md").read_text("utf-8")


def test_folder_is_small():
    assert sum(path.stat().st_size for path in SAMPLE.rglob("*") if path.is_file()) < 6_000_000


@pytest.mark.skipif(not FONT_NEEDED.exists(), reason="the sample's fonts are not installed")
def test_real_half_is_rebuilt_to_the_same_bytes(tmp_path):
    digests = []
    for name in ("first", "second"):
        command = [sys.executable, str(SAMPLE / "build.py"), "--real-only", "--output", str(tmp_path / name)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout == "" and len(done.stderr.splitlines()) == 1, done.stderr
        files = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        digests.append({str(p.relative_to(tmp_path / name)): hashlib.sha256(p.read_bytes()).digest() for p in files})
    assert digests[0] == digests[1]
    assert len(json.loads((tmp_path / "first" / "input.json").read_text("utf-8"))) == 78
