"""The records that all of pilotmtc shares: tasks, attempts, results, campaigns, pilots. Frozen, without behaviour."""

from typing import NewType

from msgspec import Struct

from pilotmtc.states import Cause, PilotState, TaskState

TaskId = NewType("TaskId", int)
CampaignId = NewType("CampaignId", int)
PilotId = NewType("PilotId", int)
BatchId = NewType("BatchId", str)
MAX_OUTPUT_BYTES = 1 << 30  # per stream, so that an endless loop in one task does not fill the pilot's disk
INLINE_BYTES = 32 * 1024  # a larger pickled value is kept apart from its task's row
GRACE_S = 5.0  # the default time for a task to end after it was told to


class Resources(Struct, frozen=True, omit_defaults=True):
    """What a task needs, and its limits.

    Attributes
    ----------
    cores
        Whole cores on one node, for each rank.
    gpus
        Whole GPUs or, below 1, a share of one.
    memory_bytes
        Memory to reserve, which is also the limit; 0: none and no limit.
    named
        Amounts of named resources, such as licences: of the pilot, or limited in the whole store.
    time_limit_s
        The task is stopped after this time; 0: no limit.
    expected_s
        Expected duration: the task is not started if its pilot has less time left; 0: unknown.
    ranks
        Number of processes. Above 1 the task is *wide*: each rank needs all of the above, and they may be on several
        nodes.
    ranks_per_node
        Ranks on each node (the last node may have fewer, but must have room for as many); 0: as many as fit.
    grace_s
        Time between the first signal and SIGKILL when the task is stopped; 0: it is killed at once.
    signal_first
        That first signal, such as ``USR1``; "": TERM.
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
        """The time that a pilot must have left to start the task; 0: not known."""
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
    identity
        By what other programs know it again, with its initializer, if not by the pickles, which hold random numbers.
    """

    name: str
    code: str
    setup: str = ""
    python: str = ""
    version: tuple[int, int] = (0, 0)
    gather: bool = False
    identity: str = ""


class Value(Struct, frozen=True, array_like=True, gc=False):
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


class Call(Struct, frozen=True, array_like=True, gc=False):
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
    identity
        By what another program knows the arguments again, if not by their pickle, in which there may be random numbers
        and lines of source.
    """

    args: Value = Value()
    inputs: tuple[TaskId, ...] = ()
    values: tuple[str, ...] = ()
    given: tuple[Value, ...] = ()
    identity: bytes = b""


class Template(Struct, frozen=True, omit_defaults=True):
    """What many tasks have in common; each adds its own values for ``fields``.

    Attributes
    ----------
    command
        The argument vector; one element, a shell line, if `shell`. For a function: the text that users see for a call,
        such as ``work({args})``.
    shell
        Run the line with a shell; values in it are quoted.
    fields
        Names of the placeholders, in the order of a task's ``params``.
    env
        Variables added to the agent's environment; values may contain placeholders.
    cwd, stdin, stdout, stderr
        The directory and files; may contain placeholders. None: the pilot's directory, no input, and output that is
        kept in the store.
    append
        Append to the files ``stdout`` and ``stderr``, which tasks may then share.
    max_retries
        How many failures are followed by another attempt.
    backoff_s
        Pause before the first retry; it doubles with each one, up to an hour.
    max_output_bytes
        The largest part of each captured stream that is kept.
    function
        What is called instead of a command.
    setup
        Shell lines that each attempt runs before its command, in the same shell; the first that fails ends it.
    shell_program
        The shell, with options, such as ``bash -l``; empty: ``/bin/sh``.
    retry_on, no_retry_on
        Causes that are retried (empty: all), and that are not: ``oom``, ``exit:75``; see `pilotmtc.resources.retry`.
    retry_memory, max_memory_bytes
        By how much the memory grows after an OOM, and up to which amount; 1 and 0: it does not, and without bound.
    retry_time
        By how much the time limit grows after a TIMEOUT.
    watch
        Absolute paths of files of which a change makes another version; empty: the programs that the command names.
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
    setup: tuple[str, ...] = ()
    shell_program: str = ""
    retry_on: tuple[str, ...] = ()
    no_retry_on: tuple[str, ...] = ()
    retry_memory: float = 1.0
    max_memory_bytes: int = 0
    retry_time: float = 1.0
    watch: tuple[str, ...] = ()


