import itertools
import random
import re
import time
from collections import Counter
from fractions import Fraction

import pytest

from rudolph import RudolphConfig, Tokenizer
from rudolph.config import EOS, PAD, SIZES
from rudolph.working import split_working
from training.nano.train import SHIPPED as NANO
from training.worlds import grammar, mathqa, textqa, wording
from training.worlds.stories import WORDS
from training.worlds.wording import SPLITS, TASKS, instruct, option_key, options

WORLDS = {"MathQA": mathqa, "TextQA": textqa}
N = 400


def examples(task, split="train", n=N, seed=0):
    rng = random.Random(seed)
    return [WORLDS[task].make(rng, split) for _ in range(n)]


def plain(text):
    """An instruction without what `instruction` adds to its wording."""
    return re.sub(r"^пожалуйста, |, пожалуйста$", "", text.lower().rstrip(".:?"))


def listed_options(text):
    """The options of an options text, by letter."""
    text = re.sub(r"^[Вв]арианты: ", "", text)
    return {part[0]: part[3:] for part in text.split("; ")}


# --- wording ---


@pytest.mark.parametrize("task", TASKS)
def test_heldout_wordings_never_occur_in_training(task):
    training = {text for other in TASKS for text in wording.wordings(other, "train")}
    heldout = set(wording.wordings(task, "heldout"))
    assert not heldout & training
    assert not wording.verbs(task, "heldout") & {verb for other in TASKS for verb in wording.verbs(other, "train")}
    assert len(set(wording.wordings(task, "train"))) >= 200
    assert len(heldout) >= 50


@pytest.mark.parametrize("task", TASKS)
def test_wordings_are_clean_text(task):
    for split in SPLITS:
        for text in wording.wordings(task, split):
            assert re.fullmatch(r"[а-яё, -]+", text), text
            assert "  " not in text and text == text.strip()


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("split", SPLITS)
def test_drawn_instructions_are_those_of_the_split(task, split):
    rng = random.Random(1)
    known = set(wording.wordings(task, split))
    drawn = [wording.instruction(rng, task, split) for _ in range(500)]
    assert {plain(text) for text in drawn} <= known
    assert len(set(drawn)) > 50
    assert (wording.PUBLISHED_WORDING[task] in drawn) == (split == "train")


def test_instruction_is_separate_joined_or_missing():
    rng = random.Random(2)
    seen = Counter()
    for _ in range(2000):
        entries = instruct(rng, "TextQA", "Текст.", "Вопрос?", split="train")
        assert entries[-1] == "Вопрос?"
        if len(entries) == 3:
            assert entries[1] == "Текст."
            seen["separate"] += 1
        elif entries[0] == "Текст.":
            seen["missing"] += 1
        else:
            assert re.search(r"[.:?] Текст\.$", entries[0])
            seen["joined"] += 1
    assert abs(seen["separate"] / 2000 - wording.SEPARATE) < 0.05
    assert abs(seen["joined"] / 2000 - wording.JOINED) < 0.05


@pytest.mark.parametrize("split", SPLITS)
def test_generation_keeps_its_instruction_and_scoring_finds_the_caption(split):
    rng = random.Random(3)
    caption = "На траве лежит красный мяч. Рядом сидит кот"
    joined = 0
    for _ in range(1000):
        entries = instruct(rng, "ImageGeneration", caption, split=split)
        if len(entries) == 1:  # scoring takes all sentences but the first
            joined += 1
            assert ". ".join(entries[0].split(". ")[1:]) == caption
        else:
            assert entries[1] == caption
    assert 300 < joined < 700


def test_reflexive_verbs_are_polite_before_their_ending():
    heldout = " ".join(wording.wordings("MathQA", "heldout")).lower()
    assert "разберись" in heldout and "разберитесь" in heldout and "разберисьте" not in heldout


def test_instruction_alone():
    rng = random.Random(4)
    assert all(len(instruct(rng, task, split="train")) == 1 for task in ("ImageCaptioning", "TRitW") for _ in range(99))


def test_wording_errors_name_what_is_wrong():
    rng = random.Random(5)
    with pytest.raises(ValueError, match="unknown task 'Chess'"):
        instruct(rng, "Chess", "e4", split="train")
    with pytest.raises(ValueError, match="unknown split 'test'"):
        instruct(rng, "TextQA", "Текст", split="test")
    with pytest.raises(ValueError, match="empty text"):
        instruct(rng, "TextQA", " ", split="train")


