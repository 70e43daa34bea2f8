"""Brings the values that calls need from the store to this node, and large results to the store.

Requests go out without waiting, parts of several values by turns and some ahead of the answers. What the disk of this
node refuses is tried again for a while.
"""

import logging
import os
from collections import deque
from collections.abc import Callable, Iterable

from pilotmtc.agent.core import events as c
from pilotmtc.agent.value_files import ValueFiles, without_value
from pilotmtc.errors import PilotMTCError, UsageError
from pilotmtc.model import Call, Function, PilotId, Result, TaskId
from pilotmtc.protocol.agent import Batch
from pilotmtc.protocol.values import PART_BYTES, GetValue, PutValue, ValuePart, ValueStatus
from pilotmtc.states import Cause
from pilotmtc.system.digests import sha256

FIRST_BYTES = 64 << 10  # are asked for before it is known how large a value is, and whether there is a file to link
_UNDER_WAY_BYTES = 4 << 20  # each way: claims and results are not to wait for long behind that
_AGAIN_S = 2.0
_TRIES = 15
_NOTHING = Call()
_log = logging.getLogger("pilotmtc.agent")

Send = Callable[[GetValue | PutValue], None]
Brought = Callable[[Result], None]


class _Fetch:
    """A value on its way here.

    Attributes
    ----------
    at, asked
        So much has been written, and so much was asked for.
    early
        Parts that came before others that belong before them.
    size
        Below 0 before the first part has come.
    resting
        Whether it is to be tried again later: what comes until then is of the last try.
    """

    __slots__ = ("asked", "at", "digest", "early", "fd", "hash", "resting", "size", "tasks", "tries")

    def __init__(self, digest: str) -> None:
        self.digest = digest
        self.tasks: list[TaskId] = []
        self.tries = 0
        self.fd = -1
        self.resting = False
        self.restart()

    def restart(self) -> None:
        self.size = -1
        self.at = self.asked = 0
        self.early: dict[int, bytes] = {}
        self.hash = sha256()


class _Upload:
    """A result on its way to the store. `sent`: so much is under way or there, in so many parts `under_way`."""

    __slots__ = ("digest", "fd", "results", "sent", "size", "under_way")

    def __init__(self, digest: str, size: int) -> None:
        self.digest = digest
        self.size = size
        self.results: list[tuple[Result, Brought]] = []
        self.fd = -1
        self.sent = 0
        self.under_way = 0


