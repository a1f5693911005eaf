"""Long examples: what is kept of them, and the windows in which they are read."""

import dataclasses
import itertools
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from rudolph import Question, Rudolph, Settings
from rudolph import answer as answer_module
from rudolph.answer import join_texts
from rudolph.config import EOS, PAD
from rudolph.likelihood import mean_text_losses, text_losses
from rudolph.passage import shorten, windows
from rudolph.sampling import GREEDY, TEXT_SAMPLING
from training.nano.train import SHIPPED as NANO
from training.worlds import seeded
from training.worlds.stories import World
from training.worlds.textqa import compose

SENTENCES = [f"«Ёжик» номер {number} съел {number + 3} яблок 🦔 и ушёл." for number in range(40)]
PASSAGE = " ".join(SENTENCES)
INSTRUCTION, QUESTION, OPTIONS = "Прочитай текст.", "Сколько яблок съел ёжик?", "варианты: a) ёж; b) 5 яблок"
SHORTER = "Ещё один текст, короче. Он цел."
MIXED = st.text(alphabet="абвёЁЖ «»…🦔.!?\n-—a)b;2", max_size=60)


def words(texts: Sequence[str]) -> int:
    """Four letters are a token."""
    return sum(-(-len(word) // 4) for word in join_texts(texts).split())


def bare(texts: Sequence[str]) -> str:
    return "".join(join_texts(texts).split())


def check_cut(texts: Sequence[str], room: int) -> None:
    """What is left is the beginning and the end of what was there, with a mark between."""
    form = shorten(texts, words, room)
    whole, made = bare(texts), bare(form)
    assert words(form) <= room and len(made) <= len(whole)
    marks = [at for at, letter in enumerate(made) if letter == "…"]
    assert any(whole.startswith(made[:at]) and whole.endswith(made[at + 1 :]) for at in marks), (texts, form)


@given(st.lists(MIXED, max_size=5), st.integers(1, 40))
def test_texts_that_fit_stay_and_others_lose_their_middle(texts, room):
    if words(texts) <= room:
        assert shorten(texts, words, room) == tuple(texts) and windows(texts, words, room, 3) == []
    else:
        check_cut(texts, room)


@given(st.lists(MIXED, max_size=5), st.integers(1, 40), st.integers(2, 5))
def test_windows_fit_and_are_pieces_of_the_passage(texts, room, number):
    made = windows(texts, words, room, number)
    assert len(made) <= number
    for window in made:
        assert words(window) <= room
        assert all(bare([text]) in bare(texts) for text in window)
        assert window[0] == made[0][0] and window[-1] == made[0][-1]


@pytest.mark.parametrize(
    "texts",
    [
        [INSTRUCTION, PASSAGE, QUESTION, OPTIONS],
        [INSTRUCTION, PASSAGE, f"{QUESTION} {OPTIONS}"],
        [f"{INSTRUCTION} {PASSAGE}", QUESTION, OPTIONS],
        [INSTRUCTION, f"{PASSAGE} {QUESTION}", OPTIONS],
        [f"{INSTRUCTION} {PASSAGE} {QUESTION} {OPTIONS.capitalize()}"],
        [f"{INSTRUCTION} {PASSAGE} {QUESTION} {OPTIONS}"],
        ["", f"{INSTRUCTION}\n{PASSAGE}\n{QUESTION}\n{OPTIONS}", " "],
        [INSTRUCTION, PASSAGE, "", SHORTER, QUESTION, OPTIONS],
    ],
)
def test_instruction_question_and_options_stay_whole(texts):
    room = 80
    check_cut(texts, room)
    for form in (shorten(texts, words, room), *windows(texts, words, room, 4)):
        made = join_texts(form)
        assert made.startswith(INSTRUCTION) and QUESTION in made and made.lower().endswith(OPTIONS)
        assert (SHORTER in made) == (len(texts) == 6)
        kept = [sentence for sentence in SENTENCES if sentence in made]
        assert 2 <= len(kept) < 20
        rest = made.replace("…", "")
        for text in (*kept, INSTRUCTION, QUESTION, OPTIONS, OPTIONS.capitalize(), SHORTER):
            rest = rest.replace(text, "")
        assert not rest.strip()  # no sentence is there in part


def test_beginning_and_end_are_kept_alike():
    made = join_texts(shorten([INSTRUCTION, PASSAGE, QUESTION], words, 120))
    numbers = [number for number, sentence in enumerate(SENTENCES) if sentence in made]
    before = [number for number in numbers if number < 20]
    assert before == list(range(len(before))) and numbers[len(before) :] == list(range(40 - len(before), 40)), numbers
    assert re.search(r"ушёл\. … «Ёжик»", made)


def test_a_sentence_that_is_too_long_is_cut_by_words_and_a_word_by_letters():
    sentence = " ".join(f"слово{number}" for number in range(100))
    made = join_texts(shorten([INSTRUCTION, sentence, QUESTION], words, 40))
    kept = r"слово0 слово1 .*слово\d+ … слово\d+ .*слово98 слово99"
    assert re.fullmatch(f"{INSTRUCTION} {kept} {re.escape(QUESTION)}", made)
    made = join_texts(shorten([INSTRUCTION, "ё" * 400 + "ж" * 400, QUESTION], words, 40))
    assert re.fullmatch(rf"{INSTRUCTION} ё{{40,}} … ж{{40,}} {re.escape(QUESTION)}", made)
    check_cut(["щ" * 1000], 20)
    check_cut([sentence], 20)


def test_where_all_else_is_too_long_the_example_is_one_text():
    texts = [INSTRUCTION, "Короткий рассказ.", QUESTION, "a) " + "очень " * 40 + "; b) " + "долго " * 40]
    check_cut(texts, 50)
    made = join_texts(shorten(texts, words, 50))
    assert made.startswith(INSTRUCTION) and made.endswith("долго ;".split()[0])
    assert windows(texts, words, 50, 3) == []


def test_names_dialogues_and_abbreviations_are_not_torn():
    story = "«Кто там?» — спросил А. С. Пушкин. Никто не ответил… И он ушёл! В 17.. году. "
    made = join_texts(shorten([INSTRUCTION, story + PASSAGE, QUESTION], words, 60))
    assert "«Кто там?» — спросил А. С. Пушкин. Никто не ответил… И он ушёл!" in made
    asked = "Кто дал книгу А. С. Пушкину?"
    assert join_texts(shorten([f"{INSTRUCTION} {PASSAGE} {asked}"], words, 60)).endswith(f". {asked}")


def test_windows_cover_the_passage_and_overlap():
    texts = [INSTRUCTION, PASSAGE, QUESTION]
    spans = []
    for window in windows(texts, words, 250, 9):
        held = [number for number, sentence in enumerate(SENTENCES) if sentence in join_texts(window)]
        assert held == list(range(held[0], held[-1] + 1))
        spans.append((held[0], held[-1]))
    assert 2 < len(spans) < 9 and spans[0][0] == 0 and spans[-1][1] == 39
    assert all(following <= last for (_, last), (following, _) in itertools.pairwise(spans))
    few = windows(texts, words, 60, 3)  # cannot cover it: beginning, middle and end
    assert len(few) == 3
    for number, window in zip((0, 20, 39), few, strict=True):
        assert SENTENCES[number] in join_texts(window)


# --- With a model ---


@pytest.fixture(scope="module")
def nano() -> Rudolph:
    return Rudolph.from_pretrained(NANO, "cpu", "float32")


@pytest.fixture(scope="module")
def tiny(model_folder) -> Rudolph:
    return Rudolph.from_pretrained(model_folder, "cpu", "float32")


def encoded(rudolph: Rudolph, texts: Sequence[str]) -> torch.Tensor:
    config = rudolph.model.config
    return rudolph.tokenizer.encode_text(join_texts(texts), config.l_text_seq_length, config.special_id("LT_UNK"))


def tokens_of(rudolph: Rudolph) -> tuple[Callable[[Sequence[str]], int], int]:
    """How many ids the joined texts have, and how many there is room for."""
    encode = rudolph.tokenizer.encode_ids
    return lambda texts: len(encode(join_texts(texts))), rudolph.model.config.l_text_seq_length - 3


@given(st.lists(MIXED, max_size=5))
def test_prompts_that_fit_are_the_same_ids_and_all_end(tiny, texts):
    (left,) = tiny.encode_left([Question("0", tuple(texts))])
    plain = encoded(tiny, texts)
    if plain[-1] in (PAD, EOS):
        assert torch.equal(left, plain)
    assert EOS in left


def test_nano_reads_the_question_behind_a_passage(nano):
    asked = [(INSTRUCTION, *SENTENCES[:number], QUESTION, OPTIONS) for number in range(12)]
    fitting = 0
    for texts in asked:
        (left,) = nano.encode_left([Question("0", texts)])
        fits = encoded(nano, texts)[-1] in (PAD, EOS)
        fitting += fits
        read = nano.tokenizer.decode(left)
        assert read.startswith(INSTRUCTION.lower()) and read.endswith(f"{QUESTION} {OPTIONS}".lower())
        assert ("…" in read) != fits
    assert 1 < fitting < 10


@pytest.mark.slow
def test_nano_answers_questions_at_the_end_of_long_passages(nano):
    """Of which it saw the beginning alone where the end was cut."""
    tokens, room = tokens_of(nano)
    asked, begun, accepted = [], [], []
    for number in range(24):
        texts, _, answers = compose(World(seeded("passages", number), "heldout"), others=3)
        asked.append(Question(f"{number}", (INSTRUCTION, *texts), answer_in_text=True))
        ids = nano.tokenizer.encode_ids(join_texts(asked[-1].texts))
        begun.append(Question(f"{number}", (nano.tokenizer.decode(ids[:room]),), answer_in_text=True))
        accepted.append({answer.lower() for answer in answers})
    plain = Settings(listed_options=False)
    found = [
        sum(answer.text in right for answer, right in zip(nano.answer(*arguments), accepted, strict=True))
        for arguments in ((begun, plain), (asked, plain), (asked, dataclasses.replace(plain, windows=3)))
    ]
    assert found[0] < found[1] < found[2], found


def long_questions(pictures: tuple[Path, ...] = ()) -> list[Question]:
    story = "На фотографии рыжий кот. Юла и красный шар. Щука и эльф. Рядом с машиной ёжик. "
    asked = [
        ("текст", story, "какого цвета кот?"), (story * 3 + "Кот?", "a) кот; b) на"), ("кот?",), (story * 2 + "Юла?",),
        (), ("щука " * 40,), ("кот?", story, "a) ёжик" + " дом" * 20 + "; b) кот"),
        (f"Текст. {story} Синий дом. Эльф?",),
    ]  # fmt: skip
    return [
        *(Question(f"{number}", texts, answer_in_text=number % 2 == 0) for number, texts in enumerate(asked)),
        Question("image", ("текст", story, "кот?"), pictures),
    ]


@pytest.mark.parametrize("sampling", [GREEDY, TEXT_SAMPLING], ids=["greedy", "sampled"])
def test_windows_do_not_depend_on_batches_and_order(tiny, tmp_path, sampling):
    Image.effect_noise((32, 32), 200).convert("RGB").save(tmp_path / "noise.png")
    asked = long_questions((tmp_path / "noise.png",))
    settings = Settings(windows=3, text_sampling=sampling, route_threshold=0.0)
    whole = [answer.text for answer in tiny.answer(asked, settings)]
    for size in (1, 3):
        again = tiny.answer(asked[::-1], dataclasses.replace(settings, batch_size=size))
        assert [answer.text for answer in again] == whole[::-1]
    cut = tiny.answer(asked, dataclasses.replace(settings, windows=1))
    changed = {answer.id for answer, text in zip(cut, whole, strict=True) if answer.text != text}
    tokens, room = tokens_of(tiny)
    unread = {question.id for question in asked if not windows(question.texts, tokens, room, 3)}
    assert unread == {"2", "4", "5", "6"}  # those fit, or have no room for a passage
    assert changed and changed.isdisjoint(unread)


def test_the_likeliest_reading_is_kept(tiny):
    """Each reading put as a question of its own, and read back by hand."""
    config, (tokens, room) = tiny.model.config, tokens_of(tiny)
    zeros = torch.zeros(config.image_seq_length, dtype=torch.int64)
    taken = set()
    for asked in [question for question in long_questions() if question.id in "0137"]:
        forms = [shorten(asked.texts, tokens, room, tiny._left_out), *windows(asked.texts, tokens, room, 3)]
        losses = []
        for form in forms:
            (answer,) = tiny.answer([Question(asked.id, form, answer_in_text=True)])
            right = tiny.tokenizer.encode_text(answer.text, config.r_text_seq_length, config.special_id("RT_UNK"))
            loss, count = text_losses(tiny.model, encoded(tiny, form), zeros, right[None], given=2)
            losses.append((float(loss / count), answer.text))
        (answer,) = tiny.answer([dataclasses.replace(asked, answer_in_text=True)], Settings(windows=3))
        assert answer.text == min(losses)[1]
        taken.add(losses.index(min(losses)))
    assert len(taken) > 1


def test_mean_losses_are_those_of_each_text_alone(tiny):
    config = tiny.model.config
    texts = ["кот", "рыжий кот на", "ёжик"]
    left = torch.stack([encoded(tiny, [text]) for text in ("кто?", "щука и юла", "")])
    images = torch.arange(3)[:, None] + torch.arange(config.image_seq_length)
    right = torch.stack(
        [tiny.tokenizer.encode_text(text, config.r_text_seq_length, config.special_id("RT_UNK")) for text in texts]
    )
    alone = [
        torch.div(*text_losses(tiny.model, text, image, answer[None], given=2))
        for text, image, answer in zip(left, images, right, strict=True)
    ]
    torch.testing.assert_close(mean_text_losses(tiny.model, left, images, right, given=2), torch.cat(alone))


def test_without_windows_nothing_is_read_again(tiny, monkeypatch):
    written = []
    generate = answer_module.generate_text
    monkeypatch.setattr(
        answer_module, "generate_text", lambda *arguments, **more: written.append(1) or generate(*arguments, **more)
    )
    asked = [dataclasses.replace(question, answer_in_text=True) for question in long_questions()[:2]]
    for number, calls in ((1, 1), (2, 3), (3, 4)):
        written.clear()
        tiny.answer(asked, Settings(windows=number, listed_options=False))
        assert len(written) == calls
    written.clear()
    tiny.answer([Question("0", ("кто?",), answer_in_text=True)], Settings(windows=3))
    assert len(written) == 1