class Program(Struct, frozen=True, omit_defaults=True):
    """What is known of the programs that tasks run, as the store's host saw it.

    Attributes
    ----------
    directory
        Where it was looked for.
    host, user, pilotmtc
        Who looked, and with which version of pilotmtc.
    revision, dirty
        Of the git repository that the directory is in: the commit, and whether files differ from it. Empty: there is
        none, or git could not tell.
    files
        SHA-256 of the content of files by their paths; empty for a file that could not be read.
    """

    directory: str = ""
    host: str = ""
    user: str = ""
    pilotmtc: str = ""
    revision: str = ""
    dirty: bool = False
    files: dict[str, str] = {}


class Version(Struct, frozen=True, omit_defaults=True):
    """What attempts have run: a command, and its programs if something is known of them."""

    id: int
    template: Template
    program: Program | None = None


class After(Struct, frozen=True, array_like=True):
    """A dependency on a task by id, or on all tasks with a name that were submitted earlier in the same campaign.

    Attributes
    ----------
    task
        The id or the name.
    well
        True: it must be DONE, otherwise this task is SKIPPED. False: it must have ended, in any way.
    """

    task: int | str
    well: bool = True


class TaskRow(Struct, frozen=True, array_like=True):
    """A task in a message to the store; `template` and `resources` are indexes into tables of the message."""

    template: int
    resources: int
    params: tuple[str, ...] = ()
    priority: int = 0
    name: str | None = None
    tags: tuple[str, ...] = ()
    after: tuple[After, ...] = ()
    call: Call | None = None


class Claimed(Struct, frozen=True, array_like=True):
    """A task in a batch for an agent; `template` and `resources` are ids in tables of the batch."""

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
    """How an attempt ended, as an agent reports it to the store.

    Attributes
    ----------
    exit_code, signal
        At most one of them is set, depending on the cause.
    node, slot
        The node's name, and the cores as ``0-3,8``. For a wide task, the names as ``n[1-4]`` and, if they differ, the
        cores on each as ``0-11;0-3``.
    started_at
        Seconds since the epoch by the node's clock.
    elapsed_s, cpu_s
        Wall time and user plus system time.
    memory_bytes
        Peak resident memory of the largest process.
    stdout, stderr
        The output; if it is too large, its head and tail, and between them a line about what was left out.
    stdout_bytes, stderr_bytes
        Size of all that the task wrote.
    stdout_path, stderr_path
        The file with all of it, if it was too large for the store or if the user named a file.
    message
        An explanation for causes such as LAUNCH_ERROR.
    stdout_crc, stderr_crc
        CRC-32 of a file with output that was too large for the store; otherwise None.
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
    """A recorded attempt; most fields as in `Result`. Its outputs are requested separately.

    Attributes
    ----------
    version
        The number of what it ran, in this store; 0: it was not noted yet.
    revision
        The git revision of its programs, with a ``+`` if files differed from it; empty: not known.
    known_from
        It was not made: its result is that of an earlier task; 0: it was.
    """

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
    version: int = 0
    revision: str = ""
    known_from: int = 0


class Task(Struct, frozen=True, omit_defaults=True):
    """A task in the store.

    Attributes
    ----------
    attempt
        Grows each time that a pilot takes the task.
    command, shell
        The template's: placeholders are not replaced.
    params
        The task's values for the placeholders.
    unmet
        Number of dependencies that have not ended.
    last
        The newest recorded attempt.
    template
        Id of the template in this store.
    function
        Of a call, the name of the function; empty for a command.
    on_hold
        No pilot takes it until it is released.
    before_growth
        What it needed before retries gave it more; None if they have not.
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
    function: str = ""
    on_hold: bool = False
    before_growth: Resources | None = None


