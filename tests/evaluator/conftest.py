"""A small data folder with all twelve tasks, submissions that are real programs, and a browser."""

import json
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.browser import chromium
from tests.support.data import build_data, build_output

# Two stages by epoch, the second final; and a run that is no training. In a process of its own: eco2AI and its
# scheduler leave threads and warnings behind.
TRACKED = """
import functools, sys, time, warnings
warnings.simplefilter("ignore")
import eco2ai.emission_track as eco
from eco2ai.tools import tools_cpu
tools_cpu.get_cpu_info = functools.cache(tools_cpu.get_cpu_info)  # starts a Python for each tracker
eco.get_params = dict
eco.set_params = lambda **_: None  # not into site-packages
def tracker(description, file):
    return eco.Tracker(project_name='Проект «Ёж», "1,5"', experiment_description=description, file_name=file,
        measure_period=1, alpha_2_code="RU", cpu_processes="all", encode_file=True, ignore_warnings=True,
        timezone="UTC")
def spend(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end: pass
stage = tracker("прогрев, lr 2e-5", "emission.csv")
stage.start_training()
spend(0.2); stage.new_epoch({"loss": 1.5, "заметка": "а'б, \\"в\\" 🐈"})
spend(0.2); stage.new_epoch({"loss": 1.25})
stage.stop_training()
stage = tracker("fine-tuning TargetValue", "emission.csv")
stage.start_training()
spend(0.2); stage.new_epoch({"loss": 1.0})
stage.stop_training()
run = tracker("whole TargetValue run", "run.csv")
run.start(); spend(1.2); run.stop()
"""


@pytest.fixture
def data_folder(tmp_path: Path) -> Path:
    return build_data(tmp_path / "data")


@pytest.fixture
def output_folder(tmp_path: Path, data_folder: Path) -> Path:
    return build_output(tmp_path / "output", data_folder)


@pytest.fixture
def make_data(tmp_path: Path) -> Callable[..., Path]:
    """Builds a data folder that has only some tasks."""

    def make(*tasks: int) -> Path:
        return build_data(tmp_path / "some-data", tasks)

    return make


@pytest.fixture
def make_output(tmp_path: Path) -> Callable[[Path], Path]:
    def make(data: Path) -> Path:
        return build_output(tmp_path / "some-output", data)

    return make


@pytest.fixture
def edit_json() -> Callable[[Path, Callable[[Any], Any]], None]:
    """Changes a JSON file through a function that mutates its document or returns another."""

    def edit(path: Path, change: Callable[[Any], Any]) -> None:
        document = json.loads(path.read_text(encoding="utf-8"))
        changed = change(document)
        path.write_text(json.dumps(document if changed is None else changed, ensure_ascii=False), encoding="utf-8")

    return edit


@pytest.fixture
def make_submission(tmp_path: Path) -> Callable[..., Path]:
    """Writes a submission folder whose run.py is the given code."""

    def make(code: str, entrypoint: str = "python3 run.py", name: str = "submission") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "run.py").write_text(textwrap.dedent(code), encoding="utf-8")
        (folder / "metadata.json").write_text(
            json.dumps({"image": "example/image:1", "entrypoint": entrypoint}), encoding="utf-8"
        )
        return folder

    return make


@pytest.fixture
def answering_code() -> str:
    """A submission that knows no truth: it answers every example with a text and a picture of noise."""
    return """
        import json, os, random
        from PIL import Image
        examples = json.load(open("../input/input.json", encoding="utf-8"))
        os.makedirs("output/images")
        predictions = {}
        for id in examples:
            random.seed(id)
            image = Image.frombytes("RGB", (32, 32), random.randbytes(32 * 32 * 3))
            image.save(f"output/images/image_{id}.jpg")
            predictions[id] = [{"type": "text", "content": "красный"},
                               {"type": "image", "content": f"images/image_{id}.jpg"}]
        json.dump(predictions, open("output/predictions.json", "w", encoding="utf-8"), ensure_ascii=False)
        print("готово: ёж", len(predictions))
    """


@pytest.fixture(scope="session")
def tracked(tmp_path_factory) -> Path:
    """A folder with emission.csv, run.csv and their encoded twins, by eco2AI."""
    folder = tmp_path_factory.mktemp("tracked")
    subprocess.run([sys.executable, "-c", TRACKED], cwd=folder, check=True, capture_output=True, timeout=300)
    return folder


@pytest.fixture(scope="session")
def driver() -> Iterator[Any]:
    with chromium() as browser:
        yield browser
