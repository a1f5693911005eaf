"""Converters, on small files in each source's own layout, and the data folders that they write."""

import csv
import gzip
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from evaluator.cli.app import main as evaluate
from evaluator.data.dataset import read_data
from training.convert import mathematics, reading
from training.convert.__main__ import EXIT_BAD_DATA, EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, SOURCES, main
from training.convert.counter import RowCounter
from training.convert.signs import Box, reading_order
from training.data_format import FOLDERS, DataError, Sample, read_samples, read_split, write_evaluation_data
from training.dataset import make_row
from training.worlds import wording

DATA = Path(__file__).parents[2] / "data" / "convert"
SAMPLE_DATA = Path(__file__).parents[3] / "submission" / "training" / "sample_data"
SUBMISSION = Path(__file__).parents[3] / "submission"
# The source, its folder in DATA, and what it becomes by task: numbers of train and val.
CASES = {
    "sberquad": ("sberquad", {"TextQA": (4, 1)}),
    "sberquad_flat": ("sberquad", {"TextQA": (2, 1)}),
    "muserc": ("muserc", {"TextQA": (5, 1)}),
    "mathematics": ("mathematics", {"MathQA": (16, 1)}),
    "coco": ("coco", {"ImageCaptioning": (3, 1), "ImageGeneration": (3, 1)}),
    "visual_genome": ("visual_genome", {"VisualQA": (5, 0)}),
    "start": ("start", {"TRitW": (2, 1)}),
    "sberidp": ("sberidp", {"TRitW": (2, 0)}),
    "sberidp_table": ("sberidp", {"TRitW": (2, 0)}),
}


def run(source, folder, output, *options):
    return main([source, "--input", str(folder), "--output", str(output), *map(str, options)])


def convert(case, output, *options):
    source, _ = CASES[case]
    assert run(source, DATA / case, output, *options) == EXIT_OK
    return output


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def samples(data, task):
    return [*read_split(data, task, "train"), *read_split(data, task, "val")]


@pytest.fixture
def copy(tmp_path):
    """Copies a folder of DATA, to be spoilt."""
    return lambda case: Path(shutil.copytree(DATA / case, tmp_path / "source" / case))


class Log:
    """What was said on standard error since the last `clear`."""

    def __init__(self, capsys):
        self._capsys, self._text = capsys, ""

    @property
    def text(self):
        self._text += self._capsys.readouterr().err
        return self._text

    def clear(self):
        self._capsys.readouterr()
        self._text = ""


@pytest.fixture
def log(capsys):
    return Log(capsys)


# --- each source ---


@pytest.mark.parametrize("case", CASES)
def test_every_source_becomes_data_that_the_evaluator_takes(case, tmp_path):
    options = ("--val-share", 0) if not any(val for _, val in CASES[case][1].values()) else ()
    data = convert(case, tmp_path / "data", *options)
    assert sorted(path.name for path in data.iterdir()) == sorted(FOLDERS[task] for task in CASES[case][1])
    for task, (train, val) in CASES[case][1].items():
        assert len(read_split(data, task, "train")) == train
        assert len(read_split(data, task, "val")) == val
    arguments = ["evaluation", "--input", str(data), "--split", "train", "--output", str(tmp_path / "evaluation")]
    assert main(arguments) == EXIT_OK
    checked = read_data(tmp_path / "evaluation")
    assert {task.name: len(found) for task, found in checked.by_task().items()} == {
        task: train for task, (train, _) in CASES[case][1].items()
    }


def test_sberquad_keeps_passages_questions_and_all_answers(tmp_path):
    data = convert("sberquad", tmp_path / "data")
    by_question = {sample.texts[-1]: sample for sample in samples(data, "TextQA")}
    assert by_question["Кто описал некоторые органы?"].answers == ("египетский врач Имхотеп", "Имхотеп")
    hedgehog = by_question["В каком году вышел «Ёжик в тумане»?"]
    assert any(text.endswith("Лошадь в нём белая 🐴.") for text in hedgehog.texts)
    (val,) = read_split(data, "TextQA", "val")
    assert val.answers == ("Улица Авиаконструктора Сухого",)


def test_sberquad_reads_gzip_and_parquet_alike_and_no_question_twice(tmp_path):
    rows = [json.loads(line) for line in (DATA / "sberquad_flat/train.jsonl").read_text("utf-8").splitlines()]
    packed, columns, both = tmp_path / "gzip", tmp_path / "parquet", tmp_path / "both"
    for folder in (packed, columns, both):
        folder.mkdir()
    nested = gzip.compress((DATA / "sberquad/train_v1.0.json").read_bytes())
    for folder in (packed, both):
        (folder / "train_v1.0.json.gz").write_bytes(nested)
    for folder in (columns, both):
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "train-00000-of-00001.parquet")
    found = {}
    for folder in (packed, columns, both):
        assert run("sberquad", folder, tmp_path / "data" / folder.name) == EXIT_OK
        found[folder.name] = {
            (sample.texts[-1], sample.answers) for sample in samples(tmp_path / "data" / folder.name, "TextQA")
        }
    assert len(found["parquet"]) == 2 and found["parquet"] < found["gzip"] == found["both"]


def test_muserc_labels_become_answers_and_options(tmp_path):
    seen = Counter()
    for seed in range(12):
        data = convert("muserc", tmp_path / str(seed), "--seed", seed)
        for sample in samples(data, "TextQA"):
            passage = next(text for text in sample.texts if len(text) > 40)
            assert "(1)" not in passage and "(2)" not in passage
            if "биатлон" in passage:
                assert "(13) место" in passage  # a number in brackets that counts no sentence
            question = next(text for text in sample.texts if text.endswith("?") and text in QUESTIONS)
            right, wrong = QUESTIONS[question]
            listed = listed_options(sample.texts[-1])
            seen[question, bool(listed)] += 1
            if not listed:
                assert sample.answers == right
                continue
            answer, letter, joined = sample.answers
            assert answer in right and listed[letter] == answer and joined == f"{letter} {answer}"
            assert len(listed) == min(4, 1 + len(wrong))
            assert set(listed.values()) - {answer} <= set(wrong)
    assert all(seen[question, False] for question in QUESTIONS)
    assert {question for question, has_options in seen if has_options} == {q for q in QUESTIONS if QUESTIONS[q][1]}


