"""Following a pool's tasks, and fetching what they returned."""

import collections
import concurrent.futures
import logging
import queue
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pilotmtc.errors import SchemaMismatch, StoreError
from pilotmtc.executor.engine.endings import end
from pilotmtc.executor.engine.ledger import Ledger
from pilotmtc.executor.engine.values import Values
from pilotmtc.executor.future import PoolBroken
from pilotmtc.model import CampaignId, TaskId
from pilotmtc.protocol.base import R
from pilotmtc.protocol.client.tasks import MAX_RETURNED, GetReturned, Returned, ReturnedCall
from pilotmtc.protocol.client.watch import Changes, GetChanges
from pilotmtc.protocol.records import Filter
from pilotmtc.session.link import StoreLink
from pilotmtc.session.look.pages import pages
from pilotmtc.states import TASK_FINAL, TaskState

log = logging.getLogger(__name__)
_POLL_S = 60.0
_NEWS = (TaskState.RUNNING, *sorted(TASK_FINAL))  # states that futures know
_AHEAD = 2  # requests for results under way
_AGAIN_S = 1.0
_CROWD = 20  # more changes than that in one answer, and the next may wait until it holds more
_CROWD_PAUSE_S = 0.005
_TURN_S = 5e-5  # for those who wait for these results: they need the interpreter's lock


class Receiver:
    """Ends the futures of tasks that are over; `run` is for a thread of its own.

    Parameters
    ----------
    seq
        What has changed after this number is news.
    on_broken
        Told why the pool can call nothing at all.
    """

    def __init__(
        self, link: StoreLink, ledger: Ledger, values: Values, *, campaign: CampaignId, seq: int,
        on_broken: Callable[[BaseException], None],
    ) -> None:  # fmt: skip
        self._link = link
        self._ledger = ledger
        self._values = values
        self._campaign = campaign
        self._seq = seq
        self._on_broken = on_broken
        self._over: collections.deque[TaskId] = collections.deque()
        self._early: list[ReturnedCall] = []  # skipped for want of inputs whose own end has not come yet
        self._fetching = 0
        self._troubled = False
        self._events: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()

    def tell_over(self, tasks: Iterable[TaskId]) -> None:
        """Have the results of tasks fetched that are over; for any thread."""
        found = list(tasks)
        if found:
            self._events.put(lambda: self._over.extend(found))

    def stop(self) -> None:
        """Let `run` return; for any thread."""
        self._events.put(None)

    def run(self) -> None:
        """Follow until `stop`.

        Raises
        ------
        PilotMTCError
            If the store cannot be followed.
        """
        self._poll()
        while (event := self._next()) is not None:
            event()
            del event  # with the results that it holds
            while self._over and self._fetching < _AHEAD:
                self._fetch()

    def _next(self) -> Callable[[], None] | None:
        while True:
            try:
                return self._events.get(timeout=_POLL_S)
            except queue.Empty:
                continue

    def _poll(self) -> None:
        asked = self._link.send(GetChanges(self._seq, self._campaign, wait_s=_POLL_S, states=_NEWS, returned=True))
        asked.add_done_callback(lambda answer: self._events.put(lambda: self._take_changes(answer)))

    def _take_changes(self, answer: "concurrent.futures.Future[Changes]") -> None:
        at = time.monotonic()
        found = self._result(answer)
        if found is None:
            self._poll()
            return
        self._seq = found.seq
        over = self._ledger.moved(found.changes)
        if found.returned or self._early:
            self._end(found.returned)
        if found.returned:
            ended = {row.task for row in found.returned}
            over = [task for task in over if task not in ended]
        self._over.extend(over)
        if found.reset:
            self._begin_anew()
        if len(found.changes) > _CROWD:
            while self._over and self._fetching < _AHEAD:
                self._fetch()
            time.sleep(max(0.0, at + _CROWD_PAUSE_S - time.monotonic()))
        elif found.returned:
            time.sleep(_TURN_S)
        self._poll()

    def _result(self, answer: "concurrent.futures.Future[R]") -> R | None:
        """Return an answer; None after a pause if the store cannot give it now, as its disk may fail for a while."""
        try:
            found = answer.result()
        except SchemaMismatch:
            raise
        except StoreError as error:
            if not self._troubled:
                log.warning("results of campaign %d cannot be fetched: %s; trying again", self._campaign, error)
            self._troubled = True
            time.sleep(_AGAIN_S)
            return None
        self._troubled = False
        return found

    def _begin_anew(self) -> None:
        """Find out about all tasks: the server does not know what has changed."""
        mine = self._ledger.tasks()
        for page in pages(self._link, Filter(campaign=self._campaign, states=(TaskState.RUNNING,))):
            self._ledger.moved((task.id, task.state, task.attempt) for task in page)
        self._over.extend(mine)  # of which the store returns those that are over

    def _fetch(self) -> None:
        tasks = tuple([self._over.popleft() for _ in range(min(len(self._over), MAX_RETURNED))])
        self._fetching += 1
        asked = self._link.send(GetReturned(tasks))
        asked.add_done_callback(lambda answer: self._events.put(lambda: self._take_returned(tasks, answer)))

    def _take_returned(self, tasks: tuple[TaskId, ...], answer: "concurrent.futures.Future[Returned]") -> None:
        self._fetching -= 1
        found = self._result(answer)
        if found is None:
            self._over.extend(tasks)
            return
        self._over.extend(tasks[found.asked :])
        self._end(found.rows)

    def _end(self, rows: Sequence[ReturnedCall]) -> None:
        rows = [*self._early, *rows]
        self._early = [row for row in rows if row.state is TaskState.SKIPPED and self._ledger.lacks_reason(row.task)]
        if self._early:
            early = {row.task for row in self._early}
            rows = [row for row in rows if row.task not in early]
        futures = self._ledger.release([(row.task, row.state) for row in rows])
        broken: BaseException | None = None
        for future, row in zip(futures, rows, strict=True):
            if future is not None:
                end(future, row, self._values)
                error: Any = future.exception() if row.state is TaskState.FAILED else None
                broken = broken or (error if isinstance(error, PoolBroken) else None)  # the first: it has the output
        if broken is not None:
            self._on_broken(broken)
        if self._early and rows:
            self._end(())