class Awaited(Struct, frozen=True, array_like=True):
    """A campaign that another one waits for, until all tasks of it are DONE.

    Attributes
    ----------
    met
        They have all been DONE once: it is not waited for any more, whatever becomes of it.
    left, bad
        How many of its tasks have not ended, and how many have ended without being DONE.
    sealed
        All its tasks have been submitted.
    """

    campaign: CampaignId
    name: str = ""
    met: bool = False
    left: int = 0
    bad: int = 0
    sealed: bool = True

    @property
    def failed(self) -> bool:
        """Whether it has ended, and not all tasks of it are DONE."""
        return not self.met and self.sealed and self.left == 0


class Learned(Struct, frozen=True, array_like=True):
    """What tasks begin with since the time `at`: `after` in place of `before`; it was enough for so many `tasks`."""

    before: Resources
    after: Resources
    tasks: int
    at: float


class Campaign(Struct, frozen=True, omit_defaults=True):
    """Tasks submitted together.

    Attributes
    ----------
    sealed
        All tasks have been submitted.
    counts
        Tasks by state, without zeros.
    own_pilots
        Only pilots started for this campaign run its tasks.
    command
        That of its first task, with placeholders; see `Template.command`.
    on_hold
        No pilot takes its tasks until it is released.
    halted
        It is on hold because too many of its tasks have failed.
    max_running
        At most so many of its tasks are claimed or running at once, over all pilots; 0: no limit.
    known
        So many tasks were DONE when they came, with the results of earlier ones.
    start_rate
        Pilots are given at most so many of its tasks a second, all pilots together; 0: no limit.
    after
        The campaigns that it waits for, or has waited for.
    learned
        What later tasks begin with, because earlier ones needed it.
    """

    id: CampaignId
    key: str
    name: str
    created_at: float
    received: int
    sealed: bool
    counts: dict[TaskState, int] = {}
    own_pilots: bool = False
    command: tuple[str, ...] = ()
    on_hold: bool = False
    halted: bool = False
    max_running: int = 0
    known: int = 0
    start_rate: float = 0.0
    after: tuple[Awaited, ...] = ()
    learned: tuple[Learned, ...] = ()

    @property
    def waits(self) -> bool:
        """Whether no pilot takes its tasks because it waits for other campaigns."""
        return any(not one.met for one in self.after)


class PilotDescription(Struct, frozen=True, omit_defaults=True):
    """The pilot that a user asks for.

    Attributes
    ----------
    cores, gpus, memory_bytes, named
        Amounts on each node; 0 cores: all cores of the machine.
    walltime_s
        0: no limit.
    idle_s
        It ends after this time without a task; 0: never.
    campaign
        It takes only tasks of this campaign; None: all tasks that are not kept for pilots of their own.
    pin
        Whether tasks are bound to their cores.
    nodes
        Number of nodes; more than 1 only through a scheduler.
    scheduler
        SAGA's URL of the scheduler, such as ``slurm://localhost/``; empty: the pilot is started on this machine.
    queue, account, qos, constraint, reservation, exclusive
        For the scheduler.
    signal_s
        It takes no new tasks for this time before the end of its walltime; 0: a value that suits the walltime.
    setup
        Lines of shell before the agent starts, such as ``module load python``.
    login
        How its nodes reach the store's host: ``[user@]host[:port]``; empty: that host's own name; ``-``: without SSH,
        because they are on that host.
    environ
        Variables of the submitter's shell on the store's host that are needed to find the scheduler's commands.
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
    """A pilot in the store.

    Attributes
    ----------
    batch, native_state
        The scheduler's id and state, unchanged.
    submitted_at, asked_at
        When it was submitted to the scheduler, and when the scheduler last answered about it.
    trouble
        Why the scheduler could not be asked since then; empty if it could.
    node_cores, node_memory_bytes
        What its largest node really has, as its agent last reported; 0: not known yet.
    on_hold
        It takes no more tasks until it is released.
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
    on_hold: bool = False
