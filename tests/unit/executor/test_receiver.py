"""Following tasks while the store has its troubles."""

import concurrent.futures
import threading
from typing import Any

import pytest

from pilotmtc.errors import SchemaMismatch, StoreError
from pilotmtc.executor.engine import receiver
from pilotmtc.executor.engine.ledger import Ledger
from pilotmtc.executor.engine.receiver import Receiver
from pilotmtc.executor.engine.values import Values
from pilotmtc.executor.future import PilotFuture
from pilotmtc.model import CampaignId, TaskId, Value
from pilotmtc.pickled import dump_value
from pilotmtc.protocol.client.tasks import GetReturned, Returned, ReturnedCall
from pilotmtc.protocol.client.watch import Changes, GetChanges
from pilotmtc.states import TaskState


class Link:
    """A store that answers what it is told to; then it has no news."""

    url = "store"

    def __init__(self, changes: tuple[Any, ...], returned: tuple[Any, ...] = ()) -> None:
        self._answers: dict[Any, list[Any]] = {GetChanges: list(changes), GetReturned: list(returned)}

    def send(self, request: Any) -> "concurrent.futures.Future[Any]":
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        answers = self._answers[type(request)]
        if not answers:
            return future
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)
        return future

    def forget(self, future: PilotFuture[Any]) -> None:
        raise AssertionError("nothing is canceled here")


DISK = StoreError("no space left")
OVER = Changes(5, ((TaskId(1), TaskState.DONE, 1),))
VALUE = Returned((ReturnedCall(TaskId(1), 1, TaskState.DONE, value=Value(b"".join(map(bytes, dump_value(7))))),), 1)


@pytest.mark.parametrize(
    ("changes", "returned"),
    [
        ((OVER,), (VALUE,)),
        ((DISK, OVER), (VALUE,)),
        ((OVER,), (DISK, VALUE)),
        ((Changes(9, (), True),), (VALUE,)),  # the server was restarted
        ((Changes(5, OVER.changes, returned=VALUE.rows),), ()),
        ((OVER,), (Returned((), 0), VALUE)),  # whose values had no room in an answer
    ],
)
def test_results_come_in_the_end(
    changes: tuple[Any, ...], returned: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver, "_AGAIN_S", 0.0)
    monkeypatch.setattr(receiver, "pages", lambda *_more: ())
    ledger = Ledger()
    link: Any = Link(changes, returned)
    future: PilotFuture[Any] = PilotFuture(link, "f", "")
    ledger.adopt(future, TaskId(1), TaskState.READY)
    follows = Receiver(
        link, ledger, Values(link, here=True), campaign=CampaignId(1), seq=0, on_broken=lambda _error: None
    )
    thread = threading.Thread(target=follows.run)
    thread.start()
    assert future.result(30) == 7
    follows.stop()
    thread.join(30)


def test_call_that_was_skipped_waits_for_the_end_of_what_it_needed() -> None:
    # The end of the second comes with the news, that of the first is still to be fetched.
    skipped = [ReturnedCall(TaskId(number), 0, TaskState.SKIPPED) for number in (2, 3)]
    failed = ReturnedCall(TaskId(1), 1, TaskState.FAILED, message="bad")
    skip, fail = TaskState.SKIPPED, TaskState.FAILED
    changes = ((TaskId(2), skip, 0), (TaskId(3), skip, 0), (TaskId(1), fail, 1))
    link: Any = Link((Changes(5, changes, returned=(skipped[1],)),), (Returned((skipped[0], failed), 2),))
    ledger = Ledger()
    futures: list[PilotFuture[Any]] = [PilotFuture(link, name, "") for name in "fgh"]
    for number, future in enumerate(futures, 1):
        future.inputs = tuple(futures[number - 2 : number - 1]) if number > 1 else ()
        ledger.adopt(future, TaskId(number), TaskState.READY)
    follows = Receiver(
        link, ledger, Values(link, here=True), campaign=CampaignId(1), seq=0, on_broken=lambda _error: None
    )
    thread = threading.Thread(target=follows.run)
    thread.start()
    errors = [future.exception(30) for future in futures]
    follows.stop()
    thread.join(30)
    assert [error.__cause__ for error in errors if error is not None] == [None, *errors[:2]]


def test_damaged_store_ends_it() -> None:
    link: Any = Link((SchemaMismatch("damaged"),))
    follows = Receiver(
        link, Ledger(), Values(link, here=True), campaign=CampaignId(1), seq=0, on_broken=lambda _error: None
    )
    with pytest.raises(SchemaMismatch):
        follows.run()
