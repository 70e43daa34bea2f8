"""The transaction that requests are done in: of the file, and of all that is kept in memory about it.

Every change of a task's state goes through `Transaction.move_tasks`: it knows the table of transitions, counts tasks
by campaign and state, and feeds those that watch.
"""

import math
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, NamedTuple

from pilotmtc.clock import Clock
from pilotmtc.model import PilotId
from pilotmtc.states import TASK_HELD, TASK_TRANSITIONS, PilotState, TaskState, check_task
from pilotmtc.store.attempt_id import attempt_id
from pilotmtc.store.file.caches import Caches
from pilotmtc.store.file.limits import Limits
from pilotmtc.store.file.sql import in_states
from pilotmtc.store.file.value_files import ValueFiles
from pilotmtc.store.live.activity import Activity
from pilotmtc.store.live.changes import ChangeFeed
from pilotmtc.store.live.last_overview import LastOverview
from pilotmtc.store.live.leases import Leases
from pilotmtc.store.live.participant import Participant
from pilotmtc.store.live.running_output import RunningOutput
from pilotmtc.store.live.wakeups import Wakeups

TASK_STATES = tuple(TaskState)
_TOGETHER = 16  # rows of an INSERT
_READY, _DONE, _FAILED = TaskState.READY, TaskState.DONE, TaskState.FAILED
_STORE_PATH = "SELECT file FROM pragma_database_list WHERE name = 'main'"
# Pilots that are at work, and how many of their cores are.
_PILOTS_AT_WORK = f"SELECT id, busy, cores FROM pilot WHERE state IN ({PilotState.ACTIVE:d}, {PilotState.DRAINING:d})"
# Campaigns with running tasks.
_RUNNING_CAMPAIGNS = f"SELECT campaign_id FROM tally WHERE state = {TaskState.RUNNING:d} AND n > 0"
# How many tasks of a campaign pilots hold.
_COUNT_HELD = f"SELECT coalesce(sum(n), 0) FROM tally WHERE campaign_id = ? AND state {in_states(TASK_HELD)}"
# Add to the number of tasks of a campaign in a state.
_COUNT_TASKS = """INSERT INTO tally(campaign_id, state, n) VALUES (?, ?, ?)
    ON CONFLICT(campaign_id, state) DO UPDATE SET n = n + excluded.n"""


class Marks(NamedTuple):
    """The place of each participant."""

    places: tuple[Any, ...]


