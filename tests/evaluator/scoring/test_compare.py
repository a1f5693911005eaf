import json
from pathlib import Path

import numpy as np
import pytest

from evaluator.cli.app import main
from evaluator.core.errors import DataError
from evaluator.core.files import write_json
from evaluator.data.dataset import read_data
from evaluator.scoring import bootstrap
from evaluator.scoring.compare import compare
from tests.support.pixel_encoders import PixelEncoders, score_folder
from tests.support.scores import LABEL, document


@pytest.fixture
def files(tmp_path):
    def write(a, b) -> tuple[Path, Path]:
        paths = tmp_path / "a.json", tmp_path / "b.json"
        for path, content in zip(paths, (a, b), strict=True):
            write_json(path, content)
        return paths

    return write


def test_pairs_decide_where_the_separate_intervals_overlap(files):
    generator = np.random.default_rng(0)
    base = generator.random(30)
    slightly_better = base + 0.02 + generator.normal(0, 0.01, 30)
    a, b = files(document({0: base.tolist()}), document({0: slightly_better.tolist()}))
    difference = compare(a, b).tasks[0]
    assert difference.verdict == "better" and compare(b, a).tasks[0].verdict == "worse"
    assert difference.interval[0] < difference.difference < difference.interval[1]
    separate = [bootstrap.interval(bootstrap.means(values, 0)) for values in (base, slightly_better)]
    assert separate[0][1] > separate[1][0], "not to be told apart without pairs"
    spread = np.std(slightly_better - base) / np.sqrt(30)
    assert np.diff(difference.interval)[0] == pytest.approx(2 * 1.96 * spread, rel=0.15)


def test_verdicts(files):
    same = [0.0, 1.0] * 6
    values = {0: [0.0] * 12, 1: same, 2: [0.5] * 12, 6: [0.0] * 5, 7: [0.3]}
    other = {0: [0.2, 0.3] * 6, 1: same[::-1], 2: [0.1] * 12, 6: [1.0] * 5, 7: [0.9]}
    comparison = compare(*files(document(values), document(other)))
    verdicts = {number: difference.verdict for number, difference in comparison.tasks.items()}
    apart = "cannot be told apart"
    assert verdicts == {0: "better", 1: apart, 2: "worse", 6: apart, 7: apart}, "6 and 7 have too few ids"
    assert comparison.tasks[1].difference == 0 and comparison.tasks[7].interval is None
    overall = comparison.overall
    assert overall.b - overall.a == pytest.approx((0.25 + 0 - 0.4) / 15 + (1 + 0.6) / 10)
    assert overall.interval is None and overall.verdict == apart, "a task without an interval leaves none of the sum"
    lines = comparison.lines()
    assert lines[0].split() == ["task", "A", "B", "B", "-", "A", "interval", "n", "B", "is"]
    assert lines[2].split()[:4] == ["Task0", "0.0000", "0.2500", "+0.2500"] and lines[2].endswith("better")
    assert f"* {LABEL}" in lines and lines[-1].endswith("no interval: A and B cannot be told apart")


def test_overall_is_the_integral_where_all_tasks_are_there(files):
    generator = np.random.default_rng(3)
    a = {number: generator.random(10).tolist() for number in range(12)}
    b = {number: [value + 0.1 for value in values] for number, values in a.items()}
    overall = compare(*files(document(a), document(b))).overall
    assert overall.name == "Integral score" and overall.verdict == "better"
    assert overall.difference == pytest.approx(0.1) and overall.interval == pytest.approx((0.1, 0.1))
    open_tasks = compare(*files(document({n: a[n] for n in range(6)}), document({n: b[n] for n in range(6)}))).overall
    assert open_tasks.name == "Open part of the integral score" and open_tasks.difference == pytest.approx(0.04)


def test_the_same_twice_cannot_be_told_apart(files):
    content = document({0: [0.1, 0.9, 0.4] * 5})
    comparison = compare(*files(content, content))
    assert comparison.tasks[0].interval == (0, 0) and comparison.overall.verdict == "cannot be told apart"


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (document({0: [1.0, 0.0, 1.0]}), "1 ids are only in {a}: '0-3'"),
        (document({0: [1.0, 0.0, 1.0, 0.0, 0.5]}), "1 ids are only in {b}: '0-4'"),
        (document({0: [1.0, 0.0, 1.0, 1.0], 3: [1.0]}), "task 3 (Task3) is only in {b}"),
        (document({0: [1.0, 0.0, 1.0, 1.0]}, labels=[]), "only {a} has the label 'encoders: test'"),
        (document({0: [1.0, 0.0, 1.0, 1.0]}, metric="f1_lemmas"), "metric 'exact_match' in {a} and 'f1_lemmas' in {b}"),
        (document({0: [1.0, 0.0, 1.0, 1.0]}, parameters={"gamma": 1}), "in {a} and {{'gamma': 1}} in {b}"),
        (document({0: [1.0]}, score=None, error="out of memory"), "{b}: task 0: Task0 has no score: out of memory"),
        (document({0: [1.0]}, ids={"0": "1"}), "ids must be an object of numbers"),
        (document({0: [1.0, 0.0]}, score=0.7), "its score is not the mean over its ids, and replicates are missing"),
        (document({12: [1.0]}), "{b}: task '12' is not one of 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11"),
        ({"tasks": {"0": {"name": "Task0", "score": 1.0}}}, "{b}: task 0: Task0 has no ids, as --private leaves"),
        ({"tasks": {"0": 1}}, "{b}: task 0: must be an object, not 1"),
        ({"tasks": []}, "{b}: is no scores.json"),
        ([], "{b}: is no scores.json"),
    ],
)
def test_what_cannot_be_compared_is_an_error(files, other, message):
    a, b = files(document({0: [1.0, 0.0, 1.0, 1.0]}), other)
    with pytest.raises(DataError) as caught:
        compare(a, b)
    assert message.format(a=a, b=b) in str(caught.value)


