import dataclasses
import hashlib
import json
import math
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest

from evaluator.carbon.meter import CarbonReading
from evaluator.competition.definition import find
from evaluator.core import validation
from evaluator.core.errors import DataError, SubmissionError
from evaluator.core.files import write_json
from evaluator.core.verdict import METRIC_DATA_ERROR
from evaluator.data.dataset import read_data
from evaluator.data.images import load_image
from evaluator.data.predictions import read_predictions
from evaluator.metrics import assets, generation
from evaluator.metrics.base import Metric, Parameters, Result
from evaluator.metrics.encoders import ENCODERS, encode_images
from evaluator.metrics.fid import frechet_distance
from evaluator.metrics.meteor import WITHOUT_RUWORDNET
from evaluator.metrics.registry import METRICS
from evaluator.reports.table import table
from evaluator.scoring import bootstrap
from evaluator.scoring.score import Scores, find_resources, score
from tests.support.pixel_encoders import LABEL, BrokenEncoders, PixelEncoders, score_folder


def scored(output, data, **found):
    return score(read_predictions(output, data), data, find_resources(**found))


def test_all_twelve_tasks(data_folder, output_folder):
    scores = score_folder(output_folder, read_data(data_folder), PixelEncoders())
    by_number = {result.task.number: result for result in scores.tasks}
    assert sorted(by_number) == list(range(12)) and scores.errors == []
    for number in (0, 1, 4, 5, 6, 7, 8, 9, 11):
        assert by_number[number].n == 3 and by_number[number].encoders is None
        assert by_number[number].score == pytest.approx(1, abs=0.1), number
    values = [by_number[number].score for number in range(12)]
    assert scores.open_part == pytest.approx(sum(values[:6]) / 15)
    assert scores.integral == pytest.approx(sum(values[:6]) / 15 + sum(values[6:]) / 10)
    assert by_number[2].encoders == by_number[3].encoders == by_number[10].encoders == scores.encoders == LABEL
    assert by_number[0].labels == () and by_number[2].labels == (LABEL,)
    assert by_number[3].labels == (LABEL, WITHOUT_RUWORDNET) and by_number[4].labels == (WITHOUT_RUWORDNET,)
    assert scores.labels == (LABEL, WITHOUT_RUWORDNET)
    document = scores.to_json()
    assert (document["verdict"], document["fault"], document["counts"]) == ("OK", None, True)
    assert document["findings"] == [] and document["findings_total"] == 0 and scores.failure is None


def test_captioning_is_half_meteor_and_half_ruclip(data_folder, output_folder):
    result = score_folder(output_folder, read_data(data_folder), PixelEncoders()).tasks[3]
    assert result.score == pytest.approx((result.parts["meteor"] + result.parts["ruclip"]) / 2)
    assert result.score == pytest.approx(np.mean(list(result.ids.values())))
    data = read_data(data_folder)
    colours = {id: np.asarray(load_image(data.root, f"images/{id}.png")).mean(axis=(0, 1)) for id in result.ids}
    redness = np.mean([colour[0] / np.linalg.norm(colour) for colour in colours.values()])
    assert result.parts["ruclip"] == pytest.approx(redness)


def test_image_generation_formula(make_data, make_output):
    folder = make_data(2)
    data = read_data(folder)
    encoders = PixelEncoders()
    scores = score_folder(make_output(folder), data, encoders)
    result = scores.tasks[0]
    fid_part = (200 - min(200, result.parts["fid"])) / 200
    assert result.score == pytest.approx((result.parts["ruclip"] + fid_part) / 2)
    assert result.parts["ruclip"] == pytest.approx(np.mean(list(result.ids.values())))
    assert encoders.texts == ["Красный мяч на траве.", "Рыжий кот. Он спит.", "Красный мяч на траве."]
    assert scores.integral is None and scores.open_part is None
    assert "integral" not in scores.to_json() and scores.to_json()["tasks"]["2"]["encoders"] == LABEL


@pytest.mark.parametrize(
    ("texts", "caption"),
    [
        (["Нарисуй.", "Кот на крыше."], "Кот на крыше."),
        (["Нарисуй картинку. Кот на крыше. Ночь."], "Кот на крыше. Ночь."),
        (["Кот на крыше"], ""),
        (["Кот.", "Пёс. Лиса.", "третий"], "Пёс. Лиса."),
    ],
)
def test_caption_of(texts, caption):
    assert generation.caption_of(texts) == caption


