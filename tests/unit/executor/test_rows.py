"""Calls for rows: their arguments, and how their ends are taken. The pool is a few lines here."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pilotmtc.errors import UsageError
from pilotmtc.executor.future import PilotFuture
from pilotmtc.executor.named import Parameters
from pilotmtc.executor.rows import RowCall, RowCalls, calls_of
from pilotmtc.model import TaskId
from pilotmtc.parameters import file, grid, values
from tests.support import wait_until


class Pool:
    """Makes futures that a test ends."""

    def __init__(self) -> None:
        self.futures: list[PilotFuture[Any]] = []

    def submit(self, *args: Any, **kwargs: Any) -> PilotFuture[Any]:
        future: PilotFuture[Any] = PilotFuture(self, "f", f"{args}{kwargs}")
        self.futures.append(future)
        return future

    def forget(self, future: PilotFuture[Any]) -> None:
        future.begin()

    def end(self, number: int) -> None:
        self.futures[number].begin()
        self.futures[number].set_result(number)


def rows(count: int) -> Iterator[RowCall]:
    return (RowCall({"x": number}, (), {"x": number}) for number in range(count))


def taken(calls: RowCalls) -> list[Any]:
    found = []
    while (ended := calls.take(0.01)) is not None:
        found.append(ended[1].result())
    return found


def test_arguments_of_rows(tmp_path: Path) -> None:
    def function(first: object, mass: object = None, name: str = "") -> None: ...

    (tmp_path / "p.csv").write_text("mass,name\n1.5,007\n2,x y\n")
    source = file(tmp_path / "p.csv")
    assert list(calls_of(source, Parameters(lambda **_: None, "f", source.fields))) == [
        RowCall({"mass": 1.5, "name": 7}, (), {"mass": 1.5, "name": 7}),
        RowCall({"mass": 2, "name": "x y"}, (), {"mass": 2, "name": "x y"}),
    ]
    both = values(["a"])
    assert next(calls_of(both, Parameters(function, "f", both.fields))) == RowCall({"1": "a"}, ("a",), {})
    fields = ("1", "mass", "name")
    read = calls_of(_Rows(fields, [("1", "2", "3")]), Parameters(function, "f", fields))
    assert next(read) == RowCall({"1": 1, "mass": 2, "name": "3"}, (1,), {"mass": 2, "name": "3"})
    axis = grid(["mass=1:2:0.5"])
    as_text = calls_of(axis, Parameters(lambda mass: mass, "f", axis.fields), as_text=True)
    assert [call.kwargs["mass"] for call in as_text] == ["1", "1.5", "2"]


def _Rows(fields: tuple[str, ...], found: list[tuple[str, ...]]) -> Any:  # noqa: N802 -- a class but for its name
    from pilotmtc.parameters import Source

    return Source(fields, lambda: iter(found))


def test_ends_are_taken_as_they_come() -> None:
    pool = Pool()
    calls = RowCalls(pool.submit, rows(3))
    calls.start()
    wait_until(lambda: len(pool.futures) == 3)
    assert calls.take(0.0) is None
    pool.end(2)
    pool.end(0)
    assert taken(calls) == [2, 0]
    assert not calls.finished
    pool.end(1)
    assert taken(calls) == [1]
    wait_until(lambda: calls.finished)
    assert (calls.sent, calls.all_sent) == (3, True)


def test_ends_are_taken_in_the_order_of_the_rows() -> None:
    pool = Pool()
    calls = RowCalls(pool.submit, rows(3), keep_order=True)
    calls.start()
    wait_until(lambda: len(pool.futures) == 3)
    pool.end(2)
    assert taken(calls) == []
    pool.end(0)
    assert taken(calls) == [0]
    pool.end(1)
    assert taken(calls) == [1, 2]
    wait_until(lambda: calls.finished)


def test_no_more_than_some_are_ahead() -> None:
    pool = Pool()
    calls = RowCalls(pool.submit, rows(100), ahead=4)
    calls.start()
    for number in range(96):
        wait_until(lambda at=number: len(pool.futures) >= at + 4)  # type: ignore[misc]
        time.sleep(0)
        assert len(pool.futures) == number + 4
        pool.end(number)
        assert taken(calls) == [number]
    for number in range(96, 100):
        wait_until(lambda at=number: len(pool.futures) > at)  # type: ignore[misc]
        pool.end(number)
    assert taken(calls) == [96, 97, 98, 99]
    wait_until(lambda: calls.finished)


@pytest.mark.parametrize("keep_order", [False, True])
def test_drained(keep_order: bool) -> None:
    pool = Pool()
    go_on = threading.Event()

    def slow() -> Iterator[RowCall]:
        yield from rows(3)
        go_on.wait(60)
        yield from rows(3)

    calls = RowCalls(pool.submit, slow(), keep_order=keep_order)
    calls.start()
    wait_until(lambda: len(pool.futures) == 3)
    pool.futures[1].task_id = TaskId(1)
    calls.drain()
    assert [future.cancelled() for future in pool.futures] == [True, False, True]
    assert not calls.finished, "the store has one"
    pool.end(1)
    found = [calls.take(1.0) for _ in range(3)]
    assert {future.cancelled() for _, future in filter(None, found)} == {True, False}
    assert calls.finished, "though rows may still come"
    go_on.set()
    wait_until(lambda: calls.all_sent)
    assert len(pool.futures) == 3


def test_errors_of_rows_are_raised_where_ends_are_taken() -> None:
    pool = Pool()

    def bad() -> Iterator[RowCall]:
        yield from rows(1)
        raise UsageError("row 2 is bad")

    calls = RowCalls(pool.submit, bad())
    calls.start()
    wait_until(lambda: calls.all_sent)
    with pytest.raises(UsageError, match="row 2 is bad"):
        calls.take(1.0)


def test_errors_of_submitting_are_raised_there_too() -> None:
    def closed(**_: object) -> PilotFuture[Any]:
        raise RuntimeError("cannot schedule new futures after shutdown")

    calls = RowCalls(closed, rows(3))
    calls.start()
    wait_until(lambda: calls.all_sent)
    assert calls.sent == 0
    with pytest.raises(RuntimeError, match="shutdown"):
        calls.take(1.0)
