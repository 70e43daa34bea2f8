"""What functions keep in their workers."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pilotmtc import worker
from pilotmtc.worker import cached, state


@pytest.fixture(autouse=True)
def nothing_is_kept() -> Iterator[None]:
    yield
    worker._found.clear()
    vars(state).clear()


def test_state_takes_any_attribute() -> None:
    state.model = [1]
    assert worker.state.model == [1]
    assert repr(state) == "<state of this worker: model>"
    del state.model
    with pytest.raises(AttributeError):
        print(state.model)


def test_loader_is_called_once_for_the_same_arguments() -> None:
    calls: list[Any] = []

    def load(*args: Any, **kwargs: Any) -> int:
        calls.append((args, kwargs))
        return len(calls)

    assert [cached(load, 1), cached(load, 2), cached(load, 1), cached(load, 1, x=2), cached(load, 1, x=2)] == [
        1, 2, 1, 3, 3,
    ]  # fmt: skip


def test_copies_of_a_loader_are_the_same_and_others_are_not() -> None:
    def make(scale: int) -> Callable[[], list[int]]:
        return lambda: [scale]

    def with_default(value: int) -> Callable[[], list[int]]:
        def load(x: int = value) -> list[int]:
            return [x]

        return load

    assert cached(make(1)) is cached(make(1))
    assert cached(make(2)) == [2]
    assert cached(lambda: [3]) == [3]
    assert cached(with_default(4)) == [4]
    assert cached(with_default(5)) == [5]


def test_loaders_that_are_no_functions() -> None:
    assert cached(int, "7") == 7
    assert cached(functools.partial(int, base=2), "11") == 3
    assert cached([8].pop) == 8


def test_failure_is_not_kept() -> None:
    outcomes = [ValueError("not yet"), 5]

    def load() -> object:
        found = outcomes.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    with pytest.raises(ValueError, match="not yet"):
        cached(load)
    assert cached(load) == 5


def test_arguments_that_cannot_be_told_apart_are_refused() -> None:
    with pytest.raises(TypeError, match=r"arguments of cached\(\) must be hashable.*list"):
        cached(len, [1])

    def load() -> None:
        raise TypeError("the loader's own")

    with pytest.raises(TypeError, match="the loader's own"):
        cached(load)