def test_options_name_the_answer_by_text_and_letter():
    rng = random.Random(6)
    letters, introduced = Counter(), 0
    for _ in range(1000):
        text, answers = options(rng, "-3", ["-4", "-20", "-5"])
        introduced += text.lower().startswith("варианты: ")
        listed = listed_options(text)
        assert "".join(listed) == "abcd"
        assert answers == ["-3", next(letter for letter, option in listed.items() if option == "-3")]
        letters[answers[1]] += 1
    assert min(letters.values()) > 200
    assert 200 < introduced < 400


def test_options_that_read_the_same_are_refused():
    with pytest.raises(ValueError, match="read the same"):
        options(random.Random(0), "1/2", ["12", "3"])
    with pytest.raises(ValueError, match="5 options, allowed are 2 to 4"):
        options(random.Random(0), "1", ["2", "3", "4", "5"])


# --- both worlds ---


@pytest.mark.parametrize("task", WORLDS)
@pytest.mark.parametrize("split", SPLITS)
def test_examples_are_well_formed(task, split):
    for example in examples(task, split):
        assert example.task == task and example.image is None
        assert 1 <= len(example.inputs) <= 4
        for text in (*example.inputs, *example.answers):
            assert text == text.strip() and text
            assert "  " not in text and "None" not in text and "{" not in text
        last = re.sub(r"^[Вв]арианты: ", "", example.inputs[-1])
        if last.startswith("a) "):
            listed = listed_options(last)
            assert listed[example.answers[-1]] == example.answers[0]
            assert len({option_key(option) for option in listed.values()}) == len(listed) >= 2
        else:
            assert task == "TextQA"


@pytest.mark.parametrize("task", WORLDS)
def test_the_same_seed_gives_the_same_examples(task):
    assert examples(task, n=50, seed=9) == examples(task, n=50, seed=9)
    assert examples(task, n=50, seed=9) != examples(task, n=50, seed=10)


@pytest.mark.parametrize("task", WORLDS)
def test_examples_seldom_repeat(task):
    assert len({tuple(example.inputs[-2:]) for example in examples(task, n=1000)}) > 950


@pytest.mark.parametrize("task", WORLDS)
def test_fast_enough_to_train_on(task):
    examples(task, n=300)  # fills the tables of inflected words
    start = time.process_time()
    examples(task, n=300, seed=1)
    assert time.process_time() - start < 10  # far beyond, as beside others every step costs more


# --- MathQA ---


def value(expression, **known):
    """The exact value of an arithmetic expression such as `3*(x - 8)/2` or `3x : 2`."""
    expression = re.sub(r"(\d)([a-z])", r"\1*\2", expression.replace(":", "/"))
    expression = re.sub(r"\d+", lambda number: f"F({number[0]})", expression)
    names = {letter: Fraction(number) for letter, number in known.items()}
    return eval(expression, {"__builtins__": {}, "F": Fraction}, names)


def equations(text):
    found = re.findall(r"[-(\da-z][-+*/:() \da-z]*= *[-+*/:() \da-z]+", text)
    return [tuple(side.strip() for side in equation.split("=")) for equation in found]


def spelled_out(text):
    """The equation of a statement in words, or '' for the forms that this does not translate."""
    text = re.sub(r"^.*?(Если|(?<![а-яё] )\b[a-z\d]+ )", r"\1", text)
    text = re.sub(r"Если (к |из )?", "", text).rstrip(".")
    text = re.sub(r",? ?(а потом|и|то)? (?=прибавить|вычесть|получится|будет|выйдет)", " ", text)
    for words, sign in (
        ("прибавить|добавить|плюс", "+"), ("вычесть|отнять|минус", "-"), ("умножить на", "*"),
        ("(раз|по)?делить на", "/"), ("получится|равно|равняется|будет|выйдет", "="),
    ):  # fmt: skip
        text = re.sub(rf"\b({words})\b", sign, text)
    return text if re.fullmatch(r"[-+*/ \da-z]+=[-+*/ \da-z]+", text) else ""


def statement(example):
    return example.inputs[-3]


def test_linear_1d_solutions_solve_their_equation():
    checked = 0
    for example in examples("MathQA", n=1500):
        if example.kind == "linear_1d":
            ((left, right),) = equations(statement(example))
            (letter,) = set(re.findall("[a-z]", left + right))
            x = int(example.answers[0])
            assert value(left, **{letter: x}) == value(right, **{letter: x}), example
            assert value(left, **{letter: x + 1}) != value(right, **{letter: x + 1}), example
            checked += 1
    assert checked > 300


