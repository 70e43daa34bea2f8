"""What may be said over the wire: one closed union of requests, one reply type a request.

Every request may arrive twice, late or never, and asking again is always safe. What makes it so is named in
each request's docstring.
"""

from msgspec import UNSET, Struct, UnsetType

from pilotmtc.model import (
    Attempt,
    Campaign,
    CampaignId,
    Pilot,
    PilotDescription,
    PilotId,
    Resources,
    Task,
    TaskId,
    TaskRow,
    Template,
)
from pilotmtc.protocol.agent import (
    AttachPilot,
    Batch,
    Claim,
    EndPilot,
    Finish,
    Finished,
    Heartbeat,
    Orders,
    Release,
    Started,
)
from pilotmtc.protocol.base import AGENTS, GUESTS, Changed, Done, R, Reply, Request
from pilotmtc.protocol.maintenance import (
    Checked,
    CheckStore,
    Compacted,
    CompactStore,
    GetKeys,
    GetStore,
    Keys,
    NewKey,
    RevokeKey,
    SetMode,
    SnapshotStore,
    StoreInfo,
)
from pilotmtc.protocol.overview import (
    Explain,
    Explanation,
    GetOverview,
    GetPilotFile,
    GetPilotView,
    GetSpans,
    GetWords,
    NodeState,
    Overview,
    PilotFile,
    PilotView,
    Spans,
    Words,
)
from pilotmtc.protocol.steward import BeginSubmit, GetJobs, Jobs, ReportJobs
from pilotmtc.protocol.tail import GetTail, Peeked, Tail
from pilotmtc.states import TaskState

# Those that are only passed on from here.
__all__ = [
    "AttachPilot",
    "Batch",
    "BeginSubmit",
    "Changed",
    "CheckStore",
    "Checked",
    "Claim",
    "CompactStore",
    "Compacted",
    "Done",
    "EndPilot",
    "Finish",
    "Finished",
    "GetJobs",
    "GetKeys",
    "GetStore",
    "Heartbeat",
    "Jobs",
    "Keys",
    "NewKey",
    "NodeState",
    "Orders",
    "R",
    "Release",
    "Reply",
    "ReportJobs",
    "Request",
    "RevokeKey",
    "SetMode",
    "SnapshotStore",
    "Started",
    "StoreInfo",
]

PROTOCOL = 2


# -- submitting -----------------------------------------------------------------------------------------------


class Submit(Request["Submitted"], frozen=True, tag="submit"):
    """Add tasks to a campaign, which the first chunk creates.

    Safe to repeat: `key` is made by the client, and rows before what the store has received already are passed
    over, so a client that is not sure sends again from anywhere at or before ``received``.

    Attributes
    ----------
    key
        Client-made, unique for ever.
    offset
        Ordinal in the campaign of the first row.
    templates, resources
        What the rows' indexes point to.
    last
        The campaign is complete with this chunk.
    own_pilots
        Only pilots of this campaign take its tasks. The first chunk says it; see `ShareCampaign`.
    """

    said_by = GUESTS

    key: str
    offset: int = 0
    name: str = ""
    templates: tuple[Template, ...] = ()
    resources: tuple[Resources, ...] = ()
    rows: tuple[TaskRow, ...] = ()
    last: bool = False
    own_pilots: bool = False


class Submitted(Reply, frozen=True):
    """`received` tasks of the campaign are safe on disk."""

    campaign: CampaignId
    received: int
    sealed: bool = False


class ShareCampaign(Request["Changed"], frozen=True, tag="share_campaign"):
    """Let any pilot take the tasks of a campaign that was kept for pilots of its own. Safe to repeat."""

    said_by = GUESTS

    campaign: CampaignId


# -- steering -------------------------------------------------------------------------------------------------


class CreatePilot(Request["Pilots"], frozen=True, tag="create_pilot"):
    """Enter a pilot. Safe to repeat: `key` is client-made; the same key answers the same pilot.

    One with a scheduler is submitted to it by the store's server.
    """

    said_by = GUESTS

    key: str
    description: PilotDescription
    directory: str = ""