def test_mean_over_ids_and_best_answer(make_data, make_output, edit_json):
    folder = make_data(5)
    output = make_output(folder)
    edit_json(output / "predictions.json", lambda d: d.update({"500": [{"type": "text", "content": ""}]}))
    edit_json(output / "predictions.json", lambda d: d.update({"501": [{"type": "text", "content": "иной ответ"}]}))
    edit_json(output / "predictions.json", lambda d: d.update({"502": [{"type": "text", "content": "ёлки-палки"}]}))
    result = score_folder(output, read_data(folder)).tasks[0]
    assert result.ids == pytest.approx({"500": 0.0, "501": 1.0, "502": 0.9})
    assert result.score == pytest.approx(1.9 / 3)


def test_intervals_are_those_of_a_plain_bootstrap(data_folder, output_folder, edit_json):
    def change(predictions):
        for id in ("0", "101", "400", "501", "900", "902"):
            predictions[id] = [{"type": "text", "content": "не то"}]

    edit_json(output_folder / "predictions.json", change)
    scores = score_folder(output_folder, read_data(data_folder), PixelEncoders())
    totals = np.zeros(bootstrap.RESAMPLES)
    for result in scores.tasks:
        number = result.task.number
        ids = sorted(result.ids)
        drawn = np.array([rows for rows in bootstrap.resamples(len(ids), number)])
        assert drawn.shape == (1000, 3) and set(drawn.flat) == {0, 1, 2}
        if number == 2:
            replicates = result.replicates
        else:
            replicates = np.array([np.mean([result.ids[ids[row]] for row in rows]) for rows in drawn])
            assert result.interval == pytest.approx(tuple(np.percentile(replicates, [2.5, 97.5])))
        low, high = result.interval
        assert low - 1e-12 <= result.score <= high + 1e-12
        totals += replicates / (15 if number < 6 else 10)
    assert scores.interval == pytest.approx(tuple(np.percentile(totals, [2.5, 97.5])))
    assert scores.interval[0] < scores.integral < scores.interval[1]
    document = scores.to_json()
    assert document["bootstrap"] == {"level": 0.95, "resamples": 1000, "seed": bootstrap.SEED}
    assert document["interval"] == scores.interval and document["tasks"]["0"]["interval"][1] == 1.0
    assert "replicates" not in document["tasks"]["0"] and len(document["tasks"]["2"]["replicates"]) == 1000
    assert "pairs resampled" in document["tasks"]["2"]["interval_of"]
    again = score_folder(output_folder, read_data(data_folder), PixelEncoders())
    assert again.to_json() == document, "seeded"


@pytest.mark.parametrize(("count", "features"), [(12, 30), (30, 4)])
def test_frechet_distance_on_resamples(count, features):
    generator = np.random.default_rng(1)
    x = generator.normal(3, 1, (count, features))
    y = 2 * x + generator.normal(0, 1, (count, features))
    resampled = generation.ResampledFrechetDistance(x, y)
    for rows in (np.arange(count), *generator.integers(0, count, (20, count))):
        assert resampled(rows) == pytest.approx(frechet_distance(x[rows], y[rows]), rel=1e-9)
    assert generation.ResampledFrechetDistance(x, x)(np.arange(count)) == pytest.approx(0, abs=1e-9)


def test_of_many_images_only_ruclip_is_resampled_and_said_so(make_data, make_output, monkeypatch):
    folder = make_data(2)
    output, data = make_output(folder), read_data(folder)
    every = score_folder(output, data, PixelEncoders()).tasks[0]
    monkeypatch.setattr(generation, "MAX_RESAMPLED_FID_IMAGES", 2)
    result = score_folder(output, data, PixelEncoders()).tasks[0]
    assert result.score == every.score and result.replicates_of == generation.RESAMPLED_RUCLIP
    ids = sorted(result.ids)
    ruclip = np.array([[result.ids[ids[row]] for row in rows] for rows in bootstrap.resamples(3, 2)]).mean(axis=1)
    fid_half = result.score - result.parts["ruclip"] / 2
    assert result.replicates == pytest.approx(ruclip / 2 + fid_half)
    assert not np.allclose(every.replicates, result.replicates)


def test_95_percent_intervals_cover_about_95_percent():
    generator = np.random.default_rng(5)
    inside = 0
    for _ in range(300):
        low, high = bootstrap.interval(bootstrap.means(generator.random(40), 0))
        inside += low <= 0.5 <= high
    assert 0.90 <= inside / 300 <= 0.985