@pytest.mark.slow
def test_fid_is_compared_on_the_same_resamples(make_data, make_output, tmp_path, edit_json):
    class Other(PixelEncoders):
        """Sees every generated image a little darker, so that all is shifted and nothing else changes."""

        def image_features(self, images):
            return super().image_features(images) * 0.9

    data = read_data(make_data(2))
    output = make_output(data.root)
    results = [score_folder(output, data, encoders()) for encoders in (PixelEncoders, Other)]
    paths = [tmp_path / name for name in ("a.json", "b.json")]
    for path, result in zip(paths, results, strict=True):
        write_json(path, result.to_json())
    comparison = compare(*paths)
    expected = bootstrap.interval(results[1].tasks[0].replicates - results[0].tasks[0].replicates)
    assert comparison.tasks[2].interval == pytest.approx(expected, abs=1e-8)
    assert comparison.tasks[2].difference == pytest.approx(results[1].tasks[0].score - results[0].tasks[0].score)
    assert any("image pairs resampled" in line for line in comparison.lines())
    edit_json(paths[1], lambda d: d["bootstrap"].update(seed=99))
    with pytest.raises(DataError, match="score again"):
        compare(*paths)


def test_scores_of_other_data_are_not_compared(make_data, make_output, tmp_path, edit_json, capsys):
    """The same ids and tasks, and another accepted answer: only the digest tells."""
    folder = make_data(0)
    output = make_output(folder)
    paths = [tmp_path / name / "scores.json" for name in ("a", "b", "old")]

    def scored(path):
        write_json(path, score_folder(output, read_data(folder)).to_json())

    scored(paths[0])
    edit_json(folder / "ground_truth.json", lambda d: d["0"][0]["content"].append("ещё один верный ответ: ёж"))
    scored(paths[1])
    for place in ("a", "b"):
        assert len(json.loads((tmp_path / place / "scores.json").read_text())["data_digest"]) == 64
    assert main(["compare", str(paths[0]), str(paths[1])]) == 2
    assert "scored on different data" in capsys.readouterr().err
    scored(paths[0])
    assert main(["compare", str(paths[0]), str(paths[1])]) == 0
    assert "data_digest" not in capsys.readouterr().out

    scored(paths[2])
    edit_json(paths[2], lambda d: d.pop("data_digest") and None)
    assert main(["compare", str(paths[2]), str(paths[1]), "--json", str(tmp_path / "c.json")]) == 0
    warning = f"{paths[2]}: no data_digest, as older evaluators wrote none"
    assert any(line.startswith(f"! {warning}") for line in capsys.readouterr().out.splitlines())
    assert json.loads((tmp_path / "c.json").read_text())["warnings"][0].startswith(warning)
    edit_json(paths[2], lambda d: d.update(data_digest="so"))
    assert main(["compare", str(paths[2]), str(paths[1])]) == 2
    assert "data_digest must be a SHA-256, not 'so'" in capsys.readouterr().err


def test_command_line(files, tmp_path, capsys):
    a, b = files(document({0: [0.0] * 8}), document({0: [1.0] * 8}))
    assert main(["compare", str(a), str(b), "--json", str(tmp_path / "new" / "c.json")]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("[+0.0667, +0.0667]: B is better")
    written = json.loads((tmp_path / "new" / "c.json").read_text(encoding="utf-8"))
    assert written["tasks"]["0"]["verdict"] == "better" and written["overall"]["interval"] == [1 / 15, 1 / 15]
    assert main(["compare", str(a), str(tmp_path / "none.json")]) == 2
    assert f"data error: {tmp_path / 'none.json'}: the file does not exist" in capsys.readouterr().err


def test_an_older_comparison_does_not_pass_for_one_that_failed(tmp_path, capsys):
    result = tmp_path / "comparison.json"
    result.write_text('{"old": 1}')
    assert main(["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json"), "--json", str(result)]) == 2
    assert json.loads(result.read_text())["fault"] == "organizer"


def test_a_comparison_does_not_replace_what_it_compares(files, capsys):
    one, other = files(document({0: [1, 0]}), document({0: [0, 1]}))
    before = one.read_bytes()
    assert main(["compare", str(one), str(other), "--json", str(one)]) == 2
    assert "is one of the two that are compared" in capsys.readouterr().err and one.read_bytes() == before
