"""What calls have returned, for who did not make them: of a session's results, one after the other."""

import threading
from collections.abc import Sequence
from typing import Any

from pilotmtc.errors import UsageError
from pilotmtc.executor.engine.endings import outcome
from pilotmtc.executor.engine.values import Values
from pilotmtc.executor.pickling.trust import check_account, check_file
from pilotmtc.model import TaskId
from pilotmtc.protocol.client.tasks import MAX_RETURNED, GetReturned, ReturnedCall
from pilotmtc.session.link import StoreLink
from pilotmtc.store.location import StoreLocation


class ReturnedValues:
    """Loads what calls have returned from a store of the user's own. Threads may share it."""

    def __init__(self, link: StoreLink, store: StoreLocation) -> None:
        self._link = link
        self._store = store
        self._values = Values(link, here=store.target is None)
        self._rows: dict[TaskId, ReturnedCall] = {}  # that were fetched ahead
        self._checked = False
        self._lock = threading.Lock()

    def get(self, task: TaskId, call: str, near: Sequence[TaskId]) -> Any:
        """Return what a call has returned, or raise what its future would have raised.

        Parameters
        ----------
        near
            Tasks that are likely to be asked for next, among them this one.

        Raises
        ------
        ConfigError
            If the store is not the user's own.
        """
        if not self._checked:
            self._check()
            self._checked = True
        with self._lock:
            row = self._rows.pop(task, None) or self._fetch(task, near)
        value, error = outcome(call, row, self._values)
        if error is not None:
            raise error
        return value

    def _check(self) -> None:
        if self._store.target is None:
            check_file(self._store.path)
        else:
            check_account(self._link)

    def _fetch(self, task: TaskId, near: Sequence[TaskId]) -> ReturnedCall:
        at = near.index(task)
        rows = self._link.call(GetReturned(tuple(near[at : at + MAX_RETURNED]))).rows
        self._rows = {row.task: row for row in rows}  # and those of before are not asked for any more
        found = self._rows.pop(task, None)
        if found is None:
            raise UsageError(f"task {task} is not over, or is no call of a function: see pilotmtc tasks {task}")
        return found
