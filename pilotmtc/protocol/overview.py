"""What faces ask to be told at a glance: the overview, a pilot from near, why a task waits.

All of these only read, so that asking twice is always safe.
"""

from msgspec import Struct

from pilotmtc.model import Campaign, CampaignId, Pilot, PilotId, Task, TaskId, Template
from pilotmtc.protocol.base import GUESTS, OWNER, Reply, Request
from pilotmtc.states import Cause, TaskState

AHEAD_MAX = 10_000  # ready tasks that are counted as going before another one


class GetOverview(Request["Overview"], frozen=True, tag="overview"):
    """What a person wants to see at a glance, from the server's memory and a few small queries.

    Attributes
    ----------
    since
        ``Overview.seq`` of the last answer, which this one adds to; 0 asks for all. The server holds the answer back
        up to `wait_s` while nothing is new.
    span_s
        How much of the past the series should show.
    """

    said_by = GUESTS

    since: int = 0
    span_s: float = 600.0
    wait_s: float = 0.0


class Pace(Struct, frozen=True, array_like=True):
    """How fast a pilot or campaign is: tasks ended a second lately, and how many in all.

    Counting begins when the server does. `failed` are attempts of a pilot that failed by themselves, and FAILED tasks
    of a campaign.
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
    """FAILED tasks of a campaign whose last attempts ended alike; `task` is the newest of them."""

    campaign: CampaignId
    cause: Cause
    exit_code: int | None
    signal: int | None
    message: str
    count: int
    task: TaskId


class Overview(Reply, frozen=True):
    """The answer to `GetOverview`.

    Attributes
    ----------
    now
        The store host's clock; `since_at` is when counting began.
    series
        Its steps are left out when there is no news: nothing has ended, and the cores are as before.
    whole
        It does not add to an earlier answer: forget that one.
    pilots, campaigns
        Those that have changed: pilots that live or ended lately, campaigns that are new or not over.
    failures
        Groups among the newest FAILED tasks, `looked_at` of them; largest first. None: as before.
    silent
        Live pilots that have not been heard of for too long, all of them.
    """

    seq: int
    now: float
    since_at: float
    series: Series
    whole: bool = False
    pilots: tuple[Pilot, ...] = ()
    campaigns: tuple[Campaign, ...] = ()
    pilot_paces: tuple[Pace, ...] = ()
    campaign_paces: tuple[Pace, ...] = ()
    tasks: dict[TaskState, int] = {}
    failures: tuple[FailureGroup, ...] | None = None
    looked_at: int = 0
    silent: tuple[PilotId, ...] = ()


class Explain(Request["Explanation"], frozen=True, tag="explain"):
    """All that says why a task is where it is."""

    said_by = GUESTS

    task: TaskId


class Explanation(Reply, frozen=True):
    """The answer to `Explain`.

    Attributes
    ----------
    task
        None if there is none of that number; `needs` as in `TaskDetail`.
    blockers
        Tasks that it waits for and that are not over, or ended too badly for it; ten at the most.
    pilots
        Those that are not over.
    ahead
        Ready tasks that go before it, up to `AHEAD_MAX`.
    """

    now: float
    task: Task | None = None
    template: Template | None = None
    needs: tuple[tuple[TaskId, TaskState, bool], ...] = ()
    campaign: Campaign | None = None
    blockers: tuple[Task, ...] = ()
    pilots: tuple[Pilot, ...] = ()
    ahead: int = 0


class NodeState(Struct, frozen=True, array_like=True):
    """A node of a pilot, as its agent sees it.

    Attributes
    ----------
    cores, busy
        All, and those in use.
    load
        Processes that run or want to, by the kernel's count of the last minute.
    memory_bytes, memory_used_bytes
        Of the whole node.
    note
        Why nothing is started on it any more: it is lost, or set aside; empty when all is well.
    """

    name: str
    cores: int
    busy: int = 0
    gpus: int = 0
    load: float = 0.0
    memory_bytes: int = 0
    memory_used_bytes: int = 0
    note: str = ""


class GetPilotView(Request["PilotView"], frozen=True, tag="pilot_view"):
    """A pilot seen from near."""

    said_by = GUESTS

    pilot: PilotId


class RunningTask(Struct, frozen=True, array_like=True):
    """A task that a pilot holds; `started_at` is 0 while it waits for its slot."""

    task: TaskId
    attempt: int
    campaign: CampaignId
    started_at: float
    node: str = ""
    slot: str = ""


class PilotView(Reply, frozen=True):
    """The answer to `GetPilotView`.

    Attributes
    ----------
    pilot
        None if there is none of that number.
    tasks
        What it holds, 20,000 at the most.
    events
        What became of it, ``(at, words)``, since the server began.
    """

    now: float
    pilot: Pilot | None = None
    nodes: tuple[NodeState, ...] = ()
    tasks: tuple[RunningTask, ...] = ()
    events: tuple[tuple[float, str], ...] = ()
    pace: Pace | None = None


class GetSpans(Request["Spans"], frozen=True, tag="spans"):
    """When a pilot's slots were in use: attempts that have ended.

    With `before` those of older tasks than that one, newest tasks first; else, with the `seq` of an earlier answer as
    `since`, those that have ended since then; else those of the newest tasks. The server looks at so many attempts only
    as keeps others from waiting, as with `GetTasks`.
    """

    said_by = GUESTS

    pilot: PilotId
    before: int = 0
    limit: int = 2000
    since: int = 0


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


class Spans(Reply, frozen=True):
    """The answer to `GetSpans`.

    Attributes
    ----------
    next
        The `before` of the following page, 0 when this was the last.
    seq
        The `since` to go on from.
    reset
        The server cannot say what has ended since (it was restarted, or that is too long ago): these are the newest.
    """

    spans: tuple[Span, ...]
    next: int = 0
    seq: int = 0
    reset: bool = False


class GetPilotFile(Request["PilotFile"], frozen=True, tag="pilot_file"):
    """The last `limit` bytes of a file that lies in the pilot's directory on the store's host."""

    said_by = OWNER

    pilot: PilotId
    name: str
    limit: int = 65_536


class PilotFile(Reply, frozen=True):
    """The answer to `GetPilotFile`. `trouble` says why it cannot be read; `size` is of the whole file."""

    path: str
    data: bytes = b""
    size: int = 0
    trouble: str = ""


class GetWords(Request["Words"], frozen=True, tag="words"):
    """Words that filters may be made of."""

    said_by = GUESTS


class Words(Reply, frozen=True):
    """Names of parameters, and tags of new tasks."""

    params: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
