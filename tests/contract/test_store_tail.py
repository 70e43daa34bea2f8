"""What running tasks have written: agents are asked when somebody looks, and only then."""

from pilotmtc.clock import FakeClock
from pilotmtc.model import Claimed, PilotId, TaskId
from pilotmtc.protocol.agent import ReportOutput
from pilotmtc.protocol.client.tasks import GetTail, Tail
from pilotmtc.protocol.records import OutputTail
from pilotmtc.store.sqlite import SqliteStore
from tests.contract.storekit import Kit, row


def _running(kit: Kit) -> tuple[PilotId, Claimed]:
    kit.submit(row(1))
    pilot = kit.pilot()
    (task,) = kit.claim(pilot)
    kit.start(pilot, task)
    return pilot, task


def _written(task: Claimed, text: bytes) -> OutputTail:
    return OutputTail(task.task, task.attempt, text, b"", len(text), 0)


def test_agent_is_asked_once_for_what_somebody_wants_to_see(kit: Kit) -> None:
    pilot, task = _running(kit)
    other = kit.pilot()
    assert kit.beat(pilot).peek == ()
    assert kit.store.call(GetTail(task.task)) == Tail(attempt=1)
    kit.store.call(GetTail(task.task))
    assert kit.beat(other).peek == ()
    assert kit.beat(pilot).peek == ((task.task, 1),)
    assert kit.beat(pilot).peek == ()


def test_those_who_wait_are_woken(local: SqliteStore) -> None:
    pilot, task = _running(Kit(local))
    local.take_wakeup()
    local.call(GetTail(task.task))
    assert local.take_wakeup().orders == {pilot}
    local.call(GetTail(task.task))
    assert not local.take_wakeup().orders  # it is under way
    local.call(ReportOutput(pilot, (_written(task, b"one\n"),)))
    assert local.take_wakeup().changed


def test_answer_is_passed_on_and_newer_ones_are_asked_for(local: SqliteStore, clock: FakeClock) -> None:
    kit = Kit(local)
    pilot, task = _running(kit)
    kit.store.call(GetTail(task.task))
    kit.beat(pilot)
    kit.store.call(ReportOutput(pilot, (_written(task, b"one\n"),)))
    first = kit.store.call(GetTail(task.task))
    assert first.written == _written(task, b"one\n")
    assert kit.beat(pilot).peek == ()  # who has seen nothing takes what is there
    clock.advance(1.0)
    assert kit.store.call(GetTail(task.task, first.at)) == first
    assert kit.beat(pilot).peek == ((task.task, 1),)
    kit.store.call(ReportOutput(pilot, (_written(task, b"one\ntwo\n"),)))
    assert kit.store.call(GetTail(task.task, first.at)).written == _written(task, b"one\ntwo\n")


def test_agent_that_does_not_answer_is_asked_again(local: SqliteStore, clock: FakeClock) -> None:
    kit = Kit(local)
    pilot, task = _running(kit)
    kit.store.call(GetTail(task.task))
    assert kit.beat(pilot).peek
    clock.advance(1.0)
    kit.store.call(GetTail(task.task))
    assert not kit.beat(pilot).peek
    clock.advance(2.0)
    kit.store.call(GetTail(task.task))
    assert kit.beat(pilot).peek == ((task.task, 1),)


def test_task_that_does_not_run_has_none(kit: Kit) -> None:
    pilot, task = _running(kit)
    kit.store.call(ReportOutput(pilot, (_written(task, b"one\n"),)))
    kit.finish(pilot, task)
    assert kit.store.call(GetTail(task.task)) == Tail()
    assert kit.store.call(GetTail(TaskId(99))) == Tail()
    kit.submit(row(2))
    assert kit.store.call(GetTail(TaskId(2))) == Tail()
    assert kit.beat(pilot).peek == ()


def test_few_answers_are_kept(kit: Kit) -> None:
    kit.submit(*(row(n) for n in range(40)))
    pilot = kit.pilot()
    tasks = kit.claim(pilot)
    kit.start(pilot, *tasks)
    for task in tasks:
        kit.store.call(ReportOutput(pilot, (_written(task, b"x"),)))
    there = [kit.store.call(GetTail(task.task)).written is not None for task in tasks]
    assert there == [False] * 8 + [True] * 32
