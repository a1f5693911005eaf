"""SberQuAD and MuSeRC → TextQA."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from training.convert.reading import clean, read_records
from training.convert.source import ConvertSettings, Part, find_files, make_parts
from training.convert.writer import Row
from training.worlds.wording import LETTERS, option_key

WITH_OPTIONS = 0.5  # of MuSeRC's questions that have a wrong answer
_SENTENCE_NUMBER = re.compile(r"\((\d{1,3})\)\s*")


def sberquad(settings: ConvertSettings) -> list[Part]:
    """In each layout that it is published in: SQuAD's nested JSON, and a record a question (JSON lines, Parquet)."""
    files = find_files(settings.inputs, ("*.json", "*.json.gz", "*.jsonl", "*.parquet"))
    seen: set[tuple[str, str]] = set()  # a folder may hold the same questions in two layouts

    def rows(path: Path) -> Iterator[Row]:
        for at, record in read_records(path, settings.report):
            for place, passage, question, answers in _questions(at, record):
                passage, question = clean(passage), clean(question)
                accepted = list(dict.fromkeys(filter(None, map(clean, answers))))
                if not passage or not question or not accepted:
                    settings.report.bad(place, record, "a passage, a question, and an answer that is not empty")
                elif (passage, question) in seen:
                    settings.report.leave_out("the same question to the same passage once more")
                else:
                    seen.add((passage, question))
                    yield Row("TextQA", place, passage, (passage, question), tuple(accepted))

    return make_parts(files, rows)


def _questions(place: str, record: Any) -> Iterator[tuple[str, Any, Any, list[Any]]]:
    """(place, passage, question, answers) of a document, a paragraph or a question; of anything else Nones."""
    nested = next((key for key in ("data", "paragraphs") if isinstance(_get(record, key), list)), None)
    if nested:
        for number, inner in enumerate(record[nested]):
            yield from _questions(f"{place}: {nested} {number}", inner)
    elif isinstance(_get(record, "qas"), list):
        for number, qa in enumerate(record["qas"]):
            listed = _get(qa, "answers")
            answers = [_get(answer, "text") for answer in listed] if isinstance(listed, list) else []
            yield f"{place}: qas {number}", record.get("context"), _get(qa, "question"), answers
    else:
        texts = _get(_get(record, "answers"), "text")
        yield place, _get(record, "context"), _get(record, "question"), texts if isinstance(texts, list) else []


def muserc(settings: ConvertSettings) -> list[Part]:
    """Russian SuperGLUE's JSON lines, a passage each, whose answers are labelled 1 (right) or 0.

    All right answers are accepted. Half of the questions with wrong ones get options: one right answer, up to three
    wrong ones.
    """
    files = find_files(settings.inputs, ("*.jsonl",))

    def rows(path: Path) -> Iterator[Row]:
        for place, record in read_records(path, settings.report):
            source = record["passage"] if isinstance(_get(record, "passage"), dict) else record
            passage = _without_numbers(clean(_get(source, "text")))
            questions = _get(source, "questions")
            if not passage or not isinstance(questions, list):
                settings.report.bad(place, record, "an object with passage.text and passage.questions")
                continue
            for number, question in enumerate(questions):
                row = _muserc_row(settings, f"{place}: question {number}", passage, question)
                if row is not None:
                    yield row

    return make_parts(files, rows)


def _muserc_row(settings: ConvertSettings, place: str, passage: str, question: Any) -> Row | None:
    asked, listed = clean(_get(question, "question")), _get(question, "answers")
    if not asked or not isinstance(listed, list):
        settings.report.bad(place, question, "a question with a list of answers")
        return None
    by_label: dict[int, list[str]] = {0: [], 1: []}
    for answer in listed:
        text, label = clean(_get(answer, "text")), _get(answer, "label")
        if not text or isinstance(label, bool) or label not in (0, 1):
            settings.report.bad(place, answer, "answers with a text and a label 0 or 1")
            return None
        by_label[label].append(text)
    right = list(dict.fromkeys(by_label[1]))
    if not right:
        settings.report.leave_out("no answer is labelled as right")
        return None
    rng = settings.rng(place)
    wrong = _distinct(right, by_label[0])
    if not wrong or rng.random() >= WITH_OPTIONS:
        return Row("TextQA", place, passage, (passage, asked), tuple(right))
    distractors = rng.sample(wrong, min(len(LETTERS) - 1, len(wrong)))
    return Row("TextQA", place, passage, (passage, asked), (rng.choice(right),), tuple(distractors))


def _distinct(right: list[str], wrong: list[str]) -> list[str]:
    """The wrong answers that no scoring takes for a right one or for each other."""
    keys = {option_key(text) for text in right}
    distinct = []
    for text in wrong:
        if option_key(text) not in keys:
            keys.add(option_key(text))
            distinct.append(text)
    return distinct


def _without_numbers(passage: str) -> str:
    """A passage without the numbers of its sentences: `(1) … (2) …`, and no other number in brackets."""
    expected = 1

    def drop(match: re.Match[str]) -> str:
        nonlocal expected
        if int(match[1]) != expected:
            return match[0]
        expected += 1
        return ""

    return _SENTENCE_NUMBER.sub(drop, passage).strip()


def _get(record: Any, key: str) -> Any:
    return record.get(key) if isinstance(record, dict) else None
