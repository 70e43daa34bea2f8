"""What the agent is to tell the store: results and starts, in batches, kept until they are acknowledged."""

import math
import time
from collections.abc import Callable
from functools import partial

from pilotmtc.agent.spool import Segment, Spool
from pilotmtc.model import PilotId, Result, TaskId
from pilotmtc.protocol.agent import Finish, Started

# A commit costs the store as much as 50 results. So one that comes alone is sent at once, and where many come they
# wait for each other; nobody waits for those then. If the pilot has more to do than it has room for, nobody would be
# given work sooner either: then they wait for longer.
QUIET = 200.0  # results a second, and below that none waits; for longer: from here on they wait for all of `LONG_S`
BUSY = 1000.0  # from here on they wait for ...
RESULTS_S = 0.02
LONG_S = 0.06  # ... or, when so many have come within that time:
LONG_RESULTS = 24
RESULTS_MAX = 512
RATE_WINDOW_S = 0.2
RESULTS_BYTES = 128 << 10  # of output: small batches are acknowledged even over a slow and brittle link
STARTS_S = 0.2
OWED_MAX_BYTES = 2 << 30  # of large values that the store does not have, and nothing new is started
SETTLED_S = 0.1  # younger starts wait for the next message: most of these tasks will be over by then

Send = Callable[[Finish | Started, Segment | None], None]
Bring = Callable[[Result, Callable[[Result], None]], None]


class Outbox:
    """Collects results and starts and sends them when it is time.

    Parameters
    ----------
    pilot
        The pilot that they belong to.
    spool
        Where results are written before they are sent.
    send
        Sends a request; when the store has it, `acked` is called with the segment.
    bring
        Brings the large value of a result to the store, and then calls with the result, or one that is to be sent
        instead.

    Attributes
    ----------
    patient
        The pilot has more to do than it has room for.
    """

    def __init__(self, pilot: PilotId, spool: Spool, send: Send, bring: Bring) -> None:
        self._pilot = pilot
        self._spool = spool
        self._send = send
        self._bring = bring
        self._late = 0  # results that wait for their values to be in the store
        self._late_bytes = 0  # of those values
        self._early: list[Segment] = []  # where results are that are to be sent now, and written once more
        self._results: list[Result] = []
        self._bytes = 0
        self._results_since = 0.0
        self._results_due = 0.0
        self._rate = 0.0  # results a second, when the last ones were sent
        self._sent_at = -math.inf
        self._starts: dict[TaskId, tuple[int, float, str, str]] = {}
        self._starts_due = 0.0
        self.unacked = 0
        self.patient = False

    def be_patient(self, patient: bool, now: float) -> None:
        """Take note of whether the pilot has more to do than it has room for."""
        if patient is not self.patient:
            self.patient = patient
            if self._results and not patient:
                self._results_due = min(self._results_due, self._results_since + self._wait_s(now))

    def started(self, task: TaskId, attempt: int, node: str, slot: str, now: float) -> None:
        """Note that an attempt runs, and where."""
        if not self._starts:
            self._starts_due = now + STARTS_S
        self._starts[task] = (attempt, now, node, slot)

    def ended(self, result: Result, now: float) -> None:
        """Note how an attempt ended."""
        self._starts.pop(result.task, None)  # it has ended before its start was sent, which is no news any more
        value = result.value
        if value is not None and value.digest:
            segment = self._spool.write([result])
            self._late += 1
            self._late_bytes += value.size
            self._bring(result, partial(self._brought, segment, value.size))
            return
        self._collect(result, now)

    def _brought(self, segment: Segment, size: int, result: Result) -> None:
        self._late -= 1
        self._late_bytes -= size
        self._early.append(segment)
        self._collect(result, time.monotonic())

    def _collect(self, result: Result, now: float) -> None:
        results = self._results
        if not results:
            self._results_since = now
            self._results_due = now + self._wait_s(now)
        results.append(result)
        self._bytes += len(result.stdout) + len(result.stderr)
        if result.value is not None:
            self._bytes += len(result.value.data)
        if len(results) == LONG_RESULTS:
            self._results_due = max(self._results_due, self._results_since + LONG_S)
        if len(results) >= RESULTS_MAX or self._bytes >= RESULTS_BYTES:
            self.flush(now)

    def _wait_s(self, now: float) -> float:
        """Return how long a result waits: while others are under way until these have come, so that more come along."""
        return max(RESULTS_S if self.unacked else 0.0, self._pause_s(now))

    def _pause_s(self, now: float) -> float:
        """Return how long a result waits for others."""
        rate = self._rate * math.exp((self._sent_at - now) / RATE_WINDOW_S)
        if self.patient:
            return LONG_S * min(rate / QUIET, 1.0)
        return RESULTS_S * min(max((rate - QUIET) / (BUSY - QUIET), 0.0), 1.0)

    def due(self, otherwise: float) -> float:
        """Return when `poll` wants to be called, `otherwise` if that is earlier."""
        if self._results and self._results_due < otherwise:
            otherwise = self._results_due
        if self._starts and self._starts_due < otherwise:
            otherwise = self._starts_due
        return otherwise

    def hurry(self, now: float) -> None:
        """Send results that are due, ahead of what comes next: somebody may wait for them."""
        if self._results and now >= self._results_due:
            self.flush(now)

    def poll(self, now: float) -> None:
        """Send what is due."""
        self._spool.poll(now)
        # A little early is better than to wake once more.
        if self._results and now - self._results_since >= 0.75 * (self._results_due - self._results_since):
            self.flush(now)
        if self._starts and now >= self._starts_due:
            self._send_starts(now)

    def _send_starts(self, now: float) -> None:
        to_clock = time.time() - now
        settled = tuple(
            (task, attempt, began + to_clock, node, slot)
            for task, (attempt, began, node, slot) in self._starts.items()
            if began <= now - SETTLED_S
        )
        for task, *_ in settled:
            del self._starts[task]
        if self._starts:
            self._starts_due = STARTS_S + min(began for _, began, _, _ in self._starts.values())
        if settled:
            self._send(Started(self._pilot, settled), None)

    def flush(self, now: float) -> None:
        """Send all results now."""
        if not self._results:
            return
        since_s = max(now - self._sent_at, 0.001)
        share = -math.expm1(-since_s / RATE_WINDOW_S)
        self._rate += (len(self._results) / since_s - self._rate) * share
        self._sent_at = now
        results, self._results, self._bytes = self._results, [], 0
        segment = self._spool.write(results)
        for early in self._early:
            self._spool.acked(early)
        self._early.clear()
        self.unacked += 1
        self._send(Finish(self._pilot, tuple(results)), segment)

    def acked(self, segment: Segment, now: float) -> None:
        """Forget a batch of results: the store has it."""
        self.unacked -= 1
        self._spool.acked(segment)
        if not self.unacked and 0 < len(self._results) < LONG_RESULTS:
            self._results_due = min(self._results_due, self._results_since + self._pause_s(now))

    @property
    def full(self) -> bool:
        """Whether the store must take some results before more tasks are started."""
        return self._spool.full or self._late_bytes > OWED_MAX_BYTES

    @property
    def empty(self) -> bool:
        """Whether the store has all results."""
        return not self._results and not self.unacked and not self._late

    @property
    def safe(self) -> bool:
        """Whether all results that the store does not have are on the disk."""
        return self._spool.complete

    def close(self) -> None:
        """Close the spool."""
        self._spool.close()
