"""report.html: what is in it, what is not, and how it behaves in a real Chromium."""

import base64
import hashlib
import io
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import ANY
from zoneinfo import ZoneInfo

import pytest
from PIL import Image

from evaluator.cli.app import main
from evaluator.data import dataset
from evaluator.data.images import load_image
from evaluator.data.predictions import read_predictions
from evaluator.reports import html as report_html
from evaluator.reports import rendering
from tests.support.browser import DESK, PHONE, Page
from tests.support.data import noise

LABEL = "encoders: nano, not comparable with the leaderboard"
HOSTILE = (
    '<img src="x" onerror="window.hacked = 1">',
    "</script><script>window.hacked = 1</script>",
    "<!-- <script> ]]> {{data}} {{policy}} &lt;b&gt; ${window.hacked = 1} \\u003c",
    "прямо \u202eтадоборан\u2066 дальше\u200b\x07",
    "Ы" * 5000,
    "a\u0301" + "\u0301" * 300,
)


def scored(data: dataset.Data, integral: float | None = 0.4321) -> dict[str, Any]:
    """The content of a scores.json: the k-th example of each task scores k/4, ImageGeneration's first -0.25."""
    tasks = {}
    for task, examples in data.by_task().items():
        ids = {example.id: k / 4 for k, example in enumerate(examples)}
        if task.number == 2:
            ids[examples[0].id] = -0.25
        tasks[str(task.number)] = {
            "name": task.name,
            "title": task.title,
            "hidden": task.hidden,
            "metric": task.metric.name,
            "parameters": {},
            "score": sum(ids.values()) / len(ids),
            "interval": [0.1, 0.6],
            "n": len(ids),
            "baseline": task.baseline,
            "threshold": task.threshold,
            "encoders": LABEL if task.number == 2 else None,
            "labels": [LABEL] if task.number == 2 else [],
            "error": None,
            "parts": {"ruclip": 0.25, "fid": 123.4} if task.number == 2 else {},
            "ids": ids,
        }
    totals = {"open_part": 0.123, "open_part_interval": [0.1, 0.15]}
    if integral is not None:
        totals |= {"integral": integral, "interval": [0.4, 0.5]}
    return {**totals, "encoders": LABEL, "labels": [LABEL], "tasks": tasks}


def build(document: dict[str, Any], data: dataset.Data, output: Path, *rest: Any, **options: Any) -> dict[str, Any]:
    """The page's content for an output folder."""
    return report_html.build(document, data, read_predictions(output, data), *rest, **options)


def content(page: str) -> dict[str, Any]:
    """The JSON that a page carries."""
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(text)


