"""Names of teams: what can be one, and which of them look alike."""

import functools
import unicodedata
from pathlib import Path

from evaluator.core.errors import DataError, show

MAX_CHARACTERS = 60
CONFUSABLES = Path(__file__).with_name("confusables.txt")

# Printable by their kind, and yet nothing is to be seen: fillers, blanks, and what Unicode says is to be ignored.
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0\ufffc")
_BLANK |= frozenset("\U00013441\U00013442\U00016fe4\U0001d159")
_BLANK |= frozenset(map(chr, range(0xFE00, 0xFE0E))) | frozenset(map(chr, range(0xE0100, 0xE01F0)))
_SELECTORS = frozenset("\ufe0e\ufe0f")  # whether the symbol before is drawn as text or as emoji


def checked(name: str) -> str:
    """The name as it is kept: NFC, without space around it. Raises `DataError` for one that is none."""
    name = unicodedata.normalize("NFC", name).strip()
    must_be = f"must be 1..{MAX_CHARACTERS} printable characters"
    if not name or len(name) > MAX_CHARACTERS or not name.isprintable():
        raise DataError(f"team {show(name)}: {must_be}")
    before = ""
    for character in name:
        if character in _BLANK or (character in _SELECTORS and unicodedata.category(before or " ")[0] not in "SNP"):
            raise DataError(f"team {show(name)}: {must_be}; U+{ord(character):04X} cannot be seen")
        before = character
    if all(unicodedata.category(character)[0] in "MZ" for character in name):
        raise DataError(f"team {show(name)}: {must_be}; there is nothing to be seen but marks")
    return name


@functools.lru_cache(maxsize=10_000)
def looks(name: str) -> frozenset[str]:
    """What a name looks like, as it is and in small and in capital letters. Two that have one of these in common are
    easily taken for each other.
    """
    name = " ".join(unicodedata.normalize("NFKC", name).split())  # pages show one space for several
    return frozenset(_skeleton(variant) for variant in (name, name.lower(), name.upper()))


def _skeleton(text: str) -> str:
    """UTS 39's skeleton."""
    kept = (character for character in unicodedata.normalize("NFD", text) if character not in _BLANK | _SELECTORS)
    return unicodedata.normalize("NFD", "".join(kept).translate(_confusables()))


@functools.cache
def _confusables() -> dict[int, str]:
    table = {}
    for line in CONFUSABLES.read_text(encoding="ascii").splitlines():
        if not line.startswith("#"):
            prototype, _, others = line.partition(":")
            text = "".join(chr(int(code, 16)) for code in prototype.split())
            table.update({int(code, 16): text for code in others.split()})
    return table
