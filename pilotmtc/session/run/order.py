"""Which tasks' ends have been told already, in little memory."""

from collections.abc import Iterator

from pilotmtc.model import CampaignId, Task, TaskId
from pilotmtc.protocol.records import Filter
from pilotmtc.session.link import StoreLink
from pilotmtc.session.look.pages import pages
from pilotmtc.states import TASK_FINAL

_PAGE = 500


class TaskIdSet:
    """A set of task ids that lie close together: a bit each."""

    def __init__(self) -> None:
        self._base = 0
        self._bits = bytearray()

    def add(self, task: TaskId) -> bool:
        """Enter `task`; return whether it is new."""
        place = task >> 3
        if not self._bits:
            self._base = place
        if place < self._base:
            self._bits = bytearray(self._base - place) + self._bits
            self._base = place
        if place - self._base >= len(self._bits):
            self._bits.extend(bytes(place - self._base + 1 - len(self._bits) + len(self._bits) // 2))
        bit = 1 << (task & 7)
        new = not self._bits[place - self._base] & bit
        self._bits[place - self._base] |= bit
        return new


class InOrder:
    """Gives a campaign's tasks in order, each once it and all before it are over."""

    def __init__(self, link: StoreLink) -> None:
        self._link = link
        self._after = 0

    def take(self, campaign: CampaignId) -> Iterator[Task]:
        """Yield those that are due."""
        for page in pages(self._link, Filter(campaign=campaign), after=self._after, size=_PAGE):
            for task in page:
                if task.state not in TASK_FINAL:
                    return
                self._after = task.id
                yield task
