"""The report of FusionBrain Challenge 1.0 in Chromium: boxes over the picture, programs with what differs."""

import json
from pathlib import Path

import pytest

from evaluator.cli.app import main
from evaluator.reports import html
from tests.support.browser import Page
from tests.support.fbc1 import SIZE, build_fbc1, write

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def report(tmp_path: Path) -> Path:
    data, output = build_fbc1(tmp_path / "data"), tmp_path / "output"
    write(data / "zsOD" / "requests.json", {"0.jpg": ["рыжий кот", "bald man", HOSTILE]})
    true = {"рыжий кот": [[1, 2, 30, 40]], "bald man": [], HOSTILE: []}
    write(data / "zsOD" / "true_zsOD.json", {"0.jpg": true})
    write(output / "prediction_C2C.json", {"0": f"def y ( ) : NEW_LINE INDENT pass {HOSTILE} DEDENT"})
    write(output / "prediction_HTR.json", {"0.png": "последовал"})
    found = {"рыжий кот": [[2, 3, 30, 40]], "bald man": [[40, 10, 20, 20], ["x"], [1, 2, 3, 10**7]], HOSTILE: []}
    write(output / "prediction_zsOD.json", {"0.jpg": found})
    write(output / "prediction_VQA.json", {"0": "Вниз!"})
    path = tmp_path / "report.html"
    words = ("score", output, "--data", data, "--competition", "fbc1", "--report", path)
    assert main([str(word) for word in words]) == 0
    return path


def test_boxes_lie_where_they_are_and_programs_show_what_differs(report, driver):
    page = Page(driver).open(report)
    assert page.one("h1").text == "FusionBrain Challenge 1.0" and page.log == []
    assert page.one("#total").text == page.run("return page.integral.toFixed(3)")
    shown = page.run(
        """return [...document.querySelectorAll(".boxed")].map(figure => {
            const image = figure.querySelector("img").getBoundingClientRect();
            return [...figure.querySelectorAll("rect")].map(rect => {
                const box = rect.getBoundingClientRect();
                return [box.x - image.x, box.y - image.y, box.width, box.height].map(
                    (value, i) => value / (i % 2 ? image.height : image.width));
            });
        })"""
    )
    width, height = SIZE
    predicted, true = [[[x / width, y / height, w / width, h / height] for x, y, w, h in boxes] for boxes in (
        [[2, 3, 30, 40], [40, 10, 20, 20]],
        [[1, 2, 30, 40]],
    )]  # fmt: skip
    assert [boxes for answer in shown for box in answer for boxes in box] == pytest.approx(
        [number for box in (*predicted, *true) for number in box], abs=0.02
    )
    code = page.run(
        "return [...document.querySelectorAll('.code ins, .code del')].map(e => [e.tagName, e.textContent])"
    )
    code = [[tag, text.strip()] for tag, text in code]
    assert code == [["DEL", "x"], ["INS", "y"], ["INS", HOSTILE]]
    keywords = page.run("return [...document.querySelectorAll('.code b')].map(e => e.textContent)")
    assert keywords == ["def", "pass", "def", "pass"]
    program = page.run("return document.querySelector('.accepted .code').textContent")
    assert program == "def x ( ) : \n    pass "
    assert page.run("return document.querySelectorAll('.boxed img[src=x], .code img').length") == 0


def test_published_results_stand_beside_the_own_one(report, driver):
    page = Page(driver).open(report)
    script = "return [...document.querySelectorAll('#published tr')].map(r => [...r.cells].map(c => c.innerText))"
    rows = page.run(script)
    assert rows[0] == ["Result", "Total", "C2C", "HTR", "ZsOD", "VQA"]
    totals = [float(row[1]) for row in rows[1:]]
    assert totals == sorted(totals, reverse=True)
    assert ["Fusion, one model", "1.510", "0.39", "0.61", "0.21", "0.30"] in rows
    assert [row[1] for row in rows if row[0] == "this report"] == [page.one("#total").text]


@pytest.mark.parametrize("found", [{"кот": [], "extra": 5}, {"кот": [5]}, {"кот": [["x"], [1, 2, 3, 10**9]]}])
def test_what_is_only_counted_is_not_drawn(tmp_path, found):
    """The published evaluation takes whatever stands where no box is true, and so must the report."""
    data, output, path = build_fbc1(tmp_path / "data"), tmp_path / "output", tmp_path / "report.html"
    for name in ("C2C", "HTR", "VQA"):
        (data / name / f"true_{name}.json").unlink()
    write(data / "zsOD" / "requests.json", {"0.jpg": ["кот"]})
    write(data / "zsOD" / "true_zsOD.json", {"0.jpg": {"кот": []}})
    write(output / "prediction_zsOD.json", {"0.jpg": found})
    words = ("score", output, "--data", data, "--competition", "fbc1", "--report", path)
    assert main([str(word) for word in words]) == 0
    content = path.read_text(encoding="utf-8").partition('<script type="application/json"')[2].partition(">")[2]
    page = json.loads(content.partition("</script>")[0])
    assert page["examples"][0]["answer"]["boxes"] == []


def test_a_difference_is_word_by_word():
    assert html.difference("a b c", "a x c d") == [
        ["same", "a"],
        ["less", "b"],
        ["more", "x"],
        ["same", "c"],
        ["more", "d"],
    ]
    assert html.difference("", "") == [] and json.dumps(html.difference("a", "")) == '[["less", "a"]]'
