"""The records that the rest of pilotmtc passes around. All frozen; none of them does anything."""

from typing import NewType

from msgspec import Struct

from pilotmtc.states import Cause, JobState, PilotState, TaskState

TaskId = NewType("TaskId", int)
CampaignId = NewType("CampaignId", int)
PilotId = NewType("PilotId", int)
BatchId = NewType("BatchId", str)
MAX_OUTPUT_BYTES = 1 << 30  # of a stream: one task in an endless loop must not fill the pilot's disk
INLINE_BYTES = 32 * 1024  # of a pickled value in the row of its task; a larger one is kept by itself


GRACE_S = 5.0  # what a task gets to end by itself, unless it says otherwise


class Resources(Struct, frozen=True, omit_defaults=True):
    """What one task needs, and its limits.

    Attributes
    ----------
    cores
        Whole cores on one node, of each rank.
    gpus
        Whole or, below 1, a share of one GPU.
    memory_bytes
        Peak resident memory; 0 is no limit and no reservation.
    named
        Amounts of named resources, such as licences: the pilot's own, or those that are limited in the whole store.
    time_limit_s
        After this long the task is killed; 0 is no limit.
    expected_s
        How long it should take: it is not started with less than that left; 0 is unknown.
    ranks
        Number of processes. Above 1 the task is *wide*: all else here is what each of them needs, and they may lie on
        several nodes.
    ranks_per_node
        How many of them a node has (the last one may have fewer, but must have room for as many); 0 is as many as fit.
    grace_s
        How long all of its processes have to end when it is stopped, before they are killed; 0 is not at all.
    signal_first
        What tells them to end, as ``USR1``; "" is TERM.
    """

    cores: int = 1
    gpus: float = 0.0
    memory_bytes: int = 0
    named: dict[str, float] = {}
    time_limit_s: float = 0.0
    expected_s: float = 0.0
    ranks: int = 1
    ranks_per_node: int = 0
    grace_s: float = GRACE_S
    signal_first: str = ""

    @property
    def lasts_s(self) -> float:
        """How much time a task wants to have left when it is started, as far as it says."""
        return max(self.time_limit_s, self.expected_s) + max(self.grace_s - GRACE_S, 0.0)


class Function(Struct, frozen=True, omit_defaults=True):
    """A Python function that tasks call.

    Attributes
    ----------
    name
        For users, as ``work``.
    code
        Digest of the value that is the pickled function.
    setup
        Digest of the value that is the pickled ``(initializer, initargs)``; empty without an initializer.
    python
        The interpreter of its workers; empty is the pilot's own.
    version
        Major and minor version of the Python that pickled it: code of one minor version does not run in another.
    gather
        With several ranks, the result is a list of all ranks' values, not that of rank 0.
    """

    name: str
    code: str
    setup: str = ""
    python: str = ""
    version: tuple[int, int] = (0, 0)
    gather: bool = False


class Value(Struct, frozen=True, array_like=True):
    """Pickled data, which only function workers and the user's own client unpickle.

    Attributes
    ----------
    data
        All of it, if it is no longer than `INLINE_BYTES`.
    digest
        Else the name under which the store keeps it: the SHA-256 of its bytes, in hexadecimal.
    size
        How many bytes it has.
    """

    data: bytes = b""
    digest: str = ""
    size: int = 0


class Call(Struct, frozen=True, array_like=True):
    """What one call adds to its template's function.

    Attributes
    ----------
    args
        The pickled ``(args, kwargs)``.
    inputs
        Tasks whose results are among the arguments: it runs after them.
    values
        Digests of values that its arguments mention, such as those of ``put``.
    given
        On its way to an agent: the results of `inputs`, in their order.
    """

    args: Value = Value()
    inputs: tuple[TaskId, ...] = ()
    values: tuple[str, ...] = ()
    given: tuple[Value, ...] = ()


class Template(Struct, frozen=True, omit_defaults=True):
    """What many tasks have in common; each adds its own values for ``fields``.

    Attributes
    ----------
    command
        The argument vector, or one element that is a shell line if `shell`. Of a function what users see of a call, as
        ``work({args})``.
    shell
        Run ``/bin/sh -c``; values are quoted when they are put into the line.
    fields
        Names of the placeholders, in the order of a task's ``params``.
    env
        Variables added to the agent's environment; values may hold placeholders.
    cwd, stdin, stdout, stderr
        Directory and files; may hold placeholders; None is the submitter's choice of nothing:
        pilot's directory, /dev/null, and capture into the store.
    append
        Write behind what is in ``stdout`` and ``stderr``, which other tasks may do, too.
    max_retries
        How many attempts that end badly by the task's own doing are followed by another.
    backoff_s
        Pause before the first retry; doubles with each, up to an hour.
    max_output_bytes
        How much is kept of each captured stream.
    function
        What is called instead of a command.
    """

    command: tuple[str, ...]
    shell: bool = False
    fields: tuple[str, ...] = ()
    env: dict[str, str] = {}
    cwd: str | None = None
    stdin: str | None = None
    stdout: str | None = None
    stderr: str | None = None
    max_retries: int = 0
    backoff_s: float = 0.0
    max_output_bytes: int = MAX_OUTPUT_BYTES
    append: bool = False
    function: Function | None = None