QUESTIONS = {
    "На сколько секунд женская команда опередила соперниц?": (
        ("Всего на 0,3 секунды.", "На 0,3 секунды."), ("На секунду.", "На 0,5 секунды.")),
    "Кто выиграл эстафету?": (("Норвежцы", "Сборная Норвегии"), ("Немцы", "Французы", "Австрийцы", "Россияне")),
    "Где прошла гонка?": (("В Оберхофе",), ()),
    "Как зовут щенка?": (("Шарик",), ("Бобик",)),  # «шарик!» reads the same to exact match
    "Где любит спать щенок?": (("Под столом",), ("На диване", "На балконе")),
    "Почему опоздал поезд?": (("Из-за снегопада",), ("Из-за дождя",)),
}  # fmt: skip


def listed_options(text):
    text = re.sub(r"^[Вв]арианты: ", "", text)
    parts = re.split(r"; (?=[a-d]\) )", text)
    return {part[0]: part[3:] for part in parts} if text.startswith("a) ") else {}


def test_coco_captions_and_pictures_are_one_image(tmp_path):
    data = convert("coco", tmp_path / "data")
    captions = {sample.images[0].name: sample for sample in samples(data, "ImageCaptioning")}
    cake = captions["COCO_train2014_000000000009.jpg"]
    assert cake.answers == ("A wooden table with a cake on it.", "A cake with a bear.")
    for sample in samples(data, "ImageGeneration"):
        assert sample.answers == () and not sample.images
        assert any(sample.texts[-1].endswith(caption) for caption in captions[sample.image.name].answers)
        assert sample.image.read_bytes() == captions[sample.image.name].images[0].read_bytes()


def test_coco_takes_translations_and_reports_what_has_none(tmp_path, copy, log):
    translations = DATA / "coco/translations.json"
    data = convert("coco", tmp_path / "data", "--translations", translations)
    (sample,) = [s for s in read_split(data, "ImageCaptioning", "train") if s.images[0].name.endswith("09.jpg")]
    assert sample.answers == ("Деревянный стол, на котором стоит торт.", "Торт с медвежонком 🧸.")
    some = tmp_path / "some.json"
    some.write_text(json.dumps({"A giraffe eats leaves.": "Жираф ест листья."}), "utf-8")
    assert run("coco", DATA / "coco", tmp_path / "none", "--translations", some) == EXIT_BAD_DATA
    assert "A red vase with flowers." in log.text and "a translation in --translations" in log.text
    assert not (tmp_path / "none").exists()


def test_visual_genome_draws_questions_of_each_image(tmp_path):
    original = DATA / "visual_genome/question_answers.json"
    assert run("visual_genome", original, tmp_path / "one") == EXIT_OK
    assert run("visual_genome", original, tmp_path / "all", "--per-image", 0) == EXIT_OK
    one, every = samples(tmp_path / "one", "VisualQA"), samples(tmp_path / "all", "VisualQA")
    assert Counter(sample.images[0].name for sample in one) == {"1.jpg": 1, "2.jpg": 1, "3.jpg": 1}
    assert Counter(sample.images[0].name for sample in every) == {"1.jpg": 3, "2.jpg": 1, "3.jpg": 1}
    assert {sample.answers for sample in every} >= {("Green",), ("10 feet",), ("No one",)}
    russian = DATA / "visual_genome/question_answers_ru.json"
    assert run("visual_genome", russian, tmp_path / "ru") == EXIT_OK
    assert {sample.answers for sample in samples(tmp_path / "ru", "VisualQA")} == {("жёлтого",), ("три",)}


def test_start_reads_whole_images_in_reading_order(tmp_path):
    data = convert("start", tmp_path / "data")
    train = {sample.images[0].name: sample.answers for sample in read_split(data, "TRitW", "train")}
    assert train == {  # c3 has a text that nobody can read
        "a1.jpg": ("супермаркет недвижимости", "Супермаркет недвижимости"),
        "b2.jpg": ("аптека 24 ёлки", "Аптека 24 ЁЛКИ"),
    }
    (val,) = read_split(data, "TRitW", "val")  # the source's test part
    assert val.answers == ("хор", "ХОР")


def test_start_cuts_boxes_out(tmp_path):
    data = convert("start", tmp_path / "data", "--crop")
    cut = {sample.answers[-1]: sample.images[0] for sample in samples(data, "TRitW")}
    assert set(cut) == {"Супермаркет", "недвижимости", "ЁЛКИ", "Аптека", "24", "Касса", "ХОР"}
    with Image.open(cut["недвижимости"]) as image:  # shares 0.5, 0.1, 0.9, 0.4 of 40 × 20, where the sign is white
        assert image.size == (16, 6) and image.getpixel((5, 3))[0] > 200
    with Image.open(cut["ЁЛКИ"]) as image:
        assert image.size == (12, 4) and image.getpixel((5, 2))[1] < 60


@pytest.mark.parametrize("case", ["sberidp", "sberidp_table"])
def test_sberidp_polygons_and_tables(case, tmp_path):
    data = convert(case, tmp_path / "data")
    found = {sample.images[0].name: sample.answers[-1] for sample in samples(data, "TRitW")}
    assert found == {"0001.png": "Договор № 5", "0002.png": "Счёт «Ёлка»"}


def test_boxes_are_cut_from_the_image_as_it_was_annotated(tmp_path):
    """A photograph that lies on its side, annotated as seen (upright) and annotated as it lies."""
    folder = tmp_path / "source"
    (folder / "images").mkdir(parents=True)
    upright = Image.new("RGB", (20, 40), "black")
    upright.paste("white", (0, 0, 20, 10))
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save(folder / "images/a.png", exif=exif)
    for size, box in (((20, 40), [0, 0, 20, 10]), ((40, 20), [0, 0, 10, 20])):
        document = {
            "images": [{"id": 1, "file_name": "a.png", "width": size[0], "height": size[1]}],
            "annotations": [{"image_id": 1, "bbox": box, "attributes": {"translation": "дом"}}],
        }
        (folder / "annotations.json").write_text(json.dumps(document), "utf-8")
        output = tmp_path / f"{size}"
        assert run("sberidp", folder, output, "--crop", "--val-share", 0) == EXIT_OK
        (sample,) = read_split(output, "TRitW", "train")
        with Image.open(sample.images[0]) as image:
            assert image.size == (box[2], box[3])
            assert image.convert("L").getextrema()[0] > 200  # white all over


