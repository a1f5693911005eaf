"""Rows of ids for a decoder of FusionBrain Challenge 1.0: what it is asked, and what its answer is."""

from __future__ import annotations

import random
from collections.abc import Iterator

import torch
from PIL import Image
from torch import Tensor

from contract_fbc1 import prompt, write_boxes
from rudolph import VQGAN, RudolphConfig, Tokenizer
from rudolph.images import preprocess
from training.fbc1 import handwriting, make_example, objects
from training.fbc1.example import TASKS, Example
from training.nano.decoder import AnySteps, Row
from training.tasks import LOSS_WEIGHTS, UNKNOWN_TOKENS

#: The tasks of FusionBrain Challenge 2.0 whose published loss weights they have.
LIKE = {"C2C": "TextQA", "HTR": "TRitW", "zsOD": "VisualQA", "VQA": "VisualQA"}


def question_and_answer(example: Example) -> tuple[str, str]:
    """What a model reads and what it is to write, boxes as text."""
    answer = example.answer
    if example.task == "zsOD":
        assert example.image is not None
        answer = write_boxes(example.boxes, example.image.size)
    return prompt(example.task, example.text), answer


def left_and_right(config: RudolphConfig, tokenizer: Tokenizer, example: Example) -> tuple[Tensor, Tensor]:
    """Ids of the left text [l] and the right text [r], handwriting letter by letter."""
    question, answer = question_and_answer(example)
    left, right = (config.special_id(token) for token in UNKNOWN_TOKENS)
    return (
        tokenizer.encode_text(question, config.l_text_seq_length, left),
        tokenizer.encode_text(answer, config.r_text_seq_length, right, letters=example.task == "HTR"),
    )


class Steps(AnySteps):
    """Steps of the four tasks, or of those that the run has shares of."""

    groups = (("C2C",), ("HTR", "zsOD", "VQA"))
    loss_weights = {task: LOSS_WEIGHTS[like] for task, like in LIKE.items()}

    def rows(
        self, rng: random.Random, number: int, seen: int, tokenizer: Tokenizer, vqgan: VQGAN
    ) -> dict[str, list[Row]]:
        """Of the same shares in every round. A scene has a few requests and questions each."""
        shares = self.training.shares
        examples = [
            make_example(task, number * shares[task] + i)
            for task in ("C2C", "HTR") for i in range(shares.get(task, 0))
        ]  # fmt: skip
        wanted = {task: shares.get(task, 0) for task in ("zsOD", "VQA")}
        while any(wanted.values()):
            scene = objects.draw_scene(rng)
            for task, lacking in wanted.items():
                here = min(objects.PER_SCENE, lacking)
                wanted[task] -= here
                examples += (
                    objects.requests(rng, scene, here) if task == "zsOD"
                    else [objects.question(rng, scene) for _ in range(here)]
                )  # fmt: skip
        codes = self._codes([example.image for example in examples if example.image is not None], vqgan)
        return self.collected(
            (
                example.task, left_and_right(self.config, tokenizer, example),
                None if example.image is None else codes[id(example.image)],
            )
            for example in examples
        )  # fmt: skip

    def _codes(self, pictures: list[Image.Image], vqgan: VQGAN) -> dict[int, Tensor]:
        """Codes [m²] by the identity of the picture; each is encoded once."""
        different = {id(picture): picture for picture in pictures}
        if not different:
            return {}
        size = vqgan.config.reduction * self.config.image_tokens_per_dim
        pixels = torch.stack([preprocess(picture, size, "whole") for picture in different.values()])
        return dict(zip(different, vqgan.encode(pixels), strict=True))


def texts(examples: int) -> Iterator[str]:
    """What the BPE is made of: questions and answers, so many a task; of handwriting, which is spelt, its words."""
    for words in handwriting.WORDS.values():
        yield from words
    for task in TASKS:
        if task != "HTR":
            for number in range(examples):
                yield from question_and_answer(make_example(task, number))
    yield prompt("HTR")
