"""`PilotExecutor` keeps the contract of `concurrent.futures`: the ideas of CPython's own tests, on a real pilot."""

import asyncio
import concurrent.futures
import functools
import gc
import itertools
import operator
import os
import random
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION, as_completed, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pilotmtc import PilotExecutor
from pilotmtc.errors import TaskFailed, UsageError
from pilotmtc.executor import PilotFuture
from pilotmtc.states import TaskState
from tests.pools import Place, a_place, enter
from tests.support import wait_until

LIMIT_S = 120.0


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with a_place(tmp_path_factory.mktemp("pools")) as place:
        yield place


@pytest.fixture(scope="module")
def _pool(place: Place) -> Iterator[PilotExecutor]:
    with place.pool(idle="5m") as pool:
        pool.submit(pow, 2, 3).result(LIMIT_S)  # its threads are there before a test counts them
        yield pool


@pytest.fixture
def pool(_pool: PilotExecutor, place: Place, monkeypatch: pytest.MonkeyPatch) -> PilotExecutor:
    enter(place, monkeypatch)
    return _pool


def wait_for(file: Path) -> Any:
    """Wait in a worker."""
    until = time.monotonic() + LIMIT_S
    while not file.exists():
        if time.monotonic() > until:
            raise TimeoutError(str(file))
        time.sleep(0.01)
    return file


def fail(*words: object) -> Any:
    raise ValueError(*words)


@dataclass
class Point:
    x: float
    y: float = 0.0


class OddError(Exception):
    def __init__(self, first: int, second: int) -> None:  # which does not fit `args`
        super().__init__(f"{first} and {second}")
        self.first = first


# -- submit, and the state of futures ---------------------------------------------------------------------------


def test_submit(pool: PilotExecutor) -> None:
    future = pool.submit(pow, 2, 8)
    assert isinstance(future, PilotFuture)
    assert future.result(LIMIT_S) == 256
    assert future.done()
    assert not future.running()
    assert future.exception() is None
    assert pool.submit(lambda *args, **kwargs: (args, kwargs), 1, self=2, fn=3).result(LIMIT_S) == (
        (1,), {"self": 2, "fn": 3}
    )  # fmt: skip


def test_result_that_takes_too_long(pool: PilotExecutor, tmp_path: Path) -> None:
    future = pool.submit(wait_for, tmp_path / "go")
    with pytest.raises(TimeoutError):
        future.result(0.05)
    with pytest.raises(TimeoutError):
        future.exception(0.05)
    (tmp_path / "go").touch()
    assert future.result(LIMIT_S) == tmp_path / "go"


def test_running(pool: PilotExecutor, tmp_path: Path) -> None:
    future = pool.submit(wait_for, tmp_path / "go")
    wait_until(future.running)
    assert not future.cancel()
    (tmp_path / "go").touch()
    future.result(LIMIT_S)
    assert not future.running()


def test_canceled_before_it_runs(pool: PilotExecutor, tmp_path: Path, place: Place) -> None:
    blocking = [pool.submit(wait_for, tmp_path / "go") for _ in range(2)]
    for future in blocking:
        wait_until(future.running)
    queued = pool.submit(pow, 2, 3)
    wait_until(lambda: queued.task_id)
    assert queued.cancel()
    assert queued.cancelled()
    with pytest.raises(concurrent.futures.CancelledError):
        queued.result()
    with place.session() as session:
        wait_until(lambda: session.task(queued.task_id or 0).task.state is TaskState.CANCELED)  # type: ignore[union-attr]
    (tmp_path / "go").touch()
    assert [future.result(LIMIT_S) for future in blocking]


def test_callbacks(pool: PilotExecutor) -> None:
    called: list[Any] = []
    future = pool.submit(pow, 2, 3)
    future.add_done_callback(lambda done: called.append(done.result()))
    wait_until(lambda: called == [8])


def test_callback_may_submit(pool: PilotExecutor) -> None:
    more: list[PilotFuture[int]] = []
    future = pool.submit(pow, 2, 3)
    future.add_done_callback(lambda done: more.append(pool.submit(pow, done.result(), 2)))
    wait_until(lambda: more)
    assert more[0].result(LIMIT_S) == 64


def test_future_shows_its_call(pool: PilotExecutor) -> None:
    future = pool.submit(functools.partial(pow, 2), 3)
    assert future.call == "pow(3)"
    future.result(LIMIT_S)
    assert repr(future) == f"<PilotFuture pow(3) task={future.task_id} finished>"


