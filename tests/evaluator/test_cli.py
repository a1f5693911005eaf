import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import evaluator
from evaluator.__main__ import main

ROOT = Path(evaluator.__file__).parents[1]


def call(*arguments, cwd=ROOT) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "evaluator", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)


def test_score_prints_the_table_and_writes_json(data_folder, output_folder, tmp_path):
    done = call("score", output_folder, "--data", data_folder, "--json", tmp_path / "scores.json")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Integral score: " in done.stdout and done.stdout.count("\n") >= 15
    document = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert len(document["tasks"]) == 12 and 0 < document["integral"] < 1
    assert document["encoders"] == "encoders: nano, not comparable with the leaderboard"
    assert document["tasks"]["2"]["encoders"] == document["encoders"] and document["encoders"] in done.stdout
    task = document["tasks"]["1"]
    assert (task["name"], task["score"], task["n"], task["baseline"], task["threshold"]) == (
        "MathQA",
        1.0,
        3,
        0.31,
        0.25,
    )
    assert task["ids"] == {"100": 1.0, "101": 1.0, "102": 1.0}


def test_some_tasks_give_no_integral(make_data, make_output, tmp_path):
    folder = make_data(0, 5)
    done = call("score", make_output(folder), "--data", folder, "--json", tmp_path / "scores.json")
    document = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert done.returncode == 0 and "integral" not in document and document["open_part"] is None
    assert "Integral score: none" in done.stdout and document["encoders"] is None


def test_open_tasks_give_the_open_part(make_data, make_output, tmp_path):
    folder = make_data(*range(6))
    done = call("score", make_output(folder), "--data", folder, "--json", tmp_path / "scores.json")
    document = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert "integral" not in document
    assert document["open_part"] == pytest.approx(sum(task["score"] for task in document["tasks"].values()) / 15)
    assert "Open part of the integral score" in done.stdout


def test_run_does_everything(data_folder, make_submission, answering_code, tmp_path):
    folder = make_submission(answering_code)
    with zipfile.ZipFile(tmp_path / "s.zip", "w") as file:
        for path in folder.iterdir():
            file.write(path, path.name)
    done = call(
        "run", tmp_path / "s.zip", "--data", data_folder, "--json", tmp_path / "s.json", "--keep", tmp_path / "kept"
    )
    assert done.returncode == 0, done.stderr
    assert "готово: ёж 36" in done.stderr and "готово" not in done.stdout
    assert (
        "CO2 (eco2AI, RU): " in done.stdout and "CO2 (counters): " in done.stdout and "Time of the run" in done.stdout
    )
    document = json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))
    assert document["tasks"]["4"]["score"] == 1.0 and document["run"]["seconds"] > 0
    assert document["run"]["carbon"]["counters"]["cpu_seconds"] > 0
    assert document["run"]["carbon"]["eco2ai"]["error"] is None
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["emission.csv", "log.txt", "work"]


def test_submission_error_is_one_line_and_exit_1(data_folder, output_folder, edit_json, tmp_path):
    edit_json(output_folder / "predictions.json", lambda d: d.pop("0") and None)
    done = call("score", output_folder, "--data", data_folder, "--json", tmp_path / "scores.json")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("submission error: predictions.json: id '0': missing; allowed: every id")
    assert done.stderr.count("\n") == 1
    document = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert (document["verdict"], document["fault"], document["findings_total"]) == ("BAD_OUTPUT", "team", 1)
    (finding,) = document["findings"]
    assert finding["rule"] == "missing-id" and finding["where"] == "predictions.json: id '0'"
    assert finding["found"] == "missing" and finding["allowed"] and finding["fix"]


def test_no_older_result_is_left_beside_a_failure(data_folder, output_folder, edit_json, tmp_path):
    results = [tmp_path / name for name in ("scores.json", "table.csv", "report.html")]
    for path in results:
        path.write_text("of an earlier run")
    edit_json(output_folder / "predictions.json", lambda d: d.pop("0") and None)
    done = call("score", output_folder, "--data", data_folder, "--json", results[0], "--table", results[1])
    assert done.returncode == 1
    assert json.loads(results[0].read_text(encoding="utf-8"))["verdict"] == "BAD_OUTPUT"
    assert not results[1].exists() and not results[2].exists()


def test_failing_run_is_exit_1_and_keeps_the_log(data_folder, make_submission, tmp_path):
    submission = make_submission("raise RuntimeError('CUDA умерла')")
    done = call("run", submission, "--data", data_folder, "--json", tmp_path / "s.json", "--keep", tmp_path / "kept")
    assert done.returncode == 1
    document = json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))
    assert document["fault"] == "team" and "exit code 1" in document["findings"][0]["found"]
    last = done.stderr.splitlines()[-1]
    assert last.startswith("submission error: the entrypoint ended with exit code 1")
    assert last.endswith("its last line: RuntimeError: CUDA умерла")
    assert "RuntimeError: CUDA умерла" in (tmp_path / "kept" / "log.txt").read_text(encoding="utf-8")


def test_timeout_is_exit_1(data_folder, make_submission, tmp_path):
    submission = make_submission("import time; time.sleep(600)")
    done = call("run", submission, "--data", data_folder, "--timeout", "1.5", "--json", tmp_path / "s.json")
    assert done.returncode == 1 and "time limit of 1.5 s" in done.stderr and "Traceback" not in done.stderr


def test_data_error_and_wrong_usage_are_exit_2(data_folder, output_folder, make_submission, tmp_path):
    (data_folder / "ground_truth.json").write_text('{"0": NaN}')
    done = call("score", output_folder, "--data", data_folder)
    assert done.returncode == 2
    assert done.stderr.startswith("data error: ground_truth.json: the number NaN; allowed: finite numbers")
    assert call("score", output_folder).returncode == 2
    assert call("nonsense").returncode == 2
    for option in (("--timeout", "-1"), ("--timeout", "nan"), ("--country", "Russia")):
        done = call("run", tmp_path, "--data", data_folder, *option)
        assert done.returncode == 2 and "Traceback" not in done.stderr and option[0] in done.stderr


def test_own_fault_is_exit_3_with_a_traceback(data_folder, output_folder, monkeypatch, capsys, caplog):
    def broken(*_):
        raise RuntimeError("it broke")

    monkeypatch.setattr("evaluator.contract.read_data", broken)
    assert main(["score", str(output_folder), "--data", str(data_folder)]) == 3
    assert "evaluator error: RuntimeError: it broke" in capsys.readouterr().err
    assert "Traceback" in caplog.text


def test_unscorable_task_is_exit_3_and_the_others_are_shown(data_folder, output_folder, monkeypatch, capsys, tmp_path):
    def missing(_) -> None:
        raise FileNotFoundError("encoders.safetensors is not here")

    monkeypatch.setattr("evaluator.assets.load_encoders", missing)
    assert main(["score", str(output_folder), "--data", str(data_folder), "--json", str(tmp_path / "s.json")]) == 3
    printed = capsys.readouterr()
    assert "evaluator error: ImageGeneration: cannot be scored: FileNotFoundError: encoders" in printed.err
    assert "TextQA" in printed.out and "error" in printed.out
    document = json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))
    assert document["tasks"]["0"]["score"] == pytest.approx(1) and document["tasks"]["2"]["score"] is None


def test_json_path_is_checked_before_the_work(data_folder, output_folder, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "scores.json"):
        code = main(["score", str(output_folder), "--data", str(data_folder), "--json", str(path)])
        streams = capsys.readouterr()
        assert code == 2 and streams.err.startswith("data error: --json") and not streams.out
