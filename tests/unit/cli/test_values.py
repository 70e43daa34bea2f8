"""Which Python values JSON can say."""

import enum
import json
import math
from collections import OrderedDict, namedtuple
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotmtc.cli.output.values import as_json

Pair = namedtuple("Pair", "a b")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


class Colour(enum.IntEnum):
    RED = 1


@given(JSON)
def test_what_json_can_say_comes_back(value: Any) -> None:
    said = as_json(value)
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # half of a character
        assert said is None
        return
    assert said is not None
    assert json.loads(said) == value
    assert b"\n" not in said


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ((1, (2.5, None)), "[1,[2.5,null]]"),
        (Pair(1, "ü"), '[1,"ü"]'),
        (OrderedDict(b=1, a=[True]), '{"b":1,"a":[true]}'),
        (Colour.RED, "1"),
        (np.float64(0.1), "0.1"),
        (np.float32(0.5), "0.5"),
        ([np.int64(3), np.bool_(True), np.str_("x")], '[3,true,"x"]'),
        (np.array(3), "3"),
        (10**30, str(10**30)),
    ],
)
def test_what_json_can_say(value: object, said: str) -> None:
    assert as_json(value) == said.encode()


def circular() -> list[object]:
    found: list[object] = []
    found.append(found)
    return found


def deep() -> object:
    found: object = 0
    for _ in range(100_000):
        found = [found]
    return found


@pytest.mark.parametrize(
    "value",
    [
        math.nan, [math.inf], {"x": -math.inf}, {1: 2}, {"a": [{None: 1}]}, {("a",): 1}, b"bytes", {1, 2}, 1j, object(),
        np.zeros(3), np.complex128(1j), np.float64("nan"), "\ud800", circular(), deep(), 10**5000, ValueError("x"),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_what_json_cannot_say(value: object) -> None:
    assert as_json(value) is None
