"""What people see of the arguments of a call."""

import functools
from dataclasses import dataclass
from typing import NoReturn
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotmtc.executor.texts import MOST, arguments, bounded, name_of


@dataclass
class Point:
    x: int


class Nasty:
    def __repr__(self) -> NoReturn:
        raise RuntimeError("no")


class Table:
    def __len__(self) -> int:
        return 3_000_000

    def __repr__(self) -> NoReturn:
        raise AssertionError("what may be large is not asked for all of it")


@pytest.mark.parametrize(
    ("args", "kwargs", "text"),
    [
        ((3.0,), {}, "3.0"),
        ((3, "a"), {"seed": None}, "3, 'a', seed=None"),
        ((), {}, ""),
        (([1, 2, 3, 4, 5],), {}, "[1, 2, 3, ...]"),
        ((Point(3),), {}, "Point(x=3)"),
        ((Table(),), {}, "<Table of 3000000>"),
        ((b"x" * 10_000,), {}, "<10000 bytes>"),
        (("\x1b[31mred\n",), {}, r"'\x1b[31mred\n'"),
        ((len, Point), {}, "len, Point"),
    ],
)
def test_arguments(args: tuple[object, ...], kwargs: dict[str, object], text: str) -> None:
    assert arguments(args, kwargs) == text


def test_objects_whose_repr_fails_are_shown_all_the_same() -> None:
    assert "Nasty" in arguments((Nasty(), [Nasty()]), {})


@given(st.lists(st.one_of(st.text(), st.integers(), st.binary(), st.floats(), st.lists(st.text()))))
def test_text_is_bounded_and_printable(args: list[object]) -> None:
    text = arguments(args, {})
    assert len(text) <= MOST
    assert text.isprintable()
    text.encode()


def test_what_a_terminal_would_obey_is_escaped() -> None:
    class Loud:
        def __repr__(self) -> str:
            return "\x1b[2Jpwn\u202e\ud800"

    assert arguments((Loud(),), {}) == r"\x1b[2Jpwn\u202e\ud800"


def test_long_texts_are_cut() -> None:
    assert bounded("x" * 100) == "x" * (MOST - 3) + "..."
    assert len(arguments([10**9] * 50, {})) == MOST
    assert len(arguments([["\U0001003e" * 9, "\x1f" * 9, "0" * 30]], {})) == MOST


class Model:
    def fit(self, x: int) -> int:
        return x

    def __call__(self) -> None:
        pass


class Nameless:
    @property
    def __name__(self) -> str:
        raise RuntimeError("none")

    def __call__(self) -> None:
        pass


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (len, "len"),
        (Model.fit, "Model.fit"),
        (Model().fit, "Model.fit"),
        (functools.partial(functools.partial(Model().fit, 1)), "Model.fit"),
        (Model(), "Model"),
        (Model, "Model"),
        (lambda: 1, "<lambda>"),
    ],
)
def test_names_of_functions(function: object, name: str) -> None:
    assert name_of(function) == name


def test_names_of_odd_functions() -> None:
    assert name_of(Nameless()) == "Nameless"
    assert name_of(mock.MagicMock()) == "MagicMock"  # which has whatever one asks it for


def test_names_of_arguments_are_printable() -> None:
    assert arguments((), {"a\nb": 1, "\ud800": 2}) == "a\\nb=1, \\ud800=2"
