"""Which of a campaign's tasks a run has shown already, in little memory."""

from collections.abc import Iterator

from pilotmtc.model import CampaignId, Task, TaskId
from pilotmtc.protocol.records import Filter
from pilotmtc.session.link import StoreLink
from pilotmtc.session.look.pages import pages
from pilotmtc.states import TASK_FINAL

_PAGE = 500


class TaskIdSet:
    """A set of task ids that are close together: it needs one bit for each."""

    def __init__(self) -> None:
        self._base = 0
        self._bits = bytearray()

    def add(self, task: TaskId) -> bool:
        """Add `task`; return whether it is new."""
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
    """Yields a campaign's tasks in order of submission, each as soon as it and all before it have ended."""

    def __init__(self, link: StoreLink) -> None:
        self._link = link
        self._after = 0

    def take(self, campaign: CampaignId) -> Iterator[Task]:
        """Yield the next tasks that have ended."""
        for page in pages(self._link, Filter(campaign=campaign), after=self._after, size=_PAGE):
            for task in page:
                if task.state not in TASK_FINAL:
                    return
                self._after = task.id
                yield task
