"""A season of FusionBrain Challenge 1.0: its totals, thresholds and board, of submissions that really run."""

import json
import zipfile
from pathlib import Path

import pytest

from evaluator.cli.app import main
from evaluator.competition.definition import find
from tests.support.fbc1 import build_fbc1

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
RUN = """
import json, os
def write(task, answers):
    json.dump(answers, open(f"output/prediction_{task}.json", "w", encoding="utf-8"))
def read(name):
    return json.load(open(f"input/{name}", encoding="utf-8"))
write("C2C", {id: "def x ( ) : NEW_LINE INDENT pass DEDENT" for id in read("C2C/requests.json")})
write("HTR", {name: "последовал" for name in os.listdir("input/HTR/images")})
write("zsOD", {name: {label: BOXES for label in labels} for name, labels in read("zsOD/requests.json").items()})
write("VQA", {id: question["question"].split()[-1] for id, question in read("VQA/questions.json").items()})
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


def pack(path: Path, boxes: str) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("metadata.json", json.dumps({"image": "a/b:1", "entrypoint": "python -S /home/jovyan/run.py"}))
        file.writestr("run.py", f"BOXES = {boxes}\n{RUN}")
    return path


def test_a_season_from_the_first_team_to_the_prizes(call, tmp_path):
    call("season", "migrate")
    call("season", "check")
    for team, boxes in (("Ёжики", "[[1, 2, 30, 40]]"), ("Кот", "[]")):
        call("teams", "add", team)
        call("submit", pack(tmp_path / f"{team}.zip", boxes), "--team", team)
    call("queue", "run", "--drain")
    text = call("board", "--json", tmp_path / "board.json")
    board = json.loads((tmp_path / "board.json").read_text(encoding="utf-8"))
    assert [line["team"] for line in board["lines"]] == ["Ёжики", "Кот", None]
    assert [line["total"] for line in board["lines"]] == pytest.approx([0.75 + 0.5 + 0.667 + 1, 0.75 + 0.5 + 1, 1.39])
    assert board["competition"] == {"name": "fbc1", "digest": find("fbc1").digest}
    assert [name in text for name in ("C2C", "HTR", "zsOD", "VQA")] == [True] * 4

    call("choose", "--team", "Ёжики", 1)
    rules = tmp_path / "season" / "season.toml"
    rules.write_text(RULES.replace("2090-01-01", "2020-01-02"), encoding="utf-8")
    call("queue", "finals")
    call("queue", "run", "--drain")
    call("prizes", "--json", tmp_path / "prizes.json")
    prizes = json.loads((tmp_path / "prizes.json").read_text(encoding="utf-8"))
    assert {each["team"]: each["eligible"] for each in prizes["main"]} == {"Ёжики": True, "Кот": False}
    assert {each["team"]: each["missed"] for each in prizes["main"]}["Кот"] == {"2": 0.1}
    assert {each["team"]: each["amount"] for each in prizes["main"]} == {"Ёжики": 3.0, "Кот": None}
    assert [each["team"] for each in prizes["nominations"]] == ["Ёжики"] * 4 and prizes["sustainable"] is None
    call("site", "--out", tmp_path / "site")
    page = (tmp_path / "site" / "public" / "index.html").read_text(encoding="utf-8")
    assert "2.9170" in page and "zsOD" in page
    page = (tmp_path / "site" / "organizer" / "prizes.html").read_text(encoding="utf-8")
    assert "million roubles" in page and "3.000" in page and 'id="nominations"' in page and 'id="green"' not in page
