"""The entrypoint as the leaderboard runs it: a process in the submission's folder, `../input` in, `./output` out."""

import contextlib
import io
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import yaml
from PIL import Image

import run
from budget import Budget
from rudolph.settings import Settings
from tests.support import forked

SUBMISSION = Path(run.__file__).parent
FILES = (
    "run.py", "budget.py", "cores.py", "resume.py", "contract.py", "contract_fbc1.py", "config.yaml", "metadata.json",
    "rudolph",
)  # fmt: skip

ASKED: dict[str, list[dict[str, str]]] = {
    "12": [{"type": "text", "content": "Какого цвета «ёжик» 🦔?"}, {"type": "image", "content": "images/a.jpg"}],
    "3": [{"type": "text", "content": "Реши уравнение: 3x + 7 = 22"}, {"type": "text", "content": "a) -4; b) 5"}],
    "0": [{"type": "image", "content": "images/ёж 🦔.png"}],
    "7": [{"type": "text", "content": ""}],
    "8": [],
    "missing": [{"type": "text", "content": "Что это?"}, {"type": "image", "content": "images/нет.jpg"}],
    "corrupt": [{"type": "text", "content": "Что это?"}, {"type": "image", "content": "images/broken.jpg"}],
    "odd": [{"type": "video", "content": "x"}, {"type": "text", "content": "Нарисуй красный шар"}],
}
WITH_IMAGE = {"12", "0", "missing", "corrupt"}
WITH_OPTIONS = {"3"}


@pytest.fixture
def place(tmp_path, model_folder) -> Path:
    return make_place(tmp_path, model_folder)


def make_place(folder: Path, model_folder: Path) -> Path:
    """`<folder>/input` and `<folder>/submission`, with the tiny model as the shipped one."""
    submission = folder / "submission"
    submission.mkdir()
    for name in FILES:
        copy = shutil.copytree if (SUBMISSION / name).is_dir() else shutil.copy
        copy(SUBMISSION / name, submission / name)
    shutil.copytree(model_folder, submission / "weights" / "nano")
    images = folder / "input" / "images"
    images.mkdir(parents=True)
    Image.new("RGB", (60, 40), "red").save(images / "a.jpg")
    Image.new("RGBA", (30, 50), (0, 0, 255, 100)).save(images / "ёж 🦔.png")
    (images / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut")
    (folder / "input" / "input.json").write_text(json.dumps(ASKED, ensure_ascii=False), encoding="utf-8")
    return folder


def launch(place: Path, *options: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(place), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "run.py", *options], cwd=place / "submission", env=environment, capture_output=True,
        text=True, encoding="utf-8", timeout=300, check=False,
    )  # fmt: skip


def answers(place: Path, output: str = "submission/output") -> dict[str, list[dict[str, str]]]:
    return json.loads((place / output / "predictions.json").read_text(encoding="utf-8"))


def check_contract(folder: Path, predictions: dict[str, list[dict[str, str]]]) -> None:
    assert list(predictions) == list(ASKED)
    for id, entries in predictions.items():
        assert entries
        for entry in entries:
            assert entry.keys() == {"type", "content"} and entry["content"]
            if entry["type"] == "image":
                assert entry["content"] == f"images/image_{id}.jpg"
                with Image.open(folder / entry["content"]) as image:
                    assert image.format == "JPEG" and image.size == (32, 32)
    named = {e["content"] for entries in predictions.values() for e in entries if e["type"] == "image"}
    written = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert written == named | {"predictions.json"}


def test_as_the_leaderboard_runs_it(place):
    """Defaults only; every fault of the input costs nothing but itself, and the log says which."""
    done = launch(place)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    predictions = answers(place)
    check_contract(place / "submission" / "output", predictions)
    for id in WITH_IMAGE:
        assert [entry["type"] for entry in predictions[id]] == ["text"]
    for id in ASKED.keys() - WITH_IMAGE:  # both, so that a wrong route cannot make the attempt invalid
        assert sorted(entry["type"] for entry in predictions[id]) == ["image", "text"]
    assert predictions["missing"] == predictions["corrupt"]  # both from the same text alone
    assert "threads: OMP_NUM_THREADS=1; GOMP_SPINCOUNT=" in done.stderr
    for named in ("id 'missing'", "id 'corrupt'", "id 'odd'", "8 entries"):
        assert named in done.stderr
    assert done.stderr.count("WARNING") == 3 and "Traceback" not in done.stderr
    assert "it/s" not in done.stderr and "%|" not in done.stderr  # no bars in a log