class Transaction:
    """The open transaction of the store's only connection, and what requests use in it.

    One object serves all transactions, one after the other.

    Attributes
    ----------
    execute, executemany
        Those of the connection.
    store_path
        The path of the store's file.
    caches, limits, leases, changes, wakeups, activity, running_output, value_files, overview
        What is kept in memory, undone and committed together with the file.
    """

    def __init__(
        self, connection: sqlite3.Connection, clock: Clock, lease_s: float, seq: int, prove: Callable[[], None]
    ) -> None:
        self.execute = connection.execute
        self.executemany = connection.executemany
        self.clock = clock
        self._connection = connection
        self._prove = prove
        self._writes = False
        self._synced: bool | None = None
        self._tally: defaultdict[tuple[int, int], int] = defaultdict(int)
        self.caches = Caches(connection)
        self.limits = Limits(connection, self.caches.resources)
        self.wakeups = Wakeups()
        self.leases = Leases(clock, lease_s, self.wakeups)
        self.changes = ChangeFeed(seq)
        self.activity = Activity(clock)
        self.running_output = RunningOutput()
        self.store_path: str = connection.execute(_STORE_PATH).fetchone()[0]
        self.value_files = ValueFiles(self.store_path)
        self.overview = LastOverview(seq)
        self._participants: tuple[Participant[Any], ...] = (
            self.caches, self.limits, self.leases, self.changes, self.wakeups, self.activity, self.running_output,
            self.value_files, self.overview,
        )  # fmt: skip
        self._start = self._marks()
        self._recall()

    def _recall(self) -> None:
        """Take into memory what was going on when the server began, which nobody will report again."""
        for pilot, busy, cores in self.execute(_PILOTS_AT_WORK):
            self.leases.renew(PilotId(pilot))
            self.activity.level(pilot, busy, cores)
        for (campaign,) in self.execute(_RUNNING_CAMPAIGNS):
            self.activity.campaign_runs(campaign)
        for participant in self._participants:
            participant.commit()

    # -- begin and end -----------------------------------------------------------------------------------------------

    def begin(self, *, writes: bool = True, durable: bool = False) -> None:
        """Begin a transaction.

        Parameters
        ----------
        writes
            It may change the file.
        durable
            What it changes must survive a power loss as soon as it is committed.
        """
        if writes and durable is not self._synced:
            self.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._synced = durable
        self._writes = writes
        self._start = self._marks()
        self.execute("BEGIN IMMEDIATE" if writes else "BEGIN")

    def commit(self) -> None:
        """Commit, if this process may still write the file."""
        self.settle()
        if self._writes:
            self._prove()
        self.execute("COMMIT")
        for participant in self._participants:
            participant.commit()

    def roll_back(self) -> None:
        """Undo the transaction."""
        if self._connection.in_transaction:  # SQLite may have done it itself
            self.execute("ROLLBACK")
        self._rewind(self._start)

    def mark(self) -> Marks:
        """Begin a part that can be undone by itself."""
        marks = self._marks()
        self.execute("SAVEPOINT request")
        return marks

    def keep(self) -> None:
        """End the part that `mark` began."""
        self.execute("RELEASE request")

    def rewind(self, marks: Marks) -> None:
        """Undo the part that `mark` began."""
        self.execute("ROLLBACK TO request")
        self.execute("RELEASE request")
        self._rewind(marks)

    def _marks(self) -> Marks:
        return Marks(tuple([participant.mark() for participant in self._participants]))

    def _rewind(self, marks: Marks) -> None:
        self._tally.clear()
        for participant, place in zip(self._participants, marks.places, strict=True):
            participant.rewind(place)

    def may_start(self, campaign: int) -> float:
        """Return how many more tasks of a campaign may be held by pilots; less than 0 if too many are."""
        most = self.caches.max_running.get(campaign)
        if most is None:
            return math.inf
        self.settle()
        (held,) = self.execute(_COUNT_HELD, (campaign,)).fetchone()
        return most - int(held)

    def insert(self, into: str, rows: Sequence[Sequence[object]]) -> None:
        """Insert rows, many by each statement: Python lets go of its lock, and takes it again, for every one.

        `into` is like ``INSERT INTO attempt VALUES``.
        """
        rest = len(rows) % _TOGETHER
        if len(rows) > rest:
            many = f"{into} {', '.join([_places(rows[0])] * _TOGETHER)}"
            for at in range(0, len(rows) - rest, _TOGETHER):
                self.execute(many, list(chain.from_iterable(rows[at : at + _TOGETHER])))
        if rest:
            self.executemany(f"{into} {_places(rows[0])}", rows[-rest:])

    # -- tasks -------------------------------------------------------------------------------------------------------

    def move_tasks(self, campaign: int, old: int, new: int, attempts: Sequence[int]) -> None:
        """Note that tasks of a campaign go from one state to another; each is named by the id of its attempt.

        Raises
        ------
        InvalidTransition
            If they may not go there.
        """
        if (old, new) not in TASK_TRANSITIONS:
            check_task(TASK_STATES[old], TASK_STATES[new])
        self._tally[campaign, old] -= len(attempts)
        if old not in TASK_HELD and new in TASK_HELD:
            self.limits.take(attempts)
        elif (old in TASK_HELD and new not in TASK_HELD) and (
            self.limits.give_back(attempts) or campaign in self.caches.max_running
        ):
            self.wakeups.tasks_ready()
        if new in (_DONE, _FAILED):
            self.activity.tasks_ended(campaign, len(attempts), len(attempts) if new == _FAILED else 0)
        self.enter_tasks(campaign, new, attempts)

    def move_task(self, task: int, attempt: int, campaign: int, old: int, new: int) -> None:
        """Note that one task goes from one state to another; `InvalidTransition` as `move_tasks` raises it."""
        self.move_tasks(campaign, old, new, (attempt_id(task, attempt),))

    def enter_tasks(self, campaign: int, state: int, attempts: Sequence[int]) -> None:
        """Note new tasks of a campaign; each is named by the id of its attempt 0."""
        self._tally[campaign, state] += len(attempts)
        self.changes.add(campaign, TASK_STATES[state], attempts)
        self.wakeups.changed()
        if state == _READY:
            self.wakeups.tasks_ready()

    def remove_tasks(self, campaign: int, state: int, n: int) -> None:
        """Note that tasks of a campaign in a state are deleted."""
        self._tally[campaign, state] -= n
        self.wakeups.changed()

    def settle(self) -> None:
        """Write how many tasks there are in each state now."""
        if self._tally:
            counts = [(campaign, state, n) for (campaign, state), n in self._tally.items()]
            self._tally.clear()
            self.executemany(_COUNT_TASKS, counts)


def _places(row: Sequence[object]) -> str:
    return f"({', '.join('?' * len(row))})"