class Compare(Struct, frozen=True, array_like=True):
    """A comparison that must hold.

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
    """Which tasks: all conditions must hold; None does not ask.

    `ids` are task ids; `campaign` may be several, one of which it is; `names` allow ``*`` and ``?``; `tags` must all be
    present; `causes` and `exit_codes` speak of the last attempt.
    """

    ids: tuple[TaskId, ...] | None = None
    campaign: CampaignId | tuple[CampaignId, ...] | None = None
    states: tuple[TaskState, ...] | None = None
    names: tuple[str, ...] | None = None
    tags: tuple[str, ...] | None = None
    pilot: PilotId | None = None
    exit_codes: tuple[int, ...] | None = None
    causes: tuple[int, ...] | None = None
    compare: tuple[Compare, ...] = ()


class Cancel(Request["Changed"], frozen=True, tag="cancel"):
    """Cancel tasks: those not started at once, running ones through their agents. `key` makes it safe to repeat."""

    said_by = GUESTS

    key: str
    filter: Filter


class Retry(Request["Changed"], frozen=True, tag="retry"):
    """Run FAILED, CANCELED and SKIPPED tasks again, their failures forgotten. `key` makes it safe to repeat."""

    said_by = GUESTS

    key: str
    filter: Filter


class Edit(Request["Changed"], frozen=True, tag="edit"):
    """Change tasks that have not started (WAITING, READY; also final ones, for a later retry); None leaves as is.

    `key` makes it safe to repeat.
    """

    said_by = GUESTS

    key: str
    filter: Filter
    priority: int | None = None
    cores: int | None = None
    gpus: float | None = None
    memory_bytes: int | None = None
    named: dict[str, float] | None = None
    time_limit_s: float | None = None
    expected_s: float | None = None
    ranks: int | None = None
    ranks_per_node: int | None = None


class DrainPilot(Request["Changed"], frozen=True, tag="drain_pilot"):
    """Let the pilot finish what runs and leave. Safe to repeat."""

    said_by = GUESTS

    pilot: PilotId


class CancelPilot(Request["Changed"], frozen=True, tag="cancel_pilot"):
    """End the pilot now: its tasks are killed and go back. Safe to repeat."""

    said_by = GUESTS

    pilot: PilotId


# -- looking --------------------------------------------------------------------------------------------------


class GetCampaigns(Request["Campaigns"], frozen=True, tag="campaigns"):
    """Campaigns, newest first; with `id` or `key` that one (or none)."""

    said_by = GUESTS

    id: CampaignId | None = None
    key: str | None = None


class Campaigns(Reply, frozen=True):
    """The answer to `GetCampaigns`.

    Attributes
    ----------
    trouble
        Why the store cannot keep what pilots bring just now, such as a full disk; empty if it can.
    """

    campaigns: tuple[Campaign, ...]
    trouble: str = ""


class GetPilots(Request["Pilots"], frozen=True, tag="pilots"):
    """Pilots, newest first; with `live` only those that are not over; with `id` that one."""

    said_by = AGENTS
    names = "id"

    id: PilotId | None = None
    live: bool = False


class Pilots(Reply, frozen=True):
    """The answer to `GetPilots`."""

    pilots: tuple[Pilot, ...]


class GetTasks(Request["Tasks"], frozen=True, tag="tasks"):
    """A page of tasks in order of id, after `after` (or, with `newest`, before it, descending; 0 is no bound).

    The server looks at so many tasks only as keeps others from waiting: a page may hold fewer than `limit`, or none,
    and not be the last.

    Attributes
    ----------
    largest
        ``priority``, ``elapsed_s``, ``cpu_s``, ``memory_bytes`` or ``recorded_at``: the page then holds, of all tasks
        that it looked at, the `limit` with the largest values, largest first, and those that have none yet last; who
        wants those of all tasks asks for all pages and merges them. A running task's time is that until now.
    """

    said_by = GUESTS

    filter: Filter = Filter()
    after: int = 0
    limit: int = 100
    newest: bool = False
    largest: str = ""


class Tasks(Reply, frozen=True):
    """A page. `next` is the `after` of the following page, 0 when this was the last."""

    tasks: tuple[Task, ...]
    next: int = 0


class GetTask(Request["TaskDetail"], frozen=True, tag="task"):
    """All about one task."""

    said_by = GUESTS

    task: TaskId


class TaskDetail(Reply, frozen=True):
    """A task, all its attempts, and its neighbours: ``(id, state, well)`` (at most 100 each way)."""

    task: Task | None = None
    template: Template | None = None
    attempts: tuple[Attempt, ...] = ()
    needs: tuple[tuple[TaskId, TaskState, bool], ...] = ()
    needed_by: tuple[tuple[TaskId, TaskState, bool], ...] = ()


class GetOutput(Request["Output"], frozen=True, tag="output"):
    """What an attempt wrote, as far as the store has it; `attempt` 0 is the newest recorded."""

    said_by = GUESTS

    task: TaskId
    attempt: int = 0


class Output(Reply, frozen=True):
    """`found` is False when no attempt is recorded. Sizes are of what was written, not of what is here."""

    found: bool
    attempt: int = 0
    stdout: bytes = b""
    stderr: bytes = b""
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    stdout_path: str | None = None
    stderr_path: str | None = None


class GetChanges(Request["Changes"], frozen=True, tag="changes"):
    """What has changed since `since`. The server holds the answer back up to `wait_s` when there is nothing.

    Watchers start with ``since=0``, which answers `reset` and the number to go on from.
    """

    said_by = GUESTS

    since: int = 0
    campaign: CampaignId | None = None
    limit: int = 10_000
    wait_s: float = 0.0


class Changes(Reply, frozen=True):
    """Transitions ``(task, state, attempt)`` in order.

    `reset`: the server cannot say (it was restarted, or the watcher is too far behind): read the counts and tasks
    anew and go on from `seq`.
    """

    seq: int
    changes: tuple[tuple[TaskId, TaskState, int], ...] = ()
    reset: bool = False


# -- frames ---------------------------------------------------------------------------------------------------

AnyRequest = (
    Submit | CreatePilot | AttachPilot | EndPilot | Claim | Started | Finish | Release | Heartbeat | Peeked
    | ShareCampaign | Cancel | Retry | Edit | DrainPilot | CancelPilot | GetCampaigns | GetPilots | GetTasks
    | GetTask | GetOutput | GetChanges | GetStore | CheckStore | CompactStore | SnapshotStore | NewKey | GetKeys
    | RevokeKey | SetMode | GetOverview | Explain | GetPilotView | GetSpans | GetPilotFile | GetWords | GetTail
    | GetJobs | BeginSubmit | ReportJobs
)  # fmt: skip

REPLIES: dict[type[object], type[Reply]] = {
    Submit: Submitted,
    ShareCampaign: Changed,
    CreatePilot: Pilots,
    AttachPilot: Orders,
    EndPilot: Done,
    Claim: Batch,
    Started: Done,
    Finish: Finished,
    Release: Done,
    Heartbeat: Orders,
    Peeked: Done,
    Cancel: Changed,
    Retry: Changed,
    Edit: Changed,
    DrainPilot: Changed,
    CancelPilot: Changed,
    GetCampaigns: Campaigns,
    GetPilots: Pilots,
    GetTasks: Tasks,
    GetTask: TaskDetail,
    GetOutput: Output,
    GetChanges: Changes,
    GetStore: StoreInfo,
    CheckStore: Checked,
    CompactStore: Compacted,
    SnapshotStore: Done,
    NewKey: Keys,
    GetKeys: Keys,
    RevokeKey: Changed,
    GetOverview: Overview,
    Explain: Explanation,
    GetPilotView: PilotView,
    GetSpans: Spans,
    GetPilotFile: PilotFile,
    GetWords: Words,
    GetTail: Tail,
    SetMode: Done,
    GetJobs: Jobs,
    BeginSubmit: Changed,
    ReportJobs: Done,
}


class Hello(Struct, frozen=True, tag="hello", tag_field="op"):
    """The first frame each way.

    Attributes
    ----------
    pilot
        An agent says whose it is: from then on the server takes from it only what that pilot's agent may say.
    """

    protocol: int
    version: str
    software: str = "pilotmtc"
    pilot: PilotId | UnsetType = UNSET


class Ping(Request["Done"], frozen=True, tag="ping"):
    """Is anybody there? The server itself answers, under id 0; the store never sees it."""


class Failure(Struct, frozen=True):
    """An error on its way back: the class's name in `pilotmtc.errors` and its text."""

    error: str
    message: str
