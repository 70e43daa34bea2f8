"""What happens to an agent (events), and what its core decides to do about it (commands)."""

from msgspec import Struct

from pilotmtc.model import Claimed, Resources, TaskId, Template
from pilotmtc.protocol.agent import Batch, Orders
from pilotmtc.resources.slots import Node, Slot
from pilotmtc.states import Cause, PilotState


class Attached(Struct, frozen=True):
    """The store knows the pilot as active."""


class BatchReceived(Struct, frozen=True):
    """The answer to a claim; `lacking`: tasks whose values are not here yet."""

    batch: Batch
    lacking: frozenset[TaskId] = frozenset()


class ValuesCame(Struct, frozen=True):
    """All values that these tasks need are here."""

    tasks: tuple[TaskId, ...]


class ValuesMissing(Struct, frozen=True):
    """A value that these tasks need will not come, which ends their attempts."""

    tasks: tuple[TaskId, ...]
    cause: Cause
    message: str


class Ended(Struct, frozen=True):
    """An attempt has ended, or could not be started.

    Attributes
    ----------
    crashed
        So badly and so soon that its node may be to blame.
    took_s
        How long it ran; 0 if that says nothing about others like it.
    """

    task: TaskId
    attempt: int
    crashed: bool = False
    took_s: float = 0.0


class NoRoom(Struct, frozen=True):
    """An attempt, and all that came with it, could not be started: its node has no process or memory left now."""

    task: TaskId
    attempt: int


class Unbegun(Struct, frozen=True):
    """Calls that were to run after another one on its slots, and were taken back before they began.

    They are started elsewhere. The slots are free when all calls of their start have ended or come back.
    """

    tasks: tuple[tuple[TaskId, int], ...]


class OrdersReceived(Struct, frozen=True):
    """The answer to a heartbeat."""

    orders: Orders


class GivenUp(Struct, frozen=True):
    """The store had given the pilot up: tasks that were not started are no longer its own; those that run may be."""


class ResultsOwed(Struct, frozen=True):
    """The store must take results before more tasks are started, or (not `full`) has taken enough."""

    full: bool


class Answered(Struct, frozen=True):
    """The store has taken results, in this time."""

    latency_s: float


class Drain(Struct, frozen=True):
    """Finish what runs, give back the rest, leave."""

    reason: str


class TermReceived(Struct, frozen=True):
    """The scheduler, or somebody else, has sent a first TERM."""


class Quit(Struct, frozen=True):
    """End now: what runs is killed and goes back."""

    state: PilotState
    reason: str


class NodeJoined(Struct, frozen=True):
    """A node has joined, with nothing on it."""

    node: Node


class NodeLost(Struct, frozen=True):
    """A node is gone, and what ran on it. It may come back as a new one."""

    name: str
    reason: str


class NodeUnfit(Struct, frozen=True):
    """A node cannot run tasks as it should: nothing new is to be started on it."""

    name: str
    reason: str


class NoMoreNodes(Struct, frozen=True):
    """No node will come any more."""

    reason: str


class Tick(Struct, frozen=True):
    """Time has passed."""


Event = (
    Attached | BatchReceived | Ended | NoRoom | OrdersReceived | Answered | ResultsOwed | GivenUp | Drain | Quit
    | NodeJoined | NodeLost | NoMoreNodes | Tick | NodeUnfit | TermReceived | Unbegun | ValuesCame
    | ValuesMissing
)  # fmt: skip


# -- commands -------------------------------------------------------------------------------------------------


class Wide(Struct, frozen=True):
    """How a wide task is started; fields as in `StartAttempt`."""

    way: str
    first: int
    ranks: int
    nodes: str


class Start(Struct, frozen=True):
    """Start an attempt on its slots, one a rank.

    Attributes
    ----------
    mates
        Calls of the same template and resources, which these slots run after `claimed`, one after the other. Each ends
        and is stopped by itself; those that have to wait for too long come back as `Unbegun`.
    """

    claimed: Claimed
    template: Template
    resources: Resources
    slots: tuple[Slot, ...]
    wide: Wide | None = None
    mates: tuple[Claimed, ...] = ()


class Stop(Struct, frozen=True):
    """End a running attempt: TERM, and KILL after `grace_s`; it is reported with `cause`."""

    task: TaskId
    attempt: int
    cause: Cause
    grace_s: float


class AskForTasks(Struct, frozen=True):
    """Claim tasks; fields as in `Claim`."""

    number: int
    total: Resources
    want: Resources
    limit: int
    time_left_s: float
    backfill: bool
    wait_s: float
    nodes: tuple[tuple[int, Resources], ...] = ()
    within_s: float = 0.0


class GiveBack(Struct, frozen=True):
    """Release attempts that were not started."""

    tasks: tuple[tuple[TaskId, int], ...]


class Report(Struct, frozen=True):
    """Report an attempt as over that was never started, or that went down with its node."""

    task: TaskId
    attempt: int
    cause: Cause
    message: str
    node: str = ""


class Leave(Struct, frozen=True):
    """Send what is left and end the pilot."""

    state: PilotState
    reason: str


Command = Start | Stop | AskForTasks | GiveBack | Report | Leave
