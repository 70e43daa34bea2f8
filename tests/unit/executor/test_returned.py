"""Values of calls for who did not make them: fetched many at a time, from a store of the user's own only."""

import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from pilotmtc.errors import ConfigError, NotPermitted, TaskFailed, UsageError
from pilotmtc.executor.returned import ReturnedValues
from pilotmtc.model import TaskId, Value
from pilotmtc.pickled import dump_exception
from pilotmtc.protocol.client.maintenance import GetKeys, Keys
from pilotmtc.protocol.client.tasks import GetReturned, Returned, ReturnedCall
from pilotmtc.session.link import StoreLink
from pilotmtc.states import Cause, TaskState
from pilotmtc.store.location import locate


class Store:
    """A store whose calls have returned their own numbers; those of 10 and more have failed."""

    def __init__(self, *, guest: bool = False) -> None:
        self.asked: list[tuple[int, ...]] = []
        self._guest = guest

    def call(self, request: Any) -> Any:
        if isinstance(request, GetKeys):
            if self._guest:
                raise NotPermitted("not with a key")
            return Keys(())
        assert isinstance(request, GetReturned)
        self.asked.append(request.tasks)
        return Returned(tuple([self._row(task) for task in request.tasks if task < 90]), len(request.tasks))

    def _row(self, task: TaskId) -> ReturnedCall:
        if task >= 20:
            return ReturnedCall(task, 1, TaskState.FAILED, Cause.SIGNAL, None, 11, "n1", "the worker ended")
        data = pickle.dumps(task) if task < 10 else dump_exception(ValueError(f"bad {task}"))
        value, failed = Value(data, size=len(data)), task >= 10
        state = TaskState.FAILED if failed else TaskState.DONE
        return ReturnedCall(task, 1, state, Cause.EXIT, int(failed), value=value)


def values(store: Store, where: str) -> ReturnedValues:
    return ReturnedValues(StoreLink(store, where), locate(where))


def test_values_are_fetched_many_at_a_time(tmp_path: Path) -> None:
    store = Store()
    found = values(store, str(tmp_path / "store.db"))
    near = [TaskId(number) for number in range(1, 10)]
    assert [found.get(task, "f()", near) for task in near] == list(range(1, 10))
    assert store.asked == [tuple(near)]
    assert found.get(TaskId(3), "f()", near) == 3
    assert store.asked[1:] == [tuple(near[2:])]


def test_what_a_call_raised_is_raised(tmp_path: Path) -> None:
    found = values(Store(), str(tmp_path / "store.db"))
    with pytest.raises(ValueError, match="bad 12"):
        found.get(TaskId(12), "f(12)", [TaskId(12)])
    with pytest.raises(TaskFailed, match=r"f\(20\) \(task 20\): its worker was killed by SIGSEGV on n1"):
        found.get(TaskId(20), "f(20)", [TaskId(20)])
    with pytest.raises(UsageError, match="task 99 is not over"):
        found.get(TaskId(99), "f()", [TaskId(99)])


def test_values_of_somebody_elses_store_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "store.db").touch()
    store = Store()
    found = values(store, str(tmp_path / "store.db"))
    monkeypatch.setattr(os, "geteuid", lambda: os.stat(tmp_path).st_uid + 1)
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"belongs to the user with number .*a pickle can run any program"):
            found.get(TaskId(1), "f()", [TaskId(1)])
    assert store.asked == [], "they are not even fetched"


def test_values_are_refused_to_who_has_come_with_a_key() -> None:
    store = Store(guest=True)
    with pytest.raises(ConfigError, match="a key of the store has opened"):
        values(store, "ssh://login.site/~/store.db").get(TaskId(1), "f()", [TaskId(1)])
    assert store.asked == []
    assert values(Store(), "ssh://login.site/~/store.db").get(TaskId(1), "f()", [TaskId(1)]) == 1
