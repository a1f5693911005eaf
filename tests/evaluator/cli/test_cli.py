import io
import json
import logging
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

import evaluator
from evaluator.cli.app import main
from evaluator.core import verdict
from evaluator.core.errors import DataError, SubmissionError
from evaluator.data.predictions import Predictions
from evaluator.reports.evaluation import ScoreRequest, score
from evaluator.sandbox import record

ROOT = Path(evaluator.__file__).parents[1]


# eco2AI knows no country ZZ and does not start, which saves each run more than a second.
RUN = ("run", "--country", "ZZ")


def start(*arguments) -> subprocess.CompletedProcess:
    """A command as a process, as a person starts it."""
    command = [sys.executable, "-m", "evaluator", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


@pytest.fixture
def call(capfd) -> Iterator[Callable[..., subprocess.CompletedProcess]]:
    """The same in this process, where what it imports is imported once for all tests."""

    def call(*arguments) -> subprocess.CompletedProcess:
        capfd.readouterr()
        code = main(list(map(str, arguments)))
        return subprocess.CompletedProcess(arguments, code, *capfd.readouterr())

    yield call
    logging.disable(logging.NOTSET)  # --private disables it


def test_score_prints_the_table_and_writes_json(data_folder, output_folder, tmp_path):
    done = start("score", output_folder, "--data", data_folder, "--json", tmp_path / "scores.json")
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


def test_some_tasks_give_no_integral(call, make_data, make_output, tmp_path):
    folder = make_data(0, 5)
    done = call("score", make_output(folder), "--data", folder, "--json", tmp_path / "scores.json")
    document = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert done.returncode == 0 and "integral" not in document and document["open_part"] is None
    assert "Integral score: none" in done.stdout and document["encoders"] is None


def test_open_tasks_give_the_open_part(call, make_data, make_output, tmp_path):
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
    done = start(
        "run", tmp_path / "s.zip", "--data", data_folder, "--json", tmp_path / "s.json", "--keep", tmp_path / "kept"
    )
    assert done.returncode == 0, done.stderr
    assert "готово: ёж 36" in done.stderr and "готово" not in done.stdout
    assert (
        "CO2 (eco2AI, RU): " in done.stdout and "CO2 (counters): " in done.stdout and "Time of the run" in done.stdout
    )
    document = json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))
    assert document["tasks"]["4"]["score"] == 1.0 and document["run"]["seconds"] > 0
    assert (document["verdict"], document["fault"], document["counts"], document["findings"]) == ("OK", None, True, [])
    assert document["run"]["runner"] == "local" and "runner: local, as " in done.stderr
    assert document["run"]["carbon"]["counters"]["cpu_seconds"] > 0
    assert document["run"]["carbon"]["eco2ai"]["error"] is None
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["emission.csv", "log.txt", "work"]