def test_calls_are_tasks_of_the_store(pool: PilotExecutor, place: Place) -> None:
    future = pool.options(tags=["night"], priority=3, task_name="first", retries=2, memory="1G").submit(Point, 1.0, y=2)
    assert future.result(LIMIT_S) == Point(1.0, 2)
    assert future.task_id is not None
    with place.session() as session:
        task = session.task(future.task_id).task
    assert task is not None
    assert (task.name, task.tags, task.priority, task.max_retries) == ("first", ("night",), 3, 2)
    assert (task.command, task.params) == (("Point({args})",), {"args": "1.0, y=2"})


# -- map --------------------------------------------------------------------------------------------------------


def test_map(pool: PilotExecutor) -> None:
    assert list(pool.map(pow, range(10), range(10))) == list(map(pow, range(10), range(10)))
    assert list(pool.map(pow, range(10), itertools.count())) == list(map(pow, range(10), range(10)))
    assert list(pool.map(pow, [], [])) == []


@pytest.mark.parametrize("size", [1, 6, 50])
def test_map_in_chunks(pool: PilotExecutor, size: int) -> None:
    assert list(pool.map(pow, range(40), range(40), chunksize=size)) == list(map(pow, range(40), range(40)))


def test_chunk_is_one_task(pool: PilotExecutor, place: Place) -> None:
    list(pool.map(pow, range(40), range(40), chunksize=39))
    with place.session() as session:
        last = next(session.tasks(newest=True))
    assert (last.command, last.params["args"]) == (("pow({args})",), "1 calls, from 39, 39")


def test_map_that_fails(pool: PilotExecutor) -> None:
    results = pool.map(divmod, [1, 1, 1, 1], [2, 3, 0, 5])
    assert [next(results), next(results)] == [(0, 1), (0, 1)]
    with pytest.raises(ZeroDivisionError):
        next(results)
    with pytest.raises(StopIteration):
        next(results)


def test_map_that_takes_too_long(pool: PilotExecutor, tmp_path: Path) -> None:
    results = pool.map(lambda file: file and wait_for(file), [None, tmp_path / "go"], timeout=2.0)
    try:
        assert next(results) is None
        with pytest.raises(TimeoutError):
            next(results)
    finally:
        (tmp_path / "go").touch()


def test_map_takes_its_input_at_once(pool: PilotExecutor) -> None:
    taken: list[int] = []
    results = pool.map(abs, (taken.append(n) or n for n in range(5)))  # type: ignore[func-returns-value]
    assert taken == [0, 1, 2, 3, 4]
    assert list(results) == taken


@pytest.mark.parametrize("ahead", [1, 4])
def test_map_with_a_buffer_takes_what_it_needs(pool: PilotExecutor, ahead: int) -> None:
    taken: list[int] = []
    results = pool.map(abs, (taken.append(n) or n for n in itertools.count()), buffersize=ahead)  # type: ignore[func-returns-value]
    assert len(taken) == ahead
    assert next(results) == 0
    assert len(taken) == ahead + 1
    assert list(itertools.islice(results, 10)) == list(range(1, 11))
    assert len(taken) == ahead + 11


def test_buffer_in_chunks(pool: PilotExecutor) -> None:
    taken: list[int] = []
    results = pool.map(abs, (taken.append(n) or n for n in range(25)), buffersize=2, chunksize=4)  # type: ignore[func-returns-value]
    assert len(taken) == 8
    assert list(results) == list(range(25))


def test_map_that_is_left_cancels_the_rest(pool: PilotExecutor, tmp_path: Path, place: Place) -> None:
    results = pool.map(lambda file: file and wait_for(file), [None] + 8 * [tmp_path / "go"])
    assert next(results) is None
    with place.session() as session:
        wait_until(lambda: len(list(session.tasks(states=["running"]))) == 2)
        del results
        gc.collect()
        wait_until(lambda: len(list(session.tasks(states=["canceled"]))) >= 6)
    (tmp_path / "go").touch()


# -- wait, as_completed, and others who take futures --------------------------------------------------------------


