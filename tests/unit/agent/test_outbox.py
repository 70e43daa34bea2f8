"""When results and starts are sent to the store."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pilotmtc.agent.outbox import LONG_RESULTS, LONG_S, RESULTS_BYTES, RESULTS_MAX, RESULTS_S, STARTS_S, Outbox
from pilotmtc.agent.spool import Segment, Spool
from pilotmtc.model import PilotId, Result, TaskId, Value
from pilotmtc.protocol.agent import Finish, Started
from pilotmtc.protocol.spool import read_spool
from pilotmtc.states import Cause


class Box:
    """An outbox, and what it has sent."""

    def __init__(self, directory: Path) -> None:
        self.outbox = Outbox(PilotId(1), Spool(directory), self._send, self._bring)
        self.sent: list[int] = []  # numbers of results
        self.starts = 0
        self.brought: list[Callable[[], None]] = []  # tells that a value is in the store
        self._segments: list[Segment] = []
        self._task = 0

    def _send(self, request: Finish | Started, segment: Segment | None) -> None:
        if isinstance(request, Finish):
            assert segment is not None
            self.sent.append(len(request.results))
            self._segments.append(segment)
        else:
            self.starts += len(request.tasks)

    def _bring(self, result: Result, brought: Callable[[Result], None]) -> None:
        self.brought.append(lambda: brought(result))

    def end(self, now: float, count: int = 1, value: bytes = b"") -> None:
        for _ in range(count):
            self._task += 1
            result = Result(TaskId(self._task), 1, Cause.EXIT, 0, value=Value(value))
            self.outbox.ended(result, now)

    def poll(self, now: float) -> list[int]:
        """Poll if it is time, and return what has been sent."""
        if self.outbox.due(float("inf")) <= now:
            self.outbox.poll(now)
        sent, self.sent = self.sent, []
        return sent

    def ack(self, now: float) -> None:
        for segment in self._segments:
            self.outbox.acked(segment, now)
        self._segments.clear()


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    made = Box(tmp_path)
    yield made
    made.outbox.close()


def test_a_result_that_comes_alone_is_sent_at_once(box: Box) -> None:
    for now in (1.0, 1.02, 1.03, 9.0):
        box.end(now)
        assert box.poll(now) == [1]
        box.ack(now + 0.002)


def test_results_wait_for_those_that_are_under_way(box: Box) -> None:
    box.end(1.0)
    assert box.poll(1.0) == [1]
    box.end(1.001)
    box.end(1.002)
    assert box.poll(1.002) == []
    box.ack(1.003)
    assert box.poll(1.003) == [2]


def test_results_do_not_wait_for_long_if_the_store_is_silent(box: Box) -> None:
    box.end(1.0)
    assert box.poll(1.0) == [1]
    box.end(2.0)
    assert box.poll(2.0) == []
    assert box.poll(2.0 + RESULTS_S) == [1]
    assert not box.outbox.empty


def test_where_many_results_come_they_are_sent_together(box: Box) -> None:
    now, sent = 1.0, []
    for _ in range(2000):  # one a millisecond, acknowledged in no time
        now += 0.001
        box.end(now)
        sent += box.poll(now)
        box.ack(now)
    assert sum(sent[-20:]) / 20 >= 0.8 * 1000 * RESULTS_S
    assert max(sent) <= 1000 * LONG_S
    box.poll(now + 1.0)
    box.ack(now + 1.0)
    box.end(now + 5.0)
    assert box.poll(now + 5.0) == [1]  # it is quiet again


def test_a_crowd_waits_a_little_longer_and_a_large_one_does_not(box: Box) -> None:
    box.end(1.0)
    assert box.poll(1.0) == [1]
    box.end(1.001, LONG_RESULTS)
    box.ack(1.002)
    assert box.poll(1.001 + RESULTS_S) == []
    assert box.poll(1.001 + LONG_S) == [LONG_RESULTS]
    box.end(2.0, RESULTS_MAX + 1)
    assert box.sent == [RESULTS_MAX]
    box.end(2.0, 2, bytes(RESULTS_BYTES // 2))
    assert box.sent == [RESULTS_MAX, 3]


def test_results_of_a_pilot_that_has_more_to_do_wait_until_it_has_not(box: Box) -> None:
    now, sent = 1.0, []
    box.outbox.be_patient(True, now)
    for _ in range(1000):  # one in two milliseconds, acknowledged in no time
        now += 0.002
        box.end(now)
        sent += box.poll(now)
        box.ack(now)
    assert min(sent[-10:]) >= 0.7 * 500 * LONG_S
    box.poll(now + 1.0)
    box.ack(now + 1.0)
    box.end(now + 1.001)
    box.end(now + 1.002)
    assert box.poll(now + 1.002) == []
    box.outbox.be_patient(False, now + 1.003)
    assert sum(box.poll(now + 1.003 + RESULTS_S)) == 2


def test_results_of_a_pilot_that_has_more_to_do_hardly_wait_if_they_are_few(box: Box) -> None:
    box.outbox.be_patient(True, 1.0)
    for now in (1.0, 2.0, 3.0):
        box.end(now)
        assert box.poll(now + 0.002) == [1]
        box.ack(now + 0.003)


def test_starts_of_tasks_that_are_soon_over_are_not_told(box: Box) -> None:
    now = 1.0
    for number in range(1, 1000):  # two at a time, of two milliseconds each
        box.outbox.started(TaskId(number), 1, "n", "0", now)
        box.outbox.ended(Result(TaskId(number - 1), 1, Cause.EXIT, 0), now)
        now += 0.001
        box.poll(now)
    assert box.starts == 0
    box.outbox.started(TaskId(2000), 1, "n", "0", now)
    assert box.outbox.due(float("inf")) <= now + STARTS_S
    box.poll(now + STARTS_S)
    assert box.starts > 0


def test_starts_are_told_after_a_while_unless_they_are_over_by_then(box: Box) -> None:
    for task in (1, 2, 3):
        box.outbox.started(TaskId(task), 1, "n", "0", 1.0)
    box.end(1.1)
    box.poll(1.0 + STARTS_S)
    assert box.starts == 2


def test_a_result_with_a_large_value_is_on_the_disk_first_and_sent_after_its_value(box: Box, tmp_path: Path) -> None:
    large = Result(TaskId(7), 1, Cause.EXIT, 0, value=Value(digest="d1", size=1 << 30))
    box.outbox.ended(large, 1.0)
    box.end(1.0)
    assert box.poll(1.0) == [1]
    box.ack(1.0)
    assert [result for results in read_spool(tmp_path) for result in results if result.task == 7] == [large]
    assert not box.outbox.empty
    for brought in box.brought:
        brought()
    assert box.poll(time.monotonic()) == [1]
    box.ack(time.monotonic())
    assert box.outbox.empty
    assert list(read_spool(tmp_path)) == []


def test_large_values_that_the_store_does_not_take_stop_the_pilot_in_the_end(box: Box) -> None:
    for task in range(1, 4):
        assert not box.outbox.full
        box.outbox.ended(Result(TaskId(task), 1, Cause.EXIT, 0, value=Value(digest=f"d{task}", size=1 << 30)), 1.0)
    assert box.outbox.full
    box.brought[0]()
    assert not box.outbox.full
