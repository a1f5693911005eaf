"""Examples that are longer than the left part of the sequence: their passage is cut, or read in windows.

Pure text: how long texts are, the caller counts. What stands around the passage stays whole, the instruction, the
question and its options:

* The passage is the longest of the texts that list no options. Of the first text, the first sentence is not part of it,
  as it may be the instruction. Of the last text but options, the end is not: the last sentence, or where it lists
  options itself, these and the sentence before them.
* Its pieces are its sentences; of a sentence that would take more than `SHARE` of the room, its words; of such a word,
  its letters.
* Where all else leaves no room, the passage is the whole example, as one text.
"""

import re
from bisect import bisect, bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, pairwise

from .options import listed_options

#: Of the room for a passage, how much one sentence may take and still be kept or left out as a whole.
SHARE = 0.5
#: Tokens of texts that are joined to one.
Count = Callable[[Sequence[str]], int]
Texts = tuple[str, ...]

_SPACE = re.compile(r"\s+")
_WORD = re.compile(r"\S+\s*")
_INITIAL = re.compile(r"\b[^\W\d]\.$")  # of a name, or an abbreviation
_ENDS = (".", "!", "?", "…")
_CLOSING = "»”“\"')]"
_GOES_ON = "—–-"  # a dash: what is said and who said it


def shorten(texts: Sequence[str], count: Count, room: int, mark: str = "…") -> Texts:
    """Texts of at most `room` tokens: as they are where they fit, else with the middle of their passage left out, and
    the mark in its place. Its beginning and end are kept in whole pieces, as much of the one as of the other.
    """
    if count(texts) <= room:
        return tuple(texts)
    before, pieces, after = _split(texts, count, room, mark)

    def kept(begin: int, end: int) -> Texts:
        return (*before, "".join(pieces[:begin]), mark, "".join(pieces[end:]), *after)

    begin, end = 0, len(pieces)
    grows = [True, True]  # the beginning, the end
    sizes = [0, 0]
    while any(grows):
        side = int(grows[1] and (sizes[1] <= sizes[0] or not grows[0]))
        longer = (begin, end - 1) if side else (begin + 1, end)
        if longer[0] < longer[1] and count(kept(*longer)) <= room:
            sizes[side] += len(pieces[end - 1 if side else begin])
            begin, end = longer
        else:
            grows[side] = False
    return kept(begin, end)


def windows(texts: Sequence[str], count: Count, room: int, number: int) -> list[Texts]:
    """The texts with one window of the passage each, of at most `room` tokens: as many as it takes for each to share a
    piece with the next, at most `number` (2 or more), which are spread evenly over a passage that is too long for that.

    None where the texts fit, and where there is no room for a passage.
    """
    if count(texts) <= room:
        return []
    before, pieces, after = _split(texts, count, room, "")
    if not before:
        return []

    def window(begin: int, end: int) -> Texts:
        return (*before, "".join(pieces[begin:end]), *after)

    def end_of(begin: int) -> int:
        end = begin
        while end < len(pieces) and count(window(begin, end + 1)) <= room:
            end += 1
        return end

    offsets = [0, *accumulate(map(len, pieces))]
    final = len(pieces)  # where the last window begins, which ends with the passage
    while final > 0 and count(window(final - 1, len(pieces))) <= room:
        final -= 1
    spans: list[tuple[int, int]] = []
    for wanted in range(2, number + 1):
        starts = [bisect_left(offsets, offsets[final] * place / (wanted - 1)) for place in range(wanted)]
        spans = [(start, end_of(start)) for start in starts]
        if all(following < end for (_, end), (following, _) in pairwise(spans)):
            break
    return [window(begin, end) for begin, end in spans if begin < end]


def _split(texts: Sequence[str], count: Count, room: int, mark: str) -> tuple[Texts, list[str], Texts]:
    """What stands before the passage, the passage in pieces, and what stands behind it; where there is no room for a
    passage, nothing but the whole example in pieces.
    """
    stated = [stripped for text in texts if (stripped := text.strip())]
    before: Texts = ()
    passage, after = " ".join(stated), before
    chosen = max(range(len(stated)), key=lambda place: _options(stated[place]))
    text, behind = stated[chosen], stated[chosen + 1 :]
    starts = [0, *accumulate(map(len, _sentences(text)))]
    last = len(text)
    if all(listed_options((other,)) for other in behind):
        last = starts[max(0, bisect(starts, _options(text)) - 2)]  # that before the options, or the last
    for first in (starts[1], 0) if chosen == 0 else (0,):
        around = (*stated[:chosen], text[:first]), (text[last:], *behind)
        if first < last and count((*around[0], mark, *around[1])) < room:
            before, after = around
            passage = text[first:last].strip()
            break
    most = SHARE * (room - count((*before, mark, *after)))
    return before, list(_pieces(passage, lambda piece: count((piece,)) > most)), after


def _options(text: str) -> int:
    """Where the options begin that a text lists at its end; its length, where it lists none."""
    start = text.rfind("a)")
    return start if start >= 0 and listed_options((text[start:],)) else len(text)


def _sentences(text: str) -> Iterator[str]:
    """A text's sentences, each with the space behind it. A line's end is the end of one, too."""
    begin = 0
    for space in _SPACE.finditer(text):
        before = text[max(begin, space.start() - 4) : space.start()].rstrip(_CLOSING)
        following = text[space.end() : space.end() + 1]
        ends = before.endswith(_ENDS) and not (following.islower() or following in _GOES_ON or _INITIAL.search(before))
        if "\n" in space.group() or ends:
            yield text[begin : space.end()]
            begin = space.end()
    if begin < len(text):
        yield text[begin:]


def _pieces(text: str, is_long: Callable[[str], bool]) -> Iterator[str]:
    for sentence in _sentences(text):
        if not is_long(sentence):
            yield sentence
            continue
        for word in _WORD.findall(sentence):
            yield from word if is_long(word) else (word,)
