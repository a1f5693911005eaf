"""The BPE tokenizer on a small model trained here, on Cyrillic text and on hostile text."""

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import youtokentome
from hypothesis import given, settings
from hypothesis import strategies as st

from rudolph.tokenizer import Tokenizer

SENTENCES = [
    "на фотографии рыжий кот сидит рядом с пожарной машиной",
    "какого цвета ёжик на картинке? ответ: «серый»",
    "реши уравнение: 3x + 7 = 22; варианты: a) -4; b) -20; c) 5; d) -3",
    "что написано на вывеске? аптека, хлеб, вход воспрещён",
]
VOCAB = 160
LT_UNK = VOCAB


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bpe")
    words = " ".join(SENTENCES).split()
    rng = random.Random(0)
    lines = [" ".join(rng.choices(words, k=8)) for _ in range(300)] + SENTENCES
    (folder / "text.txt").write_text("\n".join(lines), encoding="utf-8")
    youtokentome.BPE.train(str(folder / "text.txt"), str(folder / "bpe.model"), vocab_size=VOCAB, n_threads=1)
    return folder / "bpe.model"


@pytest.fixture(scope="module")
def tokenizer(path) -> Tokenizer:
    return Tokenizer.from_file(path)


@pytest.mark.parametrize("text", SENTENCES)
def test_layout_and_round_trip(tokenizer, text):
    tokens = tokenizer.encode_text(f"  {text.upper()}\n", 96, LT_UNK)
    assert tokens.dtype == torch.int64 and tokens.shape == (96,)
    body = tokenizer.encode_ids(text)
    assert tokens.tolist() == [2, LT_UNK, *body, 3] + [0] * (96 - len(body) - 3)
    assert 1 not in body
    assert tokenizer.decode(tokens) == tokenizer.decode(tokens.tolist()) == text
    assert body == youtokentome.BPE(str(tokenizer.path)).encode([text])[0]


def test_truncation_drops_the_end_and_eos(tokenizer):
    whole = tokenizer.encode_text(SENTENCES[0], 96, LT_UNK)
    used = int((whole != 0).sum())
    assert tokenizer.encode_text(SENTENCES[0], used, LT_UNK).tolist()[-1] == 3
    for length in (1, 2, 3, 10, used - 1):
        tokens = tokenizer.encode_text(SENTENCES[0], length, LT_UNK)
        assert torch.equal(tokens, whole[:length]) and 3 not in tokens
    with pytest.raises(ValueError, match="length is 0"):
        tokenizer.encode_text("кот", 0, LT_UNK)


def test_decode_skips_what_is_no_subword(tokenizer):
    ids = tokenizer.encode_ids("рыжий кот")
    noise = [0, 1, 2, 3, -1, VOCAB, VOCAB + 5000, 2**40]
    mixed = [x for pair in zip(ids, noise * 9, strict=False) for x in pair] + noise
    assert tokenizer.decode(mixed) == "рыжий кот"
    assert tokenizer.decode([]) == tokenizer.decode(noise) == tokenizer.decode(torch.tensor([], dtype=torch.long)) == ""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        (" \t\n ", ""),
        ("кот 😀👨‍👩‍👧 ёжик", "кот  ёжик"),
        ("рыжий\x00кот", "рыжийкот"),
        ("\ud800кот\udfff", "кот"),
        ("\u2581кот \ufeff\u200b\u00ad", "кот"),
        ("\U0010ffff\ufffe", ""),
        ("<PAD> <EOS>", None),
        ("кот " * 100_000, None),
        ("о" * 300_000, None),
    ],
)
def test_strange_text(tokenizer, text, shown):
    tokens = tokenizer.encode_text(text, 64, LT_UNK)
    assert tokens.shape == (64,) and tokens[:2].tolist() == [2, LT_UNK]
    assert ((tokens[2:] >= 0) & (tokens[2:] < VOCAB)).all()
    if shown is not None:
        assert tokenizer.decode(tokens) == shown


def test_surrogate_pair_is_the_character_it_stands_for(tokenizer):
    assert tokenizer.encode_ids("\ud83d\ude00 кот") == tokenizer.encode_ids("😀 кот")


@given(st.text(st.characters(exclude_categories=())))
@settings(max_examples=300, deadline=None)
def test_any_text(tokenizer, text):
    tokens = tokenizer.encode_text(text, 32, LT_UNK)
    assert tokens.shape == (32,)
    assert isinstance(tokenizer.decode(tokens), str)


def test_threads_agree(tokenizer):
    texts = [f"{SENTENCES[i % 4]} {i}" for i in range(2000)]
    expected = [tokenizer.encode_text(t, 96, LT_UNK) for t in texts]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda t: tokenizer.encode_text(t, 96, LT_UNK), texts))
        decoded = list(pool.map(tokenizer.decode, found))
    assert all(map(torch.equal, found, expected))
    assert decoded == [tokenizer.decode(t) for t in expected]


def test_damaged_models_are_refused_before_the_library_sees_them(tmp_path, path):
    """youtokentome itself aborts the process on some of these and loops for long on others."""
    whole = path.read_text()
    lines = whole.splitlines()
    bad = tmp_path / "bpe.model"
    cases = {
        "": "not a youtokentome model",
        "root:x:0:0": "not a youtokentome model",
        "29 999999999\n1 5\n": "damaged",
        whole[: len(whole) // 2]: "youtokentome model",
        "\n".join(lines[:-1]): "youtokentome model",
        "\n".join([*lines[:-2], "9937 5 159", lines[-1]]): "damaged",
        "\n".join([*lines[:-1], "0 1 2 3"]): "UNK, PAD, BOS, EOS have the ids",
    }
    for text, message in cases.items():
        bad.write_text(text)
        with pytest.raises(ValueError, match=f"bpe.model: .*{message}"):
            Tokenizer.from_file(bad)
    bad.write_bytes(bytes(range(256)))
    with pytest.raises(ValueError, match="not a youtokentome model"):
        Tokenizer.from_file(bad)
    with pytest.raises(FileNotFoundError, match="absent.model"):
        Tokenizer.from_file(tmp_path / "absent.model")


def test_vocab_size_and_a_published_style_model(tokenizer):
    assert tokenizer.vocab_size == VOCAB
    published = Tokenizer.from_file(Path(__file__).parents[2] / "data" / "ruclip" / "bpe.model")
    assert published.vocab_size == 173
    assert published.decode(published.encode_text("Ёжик и кот", 24, 173)) == "ёжик и кот"
