"""Syntax trees of Python code as CodeBLEU compares them: nodes for the data flow, and all S-expressions of a tree as
digests, so that neither time nor memory grows with the depth, and nothing recurses.

A `Grammar` parses; `python_grammar.py` has the published one, `CurrentGrammar` here stands in for it.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntFlag
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    import tree_sitter

Point = tuple[int, int]  # line from 0, column in bytes of UTF-8


@dataclass(slots=True, eq=False)
class Node:
    """A node that the grammar names or that stands for a token. `field` is its role in its parent, if it has one."""

    type: str
    start: Point
    end: Point
    children: list["Node"]
    field: str | None

    def child(self, field: str) -> "Node | None":
        """The first child in this role."""
        return next((child for child in self.children if child.field == field), None)


class Tree(NamedTuple):
    """A parsed text. `expressions` has a digest of the S-expression of the root and of each node with children."""

    root: Node
    expressions: list[bytes]
    depth: int  # of nodes on the longest way from the root, which counts


class Grammar(Protocol):
    """Parses Python. `label` is shown with every score that it takes part in; None for the published grammar."""

    @property
    def label(self) -> str | None:
        """Why scores made with it are not comparable."""
        ...

    def parse(self, text: str) -> Tree:
        """What is no Python is repaired, and the repair is in the tree. `NO_TREE` for what takes too long."""
        ...


STAND_IN_LABEL = "grammar: the current one of Python, not comparable with the leaderboard"
#: Actions of a parser: so many, and so many for each byte. What takes more has no tree (ours): texts made for it, such
#: as ";not;not;not...", would take time that grows with the square of their length. Programs of any language, shuffled
#: and reversed ones too, take at most two a byte.
MAX_ACTIONS, MAX_ACTIONS_PER_BYTE = 200_000, 20
#: Both runtimes can be stopped at each hundredth action.
_ACTIONS_PER_CHECK = 100


class Flag(IntFlag):
    """What is to be known of a node; the values are those of python_grammar.c."""

    VISIBLE = 1  # is a node of the tree, not of the grammar's inside
    NAMED = 2
    SHOWN = 4  # stands in the S-expression of its parent
    PLAIN = 8  # stands in its own S-expression
    MISSING = 16  # was put in by the parser
    UNEXPECTED = 32  # a single character that fits nowhere
    EXTRA = 64  # may stand anywhere, as a comment


class FlatNode(NamedTuple):
    """A node in a list of all of a tree's, hidden ones among them, each before its children."""

    type: str
    own_type: str  # where the parent calls it otherwise
    field: str | None
    flags: int
    child_count: int
    character: int
    start: Point
    end: Point


class _Place(NamedTuple):
    """What a node hands down to its children: the numbers of the nodes that they belong to, and the role that a child
    without one of its own has there, as children of a hidden node have the hidden node's.
    """

    parent: int  # the nearest visible one
    role: str | None
    expression: int  # the nearest one that stands in an S-expression
    role_in_expression: str | None
    bare: int | None = None  # the node above, if it is one of those that `_expressions` has under `bare`,
    in_view: bool = False  # and whether nothing between has a role


def max_hundreds(content: bytes) -> int:
    """How many hundred actions a parser may take for a text."""
    return (MAX_ACTIONS + MAX_ACTIONS_PER_BYTE * len(content)) // _ACTIONS_PER_CHECK


def build(flat: Sequence[FlatNode]) -> Tree:
    """The tree of all nodes, each before its children. The time is linear, however the hidden ones are nested."""
    nodes: dict[int, Node] = {}
    depths: dict[int, int] = {}
    places: list[_Place] = []  # of each node in its parent
    waiting: list[tuple[int, _Place]] = []  # children to come, and their place
    for number, node in enumerate(flat):
        while waiting and not waiting[-1][0]:
            waiting.pop()
        if waiting:
            left, above = waiting[-1]
            waiting[-1] = left - 1, above
        else:
            above = _Place(-1, None, -1, None)
        extra = bool(node.flags & Flag.EXTRA)
        role, role_in_expression = (
            (None, None) if extra else (node.field or above.role, node.field or above.role_in_expression)
        )
        own = _Place(
            above.parent,
            role,
            above.expression,
            role_in_expression,
            above.bare,
            above.in_view and not extra and node.field is None,
        )
        places.append(own)
        below = own
        if node.flags & Flag.VISIBLE or number == 0:
            nodes[number] = Node(node.type, node.start, node.end, [], role)
            depths[number] = depths.get(above.parent, 0) + 1
            if number:
                nodes[above.parent].children.append(nodes[number])
            below = below._replace(parent=number, role=None)
        if node.flags & Flag.SHOWN or number == 0:
            renamed = not node.flags & Flag.PLAIN
            below = below._replace(
                expression=number, role_in_expression=None, bare=number if renamed else None, in_view=renamed
            )
        waiting.append((node.child_count, below))
    return Tree(nodes[0], _expressions(flat, nodes, places), max(depths.values()))


