"""RUDOLPH's text tokenizer: YouTokenToMe BPE with the published sequence layout."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import torch
import youtokentome
from torch import LongTensor, Tensor

from .config import BOS, EOS, PAD, UNK


class Tokenizer:
    """Text to ids and back. Calls hold no state, so threads may share one tokenizer."""

    def __init__(self, bpe: youtokentome.BPE, path: Path) -> None:
        self.path = path
        self.vocab_size = int(bpe.vocab_size())
        self._bpe = bpe

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Tokenizer:
        """Load a `bpe.model`. Raises FileNotFoundError, or ValueError naming the file where it is damaged."""
        path = Path(path)
        _check_model(path)
        return cls(youtokentome.BPE(str(path), n_threads=1), path)

    def encode_ids(self, text: str, letters: bool = False) -> list[int]:
        """BPE ids of the lower-cased, stripped text, with nothing around them; `letters`: an id for each character.

        Raises ValueError for what is no text.
        """
        if not isinstance(text, str):
            raise ValueError(f"text is {text!r}; it must be a str")
        # Joins surrogate pairs and replaces lone ones, which UTF-8 cannot hold.
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").lower().strip()
        return self._bpe.encode([text], dropout_prob=float(letters))[0]

    def encode_text(self, text: str, length: int, special_id: int, letters: bool = False) -> LongTensor:
        """`BOS special … EOS pad…` as int64 [length]; the text is lower-cased and stripped.

        letters: an id for each character, none for a subword: a way of spelling that decodes to the same text.

        A text that does not fit is cut at the end, and its EOS with it: the published code truncates the finished
        sequence, so the model was trained to read a missing EOS as 'goes on'.
        """
        if length < 1:
            raise ValueError(f"encode_text: length is {length}; it must be at least 1")
        ids = [BOS, special_id, *self.encode_ids(text, letters), EOS][:length]
        tokens = torch.full((length,), PAD, dtype=torch.long)
        tokens[: len(ids)] = torch.tensor(ids)
        return tokens  # type: ignore[return-value]  # torch gives no tensor a dtype in its type

    def decode(self, ids: Iterable[int] | Tensor) -> str:
        """Text of the subwords among `ids`, skipping control ids and ids outside the BPE (special tokens, padding)."""
        values = ids.tolist() if isinstance(ids, Tensor) else [int(i) for i in ids]
        subwords = [i for i in values if EOS < i < self.vocab_size]
        return self._bpe.decode([subwords])[0].strip()


def _check_model(path: Path) -> None:
    """Check a BPE file's structure: youtokentome aborts the process, hangs, or loads nothing on a damaged one.

    The file: `characters rules`; a line `code point, id` a character; a line `left, right, new id` a rule; then the
    ids of UNK, PAD, BOS, EOS.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such BPE model")
    try:
        lines = [[int(number) for number in line.split()] for line in path.read_text(encoding="ascii").splitlines()]
        characters, rules = lines[0]
        whole = len(lines) == characters + rules + 2
        char_rows, rule_rows, special = lines[1 : characters + 1], lines[characters + 1 : -1], lines[-1]
        ids = {new for _, new in char_rows} | {new for _, _, new in rule_rows} | set(special)
        parts = {part for left, right, _ in rule_rows for part in (left, right)}
    except (ValueError, IndexError) as error:
        raise ValueError(f"{path}: not a youtokentome model: {error}") from error
    if not whole or ids != set(range(characters + rules + 4)) or not parts <= ids:
        raise ValueError(f"{path}: damaged youtokentome model: {characters} characters and {rules} rules are announced")
    if special != [UNK, PAD, BOS, EOS]:
        raise ValueError(f"{path}: UNK, PAD, BOS, EOS have the ids {special}; RUDOLPH needs {[UNK, PAD, BOS, EOS]}")
