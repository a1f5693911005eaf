"""Options that a question lists, and answers among them."""

import pytest
import torch

from rudolph import Question, Rudolph, Settings
from rudolph.options import is_listed, listed_options


@pytest.mark.parametrize(
    ("texts", "options"),
    [
        (("Реши 2x = 4", "a) -4; b) 2"), ("-4", "2")),
        (("Варианты: a) ёж; b) «белый кот»; c) 🦔",), ("ёж", "«белый кот»", "🦔")),
        (("Сколько? варианты:a) 1/2;b) -1,5; c) 3; d) 4.",), ("1/2", "-1,5", "3", "4")),
        (("a) раз; b) два", "c) три; d) четыре"), ("раз", "два")),  # the last text begins in the middle
        (("a) раз; b) два", "a) три; b) четыре"), ("три", "четыре")),
        (("a) один\nb) два",), ("один", "два")),
        (("a) один",), ()),
        (("a) один; c) три",), ()),
        (("b) два; a) один",), ()),
        (("a) ; b) два",), ()),
        (("f(a) = 2; g(b) = 3",), ()),  # no options, but letters in brackets
        (("Что на картинке?",), ()),
        ((), ()),
    ],
)
def test_options_are_read(texts, options):
    assert listed_options(texts) == options


@pytest.mark.parametrize("answer", ["Ёж", " ёж. ", "b", "B)", "a)", "кот"])
def test_an_option_or_its_letter_is_listed(answer):
    assert is_listed(answer, ("кот", "ёж"))


@pytest.mark.parametrize("answer", ["c", "ежи", "ab", "", "пустая строка", "кот и ёж"])
def test_another_answer_is_not(answer):
    assert not is_listed(answer, ("кот", "ёж"))


@torch.no_grad()
def test_the_likeliest_option_replaces_another_answer(model_folder):
    rudolph = Rudolph.from_pretrained(model_folder, "cpu", "float32")
    config, encode = rudolph.model.config, rudolph.tokenizer.encode_text
    options = ("ёж", "кот", "шар", "дом")
    questions = [
        Question(f"{i}", (f"Что это? {i}", "a) ёж; b) кот; c) шар; d) дом"), answer_in_text=True) for i in range(8)
    ]
    free = rudolph.answer(questions, Settings(listed_options=False, cut_working=False))
    answers = rudolph.answer(questions, Settings(cut_working=False))
    replaced = 0
    for question, before, after in zip(questions, free, answers, strict=True):
        assert before.text is not None
        if is_listed(before.text, options):
            assert after.text == before.text
            continue
        replaced += 1
        losses = []
        for option in options:
            right = encode(option, config.r_text_seq_length, config.special_id("RT_UNK"))
            zeros = torch.zeros(config.image_seq_length, dtype=torch.int64)
            ids = torch.cat((rudolph.encode_left([question])[0], zeros, right))[None]
            logits = rudolph.model(ids).logits[0, config.image_end + 1 : -1, : config.text_vocab_size]
            losses.append(torch.nn.functional.cross_entropy(logits, right[2:], ignore_index=0, reduction="sum"))
        assert after.text == options[int(torch.stack(losses).argmin())]
    assert replaced > 2
    assert rudolph.answer([Question("x", ("Что это?",), answer_in_text=True)], Settings()) == rudolph.answer(
        [Question("x", ("Что это?",), answer_in_text=True)], Settings(listed_options=False)
    )