def test_wait(pool: PilotExecutor, tmp_path: Path) -> None:
    quick, slow = pool.submit(pow, 2, 3), pool.submit(wait_for, tmp_path / "go")
    done, left = wait([quick, slow], LIMIT_S, FIRST_COMPLETED)
    assert (done, left) == ({quick}, {slow})
    (tmp_path / "go").touch()
    assert wait([quick, slow], LIMIT_S, ALL_COMPLETED) == ({quick, slow}, set())


def test_wait_for_an_exception(pool: PilotExecutor, tmp_path: Path) -> None:
    bad, slow = pool.submit(fail), pool.submit(wait_for, tmp_path / "go")
    done, left = wait([bad, slow], LIMIT_S, FIRST_EXCEPTION)
    assert (done, left) == ({bad}, {slow})
    (tmp_path / "go").touch()
    slow.result(LIMIT_S)


def test_as_completed(pool: PilotExecutor) -> None:
    futures = [pool.submit(operator.mul, n, 2) for n in range(20)]
    assert {future.result() for future in as_completed(futures, LIMIT_S)} == set(range(0, 40, 2))
    assert [done.result() for done in as_completed([futures[0]] * 2, LIMIT_S)] == [0]


def test_as_completed_in_time(pool: PilotExecutor, tmp_path: Path) -> None:
    quick, slow = pool.submit(pow, 2, 3), pool.submit(wait_for, tmp_path / "go")
    quick.result(LIMIT_S)
    done = as_completed([quick, slow], timeout=0.05)
    assert next(done) is quick
    with pytest.raises(TimeoutError):
        next(done)
    (tmp_path / "go").touch()


def test_asyncio(pool: PilotExecutor) -> None:
    async def run() -> tuple[int, int]:
        loop = asyncio.get_running_loop()
        first = loop.run_in_executor(pool, pow, 2, 5)
        return await first, await asyncio.wrap_future(pool.submit(pow, 2, 6))

    assert asyncio.run(run()) == (32, 64)


# -- what goes wrong ----------------------------------------------------------------------------------------------


def test_exception_shows_where_it_was_raised(pool: PilotExecutor) -> None:
    future = pool.submit(fail, "bad", 3)
    error = future.exception(LIMIT_S)
    assert isinstance(error, ValueError)
    assert error.args == ("bad", 3)
    assert "raise ValueError(*words)" in str(error.__cause__)
    assert "test_executor.py" in str(error.__cause__)
    with pytest.raises(ValueError, match="bad"):
        future.result()


def test_exception_of_a_class_of_the_users(pool: PilotExecutor) -> None:
    class Local(Exception):
        pass

    def work() -> None:
        raise Local(3)

    assert type(pool.submit(work).exception(LIMIT_S)) is Local


def test_exception_whose_class_takes_other_arguments(pool: PilotExecutor) -> None:
    def work() -> None:
        raise OddError(1, 2)

    error = pool.submit(work).exception(LIMIT_S)
    assert type(error) is OddError
    assert str(error) == "1 and 2"


def test_exception_that_cannot_be_pickled(pool: PilotExecutor) -> None:
    def work() -> None:
        error = ValueError("held")
        error.lock = threading.Lock()  # type: ignore[attr-defined]
        raise error

    error = pool.submit(work).exception(LIMIT_S)
    assert str(error) == "ValueError: held"
    assert pool.submit(pow, 2, 3).result(LIMIT_S) == 8


def test_system_exit_is_an_exception(pool: PilotExecutor) -> None:
    assert isinstance(pool.submit(sys.exit, 3).exception(LIMIT_S), SystemExit)


def test_arguments_that_cannot_be_pickled_hurt_nobody_else(pool: PilotExecutor) -> None:
    lock = threading.Lock()
    good = pool.submit(pow, 2, 3)
    bad = pool.submit(id, lock)
    late = pool.submit(pow, 2, 4)
    assert isinstance(bad.exception(LIMIT_S), TypeError)
    assert bad.task_id is None
    assert (good.result(LIMIT_S), late.result(LIMIT_S)) == (8, 16)


def test_function_that_cannot_be_pickled(pool: PilotExecutor) -> None:
    lock = threading.Lock()
    assert isinstance(pool.submit(lambda: lock).exception(LIMIT_S), TypeError)
    assert isinstance(pool.submit(3).exception(LIMIT_S), TypeError)  # type: ignore[arg-type]


