"""What a run tells while it goes on."""

from typing import TypeAlias

from msgspec import Struct

from pilotmtc.model import Campaign, CampaignId, Pilot
from pilotmtc.session.look.results import TaskResult


class Begun(Struct, frozen=True):
    """The campaign is in the store and its pilot has been started; if it is `shared`, others may run its tasks, too."""

    campaign: CampaignId
    pilot: Pilot
    shared: bool = False


class Advanced(Struct, frozen=True):
    """How far the campaign is."""

    campaign: Campaign


class Ended(Struct, frozen=True):
    """A task has ended. ``result.stdout`` is there if the run was asked for outputs."""

    result: TaskResult


class PilotMoved(Struct, frozen=True):
    """There are news of the pilot that a scheduler was asked for: why it waits, or that it has begun."""

    pilot: Pilot


class PilotLost(Struct, frozen=True):
    """The pilot has died; another one has been started."""

    pilot: Pilot


class StoreTroubled(Struct, frozen=True):
    """The store cannot keep results, or, if `trouble` is empty, can again. Pilots keep them, and send them again."""

    trouble: str


RunEvent: TypeAlias = Begun | Advanced | Ended | PilotMoved | PilotLost | StoreTroubled
