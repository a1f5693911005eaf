"""Where the values of Python's names come from: the data flow of CodeBLEU, as the challenge of 2021 published it.

An edge says that one place of a name comes from, or is computed from, other names. The published code recurses, copies
all states at each node and searches lists; this has a stack of its own, one set of states with a journal, and equal
lists only once, for the same edges.

Quirks, all published: columns are bytes while the text is cut by characters, so that behind a Cyrillic letter of a
line names are shifted. Loops are walked twice and their edges merged, whose names the published code then lists in the
order of a set, another in each process; here it is the order of their first appearance. Where the walk fails, as at an
assignment without a left side, the text has no data flow.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import ClassVar, NamedTuple

from evaluator.metrics.syntax_trees import Node, Tree

#: Deeper trees have no data flow, as the published code ends at Python's limit of 1000 calls, four of them its own.
MAX_DEPTH = 996
#: Steps of a walk: so many, and so many for each token. A text that takes more has no data flow (ours): walking loops
#: twice doubles the steps at each level, so that thirty in each other would take days.
MAX_STEPS, MAX_STEPS_PER_TOKEN = 100_000, 200

COMES_FROM, COMPUTED_FROM = "comesFrom", "computedFrom"
_ALTERNATIVES = ("elif_clause", "else_clause")

Names = tuple[str, ...]
Places = tuple[int, ...]


class Edge(NamedTuple):
    """The name at a place, which is the number of its token, and the names that it has its value from."""

    name: str
    place: int
    relation: str
    sources: Names


def matches(reference: Sequence[Edge], prediction: Sequence[Edge]) -> tuple[int, int]:
    """How many of the reference's edges the prediction has too, each of its own once, and how many there are.

    Names count by the order of their first appearance.
    """
    numbers: dict[tuple[int, ...], int] = {}
    true, predicted = Counter(_normalised(reference, numbers)), Counter(_normalised(prediction, numbers))
    return (true & predicted).total(), true.total()


def edges(tree: Tree, text: str) -> list[Edge]:
    """The edges of a text, one a place, in the order of the places; without those of places that no other one has to
    do with.
    """
    if tree.depth > MAX_DEPTH:
        return []
    try:
        walk = _Walk(_Tokens(tree.root, text))
        walk.run(tree.root)
        return walk.merged()
    except _NoFlow:
        return []


def _normalised(edges: Iterable[Edge], numbers: dict[tuple[int, ...], int]) -> Iterator[tuple[int, str, int]]:
    """Edges with names as numbers, and with the number that lists of sources have in `numbers`."""
    names: dict[str, int] = {}
    known: dict[int, int] = {}  # by the identity of a list, as many edges share one
    for edge in edges:
        if id(edge.sources) not in known:
            sources = tuple(names.setdefault(name, len(names)) for name in edge.sources)
            known[id(edge.sources)] = numbers.setdefault(sources, len(numbers))
        yield names.setdefault(edge.name, len(names)), edge.relation, known[id(edge.sources)]


class _NoFlow(Exception):
    """The published code fails here, or would take too long."""


class _Tokens:
    """The tokens of a tree: leaves and whole strings, without comments.

    Tokens of one place, which are the empty ones that the parser put in, count as the last of them.
    """

    def __init__(self, root: Node, text: str) -> None:
        lines = text.split("\n")
        leaves: list[Node] = []
        self._spans: dict[Node, tuple[int, int]] = {}
        waiting: list[tuple[Node, int | None]] = [(root, None)]
        while waiting:
            node, start = waiting.pop()
            if start is None and node.children and not is_token(node):
                waiting.append((node, len(leaves)))
                waiting.extend((child, None) for child in reversed(node.children))
                continue
            if is_token(node):
                start = len(leaves)
                leaves.append(node)
            self._spans[node] = (len(leaves) if start is None else start, len(leaves))
        last = {(leaf.start, leaf.end): place for place, leaf in enumerate(leaves)}
        self._names = [_cut(lines, leaf) for leaf in leaves]
        self._places = [last[leaf.start, leaf.end] for leaf in leaves]
        self._is_name = [leaf.type != name for leaf, name in zip(leaves, self._names, strict=True)]

    def of(self, node: Node) -> range:
        """The numbers of a node's tokens."""
        return range(*self._spans[node])

    def names_of(self, node: Node) -> tuple[Names, Places]:
        """The tokens of a node that are not the grammar's own words and signs, and their places. Literals are names,
        too.
        """
        numbers = [number for number in self.of(node) if self._is_name[number]]
        return tuple(self._names[number] for number in numbers), tuple(self._places[number] for number in numbers)

    def __len__(self) -> int:
        return len(self._names)