def by_id(page: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {example["id"]: example for example in page["examples"]}


# Content


def test_an_example_has_everything_that_explains_its_score(data_folder, output_folder, edit_json):
    edit_json(output_folder / "predictions.json", lambda d: d["200"].append({"type": "text", "content": "лишнее"}))
    data = dataset.read_data(data_folder)
    page = build(scored(data), data, output_folder)
    example = by_id(page)["401"]
    assert example["input"][0] == {"text": "Инструкция «4»: ответь на вопрос, ёж?"}
    assert example["answer"] == {"text": "красный"} and example["route"] == "text" and example["score"] == 0.25
    assert example["accepted"] == [{"text": "красный"}, {"text": "иной ответ"}]
    image = by_id(page)["200"]
    assert image["route"] == "text + image" and image["surplus"] == {"text": "лишнее"}
    pictures = [example["input"][1], image["answer"], image["accepted"][0]]
    sources = [
        (data_folder, "images/401.png"),
        (output_folder, "images/image_200.jpg"),
        (data_folder, "gt_images/200.png"),
    ]
    for shown, source in zip(pictures, sources, strict=True):
        width, height, encoded = page["images"][shown["image"]]
        small = Image.open(io.BytesIO(base64.b64decode(encoded)))
        whole = load_image(*source)
        assert (small.format, small.size, (width, height)) == ("JPEG", whole.size, whole.size)
        assert abs(small.resize((1, 1)).getpixel((0, 0))[0] - whole.resize((1, 1)).getpixel((0, 0))[0]) < 8
    assert page["left_out"] == {"examples": 0, "images": 0} and len(page["examples"]) == 36


def test_aggregates_of_a_task(data_folder, output_folder, edit_json):
    edit_json(output_folder / "predictions.json", lambda d: d["100"][0].update(content=""))
    data = dataset.read_data(data_folder)
    tasks = {task["name"]: task for task in build(scored(data), data, output_folder)["tasks"]}
    math = tasks["MathQA"]
    assert math["lengths"] == {"min": 0, "median": 6, "max": 6, "empty": 1} and math["routes"] == {"text": 3}
    assert math["histogram"] == [1, 0, 1, 0, 0, 1, 0, 0, 0, 0]
    assert (math["baseline"], math["threshold"], math["interval"]) == (0.31, 0.25, [0.1, 0.6])
    generation = tasks["ImageGeneration"]
    assert generation["lengths"] is None and generation["routes"] == {"image": 3} and generation["labels"] == [LABEL]
    assert generation["parts"] == {"ruCLIP": 0.25, "FID": 123.4}


def test_histogram_counts_every_score_once():
    assert report_html.histogram([0, 0.0999, 0.1, 0.95, 1.0, -0.3]) == [3, 1, 0, 0, 0, 0, 0, 0, 0, 2]


def test_invisible_characters_are_written_out():
    assert rendering.visible("а\u202eб\u200b\x00\x1b\ufeff") == "а‹U+202E›б‹U+200B›‹U+0000›‹U+001B›‹U+FEFF›"
    assert rendering.visible("\ud800\U000e0041") == "‹U+D800›‹U+E0041›"
    assert rendering.visible("ёж\n\t👩\u200d🚀 é й") == "ёж\n\t👩\u200d🚀 é й"


def test_thumbnails_are_small_and_carry_nothing_but_pixels():
    image = Image.new("RGB", (1000, 20), "red")
    image.info["comment"] = b"secret"
    width, height, encoded = report_html.thumbnail(image)
    assert (width, height) == (report_html.THUMBNAIL_PIXELS, 5) and b"secret" not in base64.b64decode(encoded)


def test_the_page_shows_what_was_scored_whatever_the_folder_became(data_folder, output_folder, edit_json):
    data = dataset.read_data(data_folder)
    predictions = read_predictions(output_folder, data)
    before = report_html.build(scored(data), data, predictions)
    edit_json(output_folder / "predictions.json", lambda d: [d[id][0].update(content="подмена") for id in d] and None)
    noise(4242).save(output_folder / "images" / "image_200.jpg")
    shutil.copy(data_folder / "gt_images" / "201.png", output_folder / "images" / "image_201.jpg")
    (output_folder / "images" / "image_202.jpg").unlink()
    (output_folder / "images" / "image_202.jpg").symlink_to("/etc/passwd")
    assert report_html.build(scored(data), data, predictions) == before | {"created": ANY}
    shutil.rmtree(output_folder)
    assert report_html.build(scored(data), data, predictions) == before | {"created": ANY}


def test_a_damaged_image_of_the_data_is_a_note(data_folder, output_folder):
    data = dataset.read_data(data_folder)
    predictions = read_predictions(output_folder, data)
    (data_folder / "images" / "401.png").write_bytes(b"no image")
    page = report_html.build(scored(data), data, predictions)
    assert by_id(page)["401"]["input"][1]["note"].startswith("no picture: ")


def test_limits_keep_the_worst_and_say_what_is_left_out(data_folder, output_folder, edit_json, monkeypatch):
    edit_json(output_folder / "predictions.json", lambda d: d["0"][0].update(content="Ж" * 4100))
    data = dataset.read_data(data_folder)
    whole = build(scored(data), data, output_folder)
    assert by_id(whole)["0"]["answer"] == {"text": "Ж" * report_html.MAX_SHOWN_CHARACTERS, "cut": 100}
    assert [by_rank["score"] for by_rank in whole["examples"][12:]] == [0.25] * 12 + [0.5] * 12
    monkeypatch.setattr(report_html, "MAX_IMAGE_CHARACTERS", 20_000)
    monkeypatch.setattr(report_html, "MAX_TEXT_CHARACTERS", 8500)
    page = build(scored(data), data, output_folder)
    assert sum(len(encoded) for *_, encoded in page["images"]) <= 20_000 and page["left_out"]["images"] > 0
    assert page["left_out"]["examples"] == 36 - len(page["examples"]) > 0
    assert {example["id"] for example in page["examples"]} >= {str(100 * task) for task in range(12)}
    notes = [item["note"] for example in page["examples"] for item in example["input"] if "note" in item]
    assert len(notes) > 0 and set(notes) == {"left out: the report's limit for images is reached"}


def test_task_without_a_score_is_shown_with_its_reason(data_folder, output_folder):
    data = dataset.read_data(data_folder)
    document = scored(data, integral=None)
    document["tasks"]["1"] |= {"score": None, "interval": None, "ids": {}, "error": "<b>сломано\u202e</b>"}
    document["open_part"] = None
    page = build(document, data, output_folder)
    task = next(task for task in page["tasks"] if task["number"] == 1)
    assert task["error"] == "<b>сломано‹U+202E›</b>" and task["score"] is None and page["integral"] is None
    assert by_id(page)["100"]["score"] is None and page["counts"] is True
    assert build(document | {"counts": False}, data, output_folder)["counts"] is False


def test_digests_are_those_of_sha256sum(data_folder, output_folder, make_submission, tmp_path):
    data = dataset.read_data(data_folder)
    submission = make_submission("pass")
    (submission / "Ёж.txt").write_text("ё")
    (submission / "output").mkdir()
    (submission / "output" / "predictions.json").write_text("{}")
    database = tmp_path / "ruwordnet.db"
    database.write_bytes(b"synsets")
    page = build(scored(data), data, output_folder, submission, ruwordnet=database)
    found = {item["name"]: item for item in page["digests"]}

    def sha256sum(folder: Path, *paths: str) -> str:
        listing = subprocess.run(["sha256sum", *paths], cwd=folder, capture_output=True, check=True).stdout
        return hashlib.sha256(listing).hexdigest()

    assert found["submission submission/"]["sha256"] == sha256sum(submission, "metadata.json", "run.py", "Ёж.txt")
    images = sorted(f"images/{path.name}" for path in (data_folder / "images").iterdir())
    assert found["input images"]["sha256"] == sha256sum(data_folder, *images) and found["input images"]["files"] == 27
    for name, path in (
        ("predictions.json", output_folder / "predictions.json"),
        ("ground_truth.json", data_folder / "ground_truth.json"),
        ("RuWordNet ruwordnet.db", database),
    ):
        assert found[name]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    names = {item["name"] for item in page["versions"]}
    assert {"evaluator", "Python", "torch", "pymorphy3"} <= names


def test_private_report_has_aggregates_only(data_folder, output_folder, edit_json):
    def sign(document: dict[str, Any], what: str) -> None:
        for id, entries in document.items():
            for entry in entries:
                if entry["type"] == "text":
                    one = f"тайна-{what}-{id}"
                    entry["content"] = [one] if isinstance(entry["content"], list) else one

    edit_json(data_folder / "input.json", lambda d: sign(d, "вопрос"))
    edit_json(data_folder / "ground_truth.json", lambda d: sign(d, "ответ"))
    edit_json(output_folder / "predictions.json", lambda d: sign(d, "предсказание"))
    edit_json(data_folder / "tasks.json", lambda d: [task.update(title="тайна-задачи") for task in d.values()] and None)
    data = dataset.read_data(data_folder)
    document = scored(data)
    document["tasks"]["7"] |= {"parts": {"тайна-части": 0.5}}
    document["tasks"]["8"] |= {"score": None, "error": "тайна-ошибки"}
    full = report_html.render(build(document, data, output_folder))
    assert {f"тайна-{what}" for what in ("вопрос", "ответ", "предсказание", "задачи", "части", "ошибки")} == set(
        re.findall(r"тайна-[а-я]+", full)
    )
    page = report_html.render(build(document, data, output_folder, private=True))
    assert "тайна" not in page and content(page)["examples"] == [] and content(page)["images"] == []
    assert hashlib.sha256((data_folder / "ground_truth.json").read_bytes()).hexdigest() in full
    for name in ("ground_truth.json", "sample_ids.json"):
        assert hashlib.sha256((data_folder / name).read_bytes()).hexdigest() not in page
    tasks = {task["name"]: task for task in content(page)["tasks"]}
    assert tasks["TextQA"]["score"] == 0.25 and tasks["TextQA"]["metric"] == "F1 over lemmas"
    assert tasks["Hidden1"]["metric"] is None and tasks["Hidden1"]["score"] == 0.25


def test_hostile_content_cannot_leave_the_data_block(data_folder, output_folder, edit_json):
    edit_json(output_folder / "predictions.json", hostile_answers)
    data = dataset.read_data(data_folder)
    page = report_html.render(build(scored(data), data, output_folder))
    assert page.count("<script") == page.count("</script") == 2
    assert "onerror=" in page and "<img" not in page.split('id="data">')[1].split("</script>")[0]
    answers = {example["answer"].get("text") for example in content(page)["examples"]}
    assert HOSTILE[1] in answers and HOSTILE[2] in answers


def test_colours_have_the_contrast_of_wcag_aa():
    """4.5 to 1 for every text colour on every ground that it stands on, light and dark."""

    def luminance(colour: str) -> float:
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = (
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))
        for block in re.findall(r":root \{(.*?)\}", rendering.style_sheet(), re.DOTALL)
    )
    assert light == rendering.light_colours()
    grounds = {
        "ink": ("page", "card", "sunk"),
        "muted": ("page", "card", "sunk"),
        "link": ("page", "card"),
        "good": ("card", "good-wash"),
        "bad": ("card", "bad-wash"),
        "warn": ("page", "card", "warn-wash"),
        "low": ("card",),
        "mid": ("card",),
        "high": ("card",),
    }
    assert light.keys() == dark.keys()
    for scheme in (light, dark):
        for text, names in grounds.items():
            for name in names:
                low, high = sorted((luminance(scheme[text]), luminance(scheme[name])))
                assert (high + 0.05) / (low + 0.05) >= 4.5, (text, name, scheme[text], scheme[name])


