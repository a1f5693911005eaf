"""A stand-in for YouTokenToMe where it cannot be installed: the same ids of the same `bpe.model`, slowly, in Python.

Its folder is put on the path where the real package lacks. Only what RUDOLPH and ruCLIP call is here. The algorithm is
byte-pair encoding (Sennrich et al. 2016, arXiv:1508.07909) with the rules of the file in their order.
"""

import re
from collections.abc import Iterable
from itertools import pairwise

SPACE = "\u2581"  # stands before every word
_WORD = re.compile(rf"[^ \t\n\v\f\r{SPACE}]+")  # spaces of ASCII alone end a word


class BPE:
    """A model file; `n_threads` is taken and not used."""

    def __init__(self, model: str, n_threads: int = 1) -> None:
        with open(model, encoding="ascii") as file:
            rows = [[int(number) for number in line.split()] for line in file]
        characters, rules = rows[0]
        self._id_of = {chr(code): id for code, id in rows[1 : characters + 1]}
        self._rules = {(left, right): new for left, right, new in rows[characters + 1 : characters + 1 + rules]}
        self._rank = {pair: rank for rank, pair in enumerate(self._rules)}
        self._unknown = rows[-1][0]
        self._text_of = {id: character for character, id in self._id_of.items()}
        for (left, right), new in self._rules.items():
            self._text_of[new] = self._text_of[left] + self._text_of[right]
        self._size = characters + rules + 4

    def vocab_size(self) -> int:
        """Number of ids, PAD, UNK, BOS and EOS included."""
        return self._size

    def encode(self, sentences: list[str], dropout_prob: float = 0.0) -> list[list[int]]:
        """Ids of each sentence; `dropout_prob` 0, or 1 for an id a character."""
        if dropout_prob not in (0, 1):
            raise ValueError(f"dropout_prob is {dropout_prob}; the stand-in knows 0 and 1")
        return [
            [id for word in _WORD.findall(sentence) for id in self._word(SPACE + word, not dropout_prob)]
            for sentence in sentences
        ]

    def decode(self, ids: Iterable[Iterable[int]]) -> list[str]:
        """Text of each list of ids."""
        texts = ("".join(self._text_of.get(id, "<UNK>") for id in some) for some in ids)
        return [text.replace(SPACE, " ").removeprefix(" ") for text in texts]

    def _word(self, word: str, merge: bool) -> list[int]:
        ids: list[int] = []
        for character in word:
            id = self._id_of.get(character, self._unknown)
            if id != self._unknown or ids[-1:] != [id]:  # characters that are not known count once
                ids.append(id)
        while merge and len(ids) > 1:
            none = len(self._rank)
            rank, place = min((self._rank.get(pair, none), place) for place, pair in enumerate(pairwise(ids)))
            if rank == none:
                break
            ids[place : place + 2] = [self._rules[ids[place], ids[place + 1]]]
        return ids
