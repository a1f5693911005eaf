"""Sizes and special tokens of RUDOLPH: the only place where they stand.

Parameter names are those of the published `config.json` files, so a published folder loads unchanged.
"""

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, Self

PAD, UNK, BOS, EOS = 0, 1, 2, 3
MOST_LAYERS = 1000  # so that a wrong number is named, and no model of it is built for hours

#: Text special tokens, in the order of their ids; the first one follows the last BPE id.
SPECIAL_TOKENS = (
    "LT_UNK", "RT_UNK", "LT_T2I", "LT_I2T", "LT_T2T", "RT_I2T", "LT_TQA", "RT_TQA", "LT_MQA",
    "RT_MQA", "LT_VQA", "RT_VQA", "LT_CAP", "RT_CAP", "LT_GEN", "LT_REC", "RT_REC",
)  # fmt: skip

#: A range of rows of the output matrix (text rows first, then image rows):
#: `text` every text id, `bpe` the BPE ids, `image` every image id, `codes` the codebook ids, `first_code` the codebook
#: ids as the *text* head names them at the last left position, where it is trained on the first image id.
Vocabulary = Literal["text", "bpe", "image", "codes", "first_code"]


_SIZE_NAMES = (
    "num_layers", "hidden_size", "num_attention_heads", "l_text_seq_length", "image_tokens_per_dim",
    "r_text_seq_length", "kernel_size", "last_kernel_size", "text_special_tokens", "image_special_tokens",
    "vocab_size", "image_vocab_size",
)  # fmt: skip


@dataclass(kw_only=True)
class DecoderConfig:
    """Sizes of a RUDOLPH decoder over `left text (l) | image (m x m) | right text (r)`.

    `vocab_size` is the number of BPE ids plus l (an id per left padding position); `text_special_tokens` rows are
    added to it. `image_vocab_size` counts the codebook; `image_special_tokens` rows are added to it.

    Raises ValueError, naming the parameter, its value and what is allowed, for sizes that do not fit together.
    """

    num_layers: int = 24
    hidden_size: int = 1024
    num_attention_heads: int = 16
    l_text_seq_length: int = 64
    image_tokens_per_dim: int = 16
    r_text_seq_length: int = 64
    kernel_size: int = 7
    last_kernel_size: int = 9
    cogview_sandwich_layernorm: bool = True
    cogview_pb_relax: bool = True  # a trick against fp16 overflow; it changes rounding only and is not needed with SDPA
    text_special_tokens: int = 0
    image_special_tokens: int = 0
    vocab_size: int = 16384 + 64
    image_vocab_size: int = 8192
    embedding_dropout_prob: float = 0.1
    output_dropout_prob: float = 0.1
    attention_dropout_prob: float = 0.1
    initializer_range: float = 0.02

    def __post_init__(self) -> None:
        self.check()

    @classmethod
    def from_folder(cls, folder: Path) -> Self:
        """Reads `config.json`, whose other keys are ignored. Raises ValueError, OSError."""
        path = folder / "config.json"
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is no valid JSON: {error}") from error
        if not isinstance(values, dict):
            raise ValueError(f"{path} holds a {type(values).__name__}; it must be an object with the sizes")
        names = {field.name for field in fields(cls)}
        return cls(**{key: value for key, value in values.items() if key in names})

    def check(self) -> None:
        """Raise ValueError for sizes that do not fit together."""
        for name in _SIZE_NAMES:
            if type(getattr(self, name)) is not int:
                raise ValueError(f"{type(self).__name__}: {name} is {getattr(self, name)!r}; it must be a whole number")

        def need(name: str, holds: bool, allowed: str) -> None:
            if not holds:
                raise ValueError(f"{type(self).__name__}: {name} is {getattr(self, name)!r}; it must be {allowed}")

        for name in ("num_layers", "hidden_size", "num_attention_heads", "l_text_seq_length", "image_vocab_size"):
            need(name, getattr(self, name) >= 1, "at least 1")
        need("num_layers", self.num_layers <= MOST_LAYERS, f"at most {MOST_LAYERS}")
        need("image_tokens_per_dim", self.image_tokens_per_dim >= 2, "at least 2")
        need("r_text_seq_length", self.r_text_seq_length >= 2, "at least 2")
        heads = self.num_attention_heads
        need("hidden_size", self.hidden_size % heads == 0, f"divisible by num_attention_heads ({heads})")
        for name in ("kernel_size", "last_kernel_size"):
            need(name, getattr(self, name) >= 1 and getattr(self, name) % 2 == 1, "odd and at least 1")
        for name in ("text_special_tokens", "image_special_tokens"):
            need(name, getattr(self, name) >= 0, "0 or more")
        need(
            "vocab_size",
            self.bpe_vocab_size > EOS,
            f"BPE ids + l_text_seq_length ({self.l_text_seq_length}), with more than {EOS} BPE ids",
        )
        text = self.text_vocab_size
        need("image_vocab_size", self.image_vocab_size <= text, f"at most {text}: the text head predicts the first id")
        for name in ("embedding_dropout_prob", "output_dropout_prob", "attention_dropout_prob"):
            value = getattr(self, name)
            need(name, isinstance(value, int | float) and 0 <= value < 1, "a number in [0, 1)")
        for name in ("cogview_sandwich_layernorm", "cogview_pb_relax"):
            need(name, isinstance(getattr(self, name), bool), "true or false")

    @property
    def bpe_vocab_size(self) -> int:
        """Number of BPE ids, PAD, UNK, BOS and EOS included."""
        return self.vocab_size - self.l_text_seq_length

    @property
    def text_vocab_size(self) -> int:
        """Rows of the text table: BPE ids, special tokens, l padding ids."""
        return self.vocab_size + self.text_special_tokens

    @property
    def image_table_size(self) -> int:
        """Rows of the image table: codebook ids, image special tokens."""
        return self.image_vocab_size + self.image_special_tokens

    @property
    def image_seq_length(self) -> int:
        """Number of image tokens, m * m."""
        return self.image_tokens_per_dim**2

    @property
    def image_end(self) -> int:
        """Position of the first right-text token, l + m * m."""
        return self.l_text_seq_length + self.image_seq_length

    @property
    def total_seq_length(self) -> int:
        """l + m * m + r."""
        return self.image_end + self.r_text_seq_length

    def special_id(self, name: str) -> int:
        """Id of a special token such as `LT_UNK`. Raises ValueError for an unknown name or a model without it."""
        if name not in SPECIAL_TOKENS:
            raise ValueError(f"special token {name!r} is unknown; there are {', '.join(SPECIAL_TOKENS)}")
        index = SPECIAL_TOKENS.index(name)
        if index >= self.text_special_tokens:
            raise ValueError(
                f"this model has {self.text_special_tokens} text special tokens, so no {name} (number {index + 1})"
            )
        return self.bpe_vocab_size + index

    def vocabulary_rows(self, vocabulary: Vocabulary) -> tuple[int, int]:
        """First and past-the-last row of the output matrix for a vocabulary; an id is its row minus the first row."""
        text = self.text_vocab_size
        rows = {
            "text": (0, text),
            "bpe": (0, self.bpe_vocab_size),
            "image": (text, text + self.image_table_size),
            "codes": (text, text + self.image_vocab_size),
            "first_code": (0, self.image_vocab_size),
        }
        if vocabulary not in rows:
            raise ValueError(f"vocabulary is {vocabulary!r}; it must be one of {', '.join(rows)}")
        return rows[vocabulary]


