"""The results of a run: for each task that has ended, once."""

from collections.abc import Iterator

from pilotmtc.model import CampaignId
from pilotmtc.protocol.records import Filter
from pilotmtc.session.link import StoreLink
from pilotmtc.session.look.follow import Step
from pilotmtc.session.look.pages import pages
from pilotmtc.session.look.results import TaskResult, results, with_outputs
from pilotmtc.session.run.order import InOrder, TaskIdSet
from pilotmtc.states import TaskState

BAD = frozenset({TaskState.FAILED, TaskState.CANCELED, TaskState.SKIPPED})
_FETCH = 500


class EndedTasks:
    """Fetches results of tasks that have ended; without `outputs`, only of those that did not succeed."""

    def __init__(self, link: StoreLink, *, outputs: bool, keep_order: bool) -> None:
        self._link = link
        self._outputs = outputs
        self._in_order = InOrder(link) if keep_order else None
        self._seen = TaskIdSet()

    def take(self, step: Step, began_at: float) -> Iterator[TaskResult]:
        """Yield the new results in a step; the run began at `began_at`, by the store's clock."""
        if self._in_order is not None:
            for task in self._in_order.take(step.campaign.id):
                if self._wanted(task.state):
                    yield from with_outputs(self._link, (task,))
            return
        fresh = [task for task, state in step.ended if self._wanted(state) and self._seen.add(task)]
        for at in range(0, len(fresh), _FETCH):
            ids = tuple(fresh[at : at + _FETCH])
            yield from results(self._link, Filter(ids=ids), outputs=True)
        if step.missed:
            yield from self.missed(step.campaign.id, began_at)

    def missed(self, campaign: CampaignId, began_at: float) -> Iterator[TaskResult]:
        """Yield results since the beginning of the run that were not yielded yet. In order, none are missed."""
        if self._in_order is not None:
            return
        states = (*BAD, TaskState.DONE) if self._outputs else tuple(BAD)
        for page in pages(self._link, Filter(campaign=campaign, states=states)):
            fresh = [
                task
                for task in page
                if (task.last is None or task.last.recorded_at >= began_at) and self._seen.add(task.id)
            ]
            yield from with_outputs(self._link, fresh)

    def _wanted(self, state: TaskState) -> bool:
        return self._outputs or state in BAD
