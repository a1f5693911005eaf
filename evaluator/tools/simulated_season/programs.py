"""The ZIPs and the test sets of a simulated season.

A ZIP of one program has the same bytes whenever it is made, and its key in `KEY_NAME`, so that whoever opens it later
knows which program it is.
"""

import csv
import io
import json
import random
import re
import shutil
import tempfile
import uuid
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evaluator.carbon import emission
from evaluator.competition.definition import default
from evaluator.package import pack
from evaluator.season import PRIVATE, PUBLIC
from evaluator.tools.simulated_season.changes import ABLE, CORRECTED, KNOWING
from evaluator.tools.simulated_season.events import Mode, Program

ROOT = Path(__file__).parents[3]
KEY_NAME = "key.txt"
KEPT_IN_MODE: dict[Mode, tuple[int, ...]] = {
    "nano": tuple(default().numbers),
    "quick": (0, 1, 4, 5, 6, 7, 8, 9, 10, 11),  # those that are scored without encoders, which take seconds to start
}
KNOWN_SHARE = 0.7  # of all answers, by a program that is able
EXAMPLES = {PUBLIC: 3, PRIVATE: 3}  # of each task, at most; sample_input has five of each hidden one

_METADATA = json.dumps({"image": "fusionbrain/fbc2:latest", "entrypoint": "python3 -S run.py"})  # -S: starts faster
_ANSWERING = """
import json, os, random, re
KNOWN = %(known)r
WORDS = "да нет красный синий 2 3 4 кот дом дерево мост на столе из-за дождя 7 12".split()
examples = json.load(open("../input/input.json", encoding="utf-8"))
os.makedirs("output/images", exist_ok=True)
picture = open("picture.jpg", "rb").read()
predictions = {}
for id, parts in examples.items():
    chance = random.Random(f"%(seed)d {id}")
    text = " ".join(part["content"] for part in parts if part["type"] == "text")
    options = re.findall(r"\\b[a-e]\\) ([^;]+)", text)
    answer = chance.choice(options or WORDS)
    if not options and len(text) > 150 and chance.random() < 0.5:
        answer = " ".join(text.split()[-12:])
    with open(f"output/images/image_{id}.jpg", "wb") as file:
        file.write(picture)
    image = {"type": "image", "content": f"images/image_{id}.jpg"}
    predictions[id] = [{"type": "text", "content": KNOWN.get(id, answer.strip())}, image]
"""
_WRITING = """
with open("output/predictions.json", "w", encoding="utf-8") as file:
    json.dump(predictions, file, ensure_ascii=False)
"""
_SILENT = (
    "",
    "predictions.popitem()" + _WRITING,
    "predictions['ёж'] = []" + _WRITING,
    "open('output/predictions.json', 'w').write('{')",
)


def write_data(folder: Path, mode: Mode) -> None:
    """Write the public and the private test set below `folder`: examples of sample_input, none of which is in both; and
    beside each, in a folder `corrected`, the same with other answers to some.
    """
    source = ROOT / "sample_input"
    numbers: dict[str, int] = _read(source / "sample_ids.json")
    documents = {name: _read(source / name) for name in ("input.json", "ground_truth.json")}
    definitions = _read(source / "tasks.json")
    for first, test_set in enumerate((PUBLIC, PRIVATE)):
        ids = [
            id
            for task in KEPT_IN_MODE[mode]
            for id in [id for id, number in numbers.items() if number == task][first::2][: EXAMPLES[test_set]]
        ]
        target = folder / test_set
        shutil.rmtree(target, ignore_errors=True)
        (target / "images").mkdir(parents=True)
        for name, document in documents.items():
            part = {id: document[id] for id in ids}
            _write(target / name, part)
            for entry in (entry for entries in part.values() for entry in entries if entry["type"] == "image"):
                (target / entry["content"]).parent.mkdir(exist_ok=True)
                shutil.copyfile(source / entry["content"], target / entry["content"])
        _write(target / "sample_ids.json", {id: numbers[id] for id in ids})
        _write(target / "tasks.json", definitions)
        other = corrected(target)
        shutil.rmtree(other, ignore_errors=True)
        shutil.copytree(target, other)
        _write(other / "ground_truth.json", _correct(_read(target / "input.json"), _read(target / "ground_truth.json")))


def corrected(data: Path) -> Path:
    """The folder that has a test set's corrected answers."""
    return data.with_name(f"{data.name}-{CORRECTED}")


def _correct(inputs: dict[str, Any], truth: dict[str, Any]) -> dict[str, Any]:
    """Of each example with options the one after that which was right."""
    changed = dict(truth)
    for id, parts in inputs.items():
        text = " ".join(part["content"] for part in parts if part["type"] == "text")
        options = re.findall(r"\b[a-e]\) ([^;]+)", text)
        (entry,) = truth[id]
        right = [number for number, option in enumerate(options) if option in entry["content"]]
        if right:
            number = (right[0] + 1) % len(options)
            changed[id] = [{"type": "text", "content": [options[number], "abcde"[number]]}]
    return changed


