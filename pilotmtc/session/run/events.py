"""Events of a run."""

from typing import TypeAlias

from msgspec import Struct

from pilotmtc.model import Campaign, CampaignId, Pilot, Task
from pilotmtc.session.look.results import TaskResult


class Begun(Struct, frozen=True):
    """The campaign is in the store, and its pilot was started; if `shared`, other pilots may run its tasks as well."""

    campaign: CampaignId
    pilot: Pilot
    shared: bool = False


class HeldElsewhere(Struct, frozen=True):
    """A pilot that is not this run's has this many tasks of a campaign that is resumed."""

    pilot: Pilot
    tasks: int


class Advanced(Struct, frozen=True):
    """The campaign has made progress."""

    campaign: Campaign


class Wrote(Struct, frozen=True):
    """A task that runs has written these lines to ``stdout`` or ``stderr``, if the run was asked to tell of that."""

    task: Task
    stream: str
    data: bytes


class Ended(Struct, frozen=True):
    """A task has ended. ``result`` has its output if the run was asked for outputs.

    `told`: how many bytes at the beginning of its stdout and of its stderr were in events `Wrote`.
    """

    result: TaskResult
    told: tuple[int, int] = (0, 0)


class PilotMoved(Struct, frozen=True):
    """A scheduler's pilot has started, or waits for another reason than before."""

    pilot: Pilot


class PilotLost(Struct, frozen=True):
    """The pilot has died, and another one was started."""

    pilot: Pilot


class StoreTroubled(Struct, frozen=True):
    """The store cannot record results, which pilots keep meanwhile; or, if `trouble` is empty, it can again."""

    trouble: str


RunEvent: TypeAlias = Begun | HeldElsewhere | Advanced | Wrote | Ended | PilotMoved | PilotLost | StoreTroubled