class After(Struct, frozen=True, array_like=True):
    """A dependency: on one task by id, or on all tasks of that name submitted earlier in the same campaign.

    Attributes
    ----------
    task
        The other task's id, or the name.
    well
        True: it must be DONE, else this one is SKIPPED. False: it must be over, however it ended.
    """

    task: int | str
    well: bool = True


class TaskRow(Struct, frozen=True, array_like=True):
    """A task on its way into the store: indexes into its chunk's templates and resources, and what is its own."""

    template: int
    resources: int
    params: tuple[str, ...] = ()
    priority: int = 0
    name: str | None = None
    tags: tuple[str, ...] = ()
    after: tuple[After, ...] = ()
    call: Call | None = None


class Claimed(Struct, frozen=True, array_like=True):
    """A task on its way to an agent. `template` and `resources` are ids into its batch's tables."""

    task: TaskId
    attempt: int
    template: int
    resources: int
    params: tuple[str, ...] = ()
    priority: int = 0
    name: str | None = None
    campaign: CampaignId = CampaignId(0)
    call: Call | None = None


class Result(Struct, frozen=True, array_like=True):
    """How an attempt ended, on its way into the store.

    Attributes
    ----------
    exit_code, signal
        One of them, as the cause demands; None otherwise.
    node, slot
        Where: the node's name and the cores, as ``0-3,8``. Of a wide task the names as ``n[1-4]`` and, where they
        differ, the cores of each, as ``0-11;0-3``.
    started_at
        Seconds since the epoch by the node's clock.
    elapsed_s, cpu_s
        Wall time and user plus system time.
    memory_bytes
        Peak resident memory of the largest process.
    stdout, stderr
        The output, or its head and tail with a line between that says what was left out.
    stdout_bytes, stderr_bytes
        How much the task wrote.
    stdout_path, stderr_path
        Where all of it is when it did not fit into the store, or where the user wanted it.
    message
        What the infrastructure has to say, for LAUNCH_ERROR and its like.
    stdout_crc, stderr_crc
        CRC-32 of the files that hold what did not fit into the store; None for others.
    value
        What a call returned (exit code 0) or raised (exit code 1), pickled; None if it did neither.
    value_text
        The same for people: a bounded, printable text made by the worker.
    """

    task: TaskId
    attempt: int
    cause: Cause
    exit_code: int | None = None
    signal: int | None = None
    node: str = ""
    slot: str = ""
    started_at: float = 0.0
    elapsed_s: float = 0.0
    cpu_s: float = 0.0
    memory_bytes: int = 0
    stdout: bytes = b""
    stderr: bytes = b""
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    stdout_path: str | None = None
    stderr_path: str | None = None
    message: str | None = None
    stdout_crc: int | None = None
    stderr_crc: int | None = None
    value: Value | None = None
    value_text: str = ""


class Attempt(Struct, frozen=True, omit_defaults=True):
    """A recorded attempt. Fields as in `Result`; outputs are asked for by themselves."""

    task: TaskId
    attempt: int
    cause: Cause
    pilot: PilotId
    exit_code: int | None = None
    signal: int | None = None
    node: str = ""
    slot: str = ""
    started_at: float = 0.0
    elapsed_s: float = 0.0
    cpu_s: float = 0.0
    memory_bytes: int = 0
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    stdout_path: str | None = None
    stderr_path: str | None = None
    message: str | None = None
    recorded_at: float = 0.0
    value_text: str = ""


class Task(Struct, frozen=True, omit_defaults=True):
    """A task as the store knows it.

    ``command``, ``shell`` and ``params`` are the template's and the task's own; the command is not expanded.
    ``template`` tells the templates of a store apart. ``attempt`` grows each time that a pilot takes the task. ``last``
    is the newest recorded attempt. ``unmet`` counts dependencies that are not over.
    """

    id: TaskId
    campaign: CampaignId
    state: TaskState
    attempt: int
    priority: int
    command: tuple[str, ...]
    shell: bool
    params: dict[str, str]
    resources: Resources
    max_retries: int = 0
    failures: int = 0
    crashes: int = 0
    unmet: int = 0
    name: str | None = None
    tags: tuple[str, ...] = ()
    pilot: PilotId | None = None
    started_at: float | None = None
    not_before: float | None = None
    cancel: bool = False
    last: Attempt | None = None
    template: int = 0