def test_reading_order_goes_line_by_line():
    boxes = [Box("д", (5, 31, 9, 40)), Box("б", (50, 2, 60, 12)), Box("г", (40, 16, 60, 26)), Box("а", (1, 4, 40, 14)),
             Box("в", (0, 15, 30, 25))]  # fmt: skip
    assert "".join(box.text for box in reading_order(boxes)) == "абвгд"


# --- mathematics ---

RELATIONS = [
    ("Is {} < {}?", lambda a, b: a < b), ("Is {} less than {}?", lambda a, b: a < b),
    ("Is {} smaller than {}?", lambda a, b: a < b), ("Is {} <= {}?", lambda a, b: a <= b),
    ("Is {} less than or equal to {}?", lambda a, b: a <= b), ("Is {} at most {}?", lambda a, b: a <= b),
    ("Is {} at most as big as {}?", lambda a, b: a <= b), ("Is {} > {}?", lambda a, b: a > b),
    ("Is {} greater than {}?", lambda a, b: a > b), ("Is {} bigger than {}?", lambda a, b: a > b),
    ("Is {} >= {}?", lambda a, b: a >= b), ("Is {} greater than or equal to {}?", lambda a, b: a >= b),
    ("Is {} at least {}?", lambda a, b: a >= b), ("Is {} at least as big as {}?", lambda a, b: a >= b),
    ("Does {} = {}?", lambda a, b: a == b), ("Are {} and {} equal?", lambda a, b: a == b),
    ("Is {} equal to {}?", lambda a, b: a == b), ("Do {} and {} have the same value?", lambda a, b: a == b),
    ("Is {} != {}?", lambda a, b: a != b), ("Is {} not equal to {}?", lambda a, b: a != b),
    ("Are {} and {} unequal?", lambda a, b: a != b), ("Are {} and {} nonequal?", lambda a, b: a != b),
    ("Are {} and {} non-equal?", lambda a, b: a != b), ("Do {} and {} have different values?", lambda a, b: a != b),
]  # fmt: skip


@pytest.mark.parametrize(("question", "true"), RELATIONS)
def test_comparisons_in_russian_say_what_the_english_ones_do(question, true):
    for first, second in (("3", "-0.5"), ("1/3", "2/3"), ("-7", "-7")):
        answer = str(true(Fraction(first), Fraction(second)))
        for seed in range(12):
            row = mathematics.translate(random.Random(seed), "", question.format(first, second), answer)
            said = re.sub(r"^(Верно ли|Правда ли), что |\?$", "", row.texts[0])
            assert (row.answers[0] == "да") == russian_truth(said)
            assert {row.answers[0], *row.distractors} == {"да", "нет"}


def russian_truth(said):
    said = said.replace(",5", ".5")
    patterns = {
        r"(\S+) (?:<|меньше, чем) (\S+)": lambda a, b: a < b,
        r"(\S+) (?:>|больше, чем) (\S+)": lambda a, b: a > b,
        r"(\S+) (?:<=|меньше или равно|не больше) (\S+)": lambda a, b: a <= b,
        r"(\S+) (?:>=|больше или равно|не меньше) (\S+)": lambda a, b: a >= b,
        r"(\S+) (?:=|равно) (\S+)|(\S+) и (\S+) равны": lambda a, b: a == b,
        r"(\S+) не равно (\S+)|(\S+) и (\S+) не равны": lambda a, b: a != b,
    }
    for pattern, holds in patterns.items():
        if match := re.fullmatch(pattern, said):
            return holds(*(Fraction(number) for number in match.groups() if number))
    raise AssertionError(said)


def test_signs_in_words_are_the_same_equation():
    for seed in range(100):
        rng = random.Random(seed)
        equation = rng.choice(("-156*b = -151*b - 25", "0 = 4*k - 99 + 79", "2*(x + 3) - -5 = x/4 - 1"))
        said = mathematics.in_words(rng, equation, 1.0)
        assert not re.search(r"[*/=+]| - ", said)
        for words, sign in ((mathematics.mathqa.ADD, "+"), (mathematics.mathqa.SUBTRACT, "-"),
                            (("умножить на",), "*"), (mathematics.mathqa.DIVIDE, "/"),
                            ((*mathematics.mathqa.EQUALS, "это"), "=")):  # fmt: skip
            said = re.sub(rf"\b({'|'.join(words)})\b", sign, said)
        assert said.replace(" ", "") == equation.replace(" ", "")
        assert mathematics.in_words(rng, equation, 0.0) == equation


def test_mathematics_asks_in_russian_with_one_right_option(tmp_path):
    seen = Counter()
    for seed in range(20):
        data = convert("mathematics", tmp_path / str(seed), "--seed", seed)
        for sample in samples(data, "MathQA"):
            said = " ".join(sample.texts)
            assert not re.search(r"(?i)solve|what|which|value|sort|order|true", said)
            answer, letter, joined = sample.answers
            listed = listed_options(sample.texts[-1])
            assert listed[letter] == answer and joined == f"{letter} {answer}" and 2 <= len(listed) <= 4
            assert len({wording.option_key(option) for option in listed.values()}) == len(listed)
            if not re.search(r"\b[bkpovq]\b", " ".join(sample.texts[:-1])):
                assert "уравнени" not in said.lower()
            seen["words"] += "умножить на" in said
            seen["signs"] += "*" in said
    assert seen["words"] > 20 and seen["signs"] > 20