def is_token(node: Node) -> bool:
    """Whether the data flow takes a node as a whole."""
    return (not node.children or node.type == "string") and node.type != "comment"


def _cut(lines: Sequence[str], leaf: Node) -> str:
    """The text between two points, whose columns, bytes in truth, are taken as characters."""
    (first, start), (last, end) = leaf.start, leaf.end
    if first == last:
        return lines[first][start:end]
    return "".join((lines[first][start:], *lines[first + 1 : last], lines[last][:end]))


class _Walk:
    """A walk over a tree that collects edges."""

    def __init__(self, tokens: _Tokens) -> None:
        self._tokens = tokens
        self._steps = MAX_STEPS + MAX_STEPS_PER_TOKEN * len(tokens)
        self._edges: list[Edge] = []
        self._linked: set[int] = set()  # places that have an edge from another one, or to it
        self._states: dict[str, Places] = {}  # where a name may have its value from
        self._journal: list[tuple[str, Places | None]] = []  # states before each change, inside of `if`
        self._branchings = 0
        self._found: dict[Node, tuple[Names, Places]] = {}
        self._unions: dict[tuple[int, ...], tuple[list[Names], Names]] = {}

    def run(self, root: Node) -> None:
        """Walk all of the tree. Raises `_NoFlow`."""
        stack = [iter((root,))]
        while stack:
            node = next(stack[-1], None)
            if node is None:
                stack.pop()
            elif is_token(node):
                self._token(node)
            else:
                self._spend(1)
                stack.append(self._visits.get(node.type, _Walk._others)(self, node))

    def merged(self) -> list[Edge]:
        """What `edges` returns. The relation is that of a place's last edge."""
        at_place: dict[int, list[Edge]] = defaultdict(list)
        for edge in self._edges:
            if edge.place in self._linked:
                at_place[edge.place].append(edge)
        return [self._union(at_place[place]) for place in sorted(at_place)]

    def _spend(self, steps: int) -> None:
        self._steps -= steps
        if self._steps < 0:
            raise _NoFlow

    def _others(self, node: Node) -> Iterator[Node]:
        """All children, the clauses of a comprehension first."""
        yield from (child for child in node.children if child.type == "for_in_clause")
        yield from (child for child in node.children if child.type != "for_in_clause")

    def _token(self, node: Node) -> None:
        self._spend(1)
        names, places = self._names_of(node)
        for name, place in zip(names, places, strict=True):  # none or one
            if name in self._states:
                self._add([(name, place)], COMES_FROM, (name,), self._states[name])
                continue
            if node.type == "identifier":
                self._set(name, (place,))
            self._add([(name, place)], COMES_FROM, (), ())

    def _default_parameter(self, node: Node) -> Iterator[Node]:
        value = node.child("value")
        if value is not None:
            yield value
        targets = list(zip(*self._names_of(_required(node, "name")), strict=True))
        if value is None:
            self._add(targets, COMES_FROM, (), ())
        else:
            for source, place in zip(*self._names_of(value), strict=True):
                self._add(targets, COMES_FROM, (source,), (place,))
        for name, place in targets:
            self._set(name, (place,))

    def _assignment(self, node: Node) -> Iterator[Node]:
        if node.child("right") is not None:  # else a declaration
            yield from self._assign(*_sides(node))

    def _for_in_clause(self, node: Node) -> Iterator[Node]:
        yield from self._assign([_required(node, "left")], [node.children[-1]])

    def _for(self, node: Node) -> Iterator[Node]:
        start = len(self._edges)
        for _ in range(2):
            yield from self._assign(*_sides(node))
            if node.children[-1].type == "block":  # a loop with an `else` is not walked
                yield node.children[-1]
        self._merge_from(start)

    def _while(self, node: Node) -> Iterator[Node]:
        start = len(self._edges)
        for _ in range(2):
            yield from node.children
        self._merge_from(start)

    def _if(self, node: Node) -> Iterator[Node]:
        """Each `elif` and `else` begins with the states before the `if`; afterwards a name may come from any branch."""
        outer, found, changes = self._edges, dict[Node, list[Edge]](), list[dict[str, Places]]()
        alternatives = [child for child in node.children if child.type in _ALTERNATIVES]
        first = [child for child in node.children if child.type not in _ALTERNATIVES]
        start = len(self._journal)
        self._branchings += 1
        for branch in (first, *([alternative] for alternative in alternatives)):
            for child in branch:
                self._edges = found[child] = []
                yield child
            changes.append(self._undo(start))
        self._branchings -= 1
        self._edges = outer
        for child in node.children:
            outer += found[child]
            self._spend(len(found[child]))
        ways = len(changes) + (not any("else" in child.type for child in node.children))
        values: dict[str, list[Places]] = defaultdict(list)
        for name, places in chain.from_iterable(change.items() for change in changes):
            values[name].append(places)
        for name, ways_of_name in values.items():
            if len(ways_of_name) < ways:
                ways_of_name.append(self._states.get(name, ()))
            self._spend(sum(map(len, ways_of_name)))
            self._set(name, tuple(sorted(set().union(*ways_of_name))))

    def _assign(self, targets: Sequence[Node], values: Sequence[Node]) -> Iterator[Node]:
        """Walks the values; then each target's names are computed from all names of its value."""
        yield from values
        for target, value in zip(targets, values, strict=True):
            names = list(zip(*self._names_of(target), strict=True))
            self._add(names, COMPUTED_FROM, *self._names_of(value))
            for name, place in names:
                self._set(name, (place,))

    def _add(self, targets: Sequence[tuple[str, int]], relation: str, sources: Names, places: Places) -> None:
        self._spend(len(targets) + len(places))
        self._edges += (Edge(name, place, relation, sources) for name, place in targets)
        if targets and places:
            self._linked.update(places, (place for _, place in targets))

    def _set(self, name: str, places: Places) -> None:
        if self._branchings:
            self._journal.append((name, self._states.get(name)))
        self._states[name] = places

    def _undo(self, start: int) -> dict[str, Places]:
        """Take back the changes of states since the journal had `start` entries, and return them."""
        changes = {name: self._states[name] for name, _ in self._journal[start:]}
        for name, before in reversed(self._journal[start:]):
            if before is None:
                del self._states[name]
            else:
                self._states[name] = before
        del self._journal[start:]
        return changes

    def _merge_from(self, start: int) -> None:
        """One edge for all of the same name, place and relation that a loop has found."""
        found: dict[tuple[str, int, str], list[Edge]] = defaultdict(list)
        self._spend(len(self._edges) - start)
        for edge in self._edges[start:]:
            found[edge.name, edge.place, edge.relation].append(edge)
        self._edges[start:] = map(self._union, found.values())

    def _union(self, edges: Sequence[Edge]) -> Edge:
        """One edge for several of one place, with the sources of all, each once, and the last one's relation."""
        if len(edges) == 1:
            return edges[0]
        # Edges share their lists of sources, which may be long: those of a, b, c, ... = x, y, z, ...
        lists = list({id(edge.sources): edge.sources for edge in edges}.values())
        key = tuple(map(id, lists))
        if key not in self._unions:
            self._spend(sum(map(len, lists)))
            self._unions[key] = lists, tuple(dict.fromkeys(chain.from_iterable(lists)))  # the ids stay taken
        return edges[-1]._replace(sources=self._unions[key][1])

    def _names_of(self, node: Node) -> tuple[Names, Places]:
        """The names below a node and their places, the same object each time."""
        if node not in self._found:
            self._spend(len(self._tokens.of(node)))
            self._found[node] = self._tokens.names_of(node)
        return self._found[node]

    _visits: ClassVar[dict[str, Callable[["_Walk", Node], Iterator[Node]]]] = {
        "default_parameter": _default_parameter,
        "assignment": _assignment,
        "augmented_assignment": _assignment,
        "for_in_clause": _for_in_clause,
        "if_statement": _if,
        "for_statement": _for,
        "while_statement": _while,
    }


def _required(node: Node, field: str) -> Node:
    child = node.child(field)
    if child is None:
        raise _NoFlow
    return child


def _sides(node: Node) -> tuple[list[Node], list[Node]]:
    """Targets and values of an assignment one by one, where there are as many of both, else as a whole."""
    left, right = _required(node, "left"), _required(node, "right")
    targets = [child for child in left.children if child.type != ","]
    values = [child for child in right.children if child.type != ","]
    if len(targets) != len(values) or not targets:
        return [left], [right]
    return targets, values