def _expressions(flat: Sequence[FlatNode], nodes: Mapping[int, Node], places: Sequence[_Place]) -> list[bytes]:
    """Digests of the S-expressions of the root and of all visible nodes with visible children."""
    found: list[bytes] = []
    items: dict[int, list[bytes]] = defaultdict(list)  # of a node's S-expression, the last one first
    # Seen as a root, a node that has its visible name from its parent prints its hidden one, and so do all hidden ones
    # and tokens below it that have no role, since the published library takes these for roots as well.
    bare: dict[int, list[bytes]] = defaultdict(list)
    for number in range(len(flat) - 1, -1, -1):
        node, place = flat[number], places[number]
        own = items.pop(number, [])
        if node.flags & Flag.SHOWN:
            digest = _digest(_head(node, node.type), own)
            item = b" %s:%s" % ((place.role_in_expression or "").encode(), digest)
            items[place.expression].append(item)
            if place.bare is not None:
                bare[place.bare].append(digest if place.in_view else item)
        elif place.bare is not None and place.in_view:
            bare[place.bare].append(_digest(b'"%s"' % node.own_type.encode()))
        if number == 0 or (number in nodes and nodes[number].children):
            if node.flags & Flag.PLAIN:
                found.append(_digest(_head(node, node.own_type), own))
            else:
                found.append(_digest(b'"%s"' % node.own_type.encode(), bare.pop(number, [])))
    return found


def _head(flat: FlatNode, name: str) -> bytes:
    if flat.flags & Flag.UNEXPECTED:
        return b"UNEXPECTED %d" % flat.character
    if flat.flags & Flag.MISSING:
        return b"MISSING " + (name if flat.flags & Flag.NAMED else f'"{name}"').encode()
    return name.encode()


def _digest(head: bytes, items: Iterable[bytes] = ()) -> bytes:
    """Of an S-expression: 16 bytes, so that no two share them."""
    return blake2b(b"(".join((head, *items)), digest_size=16).digest()


#: Of a text that takes too long: a root without anything below it, whose S-expression is like none of another tree.
NO_TREE = Tree(Node("ERROR", (0, 0), (0, 0), [], None), [_digest(b"")], 1)


class CurrentGrammar:
    """The grammar of PyPI's `tree-sitter-python`, which stands in for the published one."""

    label: str | None = STAND_IN_LABEL

    def __init__(self) -> None:
        import tree_sitter
        import tree_sitter_python

        self._parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_python.language()))

    def parse(self, text: str) -> Tree:
        """See `Grammar.parse`."""
        content = text.encode("utf-8", "surrogatepass")
        rest, allowed, checks = memoryview(content), max_hundreds(content), itertools.count(1)
        try:
            tree = self._parser.parse(lambda byte, _: rest[byte:], progress_callback=lambda *_: next(checks) >= allowed)
        except ValueError:  # stopped
            self._parser.reset()
            return NO_TREE
        cursor = tree.walk()
        flat: list[FlatNode] = []
        going = True
        while going:
            flat.append(_flat(cursor))
            going = cursor.goto_first_child() or cursor.goto_next_sibling()
            while not going and cursor.goto_parent():
                going = cursor.goto_next_sibling()
        return build(flat)


def _flat(cursor: "tree_sitter.TreeCursor") -> FlatNode:
    node = cursor.node
    assert node is not None
    shown = node.is_named or node.is_missing
    flags = Flag.VISIBLE | Flag.NAMED * node.is_named | Flag.MISSING * node.is_missing | Flag.EXTRA * node.is_extra
    flags |= (Flag.SHOWN | Flag.PLAIN) * shown
    start, end = (node.start_point.row, node.start_point.column), (node.end_point.row, node.end_point.column)
    return FlatNode(node.type, node.type, cursor.field_name, int(flags), node.child_count, 0, start, end)