def test_a_run_imports_neither_transformers_nor_torchs_compiler(place):
    """Each takes longer than all the rest; and torch itself comes after the settings are read. What is imported is left
    alone by the garbage collector.
    """
    code = (
        "import gc, sys, run\n"
        "read = run.read_settings\n"
        "def read_settings(*given):\n"
        "    settings = read(*given)\n"
        "    print('torch' in sys.modules)\n"
        "    return settings\n"
        "run.read_settings = read_settings\n"
        "print(run.main(['--device=cpu'], own_process=True))\n"
        "print(gc.get_freeze_count() > 100_000, gc.isenabled())\n"
        "print('torch' in sys.modules, *{'transformers', 'torch._dynamo', 'sympy'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=place / "submission", capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": ""}, check=True)  # fmt: skip
    assert done.stdout.split("\n") == ["False", "0", "True True", "True", ""]


def test_seed_batch_size_and_both_routes(place):
    """From another folder, with a config of its own: the same seed gives the same files for any batch size."""
    settings = yaml.safe_load((SUBMISSION / "config.yaml").read_text(encoding="utf-8"))
    settings |= {"route": "both", "text_sampling": {"top_k": 0, "temperature": 2.0}, "model": "/nowhere"}
    (place / "mine.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    common = [
        f"--input={place / 'input'}", f"--model={place / 'submission' / 'weights' / 'nano'}", "--device=cpu",
        f"--config={place / 'mine.yaml'}",
    ]  # fmt: skip
    for name, options in {
        "one": ["--seed=5", "--batch-size=1"],
        "three": ["--seed=5", "--batch-size=3"],
        "other": ["--seed=6"],
    }.items():
        assert run.main([*common, *options, f"--output={place / name}"]) == 0
        check_contract(place / name, answers(place, name))
    files = {
        name: {str(p.relative_to(place / name)): p.read_bytes() for p in (place / name).rglob("*") if p.is_file()}
        for name in ("one", "three", "other")
    }
    assert files["one"] == files["three"]
    assert files["one"].keys() == files["other"].keys()
    assert all(files["one"][name] != files["other"][name] for name in ("predictions.json", "images/image_3.jpg"))
    for id, entries in answers(place, "one").items():
        assert [entry["type"] for entry in entries] == (["text"] if id in WITH_IMAGE else ["text", "image"])


@pytest.mark.parametrize(("bias", "type"), [(60.0, "text"), (-60.0, "image")])
def test_the_model_decides_where_the_form_does_not(place, tiny_model, bias, type):
    model = tiny_model()
    model.to_logits[1].bias.data[0] = bias
    model.save_pretrained(place / "biased")
    for name in ("bpe.model", "vqgan"):
        (place / "biased" / name).symlink_to(place / "submission" / "weights" / "nano" / name)
    options = [f"--input={place / 'input'}", f"--output={place / 'out'}", f"--model={place / 'biased'}"]
    environment = dict(os.environ)
    assert run.main([*options, "--device=cpu", "--verbose"]) == 0
    assert dict(os.environ) == environment, "the caller's environment is not main()'s to change"
    for id, entries in answers(place, "out").items():
        assert entries[0]["type"] == ("text" if id in WITH_IMAGE | WITH_OPTIONS else type)


def test_a_model_folder_without_a_vqgan_takes_the_settings_one(place, tiny_model):
    """Two models share one; what the model's own folder has goes before it."""
    tiny_model().save_pretrained(place / "submission" / "without")
    (place / "submission" / "without" / "bpe.model").symlink_to(place / "submission" / "weights" / "nano" / "bpe.model")
    config = place / "submission" / "config.yaml"
    for stated, code in (("null", 1), ("weights/nano/vqgan", 0), ("weights/none", 1)):
        config.write_text(f"model: without\nvqgan: {stated}\n", encoding="utf-8")
        done = launch(place)
        assert done.returncode == code, done.stderr
        assert ("without lacks vqgan; it must hold" in done.stderr) == bool(code), done.stderr
    assert f"and {place / 'submission' / 'weights' / 'none'} does not exist" in done.stderr
    config.write_text("vqgan: weights/none\n", encoding="utf-8")
    assert launch(place).returncode == 0


