"""What a model gets right of each kind of held-out examples: shares, beside the scores that the evaluator gives.

    python -m training.fbc1.kinds OUTPUT    # answers to what training.fbc1.export wrote with the same numbers
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from contract_fbc1 import TASKS, prediction_file
from training.fbc1.constant import IOU, iou
from training.fbc1.export import EXAMPLES, FIRST_SEED, HeldOut, held_out

APART = "zsOD pictures whose descriptions do not all get the same"


def kinds(examples: HeldOut, output: Path) -> dict[str, list[bool]]:
    """Whether each answer in an output folder is right, by task and kind, and questions by their language, too.

    A text is right if it is the true one, word for word; boxes for something there if one meets a true one at an IoU
    of 0.5, and for nothing there if they are none. Raises OSError and KeyError for answers that are not there.
    """
    found: dict[str, list[bool]] = {}
    for kind, right in _answers(examples, output):
        found.setdefault(kind, []).append(right)
    return dict(sorted(found.items()))


def _answers(examples: HeldOut, output: Path) -> Iterator[tuple[str, bool]]:
    programs, words, boxes, answers = (
        json.loads((output / prediction_file(task)).read_text(encoding="utf-8")) for task in TASKS
    )
    for id, example in examples.programs.items():
        yield f"C2C {example.kind}", programs[id].split() == example.answer.split()
    for name, example in examples.words.items():
        yield f"HTR {example.kind}", words[name] == example.answer
    for name, listed in examples.requests.items():
        for example in listed:
            given = boxes[name][example.text]
            hits = any(iou(box, true) >= IOU for box in given for true in example.boxes)
            yield f"zsOD {example.kind}", hits if example.boxes else not given
        yield APART, any(given != boxes[name][listed[0].text] for given in boxes[name].values())
    for id, (_, example) in examples.questions.items():
        for kind in (example.kind, example.language):
            yield f"VQA {kind}", answers[id] == example.answer


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.fbc1.kinds", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=Path, help="folder with the four prediction_{TASK}.json")
    parser.add_argument("--examples", type=int, default=EXAMPLES, help="of each task (default: %(default)s)")
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED, help="(default: %(default)s)")
    arguments = parser.parse_args()
    for kind, right in kinds(held_out(arguments.examples, arguments.first_seed), arguments.output).items():
        print(f"{kind:<58} {sum(right):>4} of {len(right):>4}  {sum(right) / len(right):.2f}")


if __name__ == "__main__":
    main()
