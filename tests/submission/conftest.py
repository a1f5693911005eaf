"""A complete tiny model folder with random weights, for tests of what stands on the model."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import youtokentome

from rudolph import VQGAN, RudolphConfig, RudolphModel
from rudolph.vqgan import VQGANConfig

TINY_BPE, TINY_CODES, TINY_LEFT = 160, 64, 24
WORDS = (
    "на фотографии рыжий кот сидит рядом с пожарной машиной какого цвета ёжик на картинке? ответ: «серый» реши "
    "уравнение 3x + 7 = 22 варианты: a) -4; b) -20; c) 5; d) -3 что написано на вывеске аптека хлеб вход воспрещён "
    "нарисуй красный шар и синий дом сгенерируй изображение прочитай текст подпиши объект щука эльф юла"
).split()


def make_tiny_model() -> RudolphModel:
    """m 4, so 16 image tokens; wide initial weights, so that different inputs get different answers."""
    torch.manual_seed(0)
    return RudolphModel(
        RudolphConfig(
            num_layers=2, hidden_size=32, num_attention_heads=2, l_text_seq_length=TINY_LEFT, image_tokens_per_dim=4,
            r_text_seq_length=10, kernel_size=3, last_kernel_size=3, text_special_tokens=17, image_special_tokens=4,
            vocab_size=TINY_BPE + TINY_LEFT, image_vocab_size=TINY_CODES, initializer_range=0.3,
            embedding_dropout_prob=0.0, output_dropout_prob=0.0, attention_dropout_prob=0.0,
        )
    ).eval()  # fmt: skip


@pytest.fixture(scope="session")
def tiny_model() -> Callable[[], RudolphModel]:
    """Makes a fresh model; every call gives the same weights."""
    return make_tiny_model


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    make_tiny_model().save_pretrained(folder)
    torch.manual_seed(0)
    sizes = VQGANConfig(
        embed_dim=16, n_embed=TINY_CODES, z_channels=16, resolution=32, ch=32, ch_mult=(1, 1, 1, 1), num_res_blocks=1,
        attn_resolutions=(),
    )  # fmt: skip
    VQGAN(sizes).save_pretrained(folder / "vqgan")
    rng = random.Random(0)
    corpus = folder / "corpus.txt"
    corpus.write_text("\n".join(" ".join(rng.choices(WORDS, k=8)) for _ in range(400)), encoding="utf-8")
    youtokentome.BPE.train(str(corpus), str(folder / "bpe.model"), vocab_size=TINY_BPE, n_threads=1)
    corpus.unlink()
    return folder