@pytest.mark.parametrize(
    ("question", "answer", "statement", "right"),
    [
        ("What is the third biggest value in -3/4, -100, 2/5?", "-100", "третье по величине, считая от наибольшего",
         "-100"),
        ("Which is the smallest value?  (a) -2/417  (b) 0.3  (c) -0.2  (d) -4", "d", "наименьшее|самое маленькое",
         "-4"),
        ("Which is the nearest to -2?  (a) 18  (b) 5  (c) 0.2  (d) 2/9  (e) 7", "c", "к -2", "0,2"),
        ("Put -3, -2, 4, 1/5 in decreasing order.", "4, 1/5, -2, -3", "в порядке убывания", "4, 1/5, -2, -3"),
        ("Sort 2/15, -1/5, 0.03.", "-1/5, 0.03, 2/15", "в порядке возрастания", "-1/5; 0,03; 2/15"),
        ("Which is smaller: 570/13 or 43?", "43", "меньше", "43"),
        ("Which is bigger: -3 or 1851?", "1851", "больше", "1851"),
    ],
)  # fmt: skip
def test_lists_of_numbers(question, answer, statement, right):
    for seed in range(10):
        row = mathematics.translate(random.Random(seed), "", re.sub(r"\s+", " ", question), answer)
        assert row.answers == (right,) and right not in row.distractors and row.is_comparison
        assert any(re.search(statement, text) for text in row.texts)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Solve 3*x = 6 for x.", "2.5"),
        ("Solve 3*x = 6 for y.", "2"),
        ("Solve 3*x = 6; rm -rf for x.", "2"),
        ("What is 2 + 2?", "4"),
        ("Which is smaller: 1 or 2?", "3"),
        ("Is 1 < 2?", "yes"),
        ("Is 1 nearly 2?", "True"),
        ("Which is bigger: 1/0 or 2?", "2"),
        ("Sort 3, 1, 2.", "1, 2"),
        ("What is the eleventh biggest value in 1, 2?", "1"),
        ("Which is the biggest value? (a) 1 (b) 2", "c"),
        ("Solve 3*x = 6 for x.", ""),
    ],
)
def test_sentences_that_are_none_of_the_source_are_bad(question, answer):
    with pytest.raises(ValueError):
        mathematics.translate(random.Random(0), "", question, answer)


def test_options_that_scoring_cannot_tell_apart_are_left_out():
    assert mathematics.translate(random.Random(0), "", "What is the biggest value in 1/2, 12?", "12") is None


# --- instructions, splits, limits, seeds ---


def write_sberquad(folder, passages, questions=3):
    folder.mkdir(parents=True)
    paragraphs = []
    for p in range(passages):
        answers = [{"text": f"{p + 5} ёжиков", "answer_start": 0}]
        qas = [{"id": q, "question": f"Вопрос {q} о городе {p}?", "answers": answers} for q in range(questions)]
        paragraphs.append({"context": f"В городе номер {p} живёт {p + 5} ёжиков.", "qas": qas})
    (folder / "train_v1.0.json").write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}), "utf-8")
    return folder


def test_instructions_are_many_separate_joined_and_absent(tmp_path):
    source = write_sberquad(tmp_path / "source", 200)
    assert run("sberquad", source, tmp_path / "data", "--val-share", 0.3) == EXIT_OK
    for split, world, other in (("train", "train", "heldout"), ("val", "heldout", "train")):
        forms, instructions = Counter(), set()
        for sample in read_split(tmp_path / "data", "TextQA", split):
            first = sample.texts[0].partition("В городе номер")[0].strip()
            forms["absent" if not first else "separate" if len(sample.texts) == 3 else "joined"] += 1
            instructions.add(re.sub(r"^пожалуйста, |, пожалуйста$", "", first.lower().rstrip(".:?")))
        total = sum(forms.values())
        assert abs(forms["separate"] / total - wording.SEPARATE) < 0.1
        assert abs(forms["joined"] / total - wording.JOINED) < 0.1
        assert len(instructions) > 50
        assert instructions - {""} <= set(wording.wordings("TextQA", world))
        assert not instructions & set(wording.wordings("TextQA", other))


def test_no_passage_is_in_both_splits_and_no_seed_moves_one(tmp_path):
    source = write_sberquad(tmp_path / "source", 300)
    shown = []
    for seed in (0, 1):
        output = tmp_path / f"data{seed}"
        assert run("sberquad", source, output, "--val-share", 0.3, "--seed", seed) == EXIT_OK
        passages = {}
        for split in ("train", "val"):
            said = [" ".join(sample.texts) for sample in read_split(output, "TextQA", split)]
            passages[split] = {re.search(r"В городе номер (\d+)", text)[1] for text in said}
        assert not passages["train"] & passages["val"] and len(passages["train"] | passages["val"]) == 300
        assert 60 < len(passages["val"]) < 120
        shown.append(passages)
    assert shown[0] == shown[1]


def test_what_the_source_validates_on_is_in_no_training_part(tmp_path, copy):
    source = copy("sberquad")
    shutil.copy(source / "dev_v1.0.json", source / "train_more.json")
    document = json.loads((source / "train_more.json").read_text("utf-8"))
    document["data"][0]["paragraphs"][0]["qas"][0]["question"] = "Что за улица?"
    (source / "train_more.json").write_text(json.dumps(document), "utf-8")
    assert run("sberquad", source, tmp_path / "data") == EXIT_OK
    train = read_split(tmp_path / "data", "TextQA", "train")
    val = read_split(tmp_path / "data", "TextQA", "val")
    assert len(val) == 2 and len(train) == 4
    assert not any("Улица Авиаконструктора" in text for sample in train for text in sample.texts)


def test_a_seed_decides_all_and_the_place_nothing(tmp_path, copy):
    first = contents(convert("muserc", tmp_path / "first"))
    assert contents(convert("muserc", tmp_path / "again")) == first
    assert run("muserc", copy("muserc"), tmp_path / "moved") == EXIT_OK
    assert contents(tmp_path / "moved") == first
    assert contents(convert("muserc", tmp_path / "other", "--seed", 1)) != first


def test_a_limit_holds_for_each_task_and_part_and_takes_of_every_file(tmp_path):
    data = convert("coco", tmp_path / "coco", "--limit", 2)
    assert [len(read_split(data, task, split)) for task in ("ImageCaptioning", "ImageGeneration")
            for split in ("train", "val")] == [2, 1, 2, 1]  # fmt: skip
    data = convert("mathematics", tmp_path / "mathematics", "--limit", 6)
    train = read_split(data, "MathQA", "train")
    said = [" ".join(sample.texts) for sample in train]
    assert len(train) == 6 and sum("порядке" in text for text in said) == 1


# --- bad rows ---


