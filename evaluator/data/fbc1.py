"""The contract of FusionBrain Challenge 1.0 (2021): a folder and a file for each task, which the folder names.

    C2C/requests.json                      true_C2C.json     prediction_C2C.json
    HTR/images/0.png ...                   true_HTR.json     prediction_HTR.json
    zsOD/images/0.jpg ..., requests.json   true_zsOD.json    prediction_zsOD.json
    VQA/images/0.jpg ..., questions.json   true_VQA.json     prediction_VQA.json

The tasks' folders may lie in `input/` of the data folder, and a truth beside the others, in its task's folder or in
`true/`. A data folder may have any subset of the tasks, and truths alone, which is enough to score. What is written
has the truths beside the tasks' folders.

Quirks that decide numbers are kept and belong to the metrics; what made the published evaluation stop is a fault of
whoever wrote it, with its file and key: a missing prediction (but in HTR, where it counts as an empty text and is
noted), one too many in zsOD and VQA, an answer that is no text, boxes that are none.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from evaluator.competition.definition import Competition, TaskDefinition
from evaluator.competition.task import Task
from evaluator.core.errors import DataError, Findings, Rule, SubmissionError, show
from evaluator.core.strict_json import parse_file
from evaluator.core.verdict import BAD_OUTPUT
from evaluator.data import dataset
from evaluator.data.dataset import Data, Entry, Example, data_root, read_image
from evaluator.data.entries import MISSING_ID, UNKNOWN_ID, json_kind
from evaluator.data.predictions import Predictions, check_text, output_root

#: What an answer is, by task; a text in HTR may be any JSON value, and is then compared as Python does.
TASKS = {"C2C": "text", "HTR": "json", "zsOD": "json", "VQA": "text"}
#: What a task is called in files, where that is not its name.
_FILE_NAMES = {"ZsOD": "zsOD"}
#: Names that the published pages also have, one of them with Cyrillic letters.
ALIASES = {"C2C": ("\u04212\u0421",), "zsOD": ("OD",)}

TRUTH_SHAPE = Rule("truth-shape", "what evaluator/data/fbc1.py says of this file", "correct the truth")
REQUEST_SHAPE = Rule("request-shape", "what evaluator/data/fbc1.py says of this file", "correct the input")
PREDICTION_SHAPE = Rule(
    "prediction-shape",
    "a text for each id of C2C, HTR and VQA; for each picture of zsOD an object with a list of boxes, [x, y, width,"
    " height] each, for every description that was asked for",
    "write the shape of the contract",
)
NO_TASK = Rule("no-task", "the truth of at least one task", f"write true_{next(iter(TASKS))}.json, ...")
HTR_MISSING = Rule("htr-missing", "a text for each picture", "write an answer for each picture")


def named(task: Task | TaskDefinition) -> str:
    """What a task is called in files, folders and ids."""
    return _FILE_NAMES.get(task.name, task.name)


def _check_tasks(competition: Competition) -> None:
    """Raise `DataError` for a competition with tasks that this layout does not have."""
    if others := [task.name for task in competition.definition.tasks if TASKS.get(named(task)) != task.answer]:
        known = ", ".join(f"{name} ({output})" for name, output in TASKS.items())
        raise DataError(f"competition {competition.name}: {', '.join(others)}: the contract fbc1 has {known} alone")


def _keyed(data: Data) -> Data:
    """The data with results by the keys that this layout has, where all ids in the folder are TASK/key. Truths alone
    show a submission nothing.
    """
    if not all(example.id.startswith(f"{named(example.task)}/") for example in data.examples):
        return data
    examples = (replace(each, task_id=each.id.removeprefix(f"{named(each.task)}/")) for each in data.examples)
    return replace(
        data, examples=tuple(examples), shown=data.shown if any(each.inputs for each in data.examples) else {}
    )


def read_data(folder: Path | str, competition: Competition) -> Data:
    """Read and check a data folder of these tasks, in this layout or, where it has an input.json, in the standard
    contract, whatever the competition says of the contract. Results are by the keys of this layout.

    Raises `DataError` with all faults.
    """
    _check_tasks(competition)
    standard = os.path.lexists(Path(folder) / "input.json")
    return _keyed((dataset.read_data if standard else _read_layout)(folder, competition))


def _read_layout(folder: Path | str, competition: Competition) -> Data:
    """Truths, and of tasks of which it is there what is asked, with the pictures."""
    root = data_root(folder)
    found = Findings()
    files: dict[str, str] = {}
    examples: list[Example] = []
    shown: dict[str, str] = {}
    for task in competition.tasks.values():
        name = next((name for name in _truth_places(named(task)) if (root / name).is_file()), None)
        if name is None:
            continue
        before = found.total
        truth = parse_file(root, name, found, digests=files)
        if found.total > before:
            continue
        if not isinstance(truth, dict) or not truth:
            found.add(TRUTH_SHAPE, name, f"must be an object with at least one key, not {show(truth)}")
            continue
        asked, inputs = _asked(root, task, truth, found, files)
        shown |= {f"{named(task)}/{place}": path for place, path in inputs.items()}
        for key, accepted in truth.items():
            if (fault := _truth_fault(task, accepted)) is not None:
                found.add(TRUTH_SHAPE, f"{name}: {show(key)}", fault)
                continue
            examples.append(_example(task, key, accepted, asked.get(key, ())))
    if not examples and not found:
        found.add(NO_TASK, str(root), f"has none of {', '.join(f'true_{task}.json' for task in TASKS)}")
    if found:
        raise DataError(found)
    return Data(root, competition, tuple(examples), frozenset(), files, shown=shown, contract="fbc1")


def read_predictions(folder: Path | str, data: Data) -> Predictions:
    """Read and check the predictions of the tasks that the data have. Raises `SubmissionError` (BAD_OUTPUT) with all
    faults.
    """
    root = output_root(folder)
    found = Findings()
    predictions = Predictions(root)
    for task, examples in data.by_task().items():
        name, before = f"prediction_{named(task)}.json", found.total
        document = parse_file(root, name, found, digests=predictions.files)
        if found.total > before:
            _hint(root, named(task), found)
            continue
        if not isinstance(document, dict):
            found.add(PREDICTION_SHAPE, name, f"must be an object, not {json_kind(document)}")
            continue
        if named(task) in ("zsOD", "VQA"):
            keys = {example.key for example in examples}
            for key in document:
                if key not in keys:
                    found.add(UNKNOWN_ID, f"{name}: {show(key)}", "unknown, not among what was asked")
        missing = 0
        for example in examples:
            where = f"{name}: {show(example.key)}"
            if example.key not in document and task.metric.missing is None:
                found.add(MISSING_ID, where, "missing")
                continue
            missing += example.key not in document
            predicted = document.get(example.key, task.metric.missing)
            if isinstance(predicted, str):
                check_text(predicted, where, found)
            if (fault := _prediction_fault(task, predicted, example)) is not None:
                found.add(PREDICTION_SHAPE, where, fault)
            elif task.output == "json":
                predictions.values[example.id] = predicted
            else:
                predictions.texts[example.id] = predicted
            predictions.types[example.id] = (task.output,)
        if missing:
            noted = f"{missing} of {len(examples)} pictures have no prediction, which counts as an empty text"
            predictions.notes.append(HTR_MISSING.finding(name, noted))
    if found:
        raise SubmissionError(BAD_OUTPUT, found)
    return predictions


def documents(data: Data) -> dict[str, dict[str, Any]]:
    """The JSON files that say what `data` do, by name, where this layout can say it."""
    files: dict[str, dict[str, Any]] = {}
    for task, examples in data.by_task().items():
        files[f"true_{named(task)}.json"] = {example.key: _truth(example) for example in examples}
        if named(task) != "HTR" and any(example.inputs for example in examples):
            files[_requests(named(task))] = {example.key: _request(example) for example in examples}
    return files


def prediction_documents(predictions: Predictions, data: Data) -> dict[str, dict[str, Any]]:
    """The JSON files that say what was predicted, by name."""
    return {
        f"prediction_{named(task)}.json": {
            example.key: (predictions.values if task.output == "json" else predictions.texts)[example.id]
            for example in examples
        }
        for task, examples in data.by_task().items()
    }


def picture_name(task: Task, path: str) -> str:
    """The name by which a task's files mean the picture at a path in the data folder."""
    return path.removeprefix("input/").removeprefix(f"{named(task)}/images/")


