"""Records that requests and replies carry."""

from msgspec import Struct

from pilotmtc.model import CampaignId, PilotId, TaskId
from pilotmtc.states import Cause, TaskState


class Comparison(Struct, frozen=True, array_like=True):
    """A comparison that a task must pass.

    Attributes
    ----------
    what
        ``id``, ``priority`` or ``attempt``; ``elapsed_s`` (of a running task: until now), ``cpu_s`` or
        ``memory_bytes`` of the last attempt; or ``params.NAME``.
    op
        One of ``<  <=  =  !=  >=  >``.
    value
        A number; of a parameter also a text, in which ``*`` and ``?`` are wildcards.
    """

    what: str
    op: str
    value: float | str


class Filter(Struct, frozen=True, omit_defaults=True):
    """Which tasks: those that meet every condition; None is no condition.

    `ids` are task ids; `campaign` may be several, of which one must match; `names` may have ``*`` and ``?``; a task
    must have all `tags`; `causes` and `exit_codes` are those of the last attempt.
    """

    ids: tuple[TaskId, ...] | None = None
    campaign: CampaignId | tuple[CampaignId, ...] | None = None
    states: tuple[TaskState, ...] | None = None
    names: tuple[str, ...] | None = None
    tags: tuple[str, ...] | None = None
    pilot: PilotId | None = None
    exit_codes: tuple[int, ...] | None = None
    causes: tuple[int, ...] | None = None
    compare: tuple[Comparison, ...] = ()


TAIL_BYTES = 16 * 1024  # of each stream


class OutputTail(Struct, frozen=True, array_like=True):
    """What a running attempt has written so far: the ends of its streams, up to `TAIL_BYTES` of each.

    Attributes
    ----------
    stdout_bytes, stderr_bytes
        The size of all that was written.
    stdout_path, stderr_path
        The files, if the task names files for its streams.
    """

    task: TaskId
    attempt: int
    stdout: bytes
    stderr: bytes
    stdout_bytes: int
    stderr_bytes: int
    stdout_path: str | None = None
    stderr_path: str | None = None


class NodeState(Struct, frozen=True, array_like=True):
    """A node of a pilot, as its agent sees it.

    Attributes
    ----------
    cores, busy
        All cores, and those in use.
    load
        The kernel's load average of the last minute.
    memory_bytes, memory_used_bytes
        Of the whole node.
    note
        Why nothing more is started on it: it is lost, or set aside; empty when all is well.
    """

    name: str
    cores: int
    busy: int = 0
    gpus: int = 0
    load: float = 0.0
    memory_bytes: int = 0
    memory_used_bytes: int = 0
    note: str = ""


class RunningTask(Struct, frozen=True, array_like=True):
    """A task that a pilot holds; `started_at` is 0 while it waits for its slot."""

    task: TaskId
    attempt: int
    campaign: CampaignId
    started_at: float
    node: str = ""
    slot: str = ""


class Span(Struct, frozen=True, array_like=True):
    """An attempt on its slot. `cause` and `code` (exit code or signal) say how it ended."""

    task: TaskId
    attempt: int
    node: str
    slot: str
    started_at: float
    elapsed_s: float
    cause: Cause
    code: int


class Pace(Struct, frozen=True, array_like=True):
    """How fast a pilot or campaign is: tasks ended per second lately, and how many in all.

    Counting begins when the server starts. `failed` counts a pilot's attempts that failed by themselves, and a
    campaign's FAILED tasks.
    """

    id: int
    lately: float
    ended: int
    failed: int


class Series(Struct, frozen=True, omit_defaults=True):
    """The recent past in steps of `step_s`, from `start_at` on: tasks that ended, that failed, and cores."""

    step_s: float
    start_at: float
    ended: tuple[int, ...] = ()
    failed: tuple[int, ...] = ()
    busy: tuple[int, ...] = ()
    cores: tuple[int, ...] = ()


class FailureGroup(Struct, frozen=True, omit_defaults=True):
    """FAILED tasks of a campaign whose last attempts ended in the same way; `task` is the newest of them."""

    campaign: CampaignId
    cause: Cause
    exit_code: int | None
    signal: int | None
    message: str
    count: int
    task: TaskId