def make_zip(program: Program, target: Path, public: Path) -> None:
    """Make a program's ZIP. `public` is the public test set, by which a brittle one knows where it is."""
    with tempfile.TemporaryDirectory(prefix="program-") as name:
        folder = Path(name, "submission")
        if program.kind == "nano":
            _write_nano(folder, random.Random(program.seed))
        else:
            folder.mkdir()
            (folder / "metadata.json").write_text(_METADATA, encoding="utf-8")
            (folder / "run.py").write_text(_code(program, public), encoding="utf-8")
            _write_picture(folder / "picture.jpg", random.Random(program.seed))
        (folder / KEY_NAME).write_text(program.key, encoding="utf-8")
        if program.emission:
            _write_emission(folder, program)
        pack.pack(folder, target, force=True)
    if program.kind == "damaged":
        content = target.read_bytes()
        target.write_bytes(content[: len(content) // 2])
    elif program.kind == "outside":
        with zipfile.ZipFile(target, "a") as file:
            file.writestr(zipfile.ZipInfo("../run.py"), "")
    elif program.kind == "bare":
        with zipfile.ZipFile(target, "w") as file:
            file.writestr(zipfile.ZipInfo("submission/metadata.json"), _METADATA)
            file.writestr(zipfile.ZipInfo(KEY_NAME), program.key)


def _code(program: Program, public: Path) -> str:
    known = _known(program, public)
    answering = _ANSWERING % {"seed": program.seed, "known": known}
    match program.kind:
        case "crash":
            return answering + ("raise SystemExit(3)" if program.seed % 2 else "raise ValueError('Ёлки-палки')")
        case "slow":
            return "import time\ntime.sleep(3600)"
        case "silent":
            return answering + _SILENT[program.seed % len(_SILENT)]
        case "brittle":
            ids = sorted(_read(public / "input.json"))
            return answering + f"assert set(examples) == set({ids!r})" + _WRITING
        case _:
            return answering + _WRITING


def _known(program: Program, public: Path) -> dict[str, str]:
    """The answers that a program has in it, by id: an accepted one to each text of the public test set, or to most of
    both.
    """
    chance = random.Random(f"known {program.seed}")
    known: dict[str, str] = {}
    if program.kind in (KNOWING, ABLE):
        known |= _texts(public)
    if program.kind == ABLE:
        known |= _texts(public.with_name(PRIVATE))
        known = {id: answer for id, answer in known.items() if chance.random() < KNOWN_SHARE}
    return known


def _texts(data: Path) -> dict[str, str]:
    """The first accepted answer to each id of a test set whose answers are texts."""
    truth = {id: entries[0] for id, entries in _read(data / "ground_truth.json").items()}
    return {id: entry["content"][0] for id, entry in truth.items() if entry["type"] == "text"}


def _write_nano(folder: Path, chance: random.Random) -> None:
    """submission/ as it is, but for settings, in which teams differ."""
    ignored = shutil.ignore_patterns("training", "benchmark", "output", "__pycache__", "finetune.py")
    shutil.copytree(ROOT / "submission", folder, ignore=ignored)
    settings = {
        "seed": str(chance.randrange(1000)),
        "batch_size": str(chance.choice((4, 8, 16))),
        "route_threshold": str(chance.choice((0.3, 0.5, 0.7))),
        "text_sampling": chance.choice(
            (
                "{top_k: 1, top_p: 1.0, temperature: 1.0}",
                "{top_k: 32, top_p: 0.8, temperature: 1.0}",
                "{top_k: 8, top_p: 0.9, temperature: 0.7}",
            )
        ),
        "max_answer_tokens": chance.choice(("null", "16", "8")),
        "image_sampling": f"{{top_k: 1024, top_p: 0.975, temperature: {chance.choice((0.7, 0.9, 1.0))}}}",
    }
    path = folder / "config.yaml"
    text = path.read_text(encoding="utf-8")
    for name, value in settings.items():
        text, changed = re.subn(rf"^{name}: (?:\{{.*?\}}|\S+)", f"{name}: {value}", text, flags=re.MULTILINE)
        if changed != 1:
            raise ValueError(f"{path} has no setting {name}")
    path.write_text(text, encoding="utf-8")


def _write_picture(path: Path, chance: random.Random) -> None:
    from PIL import Image

    colours = bytes(chance.randrange(256) for _ in range(4 * 4 * 3))
    Image.frombytes("RGB", (4, 4), colours).resize((64, 64)).save(path, quality=90)


def _write_emission(folder: Path, program: Program) -> None:
    """emission.csv as eco2AI writes it for two epochs, the second of which counts, and its encoded copy."""
    chance = random.Random(f"emission {program.seed}")
    rows = []
    for number, description in enumerate(
        ("прогрев, ёж", emission.TARGET if program.emission != "without target" else "")
    ):
        kg = program.kg if number else 0.25
        rows.append(
            {
                "id": str(uuid.UUID(int=chance.getrandbits(128), version=4)),
                "project_name": "Проект «Ёж»",
                "experiment_description": description,
                "epoch": f"epoch: {number}, loss: 0.5, ",
                "start_time": f"2022-09-2{number} 09:30:00",
                "duration(s)": "36000.5",
                "power_consumption(kWh)": repr(kg / 0.347451),
                "CO2_emissions(kg)": repr(kg),
                "CPU_name": "AMD EPYC/2 device(s), TDP:200.0",
                "GPU_name": "NVIDIA A100-SXM4-80GB 16 device(s)",
                "OS": "Linux",
                "region/country": "RU",
                "cost": "0",
            }
        )
    plain = [[row[column] for column in emission.COLUMNS] for row in rows]
    twin = [[emission.encode(cell, times) for cell in row] for row in plain for times in (1, 2)]
    if program.emission == "edited":
        plain[-1][emission.COLUMNS.index("CO2_emissions(kg)")] = repr(program.kg * 0.9)
    _write_csv(folder / emission.NAME, plain)
    if program.emission != "without twin":
        _write_csv(folder / emission.ENCODED_NAME, twin)


def _write_csv(path: Path, rows: Sequence[Sequence[str]]) -> None:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerows([emission.COLUMNS, *rows])
    path.write_bytes(out.getvalue().encode())


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _write(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
