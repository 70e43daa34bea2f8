"""What runs: attempts that have been started, and on which slots. Pure."""

import math

from pilotmtc.agent.core.paces import Pace
from pilotmtc.agent.core.queue import Queued
from pilotmtc.model import TaskId
from pilotmtc.resources.slots import Slot
from pilotmtc.states import Cause


class Running:
    """What was started together on the same slots: one attempt, or calls that follow each other.

    Attributes
    ----------
    attempts
        Those that are not over, by task.
    mates
        The calls behind the first, as they were in the queue: they may come back.
    era
        That of the blocked task it overtook, 0 if none.
    over_by
        It ends before that.
    stopping
        What was told to end, and why.
    """

    __slots__ = ("attempts", "era", "grace_s", "mates", "need", "over_by", "pace", "slots", "stopping")

    def __init__(self, first: Queued, mates: list[Queued], slots: tuple[Slot, ...], pace: Pace | None) -> None:
        self.attempts = {first.claimed.task: first.claimed.attempt}
        for queued in mates:
            self.attempts[queued.claimed.task] = queued.claimed.attempt
        self.mates = {queued.claimed.task: queued for queued in mates}
        self.slots = slots
        self.need = first.group.need
        self.grace_s = first.group.resources.grace_s
        self.era = 0
        self.over_by = math.inf
        self.pace = pace
        self.stopping: dict[TaskId, Cause] = {}
