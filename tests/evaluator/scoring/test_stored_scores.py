"""Scores of FusionBrain Challenge 2.0 stay what they were: `tests/data/scores/fbc2.json` has the predictions for
`build_data` and the scores.json that they had before competitions were data. Regenerate it only where the rules change.
"""

import json
from pathlib import Path

import pytest

from evaluator.data.dataset import read_data
from evaluator.data.predictions import read_predictions
from evaluator.scoring.score import score
from tests.support.data import build_data, build_output

STORED = Path(__file__).parents[2] / "data" / "scores" / "fbc2.json"
ENCODED = 1e-6  # what depends on the encoders depends on the processor's float32 arithmetic, too


def test_fbc2_is_unchanged_to_the_last_bit(tmp_path):
    stored = json.loads(STORED.read_text(encoding="utf-8"))
    data = read_data(build_data(tmp_path / "data"))
    output = build_output(tmp_path / "output", data.root)
    (output / "predictions.json").write_text(json.dumps(stored["predictions"]), encoding="utf-8")
    made = json.loads(json.dumps(score(read_predictions(output, data), data).to_json()))
    scores = stored["scores"]

    assert made["data_digest"] == scores["data_digest"]
    for number, before in scores["tasks"].items():
        now = {key: made["tasks"][number][key] for key in before}  # there may be more
        if before["encoders"] is None:
            assert now == before
            continue
        for key in ("score", "ids", "parts", "replicates", "interval"):
            if key in before:
                assert now[key] == pytest.approx(before.pop(key), abs=100 * ENCODED if key == "parts" else ENCODED)
                del now[key]
        assert now == before
    parts = [made["tasks"][str(number)]["score"] for number in range(12)]
    weights = [1 / 15] * 6 + [1 / 10] * 6
    assert made["integral"] == sum(part * weight for part, weight in zip(parts, weights, strict=True))
    for key in ("integral", "open_part", "interval", "open_part_interval"):
        assert made.pop(key) == pytest.approx(scores.pop(key), abs=ENCODED)
    scores.pop("tasks")
    assert {key: made[key] for key in scores} == scores
    assert set(made) - set(scores) - {"tasks"} == {"competition"}