@pytest.mark.parametrize("content", [None, '{"0": [', "[]"])
def test_bad_input_is_one_line_and_code_2(place, content):
    path = place / "input" / "input.json"
    path.unlink()
    if content is not None:
        path.write_text(content, encoding="utf-8")
    done = launch(place)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1 and "ERROR ../input/input.json: " in done.stderr
    assert not (place / "submission" / "output").exists()


@pytest.mark.parametrize(
    ("options", "config", "code", "named"),
    [
        (["--model=nowhere"], "", 1, "model folder nowhere does not exist"),
        ([], "model: weights/other", 1, "weights/other does not exist"),
        (["--output=occupied"], "", 1, "output folder occupied"),
        (["--batch-size=0"], "", 2, "command line: batch_size is 0; it must be auto, or a whole number, 1 or more"),
        ([], "router: both", 2, "config.yaml: the settings: key 'router' is unknown; did you mean route? allowed are"),
        ([], "route: [", 2, "config.yaml: is not YAML in UTF-8"),
        (["--config=nowhere.yaml"], "", 2, "nowhere.yaml: cannot be read: No such file"),
    ],
)
def test_foreseen_problems_are_one_line(place, monkeypatch, caplog, options, config, code, named):
    monkeypatch.chdir(place / "submission")
    Path("occupied").write_text("a file", encoding="utf-8")
    Path("config.yaml").write_text(config, encoding="utf-8")
    (place / "input" / "input.json").write_text('{"0": []}', encoding="utf-8")
    monkeypatch.setattr(run.logging, "basicConfig", lambda **_: None)  # it would take the log away from pytest
    if not any(option.startswith("--config") for option in options):
        options = [*options, "--config=config.yaml"]
    assert run.main(options) == code
    (record,) = caplog.records
    assert record.levelname == "ERROR" and named in record.message and "\n" not in record.message
    assert not list(place.rglob("predictions.json"))


def test_wrong_option_is_code_2(capsys):
    with pytest.raises(SystemExit) as stop:
        run.main(["--device=tpu"])
    assert stop.value.code == 2
    assert "'auto', 'cpu', 'cuda'" in capsys.readouterr().err.replace("auto, cpu, cuda", "'auto', 'cpu', 'cuda'")


def test_help_documents_defaults_and_exit_codes(capsys):
    with pytest.raises(SystemExit):
        run.main(["--help"])
    shown = capsys.readouterr().out
    for part in ("../input", "output", "exit codes:", "2    the input"):
        assert part in shown


def test_shipped_files():
    assert json.loads((SUBMISSION / "metadata.json").read_text()) == {
        "image": "fusionbrain/fbc2:latest",
        "entrypoint": "python3 run.py",
    }
    # The file and the defaults in the code say the same, but that nano answers alike on every machine, and that it is
    # quick and weak enough to draw more than once and to read long passages in windows.
    shipped = Settings.from_dict(yaml.safe_load((SUBMISSION / "config.yaml").read_text(encoding="utf-8")))
    assert shipped == Settings(dtype="float32", image_candidates=16, windows=3)


# --- Runs that are stopped, or short of time ---


def many(place: Path) -> list[str]:
    """Asks so much that a run of one example at a time takes a second or two after the model is loaded."""
    asked = {f"{number}": [{"type": "text", "content": f"Нарисуй шар {number}"}] for number in range(20)}
    asked |= {"ё": [{"type": "text", "content": "Что это?"}, {"type": "image", "content": "images/a.jpg"}]}
    (place / "input" / "input.json").write_text(json.dumps(asked, ensure_ascii=False), encoding="utf-8")
    settings = yaml.safe_load((SUBMISSION / "config.yaml").read_text(encoding="utf-8"))
    (place / "submission" / "few.yaml").write_text(yaml.safe_dump(settings | {"image_candidates": 4}), encoding="utf-8")
    return list(asked)


def options_of(place: Path, *more: str) -> list[str]:
    folder = place / "submission"
    return [
        f"--input={place / 'input'}", f"--model={folder / 'weights' / 'nano'}", f"--config={folder / 'few.yaml'}",
        f"--output={folder / 'output'}", *more,
    ]  # fmt: skip


def start(place: Path, before: Callable[[], object] | None = None) -> BaseProcess:
    """A run as a process of its own, one example at a time, in which `before` is called first."""
    job = (options_of(place, "--batch-size=1"), before)
    return forked.start(run_in_own_process, *job, folder=place / "submission", log=place / "log")


def run_in_own_process(options: list[str], before: Callable[[], object] | None) -> int:
    if before is not None:
        before()
    return run.main(options, own_process=True)