def test_result_that_cannot_be_pickled_hurts_nobody_else(pool: PilotExecutor) -> None:
    futures = [pool.submit(function) for function in (int, threading.Lock, str)]
    assert "cannot pickle" in str(futures[1].exception(LIMIT_S)) or "pickled" in str(futures[1].exception(LIMIT_S))
    assert (futures[0].result(LIMIT_S), futures[2].result(LIMIT_S)) == (0, "")


class Loads:
    """Can be pickled, and cannot be loaded here."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return _load_in, (os.getpid(),)


def _load_in(pid: int) -> Loads:
    if os.getpid() != pid:
        raise RuntimeError("not in this process")
    return Loads()


def test_result_that_cannot_be_loaded(pool: PilotExecutor) -> None:
    error = pool.submit(Loads).exception(LIMIT_S)
    assert isinstance(error, TaskFailed)
    assert "cannot be loaded here: RuntimeError: not in this process" in str(error)
    assert pool.submit(pow, 2, 3).result(LIMIT_S) == 8


def test_argument_that_cannot_be_loaded(pool: PilotExecutor) -> None:
    error = pool.submit(type, Loads()).exception(LIMIT_S)
    assert isinstance(error, RuntimeError)
    assert pool.submit(pow, 2, 3).result(LIMIT_S) == 8


def test_worker_that_dies_takes_its_call_and_nothing_else(pool: PilotExecutor) -> None:
    def die(how: int) -> None:
        if how < 0:
            os.kill(os.getpid(), -how)
        os._exit(how)

    futures = [pool.submit(pow, n, 2) for n in range(20)]
    exits, leaves, crashes = pool.submit(die, 3), pool.submit(die, 0), pool.submit(die, -11)
    futures += [pool.submit(pow, n, 2) for n in range(20, 40)]
    error = exits.exception(LIMIT_S)
    assert isinstance(error, TaskFailed)
    assert "its worker ended with exit code 3" in str(error)
    assert (error.task, error.cause, error.returncode) == (exits.task_id, "EXIT", 3)
    assert "its worker ended with exit code 0" in str(leaves.exception(LIMIT_S))
    error = crashes.exception(LIMIT_S)
    assert isinstance(error, TaskFailed)
    assert "killed by SIGSEGV" in str(error)
    assert error.returncode == -11
    assert [future.result(LIMIT_S) for future in futures] == [n * n for n in range(40)]


def test_worker_that_dies_once(pool: PilotExecutor, tmp_path: Path) -> None:
    def die_first(mark: Path) -> str:
        if mark.exists():
            return "alive"
        mark.touch()
        os._exit(1)

    assert pool.options(retries=1).submit(die_first, tmp_path / "died").result(LIMIT_S) == "alive"


def test_time_limit(pool: PilotExecutor) -> None:
    error = pool.options(time_limit=0.2, grace=0).submit(time.sleep, LIMIT_S).exception(LIMIT_S)
    assert isinstance(error, TaskFailed)
    assert error.cause == "TIMEOUT"
    assert "give it a longer time_limit" in str(error)


def test_canceled_by_somebody_else(pool: PilotExecutor, place: Place, tmp_path: Path) -> None:
    future = pool.submit(wait_for, tmp_path / "never")
    wait_until(future.running)
    with place.session() as session:
        session.cancel(ids=[future.task_id or 0])
    error = future.exception(LIMIT_S)
    assert isinstance(error, TaskFailed)
    assert error.cause == "CANCELED"
    assert "canceled by somebody else" in str(error)


# -- dependencies -------------------------------------------------------------------------------------------------


def test_futures_as_arguments(pool: PilotExecutor) -> None:
    first, second = pool.submit(pow, 2, 3), pool.submit(pow, 3, 2)
    both = pool.submit(lambda values, more: (values, more), [first, second], {"sum": pool.submit(max, first, second)})
    assert both.result(LIMIT_S) == ([8, 9], {"sum": 9})


def test_long_chain(pool: PilotExecutor) -> None:
    future = pool.submit(operator.add, 0, 1)
    for _ in range(30):
        future = pool.submit(operator.add, future, 1)
    assert future.result(LIMIT_S) == 31


def test_tree_of_large_values(pool: PilotExecutor) -> None:
    leaves: list[Any] = [pool.submit(np.full, 10_000, n) for n in range(8)]
    while len(leaves) > 1:
        leaves = [pool.submit(operator.add, *pair) for pair in zip(leaves[::2], leaves[1::2], strict=True)]
    assert (leaves[0].result(LIMIT_S) == 28).all()


def test_input_that_fails(pool: PilotExecutor) -> None:
    bad = pool.submit(fail, "bad")
    needs = pool.submit(operator.add, bad, 1)
    after = pool.submit(operator.add, needs, 1)
    error = after.exception(LIMIT_S)
    assert isinstance(error, TaskFailed)
    assert error.__cause__ is needs.exception(LIMIT_S)
    assert error.__cause__.__cause__ is bad.exception(LIMIT_S)  # type: ignore[union-attr]
    late = pool.submit(operator.add, bad, 1).exception(LIMIT_S)  # when it has failed already
    assert isinstance(late, TaskFailed)
    assert late.cause == "SKIPPED"


def test_future_of_another_pool(pool: PilotExecutor, place: Place) -> None:
    with place.pool() as other:
        error = pool.submit(pow, PilotFuture(other._engine, "f", ""), 2).exception(LIMIT_S)
    assert isinstance(error, UsageError)


# -- values -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [100, 100_000, 3_000_000])
def test_values_of_all_sizes(pool: PilotExecutor, size: int) -> None:
    value = random.randbytes(size)
    assert pool.submit(bytes.__add__, value, b"x").result(LIMIT_S) == value + b"x"


def test_arrays(pool: PilotExecutor) -> None:
    array = np.arange(300_000.0)
    result = pool.submit(operator.mul, array, 2).result(LIMIT_S)
    assert (result == 2 * array).all()
    result[0] = 5  # it is the caller's own


def test_put(pool: PilotExecutor) -> None:
    array = np.arange(200_000)
    stored = pool.put(array)
    assert "200000" in repr(stored)
    totals = [pool.submit(lambda data, n: int(data["a"][n]), {"a": stored}, n) for n in range(10)]
    assert [total.result(LIMIT_S) for total in totals] == list(range(10))
    assert pool.put(array).digest == stored.digest
    assert pool.submit(operator.add, pool.put([1]), [2]).result(LIMIT_S) == [1, 2]


def test_what_was_put_is_one_object_in_a_worker(pool: PilotExecutor) -> None:
    stored = pool.put({"a": 1})
    assert pool.submit(operator.is_, stored, stored).result(LIMIT_S)


# -- many -----------------------------------------------------------------------------------------------------------


def test_many_calls(pool: PilotExecutor) -> None:
    assert list(pool.map(abs, range(3000))) == list(range(3000))


def test_many_threads(pool: PilotExecutor) -> None:
    found: dict[int, list[int]] = {}

    def call(who: int) -> None:
        found[who] = [future.result(LIMIT_S) for future in [pool.submit(operator.add, who, n) for n in range(100)]]

    threads = [threading.Thread(target=call, args=(who,)) for who in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    assert found == {who: [who + n for n in range(100)] for who in range(5)}


def test_call_that_fits_nowhere(pool: PilotExecutor) -> None:
    with pytest.raises(UsageError, match=r"a call needs 300 cores, .*: reduce cores=$"):
        pool.options(cores=300)
    with pytest.raises(UsageError, match=r"give it pilot_gpus=1$"):
        pool.options(gpus=1)


def test_objects_with_cached_properties_come_back(pool: PilotExecutor) -> None:
    class Table:
        @functools.cached_property
        def rows(self) -> list[int]:
            return [1, 2]

    found = pool.submit(Table).result(LIMIT_S)
    assert isinstance(found, Table)
    assert found.rows == [1, 2]


def test_pool_cannot_be_pickled(pool: PilotExecutor) -> None:
    for found in (pool, pool.options(priority=1)):
        error = pool.submit(id, found).exception(LIMIT_S)
        assert isinstance(error, TypeError)
        assert "a pool cannot be pickled" in str(error)


def test_workers_are_as_many_as_were_asked_for(pool: PilotExecutor) -> None:
    def work(_: int) -> int:
        time.sleep(0.02)
        return os.getpid()

    assert len(set(pool.map(work, range(20)))) == 2


def test_results_are_not_kept(pool: PilotExecutor) -> None:
    future = pool.submit(Point, 1.0)
    result = weakref.ref(future.result(LIMIT_S))
    gone = weakref.ref(future)
    del future
    gc.collect()
    wait_until(lambda: gone() is None)
    assert result() is None
