"""A season of FusionBrain Challenge 1.0: its totals, thresholds and board, of submissions that really run."""

import json
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from evaluator.cli.app import main
from evaluator.competition import definition
from evaluator.competition.definition import find
from evaluator.season import prizes
from evaluator.season.board import BoardResult, Line
from evaluator.season.config import read_season
from tests.support.fbc1 import build_fbc1, program
from tests.support.season import failures

RULES = """
[season]
name = "Проба 2021"
competition = "fbc1"
time_zone = "Europe/Moscow"
start = 2020-01-01
end = 2090-01-01

[data]
public = "data/public"
private = "data/private"

[runs]
runner = "local"
country = "ZZ"
"""


@pytest.fixture
def call(tmp_path, capsys):
    rules = tmp_path / "season" / "season.toml"
    for name in ("public", "private"):
        build_fbc1(rules.parent / "data" / name)
    rules.write_text(RULES, encoding="utf-8")

    def call(*words: object) -> str:
        code = main([*map(str, words), "--season", str(rules)])
        printed = capsys.readouterr()
        assert code == 0, printed
        return printed.out

    return call


SHARED, OWN = torch.ones(30), torch.ones(35)
ONE_MODEL = {f"{task}.safetensors": save({"trunk": SHARED, task: OWN}) for task in ("a", "b")}  # 30 of 100
APART = {f"{task}.safetensors": save({task: OWN}) for task in ("a", "b")}
DAMAGED = {"a.safetensors": save({"a": OWN})[:-1]}


def pack(path: Path, boxes: str, weights: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in weights.items():
            file.writestr(name, content)
        file.writestr("metadata.json", json.dumps({"image": "a/b:1", "entrypoint": "python -S /home/jovyan/run.py"}))
        file.writestr("run.py", program(boxes))
    return path


def test_a_task_without_a_threshold_counts_nothing_towards_the_least_total(call, tmp_path):
    """The amounts of places are there all the same."""
    own = tmp_path / "season" / "own"
    own.mkdir()
    text = (Path(definition.__file__).parent / "fbc1" / definition.FILE).read_text(encoding="utf-8")
    (own / definition.FILE).write_text(text.replace("threshold = 0.25\n", ""), encoding="utf-8")
    rules = tmp_path / "season" / "season.toml"
    rules.write_text(RULES.replace('"fbc1"', '"own"'), encoding="utf-8")
    season = read_season(rules)
    result = BoardResult(1, 1, "Ёжики", datetime(2026, 1, 1, tzinfo=UTC), 0.6)
    line = Line(1, "Ёжики", 0.6, {0: 0.2, 1: 0.3, 2: 0.1, 3: 0.0}, result)
    [place] = prizes.main_prize([line], season)
    assert place.eligible and place.amount == pytest.approx(1.0), "the least, at the sum of the thresholds"


def test_a_season_from_the_first_team_to_the_prizes(call, tmp_path):
    call("season", "migrate")
    assert failures(tmp_path / "season" / "season.toml") == ["public and private"]  # which ask the same here
    hits = "[[1, 2, 30, 40]]"
    for team, boxes, weights in (
        ("Лис", hits, APART),
        ("Ёжики", hits, ONE_MODEL),
        ("Сова", hits, DAMAGED),
        ("Кот", "[]", ONE_MODEL),
    ):
        call("teams", "add", team)
        call("submit", pack(tmp_path / f"{team}.zip", boxes, weights), "--team", team)
    call("queue", "run", "--drain")
    text = call("board", "--json", tmp_path / "board.json")
    board = json.loads((tmp_path / "board.json").read_text(encoding="utf-8"))
    assert [line["team"] for line in board["lines"]] == ["Лис", "Ёжики", "Сова", "Кот", None]
    totals = [0.75 + 0.5 + 0.667 + 1] * 3 + [0.75 + 0.5 + 1, 1.39]
    assert [line["total"] for line in board["lines"]] == pytest.approx(totals)
    assert [line.get("shared_parameters") for line in board["lines"]] == [
        {"met": False, "share": 0.0},
        {"met": True, "share": 0.3},
        {"met": False, "share": None},
        {"met": True, "share": 0.3},
        None,
    ]
    assert "30.0 %" in text and "0.0 %, too little" in text and "not counted" in text
    assert board["competition"] == {"name": "fbc1", "digest": find("fbc1").digest}
    assert [name in text for name in ("C2C", "HTR", "ZsOD", "VQA")] == [True] * 4

    call("choose", "--team", "Ёжики", 2)
    rules = tmp_path / "season" / "season.toml"
    rules.write_text(RULES.replace("2090-01-01", "2020-01-02"), encoding="utf-8")
    call("queue", "finals")
    call("queue", "run", "--drain")
    text = call("prizes", "--json", tmp_path / "prizes.json")
    awarded = json.loads((tmp_path / "prizes.json").read_text(encoding="utf-8"))
    places = {each["team"]: (each["eligible"], each["missed"], each["amount"]) for each in awarded["main"]}
    assert places == {
        "Лис": (False, {}, None),
        "Ёжики": (True, {}, 3.0),
        "Сова": (False, {}, None),
        "Кот": (False, {"2": 0.1}, None),
    }
    assert "0.0 %, too little" in text and "not counted" in text and "at least 25 % for a place" in text
    assert [each["team"] for each in awarded["nominations"]] == ["Лис"] * 4, "by a model of any kind"
    assert awarded["sustainable"] is None
    call("site", "--out", tmp_path / "site")
    page = (tmp_path / "site" / "public" / "index.html").read_text(encoding="utf-8")
    assert "2.9170" in page and "ZsOD" in page
    assert '<td class="number" data-v="0.3">30.0&nbsp;%</td>' in page
    assert '<td class="number" data-v="0.0"><span class="under">▾&nbsp;0.0&nbsp;%</span></td>' in page
    assert "not counted" in page and "a place needs at least 25 % of all" in page
    page = (tmp_path / "site" / "organizer" / "prizes.html").read_text(encoding="utf-8")
    assert "million roubles" in page and "3.000" in page and 'id="nominations"' in page and 'id="green"' not in page
    assert "30.0&nbsp;%" in page and "not counted" in page
    teams = [(path / "index.html").read_text(encoding="utf-8") for path in (tmp_path / "site" / "teams").glob("*/")]
    assert sum("why not counted" in page and "a.safetensors" in page for page in teams) == 1
    assert sum("30.0&nbsp;%" in page for page in teams) == 2
