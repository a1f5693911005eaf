"""A submission of FusionBrain Challenge 1.0 as it was in 2021: absolute paths in the container's home, four files."""

import json
from pathlib import Path

import pytest

from evaluator.cli.app import main
from tests.support.fbc1 import build_fbc1, write

RUN = """
import json, os, sys
assert os.getcwd() == os.path.dirname(os.path.abspath(sys.argv[0]))
read = lambda name: json.load(open(os.path.join(ROOT, "input", name), encoding="utf-8"))
def write(task, answers):
    os.makedirs("output", exist_ok=True)
    json.dump(answers, open(os.path.join(ROOT, "output", f"prediction_{task}.json"), "w", encoding="utf-8"))
try:
    open("input/C2C/mine", "w")
    print("ESCAPED")
except OSError:
    pass
assert not os.path.exists("input/packed along") and not os.path.exists("output/old.json")
write("C2C", {id: "def x ( ) : NEW_LINE INDENT pass DEDENT" for id in read("C2C/requests.json")})
write("HTR", {name: "последовал" for name in os.listdir("input/HTR/images")})
asked = read("zsOD/requests.json")
write("zsOD", {name: {label: [[1, 2, 30, 40]] for label in labels} for name, labels in asked.items()})
write("VQA", {id: question["question"].split()[-1] for id, question in read("VQA/questions.json").items()})
print(sorted(os.listdir(os.path.join(ROOT, "input"))))
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return build_fbc1(tmp_path / "данные")


def submission(folder: Path, root: str, image: str, entrypoint: str) -> Path:
    write(folder / "metadata.json", {"image": image, "entrypoint": entrypoint})
    (folder / "run.py").write_text(f"ROOT = {root!r}\n{RUN}", encoding="utf-8")
    write(folder / "input" / "packed along", 1)
    write(folder / "output" / "old.json", 1)
    return folder


def run(folder: Path, data: Path, tmp_path: Path, runner: str, capfd: pytest.CaptureFixture[str]) -> tuple[dict, str]:
    command = ["run", folder, "--data", data, "--competition", "fbc1", "--country", "ZZ"]
    command += ["--runner", runner, "--json", tmp_path / "s.json"]
    limits = ("memory=512MB", "cpus=1", "gpus=0", "time=120", "output=8MB", "tmp=8MB")
    code = main([*map(str, command), *(f"--limit={limit}" for limit in limits)])
    printed = "".join(capfd.readouterr())
    assert code == 0, printed
    assert "ESCAPED" not in printed and "['C2C', 'HTR', 'VQA', 'zsOD']" in printed
    return json.loads((tmp_path / "s.json").read_text(encoding="utf-8")), printed


def check(document: dict, printed: str) -> None:
    tasks = {task["name"]: task for task in document["tasks"].values()}
    assert list(tasks) == ["C2C", "HTR", "ZsOD", "VQA"]
    assert {name: task["n"] for name, task in tasks.items()} == {"C2C": 1, "HTR": 2, "ZsOD": 1, "VQA": 1}
    assert tasks["HTR"]["ids"] == {"0.png": 1.0, "1.png": 0.0} and tasks["VQA"]["score"] == 1.0
    assert tasks["ZsOD"]["parts"] == {"tp": 1.0, "fp": 1.0, "fn": 0.0}
    # Identical programs; this one has no data flow.
    assert tasks["C2C"]["parts"] == {"ngram": 1.0, "weighted_ngram": 1.0, "syntax": 1.0, "dataflow": 0.0}
    assert document["integral"] == pytest.approx(0.75 + 0.5 + 0.667 + 1.0)
    assert document["competition"]["name"] == "fbc1" and "Integral score: 2.917" in printed


def test_locally(data, tmp_path, capfd):
    folder = submission(tmp_path / "s", ".", "a/b:1", "python /home/jovyan/run.py")
    check(*run(folder, data, tmp_path, "local", capfd))


@pytest.mark.docker
def test_in_a_container(data, tmp_path, capfd, base_image):
    folder = submission(tmp_path / "s", "/home/jovyan", base_image, "python3 /home/jovyan/run.py")
    check(*run(folder, data, tmp_path, "docker", capfd))


STANDARD = """
import json
examples = json.load(open("../input/input.json", encoding="utf-8"))
answers = {"C2C": ("text", "def x ( ) : NEW_LINE INDENT pass DEDENT"), "HTR": ("json", "последовал")}
made = {}
for id, entries in examples.items():
    texts = [entry["content"] for entry in entries if entry["type"] == "text"]
    answers["zsOD"] = ("json", {label: [[1, 2, 30, 40]] for label in texts})
    answers["VQA"] = ("text", texts[-1].split()[-1] if texts else "")
    type, content = answers[id.split("/")[0]]
    made[id] = [{"type": type, "content": content}]
json.dump(made, open("output/predictions.json", "w", encoding="utf-8"))
print(sorted({id.split("/")[0] for id in examples}))
"""


def test_in_the_standard_contract(data, tmp_path, capfd):
    """Data that were converted are run and scored as the standard contract has it, with the same results."""
    assert main(["competition", "convert", str(data), str(tmp_path / "standard")]) == 0
    folder = tmp_path / "s"
    write(folder / "metadata.json", {"image": "a/b:1", "entrypoint": "python run.py"})
    (folder / "run.py").write_text(STANDARD, encoding="utf-8")
    (folder / "output").mkdir()
    check(*run(folder, tmp_path / "standard", tmp_path, "local", capfd))


def test_truths_alone_can_be_scored_and_not_run(data, tmp_path, capsys):
    truths = tmp_path / "truths"
    truths.mkdir()
    (data / "VQA" / "true_VQA.json").rename(truths / "true_VQA.json")
    write(tmp_path / "answers" / "prediction_VQA.json", {"0": "Вниз!"})
    words = ("--data", truths, "--competition", "fbc1", "--no-report")
    assert main([str(word) for word in ("score", tmp_path / "answers", *words, "--json", tmp_path / "s.json")]) == 0
    assert json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))["tasks"]["3"]["score"] == 1.0
    folder = submission(tmp_path / "s", ".", "a/b:1", "python run.py")
    words = (*words, "--runner", "local", "--json", tmp_path / "r.json")
    assert main([str(word) for word in ("run", folder, *words)]) == 2
    assert "has truths alone, which can be scored, and nothing to run on" in capsys.readouterr().err
