"""The books of a pool."""

import threading
from collections.abc import Iterable
from typing import Any

import pytest

from pilotmtc.errors import TaskFailed, UsageError
from pilotmtc.executor.engine.ledger import Ledger, Row, Target, Work, end_all
from pilotmtc.executor.future import PilotFuture, PoolBroken
from pilotmtc.executor.options import CallSetup
from pilotmtc.executor.pickling.pickling import PickledCall
from pilotmtc.model import Resources, TaskId, Template, Value
from pilotmtc.states import TaskState

TARGET = Target(Template(("f({args})",), fields=("args",)), CallSetup(Resources(), Template(())), ())
Future = PilotFuture[Any]


class Books:
    """A ledger, and what a pool does with it."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.next_task = 1

    def forget(self, future: Future) -> None:
        end_all(self.ledger.cancel(future))

    def call(self, *inputs: Future) -> Future:
        future: Future = PilotFuture(self, "f", "")
        future.inputs = inputs
        ended = self.ledger.add(Row(future, TARGET, PickledCall(Value(b"x", "", 1), inputs=inputs)))
        if ended is not None:
            end_all([ended])
        return future

    def take(self) -> Work:
        work = self.ledger.take()
        assert work is not None
        return work

    def send(self, work: Work | None = None) -> list[Future]:
        """Send what there is, as if the store took it; return the futures."""
        work = work or self.take()
        self.ledger.sent(work.rows, TaskId(self.next_task))
        self.ledger.settled()
        self.next_task += len(work.rows)
        return [row.future for row in work.rows]

    def end(self, future: Future, value: object = None) -> None:
        assert future.task_id is not None
        (found,) = self.ledger.release([(future.task_id, TaskState.DONE)])
        if found is not None:
            found.set_result(value)

    def move(self, future: Future, state: TaskState) -> list[TaskId]:
        assert future.task_id is not None
        return self.ledger.moved([(future.task_id, state, 1)])


@pytest.fixture
def books() -> Books:
    return Books()


def test_calls_are_sent_in_order_and_get_their_tasks(books: Books) -> None:
    futures = [books.call() for _ in range(3)]
    assert books.send() == futures
    assert [future.task_id for future in futures] == [1, 2, 3]
    assert not any(future.running() or future.done() for future in futures)
    assert books.move(futures[1], TaskState.RUNNING) == []
    assert [future.running() for future in futures] == [False, True, False]
    assert books.move(futures[1], TaskState.DONE) == [2]
    books.end(futures[1], 5)
    assert futures[1].result(0) == 5


def test_calls_that_can_never_run_fail_alone(books: Books) -> None:
    large, other = books.call(), books.call()
    books.send()
    error = UsageError("it needs 500 cores")
    end_all(books.ledger.unfit([TaskId(1), TaskId(9)], error))
    assert large.exception(0) is error
    assert not other.done()
    assert books.take().cancel == (1,)
    assert books.ledger.counts()[1][TaskState.FAILED] == 1


def test_call_waits_until_its_inputs_have_tasks(books: Books) -> None:
    first = books.call()
    second = books.call(first)
    third = books.call(first, second)
    assert books.send() == [first]
    assert books.send() == [second]
    assert books.send() == [third]
    late = books.call(first)
    assert books.send() == [late]


def test_end_that_is_told_before_the_number_is_not_missed(books: Books) -> None:
    future = books.call()
    work = books.take()
    assert books.ledger.moved([(TaskId(1), TaskState.RUNNING, 1), (TaskId(1), TaskState.DONE, 1)]) == []
    assert books.ledger.sent(work.rows, TaskId(1)) == [1]
    assert future.task_id == 1


def test_changes_of_others_tasks_are_not_kept(books: Books) -> None:
    assert books.ledger.moved([(TaskId(9), TaskState.DONE, 1)]) == []
    books.call()
    work = books.take()
    assert books.ledger.sent(work.rows, TaskId(9)) == []


def test_canceled_before_it_is_sent(books: Books) -> None:
    first, second = books.call(), books.call()
    assert first.cancel()
    assert first.cancel()  # as often as one likes
    assert books.send() == [second]
    assert books.ledger.tasks() == [1]


def test_canceled_while_it_is_sent(books: Books) -> None:
    future = books.call()
    work = books.take()
    assert future.cancel()
    assert books.send(work) == [future]
    assert books.take() == Work(cancel=(TaskId(1),))


def test_canceled_after_it_was_sent(books: Books) -> None:
    future = books.call()
    books.send()
    assert future.cancel()
    assert books.take().cancel == (1,)
    books.end(future)  # it had ended all the same
    assert future.cancelled()


def test_what_runs_is_not_canceled(books: Books) -> None:
    future = books.call()
    books.send()
    books.move(future, TaskState.RUNNING)
    assert not future.cancel()


def test_waiters_are_told_of_cancellations(books: Books) -> None:
    from concurrent.futures import wait

    future = books.call()
    books.send()
    threading.Timer(0.05, future.cancel).start()
    assert wait([future], 30).done == {future}


def test_refused_call_takes_those_that_need_it_along(books: Books) -> None:
    first = books.call()
    second = books.call(first)
    third = books.call(second)
    work = books.take()
    end_all(books.ledger.refused(work.rows, UsageError("no")))
    assert isinstance(first.exception(0), UsageError)
    error = second.exception(0)
    assert isinstance(error, TaskFailed)
    assert error.__cause__ is first.exception(0)
    error = third.exception(0)
    assert isinstance(error, TaskFailed)
    assert error.__cause__ is second.exception(0)
    assert error.cause == "SKIPPED"
    books.ledger.close()
    assert books.ledger.take() is None


def test_canceled_input_that_was_not_sent(books: Books) -> None:
    first = books.call()
    second = books.call(first)
    first.cancel()
    error = second.exception(0)
    assert isinstance(error, TaskFailed)
    assert "was canceled" in str(error)


def test_input_that_has_failed_before(books: Books) -> None:
    first: Future = PilotFuture(books, "f", "")
    first.begin()
    first.set_exception(TypeError("cannot pickle"))
    second = books.call(first)
    error = second.exception(0)
    assert error is not None
    assert isinstance(error.__cause__, TypeError)


def test_nothing_more_comes_when_all_is_over(books: Books) -> None:
    future = books.call()
    books.send()
    books.ledger.close()
    found: list[Work | None] = []
    thread = threading.Thread(target=lambda: found.append(books.ledger.take()))
    thread.start()
    books.end(future)
    thread.join(30)
    assert found == [None]


def test_broken_pool_ends_all(books: Books) -> None:
    sent, unsent = books.call(), books.call()
    books.send(Work(books.take().rows[:1]))
    canceled = books.call()
    canceled.cancel()
    error = PoolBroken("over")
    end_all(books.ledger.break_(error))
    assert sent.exception(0) is error
    assert unsent.exception(0) is error
    assert canceled.cancelled()
    assert books.call().exception(0) is error
    assert books.ledger.take() is None


def test_callers_wait_while_there_is_too_much_to_send(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pilotmtc.executor.engine.ledger._ROOM_ROWS", 2)
    done = threading.Event()

    def call(calls: Iterable[int]) -> None:
        for _ in calls:
            books.call()
        done.set()

    thread = threading.Thread(target=call, args=(range(3),))
    thread.start()
    assert not done.wait(0.05)
    assert len(books.take().rows) == 2
    assert done.wait(30)
    thread.join(30)


def test_counts(books: Books) -> None:
    first, second, third, _ = (books.call() for _ in range(4))
    books.send()
    books.move(second, TaskState.RUNNING)
    books.end(first)
    third.cancel()
    added, counts = books.ledger.counts()
    assert added == 4
    assert {state: n for state, n in counts.items() if n} == {
        TaskState.DONE: 1, TaskState.RUNNING: 1, TaskState.CANCELED: 1,
    }  # fmt: skip


def test_adopted_calls(books: Books) -> None:
    done, running, failed = (Future(books, "f", "") for _ in range(3))
    for task, (future, state) in enumerate(
        ((done, TaskState.DONE), (running, TaskState.RUNNING), (failed, TaskState.FAILED)), 1
    ):
        assert books.ledger.adopt(future, TaskId(task), state) is None
    assert running.running()
    assert books.take() == Work(retry=(TaskId(3),))
    books.next_task = 4
    late = books.call(done, failed)
    assert books.send() == [late]
    books.end(done, 5)
    assert done.result(0) == 5


def test_adopted_call_that_is_canceled_does_not_run_again(books: Books) -> None:
    future: Future = PilotFuture(books, "f", "")
    books.ledger.adopt(future, TaskId(1), TaskState.FAILED)
    future.cancel()
    assert books.take() == Work(cancel=(TaskId(1),))
