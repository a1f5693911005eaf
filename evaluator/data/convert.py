"""A data folder, or an output folder, of FusionBrain Challenge 1.0's tasks in its own layout (`evaluator.data.fbc1`)
turned into the standard contract, and back.

In the standard contract an id is TASK/key and a picture images/TASK/name, whose key or name is that of the other
layout. A VQA truth has its language, and a further entry, of JSON, for what else it says and no score depends on.

The new folder says what the old one does: it is read back, and has the same digest of the data. What the other layout
cannot say is a fault; files that the data do not name are left behind.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from evaluator.competition.definition import Competition
from evaluator.core import limits
from evaluator.core.errors import DataError, EvaluatorError, Finding, Findings, Rule, RuleBroken, show
from evaluator.core.files import new_folder, read_regular, write_text
from evaluator.core.strict_json import parse_file
from evaluator.data import fbc1
from evaluator.data.contracts import CONTRACTS, Documents, read_predictions
from evaluator.data.dataset import Data, Example, data_digest

#: The name of the other contract.
OTHER = {"standard": "fbc1", "fbc1": "standard"}
#: Types of what is asked, of zsOD before its descriptions.
_ASKED = {"C2C": ["text"], "HTR": ["image"], "zsOD": ["image"], "VQA": ["image", "text"]}

NOT_IN_FBC1 = Rule(
    "not-in-fbc1",
    "ids TASK/key; asked of C2C a text, of HTR a picture, of zsOD a picture and texts, of VQA a picture and a text, of"
    " all examples of a task or of none; pictures images/TASK/name, whose name is the key in HTR and zsOD; one accepted"
    " text in C2C, a language in VQA alone",
    "write it so, or score it in the contract that it has",
)
NOT_IN_STANDARD = Rule(
    "not-in-standard", "at least one accepted answer that is a text", "correct the truth; no answer can meet this one"
)
UNSAID = Rule("unsaid", "what the reader of this layout takes in, which is all that the new folder says", "remove it")


def convert_data(folder: Path, target: Path, competition: Competition) -> Data:
    """Write the data folder `folder` to the new folder `target` in the contract that it is not in; returns the data
    there.

    Raises `DataError` with all faults of the folder, with all that the other contract cannot say, and where `target`
    exists or cannot be written.
    """
    with new_folder(target) as temporary:
        data = fbc1.read_data(folder, competition)
        _check(data, _unsaid(data))
        moved = [_with_moved_pictures(each) for each in data.examples]
        _write(temporary, CONTRACTS[OTHER[data.contract]].documents(replace(data, examples=tuple(moved))))
        for old, new in zip(data.examples, moved, strict=True):
            for path, copy in zip(old.images, new.images, strict=True):
                _copy_picture(data.root, path, temporary / copy)
        with _new_folders_faults():
            made = fbc1.read_data(temporary, competition)
        if data_digest(made) != data_digest(data):
            raise EvaluatorError(f"{folder}: the new folder does not say the same; did a picture change meanwhile?")
    return replace(made, root=target)


def convert_predictions(output: Path, target: Path, data: Data) -> tuple[Finding, ...]:
    """Write the output folder `output` to the new folder `target` in the contract that `data`, of which it is, are not
    in; returns what is unusual in it, though not wrong. What no score depends on is left behind.

    Raises `DataError` for data that the other contract cannot have, and where `target` exists or cannot be written;
    `SubmissionError` (BAD_OUTPUT) for predictions that are faulty in either contract.
    """
    _check(data, Findings())
    other = replace(data, contract=OTHER[data.contract])
    with new_folder(target) as temporary:
        predictions = read_predictions(output, data)
        predictions.close()  # there are no images
        _write(temporary, CONTRACTS[other.contract].prediction_documents(predictions, other))
        with _new_folders_faults():
            read_predictions(temporary, other).close()
    return tuple(predictions.notes)


def _check(data: Data, found: Findings) -> None:
    """Raise `DataError` with what was `found`, and what the other contract cannot say."""
    if data.contract == "fbc1":
        for example in data.examples:
            if example.task.output == "text" and not example.answers:
                found.add(
                    NOT_IN_STANDARD, f"true_{fbc1.named(example.task)}.json: {show(example.key)}", "has no such answer"
                )
    else:
        asked = {fbc1.named(example.task) for example in data.examples if example.inputs}
        for example in data.examples:
            for fault in _faults(example, fbc1.named(example.task) in asked):
                found.add(NOT_IN_FBC1, f"id {show(example.id)} ({fbc1.named(example.task)})", fault)
    if found:
        raise DataError(found)


def _faults(example: Example, asked: bool) -> Iterator[str]:
    """What FusionBrain Challenge 1.0 cannot say of an example in the standard contract; `asked`: whether there are
    inputs of its task.
    """
    task = fbc1.named(example.task)
    if not example.id.startswith(f"{task}/"):
        yield f"the id does not begin with {task}/"
    types = [entry.type for entry in example.inputs]
    described = types[1:] if task == "zsOD" else []  # any number of texts
    if asked and (types != _ASKED[task] + described or "image" in described):
        yield f"what is asked is {', '.join(types) or 'nothing'}"
    for path in example.images:
        if path != f"images/{example.id}" if task in ("HTR", "zsOD") else not path.startswith(f"images/{task}/"):
            yield f"picture {show(path)}"
    if task == "C2C" and len(example.answers) > 1:
        yield f"{len(example.answers)} accepted texts"
    if (example.language is None) == (task == "VQA"):
        yield "has no language" if task == "VQA" else f"has a language, {show(example.language)}"
    if example.unscored is not None and not _is_rest(example):
        yield f"a further entry of the truth, {show(example.unscored)}"


def _is_rest(example: Example) -> bool:
    """Whether the truth's further entry is what VQA's truth may say beside its accepted answers and their language."""
    rest = example.unscored
    if fbc1.named(example.task) != "VQA" or not isinstance(rest, dict) or not rest or "lang" in rest:
        return False
    return "answer" not in rest or fbc1.answer_texts(rest["answer"]) == example.answers


def _unsaid(data: Data) -> Findings:
    """What stands in the JSON files and was not taken in."""
    found = Findings()
    for name, document in CONTRACTS[data.contract].documents(data).items():
        path = next(path for path in data.files if path == name or path.endswith(f"/{name}"))
        for id, value in parse_file(data.root, path, found).items():
            single = path == "ground_truth.json" and isinstance(value, dict)  # an entry without its list
            if ([value] if single else value) != document.get(id):
                found.add(UNSAID, f"{path}: {show(id)}", f"says more than {show(document.get(id))}")
    if data.contract == "standard" and "tasks.json" in data.files:
        found.add(UNSAID, "tasks.json", "has no place in the other layout")
    return found


def _with_moved_pictures(example: Example) -> Example:
    """The example with its pictures' paths in the other contract."""

    def moved(path: str) -> str:
        if path.startswith("images/"):
            return f"{task}/images/{path.removeprefix(f'images/{task}/')}"
        return f"images/{task}/{fbc1.picture_name(example.task, path)}"

    task = fbc1.named(example.task)
    inputs = (replace(each, content=moved(each.content)) if each.type == "image" else each for each in example.inputs)
    return replace(example, inputs=tuple(inputs))


def _copy_picture(root: Path, path: str, copy: Path) -> None:
    if copy.exists():  # of an example before; several questions may have one picture
        return
    try:
        content = read_regular(root, path, limits.MAX_IMAGE_BYTES)
    except RuleBroken as broken:  # it was there when the data were read
        raise DataError(broken.rule.finding(path, broken.found)) from None
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_bytes(content)


def _write(folder: Path, documents: Documents) -> None:
    """Write JSON files, an id a line."""
    for name, document in documents.items():
        lines = (f"{_json(id)}: {_json(value)}" for id, value in document.items())
        write_text(folder / name, "{\n" + ",\n".join(lines) + "\n}\n")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


@contextmanager
def _new_folders_faults() -> Iterator[None]:
    """What is found in reading the new folder back is named as its."""
    try:
        yield
    except EvaluatorError as error:
        error.findings = [replace(each, where=f"{each.where} of the new folder") for each in error.findings]
        raise
