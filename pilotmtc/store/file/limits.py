"""How many units of which named resources all pilots together may use, and how many their tasks hold."""

import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence

from pilotmtc.model import Resources
from pilotmtc.resources.amounts import shares, without
from pilotmtc.resources.fit import TaskRequest
from pilotmtc.states import TASK_HELD
from pilotmtc.store.attempt_id import ATTEMPT_BITS
from pilotmtc.store.file.caches import KEPT, Records
from pilotmtc.store.file.sql import id_list, in_states

_LIMITS = "SELECT name, amount FROM resource_limit ORDER BY name"
_LIMIT = "INSERT INTO resource_limit VALUES (?, ?) ON CONFLICT(name) DO UPDATE SET amount = excluded.amount"
_FORGET = "DELETE FROM resource_limit WHERE name = ?"
# How many tasks with which resources pilots hold.
_HELD = f"""SELECT resources_id, count(*) FROM task INDEXED BY task_held
    WHERE state {in_states(TASK_HELD)} GROUP BY 1"""
# How many of a list of tasks have which resources.
_OF = """SELECT t.resources_id, count(*) FROM json_each(?) AS wanted CROSS JOIN task AS t ON t.id = wanted.value
    GROUP BY 1"""


class Limits:
    """A participant of transactions that knows the limits of the store.

    The file says which tasks are held, and so how many units are. They are counted when that is asked for the first
    time, and then kept up with each change of a task's state, so that claims need not count.

    Attributes
    ----------
    total
        Units that may be used, in millionths.
    """

    def __init__(self, connection: sqlite3.Connection, resources: Records[Resources]) -> None:
        self._execute = connection.execute
        self._resources = resources
        self._requests: dict[int, TaskRequest] = {}
        self._read()

    def _read(self) -> None:
        self.total: dict[str, int] = {name: shares(amount) for name, amount in self._execute(_LIMITS)}
        self._in_use: Counter[str] | None = None
        self._requests.clear()

    def set(self, name: str, amount: float | None) -> bool:
        """Set a limit, or remove it; return whether that changes anything."""
        if self.total.get(name) == (None if amount is None else shares(amount)):
            return False
        if amount is None:
            self._execute(_FORGET, (name,))
        else:
            self._execute(_LIMIT, (name, amount))
        self._read()
        return True

    # -- what tasks ask for ------------------------------------------------------------------------------------------

    def request(self, id_: int) -> TaskRequest:
        """Return what a task with the resources of this id asks for."""
        if (found := self._requests.get(id_)) is None:
            if len(self._requests) >= KEPT:
                self._requests.clear()
            found = self._requests[id_] = TaskRequest.of(self._resources.get(id_), self.total)
        return found

    def on_nodes(self, id_: int) -> int:
        """Return the id of these resources less what is limited in the whole store, which no agent counts."""
        if not self.request(id_).units:
            return id_
        return self._resources.intern(without(self._resources.get(id_), self.total))

    # -- units -------------------------------------------------------------------------------------------------------

    def in_use(self) -> Counter[str]:
        """Return how many units of each limit the held tasks have, in millionths."""
        if self._in_use is None:
            self._in_use = self._units(self._execute(_HELD))
        return self._in_use

    def free(self) -> dict[str, int]:
        """Return how many units of each limit may be given, in millionths; less than 0 if too many are in use."""
        in_use = self.in_use()
        return {name: total - in_use[name] for name, total in self.total.items()}

    def take(self, attempts: Sequence[int]) -> None:
        """Note that pilots hold these attempts now."""
        if self.total and self._in_use is not None:
            self._in_use.update(self._of(attempts))

    def give_back(self, attempts: Sequence[int]) -> bool:
        """Note that pilots hold these attempts no more; return whether units came back."""
        if not self.total:
            return False
        units = self._of(attempts)
        if self._in_use is not None:
            self._in_use.subtract(units)
        return bool(units)

    def _of(self, attempts: Sequence[int]) -> Counter[str]:
        return self._units(self._execute(_OF, (id_list(attempt >> ATTEMPT_BITS for attempt in attempts),)))

    def _units(self, tasks: Iterable[tuple[int, int]]) -> Counter[str]:
        units: Counter[str] = Counter()
        for id_, n in tasks:
            for name, amount in self.request(id_).units:
                units[name] += n * amount
        return units

    # -- transactions ------------------------------------------------------------------------------------------------

    def mark(self) -> None:
        """Do nothing: what is undone is read from the file again."""

    def rewind(self, mark: None) -> None:
        """Read the file again."""
        self._read()

    def commit(self) -> None:
        """Do nothing: this is as the file is."""
