"""Syntax trees of Python code as CodeBLEU compares them: nodes for the data flow, and all S-expressions of a tree as
digests, so that neither time nor memory grows with the depth, and nothing recurses.

A `Grammar` parses; `python_grammar.py` has the published one, `CurrentGrammar` here stands in for it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntFlag
from hashlib import blake2b
from typing import NamedTuple, Protocol

Point = tuple[int, int]  # line from 0, column in bytes of UTF-8


@dataclass(slots=True, eq=False)
class Node:
    """A node that the grammar names or that stands for a token. `field` is its role in its parent, if it has one;
    an `extra` one, a comment, never has.
    """

    type: str
    start: Point
    end: Point
    children: list["Node"]
    field: str | None = None
    extra: bool = False

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
        """Never fails: what is no Python is repaired, and the repair is in the tree."""
        ...


STAND_IN_LABEL = "the current grammar of Python stands in for the published one; not comparable"


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


class _Item(NamedTuple):
    """What a node adds to its parent's S-expression."""

    field: str | None
    extra: bool
    digest: bytes

    def content(self) -> bytes:
        return b" %s:%s" % ((self.field or "").encode(), self.digest)


class _Built(NamedTuple):
    nodes: list[Node]  # visible: the node itself, or those below a hidden one
    items: list[_Item]
    bare: list[bytes]  # the same below a root that its own S-expression does not show, see `_bare`
    depth: int


def build(flat: Sequence[FlatNode]) -> Tree:
    """The tree of all nodes, each before its children."""
    expressions: list[bytes] = []
    waiting: list[_Built] = []  # children of nodes still to come, the first child last
    for position in range(len(flat) - 1, -1, -1):
        node = flat[position]
        children = [waiting.pop() for _ in range(node.child_count)]
        waiting.append(_built(node, children, expressions, root=position == 0))
    (root,) = waiting
    expressions.reverse()
    return Tree(root.nodes[0], expressions, root.depth)


def _built(flat: FlatNode, children: list[_Built], expressions: list[bytes], root: bool) -> _Built:
    items = [item for child in children for item in child.items]
    depth = max((child.depth for child in children), default=0)
    visible = [node for child in children for node in child.nodes]
    extra = bool(flat.flags & Flag.EXTRA)
    shown = flat.flags & Flag.SHOWN
    if flat.flags & Flag.VISIBLE or root:
        if visible or root:
            expressions.append(_own_expression(flat, items, children))
        visible = [Node(flat.type, flat.start, flat.end, visible, flat.field, extra)]
        depth += 1
    elif flat.field is not None:
        for node in visible:
            if node.field is None and not node.extra:
                node.field = flat.field
    if shown:
        item = _Item(flat.field, extra, _digest(_head(flat, flat.type), (item.content() for item in items)))
        return _Built(visible, [item], [_bare(item)], depth)
    if flat.field is not None:
        items = [item if item.extra or item.field else item._replace(field=flat.field) for item in items]
    name = _digest(b'"%s"' % flat.own_type.encode())
    if extra or flat.field is not None:  # no longer counts as a root, so that it is left out
        return _Built(visible, items, [item.content() for item in items], depth)
    return _Built(visible, items, [name, *(content for child in children for content in child.bare)], depth)


def _own_expression(flat: FlatNode, items: Iterable[_Item], children: Iterable[_Built]) -> bytes:
    if flat.flags & Flag.PLAIN:
        return _digest(_head(flat, flat.own_type), (item.content() for item in items))
    # Seen as a root, a node that has its visible name from its parent prints a hidden one, and so do all hidden ones
    # and tokens below it: the published library does not tell them from roots.
    return _digest(b'"%s"' % flat.own_type.encode(), (content for child in children for content in child.bare))


def _bare(item: _Item) -> bytes:
    return item.content() if item.extra or item.field else item.digest


def _head(flat: FlatNode, name: str) -> bytes:
    if flat.flags & Flag.UNEXPECTED:
        return b"UNEXPECTED %d" % flat.character
    if flat.flags & Flag.MISSING:
        return b"MISSING " + (name if flat.flags & Flag.NAMED else f'"{name}"').encode()
    return name.encode()


def _digest(head: bytes, items: Iterable[bytes] = ()) -> bytes:
    """16 bytes, so that two expressions never share them."""
    return blake2b(b"(".join((head, *items)), digest_size=16).digest()


class CurrentGrammar:
    """The grammar of PyPI's `tree-sitter-python`, which stands in for the published one."""

    label: str | None = STAND_IN_LABEL

    def __init__(self) -> None:
        import tree_sitter
        import tree_sitter_python

        self._parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_python.language()))

    def parse(self, text: str) -> Tree:
        """See `Grammar.parse`."""
        cursor = self._parser.parse(text.encode("utf-8", "surrogatepass")).walk()
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
