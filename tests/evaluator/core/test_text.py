"""Tables and amounts as text."""

import pytest

from evaluator.core.text import MASS, aligned, duration, energy, mass, unit


def test_columns_are_as_wide_as_they_need_and_rules_as_long_as_the_longest_line():
    rows = [("task", "n", "why"), ("Ёж", "10", "")]
    assert aligned(rows, left=(0, 2)) == ["task   n  why", "Ёж    10"]
    assert aligned(rows, left=(), rules=(1, 2)) == ["task   n  why", "-" * 13, "  Ёж  10", "-" * 13]
    with pytest.raises(ValueError):
        aligned([("a",), ("a", "b")], left=())


def test_amounts_have_the_unit_in_which_they_are_neither_long_nor_tiny():
    assert [mass(kg) for kg in (12.5, 0.0347451, 2e-6, 3e-9, 0)] == ["12.5 kg", "34.75 g", "2 mg", "3 µg", "0 µg"]
    assert [energy(kwh) for kwh in (1, 0.1, 1e-4)] == ["1 kWh", "100 Wh", "360 J"]
    assert [duration(seconds) for seconds in (5, 59.94, 60, 3661)] == ["5.0 s", "59.9 s", "0:01:00", "1:01:01"]
    assert unit(0.5, MASS) == ("g", 1e3)
