"""What running tasks write: each line once, in order, and what cannot be followed is left to their end."""

from typing import Any, cast

import pytest

from pilotmtc.model import Campaign, CampaignId, Resources, Task, TaskId
from pilotmtc.protocol.client.tasks import GetTail, GetTasks, Tail, Tasks
from pilotmtc.protocol.records import OutputTail
from pilotmtc.session.link import StoreLink
from pilotmtc.session.look.follow import Step
from pilotmtc.session.run import live
from pilotmtc.session.run.live import LiveOutput
from pilotmtc.states import TaskState

CAMPAIGN = Campaign(CampaignId(1), "k", "", 0.0, 0, False)


class FakeStore:
    """What tasks have written so far; a tail shows no more than `most` bytes of it."""

    def __init__(self, most: int = 100) -> None:
        self.most = most
        self.written: dict[int, tuple[int, bytes, bytes]] = {}
        self.asked: list[int] = []

    def call_many(self, requests: list[GetTail]) -> list[Tail]:
        self.asked += [request.task for request in requests]
        return [self._tail(request) for request in requests]

    def _tail(self, request: GetTail) -> Tail:
        if request.task not in self.written:
            return Tail()
        attempt, out, err = self.written[request.task]
        ends = out[-self.most :], err[-self.most :]
        tail = OutputTail(TaskId(request.task), attempt, *ends, len(out), len(err))
        return Tail(attempt, float(attempt * 1000 + len(out) + len(err)), tail)

    def call(self, request: GetTasks) -> Tasks:
        ids = request.filter.ids or ()
        return Tasks(
            tuple([Task(TaskId(i), CAMPAIGN.id, TaskState.RUNNING, 1, 0, (), True, {}, Resources()) for i in ids])
        )


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> FakeStore:
    monkeypatch.setattr(live, "_EVERY_S", -1.0)
    return FakeStore()


def told(
    output: LiveOutput, *, begun: tuple[int, ...] = (), ended: tuple[int, ...] = ()
) -> list[tuple[int, str, bytes]]:
    over = tuple([(TaskId(task), TaskState.DONE) for task in ended])
    step = Step(CAMPAIGN, over, begun=tuple([TaskId(task) for task in begun]))
    return [(wrote.task.id, wrote.stream, wrote.data) for wrote in output.take(step)]


def following(store: FakeStore) -> LiveOutput:
    return LiveOutput(cast("StoreLink", cast("Any", store)))


def test_whole_lines_are_told_once(store: FakeStore) -> None:
    output = following(store)
    store.written[7] = (1, b"one\ntw", b"")
    assert told(output, begun=(7,)) == [(7, "stdout", b"one\n")]
    assert told(output) == []
    store.written[7] = (1, b"one\ntwo\nthree", b"oh\n")
    assert told(output) == [(7, "stdout", b"two\n"), (7, "stderr", b"oh\n")]
    assert output.end(TaskId(7), 1) == (8, 3)
    assert output.end(TaskId(7), 1) == (0, 0)
    assert told(output) == []


def test_what_was_too_much_to_follow_is_left_to_the_end(store: FakeStore) -> None:
    store.most = 4
    output = following(store)
    store.written[7] = (1, b"a\n", b"")
    assert told(output, begun=(7,)) == [(7, "stdout", b"a\n")]
    store.written[7] = (1, b"a\n0123456\nb\n", b"x\n")
    assert told(output) == [(7, "stderr", b"x\n")]
    assert output.end(TaskId(7), 1) == (2, 2)


def test_next_attempt_is_told_from_its_beginning(store: FakeStore) -> None:
    output = following(store)
    store.written[7] = (1, b"first\n", b"")
    told(output, begun=(7,))
    store.written[7] = (2, b"again\n", b"")
    assert told(output, begun=(7,)) == [(7, "stdout", b"again\n")]
    assert output.end(TaskId(7), 2) == (6, 0)
    told(output, begun=(7,))
    assert output.end(TaskId(7), 3) == (0, 0)  # whose output nobody saw


def test_tasks_that_have_ended_are_asked_for_no_more(store: FakeStore) -> None:
    output = following(store)
    store.written[7] = (1, b"a\n", b"")
    assert told(output, begun=(7, 8, 9), ended=(9,)) == [(7, "stdout", b"a\n")]
    assert store.asked == [7, 8]
    del store.written[7]
    told(output)
    told(output)
    assert store.asked == [7, 8, 7]
    assert output.end(TaskId(7), 1) == (2, 0)


def test_no_more_than_so_many_are_followed(store: FakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "MOST", 2)
    output = following(store)
    store.written = dict.fromkeys(range(1, 5), (1, b"x\n", b""))
    assert [one[0] for one in told(output, begun=(1, 2, 3, 4))] == [1, 2]
    output.end(TaskId(1), 1)
    assert [one[0] for one in told(output)] == [3]