# The command line


def test_score_ends_with_the_path_of_the_report(make_data, make_output, tmp_path, capsys):
    folder = make_data(0, 5)
    common = ["score", str(make_output(folder)), "--data", str(folder)]
    json_path, beside, other = (tmp_path / "results" / name for name in ("scores.json", "report.html", "other.html"))
    assert main([*common, "--json", str(json_path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"Report: {beside}"
    page = content(beside.read_text(encoding="utf-8"))
    assert len(page["examples"]) == 6 and page["tasks"][0]["score"] == pytest.approx(1) and page["run"] is None
    beside.unlink()
    assert main([*common, "--json", str(json_path), "--report", str(other), "--report-private"]) == 0
    assert content(other.read_text(encoding="utf-8"))["private"] is True and not beside.exists()
    assert main([*common, "--json", str(json_path), "--no-report"]) == 0 and main(common) == 0
    assert "Report" not in capsys.readouterr().out.split(f"Report: {other}")[1] and not beside.exists()
    assert main([*common, "--report", str(tmp_path)]) == 2 and "--report" in capsys.readouterr().err


def test_run_reports_time_and_co2(make_data, make_submission, answering_code, tmp_path, capsys):
    folder, submission = make_data(0), make_submission(answering_code)
    assert main(["run", str(submission), "--data", str(folder), "--json", str(tmp_path / "scores.json")]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"Report: {tmp_path / 'report.html'}"
    page = content((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert page["run"]["seconds"] > 0 and page["run"]["carbon"]["country"] == "RU"
    assert {example["route"] for example in page["examples"]} == {"text + image"}
    assert "submission submission/" in {item["name"] for item in page["digests"]}


# In Chromium


def hostile_texts(document: dict[str, Any]) -> None:
    """Replace the texts of an input.json, in turn."""
    for position, entries in enumerate(document.values()):
        for entry in entries:
            if entry["type"] == "text":
                entry["content"] = HOSTILE[position % len(HOSTILE)]


def hostile_answers(document: dict[str, Any]) -> None:
    """The same in a predictions.json, as far as the contract lets it pass; a text that is not scored may be any."""
    hostile_texts(document)
    for entries in document.values():
        for entry in entries:
            entry["content"] = entry["content"].replace("\x07", "")
    document["200"].append({"type": "text", "content": HOSTILE[3]})


@pytest.fixture
def page(driver: Any) -> Page:
    return Page(driver)


@pytest.fixture
def report(data_folder: Path, output_folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes the report of the small data folder."""

    def write(**options: Any) -> Path:
        data = dataset.read_data(data_folder)
        path = tmp_path / "report.html"
        report_html.write(path, scored(data), data, read_predictions(output_folder, data), **options)
        return path

    return write


@pytest.mark.parametrize(("width", "scheme"), [(PHONE, "light"), (PHONE, "dark"), (DESK, "light"), (DESK, "dark")])
def test_loads_cleanly_and_fits_the_window(page, report, width, scheme):
    page.open(report(), width, scheme)
    assert page.log == []
    assert page.run("return document.documentElement.scrollWidth") <= width
    assert page.one("#total").text == "0.432" and LABEL in page.one(".hero").text
    assert (
        page.run("return [...document.images].map(i => i.decode && i.src.slice(0, 23))")[0] == "data:image/jpeg;base64,"
    )
    background = page.run("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", background))) < 200) == (scheme == "dark")
    levels = page.run("return [...document.querySelectorAll('h1,h2,h3,h4')].map(h => +h.tagName[1])")
    assert levels[0] == 1 and all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))
    named = "e.labels?.length || e.ariaLabel || e.textContent"
    assert page.run(f"return [...document.querySelectorAll('input,select,button')].every(e => {named})")
    assert page.run("return [...document.images].every(i => i.alt)")


def test_chart_shows_scores_baselines_thresholds_and_intervals(page, report):
    page.open(report())
    share = (
        "const r = e => e.getBoundingClientRect(); const s = document.querySelector('.chart tbody tr:first-child svg');"
    )
    score = page.run(share + "return r(s.querySelector('.fill-open')).width / r(s).width")
    assert score == pytest.approx(0.25, abs=0.005)
    for kind, value in (("baseline", 0.25), ("threshold", 0.2)):
        x = page.run(share + f"return (r(s.querySelector('.{kind}')).x - r(s).x) / r(s).width")
        assert x == pytest.approx(value, abs=0.01)
    assert page.run("return document.querySelectorAll('.chart tbody .interval-mark').length") == 12
    rows = [row.text for row in page.driver.find_elements("css selector", ".chart tbody tr")]
    assert "✓ met" in rows[0] and "✗ missed" in rows[2] and "*" in rows[2] and "0.100 to 0.600" in rows[0]


@pytest.mark.parametrize("private", [False, True])
def test_it_is_in_both_languages(page, report, private):
    """Of English there is left what the data, the metrics and the versions are called."""
    page.open(report(private=private, zone=ZoneInfo("Asia/Tokyo")))
    assert "Scores by task" in page.one("main").text
    assert re.fullmatch(
        r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2} Asia/Tokyo, UTC\+09:00", page.one("#created").text
    )
    if not private:
        page.choose("task", "5")
        page.type("query", "#501")
    page.one("label[for=ru]").click()
    assert page.run("return document.documentElement.lang") == "ru" and page.driver.title.endswith(": отчёт")
    text = page.one("main").text
    assert "Баллы по задачам" in text and "несравнимо с таблицей лидеров" in text
    assert page.one(".top nav").text.startswith("Балл")
    if not private:
        assert page.ids == ["501"] and page.one("#query").get_attribute("value") == "#501"  # what was chosen stays
        assert page.count == "1–1 из 1"
    shown = "[...document.querySelectorAll('.metric, .example .said, #notes li')].map(e => e.textContent)"
    for own in page.run(f"return {shown}"):
        text = text.replace(own, "")
    head = text.split("SHA-256")[0].split("Чем оценено")[0]
    assert re.findall("[A-Za-z]{3,} [a-z]{2,}", head) == []
    page.one("label[for=en]").click()
    assert "Scores by task" in page.one("main").text and page.log == []


def test_intervals_are_not_drawn_where_there_are_none(page, data_folder, output_folder, tmp_path):
    data = dataset.read_data(data_folder)
    document = scored(data)
    for entry in (document, *document["tasks"].values()):
        entry.pop("interval")
    report_html.write(tmp_path / "report.html", document, data, read_predictions(output_folder, data))
    page.open(tmp_path / "report.html")
    assert page.run("return document.querySelectorAll('.interval-mark').length") == 0 and page.log == []
    assert "bootstrap" not in page.one("main").text


def test_browsing_worst_first_page_by_page_with_the_keyboard(page, report):
    from selenium.webdriver.common.keys import Keys

    page.open(report())
    assert page.count == "1 to 20 of 36 examples" and len(page.ids) == 20
    assert page.ids[0] == "200" and page.scores == sorted(page.scores) and page.scores[0] == -0.25
    page.one("#query").send_keys(Keys.TAB)
    assert page.driver.switch_to.active_element.get_attribute("id") == "task"
    first = page.ids
    page.one("#examples .pager button:last-child").send_keys(Keys.ENTER)
    assert page.count == "21 to 36 of 36 examples" and not set(first) & set(page.ids)
    assert page.driver.switch_to.active_element.get_attribute("id") == "list"
    assert not page.one("#examples .pager button:last-child").is_enabled()
    page.one("#examples .pager button:first-child").send_keys(Keys.ENTER)
    assert page.ids == first


def test_filters_search_and_order(page, report, output_folder, edit_json):
    def change(document: dict[str, Any]) -> None:
        document["501"][0]["content"] = "ЁЛОЧКА"
        document["502"][0]["content"] = ""
        document["400"].append({"type": "image", "content": "images/x.jpg"})

    edit_json(output_folder / "predictions.json", change)
    page.open(report())
    page.choose("task", "5")
    assert page.ids == ["500", "501", "502"] and page.scores == [0, 0.25, 0.5]
    assert not page.one("#examples .pager").is_displayed()
    page.choose("sort", "best")
    assert page.ids == ["502", "501", "500"]
    page.choose("sort", "longest")
    assert page.ids == ["500", "501", "502"]
    page.type("low", "0.2")
    assert page.ids == ["501", "502"]
    page.type("high", "0.3")
    assert page.ids == ["501"] and page.count == "1 to 1 of 1 example"
    page.type("query", "нет такого")
    assert page.ids == [] and "No example matches" in page.one("#list").text
    page.one("#list button").click()
    assert page.count == "1 to 20 of 36 examples" and page.one("#low").get_attribute("value") == ""
    page.type("query", "елочк")  # ё and case are folded
    assert page.ids == ["501"]
    page.type("query", "#1100")
    assert page.ids == ["1100"]
    page.type("query", "учёный")
    assert set(page.ids) == {"700", "701", "702"}
    page.type("query", " ")
    for kind, ids in (
        ("image answer", ["200", "201", "202"]),
        ("empty text", ["502"]),
        ("entries: text + image", ["400"]),
        ("entries: image alone", ["200", "201", "202"]),
    ):
        page.choose("kind", kind)
        assert sorted(page.ids) == ids
    page.choose("kind", "")
    page.one("#task-3 button").click()
    assert sorted(page.ids) == ["300", "301", "302"] and page.one("#task").get_attribute("value") == "3"
    assert page.log == []


def test_hostile_content_does_nothing_but_show(page, report, data_folder, output_folder, edit_json):
    edit_json(output_folder / "predictions.json", hostile_answers)
    edit_json(data_folder / "input.json", hostile_texts)

    def rename(document: dict[str, Any]) -> None:
        document["6"] |= {"name": HOSTILE[0], "title": HOSTILE[1]}
        document["7"] |= {"name": "Ы" * 300, "title": "Ы" * 300}

    edit_json(data_folder / "tasks.json", rename)
    path = report()
    for width in (PHONE, DESK):
        page.open(path, width)
        for _ in range(2):
            assert page.run("return document.documentElement.scrollWidth") <= width
            assert page.run("return window.hacked") is None
            if (following := page.one("#examples .pager button:last-child")).is_enabled():
                following.send_keys("\n")
        assert page.log == []
        assert page.run("return document.scripts.length") == 2
        assert page.run("return [...document.images].every(i => i.src.startsWith('data:image/jpeg;base64,'))")
    assert HOSTILE[0] in page.run("return document.querySelector('.chart').textContent")
    page.type("query", "window.hacked")
    shown = page.run("return document.querySelector('#list').textContent")
    assert HOSTILE[0] in shown and HOSTILE[1] in shown and HOSTILE[2] in shown
    page.type("query", "прямо")
    assert "прямо ‹U+202E›тадоборан‹U+2066› дальше‹U+200B›‹U+0007›" in page.run(
        "return document.querySelector('#list').textContent"
    )


def test_policy_stops_scripts_styles_and_the_network(page, report):
    page.open(report())
    page.run(
        """
        const script = document.createElement("script");
        script.textContent = "window.hacked = 1";
        const style = document.createElement("style");
        style.textContent = "body { display: none }";
        const image = document.createElement("img");
        image.src = "http://127.0.0.1:9/leak";
        document.body.append(script, style, image);
        const link = document.createElement("div");
        link.setAttribute("onclick", "window.hacked = 1");
        document.body.append(link);
        link.click();
        """
    )
    assert page.run("return window.hacked") is None
    assert page.run("return getComputedStyle(document.body).display") == "block"
    log = " ".join(page.log)
    for directive in ("script-src", "style-src", "img-src"):
        assert directive in log


def test_a_task_without_a_score_is_an_error_and_the_attempt_does_not_count(page, data_folder, output_folder, tmp_path):
    data = dataset.read_data(data_folder)
    document = scored(data, integral=None) | {"open_part": None, "open_part_interval": None, "counts": False}
    document["tasks"]["1"] |= {"score": None, "interval": None, "ids": {}, "error": "RuntimeError: сломано"}
    report_html.write(tmp_path / "report.html", document, data, read_predictions(output_folder, data))
    page.open(tmp_path / "report.html")
    assert "does not count" in page.one("#not-counted").text and page.log == []
    assert "cannot be scored: RuntimeError: сломано" in page.one(".chart").text
    drawn = "return document.querySelectorAll(arguments[0]).length"
    assert page.run(drawn, "#task-1 svg") == 0 and page.run(drawn, "#task-0 svg") == 1


def test_private_report_shows_aggregates(page, report):
    page.open(report(private=True), PHONE)
    assert page.log == [] and page.one("#total").text == "0.432"
    assert "Aggregates only" in page.one("main").text
    assert page.driver.find_elements("css selector", "#examples, .example, img") == []


def test_long_lists_are_drawn_a_page_at_a_time(page, report, tmp_path):
    document = content(report().read_text(encoding="utf-8"))
    one = next(example for example in document["examples"] if example["task"] == 0)
    document["examples"] = [
        one | {"id": str(i), "score": i % 100 / 100, "answer": {"text": f"слово{i} " * 20}} for i in range(20_000)
    ]
    path = tmp_path / "long.html"
    path.write_text(report_html.render(document), encoding="utf-8")
    page.open(path)
    assert page.count == "1 to 20 of 20 000 examples" and len(page.ids) == 20
    page.type("query", "слово19999")
    assert page.ids == ["19999"]