def test_bad_rows_are_counted_shown_and_skipped_within_the_tolerance(tmp_path, log):
    source = write_sberquad(tmp_path / "source", 100)
    document = json.loads((source / "train_v1.0.json").read_text("utf-8"))
    document["data"][0]["paragraphs"][7]["qas"][1]["answers"] = [{"text": "  "}]
    document["data"][0]["paragraphs"][9]["qas"][0]["question"] = "\ud83d"
    (source / "train_v1.0.json").write_text(json.dumps(document), "utf-8")
    assert run("sberquad", source, tmp_path / "data") == EXIT_OK
    assert len(samples(tmp_path / "data", "TextQA")) == 298
    assert "train_v1.0.json: data 0: paragraphs 7: qas 1" in log.text and "allowed: a passage" in log.text
    assert "sberquad: 2 of 300 rows are bad (0.67%) and were left out" in log.text
    log.clear()
    assert run("sberquad", source, tmp_path / "strict", "--tolerance", 0.001) == EXIT_BAD_DATA
    assert "2 of 300 rows are bad (0.67%); allowed: 0.10% (--tolerance); nothing is written" in log.text
    assert not (tmp_path / "strict").exists()


def test_only_the_first_bad_rows_are_shown(tmp_path, log):
    source = write_sberquad(tmp_path / "source", 40, questions=1)
    text = (source / "train_v1.0.json").read_text("utf-8")
    (source / "train_v1.0.json").write_text(re.sub(r'"question": "[^"]*"', '"question": 5', text), "utf-8")
    assert run("sberquad", source, tmp_path / "data", "--tolerance", 1) == EXIT_BAD_DATA  # nothing is left
    assert log.text.count("bad row:") == 10 and "further bad rows are counted" in log.text


def spoil(case, path, change):
    def apply(folder):
        file = folder / path
        if file.suffix == ".csv":
            with file.open(encoding="utf-8", newline="") as opened:
                rows = list(csv.reader(opened))
            change(rows)
            with file.open("w", encoding="utf-8", newline="") as opened:
                csv.writer(opened).writerows(rows)
        else:
            is_lines = file.suffix == ".jsonl"
            text = file.read_text("utf-8")
            document = [json.loads(line) for line in text.splitlines()] if is_lines else json.loads(text)
            change(document)
            text = "\n".join(json.dumps(row) for row in document) if is_lines else json.dumps(document)
            file.write_text(text, "utf-8")

    return pytest.param(case, apply)


SPOILT = [
    spoil("sberquad", "train_v1.0.json", lambda d: d["data"][0]["paragraphs"].append("текст")),
    spoil("sberquad", "train_v1.0.json", lambda d: d["data"][0]["paragraphs"][0]["qas"][0].update(answers=None)),
    spoil("sberquad", "train_v1.0.json", lambda d: d["data"][0]["paragraphs"][0].update(context=["текст"])),
    spoil("sberquad_flat", "train.jsonl", lambda d: d[0]["answers"].update(text="белая")),
    spoil("muserc", "train.jsonl", lambda d: d[0]["passage"]["questions"][0]["answers"][0].update(label=2)),
    spoil("muserc", "train.jsonl", lambda d: d[0]["passage"]["questions"][0]["answers"][0].update(label=True)),
    spoil("muserc", "train.jsonl", lambda d: d[0]["passage"]["questions"][0]["answers"][0].pop("label")),
    spoil("muserc", "train.jsonl", lambda d: d[0]["passage"].update(questions="все")),
    spoil("muserc", "train.jsonl", lambda d: d.append([])),
    spoil("coco", "annotations/captions_train2014.json", lambda d: d["annotations"][0].update(image_id=777)),
    spoil("coco", "annotations/captions_train2014.json", lambda d: d["annotations"][0].update(image_id=[])),
    spoil("coco", "annotations/captions_train2014.json", lambda d: d["annotations"][0].update(caption=" \n")),
    spoil("coco", "annotations/captions_train2014.json", lambda d: d["images"][0].update(file_name="../x.jpg")),
    spoil("coco", "annotations/captions_train2014.json", lambda d: d["images"][0].update(file_name="none.jpg")),
    spoil("coco", "annotations/captions_train2014.json", lambda d: d["images"].append(d["images"][0])),
    spoil("visual_genome", "question_answers.json", lambda d: d[0].update(id=99)),
    spoil("visual_genome", "question_answers.json", lambda d: d[0]["qas"][0].update(answer="")),
    spoil("visual_genome", "question_answers.json", lambda d: d[0]["qas"].append(3)),
    spoil("visual_genome", "image_data.json", lambda d: d[0].update(url=None)),
    spoil("start", "train/real/info.csv", lambda d: d[1].__setitem__(4, "[[")),
    spoil("start", "train/real/info.csv", lambda d: d[1].__setitem__(4, '[[{"left": NaN, "label": "дом"}]]')),
    spoil("start", "train/real/info.csv", lambda d: d[1].__setitem__(0, "")),
    spoil("start", "train/real/info.csv", lambda d: d[1].append("лишнее")),
    spoil("sberidp", "annotations.json", lambda d: d["annotations"][0].update(segmentation=[[1, 2]])),
    spoil("sberidp", "annotations.json", lambda d: d["annotations"][0]["attributes"].update(translation=5)),
    spoil("sberidp", "annotations.json", lambda d: d["annotations"][3].update(bbox=[0, 0, 1e400, 5])),
]


@pytest.mark.parametrize(("case", "apply"), SPOILT)
def test_a_spoilt_row_is_reported_and_the_others_stay(case, apply, tmp_path, copy, log):
    folder = copy(case)
    apply(folder)
    assert run(CASES[case][0], folder, tmp_path / "strict", "--tolerance", 0) == EXIT_BAD_DATA
    assert "bad row: " in log.text and "allowed: " in log.text
    assert not (tmp_path / "strict").exists()
    assert run(CASES[case][0], folder, tmp_path / "data", "--tolerance", 0.9) == EXIT_OK
    assert any(samples(tmp_path / "data", task) for task in CASES[case][1])