class Values:
    """The values of a pilot's calls.

    Parameters
    ----------
    pilot
        The pilot.
    files
        Where the values are on this node.
    send
        Sends a request; its answer comes to `got`, `put` or `refused`.
    """

    def __init__(self, pilot: PilotId, files: ValueFiles, send: Send) -> None:
        self._pilot = pilot
        self._files = files
        self._send = send
        self._held: dict[TaskId, tuple[str, ...]] = {}  # what each call needs besides its function
        self._args: dict[TaskId, str] = {}  # what no other call needs
        self._waiting: dict[TaskId, set[str]] = {}  # what is not here yet
        self._functions: set[str] = set()  # they stay for as long as the pilot: each new worker needs them
        self._fetches: dict[str, _Fetch] = {}
        self._to_ask: deque[_Fetch] = deque()  # of which a part is to be asked for
        self._asked_bytes = 0
        self._again: deque[tuple[float, _Fetch]] = deque()
        self._uploads: dict[str, _Upload] = {}
        self._to_send: deque[_Upload] = deque()  # of which a part is to be sent
        self._sent_bytes = 0

    # -- what calls need --------------------------------------------------------------------------------------

    def want(self, batch: Batch) -> frozenset[TaskId]:
        """Hold what the calls of `batch` need, and fetch what is not here; return those that must wait for it."""
        lacking: list[TaskId] = []
        functions = {
            number: self._of_function(template.function)
            for number, template in batch.templates.items()
            if template.function is not None
        }
        for claimed in batch.tasks:
            code = functions.get(claimed.template)
            if code is None:
                continue
            call = claimed.call or _NOTHING
            needs = _needs(call)
            if needs:
                self._files.hold(needs)
                self._held[claimed.task] = needs
                if call.args.digest:
                    self._args[claimed.task] = call.args.digest
            missing = {digest for digest in (*code, *needs) if digest not in self._files}
            if missing:
                lacking.append(claimed.task)
                self._waiting[claimed.task] = missing
                for digest in missing:
                    self._fetch(digest).tasks.append(claimed.task)
        self._ask()
        return frozenset(lacking)

    def _of_function(self, function: Function) -> tuple[str, ...]:
        """Return the values of a function that are not here."""
        needs = [digest for digest in (function.code, function.setup) if digest]
        new = [digest for digest in needs if digest not in self._functions]
        self._files.hold(new)
        self._functions.update(new)
        return tuple([digest for digest in needs if digest not in self._files])

    def release(self, tasks: Iterable[TaskId]) -> None:
        """Let go what these tasks need, which are over or not here any more."""
        for task in tasks:
            self._waiting.pop(task, None)
            if (needs := self._held.pop(task, None)) is not None:
                self._files.release(needs)
                if (args := self._args.pop(task, None)) is not None:
                    self._files.drop(args)

    def keep_only(self, tasks: Iterable[TaskId]) -> None:
        """Let go what all other tasks need."""
        kept = set(tasks)
        self.release([task for task in (*self._held, *self._waiting) if task not in kept])

    # -- from the store ---------------------------------------------------------------------------------------

    def _fetch(self, digest: str) -> _Fetch:
        fetch = self._fetches.get(digest)
        if fetch is None:
            fetch = self._fetches[digest] = _Fetch(digest)
            self._to_ask.append(fetch)
        return fetch

    def _ask(self) -> None:
        while self._to_ask and self._asked_bytes < _UNDER_WAY_BYTES:
            fetch = self._to_ask.popleft()
            limit = FIRST_BYTES if fetch.size < 0 else PART_BYTES
            self._asked_bytes += limit
            self._send(GetValue(fetch.digest, fetch.asked, limit, self._pilot))
            fetch.asked += limit
            if fetch.asked < fetch.size:
                self._to_ask.append(fetch)

    def got(self, request: GetValue, part: ValuePart, now: float) -> list[c.Event]:
        """Take in a part of a value; return what the core has to know."""
        self._asked_bytes -= request.limit
        fetch = self._fetches.get(request.digest)
        events = [] if fetch is None or fetch.resting else self._take(fetch, request, part, now)
        self._ask()
        return events

    def refused(self, request: GetValue | PutValue, error: PilotMTCError, now: float) -> list[c.Event]:
        """Note that the store cannot do what it was asked; return what the core has to know."""
        if isinstance(request, PutValue):
            self._not_taken(request, error)
            return []
        self._asked_bytes -= request.limit
        fetch = self._fetches.get(request.digest)
        events: list[c.Event] = []
        if fetch is not None and not fetch.resting:
            events = self._failed(fetch, str(error), now, Cause.LAUNCH_ERROR, for_ever=isinstance(error, UsageError))
        self._ask()
        return events

    def _take(self, fetch: _Fetch, request: GetValue, part: ValuePart, now: float) -> list[c.Event]:
        if not part.found:
            text = f"the store does not have the value {fetch.digest}, which the call needs: submit the call anew"
            return self._missing(fetch, Cause.LAUNCH_ERROR, text)
        try:
            if fetch.size < 0:
                if request.offset:  # of an earlier try
                    return []
                fetch.size = part.size
                if part.path and self._files.link(fetch.digest, part.path, part.size):
                    return self._came(fetch)
                fetch.fd = self._files.begin(fetch.digest, part.size)
                if fetch.asked < fetch.size:
                    self._to_ask.append(fetch)
            if request.offset >= fetch.at:
                fetch.early[request.offset] = part.data
            while (data := fetch.early.pop(fetch.at, None)) is not None and fetch.at < fetch.size:
                if not data:
                    raise OSError(0, f"the store has sent only {fetch.at} of {fetch.size} bytes")
                fetch.hash.update(data)
                _write(fetch.fd, data, fetch.at)
                fetch.at += len(data)
            if fetch.at >= fetch.size:
                if fetch.hash.hexdigest() != fetch.digest:
                    raise OSError(0, "what came is not what its digest says")
                self._close(fetch)
                self._files.commit(fetch.digest, fetch.size)
                return self._came(fetch)
        except OSError as error:
            return self._failed(fetch, error.strerror or str(error), now, Cause.NODE_LOST)
        return []

    def _came(self, fetch: _Fetch) -> list[c.Event]:
        ready = []
        for task in fetch.tasks:
            missing = self._waiting.get(task)
            if missing is not None:
                missing.discard(fetch.digest)
                if not missing:
                    del self._waiting[task]
                    ready.append(task)
        self._over(fetch)
        return [c.ValuesCame(tuple(ready))] if ready else []

    def _missing(self, fetch: _Fetch, cause: Cause, message: str) -> list[c.Event]:
        tasks = tuple([task for task in fetch.tasks if task in self._waiting])
        self._over(fetch)
        return [c.ValuesMissing(tasks, cause, message)] if tasks else []

    def _failed(
        self, fetch: _Fetch, why: str, now: float, cause: Cause, *, for_ever: bool = False
    ) -> list[c.Event]:  # fmt: skip
        """Try again later what the disk of this node, or the store, does not do now."""
        if fetch.size >= 0:
            self._close(fetch)
            self._files.abandon(fetch.digest, fetch.size)
        if fetch in self._to_ask:
            self._to_ask.remove(fetch)
        fetch.restart()
        fetch.tries += 1
        if fetch.tries >= _TRIES or for_ever:
            return self._missing(fetch, cause, f"the value {fetch.digest}, which the call needs, cannot be had: {why}")
        if fetch.tries == 1:
            _log.warning("the value %s cannot be had: %s; again in %g s", fetch.digest, why, _AGAIN_S)
        fetch.resting = True
        self._again.append((now + _AGAIN_S, fetch))
        return []

    def _over(self, fetch: _Fetch) -> None:
        del self._fetches[fetch.digest]

    @staticmethod
    def _close(fetch: _Fetch) -> None:
        if fetch.fd >= 0:
            os.close(fetch.fd)
            fetch.fd = -1

    def poll(self, now: float) -> None:
        """Try again what is due."""
        while self._again and self._again[0][0] <= now:
            fetch = self._again.popleft()[1]
            fetch.resting = False
            self._to_ask.append(fetch)
        self._ask()

    # -- to the store -----------------------------------------------------------------------------------------

    def bring(self, result: Result, brought: Brought) -> None:
        """Bring the value of `result`, which a worker has left in its file, to the store; then call `brought`.

        That gets another result if there is no such value.
        """
        value = result.value
        assert value is not None
        self._files.adopt(value.digest, value.size)
        upload = self._uploads.get(value.digest)
        if upload is None:
            upload = self._uploads[value.digest] = _Upload(value.digest, value.size)
            self._files.hold((value.digest,))
            self._to_send.append(upload)
        upload.results.append((result, brought))
        self._send_parts()

    @property
    def owed(self) -> list[str]:
        """The values that the store does not have yet."""
        return list(self._uploads)

    def _send_parts(self) -> None:
        while self._to_send and self._sent_bytes < _UNDER_WAY_BYTES:
            upload = self._to_send.popleft()
            try:
                data = self._next_part(upload)
            except OSError as error:
                self._brought(upload, f"its result cannot be read: {error.strerror or error}")
                continue
            upload.under_way += 1
            self._sent_bytes += len(data)
            self._send(PutValue(upload.digest, upload.sent, upload.size, data, pilot=self._pilot))
            upload.sent += len(data)
            if data and upload.sent < upload.size:
                self._to_send.append(upload)

    def _next_part(self, upload: _Upload) -> bytes:
        """Return the part to send next; of a large value first nothing, since the store may have some of it."""
        if upload.fd < 0:
            upload.fd = os.open(self._files.path(upload.digest), os.O_RDONLY | os.O_CLOEXEC)
            if upload.size > PART_BYTES:
                return b""
        data = os.pread(upload.fd, min(PART_BYTES, upload.size - upload.sent), upload.sent)
        if not data and upload.size:
            raise OSError(0, f"its file has only {upload.sent} of {upload.size} bytes")
        return data

    def put(self, request: PutValue, status: ValueStatus) -> None:
        """Take in how much of a value the store has."""
        self._sent_bytes -= len(request.data)
        upload = self._uploads.get(request.digest)
        if upload is not None:
            upload.under_way -= 1
            if status.received >= upload.size:
                self._brought(upload)
            elif not upload.under_way and upload not in self._to_send:
                upload.sent = status.received
                self._to_send.append(upload)
        self._send_parts()

    def _not_taken(self, request: PutValue, error: PilotMTCError) -> None:
        self._sent_bytes -= len(request.data)
        upload = self._uploads.get(request.digest)
        if upload is not None:
            self._brought(upload, f"the store did not take its result: {error}")
        self._send_parts()

    def _brought(self, upload: _Upload, lost: str = "") -> None:
        """Pass on the results whose value is in the store, or lost for that reason."""
        del self._uploads[upload.digest]
        if upload in self._to_send:
            self._to_send.remove(upload)
        if upload.fd >= 0:
            os.close(upload.fd)
        self._files.release((upload.digest,))
        for result, brought in upload.results:
            brought(without_value(result, lost) if lost else result)

    def close(self) -> None:
        """Close what is open, and remove the values that are not owed to the store."""
        for fetch in self._fetches.values():
            self._close(fetch)
        for upload in self._uploads.values():
            if upload.fd >= 0:
                os.close(upload.fd)
                upload.fd = -1
        self._files.close(self._uploads)


def _needs(call: Call) -> tuple[str, ...]:
    """Return the values that a call needs besides its function."""
    given = [value.digest for value in call.given if value.digest]
    if not (call.args.digest or call.values or given):
        return ()
    return tuple(dict.fromkeys(([call.args.digest] if call.args.digest else []) + [*call.values, *given]))


def _write(fd: int, data: bytes, at: int) -> None:
    left = memoryview(data)
    while left:
        written = os.pwrite(fd, left, at)
        left, at = left[written:], at + written
