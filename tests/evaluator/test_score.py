import dataclasses
import json
import math

import numpy as np
import pytest

from evaluator.carbon import CarbonReading
from evaluator.contract import load_image, read_data
from evaluator.errors import DataError, SubmissionError
from evaluator.report import table, write_json
from evaluator.score import caption_of, score

LABEL = "encoders: test, not comparable with the leaderboard"


class PixelEncoders:
    """Encoders with known answers: an image is its mean colour, a text is always red."""

    label = LABEL

    def text_latents(self, texts):
        self.texts = texts
        return np.tile([1.0, 0.0, 0.0], (len(texts), 1))

    def image_latents(self, images):
        colours = self.image_features(images)
        return colours / np.linalg.norm(colours, axis=1, keepdims=True)

    def image_features(self, images):
        return np.array([np.asarray(image, dtype=np.float64).mean(axis=(0, 1)) for image in images])


class BrokenEncoders(PixelEncoders):
    def image_latents(self, images):
        raise RuntimeError("out of\nmemory")


def test_all_twelve_tasks(data_folder, output_folder):
    scores = score(output_folder, read_data(data_folder), load_encoders=PixelEncoders)
    by_number = {result.task.number: result for result in scores.tasks}
    assert sorted(by_number) == list(range(12)) and scores.errors == []
    for number in (0, 1, 4, 5, 6, 7, 8, 9, 11):
        assert by_number[number].n == 3 and by_number[number].encoders is None
        assert by_number[number].score == pytest.approx(1, abs=0.1), number
    values = [by_number[number].score for number in range(12)]
    assert scores.open_part == pytest.approx(sum(values[:6]) / 15)
    assert scores.integral == pytest.approx(sum(values[:6]) / 15 + sum(values[6:]) / 10)
    assert by_number[2].encoders == by_number[3].encoders == by_number[10].encoders == scores.encoders == LABEL


def test_captioning_is_half_meteor_and_half_ruclip(data_folder, output_folder):
    result = score(output_folder, read_data(data_folder), load_encoders=PixelEncoders).tasks[3]
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
    scores = score(make_output(folder), data, load_encoders=lambda: encoders)
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
    assert caption_of(texts) == caption


def test_mean_over_ids_and_best_answer(make_data, make_output, edit_json):
    folder = make_data(5)
    output = make_output(folder)
    edit_json(output / "predictions.json", lambda d: d.update({"500": [{"type": "text", "content": ""}]}))
    edit_json(output / "predictions.json", lambda d: d.update({"501": [{"type": "text", "content": "иной ответ"}]}))
    edit_json(output / "predictions.json", lambda d: d.update({"502": [{"type": "text", "content": "ёлки-палки"}]}))
    result = score(output, read_data(folder)).tasks[0]
    assert result.ids == pytest.approx({"500": 0.0, "501": 1.0, "502": 0.9})
    assert result.score == pytest.approx(1.9 / 3)


def test_a_task_that_cannot_be_scored_is_an_error_and_no_zero(data_folder, output_folder):
    scores = score(output_folder, read_data(data_folder), load_encoders=BrokenEncoders)
    failed = {result.task.name: result for result in scores.tasks if result.score is None}
    assert sorted(failed) == ["Hidden5", "ImageCaptioning", "ImageGeneration"]
    assert all(result.error == "RuntimeError: out of memory" for result in failed.values())
    assert scores.integral is None and scores.open_part is None and len(scores.errors) == 3
    assert scores.to_json()["tasks"]["2"]["score"] is None
    assert "! ImageGeneration: cannot be scored: RuntimeError: out of memory" in table(scores)


def test_not_finite_is_an_error(make_data, make_output):
    class Nan(PixelEncoders):
        def image_latents(self, images):
            return np.full((len(images), 3), math.nan)

    folder = make_data(3)
    assert "not finite" in (score(make_output(folder), read_data(folder), load_encoders=Nan).tasks[0].error or "")


def test_one_image_has_no_fid(make_data, make_output):
    folder = make_data(2)
    data = read_data(folder)
    output = make_output(folder)
    one = dataclasses.replace(data, examples=data.examples[:1])
    document = json.loads((output / "predictions.json").read_text(encoding="utf-8"))
    (output / "predictions.json").write_text(json.dumps({"200": document["200"]}))
    result = score(output, one, load_encoders=PixelEncoders).tasks[0]
    assert result.score is None and "at least two images" in (result.error or "")
    assert result.exit_code == 2, "the data's fault, not the evaluator's"


def test_shipped_encoders_score_and_carry_their_label(data_folder, output_folder):
    scores = score(output_folder, read_data(data_folder))
    assert scores.errors == []
    assert scores.encoders == "encoders: nano, not comparable with the leaderboard"
    assert 0 < scores.integral < 1


def test_ruwordnet_is_checked(make_data, make_output, tmp_path):
    folder = make_data(4)
    output = make_output(folder)
    with pytest.raises(DataError, match="does not exist"):
        score(output, read_data(folder), ruwordnet=tmp_path / "none.db")
    (tmp_path / "bad.db").write_text("не база")
    with pytest.raises(DataError, match="cannot be read"):
        score(output, read_data(folder), ruwordnet=tmp_path / "bad.db")


def test_faulty_output_is_the_submissions_error(data_folder, tmp_path):
    with pytest.raises(SubmissionError, match="does not exist"):
        score(tmp_path / "none", read_data(data_folder))


def test_table_is_aligned_and_labelled(data_folder, output_folder):
    scores = score(output_folder, read_data(data_folder), load_encoders=PixelEncoders)
    carbon = CarbonReading("RU", 347.451, None, None, "boom", 36 / 3.6e6, 3.6, 10.0, None, ["что-то не так"])
    lines = table(scores, carbon, 12.3).splitlines()
    header, rows = lines[0], lines[2:14]
    assert header.split() == ["task", "metric", "score", "baseline", "threshold", "n"]
    assert all(len(row) == len(header) for row in rows)
    assert rows[0].split() == ["TextQA", "F1", "over", "lemmas", "1.0000", "0.25", "0.20", "met", "3"]
    assert " * " in rows[2] and " * " not in rows[0]
    text = "\n".join(lines)
    assert f"* {LABEL}" in text and "Integral score: " in text and "baseline of the slides: 0.243" in text
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