def _size(
    layers: int, width: int, heads: int, left: int, m: int, right: int, kernel: int, last_kernel: int,
    text_special: int, image_special: int, *, bpe: int = 16384, image_vocab: int = 8192, dropout: float = 0.1,
) -> dict[str, Any]:  # fmt: skip
    return {
        "num_layers": layers, "hidden_size": width, "num_attention_heads": heads,
        "l_text_seq_length": left, "image_tokens_per_dim": m, "r_text_seq_length": right,
        "kernel_size": kernel, "last_kernel_size": last_kernel,
        "text_special_tokens": text_special, "image_special_tokens": image_special,
        "vocab_size": bpe + left, "image_vocab_size": image_vocab,
        "embedding_dropout_prob": dropout, "output_dropout_prob": dropout, "attention_dropout_prob": dropout,
    }  # fmt: skip


#: Arguments of a configuration by size: `DecoderConfig(**SIZES["nano"])`. `350M-v1` is the first release of 350M.
SIZES: dict[str, dict[str, Any]] = {
    #                  layers width heads  l   m   r  conv last  special tokens  BPE  image ids
    "350M":      _size(24, 1024, 16,  64, 16,  64,  7,  9,  384,  384),
    "350M-v1":   _size(24, 1024, 16,  64, 16,  64,  7,  9,    0,    0),
    "1.3B":      _size(24, 2048, 16, 128, 32, 128,  9, 11, 2048,   64),
    "2.7B":      _size(32, 2560, 32, 384, 24, 128,  7,  9, 1024, 1024),
    "2.7B-FBC2": _size(32, 2560, 32, 384, 24, 128,  7,  9, 1024, 1024),
    "nano":      _size( 6,  192,  6,  96,  8,  24,  5,  7,   32,    0, bpe=4096, image_vocab=1024, dropout=0.0),
}  # fmt: skip
