"""Records that are parts of requests and replies."""

from msgspec import Struct

from pilotmtc.model import BatchId, CampaignId, PilotDescription, PilotId, TaskId
from pilotmtc.states import Cause, JobState, PilotState, TaskState


class Comparison(Struct, frozen=True, array_like=True):
    """A comparison that a task must satisfy.

    Attributes
    ----------
    what
        ``id``, ``priority`` or ``attempt``; ``elapsed_s`` (for a running task: until now), ``cpu_s`` or
        ``memory_bytes`` of the last attempt; or ``params.NAME``.
    op
        One of ``<  <=  =  !=  >=  >``.
    value
        A number; for a parameter also text, in which ``*`` and ``?`` are wildcards.
    """

    what: str
    op: str
    value: float | str


class Filter(Struct, frozen=True, omit_defaults=True):
    """Selects the tasks that meet all conditions; None: no condition.

    `campaign` may be one or several campaigns, by id or by name; names may contain ``*`` and ``?``; a task must have
    all `tags`; `causes` and `exit_codes` are those of the last attempt.
    """

    ids: tuple[TaskId, ...] | None = None
    campaign: CampaignId | str | tuple[CampaignId | str, ...] | None = None
    states: tuple[TaskState, ...] | None = None
    names: tuple[str, ...] | None = None
    tags: tuple[str, ...] | None = None
    pilot: PilotId | None = None
    exit_codes: tuple[int, ...] | None = None
    causes: tuple[int, ...] | None = None
    compare: tuple[Comparison, ...] = ()


TAIL_BYTES = 16 * 1024  # per stream


class OutputTail(Struct, frozen=True, array_like=True):
    """The output of a running attempt so far: the last `TAIL_BYTES` of each stream.

    Attributes
    ----------
    stdout_bytes, stderr_bytes
        Size of all that was written.
    stdout_path, stderr_path
        The files, if the task writes to files.
    """

    task: TaskId
    attempt: int
    stdout: bytes
    stderr: bytes
    stdout_bytes: int
    stderr_bytes: int
    stdout_path: str | None = None
    stderr_path: str | None = None


class Neighbour(Struct, frozen=True, array_like=True):
    """A task that another one depends on, or that depends on it; `well` is that of the dependency, see `After`."""

    id: TaskId
    state: TaskState
    well: bool


class NodeState(Struct, frozen=True, array_like=True):
    """The state of a node, reported by its agent.

    Attributes
    ----------
    cores, busy
        All cores, and those in use.
    load
        The kernel's load average of the last minute.
    memory_bytes, memory_used_bytes
        Of the whole node, also by other programs.
    note
        Why no more tasks are started there (it is lost, or set aside); empty if all is well.
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
    """When and where an attempt ran; `cause` and `code` (exit code or signal) say how it ended."""

    task: TaskId
    attempt: int
    node: str
    slot: str
    started_at: float
    elapsed_s: float
    cause: Cause
    code: int


class Pace(Struct, frozen=True, array_like=True):
    """How fast a pilot or campaign is: recent tasks per second, and how many tasks in all.

    Counting begins when the server starts. `failed` counts a pilot's attempts that failed by themselves, or a
    campaign's FAILED tasks.
    """

    id: int
    lately: float
    ended: int
    failed: int


class Series(Struct, frozen=True, omit_defaults=True):
    """The recent past in steps of `step_s` from `start_at` on: tasks that ended, tasks that failed, and cores."""

    step_s: float
    start_at: float
    ended: tuple[int, ...] = ()
    failed: tuple[int, ...] = ()
    busy: tuple[int, ...] = ()
    cores: tuple[int, ...] = ()


class FailureGroup(Struct, frozen=True, omit_defaults=True):
    """FAILED tasks of a campaign whose last attempts ended in the same way.

    Attributes
    ----------
    message
        That of the task that failed last.
    task, newest_at
        The task with the highest id, and when the last one of them failed.
    """

    campaign: CampaignId
    cause: Cause
    exit_code: int | None
    signal: int | None
    message: str
    count: int
    task: TaskId
    newest_at: float = 0.0


class Job(Struct, frozen=True, omit_defaults=True):
    """What a steward must know about a pilot's job.

    Attributes
    ----------
    key
        The pilot's key; the job's name is ``pilotmtc-KEY``.
    submits
        How often it may have been submitted to the scheduler.
    waited_s
        Time since the last submission.
    cancel
        Whether to cancel the job.
    attached
        Whether its agent has ever attached.
    over
        Whether the pilot has ended finally: its agent is not let in again, whatever the job still does.
    """

    pilot: PilotId
    key: str
    state: PilotState
    description: PilotDescription
    directory: str
    batch: BatchId | None = None
    submits: int = 0
    waited_s: float = 0.0
    cancel: bool = False
    attached: bool = False
    over: bool = False


class JobReport(Struct, frozen=True, omit_defaults=True):
    """What the scheduler reports about a pilot's job.

    Attributes
    ----------
    native_state, reason
        In the scheduler's words.
    log
        The end of the job's output, if its agent has never attached.
    """

    pilot: PilotId
    state: JobState
    batch: BatchId | None = None
    native_state: str = ""
    reason: str = ""
    exit_code: int | None = None
    log: str = ""


class Limit(Struct, frozen=True):
    """How many units of a named resource the tasks of all pilots may use together, and how many they use now."""

    name: str
    amount: float
    in_use: float = 0.0


class Key(Struct, frozen=True):
    """An SSH key that opens one store and nothing else.

    Attributes
    ----------
    path
        The file with the private part, on the store's host.
    authorized
        Whether it opens the store: it has a line in ``authorized_keys``.
    private
        Whether the private part exists.
    """

    name: str
    path: str
    fingerprint: str
    authorized: bool
    private: bool
