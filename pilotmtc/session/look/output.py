"""A task's output, while it runs and after it has ended."""

import time
from collections.abc import Iterable, Iterator

import msgspec
from msgspec import Struct

from pilotmtc.errors import UsageError
from pilotmtc.model import TaskId
from pilotmtc.protocol.client.tasks import GetOutput, GetTail, GetTask, Output, TaskDetail
from pilotmtc.protocol.records import OutputTail
from pilotmtc.session.link import StoreLink
from pilotmtc.session.look.results import output_blocks, whole_output
from pilotmtc.states import TASK_FINAL, TaskState

_HELD_S = 20.0
_PAUSE_S = 0.5  # between two requests about a running task
_LONG_PAUSE_S = 1.0  # the same, before it runs


class OutputPiece(Struct, frozen=True):
    """A piece of what an attempt has written to ``stdout`` or ``stderr``.

    `left_out`: the number of bytes before it that are missing, because they were written too fast.
    """

    attempt: int
    stream: str
    data: bytes
    left_out: int = 0


def get_task(link: StoreLink, task: TaskId) -> TaskDetail:
    """Return everything about a task.

    Raises
    ------
    UsageError
        If there is none of that number.
    """
    detail = link.call(GetTask(task))
    if detail.task is None:
        raise UsageError(f"there is no task {task} in {link.url}: see pilotmtc tasks")
    return detail


def get_output(link: StoreLink, task: TaskId, attempt: int, *, whole: bool) -> Output:
    """Return the output of a task's attempt (0: the last one), including the parts in files if requested.

    Raises
    ------
    UsageError
        If there is no such task or attempt.
    StoreError
        If a file cannot be read.
    """
    found = link.call(GetOutput(task, attempt))
    if not found.found:
        there = get_task(link, task).task
        if there is not None and there.state is TaskState.RUNNING and not attempt:
            raise UsageError(f"task {task} runs for the first time: see pilotmtc logs --follow {task}")
        which = f"attempt {attempt}" if attempt else "attempt that has ended"
        raise UsageError(f"task {task} has no {which}: see pilotmtc task {task}")
    if not whole:
        return found
    return msgspec.structs.replace(
        found,
        stdout=whole_output(found.stdout, found.stdout_path, found.stdout_bytes),
        stderr=whole_output(found.stderr, found.stderr_path, found.stderr_bytes),
    )


def follow_output(link: StoreLink, task: TaskId) -> Iterator[OutputPiece]:
    """Yield what a task has written so far, and then what it writes until it ends.

    Raises
    ------
    UsageError
        If there is no such task, or if it ends without having run.
    """
    attempt, shown, since = 0, {"stdout": 0, "stderr": 0}, 0.0
    over = 0  # the last attempt whose output was yielded completely
    while True:
        tail = link.call(GetTail(task, since, _HELD_S))
        if attempt and tail.attempt != attempt:
            yield from _rest(link, task, attempt, shown)
            over, attempt = attempt, 0
        if tail.attempt:
            if tail.attempt != attempt:
                attempt, shown, since = tail.attempt, {"stdout": 0, "stderr": 0}, 0.0
            if tail.written is not None and tail.at != since:
                yield from _fresh(tail.written, shown)
            since = tail.at
            time.sleep(_PAUSE_S)
            continue
        found = get_task(link, task).task
        if found is not None and found.state in TASK_FINAL:
            if not over or found.attempt != over:
                yield from _rest(link, task, 0, {"stdout": 0, "stderr": 0})
            return
        time.sleep(_LONG_PAUSE_S)


def _fresh(written: OutputTail, shown: dict[str, int]) -> Iterator[OutputPiece]:
    for stream, data, size in (
        ("stdout", written.stdout, written.stdout_bytes),
        ("stderr", written.stderr, written.stderr_bytes),
    ):
        fresh = size - shown[stream]
        if fresh > 0:
            shown[stream] = size
            yield OutputPiece(written.attempt, stream, data[-fresh:], max(fresh - len(data), 0))


def _rest(link: StoreLink, task: TaskId, attempt: int, shown: dict[str, int]) -> Iterator[OutputPiece]:
    """Yield the rest of the output of an attempt that has ended; 0: the last one."""
    found = get_output(link, task, attempt, whole=False)
    for stream, kept, path, size in (
        ("stdout", found.stdout, found.stdout_path, found.stdout_bytes),
        ("stderr", found.stderr, found.stderr_path, found.stderr_bytes),
    ):
        if path is None and size != len(kept):  # the store has head and tail only
            yield OutputPiece(found.attempt, stream, kept[-(size - shown[stream]) :] if size > shown[stream] else b"")
            continue
        for block in after(output_blocks(kept, path, size), shown[stream]):
            yield OutputPiece(found.attempt, stream, block)


def after(blocks: Iterable[bytes], shown: int) -> Iterator[bytes]:
    """Yield `blocks` without the first `shown` bytes."""
    for block in blocks:
        if len(block) > shown:
            yield block[shown:]
        shown = max(shown - len(block), 0)