def _requests(task: str) -> str:
    return f"{task}/{'questions' if task == 'VQA' else 'requests'}.json"


def _truth(example: Example) -> Any:
    if named(example.task) == "C2C":
        return example.answers[0]
    if named(example.task) == "VQA":
        return {"answer": _one_or_all(example.answers), "lang": example.language, **(example.unscored or {})}
    return example.truth_json


def _request(example: Example) -> Any:
    if named(example.task) == "C2C":
        return example.texts[0]
    if named(example.task) == "zsOD":
        return example.texts
    return {"file_name": picture_name(example.task, example.images[0]), "question": example.texts[0]}


def answer_texts(answer: Any) -> tuple[str, ...]:
    """The accepted texts of a VQA truth's answer."""
    answers = answer if isinstance(answer, list) else [answer]
    return tuple(each for each in answers if isinstance(each, str))  # nothing else can be met


def _one_or_all(texts: Sequence[str]) -> str | list[str]:
    """The answer of a VQA truth with these texts, unless it says otherwise."""
    return texts[0] if len(texts) == 1 else list(texts)


def _truth_places(task: str) -> tuple[str, ...]:
    name = f"true_{task}.json"
    return name, f"{task}/{name}", f"true/{name}", f"input/{task}/{name}"


def _example(task: Task, key: str, accepted: Any, inputs: tuple[Entry, ...]) -> Example:
    example_id = f"{named(task)}/{key}"
    if named(task) == "C2C":
        return Example(example_id, task, inputs, (accepted,), task_id=key)
    if named(task) == "VQA":
        texts = answer_texts(accepted["answer"])
        unscored = {name: value for name, value in accepted.items() if name not in ("answer", "lang")}
        if accepted["answer"] != _one_or_all(texts):
            unscored["answer"] = accepted["answer"]
        language = accepted["lang"]
        return Example(example_id, task, inputs, texts, language=language, unscored=unscored or None, task_id=key)
    return Example(example_id, task, inputs, truth_json=accepted, task_id=key)