@pytest.mark.parametrize("case", CASES)
def test_files_that_cannot_be_read_to_their_end_write_nothing(case, tmp_path, copy, log):
    folder = copy(case)
    for path in folder.rglob("*"):
        if path.suffix in (".json", ".jsonl", ".csv", ".txt"):
            path.write_bytes(path.read_bytes()[:-20] + b"\xff\xfe")
    assert run(CASES[case][0], folder, tmp_path / "data") == EXIT_BAD_DATA
    assert str(folder) in log.text and "UTF-8" in log.text
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("name", ["train.json.gz", "train.jsonl.gz", "train.parquet"])
@pytest.mark.parametrize("damage", ["cut", "changed", "none of the kind"])
def test_packed_files_that_are_damaged_write_nothing(name, damage, tmp_path, log):
    path = tmp_path / name
    rows = [{"context": f"Ёж {n}", "question": f"Кто {n}?", "answers": {"text": [f"ёж {n}"]}} for n in range(2000)]
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        text = "\n".join(map(json.dumps, rows)) if ".jsonl" in name else json.dumps(rows)
        path.write_bytes(gzip.compress(text.encode()))
    assert run("sberquad", path, tmp_path / "whole") == EXIT_OK
    packed = bytearray(path.read_bytes())
    middle = len(packed) // 2
    if damage == "cut":
        packed = packed[:middle]
    elif damage == "changed":
        packed[10:210] = b"\xff" * 200  # behind the header of gzip
    else:
        packed = b"nothing"
    path.write_bytes(packed)
    assert run("sberquad", path, tmp_path / "data") == EXIT_BAD_DATA
    assert name in log.text and not (tmp_path / "data").exists()


def test_wrong_inputs_are_named(tmp_path, log):
    assert run("sberquad", tmp_path / "nowhere", tmp_path / "data") == EXIT_BAD_DATA
    assert "nowhere: does not exist" in log.text
    (tmp_path / "empty").mkdir()
    assert run("mathematics", tmp_path / "empty", tmp_path / "data") == EXIT_BAD_DATA
    assert "algebra__linear_1d.txt" in log.text
    assert run("muserc", DATA / "muserc/test.jsonl", tmp_path / "data") == EXIT_BAD_DATA
    assert "is a test set" in log.text
    (tmp_path / "table.csv").write_text("кадр,подпись\na.png,дом\n", "utf-8")
    assert run("sberidp", tmp_path / "table.csv", tmp_path / "data") == EXIT_BAD_DATA
    assert "кадр, подпись" in log.text and "image_name" in log.text
    (tmp_path / "file").write_text("")
    assert run("muserc", DATA / "muserc", tmp_path / "file" / "data") == EXIT_FAILED
    with pytest.raises(SystemExit) as stopped:
        run("muserc", DATA / "muserc", tmp_path / "data", "--val-share", 2)
    assert stopped.value.code == 2


# --- images ---


def one_image(folder, name, content):
    """A table of two images, the second of which is `name`; returns its folder."""
    shutil.copytree(DATA / "sberidp_table", folder)
    if content is not None:
        (folder / "images" / name).write_bytes(content)
    with (folder / "labels.csv").open("a", encoding="utf-8", newline="") as file:
        csv.writer(file).writerow([name, "дом"])
    return folder


def picture(kind, size=(20, 10), **options):
    buffer = io.BytesIO()
    Image.new("RGB", size, "red").save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "allowed"),
    [
        ("../labels.csv", None, "a relative path without"),
        ("/etc/hostname", None, "a relative path without"),
        ("..\\x.png", None, "a relative path without"),
        ("a\0b.png", None, "a relative path without"),
        ("ж" * 101, None, "at most 200 bytes"),
        ("a/" * 451 + "a", None, "at most 900 characters"),
        ("ж" * 100, None, "a file in"),
        ("none.png", None, "a file in"),
        (".", None, "a relative path without"),
        ("broken.png", b"not an image", "an image in one of the formats JPEG, PNG, WEBP, BMP"),
        ("cut.jpg", picture("JPEG", (400, 300))[:-900], "an image that can be read"),
        ("cut.png", picture("PNG", (64, 64))[:-40], "an image that can be read"),
        ("moving.gif", picture("GIF"), "an image in one of the formats JPEG, PNG, WEBP, BMP"),
        ("long.png", picture("PNG", (2000, 2)), "sides of at most 100 to 1"),
        ("large.png", picture("PNG", (4100, 4100)), "at most 16777216 pixels"),
    ],
)
def test_images_that_cannot_be_used_are_bad_rows(name, content, allowed, tmp_path, log):
    folder = one_image(tmp_path / "source", name, content)
    assert run("sberidp", folder, tmp_path / "strict") == EXIT_BAD_DATA
    assert "bad row: labels.csv: line 4" in log.text and allowed in log.text
    assert run("sberidp", folder, tmp_path / "data", "--tolerance", 0.5) == EXIT_OK
    assert len(samples(tmp_path / "data", "TRitW")) == 2
    images = [path for path in (tmp_path / "data").rglob("*") if path.suffix != ".json" and path.is_file()]
    assert sorted(path.name for path in images) == ["0001.png", "0002.png"]


@pytest.mark.parametrize("kind", ["link to a file outside", "link to a folder outside", "circle", "fifo"])
def test_links_out_of_the_image_folder_and_devices_are_refused(kind, tmp_path, log):
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "private.png").write_bytes(picture("PNG"))
    name = "in/private.png" if kind == "link to a folder outside" else "private.png"
    folder = one_image(tmp_path / "source", name, None)
    if kind == "link to a file outside":
        (folder / "images/private.png").symlink_to(secret / "private.png")
    elif kind == "link to a folder outside":
        (folder / "images/in").symlink_to(secret)
    elif kind == "circle":
        (folder / "images/private.png").symlink_to("private.png")
    else:
        os.mkfifo(folder / "images/private.png")
    assert run("sberidp", folder, tmp_path / "data", "--tolerance", 0.5) == EXIT_OK
    assert "bad row: labels.csv: line 4: 'private.png'" in log.text or "'in/private.png'" in log.text
    assert not list((tmp_path / "data").rglob("private.png"))


def test_max_side_makes_images_smaller_and_takes_more_formats(tmp_path):
    folder = one_image(tmp_path / "source", "moving.gif", picture("GIF", (300, 150)))
    assert run("sberidp", folder, tmp_path / "data", "--max-side", 100) == EXIT_OK
    found = {sample.images[0].name: sample.images[0] for sample in samples(tmp_path / "data", "TRitW")}
    assert set(found) == {"0001.png.jpg", "0002.png.jpg", "moving.gif.jpg"}
    with Image.open(found["moving.gif.jpg"]) as image:
        assert image.format == "JPEG" and image.size == (100, 50)


