"""What ``pilotmtc map`` does while calls are made: it prints their ends, and obeys Ctrl-C."""

import concurrent.futures
import contextlib
import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pilotmtc.cli.command import (
    EXIT_BROKEN_PIPE,
    EXIT_INTERRUPTED,
    EXIT_TASKS_FAILED,
    EXIT_TERMINATED,
    hint,
)
from pilotmtc.cli.interrupts import Stops
from pilotmtc.cli.output import streams
from pilotmtc.cli.output.values import as_json
from pilotmtc.errors import PilotMTCError, TaskFailed, UsageError
from pilotmtc.text.campaigns import known_words
from pilotmtc.text.numbers import count
from pilotmtc.text.plain import plain
from pilotmtc.text.progress import Progress, Tally
from pilotmtc.text.tables import paint
from pilotmtc.units import format_duration

if TYPE_CHECKING:
    from pilotmtc.executor import PilotExecutor, PilotFuture
    from pilotmtc.executor.rows import RowCall, RowCalls
    from pilotmtc.session import Session

_FAILURES_SHOWN = 5
_ERROR_LINES = 5
_LOOK_S = 0.1


class MapPrinter:
    """Prints what calls return as they end, or in their order."""

    def __init__(
        self, session: "Session", pool: "PilotExecutor", calls: "RowCalls", progress: Progress, *, again: str,
        quiet: bool, keep: bool,
    ) -> None:  # fmt: skip
        self.records: list[dict[str, Any]] = []
        self._session = session
        self._pool = pool
        self._calls = calls
        self._progress = progress
        self._again = again
        self._quiet = quiet
        self._keep = keep
        self._asked = 0  # 1: drain, 2: cancel
        self._obeyed = 0
        self._stops = Stops(self._drain, self._cancel)
        self._broken = False
        self._counts = {"DONE": 0, "FAILED": 0, "CANCELED": 0}
        self._began = self._shown_at = time.monotonic()

    def _drain(self) -> None:
        self._asked = max(self._asked, 1)

    def _cancel(self) -> None:
        self._asked = 2

    def run(self) -> int:
        """Have the calls made, and return the exit code."""
        try:
            with self._stops.handled():
                self._calls.start()
                while not self._calls.finished:
                    self._obey()
                    ended = self._calls.take(_LOOK_S)
                    if ended is not None:
                        self._end(*ended)
                    self._show(idle=ended is None)
        except KeyboardInterrupt:
            self._leave_at_once()
        except BaseException:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._cancel_calls()
            raise
        self._progress.hide()
        self._pool.shutdown()
        return self._conclude()

    def _leave_at_once(self) -> None:
        """End this process without waiting for what the pool still does, as the third Ctrl-C asks."""
        self._progress.hide()
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os._exit(EXIT_INTERRUPTED)

    def _obey(self) -> None:
        if news := self._stops.news():  # not in the handler, which may interrupt drawing
            self._tell(news)
        if self._asked > self._obeyed:
            self._obeyed = self._asked
            self._calls.drain()
            self._cancel_calls(None if self._asked > 1 else ("waiting", "ready", "claimed"))

    def _cancel_calls(self, states: tuple[str, ...] | None = None) -> None:
        """Cancel the calls that the store has, of which it alone knows which ones run."""
        if self._pool.campaign is not None:
            self._session.cancel(campaign=self._pool.campaign, states=states)

    def _end(self, call: "RowCall", future: "PilotFuture[Any]") -> None:
        if future.cancelled():
            return
        error = future.exception()
        if isinstance(error, concurrent.futures.BrokenExecutor):
            raise error.__cause__ if isinstance(error.__cause__, PilotMTCError) else TaskFailed(str(error))
        if self._asked and isinstance(error, TaskFailed) and error.cause == "CANCELED":
            return
        record: dict[str, Any] = {"id": future.task_id, "params": call.params}
        if error is None:
            self._counts["DONE"] += 1
            value = future.result()
            said = as_json(value)
            kept, line = {"value": value}, {"value": said} if said is not None else {"repr": _json(_repr(value))}
        else:
            self._counts["FAILED"] += 1
            kept, line = {"error": error}, {"error": _json(_words(error))}
        if self._keep:
            self.records.append(record | kept)
        self._put(record, line)
        if error is not None:
            self._tell_failure(future, error)

    def _put(self, record: dict[str, Any], more: dict[str, bytes]) -> None:
        ((name, said),) = more.items()
        line = b'{"id":%d,"params":%b,"%b":%b}\n' % (record["id"] or 0, _json(record["params"]), name.encode(), said)
        self._progress.hide()
        self._write(lambda: streams.put_bytes((line,)))

    def _tell_failure(self, future: "PilotFuture[Any]", error: BaseException) -> None:
        failures = self._counts["FAILED"]
        if failures == _FAILURES_SHOWN + 1:
            select = f"tasks --campaign {self._pool.campaign} --state failed"
            self._tell(f"more failures are not shown; to see them all: {hint(select)}")
        if failures > _FAILURES_SHOWN:
            return
        if isinstance(error, TaskFailed):
            said, *lines = str(error).removeprefix(f"{future.call} (task {future.task_id})").lstrip(": ").splitlines()
        else:  # the last line of the traceback is what the error says
            said = _words(error).splitlines()[0]
            lines = str(error.__cause__ or "").strip('"\n').splitlines()[1:-1]
        head = f"task {future.task_id} ({plain(future.call)}) FAILED: {plain(said)}"
        self._tell(
            paint(head, "red", on=streams.has_colour(sys.stderr)),
            *[f"    {plain(line)}" for line in lines[-_ERROR_LINES:]],
            f"    more: {hint(f'logs {future.task_id}')}",
        )

    def _write(self, do: Callable[[], None]) -> None:
        try:
            do()
        except BrokenPipeError:  # the reader has gone: stop as after a Ctrl-C
            streams.silence()
            self._broken = True
            self._drain()

    def _tell(self, *lines: str) -> None:
        self._progress.hide()
        for line in lines:
            streams.tell(line)

    def _show(self, *, idle: bool) -> None:
        now = time.monotonic()
        if idle or now - self._shown_at >= _LOOK_S or self._calls.finished:
            self._shown_at = now
            self._write(sys.stdout.flush)
            self._progress.show(self._campaign())

    def _campaign(self) -> Any:
        from pilotmtc.model import Campaign, CampaignId
        from pilotmtc.states import TaskState

        counts = {TaskState[name]: n for name, n in self._counts.items() if n}
        number = self._pool.campaign or CampaignId(0)
        return Campaign(number, "", "", 0.0, self._calls.sent, self._calls.all_sent, counts)

    def _conclude(self) -> int:
        if not self._calls.sent:
            if self._asked:
                streams.tell("pilotmtc: interrupted before there was a call")
                return EXIT_TERMINATED if self._stops.terminated else EXIT_INTERRUPTED
            raise UsageError("there are no calls: the source of parameters is empty")
        tally = Tally(self._campaign())
        took = format_duration(time.monotonic() - self._began)
        colour = "red" if tally.bad or self._asked else "green"
        begin = paint(f"campaign {self._pool.campaign}", colour, on=streams.has_colour(sys.stderr))
        if self._asked and not tally.complete:
            streams.tell(f"{begin}: interrupted after {took}: {tally.words(left=True)}")
            streams.tell(f"to go on{self._again}")
            if self._broken:
                return EXIT_BROKEN_PIPE
            return EXIT_TERMINATED if self._stops.terminated else EXIT_INTERRUPTED
        if not self._quiet or tally.bad:
            streams.tell(f"{begin}: {tally.words()} in {took}")
        if not self._quiet and self._pool.campaign is not None:
            campaign = self._session.campaign(self._pool.campaign)
            if campaign.known:
                streams.tell(known_words(campaign))
        if tally.failed:
            streams.tell(f"to make {count(tally.failed, 'failed call')} again{self._again}")
        if self._broken:
            return EXIT_BROKEN_PIPE
        return EXIT_TASKS_FAILED if tally.bad else 0


def _json(value: object) -> bytes:
    """Return as JSON what JSON can say."""
    said = as_json(value)
    return said if said is not None else _json(repr(value).encode("ascii", "backslashreplace").decode())


def _repr(value: object) -> str:
    try:
        return repr(value)
    except Exception as error:  # noqa: BLE001 -- a user's class may raise anything
        return f"<{type(value).__name__}, whose repr raises {type(error).__name__}>"


def _words(error: BaseException) -> str:
    """Return what an error says in one text, as ``ValueError: bad x``."""
    if isinstance(error, PilotMTCError):
        return str(error)
    import traceback

    return "".join(traceback.format_exception_only(error)).strip()
