"""What a task writes, while it runs."""

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from msgspec import Struct

from pilotmtc.session.results import output_blocks
from pilotmtc.states import TASK_FINAL
from pilotmtc.wire.tail import Written

if TYPE_CHECKING:
    from pilotmtc.session.api import Session

_HELD_S = 20.0
_PAUSE_S = 0.5  # between two looks at a task that runs
_LONG_PAUSE_S = 1.0  # at one that does not yet


class Piece(Struct, frozen=True):
    """Something that an attempt has written to ``stdout`` or ``stderr``.

    `left_out`: so many bytes before it were written faster than they could be told.
    """

    attempt: int
    stream: str
    data: bytes
    left_out: int = 0


def follow_output(session: "Session", task: int) -> Iterator[Piece]:
    """Yield what a task writes until it is over, from what it has written so far on.

    Raises
    ------
    UsageError
        If there is no such task, or it ends without ever having run.
    """
    attempt, shown, since = 0, {"stdout": 0, "stderr": 0}, 0.0
    over = 0  # the last that was shown to its end
    while True:
        tail = session.tail(task, since=since, wait_s=_HELD_S)
        if attempt and tail.attempt != attempt:
            yield from _rest(session, task, attempt, shown)
            over, attempt = attempt, 0
        if tail.attempt:
            if tail.attempt != attempt:
                attempt, shown, since = tail.attempt, {"stdout": 0, "stderr": 0}, 0.0
            if tail.written is not None and tail.at != since:
                yield from _fresh(tail.written, shown)
            since = tail.at
            time.sleep(_PAUSE_S)
            continue
        found = session.task(task).task
        if found is not None and found.state in TASK_FINAL:
            if not over or found.attempt != over:
                yield from _rest(session, task, 0, {"stdout": 0, "stderr": 0})
            return
        time.sleep(_LONG_PAUSE_S)


def _fresh(written: Written, shown: dict[str, int]) -> Iterator[Piece]:
    for stream, data, size in (
        ("stdout", written.stdout, written.stdout_bytes),
        ("stderr", written.stderr, written.stderr_bytes),
    ):
        fresh = size - shown[stream]
        if fresh > 0:
            shown[stream] = size
            yield Piece(written.attempt, stream, data[-fresh:], max(fresh - len(data), 0))


def _rest(session: "Session", task: int, attempt: int, shown: dict[str, int]) -> Iterator[Piece]:
    """Yield what is not shown yet of an attempt that has ended; 0 is the last."""
    found = session.output(task, attempt, whole=False)
    for stream, kept, path, size in (
        ("stdout", found.stdout, found.stdout_path, found.stdout_bytes),
        ("stderr", found.stderr, found.stderr_path, found.stderr_bytes),
    ):
        if path is None and size != len(kept):  # the middle is lost
            yield Piece(found.attempt, stream, kept[-(size - shown[stream]) :] if size > shown[stream] else b"")
            continue
        for block in _after(output_blocks(kept, path, size), shown[stream]):
            yield Piece(found.attempt, stream, block)


def _after(blocks: Iterable[bytes], shown: int) -> Iterator[bytes]:
    for block in blocks:
        if len(block) > shown:
            yield block[shown:]
        shown = max(shown - len(block), 0)
