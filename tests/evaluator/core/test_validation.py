"""Models of configuration files: strict types, and every fault with its place, value and what is allowed."""

import math
from typing import Annotated

import pytest

from evaluator.core.validation import Flag, StrictModel, allowed, number, one_of, parse


class Settings(StrictModel):
    name: Annotated[str, allowed("a text")]
    share: Annotated[float, number(0, 1)] = 0.5
    count: Annotated[int, number(1)] = 1
    kind: Annotated[str, one_of("docker", "local")] = "local"
    keep: Flag = False
    by_task: dict[str, Annotated[float, number(0, 1)]] = {}
    plain: int = 0


def test_what_is_right_is_read() -> None:
    read, faults = parse(Settings, {"name": "a", "share": 1, "count": 3, "keep": True, "by_task": {"5": 0}})
    assert faults == []
    assert read == Settings(name="a", share=1.0, count=3, keep=True, by_task={"5": 0.0})


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"share": "0.5"}, "share must be a number in 0..1, not '0.5'"),
        ({"share": True}, "share must be a number in 0..1, not True"),
        ({"share": math.nan}, "share must be a number in 0..1, not nan"),
        ({"share": 10**400}, "share must be a number in 0..1, not 1000000"),
        ({"share": None}, "share must be a number in 0..1, not None"),
        ({"count": 1.0}, "count must be a number >= 1, not 1.0"),
        ({"kind": ["local"]}, "kind must be one of 'docker', 'local', not ['local']"),
        ({"keep": 1}, "keep must be true or false, not 1"),
        ({"by_task": {"5": 2}}, "by_task 5 must be a number in 0..1, not 2"),
        ({"plain": "3"}, "plain Input should be a valid integer, not '3'"),
        (
            {"naem": 1},
            "unknown key 'naem'; allowed are name, share, count, kind, keep, by_task, plain; is 'name' meant?",
        ),
    ],
)
def test_a_fault_names_place_value_and_what_is_allowed(values: dict[str, object], text: str) -> None:
    read, (fault,) = parse(Settings, {"name": "a"} | values)
    assert read is None and str(fault).startswith(text)


def test_all_faults_at_once() -> None:
    _, faults = parse(Settings, {"share": 2, "keep": "yes", "x": 1})
    assert [(fault.place, fault.kind) for fault in faults] == [
        (("name",), "missing"),
        (("share",), "wrong"),
        (("keep",), "wrong"),
        ((), "extra_forbidden"),
    ]