def test_one_id_has_no_interval(make_data, make_output):
    folder = make_data(5)
    output, data = make_output(folder), read_data(folder)
    document = json.loads((output / "predictions.json").read_text(encoding="utf-8"))
    (output / "predictions.json").write_text(json.dumps({"500": document["500"]}))
    result = score_folder(output, dataclasses.replace(data, examples=data.examples[:1])).tasks[0]
    assert result.score == 1.0 and result.interval is None and result.to_json()["interval"] is None


def test_hidden_tasks_take_any_metric_with_parameters(data_folder, output_folder, edit_json):
    def change(tasks):
        tasks["6"] = {"name": "H1", "output": "text", "metric": "captioning", "parameters": {"ruclip_weight": 0}}
        tasks["7"] |= {"metric": "caption_meteor", "parameters": {"gamma": 1}, "hidden": False}

    edit_json(data_folder / "tasks.json", change)
    document = score_folder(output_folder, read_data(data_folder), PixelEncoders()).to_json()["tasks"]
    first, second = document["6"], document["7"]
    assert first["score"] == pytest.approx(first["parts"]["meteor"]) and first["encoders"] == LABEL
    assert first["parameters"] == {"ruclip_weight": 0} and first["hidden"] is True and second["hidden"] is False
    assert second["score"] == pytest.approx(1 - (1 / 2) ** 3), "two words in one chunk"


def test_a_metric_with_encoders_is_one_function(make_data, make_output, edit_json, monkeypatch):
    class Channel(Parameters):
        channel: Annotated[float, validation.number(0, 2)] = 0

    def redness(samples, resources, *, channel=0.0):
        colours = encode_images(resources[ENCODERS].image_features, [sample.images[0] for sample in samples])
        return Result.mean(colours[:, int(channel)] / 255, {"mean colour": colours.mean()})

    metric = Metric("redness", "how red", "text", redness, Channel, requires=(ENCODERS,))
    monkeypatch.setitem(METRICS, "redness", metric)
    folder = make_data(6)
    entry = {"metric": "redness", "parameters": {"channel": 2}}
    edit_json(folder / "tasks.json", lambda tasks: tasks["6"].update(entry))
    data = read_data(folder, find("fbc2"))
    result = score_folder(make_output(folder), data, PixelEncoders()).tasks[0]
    blue = [np.asarray(load_image(data.root, f"images/{id}.png"))[..., 2].mean() / 255 for id in result.ids]
    assert list(result.ids.values()) == pytest.approx(blue) and result.labels == (LABEL,)
    assert "how red (channel 2)" in table(Scores(data.competition, (result,)))


def test_ruwordnet_takes_the_label_away(make_data, make_output):
    folder = make_data(4)
    path = Path(__file__).parents[2] / "data" / "metrics" / "ruwordnet.db"
    result = scored(make_output(folder), read_data(folder), ruwordnet=path).tasks[0]
    assert result.labels == () and result.to_json()["labels"] == []


