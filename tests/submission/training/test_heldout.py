"""The held-out export: opponents and checks of pictures and routes."""

import json
from pathlib import Path

import pytest
import yaml

from training.nano import bars
from training.nano.heldout import check_pictures, check_routes, export, export_passages, true_pictures
from training.processes import StepError, run_python
from training.worlds import make_example, scenes, seeded
from training.worlds.signs import FONT_FILES, FONTS
from training.worlds.sizes import sizes
from training.worlds.stamps import STAMPS

NANO = Path(__file__).parents[3] / "submission" / "weights" / "nano"
pytestmark = pytest.mark.skipif(
    not STAMPS.is_dir() or not all((FONTS / file).exists() for file in FONT_FILES),
    reason="Debian's stamps and fonts are not installed",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("heldout")
    export(out, n=30, first_seed=500, size=64)
    return out


def test_true_pictures_show_what_was_asked_and_swapped_ones_do_not(folder: Path, tmp_path: Path) -> None:
    true_pictures(folder, tmp_path)
    true, swapped = check_pictures(folder, tmp_path), check_pictures(folder, folder / "chance")
    assert true["background"][0] == 1.0 and true["colour"][0] == 1.0 and true["shape"][0] > 0.7
    assert true["colour and shape"] == true["shape"] and true["two shapes"][0] > 0.7
    assert swapped["background"][0] < 0.5 and swapped["colour and shape"][0] < 0.5 and swapped["two shapes"][0] < 0.5


def test_true_pictures_go_through_a_vqgan(folder: Path, tmp_path: Path) -> None:
    true_pictures(folder, tmp_path, NANO / "vqgan")
    found = check_pictures(folder, tmp_path)
    assert found["background"][0] > 0.9 and found["colour"][0] > 0.9


def test_a_missing_picture_is_a_miss(folder: Path, tmp_path: Path) -> None:
    assert {share for share, _ in check_pictures(folder, tmp_path).values()} == {0.0}


def test_routes_are_told_by_the_first_entry(folder: Path, tmp_path: Path) -> None:
    tasks = json.loads((folder / "data" / "sample_ids.json").read_text(encoding="utf-8"))
    text, image = {"type": "text", "content": "да"}, {"type": "image", "content": "images/image_0.jpg"}
    predictions = {key: [text, image] for key in tasks}
    (tmp_path / "predictions.json").write_text(json.dumps(predictions), encoding="utf-8")
    assert check_routes(folder, tmp_path) == {"TextQA": (1.0, 30), "MathQA": (1.0, 30), "ImageGeneration": (0.0, 30)}


def test_the_constant_answer_is_the_most_accepted_one(folder: Path) -> None:
    truth, constant = (
        json.loads((folder / name).read_text(encoding="utf-8"))
        for name in ("data/ground_truth.json", "constant/predictions.json")
    )
    tasks = json.loads((folder / "data" / "sample_ids.json").read_text(encoding="utf-8"))
    for number in (0, 1, 3, 4, 5):
        keys = [key for key, task in tasks.items() if task == number]
        (answer,) = {constant[key][0]["content"] for key in keys}
        accepted = [set(truth[key][0]["content"]) for key in keys]
        hits = {a: sum(a in answers for answers in accepted) for a in set().union(*accepted)}
        assert hits[answer] == max(hits.values())


def test_long_passages_tell_the_answer_among_other_stories(tmp_path: Path) -> None:
    export_passages(tmp_path, n=20, first_seed=3, others=4)
    inputs, truth, tasks = (
        json.loads((tmp_path / "data" / name).read_text(encoding="utf-8"))
        for name in ("input.json", "ground_truth.json", "sample_ids.json")
    )
    assert set(tasks.values()) == {0} and list(inputs) == list(truth) == list(tasks) == [str(i) for i in range(20)]
    for key, entries in inputs.items():
        passage = max((entry["content"] for entry in entries), key=len)
        assert truth[key][0]["content"][0].lower() in passage.lower() and passage.count(". ") > 4


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """With few pictures drawn for a request: of sixteen, as submission/config.yaml says, come half of all costs."""
    folder = tmp_path_factory.mktemp("bars")
    submission = folder / "submission"
    submission.mkdir()
    (submission / "run.py").symlink_to(bars.SUBMISSION / "run.py")
    settings = yaml.safe_load((bars.SUBMISSION / "config.yaml").read_text(encoding="utf-8")) | {"image_candidates": 2}
    (submission / "config.yaml").write_text(yaml.safe_dump(settings, allow_unicode=True), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bars, "SUBMISSION", submission)
        return folder / "kept", bars.bars(folder / "kept", seed=2, n=4)


def test_bars_are_the_evaluators_scores_of_fresh_examples(measured: tuple[Path, dict]) -> None:
    out, document = measured
    rows = {(row["task"], row["metric"]): row for row in document["bars"]}
    scores = json.loads((out / "scores.json").read_text(encoding="utf-8"))["tasks"]
    expected = {
        ("TextQA", "F1 over lemmas"): scores["0"]["score"], ("MathQA", "exact match"): scores["1"]["score"],
        ("ImageCaptioning", "METEOR"): scores["3"]["parts"]["meteor"], ("VisualQA", "METEOR"): scores["4"]["score"],
        ("TRitW", "1 - NED"): scores["5"]["score"],
    }  # fmt: skip
    assert {key: rows[key]["score"] for key in expected} == pytest.approx(expected)
    asked = {task: row["bar"] for (task, _), row in rows.items() if task not in ("pictures", "routes") and row["bar"]}
    assert asked == {"TextQA": 0.8, "MathQA": 0.75, "VisualQA": 0.8, "ImageCaptioning": 0.7, "TRitW": 0.7}
    assert rows["pictures", "colour and shape"]["bar"] == 0.8
    assert {rows["routes", task]["bar"] for task in ("TextQA", "MathQA", "ImageGeneration")} == {0.99}
    for row in rows.values():
        assert row["met"] == (None if row["bar"] is None else (row["score"] or 0) >= row["bar"])
    first = json.loads((out / "data" / "input.json").read_text(encoding="utf-8"))["0"]
    assert [entry["content"] for entry in first] == make_example("TextQA", 2_000_000, "heldout").inputs


def test_scores_of_kinds_make_up_the_score(measured: tuple[Path, dict]) -> None:
    _, document = measured
    scores = {(row["task"], row["metric"]): row["score"] for row in document["bars"]}
    for name, kinds in document["kinds"].items():
        task, metric, _ = bars.SCORED[name]
        assert sum(kind["n"] for kind in kinds.values()) == 4
        if task != "ImageGeneration":  # FID has no ids
            mean = sum(kind["n"] * kind["score"] for kind in kinds.values()) / 4
            assert mean == pytest.approx(scores[task, metric])


def test_the_table_names_bars_kinds_and_what_cannot_be_compared(measured: tuple[Path, dict]) -> None:
    table = bars.table(measured[1])
    assert "0.80 met" in table or "0.80 not met" in table
    assert "TRitW by kind: 1 - NED" in table and "* without RuWordNet" in table and "encoders: nano" in table
    row = next(line for line in table.splitlines() if line.startswith("routes           MathQA"))
    assert row.endswith(("0.99 met", "0.99 not met"))


def test_bars_refuse_what_they_cannot_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "было.txt").touch()
    with pytest.raises(bars.BarsError, match="is there already, and not empty"):
        bars.bars(tmp_path, seed=1, n=4)
    with pytest.raises(bars.BarsError, match="n is 1; it must be 2"):
        bars.bars(tmp_path / "new", seed=1, n=1)
    with pytest.raises(StepError, match="run.py ended with 3:\nвесов нет\n"):
        run_python("run.py", ["-c", "import sys; print('весов нет'); sys.exit(3)"], tmp_path)
    monkeypatch.setattr(bars, "REPOSITORY", tmp_path)
    with pytest.raises(bars.BarsError, match="has no evaluator/"):
        bars.bars(tmp_path / "other", seed=1, n=4)


def test_an_interval_of_a_share() -> None:
    low, high = bars.wilson(0.5, 100)
    assert low == pytest.approx(0.4038, abs=1e-4) and high == pytest.approx(0.5962, abs=1e-4)  # as in textbooks
    assert bars.wilson(1.0, 20)[1] == pytest.approx(1) and bars.wilson(0.0, 20)[0] == 0.0 < bars.wilson(0.0, 20)[1]


def test_sizes_count_what_is_drawn() -> None:
    """A world of a few values is seen to be small: the counts are of different draws."""
    lines = list(sizes(40))
    found = {line.split(":")[0].strip(): line for line in lines}
    assert "10 in 12 colours" in found["shapes"]
    assert int(found["objects"].split()[1]) > 300 and 0 < int(found["linear_1d"].split()[-1]) <= 40
    pictures = [scenes.draw_scene(seeded("sizes", i), 8, (("shape", 1.0),)) for i in range(300)]
    assert len({scenes.captions(scene)[0] for scene in pictures}) < 300 < int(found["shape"].split()[-1]) == 2040