# --- what is asked ---


def _asked(
    root: Path, task: Task, truth: Mapping[str, Any], found: Findings, files: dict[str, str]
) -> tuple[dict[str, tuple[Entry, ...]], dict[str, str]]:
    """The inputs of each key, and the files that a submission gets by their place in the task's folder; none where what
    is asked is not there, whatever else the folder has.
    """
    asking = f"{named(task)}/images" if named(task) == "HTR" else _requests(named(task))
    prefix = next((prefix for prefix in ("input/", "") if os.path.lexists(root / prefix / asking)), None)
    if prefix is None:
        return {}, {}
    base = f"{prefix}{named(task)}"
    shown: dict[str, str] = {}
    inputs: dict[str, tuple[Entry, ...]] = dict.fromkeys(truth, ())
    if named(task) == "HTR":
        asked: dict[str, list[tuple[str, str]]] = {key: [("image", key)] for key in truth}
    else:
        name = prefix + asking
        shown[name.removeprefix(f"{base}/")] = name
        before = found.total
        document = parse_file(root, name, found, digests=files)
        if found.total > before:
            return {}, {}
        if not isinstance(document, dict):
            found.add(REQUEST_SHAPE, name, f"must be an object, not {json_kind(document)}")
            return {}, {}
        asked = {}
        for key in (*truth, *(key for key in document if key not in truth)):
            if key not in document or key not in truth:
                rule, text = (MISSING_ID, "missing") if key in truth else (UNKNOWN_ID, "unknown, not in the truth")
                found.add(rule, f"{name}: {show(key)}", text)
            elif (entries := _entries(named(task), key, document[key])) is None:
                found.add(REQUEST_SHAPE, f"{name}: {show(key)}", f"is {show(document[key])}")
            else:
                asked[key] = entries
    for key, entries in asked.items():
        inputs[key] = tuple(
            Entry(type, f"{base}/images/{content}" if type == "image" else content) for type, content in entries
        )
        for entry in inputs[key]:
            if entry.type == "image" and entry.content not in files:
                read_image(root, entry.content, entry.content, found, files)
            if entry.type == "image":
                shown[entry.content.removeprefix(f"{base}/")] = entry.content
    return inputs, shown


def _entries(task: str, key: str, request: Any) -> list[tuple[str, str]] | None:
    """Types and contents of what is asked; None where the request is none."""
    if task == "C2C":
        return [("text", request)] if isinstance(request, str) else None
    if task == "zsOD":
        if not isinstance(request, list) or not all(isinstance(label, str) for label in request):
            return None
        return [("image", key), *(("text", label) for label in request)]
    if not isinstance(request, dict) or not all(isinstance(request.get(n), str) for n in ("file_name", "question")):
        return None
    return [("image", request["file_name"]), ("text", request["question"])]


# --- faults ---


def _truth_fault(task: Task, accepted: Any) -> str | None:
    if task.output == "json":
        return task.metric.truth_fault(accepted)
    if named(task) == "C2C":
        return None if isinstance(accepted, str) else f"must be a text, not {show(accepted)}"
    if not isinstance(accepted, dict) or "answer" not in accepted:
        return f"must be an object with answer and lang, not {show(accepted)}"
    return None if isinstance(accepted.get("lang"), str) else f"lang must be a text, not {show(accepted.get('lang'))}"


def _prediction_fault(task: Task, predicted: Any, example: Example) -> str | None:
    if task.output == "json":
        return task.metric.answer_fault(predicted, example.truth_json)
    return None if isinstance(predicted, str) else f"must be a text, not {json_kind(predicted)}"


def _hint(root: Path, task: str, found: Findings) -> None:
    """Names the file that was written under a name of the published pages that this one does not have."""
    for alias in ALIASES.get(task, ()):
        name = f"prediction_{alias}.json"
        if (root / PurePosixPath(name)).is_file():
            found.add(PREDICTION_SHAPE, name, f"is written as prediction_{task}.json, in Latin letters")