def test_ruwordnet_of_the_assets_folder_is_used(make_data, make_output, tmp_path):
    folder = make_data(4)
    data, output = read_data(folder), make_output(folder)
    place = tmp_path / "assets"
    place.mkdir()
    assert scored(output, data, assets=place).tasks[0].labels == (WITHOUT_RUWORDNET,)
    content = (Path(__file__).parents[2] / "data" / "metrics" / "ruwordnet.db").read_bytes()
    (place / assets.RUWORDNET.path).write_bytes(content)
    record = {"source": "test", "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (place / assets.LOCK_FILE).write_text(json.dumps({assets.RUWORDNET.path: record}))
    assert scored(output, data, assets=place).tasks[0].labels == ()
    (place / assets.RUWORDNET.path).write_bytes(content + b" ")
    with pytest.raises(DataError, match="records"):
        scored(output, data, assets=place)
    with pytest.raises(DataError, match="assets folder .* does not exist"):
        scored(output, data, assets=tmp_path / "none")


def test_a_task_that_cannot_be_scored_is_an_error_and_no_zero(data_folder, output_folder):
    scores = score_folder(output_folder, read_data(data_folder), BrokenEncoders())
    failed = {result.task.name: result for result in scores.tasks if result.score is None}
    assert sorted(failed) == ["Hidden5", "ImageCaptioning", "ImageGeneration"]
    assert all(result.error == "RuntimeError: out of memory" for result in failed.values())
    assert scores.integral is None and scores.open_part is None and len(scores.errors) == 3
    document = scores.to_json()
    assert document["tasks"]["2"]["score"] is None
    assert (document["verdict"], document["fault"], document["counts"]) == ("METRIC_ERROR", "infra", False)
    assert document["findings_total"] == 3 and document["fix"]
    assert document["findings"][0] == {
        "rule": "metric-failure",
        "where": "ImageGeneration",
        "found": "cannot be scored: RuntimeError: out of memory",
        "allowed": "",
        "fix": "",
    }
    assert "! ImageGeneration: cannot be scored: RuntimeError: out of memory" in table(scores)


def test_not_finite_is_an_error(make_data, make_output):
    class Nan(PixelEncoders):
        def image_latents(self, images):
            return np.full((len(images), 3), math.nan)

    folder = make_data(3)
    result = score_folder(make_output(folder), read_data(folder), Nan()).tasks[0]
    assert "not finite" in (result.error or "")


def test_one_image_has_no_fid(make_data, make_output):
    folder = make_data(2)
    data = read_data(folder)
    output = make_output(folder)
    one = dataclasses.replace(data, examples=data.examples[:1])
    document = json.loads((output / "predictions.json").read_text(encoding="utf-8"))
    (output / "predictions.json").write_text(json.dumps({"200": document["200"]}))
    result = score_folder(output, one, PixelEncoders()).tasks[0]
    assert result.score is None and "at least two images" in (result.error or "")
    assert result.exit_code == 2, "the data's fault, not the evaluator's"
    scores = Scores(data.competition, (result,))
    assert scores.failure is not None and scores.failure.verdict is METRIC_DATA_ERROR and scores.failure.exit_code == 2
    document = scores.to_json()
    assert (document["verdict"], document["fault"], document["counts"]) == ("METRIC_ERROR", "organizer", False)


def test_shipped_encoders_score_and_carry_their_label(data_folder, output_folder):
    scores = score_folder(output_folder, read_data(data_folder))
    assert scores.errors == []
    assert scores.encoders == "encoders: nano, not comparable with the leaderboard"
    assert 0 < scores.integral < 1


def test_ruwordnet_is_checked(make_data, make_output, tmp_path):
    folder = make_data(4)
    output = make_output(folder)
    with pytest.raises(DataError, match="does not exist"):
        scored(output, read_data(folder), ruwordnet=tmp_path / "none.db")
    (tmp_path / "bad.db").write_text("не база")
    with pytest.raises(DataError, match="cannot be read"):
        scored(output, read_data(folder), ruwordnet=tmp_path / "bad.db")


def test_faulty_output_is_the_submissions_error(data_folder, tmp_path):
    with pytest.raises(SubmissionError, match="does not exist"):
        score_folder(tmp_path / "none", read_data(data_folder))


def test_table_is_aligned_and_labelled(data_folder, output_folder):
    scores = score_folder(output_folder, read_data(data_folder), PixelEncoders())
    carbon = CarbonReading("RU", 347.451, None, None, "boom", 36 / 3.6e6, 3.6, 10.0, None, ["что-то не так"])
    lines = table(scores, carbon, 12.3).splitlines()
    header, rows = lines[0], lines[2:14]
    assert header.split() == ["task", "metric", "score", "interval", "baseline", "threshold", "n"]
    assert all(len(row) == len(header) for row in rows)
    assert rows[0].split() == ["TextQA", "F1", "over", "lemmas", "1.0000", "1.00..1.00", "0.25", "0.20", "met", "3"]
    assert " * " in rows[2] and " *# " in rows[3] and " # " in rows[4] and "*" not in rows[0] and "#" not in rows[0]
    text = "\n".join(lines)
    assert f"* {LABEL}\n# {WITHOUT_RUWORDNET}\n" in text
    assert "Integral score: " in text and "baseline: 0.243" in text
    assert "CO2 (eco2AI, RU): not measured: boom" in text and "! CO2: что-то не так" in text
    assert "CO2 (counters): 0.003475 g (36.0 J" in text
    assert "\x1b" not in text


def test_json_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "scores.json"
    write_json(path, {"задача": "ё 🐈"})
    assert json.loads(path.read_text(encoding="utf-8")) == {"задача": "ё 🐈"} and "ё 🐈" in path.read_text(
        encoding="utf-8"
    )
    with pytest.raises(ValueError):
        write_json(path, {"score": math.nan})
    assert json.loads(path.read_text(encoding="utf-8")) == {"задача": "ё 🐈"}
    assert [file.name for file in path.parent.iterdir()] == ["scores.json"]
