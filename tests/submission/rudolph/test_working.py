"""Steps that a model writes before its answer."""

import pytest
from PIL import Image

from rudolph import Question, Rudolph, Settings, Tokenizer
from rudolph.options import listed_options
from rudolph.working import split_working
from training.nano.train import SHIPPED as NANO
from training.worlds import make_example


@pytest.mark.parametrize(
    ("text", "working", "answer"),
    [
        ("15-7=8/2= 4", "15-7=8/2=", "4"),
        ("17;23= меньше", "17;23=", "меньше"),
        ("-4", "", "-4"),
        ("", "", ""),
        ("=", "", "="),  # an answer that is a sign
        ("15-7= ", "", "15-7= "),  # cut before the answer
        ("«ёж» = 🦔", "«ёж» =", "🦔"),
    ],
)
def test_what_stands_behind_the_last_mark_is_the_answer(text, working, answer):
    assert split_working(text) == (working, answer)


@pytest.mark.slow
def test_nano_works_equations_out_and_answers_with_an_option():
    rudolph = Rudolph.from_pretrained(NANO, "cpu", "float32")
    made = [make_example("MathQA", number, "heldout") for number in range(40)]
    examples = [example for example in made if example.kind.startswith("linear_1d")]
    questions = [
        Question(str(number), tuple(map(str, one.inputs)), answer_in_text=True) for number, one in enumerate(examples)
    ]
    whole = rudolph.answer(questions, Settings(cut_working=False, listed_options=False))
    answers = rudolph.answer(questions, Settings(listed_options=False))
    worked = 0
    for before, after in zip(whole, answers, strict=True):
        assert before.text is not None and split_working(before.text)[1] == after.text
        worked += before.text != after.text
    assert worked > 0.9 * len(examples)
    for answer in rudolph.answer(questions):
        assert answer.text in listed_options(questions[int(answer.id)].texts)


def test_steps_to_an_answer_about_an_image_are_part_of_it(model_folder, monkeypatch, tmp_path):
    """A sign may say `2+2=4`."""
    rudolph = Rudolph.from_pretrained(model_folder, "cpu", "float32")
    Image.new("RGB", (8, 8)).save(tmp_path / "sign.png")
    monkeypatch.setattr(Tokenizer, "decode", lambda self, ids: "2+2=4")
    about_image = Question("sign", ("Что?",), (tmp_path / "sign.png",))
    questions = [about_image, Question("text", ("Что?",), answer_in_text=True)]
    assert [answer.text for answer in rudolph.answer(questions)] == ["2+2=4", "4"]
