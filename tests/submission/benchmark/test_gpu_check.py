"""`make gpu-check` on a CPU: every part at tiny sizes, graphs as plain steps; and the folder for another machine."""

import argparse
import importlib
import importlib.util
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import youtokentome

from benchmark.gpu import pack
from benchmark.gpu.report import Report, verdict
from tests.support import forked

script = importlib.import_module("benchmark.gpu.__main__")

ROOT = Path(__file__).parents[3]
SUBMISSION = ROOT / "submission"
STAND_IN = SUBMISSION / "benchmark" / "gpu" / "standin" / "youtokentome.py"
BPE_MODELS = (SUBMISSION / "weights" / "nano" / "bpe.model", ROOT / "tests" / "data" / "ruclip" / "bpe.model")
MINUTES = 30  # a bound for a busy machine: the parts take one to two in all


@pytest.mark.parametrize("part", ["right", "fast", "whole", "learning"])  # co2: in the packed folder, below
def test_a_part_runs_to_its_end_on_a_cpu(part: str, tmp_path: Path) -> None:
    options = argparse.Namespace(part=part, seconds=60 * MINUTES, out=tmp_path, device="cpu", small=True)
    log = tmp_path / "log"
    code = forked.ended(forked.start(script.run_part, options, folder=SUBMISSION, log=log))
    assert code == 0, log.read_text(encoding="utf-8")[-6000:]
    found = json.loads((tmp_path / f"{part}.json").read_text(encoding="utf-8"))
    assert found["state"] == "done" and all(entry["holds"] for entry in found["checks"])
    expected = {
        "right": {"bfloat16", "vqgan_nano", "nano"}, "fast": {"limits", "2.7B", "350M", "trace", "vqgan"},
        "whole": {"load_s", "weights_bytes", "batch_size", "engine", "published", "run_py"},
        "learning": {"2.7B", "350M", "limits", "bitsandbytes"},
    }  # fmt: skip
    assert set(found["figures"]) == expected[part]


def test_parts_without_time_are_said_and_none_stops_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--device", "cpu", "--out", str(tmp_path), "--parts", "fast,co2", "--minutes", "0.01"]
    monkeypatch.setattr(sys, "argv", ["benchmark.gpu", *options])
    assert script.main() == 1
    printed = capsys.readouterr().out
    summary = json.loads(printed.splitlines()[-1])
    assert [(entry["part"], entry["state"]) for entry in summary["parts"]] == [("fast", "not run"), ("co2", "not run")]
    assert "fast: not run in 0 s; no time was left" in printed


def test_a_part_that_is_cut_off_ends_with_all_that_it_started(tmp_path: Path) -> None:
    options = argparse.Namespace(out=tmp_path, device="cpu", small=True)
    assert script._run_process("fast", 0.5, options) == "cut off after 0 s"  # torch alone takes longer
    processes = subprocess.run(["ps", "-eo", "args", "ww"], capture_output=True, text=True, check=True).stdout
    assert str(tmp_path) not in processes


def test_an_unknown_part_is_named(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmark.gpu", "--out", str(tmp_path), "--parts", "right,slow"]
    done = subprocess.run(command, cwd=SUBMISSION, capture_output=True, text=True)
    assert done.returncode == 2 and "slow: unknown; allowed are right, fast" in done.stderr


def test_a_report_keeps_what_it_had(tmp_path: Path) -> None:
    path = tmp_path / "fast.json"
    report = Report("fast", path, 60)
    report.figure("a/b", float("nan"))
    report.check("sums", False, "off by 1")
    report.goal("ms", 3.0, 2.0, at_most=True)
    found = json.loads(path.read_text(encoding="utf-8"))  # before the part has ended
    assert found["state"] == "cut off" and found["figures"] == {"a": {"b": None}}
    report.end()
    assert "done" in verdict(report.found) and "0 of 1 checks hold" in verdict(report.found)
    assert verdict(report.found).endswith("; WRONG: sums")
    assert not report.found["goals"][0]["reached"]


@pytest.mark.parametrize("path", BPE_MODELS, ids=["nano", "ruclip"])
def test_the_stand_in_gives_youtokentomes_ids(path: Path) -> None:
    spec = importlib.util.spec_from_file_location("stand_in", STAND_IN)
    assert spec is not None and spec.loader is not None
    stand_in = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(stand_in)
    real, ours = youtokentome.BPE(str(path), n_threads=1), stand_in.BPE(str(path), n_threads=1)
    assert ours.vocab_size() == real.vocab_size()
    entries = json.loads((ROOT / "sample_input" / "input.json").read_text(encoding="utf-8")).values()
    texts = [entry["content"].lower() for some in entries for entry in some if entry["type"] == "text"]
    rng = random.Random(3)
    texts += ["", "▁▁ a▁b", "«ёж» 🙂🙂 漢字", "a\u00a0b\u3000c\td\ne"]
    texts += ["".join(rng.choices("абвгдеё ▁a1+-=漢🙂\u2009\n", k=rng.randint(0, 14))) for _ in range(500)]
    for dropout in (0.0, 1.0):
        assert ours.encode(texts, dropout_prob=dropout) == real.encode(texts, dropout_prob=dropout)
    ids = [[rng.randrange(4, real.vocab_size()) for _ in range(rng.randint(0, 9))] for _ in range(500)]
    assert ours.decode(ids) == real.decode(ids)


def test_the_packed_folder_runs_by_itself(tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    folder = tmp_path / "чек GPU"
    size = pack.pack(folder, wheels)
    assert 10**7 < size < pack.MOST_BYTES
    assert not [path for path in folder.rglob("*") if path.name in ("__pycache__", "season")]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    command = ["sh", str(folder / "run.sh"), "--device", "cpu", "--parts", "co2", "--minutes", str(MINUTES)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    summary = json.loads(done.stdout.splitlines()[-1])
    out = folder / "build" / "gpu-check"
    assert summary == json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert [(entry["part"], entry["state"]) for entry in summary["parts"]] == [("co2", "done")]
    found = json.loads((out / "co2.json").read_text(encoding="utf-8"))
    assert found["state"] == "done" and all(entry["holds"] for entry in found["checks"])
    assert set(found["figures"]) == {"readings"}
    assert summary["small"] and summary["card"]["torch"]


def test_a_folder_that_is_too_large_is_not_left_behind(tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / "large.whl").write_bytes(bytes(pack.MOST_BYTES))
    with pytest.raises(ValueError, match="it must have at most 60000000: fewer wheels help"):
        pack.pack(tmp_path / "folder", wheels)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["wheels"]
    with pytest.raises(FileExistsError):
        pack.pack(wheels, None)
