"""The oracle of `make bench` is the published algorithm, and the script runs to its end."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark import published
from rudolph import RudolphModel
from rudolph.config import BOS
from rudolph.sampling import GREEDY, Sampling

ROOT = Path(__file__).parents[3]
DATA = ROOT / "tests" / "data" / "rudolph"


@pytest.mark.parametrize("name", ["a", "b"])
def test_the_oracle_generates_the_published_sequences(name: str) -> None:
    model = RudolphModel.from_pretrained(DATA / name).eval()
    with np.load(DATA / name / "reference.npz") as file:
        vectors = {key: torch.from_numpy(file[key]) for key in file if file[key].ndim}
    ids = torch.cat((vectors["left"], vectors["image"], vectors["right"]), dim=1)
    with torch.no_grad():
        assert (published.forward(model, ids, None)[0] - vectors["logits"]).abs().max() < 1e-4
    left = vectors["left"]
    image = published.generate(model, left, model.config.image_seq_length, "codes", GREEDY)
    assert torch.equal(image, vectors["greedy_image"])
    begin = torch.tensor([BOS, model.config.special_id("RT_UNK")]).expand(len(left), -1)
    prefix = torch.cat((left, vectors["image"], begin), dim=1)
    right = published.generate(model, prefix, model.config.r_text_seq_length - 2, "bpe", GREEDY)
    assert torch.equal(torch.cat((begin, right), dim=1), vectors["greedy_right_given"])


def test_draws_stay_within_top_k_and_top_p() -> None:
    torch.manual_seed(0)
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().expand(2000, -1)
    assert set(published.draw(logits, Sampling(top_k=3)).tolist()) == {0, 1, 2}
    assert set(published.draw(logits, Sampling(top_p=0.6)).tolist()) == {0, 1}
    assert (published.draw(logits, GREEDY) == 0).all()


def test_the_script_ends_with_one_line_of_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmark", "--preset", "nano", "--batch", "1", "--no-end-to-end"])
    runpy.run_module("benchmark", run_name="__main__")
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    steps = report["presets"]["nano"]["1"]
    assert set(steps) == {"image_step", "text_step", "prefill"}
    for step in steps.values():
        assert step["times_faster"] == pytest.approx(step["published_s"] / step["engine_s"])


def test_run_py_beside_busy_neighbours_ends_with_one_line_of_json() -> None:
    """Of three examples, with a busy process beside it."""
    command = [sys.executable, "-m", "benchmark.neighbour", "--rounds", "1", "--every", "50"]
    command += ["--situation", "neighbour", "--policy", "chosen"]
    done = subprocess.run(command, cwd=ROOT / "submission", capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["examples"] == 3
    assert report["seconds"]["neighbour"]["chosen"] == [report["medians"]["neighbour"]["chosen"]]
