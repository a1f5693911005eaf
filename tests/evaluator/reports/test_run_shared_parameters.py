"""The rule of a unified model in a run: what was delivered is counted, and nothing of it decides the verdict."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from evaluator.cli.app import main
from evaluator.sandbox import local
from tests.support.browser import Page
from tests.support.fbc1 import build_fbc1, program

ANSWERS = program("[]")
TRUNK = {"trunk": torch.ones(47)}
TASKS = ("C2C", "HTR", "ZsOD", "VQA")
HEADS = {"C2C": 13, "HTR": 13, "ZsOD": 13, "VQA": 14}
#: 47 of 100 parameters are in all four.
WEIGHTS = {f"{task}.safetensors": save(TRUNK | {task: torch.ones(size)}) for task, size in HEADS.items()}

Run = Callable[..., tuple[dict[str, Any], dict[str, Any], str]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a ZIP with these files; gives the contents of scores.json and of the record, and what was printed."""

    def run(files: dict[str, bytes], code: str = ANSWERS, exit_code: int = 0) -> tuple[Any, Any, str]:
        with zipfile.ZipFile(tmp_path / "s.zip", "w") as file:
            metadata = {"image": "a/b:1", "entrypoint": "python -S /home/jovyan/run.py"}
            contents = {"metadata.json": json.dumps(metadata).encode(), "run.py": code.encode(), **files}
            for name, content in contents.items():
                file.writestr(name, content)
        scores, record = tmp_path / "scores.json", tmp_path / "record.json"
        words = ["run", tmp_path / "s.zip", "--data", build_fbc1(tmp_path / "data"), "--competition", "fbc1"]
        words += ["--runner", "local", "--country", "ZZ", "--json", scores, "--record", record, "--private"]
        assert main([str(word) for word in words]) == exit_code
        printed = capsys.readouterr()
        return *(json.loads(path.read_text("utf-8")) for path in (scores, record)), printed.out + printed.err

    return run


def test_the_count_stands_in_scores_and_record_and_on_the_page(run: Run, tmp_path: Path) -> None:
    scores, record, printed = run(WEIGHTS)
    counted = scores["shared_parameters"]
    assert record["shared_parameters"] == counted and scores["verdict"] == "OK"
    assert (counted["met"], counted["share"], counted["required"]) == (True, 0.47, 0.25)
    assert (counted["shared"], counted["total"]) == (47, 100) and "tensors" not in counted
    assert {file for model in counted["models"] for file in model["files"]} == WEIGHTS.keys()
    assert "47 of 100 parameters are common to all tasks' models, 0.4700; at least 0.25 needed: met" in printed
    assert '"shared_parameters":{"met":true,"share":0.47' in (tmp_path / "report.html").read_text("utf-8")
    assert main(["verify", str(tmp_path / "record.json")]) == 0


def test_the_page_shows_the_count_and_why_there_is_none(run: Run, tmp_path: Path, driver: Any) -> None:
    """Names of files are untrusted."""
    run(WEIGHTS)
    page = Page(driver).open(tmp_path / "report.html")
    card = page.one("#shared-parameters").text
    assert "47 of 100, 47.0 %" in card and "25 % ✓ met" in card and "for a person to judge" in card
    hostile = "<img src=x onerror=alert(1)>.safetensors"
    run({hostile: b"none"})
    page = Page(driver).open(tmp_path / "report.html")
    card = page.one("#shared-parameters").text
    assert "not counted" in card and "✗ not met" in card and hostile in card
    assert page.log == [] and not page.run("return document.querySelector('#shared-parameters img')")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "none among 2 files"),
        (WEIGHTS | {"VQA.safetensors": WEIGHTS["VQA.safetensors"][:-1]}, "VQA.safetensors"),
        (WEIGHTS | {"models.json": json.dumps({task: "C2C.safetensors" for task in TASKS[:3]}).encode()}, "task VQA"),
    ],
)
def test_what_cannot_be_counted_is_scored_all_the_same(run: Run, files: dict[str, bytes], said: str) -> None:
    scores, record, printed = run(files)
    assert scores["verdict"] == "OK" and scores["integral"] is not None
    counted = scores["shared_parameters"]
    assert record["shared_parameters"] == counted
    assert (counted["met"], counted["share"], counted["required"]) == (False, None, 0.25)
    assert said in counted["errors"][0]
    assert "shared parameters cannot be counted: " in printed and said in printed


def test_a_program_that_rewrites_its_weights_changes_no_count(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four models with nothing in common, of which one is left when they have run. A kernel that grants no namespaces
    leaves a program's folder writable.
    """
    monkeypatch.setattr(local, "_can_unshare", lambda: False)
    apart = {f"{task}.safetensors": save({task: torch.ones(20)}) for task in TASKS}
    code = ANSWERS + 'for task in ("HTR", "ZsOD", "VQA"):\n    os.remove(f"{task}.safetensors")\n'
    scores, _, printed = run(apart, code)
    counted = scores["shared_parameters"]
    assert scores["verdict"] == "OK" and (counted["met"], counted["shared"], counted["total"]) == (False, 0, 80)
    assert "needed: not met" in printed


def test_nothing_that_was_delivered_can_be_left_out(run: Run) -> None:
    """A folder is packed without `training/`, and a ZIP that has it runs with it."""
    one = save({"model": torch.ones(10)})
    hidden = {"training/big.safetensors": save({"big": torch.ones(90)}), ".submissionignore": b"*.safetensors\n"}
    models = {"models.json": json.dumps(dict.fromkeys(TASKS, "one.safetensors")).encode()}
    scores, _, _ = run({"one.safetensors": one, **hidden, **models})
    counted = scores["shared_parameters"]
    assert (counted["shared"], counted["total"], counted["met"]) == (10, 100, False)
    assert [model["files"] for model in counted["others"]] == [["training/big.safetensors"]]


def test_a_run_that_fails_has_its_count(run: Run) -> None:
    scores, record, _ = run(WEIGHTS, "raise SystemExit(3)", exit_code=1)
    assert scores["verdict"] == "EXIT" and scores["shared_parameters"]["met"]
    assert record["shared_parameters"] == scores["shared_parameters"]


def test_the_inputs_are_no_part_of_what_is_counted(run: Run, tmp_path: Path) -> None:
    """They lie in the submission's folder, too, in place of a folder of that name that was packed along."""
    large = build_fbc1(tmp_path / "data") / "HTR" / "images" / "0.png"
    large.write_bytes(large.read_bytes() + bytes(2 * 10**6))
    scores, _, _ = run({**WEIGHTS, "input/x.safetensors": save({"x": torch.ones(900)})})
    counted = scores["shared_parameters"]
    assert counted["total"] == 100 and not any("input/" in note for note in counted["notes"])