@pytest.mark.parametrize("good", [True, False])
def test_nothing_is_left_whoever_keeps_the_frames(
    make_data, make_output, edit_json, tmp_path, monkeypatch, good
):  # fmt: skip
    """A logged exception does, for instance, as long as its record is kept."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    data = make_data(2)
    output = make_output(data)
    if not good:
        edit_json(output / "predictions.json", lambda document: document.update({"200": []}))
    kept: list[Any] = []
    image = Predictions.image

    def looked_at(predictions: Predictions, id: str) -> Image.Image:
        assert len(list(temporary.iterdir())) == 1
        kept.append(sys._getframe())
        return image(predictions, id)

    monkeypatch.setattr(Predictions, "image", looked_at)
    try:
        score(ScoreRequest(output=output, data=data), kept.append)
    except SubmissionError as error:
        kept.append(error)
    assert isinstance(kept[-1], SubmissionError) is not good
    assert not any(temporary.iterdir())


def test_submission_error_is_one_line_and_exit_1(data_folder, output_folder, edit_json, tmp_path):
    edit_json(output_folder / "predictions.json", lambda d: d.pop("0") and None)
    done = start("score", output_folder, "--data", data_folder, "--json", tmp_path / "scores.json")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("submission error: predictions.json: id '0': missing; allowed: every id")
    assert done.stderr.splitlines()[1:] == [f"verdict: BAD_OUTPUT; {verdict.BAD_OUTPUT.fix}"]
    document = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert (document["verdict"], document["fault"], document["findings_total"]) == ("BAD_OUTPUT", "team", 1)
    (finding,) = document["findings"]
    assert finding["rule"] == "missing-id" and finding["where"] == "predictions.json: id '0'"
    assert finding["found"] == "missing" and finding["allowed"] and finding["fix"]


def test_no_older_result_is_left_beside_a_failure(call, data_folder, output_folder, edit_json, tmp_path):
    results = [tmp_path / name for name in ("scores.json", "table.csv", "report.html")]
    for path in results:
        path.write_text("of an earlier run")
    edit_json(output_folder / "predictions.json", lambda d: d.pop("0") and None)
    done = call("score", output_folder, "--data", data_folder, "--json", results[0], "--table", results[1])
    assert done.returncode == 1
    assert json.loads(results[0].read_text(encoding="utf-8"))["verdict"] == "BAD_OUTPUT"
    assert not results[1].exists() and not results[2].exists()


def test_failing_run_is_exit_1_and_keeps_the_log(call, data_folder, make_submission, tmp_path):
    submission = make_submission("raise RuntimeError('CUDA умерла')")
    done = call(*RUN, submission, "--data", data_folder, "--json", tmp_path / "s.json", "--keep", tmp_path / "kept")
    assert done.returncode == 1
    document = json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))
    assert (document["verdict"], document["fault"], document["counts"]) == ("EXIT", "team", False)
    assert document["run"]["exit_code"] == 1 and "exit code 1" in document["findings"][0]["found"]
    *_, error, last = done.stderr.splitlines()
    assert error.startswith("submission error: entrypoint: ended with exit code 1")
    assert "its last line: RuntimeError: CUDA умерла; allowed: exit code 0" in error
    assert last == f"verdict: EXIT; {verdict.EXIT.fix}"
    assert "RuntimeError: CUDA умерла" in (tmp_path / "kept" / "log.txt").read_text(encoding="utf-8")


def test_timeout_is_exit_1(call, data_folder, make_submission, tmp_path):
    submission = make_submission("import time; time.sleep(600)")
    done = call(*RUN, submission, "--data", data_folder, "--timeout", "1.5", "--json", tmp_path / "s.json")
    assert done.returncode == 1 and "time limit of 1.5 s" in done.stderr and "Traceback" not in done.stderr


def test_data_error_and_wrong_usage_are_exit_2(call, data_folder, output_folder, tmp_path):
    (data_folder / "ground_truth.json").write_text('{"0": NaN}')
    done = start("score", output_folder, "--data", data_folder)
    assert done.returncode == 2
    assert done.stderr.startswith("data error: ground_truth.json: the number NaN; allowed: finite numbers")
    assert start("nonsense").returncode == 2
    assert call("score", output_folder).returncode == 2
    for option in (("--timeout", "-1"), ("--timeout", "nan"), ("--country", "Russia"), ("--time-zone", "../x")):
        done = call("run", tmp_path, "--data", data_folder, *option)
        assert done.returncode == 2 and "Traceback" not in done.stderr and option[0] in done.stderr


def test_own_fault_is_exit_3_with_a_traceback(data_folder, output_folder, monkeypatch, capsys, caplog):
    def broken(*_):
        raise RuntimeError("it broke")

    monkeypatch.setattr("evaluator.reports.evaluation.read_data", broken)
    assert main(["score", str(output_folder), "--data", str(data_folder)]) == 3
    assert "evaluator error: RuntimeError: it broke" in capsys.readouterr().err
    assert "Traceback" in caplog.text


def test_unscorable_task_is_exit_3_and_the_others_are_shown(data_folder, output_folder, monkeypatch, capsys, tmp_path):
    def missing() -> None:
        raise FileNotFoundError("encoders.safetensors is not here")

    monkeypatch.setattr("evaluator.metrics.nano.NanoEncoders.load", missing)
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


# --- hidden data ---

CANARY = "канарейка-4711"


@pytest.mark.parametrize(
    ("ending", "expected"),
    [
        ("raise ValueError(text)", "EXIT"),
        ("raise type(text.split()[0], (Exception,), {})(text)", "EXIT"),
        ("json.dump({text: []}, open('output/predictions.json', 'w'), ensure_ascii=False)", "BAD_OUTPUT"),
        ("os.symlink(text, 'output/' + text)", "BAD_OUTPUT"),
        ("json.dump(dict.fromkeys(inputs, [answer]), open('output/predictions.json', 'w'))", "OK"),
    ],
)
def test_hidden_data_does_not_leave(make_data, make_submission, edit_json, tmp_path, ending, expected):
    folder = make_data(0, 5)
    edit_json(folder / "input.json", lambda d: d["0"][0].update(content=f"{CANARY} вопрос?"))
    code = f"""
        import json, os, sys
        inputs = json.load(open("../input/input.json", encoding="utf-8"))
        text = inputs["0"][0]["content"]
        answer = {{"type": "text", "content": text}}
        print(text, text.encode().hex(), flush=True)
        print(text, file=sys.stderr, flush=True)
        {ending}
    """
    kept = tmp_path / "kept"
    done = start(
        *(*RUN, make_submission(code), "--data", folder, "--json", tmp_path / "s.json", "--private"),
        *("--runner", "local", "--keep", kept),
    )
    files = [path for path in (tmp_path / "s.json", tmp_path / "report.html") if path.exists()]
    shown = [path.read_text(encoding="utf-8") for path in files]
    for text in (done.stdout, done.stderr, *shown):
        assert CANARY not in text and CANARY.encode().hex() not in text and "4711" not in text
    document = json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))
    assert document["verdict"] == expected, done.stderr
    assert CANARY in (kept / "log.txt").read_text(encoding="utf-8"), "the organizer has the log"


# --- the other commands ---


def zipped(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for source in folder.iterdir():
            file.write(source, source.name)
    return path


def test_check(call, make_submission, tmp_path):
    archive = zipped(make_submission("print('x')"), tmp_path / "s.zip")
    done = call("check", archive, "--json", tmp_path / "s.json")
    assert (done.stdout.splitlines()[-1:] == ["OK"]) == (done.returncode == 0)
    document = json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))
    assert (done.returncode, document["verdict"], document["findings"]) == (0, "OK", []), done.stderr
    assert "of 15000000000 bytes packed" in done.stdout
    archive.write_bytes(archive.read_bytes()[:100])
    done = call("check", archive, "--json", tmp_path / "s.json")
    assert (done.stdout.splitlines()[-1:] == ["OK"]) == (done.returncode == 0)
    document = json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))
    assert (done.returncode, document["verdict"], document["fault"]) == (1, "BAD_ZIP", "team")
    assert document["counts"] is False
    assert document["findings"] and set(document["findings"][0]) == {"rule", "where", "found", "allowed", "fix"}
    done = call("check", tmp_path / "none.zip", "--json", tmp_path / "s.json")
    document = json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))
    assert (done.returncode, document["verdict"], document["fault"]) == (2, "INFRA", "organizer")


def test_shared_parameters(call, make_submission, tmp_path):
    """Exit code 0 where the rule is met, 1 where it is not or the submission is at fault, 2 for a wrong call."""
    folder, results = make_submission("pass"), tmp_path / "s.json"
    trunk = np.random.default_rng(0).normal(size=(10, 30))
    for task in ("c2c", "vqa"):
        save_file({"ствол": trunk, task: np.ones(150)}, folder / f"{task}.safetensors")
    done = call("shared-parameters", zipped(folder, tmp_path / "s.zip"), "--json", results)
    document = json.loads(results.read_text(encoding="utf-8"))
    assert (done.returncode, done.stderr, document["verdict"]) == (0, "", "OK")
    assert (document["met"], document["total"], document["shared"], document["share"]) == (True, 600, 300, 0.5)
    assert done.stdout.endswith("all tasks' models, 0.5000; at least 0.25 needed: met\n")
    done = call("shared-parameters", folder, "--json", results, "--share", "0.51")
    document = json.loads(results.read_text(encoding="utf-8"))
    assert (done.returncode, done.stderr, document["met"]) == (1, "", False)
    models = ["--model", "C2C=c2c.safetensors", "--model", "VQA=vqa.safetensors", "--model", "VQA=c2c.safetensors"]
    done = call("shared-parameters", folder, "--json", results, *models)
    document = json.loads(results.read_text(encoding="utf-8"))
    assert (done.returncode, document["shared"], document["models_from"]) == (0, 450, "--model")
    done = call("shared-parameters", folder, "--json", results, *models, "--model", "HTR=htr.safetensors")
    document = json.loads(results.read_text(encoding="utf-8"))
    assert (done.returncode, document["fault"]) == (2, "organizer")
    assert "'htr.safetensors' is no checkpoint" in done.stderr and "verdict" not in done.stderr
    done = call("shared-parameters", folder, "--competition", "fbc1", *models)
    assert done.returncode == 2 and "names no model of the task HTR" in done.stderr
    done = call("shared-parameters", folder, "--competition", "fbc2")
    assert done.returncode == 2 and "competition fbc2 state no shared_parameters: give a --share" in done.stderr
    (folder / "vqa.safetensors").write_bytes(b"")
    done = call("shared-parameters", folder, "--json", results)
    document = json.loads(results.read_text(encoding="utf-8"))
    assert (done.returncode, document["verdict"], document["fault"]) == (1, "BAD_WEIGHTS", "team")
    assert [(f["rule"], f["where"]) for f in document["findings"]] == [("checkpoint-damaged", "vqa.safetensors")]


def test_overrides_are_printed_and_recorded(call, make_data, make_submission, answering_code, tmp_path):
    done = call(
        *(*RUN, make_submission(answering_code), "--data", make_data(0), "--json", tmp_path / "s.json"),
        *("--limit", "memory=4GB", "--timeout", "100", "--record", tmp_path / "record.json"),
    )
    assert done.returncode == 0, done.stderr
    assert "limit: memory = 4000000000 instead of 100000000000" in done.stderr
    assert "limit: time = 100.0 instead of 18000.0" in done.stderr
    document = json.loads((tmp_path / "record.json").read_text(encoding="utf-8"))
    assert document["verdict"] == "OK" and document["limits"]["memory"] == 4 * 10**9
    assert {"s.json", "submission/run.py"} <= document["files"].keys() and document["scores"]["tasks"].keys() == {"0"}
    assert record.verify(tmp_path / "record.json") == []


def test_a_failed_run_has_a_record_too(call, make_data, make_submission, tmp_path):
    (tmp_path / "key").write_bytes(b"k" * 32)
    done = call(
        *(*RUN, make_submission("raise SystemExit(3)"), "--data", make_data(0), "--json", tmp_path / "s.json"),
        *("--record", tmp_path / "record.json", "--key-file", tmp_path / "key"),
    )
    document = json.loads((tmp_path / "record.json").read_text(encoding="utf-8"))
    assert done.returncode == 1 and document["verdict"] == "EXIT" and document["run"]["exit_code"] == 3
    assert call("verify", tmp_path / "record.json", "--key-file", tmp_path / "key").returncode == 0


def test_a_wrong_limit_is_the_callers_fault(call, make_data, make_submission, tmp_path):
    submission, folder = make_submission("print('x')"), make_data(0)
    done = call(*RUN, submission, "--data", folder, "--json", tmp_path / "s.json", "--limit", "ram=1GB")
    document = json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))
    assert (done.returncode, document["verdict"], document["fault"]) == (2, "INFRA", "organizer")
    assert "'ram' is no limit" in document["findings"][0]["found"]


# --- which runner ---


def make_dry(target: str, *settings: str) -> str:
    """The commands of a target, which are not run."""
    # With a PYTHON make looks for none, which takes the better part of a second where pyenv has a say in it.
    command = ["make", "-n", target, f"PYTHON={sys.executable}", *settings]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_make_evaluate_alone_falls_back_where_an_image_is_missing():
    assert '--runner "auto"' in make_dry("evaluate")
    assert '--runner "engine"' in make_dry("test-submission") == make_dry("test-submission", "RUNNER=auto")
    for runner in ("docker", "local"):
        assert f'--runner "{runner}"' in make_dry("test-submission", f"RUNNER={runner}")


@pytest.mark.parametrize("runner", ["auto", "engine"])
def test_without_an_engine_the_table_is_followed_by_what_it_is_worth(
    call, make_data, make_submission, answering_code, tmp_path, monkeypatch, runner
):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    options = ["--data", make_data(0), "--json", tmp_path / "s.json", "--runner", runner, "--limit", "gpus=0"]
    done = call(*RUN, make_submission(answering_code), *options)
    assert done.returncode == 0, done.stderr
    after = done.stdout.partition("Integral score")[2]
    assert "\nrunner: local, as no Docker engine answers: these scores are of a run without the image" in after


@pytest.mark.docker
def test_with_an_engine_a_missing_image_is_the_verdict(call, make_data, make_submission, answering_code, tmp_path):
    folder = make_submission(answering_code)
    (folder / "metadata.json").write_text('{"image": "fbc2-test/none:1", "entrypoint": "python3 run.py"}')
    options = ["--data", make_data(0), "--json", tmp_path / "s.json", "--limit", "gpus=0"]
    done = call(*RUN, folder, *options, "--runner", "engine")
    assert done.returncode == 1 and "verdict: BAD_IMAGE" in done.stderr
    assert json.loads((tmp_path / "s.json").read_text())["verdict"] == "BAD_IMAGE"
    done = call(*RUN, folder, *options, "--runner", "auto")
    assert done.returncode == 0 and "runner: local, as the Docker engine does not have the image" in done.stderr
    assert "\nrunner: local, as the Docker engine does not have" in done.stdout.partition("Integral score")[2]


@pytest.mark.docker
def test_with_an_engine_and_the_image_both_take_it(call, make_data, make_submission, tmp_path, base_image):
    folder = make_submission("raise SystemExit(7)")
    (folder / "metadata.json").write_text(json.dumps({"image": base_image, "entrypoint": "python3 run.py"}))
    options = ["--data", make_data(0), "--json", tmp_path / "s.json", "--limit", "gpus=0"]
    for runner in ("auto", "engine"):
        done = call(*RUN, folder, *options, "--runner", runner)
        document = json.loads((tmp_path / "s.json").read_text())
        assert (document["verdict"], document["run"]["runner"], document["run"]["exit_code"]) == ("EXIT", "docker", 7)
        assert "runner: local" not in done.stdout + done.stderr


def test_a_grey_image_of_16_bits_is_a_note_in_every_result(call, make_data, make_output, tmp_path):
    data = make_data(2)
    output = make_output(data)
    image = Image.fromarray(np.full((64, 64), 30000, dtype=np.uint16))
    image.save(output / "images" / "image_200.jpg", "PNG")
    for private in (False, True):
        options = ["--report-private"] if private else []
        done = call("score", output, "--data", data, "--json", tmp_path / "s.json", *options)
        document = json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))
        assert (done.returncode, document["verdict"], document["findings_total"]) == (0, "OK", 1), done.stderr
        assert document["findings"][0]["rule"] == "image-depth"
        assert "note: predictions.json: id '200': grey with 16 bits in 1 of the images; allowed: " in done.stdout
        page = (tmp_path / "report.html").read_text(encoding="utf-8")
        assert "grey with 16 bits in 1 of the images" in page
        assert ("predictions.json: id" in page) is not private


def test_a_private_run_that_breaks_says_nothing_of_what_it_read(
    make_data, make_submission, tmp_path, monkeypatch, capsys, caplog
):
    def broken(*_):
        error = ValueError("secret")
        error.add_note("a library's secret note")
        raise error

    monkeypatch.setattr("evaluator.reports.evaluation.read_data", broken)
    command = ["run", make_submission("pass"), "--data", make_data(2), "--json", tmp_path / "s.json", "--private"]
    assert main(list(map(str, command))) == 3
    printed = capsys.readouterr()
    assert "evaluator error: ValueError, in evaluator/reports/evaluation.py, line " in printed.err
    assert "secret" not in printed.out + printed.err + caplog.text + (tmp_path / "s.json").read_text()


def private_run(call, tmp_path, *arguments) -> tuple[list[dict[str, Any]], str]:
    """The findings of a private run that fails, and all that it shows."""
    (tmp_path / "s.json").unlink(missing_ok=True)
    done = call(*RUN, *arguments, "--json", tmp_path / "s.json", "--private")
    text = (tmp_path / "s.json").read_text(encoding="utf-8")
    assert done.returncode in (2, 3)
    return json.loads(text)["findings"], done.stdout + done.stderr + text


def test_a_private_run_says_why_the_machine_or_the_organizer_failed(
    call, make_data, make_submission, tmp_path, monkeypatch
):
    submission, data = make_submission("pass"), make_data(5)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no-engine")
    monkeypatch.setattr("evaluator.sandbox.docker.RETRY_SECONDS", 0.0)
    cases = [
        ("no Docker engine answers", submission, "--data", data, "--runner", "docker"),
        (f"{tmp_path}/deleted.zip does not exist", tmp_path / "deleted.zip", "--data", data),
        (f"data folder {tmp_path}/none does not exist", submission, "--data", tmp_path / "none"),
        (f"assets folder {tmp_path}/none does not exist", submission, "--data", data, "--assets", tmp_path / "none"),
    ]
    for why, *arguments in cases:
        (finding,), shown = private_run(call, tmp_path, *arguments)
        assert why in finding["found"] and why in shown

    def full(*_: object) -> None:
        with open("/dev/full", "w") as file:
            file.write("x")

    with monkeypatch.context() as patch:
        patch.setattr("evaluator.sandbox.launch.make_folders", full)
        (finding,), _ = private_run(call, tmp_path, submission, "--data", data)
    assert finding["found"].startswith("OSError: No space left on device, in evaluator/sandbox/launch.py, line ")

    (data / "input.json").rename(data / f"inputs-{CANARY}.json")
    (finding,), shown = private_run(call, tmp_path, submission, "--data", data)
    assert (finding["where"], finding["found"]) == ("input.json", "the file does not exist") and CANARY not in shown


def test_a_private_run_says_nothing_of_data_that_are_wrong(call, make_data, make_submission, edit_json, tmp_path):
    submission, data = make_submission("pass"), make_data(2, 5)
    for name in ("ground_truth.json", "input.json", "sample_ids.json"):
        whole = (data / name).read_text(encoding="utf-8")
        for broken in (
            whole[:-1] + f', "{CANARY}": NaN, "{CANARY}": 1}}',
            f'{{"{CANARY}": {CANARY}}}',
            json.dumps({CANARY: [{"type": CANARY, "content": f"images/{CANARY}.png"}]}),
        ):
            (data / name).write_text(broken, encoding="utf-8")
            findings, shown = private_run(call, tmp_path, submission, "--data", data)
            assert CANARY not in shown and all(finding["found"].endswith("of this kind") for finding in findings)
        (data / name).write_text(whole, encoding="utf-8")

    def rename(document: Any) -> None:
        for entry in (entry for entries in document.values() for entry in entries if entry["type"] == "image"):
            entry["content"] = f"{CANARY}.png"

    edit_json(data / "ground_truth.json", rename)
    findings, shown = private_run(call, tmp_path, submission, "--data", data)
    assert CANARY not in shown and "file-missing" in {finding["rule"] for finding in findings}


def test_a_task_that_cannot_be_scored_in_private_says_where_and_not_what(
    call, make_data, make_submission, answering_code, monkeypatch, tmp_path
):
    def broken(*_):
        raise ValueError(CANARY)

    def lacking(*_):
        raise DataError("the encoders are not those of the lock file")

    arguments = make_submission(answering_code), "--data", make_data(5), "--runner", "local"
    monkeypatch.setattr("evaluator.scoring.score._replicates", broken)
    ((finding,), shown) = private_run(call, tmp_path, *arguments)
    assert CANARY not in shown and finding["where"] == "TRitW"
    assert finding["found"].startswith("cannot be scored: ValueError, in evaluator/scoring/score.py, line ")
    monkeypatch.setattr("evaluator.scoring.score._replicates", lacking)
    ((finding,), shown) = private_run(call, tmp_path, *arguments)
    assert finding["found"] == "cannot be scored: the encoders are not those of the lock file"


def test_to_whoever_called_wrongly_no_verdict_matters(make_data, make_submission, tmp_path, capsys):
    for options in ([], ["--private"]):
        command = ["run", tmp_path / "nowhere", "--data", tmp_path / "none", "--json", tmp_path / "s.json", *options]
        assert main(list(map(str, command))) == 2
        printed = capsys.readouterr().err
        assert printed.startswith("data error: ") and "verdict:" not in printed


def test_a_private_run_says_it_without_ids(call, make_data, make_submission, tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(np.full((32, 32), 30000, dtype=np.uint16)).save(buffer, "PNG")
    code = f"""
        import json, os
        os.makedirs("output/images", exist_ok=True)
        with open("output/images/0.png", "wb") as file:
            file.write(bytes.fromhex("{buffer.getvalue().hex()}"))
        ids = json.load(open("../input/input.json", encoding="utf-8"))
        answers = {{id: [{{"type": "image", "content": "images/0.png"}}] for id in ids}}
        json.dump(answers, open("output/predictions.json", "w", encoding="utf-8"))
    """
    done = call(
        *(*RUN, make_submission(code), "--data", make_data(2), "--json", tmp_path / "s.json", "--private"),
        *("--runner", "local"),
    )
    document = json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))
    assert (done.returncode, document["findings"][0]["where"]) == (0, ""), done.stderr
    assert document["findings"][0]["found"] == "grey with 16 bits in 3 of the images"
    for text in (done.stdout, (tmp_path / "s.json").read_text(encoding="utf-8")):
        assert "grey with 16 bits" in text and "'200'" not in text
