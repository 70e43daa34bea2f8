"""Results of tasks: a stream with one record per task."""

import codecs
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct

from pilotmtc.campaign.outputs import is_device
from pilotmtc.errors import StoreError, UsageError
from pilotmtc.model import CampaignId, Task, TaskId
from pilotmtc.protocol.client.tasks import GetOutput, Output
from pilotmtc.protocol.records import Filter
from pilotmtc.session.link import StoreLink
from pilotmtc.session.look.pages import pages
from pilotmtc.session.look.printed import LARGEST_BYTES, Printed, printed
from pilotmtc.states import TASK_FINAL, Cause, TaskState

_BLOCK_BYTES = 1 << 20
_LAST_BYTES = 4096
_OUTPUTS = 64  # requested at once; each is at most 128 KiB


class TaskResult(Struct, frozen=True):
    """The result of a task.

    Attributes
    ----------
    id, campaign, name, tags, params, state
        The task's.
    attempt, exit_code, signal, cause, message, node, started_at, elapsed_s, cpu_s, memory_bytes
        Its last attempt's, as in `pilotmtc.model.Attempt`; None or zero if it has none, for example if it was SKIPPED.
    stdout, stderr
        Its output, if requested: all of it, or head and tail if it was too large for the store.
    stdout_bytes, stderr_bytes
        The size of its output.
    stdout_path, stderr_path
        The file with the whole output, if it was too large for the store or if the task writes to a file.
    function
        Of a call, the name of the function; empty for a command.
    value_text
        What a call returned or raised, as a text.
    version, revision, known_from
        The last attempt's, as in `pilotmtc.model.Attempt`: what it ran; and the task whose result this is, if it was
        known.
    """

    id: TaskId
    campaign: CampaignId
    name: str | None
    tags: tuple[str, ...]
    params: dict[str, str]
    state: TaskState
    attempt: int = 0
    exit_code: int | None = None
    signal: int | None = None
    cause: Cause | None = None
    message: str | None = None
    node: str = ""
    started_at: float | None = None
    elapsed_s: float = 0.0
    cpu_s: float = 0.0
    memory_bytes: int = 0
    stdout: bytes = b""
    stderr: bytes = b""
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    stdout_path: str | None = None
    stderr_path: str | None = None
    function: str = ""
    value_text: str = ""
    version: int = 0
    revision: str = ""
    known_from: int = 0
    _returned: "_Returned | None" = None

    @property
    def value(self) -> Any:
        """What a call of a function returned; it is loaded now, from a store of the user's own only.

        Raises
        ------
        Exception
            What the call raised, or `TaskFailed` if it ended in another way.
        UsageError
            If it is a command.
        ConfigError
            If the store is somebody else's.
        """
        if self._returned is None:
            what = "was not found by session.results()" if self.function else "is a command: see its stdout"
            raise UsageError(f"task {self.id} has no value here, because it {what}")
        return self._returned.get()

    @property
    def ok(self) -> bool:
        """Whether it is DONE."""
        return self.state is TaskState.DONE

    @property
    def text(self) -> str:
        """Its stdout as text, with \ufffd for what is not UTF-8."""
        return self.stdout.decode("utf-8", "replace")

    @property
    def json(self) -> dict[str, Any]:
        """The JSON objects that it printed, one a line, as one mapping: a later line goes before an earlier one.

        Raises
        ------
        UsageError
            If a line of its stdout is no JSON object.
        """
        has = printed_by(self)
        if has.error:
            raise UsageError(f"stdout of task {self.id}: {has.error}")
        return {key: msgspec.json.decode(value) for key, value in has.values.items()}

    @property
    def error_text(self) -> str:
        """The same of stderr."""
        return self.stderr.decode("utf-8", "replace")


Load: TypeAlias = Callable[[TaskId, str, Sequence[TaskId]], Any]  # a task, its call as people see it, and others near


class _Returned:
    """What a call has returned, which is loaded when it is asked for, and once."""

    __slots__ = ("_call", "_load", "_near", "_task", "_value")

    def __init__(self, load: Load, task: Task, near: Sequence[TaskId]) -> None:
        self._load: Load | None = load
        self._task = task.id
        self._call = f"{task.function}({', '.join(task.params.values())})"
        self._near = near
        self._value: Any = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Returned) and other._task == self._task

    def __hash__(self) -> int:
        return hash(self._task)

    def __repr__(self) -> str:
        return f"<what {self._call} returned>"

    def get(self) -> Any:
        """Return it, or raise what the call has raised."""
        if self._load is not None:
            self._value = self._load(self._task, self._call, self._near)
            self._load = None
        return self._value


def results(
    link: StoreLink, select: Filter, *, outputs: bool = True, whole: bool = False, newest: bool = False,
    load: Load | None = None,
) -> Iterator[TaskResult]:  # fmt: skip
    """Yield the results of the selected tasks that have finished; `load` loads what calls have returned."""
    states = TASK_FINAL if select.states is None else TASK_FINAL.intersection(select.states)
    if not states:
        return
    finished = msgspec.structs.replace(select, states=tuple(states))
    for page in pages(link, finished, newest=newest):
        yield from with_outputs(link, page, outputs=outputs, whole=whole, load=load)


