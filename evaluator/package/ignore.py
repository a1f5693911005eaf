"""Patterns as in .gitignore (gitignore(5)), matched in a time that is linear in the path, whatever the pattern.

A library that makes one regular expression of a pattern takes a time that grows as a power of the path's length, the
number of stars in the exponent. Here a path is matched name by name: between two stars of a name the first place that
fits is as good as any other, and between two `**` the first names that fit.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class _Pattern:
    """`parts` are what each name of a path must match, None for `**`: any number of names, at the end one at least."""

    negated: bool
    folders_only: bool
    parts: tuple[re.Pattern[str] | None, ...]

    def matches(self, names: list[str], is_folder: bool) -> bool:
        if self.folders_only and not is_folder:
            return False
        part = name = 0
        resume: tuple[int, int] | None = None  # behind the last `**`: the part, and the name to try it with next
        while name < len(names):
            wanted = self.parts[part] if part < len(self.parts) else re.compile("(?!)")
            if wanted is None:
                part += 1
                if part == len(self.parts):
                    return True
                resume = part, name + 1
            elif wanted.fullmatch(names[name]):
                part, name = part + 1, name + 1
            elif resume is not None:
                part, name = resume
                resume = part, name + 1
            else:
                return False
        return part == len(self.parts)


class Patterns:
    """Patterns of which the last that matches decides, as in a .gitignore."""

    def __init__(self, lines: Iterable[str]) -> None:
        """Raises ValueError for a line that is no pattern, with what is wrong."""
        self._patterns: list[_Pattern] = []
        for line in lines:
            self.add(line)

    def add(self, line: str) -> None:
        """Raises ValueError for a line that is no pattern, with what is wrong."""
        pattern = _parse(line)
        if pattern is not None:
            self._patterns.append(pattern)

    def __len__(self) -> int:
        return len(self._patterns)

    def match(self, path: str) -> bool:
        """Is a path to be left out? A folder's ends with '/'. Of what lies in a folder that is left out do not ask."""
        is_folder, names = path.endswith("/"), path.removesuffix("/").split("/")
        for pattern in reversed(self._patterns):
            if pattern.matches(names, is_folder):
                return not pattern.negated
        return False


def _parse(line: str) -> _Pattern | None:
    """None for an empty line or a comment."""
    text = line.rstrip()
    if text.endswith("\\") and text != line:
        text += " "  # an escaped space
    if not text or text.startswith("#"):
        return None
    negated = text.startswith("!")
    text = text[negated:]
    if not text:
        raise ValueError("'!' without a pattern")
    folders_only = text.endswith("/")
    text = text.removesuffix("/")
    if not text:
        return None  # '/' alone matches nothing
    parts = text.removeprefix("/").split("/")
    if "/" not in text:  # of any folder
        parts.insert(0, "**")
    compiled: list[re.Pattern[str] | None] = []
    for part in parts:
        if part != "**":
            compiled.append(_name(part))
        elif not compiled or compiled[-1] is not None:  # several in a row are one
            compiled.append(None)
    return _Pattern(negated, folders_only, tuple(compiled))


def _name(glob: str) -> re.Pattern[str]:
    """The pattern of one name: * ? [a-z] [!a-z] and a backslash before what is meant as it is."""
    pieces = [""]  # between stars
    at = 0
    closes = True  # until brackets are found open: no later ones are closed, and each would be read to the end
    while at < len(glob):
        character = glob[at]
        at += 1
        if character == "*":
            pieces.append("")
        elif character == "?":
            pieces[-1] += "."
        elif character == "[" and closes and (end := _class_end(glob, at)):
            pieces[-1] += _class(glob[at : end - 1])
            at = end
        elif character == "\\":
            if at == len(glob):
                raise ValueError("a backslash at the end")
            pieces[-1] += re.escape(glob[at])
            at += 1
        else:
            closes = closes and character != "["
            pieces[-1] += re.escape(character)
    first, *middle = pieces
    last = f".*{middle.pop()}" if middle else ""
    # Atomic: where the first place of a piece has been found, no other is tried.
    return re.compile(first + "".join(f"(?>.*?{piece})" for piece in middle if piece) + last, re.DOTALL)


def _class_end(glob: str, at: int) -> int:
    """Where the brackets that begin before `at` are over; 0 where they are not closed, and stand for themselves."""
    at += glob[at : at + 1] in ("!", "^")
    at += glob[at : at + 1] == "]"
    while at < len(glob) and glob[at] != "]":
        at += 2 if glob[at] == "\\" else 1
    return at + 1 if at < len(glob) else 0


def _class(inside: str) -> str:
    negated = inside[:1] in ("!", "^")
    if "[:" in inside:
        raise ValueError(f"[{inside}] has a class of characters, which is not supported; name the characters")
    members = re.sub(r"\\(.)|([\[\]&~|^])", lambda match: re.escape(match[1] or match[2]), inside[negated:])
    try:
        re.compile(f"[{members}]")
    except re.error:
        raise ValueError(f"[{inside}] is no set of characters") from None
    return f"[{'^' if negated else ''}{members}]"
