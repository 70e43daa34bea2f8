"""What a report says. Times ending in ``_at`` are seconds since the epoch by the clock of the store's host."""

from msgspec import Struct


class Distribution(Struct, frozen=True):
    """How values are distributed.

    Attributes
    ----------
    edges, counts
        A histogram: `counts[i]` values are between `edges[i]` and `edges[i + 1]`.
    """

    count: int = 0
    least: float = 0.0
    p10: float = 0.0
    median: float = 0.0
    mean: float = 0.0
    p90: float = 0.0
    p99: float = 0.0
    most: float = 0.0
    edges: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()


class CoreTime(Struct, frozen=True):
    """Where the time of cores went, in core-seconds. The sum of all fields is cores times time.

    Attributes
    ----------
    useful
        Attempts that succeeded.
    running
        Attempts that have not ended yet.
    failed
        Attempts that failed by themselves: exit codes, signals, limits that were exceeded.
    lost
        Attempts that ended with their node, pilot or allocation.
    canceled
        Attempts that were canceled.
    others
        Attempts of campaigns that the report is not about.
    startup
        From the pilot's start to the first task of each core.
    dispatch
        Short pauses between two tasks of a core, up to `SHORT_S`.
    want_of_tasks
        Longer pauses, when there was nothing to run.
    wide
        Cores that were kept free until a task that needs several had all of them.
    tail
        After the last task of a core, until the last one of the pilot.
    leaving
        After the last task of a pilot, until the pilot ended.
    unused
        Cores on which no task ever ran.
    """

    useful: float = 0.0
    running: float = 0.0
    failed: float = 0.0
    lost: float = 0.0
    canceled: float = 0.0
    others: float = 0.0
    startup: float = 0.0
    dispatch: float = 0.0
    want_of_tasks: float = 0.0
    wide: float = 0.0
    tail: float = 0.0
    leaving: float = 0.0
    unused: float = 0.0

    @property
    def total(self) -> float:
        """The sum."""
        return float(sum(getattr(self, name) for name in self.__struct_fields__))


class PilotReport(Struct, frozen=True):
    """What a pilot did.

    Attributes
    ----------
    submitted_at, started_at, first_task_at, full_at, last_task_at, ended_at
        When it was submitted, when its agent attached, when its first task started, when all of its cores that were
        ever used had a task, when the last task ended, when it ended. None: not, or not yet.
    from_at, until_at
        The part of its time that the report counts: of a pilot that other campaigns use, from the creation of the
        report's campaigns to the end of their last task.
    greedy_s
        How long greedy list scheduling of the same durations needs on the same cores.
    core_s
        Where its time went.
    """

    id: int
    state: str
    nodes: int
    cores: int
    submitted_at: float
    started_at: float | None
    first_task_at: float | None
    full_at: float | None
    last_task_at: float | None
    ended_at: float | None
    from_at: float
    until_at: float
    attempts: int
    greedy_s: float
    core_s: CoreTime


class Kind(Struct, frozen=True):
    """Tasks with the same command and the same resources; what is measured is of the attempts that succeeded.

    Attributes
    ----------
    cores, memory_bytes
        For each rank; 0 bytes: none was asked for.
    core_s
        Time of cores that it took.
    duration_s, peak_bytes
        Durations, and the peak memory where it could be measured.
    cpu_share
        The part of the reserved cores' time in which they computed.
    idle_core_s, idle_byte_s
        Reserved cores that did not compute, and reserved memory beyond the peak, times how long.
    timeouts, ooms
        Attempts that exceeded a limit.
    """

    command: str
    cores: int
    ranks: int
    gpus: float
    memory_bytes: int
    time_limit_s: float
    expected_s: float
    attempts: int
    core_s: float
    duration_s: Distribution
    peak_bytes: Distribution
    cpu_share: float
    idle_core_s: float
    idle_byte_s: float
    timeouts: int
    ooms: int


class NodePace(Struct, frozen=True):
    """A node's pace: the mean ratio of its tasks' durations to the median of their kind; above 1 it is slower.

    Attributes
    ----------
    shift_s
        What is added to times by the node's clock to make them times by the store's.
    slow
        Whether it is slower than could be chance.
    """

    node: str
    attempts: int
    failed: int
    factor: float
    shift_s: float
    slow: bool


class Death(Struct, frozen=True):
    """Attempts that ended badly in the same way; `task` is one of them, `node` where most of them were."""

    cause: str
    code: int
    attempts: int
    core_s: float
    task: int
    node: str


class Advice(Struct, frozen=True):
    """What to ask for next time.

    Attributes
    ----------
    what
        ``memory``, ``cores``, ``time limit``, ``expected time``, ``walltime`` or ``cores of pilots``.
    of
        The command or pilot that it is about.
    now, ask
        What was asked for, and what to ask for.
    """

    what: str
    of: str
    now: str
    ask: str
    reason: str


class Utilisation(Struct, frozen=True):
    """Cores in steps of `step_s` from `start_at` on: the mean of those in use, and of those that pilots had.

    Before anything has run there are no steps, and `start_at` is None.
    """

    start_at: float | None = None
    step_s: float = 0.0
    busy: tuple[float, ...] = ()
    cores: tuple[float, ...] = ()


class Summary(Struct, frozen=True):
    """All numbers of a report.

    Attributes
    ----------
    read_at
        When the store was read.
    tasks
        Numbers of tasks by state.
    attempts
        How many attempts are recorded or running.
    begin_at, end_at
        The start of the first and the end of the last attempt of the campaigns; None if there is none.
    makespan_s
        The time between.
    turnaround_s
        From the creation of the campaigns to that end.
    efficiency
        Useful time of cores as part of what the pilots had up to the end of the last task: 1 is ideal. None if there is
        nothing to compare.
    greedy_efficiency
        The makespan of greedy list scheduling of the same durations on the same pilots, as part of the real one.
    gaps_s
        Pauses between two tasks of a slot.
    clock_shifts
        How many nodes have clocks that had to be corrected.
    """

    campaigns: tuple[int, ...]
    name: str
    read_at: float
    tasks: dict[str, int]
    attempts: int
    created_at: float
    begin_at: float | None
    end_at: float | None
    makespan_s: float
    turnaround_s: float
    efficiency: float | None
    greedy_efficiency: float | None
    core_s: CoreTime
    duration_s: Distribution
    peak_bytes: Distribution
    gaps_s: Distribution
    utilisation: Utilisation
    pilots: tuple[PilotReport, ...]
    kinds: tuple[Kind, ...]
    nodes: tuple[NodePace, ...]
    deaths: tuple[Death, ...]
    advice: tuple[Advice, ...]
    clock_shifts: int