def run_here(place: Path, *more: str) -> str:
    """A run to its end in this process; returns its log."""
    with contextlib.redirect_stderr(io.StringIO()) as log:
        assert run.main(options_of(place, *more)) == 0
    return log.getvalue()


def wait_for(process: BaseProcess, place: Path, records: int) -> None:
    journal = place / "submission" / "output" / ".resume.jsonl"
    end = time.monotonic() + 300
    while time.monotonic() < end and process.is_alive():
        if journal.exists() and journal.read_bytes().count(b"\n") > records:
            return
        time.sleep(0.01)
    process.kill()
    raise AssertionError(f"{journal} has not got {records} records: {(place / 'log').read_text(encoding='utf-8')}")


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, model_folder) -> dict[str, bytes]:
    """What a run that is not stopped writes."""
    place = make_place(tmp_path_factory.mktemp("whole"), model_folder)
    many(place)
    run_here(place, "--batch-size=1")
    return files_of(place / "submission" / "output")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_stopped_runs_are_scoreable_and_go_on(place, whole, number):
    """Stopped again and again, the run ends with the files of one that was not, and is complete at any moment."""
    ids = many(place)
    output = place / "submission" / "output"
    for records in (0, 13, 30):
        process = start(place)
        wait_for(process, place, records)
        os.kill(process.pid, number)
        assert forked.ended(process) == (-9 if number == signal.SIGKILL else 143)
        if records:  # stopped at once, there may be nothing yet
            stopped = answers(place)
            assert list(stopped) == ids
            for entries in stopped.values():
                assert entries and all((output / e["content"]).is_file() for e in entries if e["type"] == "image")
    assert "going on with an earlier run" in run_here(place, "--batch-size=1")
    assert files_of(output) == whole


def test_what_an_earlier_run_left_is_dropped_where_it_does_not_fit(place):
    many(place)
    process = start(place)
    wait_for(process, place, 13)
    process.kill()
    forked.ended(process)
    assert "starting anew" in run_here(place, "--seed=7")
    run_here(place, "--seed=7", f"--output={place / 'whole'}")
    assert files_of(place / "submission" / "output") == files_of(place / "whole")


def test_a_run_goes_on_wherever_its_input_lies(place, whole):
    many(place)
    process = start(place)
    wait_for(process, place, 13)
    process.kill()
    forked.ended(process)
    (place / "input").rename(place / "moved")
    log = run_here(place, "--batch-size=1", f"--input={place / 'moved'}")
    assert "going on with an earlier run" in log
    assert files_of(place / "submission" / "output") == whole


def test_one_example_that_does_not_fit_is_said_in_a_line(place, monkeypatch, capsys):
    from rudolph.answer import Rudolph

    def write(*_):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(Rudolph, "_write", write)
    folder = place / "submission"
    options = [f"--input={place / 'input'}", f"--output={place / 'out'}", f"--model={folder / 'weights' / 'nano'}"]
    assert run.main(options) == 1
    assert "not even one example at a time fits into the device's memory: [enforce fail" in capsys.readouterr().err


def short_of_time(ends: str) -> None:
    """Budgets from now on have no end but one, which comes when a few answers are there, on a machine of any speed."""

    def seconds(_: Budget) -> float:
        path = Path("output/.resume.jsonl")
        return 0.0 if path.exists() and path.read_bytes().count(b"\n") > 3 else 0.05

    for name in ("left", "last_moment"):
        setattr(Budget, name, seconds if name == ends else lambda _: math.inf)


@pytest.mark.parametrize(
    ("ends", "said"), [("left", "no time left"), ("last_moment", "the budget is used up in the middle of a step")]
)
def test_a_budget_that_is_too_short_leaves_placeholders(place, ends, said):
    """The time for work, or all of it, is over."""
    ids = many(place)
    code = forked.ended(start(place, partial(short_of_time, ends)))
    log = (place / "log").read_text(encoding="utf-8")
    assert code == 0 and said in log, log
    predictions = answers(place)
    assert list(predictions) == ids
    assert all(sorted(e["type"] for e in predictions[id]) == ["image", "text"] for id in ids if id != "ё")


@pytest.mark.parametrize("budget", ["soon", "0", "-1s", "5 days"])
def test_a_budget_that_is_none(place, budget):
    done = launch(place, f"--budget={budget}")
    assert done.returncode == 2
    assert f"--budget: '{budget}' is no time; it must be a number above 0 with s, min or h" in done.stderr