class Campaign(Struct, frozen=True, omit_defaults=True):
    """Tasks submitted together.

    ``sealed``: all of them are here. ``counts``: tasks by state, zeros left out. ``own_pilots``: only pilots whose
    ``campaign`` it is take its tasks.
    """

    id: CampaignId
    key: str
    name: str
    created_at: float
    received: int
    sealed: bool
    counts: dict[TaskState, int] = {}
    own_pilots: bool = False


class PilotDescription(Struct, frozen=True, omit_defaults=True):
    """What a pilot is asked to be.

    Attributes
    ----------
    cores, gpus, memory_bytes, named
        What a node of it has; 0 cores is all that the machine has.
    walltime_s
        0 is no limit.
    idle_s
        It ends after this long without a task; 0 is never.
    campaign
        It takes tasks of this campaign only; None is all that are not kept for pilots of their own.
    pin
        Whether tasks are bound to their cores.
    nodes
        How many nodes it has; above 1 only where a scheduler gives them.
    scheduler
        SAGA's URL of the scheduler that is asked for it, such as ``slurm://localhost/``; empty for one that is started
        on this machine.
    queue, account, qos, constraint, reservation, exclusive
        What the scheduler is told.
    signal_s
        So long before the end of its walltime it takes nothing new; 0 is a value that fits the walltime.
    setup
        Lines of shell before the agent starts, such as ``module load python``.
    login
        How its nodes reach the store's host: ``[user@]host[:port]``; empty is that host's own name, and ``-`` is no
        SSH at all: they run on that host.
    environ
        Variables of the shell on the store's host that asked for it, by which the scheduler's commands are found.
    """

    site: str = "local"
    cores: int = 0
    gpus: int = 0
    memory_bytes: int = 0
    named: dict[str, float] = {}
    walltime_s: float = 0.0
    idle_s: float = 0.0
    campaign: CampaignId | None = None
    pin: bool = True
    nodes: int = 1
    scheduler: str = ""
    queue: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    reservation: str = ""
    exclusive: bool = False
    signal_s: float = 0.0
    setup: tuple[str, ...] = ()
    login: str = ""
    environ: dict[str, str] = {}


class Pilot(Struct, frozen=True, omit_defaults=True):
    """A pilot as the store knows it.

    Attributes
    ----------
    batch, native_state
        The scheduler's own id and words.
    submitted_at, asked_at
        When the scheduler was given it, and when it last answered about it.
    trouble
        Why the scheduler could not be asked since then; empty when it could.
    node_cores, node_memory_bytes
        What its largest node really has, as its agent said last; 0 as long as that is unknown.
    """

    id: PilotId
    description: PilotDescription
    state: PilotState
    created_at: float
    started_at: float | None = None
    ended_at: float | None = None
    seen_at: float | None = None
    host: str = ""
    pid: int = 0
    nodes: int = 0
    cores: int = 0
    busy: int = 0
    directory: str = ""
    reason: str = ""
    batch: BatchId | None = None
    native_state: str = ""
    submitted_at: float | None = None
    asked_at: float | None = None
    trouble: str = ""
    node_cores: int = 0
    node_memory_bytes: int = 0


class Job(Struct, frozen=True, omit_defaults=True):
    """A pilot's job as whoever asks the scheduler must know it.

    Attributes
    ----------
    key
        The pilot's: its job is called ``pilotmtc-KEY``.
    submits
        How often it was given to the scheduler, as far as is known.
    waited_s
        Since the last time.
    cancel
        Whether the job is to be ended.
    attached
        Whether its agent has ever reported for duty.
    over
        Whether the pilot has ended for good, whatever its job still does: its agent is not let in again.
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
    """What the scheduler says of a pilot's job.

    Attributes
    ----------
    native_state, reason
        Its own words.
    log
        The end of what the job has written, if its agent has never reported for duty.
    """

    pilot: PilotId
    state: JobState
    batch: BatchId | None = None
    native_state: str = ""
    reason: str = ""
    exit_code: int | None = None
    log: str = ""


class Limit(Struct, frozen=True):
    """How many units of a named resource the tasks of all pilots may use together, and how many they do."""

    name: str
    amount: float
    in_use: float = 0.0


class Key(Struct, frozen=True):
    """A key that opens one store and nothing else.

    Attributes
    ----------
    path
        The file of the private part, on the store's host.
    authorized
        Whether it opens the store: there is a line for it in ``authorized_keys``.
    private
        Whether the private part is there.
    """

    name: str
    path: str
    fingerprint: str
    authorized: bool
    private: bool