def test_linear_1d_words_solutions_solve_their_equation():
    checked = total = 0
    for example in examples("MathQA", n=1500):
        if example.kind == "linear_1d_words":
            total += 1
            if equation := spelled_out(statement(example)):
                left, right = equation.split("=")
                (letter,) = set(re.findall("[a-z]", equation))
                known = {letter: example.answers[0]}
                assert value(left, **known) == value(right, **known), example
                checked += 1
    assert checked > 0.5 * total > 100


def test_linear_2d_answers_agree_with_both_equations():
    checked = 0
    for example in examples("MathQA", n=2000):
        if example.kind == "linear_2d":
            pair = equations(statement(example).replace(" и ", "; ").replace(", ", "; "))
            assert len(pair) == 2, example
            asked = re.findall("[a-z]", example.inputs[-2])[-1]
            (other,) = set(re.findall("[a-z]", str(pair))) - {asked}
            roots = set()
            for left, right in pair:
                knowns = [{asked: example.answers[0], other: y} for y in (0, 1)]
                at = [value(left, **known) - value(right, **known) for known in knowns]
                if at[0] == at[1]:  # the other unknown does not occur
                    assert at[0] == 0, example
                else:
                    roots.add(-at[0] / (at[1] - at[0]))
            assert len(roots) == 1, example
            checked += 1
    assert checked > 100


def test_steps_lead_to_the_answer():
    """Each link of a chain such as `15-7=8/2= 4` is worked out at the beginning of the next one."""
    length, written = RudolphConfig(**SIZES["nano"]).r_text_seq_length, Counter()
    tokenizer = Tokenizer.from_file(NANO / "bpe.model")
    for example in examples("MathQA", n=3000):
        text, answer = f"{example.working} {example.answers[0]}", example.answers[0]
        assert tokenizer.encode_text(text, length, 0)[-1] in (PAD, EOS), example
        assert split_working(tokenizer.decode(tokenizer.encode_ids(text))) == (example.working, answer), example
        written[example.kind, bool(example.working)] += 1
        if example.kind.startswith("linear") and example.working:
            chain = (example.working.rpartition(",")[2] + answer).split("=")
            for link, following in itertools.pairwise(chain):
                (found,) = re.findall(r"^-?\d+", following)
                assert value(link) == int(found), example
        elif example.kind == "comparison_relation" and example.working:
            first, second = (Fraction(number.replace(",", ".")) for number in example.working[:-1].split(";"))
            sign = "больше" if first > second else "меньше" if first < second else "равно"
            assert answer.removeprefix("знак ") == sign, example
        elif example.kind == "comparison_extreme" and example.working:
            assert set(example.working[:-1].split(";")) <= set(listed_options(example.inputs[-1]).values())
    for kind in mathqa.KINDS:
        assert written[kind, True] > 30 * written[kind, False], written


def test_comparisons_hold():
    def number(text):
        return Fraction(text.replace(",", "."))

    checked = Counter()
    for example in examples("MathQA", n=3000):
        answer, question = example.answers[0], example.inputs[-2].lower()
        listed = list(listed_options(example.inputs[-1]).values())
        if example.kind == "comparison_pair":
            first, second = (number(option) for option in listed if option[-1].isdigit())
            larger = "больше" in question
            assert number(answer) == (max if larger else min)(first, second), example
        elif example.kind == "comparison_extreme" and "второе" not in question:
            larger = "больш" in question
            assert number(answer) == (max if larger else min)(map(number, listed)), example
        elif example.kind == "comparison_relation":
            found = re.findall(r"(-?\d+(?: [-+] \d+|[,/]\d+)?) (?:и|…) (-?\d+(?:[,/]\d+)?)", statement(example))
            ((first, second),) = found
            left, right = value(first.replace(",", ".")) if " " in first else number(first), number(second)
            expected = "больше" if left > right else "меньше" if left < right else "равно"
            assert answer.removeprefix("знак ") == expected, example
        else:
            continue
        checked[example.kind] += 1
    assert min(checked.values()) > 100 and len(checked) == 3


def test_mathqa_is_mostly_easy_and_has_every_kind():
    found = examples("MathQA", n=3000)
    solutions = [abs(int(e.answers[0])) for e in found if e.kind.startswith("linear")]
    assert sum(x <= 9 for x in solutions) > 0.4 * len(solutions)
    assert sum(x <= 20 for x in solutions) > 0.75 * len(solutions)
    assert {example.kind for example in found} == set(mathqa.KINDS)


