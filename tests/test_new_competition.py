"""docs/new-competition.md, followed: its files are written and its commands run, from an empty folder to a board."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "new-competition.md"
_STEP = re.compile(r"^(?:\*\*`([^`]+)`\*\*\n\n)?```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_page_leads_to_a_board(tmp_path: Path) -> None:
    printed = {}
    for name, language, body in _STEP.findall(PAGE.read_text(encoding="utf-8")):
        if name:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(body, encoding="utf-8")
            continue
        assert language == "sh"
        for line in body.splitlines():
            command = shlex.split(line, comments=True)
            if command[0] == "python":
                command[0] = sys.executable
            environment = os.environ | {"PYTHONPATH": str(ROOT)}
            done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, (line, done.stdout, done.stderr)
            printed[" ".join(command[3:5])] = done.stdout

    shown = printed["competition show"]
    assert "Rhymes (hidden)" in shown and "600.0 instead of 18000.0" in shown
    assert "Integral score: 1.0000" in printed["run rhymes.zip"] and "(baseline: 0.3)" in printed["run rhymes.zip"]
    scores = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert scores["competition"]["name"] == "rhymes" and scores["tasks"]["1"]["metric"] == "rhyme"
    board = json.loads((tmp_path / "board.json").read_text(encoding="utf-8"))
    assert [(line["team"], line["total"]) for line in board["lines"]] == [("Ёжики", 1.0), (None, 0.3)]
    assert "Capitals  Rhymes" in " ".join(printed["board --season"].split(" ")), printed["board --season"]
    assert (tmp_path / "rhymes" / "site" / "public" / "index.html").exists()
