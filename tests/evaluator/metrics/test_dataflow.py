"""The data flow of programs, edge by edge as worked out by hand from the published rules."""

import pytest

from evaluator.metrics import dataflow
from evaluator.metrics.dataflow import COMES_FROM, COMPUTED_FROM, edges, matches
from evaluator.metrics.syntax_trees import Grammar


def flow(grammar: Grammar, text: str) -> list[tuple[str, str, list[str]]]:
    """Edges without places."""
    return [(edge.name, edge.relation, list(edge.sources)) for edge in edges(grammar.parse(text), text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x", []),  # nothing comes from anywhere
        ("x = 1", [("x", COMPUTED_FROM, ["1"]), ("1", COMES_FROM, [])]),  # a literal is a name, too
        ("x = y", [("x", COMPUTED_FROM, ["y"]), ("y", COMES_FROM, [])]),
        (
            "a, b = c, d",  # one by one
            [("a", COMPUTED_FROM, ["c"]), ("b", COMPUTED_FROM, ["d"]), ("c", COMES_FROM, []), ("d", COMES_FROM, [])],
        ),
        (
            "a, b = c",  # as a whole
            [("a", COMPUTED_FROM, ["c"]), ("b", COMPUTED_FROM, ["c"]), ("c", COMES_FROM, [])],
        ),
        ("x\nx", [("x", COMES_FROM, []), ("x", COMES_FROM, ["x"])]),
        ("x += y", [("x", COMPUTED_FROM, ["y"]), ("y", COMES_FROM, [])]),
        ("x: int", []),  # a declaration
        (
            "def f(a=b):\n    a",
            [("a", COMES_FROM, ["b"]), ("b", COMES_FROM, []), ("a", COMES_FROM, ["a"])],
        ),
        (
            "[x for x in y]",  # the clause comes first
            [("x", COMES_FROM, ["x"]), ("x", COMPUTED_FROM, ["y"]), ("y", COMES_FROM, [])],
        ),
        ("# x = y", []),
        ('x = "a" "b"', [("x", COMPUTED_FROM, ['"a"', '"b"']), ('"a"', COMES_FROM, []), ('"b"', COMES_FROM, [])]),
    ],
)
def test_edges(published, text, expected):
    assert flow(published, text) == expected


def test_after_an_if_a_name_comes_from_every_branch(published):
    text = "x = 1\nif a:\n    x = 2\nelif b:\n    y = x\nelse:\n    x = 3\nx"
    found = edges(published.parse(text), text)
    places = {edge.place for edge in found if edge.name == "x" and edge.relation == COMPUTED_FROM}
    assert len(places) == 3
    assert ("y", COMPUTED_FROM, ["x"]) in flow(published, text)
    assert flow(published, text)[-1] == ("x", COMES_FROM, ["x"])


def test_in_a_loop_a_name_comes_from_the_round_before(published):
    text = "for i in n:\n    x = y\n    y = x"
    assert flow(published, text) == [
        ("i", COMPUTED_FROM, ["n"]),
        ("n", COMES_FROM, ["n"]),
        ("x", COMPUTED_FROM, ["y"]),
        ("y", COMES_FROM, ["y"]),
        ("y", COMPUTED_FROM, ["x"]),
        ("x", COMES_FROM, ["x"]),
    ]
    assert flow(published, f"{text}\nelse:\n    pass")[:2] == flow(published, text)[:2]
    assert len(flow(published, f"{text}\nelse:\n    pass")) == 2  # with an `else` the body is not walked


def test_columns_are_bytes_and_the_text_is_cut_by_characters(published):
    assert flow(published, 'x = "e" + abc')[0] == ("x", COMPUTED_FROM, ['"e"', "abc"])
    assert flow(published, 'x = "ё" + abc')[0] == ("x", COMPUTED_FROM, ['"ё" ', " ", "bc"])


def test_names_count_by_their_order(published):
    def found(reference: str, prediction: str) -> tuple[int, int]:
        return matches(*(edges(published.parse(text), text) for text in (reference, prediction)))

    assert found("x = y", "a = b") == (2, 2)
    assert found("x = y", "a = a") == (1, 2)
    assert found("x = y\nx = y", "a = b") == (2, 4)  # each edge of the prediction once
    assert found("x = y", "") == (0, 2)
    assert found("", "x = y") == (0, 0)


def test_a_tree_deeper_than_pythons_calls_has_no_data_flow(published):
    for depth, found in ((900, 2), (1100, 0)):
        text = f"x = {'(' * depth}y{')' * depth}"
        assert len(edges(published.parse(text), text)) == found


def test_loops_in_each_other_end(published):
    def nested(depth: int) -> str:
        return "".join(f"{' ' * i}for v{i} in x:\n" for i in range(depth)) + " " * depth + "y = z"

    assert flow(published, nested(10))
    assert flow(published, nested(60)) == []


def test_a_walk_that_fails_has_no_edges(published, monkeypatch):
    text = "x = y"
    tree = published.parse(text)
    (assignment,) = tree.root.children[0].children
    assignment.children = assignment.children[1:]  # as if the parser had lost the left side
    assert edges(tree, text) == []
    assert dataflow.MAX_DEPTH < 1000