def test_images_are_linked_and_two_folders_may_use_one_name(tmp_path, copy):
    data = convert("sberidp_table", tmp_path / "data", "--val-share", 0)
    linked = data / "text_recognition/images/0001.png"
    assert linked.read_bytes() == (DATA / "sberidp_table/images/0001.png").read_bytes()
    source = copy("start")
    shutil.copytree(source / "train/real", source / "train/synth")
    Image.new("RGB", (40, 20), "yellow").save(source / "train/synth/images/a1.jpg")
    assert run("start", source, tmp_path / "two") == EXIT_OK
    both = [s.images[0] for s in read_split(tmp_path / "two", "TRitW", "train") if s.images[0].name == "a1.jpg"]
    assert len(both) == 2 and both[0].read_bytes() != both[1].read_bytes()
    assert both[0].samefile(source / "train/real/images/a1.jpg")


# --- the output ---


def test_what_is_there_stays_unless_it_is_to_be_replaced(tmp_path, log):
    data = convert("muserc", tmp_path / "data")
    before = contents(data)
    assert run("sberquad", DATA / "sberquad", data) == EXIT_BAD_DATA
    assert "exists already" in log.text and contents(data) == before
    broken = tmp_path / "broken.jsonl"
    broken.write_text("{}\n", "utf-8")
    assert run("sberquad", broken, data, "--replace") == EXIT_BAD_DATA
    assert contents(data) == before
    assert run("sberquad", DATA / "sberquad", data, "--replace") == EXIT_OK
    assert [path.name for path in data.iterdir()] == ["textqa"]
    assert {sample.id.partition("-")[0] for sample in samples(data, "TextQA")} == {"sberquad"}


def test_what_is_to_be_replaced_comes_back_when_that_fails(tmp_path, monkeypatch):
    data = convert("muserc", tmp_path / "data")
    before = contents(data)
    rename = os.rename

    def fail(source, target):
        if Path(target) == data / "textqa" and not Path(source).name.endswith("-replaced"):
            raise OSError(28, "No space left on device")
        rename(source, target)

    monkeypatch.setattr(os, "rename", fail)
    assert run("sberquad", DATA / "sberquad", data, "--replace") == EXIT_FAILED
    assert contents(data) == before


