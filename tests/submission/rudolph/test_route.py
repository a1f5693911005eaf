"""The route: read from the head that is trained for it, and learned by training with the model's own loss."""

import pytest
import torch

from rudolph.route import is_question, outputs, text_probability

TINY_LEFT, TINY_CODES = 24, 64


@pytest.fixture
def left() -> torch.Tensor:
    left = torch.randint(4, 100, (5, TINY_LEFT), generator=torch.Generator().manual_seed(0))
    left[:, 0], left[:, 12:] = 2, 0
    return left


def test_probability_is_that_of_the_whole_sequence_at_the_last_left_position(tiny_model, left):
    model = tiny_model()
    rest = torch.randint(4, 60, (5, 16 + 10))
    logits = model(torch.cat((left, rest), dim=1)).logits[:, TINY_LEFT - 1, :TINY_CODES]
    found = text_probability(model, left)
    assert found.shape == (5,) and found.dtype == torch.float32
    torch.testing.assert_close(found, logits.softmax(-1)[:, 0], atol=1e-6, rtol=0)
    torch.testing.assert_close(text_probability(model, left[2:3]), found[2:3], atol=1e-6, rtol=0)
    assert found.std() > 1e-4  # it depends on the text


@pytest.mark.parametrize(("bias", "expected"), [(60.0, 1.0), (-60.0, 0.0)])
def test_the_text_head_decides_not_the_image_head(tiny_model, left, bias, expected):
    model = tiny_model()
    with torch.no_grad():
        model.to_logits[1].bias[0] = bias  # text id 0
        model.to_logits[1].bias[model.config.text_vocab_size] = -bias  # image id 0
    torch.testing.assert_close(text_probability(model, left), torch.full((5,), expected), atol=1e-4, rtol=0)


@pytest.mark.slow
def test_training_with_the_loss_teaches_the_route(tiny_model):
    """After steps on zeros for one kind of left text and codes for another, unseen texts of both are told apart."""
    model = tiny_model().train()
    random = torch.Generator().manual_seed(1)

    def batch(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
        draws = torch.rand(rows, generator=random) < 0.5
        left = torch.randint(30, 150, (rows, TINY_LEFT), generator=random)
        left[:, 0], left[:, 14:] = 2, 0
        left[:, 3] = torch.where(draws, 10, 11)
        image = torch.randint(1, TINY_CODES, (rows, 16), generator=random) * draws[:, None]
        return torch.cat((left, image), dim=1), draws

    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(120):
        ids, _ = batch(16)
        loss = model.loss(ids, lt=1, img=0.01, rt=0).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    ids, draws = batch(64)
    probability = text_probability(model.eval(), ids[:, :TINY_LEFT])
    assert ((probability < 0.5) == draws).float().mean() > 0.95


def test_outputs():
    assert outputs("both", 0.9, 0.5) == outputs("both", 0.1, 0.5) == (True, True)
    assert outputs("auto", 0.5, 0.5) == (True, False)
    assert outputs("auto", 0.49, 0.5) == (False, True)
    assert outputs("auto", 0.49, 0.4) == (True, False)


@pytest.mark.parametrize(
    ("texts", "question"),
    [
        (("Найди лишнее слово.", "a) коза; b) сыр; c) лошадь"), True),
        (("Решите: 2 * ё = 4 a) 1; b) 2",), True),
        (("Прочитай текст.", "Служил на Кавказе один барин.", "Кто служил? "), True),
        (("Где ёжик?", "", " "), False),
        (("Можешь нарисовать ёжика?",), False),
        (("Каким будет рисунок?", "красный круг на белом фоне"), False),
        (("Нарисуй a) и b)", "ёжик 🦔"), False),
        ((), False),
    ],
)
def test_a_form_that_shows_that_a_text_is_asked(texts, question):
    assert is_question(texts) == question


def test_wrong_length_is_named(tiny_model, left):
    with pytest.raises(ValueError, match=r"left has shape \(5, 10\); it must be \(batch, 24\)"):
        text_probability(tiny_model(), left[:, :10])