def test_mathqa_options_give_nothing_away():
    """Neither the middle of the options nor the one whose opposite is listed may stand out as the answer."""
    linear = [e for e in examples("MathQA", n=4000) if e.kind.startswith("linear")]
    ranks, opposite = Counter(), Counter()
    for example in linear:
        listed = sorted(map(int, listed_options(example.inputs[-1]).values()))
        ranks[listed.index(int(example.answers[0]))] += 1
        for option in listed:
            opposite[-option in listed and option != 0, option == int(example.answers[0])] += 1
    assert max(ranks.values()) < 0.36 * len(linear)
    assert opposite[True, True] < 0.45 * (opposite[True, True] + opposite[True, False])


# --- TextQA ---


@pytest.mark.parametrize("split", SPLITS)
def test_textqa_answers_are_short_spans_of_the_passage(split):
    for example in examples("TextQA", split, n=1500):
        texts = example.inputs[:-1] if "a) " in example.inputs[-1] else example.inputs
        passage, question = texts[-2].lower(), texts[-1]
        assert re.search(rf"(?<!\w){re.escape(example.answers[0].lower())}(?!\w)", passage), example
        assert question.endswith("?") and len(example.answers[0].split()) <= 6
        assert textqa.cost(example.inputs) <= textqa.LENGTH


def test_textqa_asks_every_kind_of_question_open_and_with_options():
    found = examples("TextQA", n=2000)
    kinds = Counter(example.kind for example in found)
    assert set(kinds) == {"who", "what", "where", "when", "how_many", "which", "whose", "whom", "why"}
    with_options = sum("a) " in example.inputs[-1] for example in found)
    assert 0.25 < with_options / len(found) < 0.5


def test_textqa_names_and_titles_of_heldout_never_occur_in_training():
    def combinations(split):
        told = " ".join(text for example in examples("TextQA", split, n=3000) for text in example.inputs)
        people = set()
        firsts = {*WORDS.male, *WORDS.female}
        surnames = {s: s for s in WORDS.surnames} | {
            grammar.decline_surname(s, True, "nomn"): s for s in WORDS.surnames
        }
        for first, last in re.findall(r"\b([А-ЯЁ][а-яё]+) (?=([А-ЯЁ][а-яё]+))", told):
            if first in firsts and last in surnames:
                people.add((first, surnames[last]))
        return people, set(re.findall(r"«[А-ЯЁ][а-яё]+ [а-яё]+»", told))

    people, titles = combinations("train")
    heldout_people, heldout_titles = combinations("heldout")
    assert len(people) > 500 and len(heldout_people) > 500 and not people & heldout_people
    assert len(titles) > 50 and len(heldout_titles) > 50 and not titles & heldout_titles


@pytest.mark.parametrize(
    "name, gent, datv, ablt, loct",
    [
        ("Илья", "Ильи", "Илье", "Ильёй", "Илье"),
        ("Юрий", "Юрия", "Юрию", "Юрием", "Юрии"),
        ("Лев", "Льва", "Льву", "Львом", "Льве"),
        ("Мария", "Марии", "Марии", "Марией", "Марии"),
        ("Любовь", "Любови", "Любови", "Любовью", "Любови"),
        ("Саша", "Саши", "Саше", "Сашей", "Саше"),
        ("Ольга", "Ольги", "Ольге", "Ольгой", "Ольге"),
        ("Орёл", "Орла", "Орлу", "Орлом", "Орле"),
        ("Суздаль", "Суздаля", "Суздалю", "Суздалем", "Суздале"),
        ("Тверь", "Твери", "Твери", "Тверью", "Твери"),
        ("Сочи", "Сочи", "Сочи", "Сочи", "Сочи"),
    ],
)
def test_names_are_declined(name, gent, datv, ablt, loct):
    assert [grammar.decline(name, case) for case in ("gent", "datv", "ablt", "loct")] == [gent, datv, ablt, loct]


def test_surnames_prepositions_and_counts_agree():
    surnames = [("Белинский", "ablt"), ("Лесков", "accs")]
    assert [[grammar.decline_surname(s, female, case) for female in (False, True)] for s, case in surnames] == [
        ["Белинским", "Белинской"], ["Лескова", "Лескову"],
    ]  # fmt: skip
    assert [grammar.in_place(city) for city in ("Владимир", "Волгоград", "Ржев", "Апатиты")] == [
        "во Владимире", "в Волгограде", "во Ржеве", "в Апатитах",
    ]  # fmt: skip
    assert [grammar.along(name) for name in ("Светланой", "Анной", "Львом")] == ["со Светланой", "с Анной", "со Львом"]
    assert [grammar.hours(n) for n in (1, 2, 5, 11, 12, 21, 24)] == [
        "1 час", "2 часа", "5 часов", "11 часов", "12 часов", "21 час", "24 часа",
    ]  # fmt: skip