def test_an_interrupted_run_leaves_nothing(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    row = "Solve -156*b = -151*b - 25 for b.\n5\n"
    (source / "algebra__linear_1d.txt").write_text(row * 500_000)
    command = [sys.executable, "-m", "training.convert", "mathematics", "--input", str(source), "--output",
               str(tmp_path / "data")]  # fmt: skip
    process = subprocess.Popen(command, cwd=SUBMISSION, stderr=subprocess.PIPE)
    while not list(tmp_path.glob("data/.convert-*/mathqa/*.json")):
        assert process.poll() is None  # ended before anybody looked
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == EXIT_INTERRUPTED and b"Traceback" not in errors
    assert not (tmp_path / "data").exists()


def test_every_source_explains_itself(capsys):
    for name in SOURCES:
        with pytest.raises(SystemExit) as stopped:
            main([name, "--help"])
        assert stopped.value.code == 0
        assert "--tolerance" in capsys.readouterr().out


# --- reading ---


@pytest.mark.parametrize("chunk", [1, 2, 7, 2**20])
def test_lists_are_read_piece_by_piece(chunk, tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "CHUNK", chunk)
    items = [{"a": "ёж 🦔", "b": [1, 2.5, None]}, 'стро"ка', 12345, -7, True, [], {}]
    for text in (json.dumps(items), json.dumps(items, ensure_ascii=False, indent=2), "\ufeff " + json.dumps(items)):
        path = tmp_path / "list.json"
        path.write_text(text, "utf-8")
        assert [value for _, value in reading.read_records(path, RowCounter("test"))] == items
    (tmp_path / "list.json").write_text('{"data": [1, 2]}', "utf-8")
    assert [v for _, v in reading.read_records(tmp_path / "list.json", RowCounter("test"))] == [{"data": [1, 2]}]
    for broken in ("", "[", "[1", "[1,", "[1 2]", '[{"a": 1', "[1,,2]", '{"a"', "[1, 2", "[nope]"):
        (tmp_path / "list.json").write_text(broken, "utf-8")
        with pytest.raises(DataError, match="list.json"):
            list(reading.read_records(tmp_path / "list.json", RowCounter("test")))


def test_texts_are_cleaned():
    assert reading.clean("  Ёж\u200b\n и\tуж\x07 🦔\ufeff ") == "Ёж и уж 🦔"
    assert reading.clean("\ud83d") == reading.clean(5) == reading.clean(None) == ""


def write_pair(folder, inputs, answers):
    for name, document in (("a.json", inputs), ("b.json", answers)):
        (folder / name).write_text(document if isinstance(document, str) else json.dumps(document), "utf-8")
    return folder / "a.json", folder / "b.json"


def test_the_published_shape_is_read(tmp_path):
    """One text as answer, as in the published archive; an image entry of the answer is the picture to generate."""
    (tmp_path / "images").mkdir()
    (tmp_path / "images/00000.jpg").write_bytes(picture("JPEG"))
    text = [{"type": "text", "content": "Нарисуй ёлку."}]
    answer = [{"type": "text", "content": "ёлка"}]
    (sample,) = read_samples("TextQA", *write_pair(tmp_path, {"0": text}, {"0": answer}))
    assert (sample.id, sample.inputs, sample.answers) == ("0", ("Нарисуй ёлку.",), ("ёлка",))
    wanted = [{"type": "image", "content": "images/00000.jpg"}]
    (sample,) = read_samples("ImageGeneration", *write_pair(tmp_path, {"0": text}, {"0": wanted}))
    assert sample.image == tmp_path / "images/00000.jpg" and sample.answers == ()


TEXT = [{"type": "text", "content": "да?"}]


@pytest.mark.parametrize(
    ("answer", "read"),
    [
        ([{"type": "text", "content": "5"}], ("5",)),
        ([{"type": "text", "content": ["5", "пять"]}], ("5", "пять")),
        ({"type": "text", "content": "5"}, ("5",)),
        ("5", ("5",)),
        ([{"type": "text", "content": ["", "5", " "]}], ("5",)),
        ([{"type": "text", "content": ""}], ()),
        ([{"type": "text", "content": [""]}], ()),
        ([{"type": "text", "content": " \n"}], ()),
        ("", ()),
    ],
)
def test_the_shapes_of_an_answer(answer, read, tmp_path):
    (sample,) = read_samples("MathQA", *write_pair(tmp_path, {"0": TEXT}, {"0": answer}))
    assert sample.answers == read


def test_empty_answers_are_learned_without_right_text_and_counted(tmp_path, caplog):
    """As the published loader does it; nothing can be validated on them."""
    inputs = {str(i): TEXT for i in range(7)}
    answers = {id: [{"type": "text", "content": "" if int(id) < 5 else "5"}] for id in inputs}
    read = read_samples("TextQA", *write_pair(tmp_path, inputs, answers))
    assert "b.json: 5 of 7 answers are empty (ids '0', '1', '2', ...)" in caplog.text
    assert [make_row("TextQA", sample).right for sample in read] == [None] * 5 + ["5"] * 2
    assert write_evaluation_data(read, tmp_path / "val") == 2
    assert list(json.loads((tmp_path / "val/ground_truth.json").read_text("utf-8"))) == ["textqa-5", "textqa-6"]
    caption = Sample("ImageCaptioning", "0", (tmp_path / "a.jpg",))
    assert make_row("T2I", caption).left == "" and make_row("I2T", caption).right is None


@pytest.mark.parametrize(
    ("inputs", "answers", "message"),
    [
        ("{", {"0": TEXT}, "is not JSON"),
        ([], {"0": TEXT}, "an object of ids"),
        ('{"0": [], "0": []}', {"0": TEXT}, "occurs more than once"),
        ({"0": TEXT}, {}, "has no answer"),
        ({"0": TEXT}, {"0": TEXT, "1": TEXT}, "id '1'"),
        ({"0": []}, {"0": TEXT}, "a list of entries"),
        ({"0": [{"type": "video", "content": ""}]}, {"0": TEXT}, "video"),
        ({"0": [{"type": "text", "content": 5}]}, {"0": TEXT}, "content is 5"),
        ({"0": [{"type": "image", "content": "../a.json"}]}, {"0": TEXT}, "a path inside"),
        ({"0": [{"type": "image", "content": "none.jpg"}]}, {"0": TEXT}, "is no file"),
        ({"0": TEXT}, {"0": [{"type": "text", "content": []}]}, "a list of at least one text"),
        ({"0": TEXT}, {"0": [{"type": "text", "content": [None]}]}, "a list of at least one text"),
        ({"0": TEXT}, {"0": [{"type": "image", "content": "a.json"}]}, "a list of at least one text"),
        ({"0": TEXT}, {"0": 5}, "a list of entries"),
    ],
)
def test_data_that_is_not_as_it_should_be_is_an_error(inputs, answers, message, tmp_path):
    with pytest.raises(DataError, match=re.escape(message)):
        read_samples("TextQA", *write_pair(tmp_path, inputs, answers))


def test_a_split_that_is_not_there_is_empty_and_a_folder_that_is_not_an_error(tmp_path):
    assert read_split(tmp_path, "VisualQA", "val") == []
    with pytest.raises(DataError, match="is no folder"):
        read_split(tmp_path / "nowhere", "VisualQA", "val")
    with pytest.raises(DataError, match="no task 'Poetry'"):
        read_split(tmp_path, "Poetry", "val")


# --- the data folder that is shipped ---


def test_the_sample_data_are_whole_small_and_made_by_their_command(tmp_path):
    for task in FOLDERS:
        assert len(read_split(SAMPLE_DATA, task, "train")) == 30
        assert len(read_split(SAMPLE_DATA, task, "val")) == 10
    assert sum(path.stat().st_size for path in SAMPLE_DATA.rglob("*") if path.is_file()) <= 400_000
    command = re.search(r"python -m training\.convert (.*)", (SAMPLE_DATA / "README.md").read_text("utf-8"))[1]
    # Pictures need fonts and stamps that are installed to train alone, and JPEGs differ from Pillow to Pillow.
    arguments = command.split() + ["--tasks", "TextQA", "MathQA"]
    arguments[arguments.index("--output") + 1] = str(tmp_path / "data")
    assert main(arguments) == EXIT_OK
    made = contents(tmp_path / "data")
    assert len(made) == 8
    assert made == {name: (SAMPLE_DATA / name).read_bytes() for name in made}


def test_the_evaluator_scores_right_answers_to_converted_data_with_1(tmp_path):
    """Through the command line, as validation does: a converted split, its accepted answers as predictions."""
    for name, options in (("data", ()), ("limited", ("--limit", "4"))):
        arguments = ["evaluation", "--input", str(SAMPLE_DATA), "--output", str(tmp_path / name), *options]
        assert main(arguments) == EXIT_OK
        numbers = json.loads((tmp_path / name / "sample_ids.json").read_text("utf-8"))
        assert Counter(numbers.values()) == dict.fromkeys(range(6), 10 if name == "data" else 4)
    assert main(arguments) == EXIT_BAD_DATA  # it exists
    data = tmp_path / "limited"
    truth = json.loads((data / "ground_truth.json").read_text("utf-8"))
    numbers = json.loads((data / "sample_ids.json").read_text("utf-8"))
    kept = {id: number for id, number in numbers.items() if number in (0, 1, 4, 5)}
    inputs = json.loads((data / "input.json").read_text("utf-8"))
    for file, document in (("input", inputs), ("ground_truth", truth), ("sample_ids", kept)):
        (data / f"{file}.json").write_text(json.dumps({id: document[id] for id in kept}), "utf-8")
    output = tmp_path / "output"
    output.mkdir()
    answers = {id: [{"type": "text", "content": truth[id][0]["content"][0]}] for id in kept}
    (output / "predictions.json").write_text(json.dumps(answers), "utf-8")
    scores = tmp_path / "scores.json"
    assert evaluate(["score", str(output), "--data", str(data), "--json", str(scores)]) == 0
    found = {name: task["score"] for name, task in json.loads(scores.read_text("utf-8"))["tasks"].items()}
    assert found == dict.fromkeys("0145", 1.0)  # TextQA, MathQA, VisualQA, TRitW
