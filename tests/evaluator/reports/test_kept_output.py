"""What a run answered is kept, and scored again without it."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from evaluator.cli.app import main
from evaluator.competition.definition import find
from evaluator.data.contracts import read_data
from evaluator.data.kept import Unanswered
from evaluator.metrics.nano import NanoEncoders
from evaluator.reports.evaluation import rescore
from evaluator.scoring.score import find_resources
from tests.support.fbc1 import build_fbc1, program

CANARY = "канарейка-4711"


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., int]]:
    """Runs a submission with everything that is written; in this process, where imports are made once."""

    def run(submission: Path, data: Path, *options: str) -> int:
        words = ["run", submission, "--data", data, "--runner", "local", "--country", "ZZ"]
        for option, name in (("--json", "scores.json"), ("--record", "record.json"), ("--keep-output", "output.zip")):
            words += [option, tmp_path / "run" / name]
        return main([*map(str, words), *options])

    yield run
    logging.disable(logging.NOTSET)  # --private disables it


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def again(tmp_path: Path, data: Path, competition: str = "fbc2") -> tuple[Any, Any]:
    """The run's scores.json and the one of its kept output."""
    earlier = read(tmp_path / "run" / "scores.json")
    digest = earlier["run"]["output_sha256"]
    output, folder = tmp_path / "run" / "output.zip", tmp_path / "again"
    scores = rescore(output, digest, read_data(data, find(competition)), find_resources(), folder, earlier=earlier)
    assert (scores.integral, scores.open_part) == (read(folder / "scores.json").get("integral"), scores.open_part)
    return earlier, read(folder / "scores.json")


@pytest.mark.parametrize("private", [True, False])
def test_a_kept_output_has_the_scores_of_its_run(
    data_folder: Path, make_submission: Any, answering_code: str, run: Any, tmp_path: Path, private: bool
) -> None:
    assert run(make_submission(answering_code), data_folder, *["--private"] * private) == 0
    earlier, rescored = again(tmp_path, data_folder)
    output = tmp_path / "run" / "output.zip"
    assert earlier["run"]["output_sha256"] == hashlib.sha256(output.read_bytes()).hexdigest()
    if private:
        assert rescored == earlier
    assert {number: task["score"] for number, task in rescored["tasks"].items()} == {
        number: task["score"] for number, task in earlier["tasks"].items()
    }
    assert rescored["integral"] == earlier["integral"] and rescored["interval"] == earlier["interval"]
    record = read(tmp_path / "run" / "record.json")
    assert record["files"]["output.zip"] == earlier["run"]["output_sha256"] == record["run"]["output_sha256"]
    assert main(["verify", str(tmp_path / "run" / "record.json")]) == 0
    output.write_bytes(output.read_bytes() + b"\0")
    assert main(["verify", str(tmp_path / "run" / "record.json")]) == 1


def test_the_first_challenge(make_submission: Any, run: Any, tmp_path: Path) -> None:
    folder = build_fbc1(tmp_path / "data")
    submission = make_submission(program("[[1, 2, 30, 41.5]]"), "python3 -S /home/jovyan/run.py")
    assert run(submission, folder, "--private", "--competition", "fbc1") == 0
    earlier, rescored = again(tmp_path, folder, "fbc1")
    assert rescored == earlier and 0 < rescored["tasks"]["2"]["score"] < 1
    assert rescored["shared_parameters"]["met"] is False, "carried over: the output does not say"


def test_a_corrected_truth_changes_scores_and_nothing_of_the_run(
    make_data: Any, make_submission: Any, answering_code: str, run: Any, edit_json: Any, tmp_path: Path
) -> None:
    folder = make_data(5)
    assert run(make_submission(answering_code), folder, "--private") == 0
    corrected = [{"type": "text", "content": ["красный"]}]
    edit_json(folder / "ground_truth.json", lambda d: d.update(dict.fromkeys(d, corrected)))
    earlier, rescored = again(tmp_path, folder)
    assert earlier["tasks"]["5"]["score"] < 0.5 and rescored["tasks"]["5"]["score"] == 1.0
    assert rescored["data_digest"] != earlier["data_digest"] and rescored["run"] == earlier["run"]


def test_an_output_is_kept_where_a_metric_fails_and_scored_when_it_is_mended(
    make_data: Any, make_submission: Any, answering_code: str, run: Any, tmp_path: Path
) -> None:
    def missing() -> None:
        raise FileNotFoundError("not here")

    folder = make_data(2, 5)
    with pytest.MonkeyPatch.context() as broken:
        broken.setattr(NanoEncoders, "load", missing)
        assert run(make_submission(answering_code), folder, "--private") == 3
        earlier, rescored = again(tmp_path, folder)
        assert earlier["verdict"] == rescored["verdict"] == "METRIC_ERROR"
        assert earlier["tasks"] == rescored["tasks"] and rescored["tasks"]["2"]["score"] is None
    _, rescored = again(tmp_path, folder)
    assert rescored["verdict"] == "OK" and rescored["tasks"]["2"]["score"] is not None
    assert rescored["labels"] and rescored["tasks"]["5"] == earlier["tasks"]["5"]


def test_without_a_valid_output_none_is_kept_nor_an_earlier_one_left(
    make_data: Any, make_submission: Any, run: Any, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "output.zip").write_bytes(b"of an earlier run")
    assert run(make_submission("open('output/predictions.json', 'w').write('{}')"), make_data(5)) == 1
    assert "output_sha256" not in read(tmp_path / "run" / "scores.json")["run"]
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["record.json", "scores.json"]


def test_what_is_rescored_says_nothing_of_examples(
    make_data: Any, make_submission: Any, run: Any, edit_json: Any, tmp_path: Path
) -> None:
    folder = make_data(0, 5)
    edit_json(folder / "input.json", lambda d: d["0"][0].update(content=f"{CANARY} вопрос?"))
    edit_json(folder / "input.json", lambda d: d.update({CANARY: d.pop("500")}))
    for name in ("ground_truth.json", "sample_ids.json"):
        edit_json(folder / name, lambda d: d.update({CANARY: d.pop("500")}))
    code = """
        import json
        inputs = json.load(open("../input/input.json", encoding="utf-8"))
        answer = {"type": "text", "content": inputs["0"][0]["content"]}
        json.dump(dict.fromkeys(inputs, [answer]), open("output/predictions.json", "w"))
    """
    assert run(make_submission(code), folder, "--private") == 0
    again(tmp_path, folder)
    for path in (tmp_path / "again").iterdir():
        assert "4711" not in path.read_text(encoding="utf-8"), path
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == ["report.html", "scores.json"]


def test_what_cannot_be_answered_leaves_nothing(
    data_folder: Path, make_data: Any, make_submission: Any, answering_code: str, run: Any, tmp_path: Path
) -> None:
    assert run(make_submission(answering_code), make_data(5), "--private") == 0
    with pytest.raises(Unanswered):
        again(tmp_path, data_folder)
    assert not (tmp_path / "again").exists()