def with_outputs(
    link: StoreLink, tasks: Iterable[Task], *, outputs: bool = True, whole: bool = False, load: Load | None = None
) -> Iterator[TaskResult]:
    """Yield the result of each task; outputs are fetched many at a time."""
    them = iter(tasks)
    while some := tuple(itertools.islice(them, _OUTPUTS)):
        wanted = [task for task in some if outputs and task.last and (task.last.stdout_bytes or task.last.stderr_bytes)]
        found = dict(
            zip(
                [task.id for task in wanted],
                link.call_many([GetOutput(task.id, task.last.attempt if task.last else 0) for task in wanted]),
                strict=True,
            )
        )
        calls = [task.id for task in some if task.function]
        for task in some:
            returned = _Returned(load, task, calls) if task.function and load is not None else None
            yield _result(task, found.get(task.id), returned, whole=whole)


def _result(task: Task, output: Output | None, returned: _Returned | None, *, whole: bool) -> TaskResult:
    last = task.last
    if last is None:
        return TaskResult(
            task.id, task.campaign, task.name, task.tags, task.params, task.state, function=task.function,
            _returned=returned,
        )  # fmt: skip
    return TaskResult(
        id=task.id,
        campaign=task.campaign,
        name=task.name,
        tags=task.tags,
        params=task.params,
        state=task.state,
        attempt=last.attempt,
        exit_code=last.exit_code,
        signal=last.signal,
        cause=last.cause,
        message=last.message,
        node=last.node,
        started_at=last.started_at or None,
        elapsed_s=last.elapsed_s,
        cpu_s=last.cpu_s,
        memory_bytes=last.memory_bytes,
        stdout=_kept(output.stdout, output.stdout_path, output.stdout_bytes, whole=whole) if output else b"",
        stderr=_kept(output.stderr, output.stderr_path, output.stderr_bytes, whole=whole) if output else b"",
        stdout_bytes=last.stdout_bytes,
        stderr_bytes=last.stderr_bytes,
        stdout_path=output.stdout_path if output else last.stdout_path,
        stderr_path=output.stderr_path if output else last.stderr_path,
        function=task.function,
        value_text=last.value_text,
        version=last.version,
        revision=last.revision,
        known_from=last.known_from,
        _returned=returned,
    )


def _kept(kept: bytes, path: str | None, size: int, *, whole: bool) -> bytes:
    return whole_output(kept, path, size) if whole else kept


def whole_output(kept: bytes, path: str | None, size: int) -> bytes:
    """Return the whole output; see `output_blocks`."""
    return b"".join(output_blocks(kept, path, size))


def output_blocks(
    kept: bytes, path: str | None, size: int, gone: Callable[[str], None] | None = None
) -> Iterator[bytes]:
    """Yield the whole output in blocks: `kept`, which the store has, or the file at `path`.

    The file is read up to its present end, because the reader may write to it. Devices and FIFOs yield nothing.

    Parameters
    ----------
    gone
        Called with a message if the file cannot be opened; then `kept` is yielded, its head and tail.

    Raises
    ------
    StoreError
        If the file cannot be read.
    """
    if path is None or len(kept) == size:
        yield kept
        return
    if is_device(path):
        return
    try:
        file = open(path, "rb")  # noqa: SIM115 -- closed below; what is read may fail in another way
    except OSError as error:
        left = "the store has its head and tail" if kept else "the store has nothing of it"
        text = f"{path}, which holds the whole output, cannot be read: {error.strerror}; {left}"
        if gone is None:
            raise StoreError(text) from error
        gone(text)
        yield kept
        return
    with file:
        try:
            to_read = os.fstat(file.fileno()).st_size
            while to_read > 0 and (block := file.read(min(_BLOCK_BYTES, to_read))):
                to_read -= len(block)
                yield block
        except OSError as error:
            raise StoreError(f"{path}, which holds the whole output, cannot be read: {error.strerror}") from error


def output_text(kept: bytes, path: str | None, size: int, gone: Callable[[str], None] | None = None) -> Iterator[str]:
    """Yield the output as text, with \ufffd for what is not UTF-8; see `output_blocks`."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for block in output_blocks(kept, path, size, gone):
        yield decoder.decode(block)
    yield decoder.decode(b"", final=True)


def printed_by(result: TaskResult, gone: Callable[[str], None] | None = None) -> Printed:
    """Return the JSON that a task has printed, from all of its stdout; see `output_blocks` for `gone`."""
    if result.stdout_bytes > LARGEST_BYTES:
        size = f"{result.stdout_bytes} bytes, more than the {LARGEST_BYTES} that are read as JSON"
        return Printed(error=f"stdout has {size}")
    if not result.stdout:
        return Printed()  # also of a file of the task's own
    return printed(b"".join(output_blocks(result.stdout, result.stdout_path, result.stdout_bytes, gone)))


def last_words(result: TaskResult) -> str:
    """Return the end of a task's stderr, also if it went to a file."""
    path = result.stderr_path
    if result.stderr or path is None or not result.stderr_bytes or is_device(path):
        return result.error_text
    try:
        with open(path, "rb") as file:
            file.seek(-min(_LAST_BYTES, os.fstat(file.fileno()).st_size), os.SEEK_END)
            return file.read(_LAST_BYTES).decode("utf-8", "replace")
    except OSError:  # it is on another machine or was moved; how the task ended is shown nevertheless
        return ""
