"""The submission of a run's tasks, in a thread: pilots run the first ones while the last ones are read."""

import threading
from collections.abc import Callable, Iterable, Iterator

from pilotmtc.campaign.submit import TaskSpec
from pilotmtc.errors import PilotMTCError
from pilotmtc.model import Campaign, PilotDescription, Resources
from pilotmtc.protocol.client.campaigns import ShareCampaign, Submitted
from pilotmtc.protocol.client.tasks import Retry
from pilotmtc.protocol.records import Filter
from pilotmtc.session.link import StoreLink
from pilotmtc.session.look.follow import get_campaign
from pilotmtc.session.run.ended import BAD
from pilotmtc.session.run.fitting import check_fit, limits_for
from pilotmtc.session.run.resume import rest
from pilotmtc.session.submit.sending import new_key, seal, submit
from pilotmtc.session.submit.tasks import TaskStream


class Submission:
    """Submits tasks in its own thread.

    Parameters
    ----------
    tasks
        None: run the rest of `campaign` as it is.
    campaign
        The campaign to continue; `tasks`, if given, start with those that it has.
    pilot
        The pilot in which each task must fit.
    asked
        Returns what the run was asked to do: 0 (nothing), 1 (drain) or 2 (cancel).
    """

    def __init__(
        self, link: StoreLink, tasks: TaskStream | None, campaign: Campaign | None, *, name: str,
        pilot: PilotDescription, any_pilot: bool, retry_failed: bool, asked: Callable[[], int],
    ) -> None:  # fmt: skip
        self._link = link
        self._tasks = tasks
        self._campaign = campaign
        self._key = campaign.key if campaign is not None else new_key()
        self._name = name
        self._pilot = pilot
        self._any_pilot = any_pilot
        self._retry_failed = retry_failed
        self._asked = asked
        self._thread: threading.Thread | None = None
        self._begun = threading.Event()  # the first tasks are in the store, or never will be
        self._answer: Submitted | None = None
        self._error: PilotMTCError | None = None

    def begin(self) -> None:
        """Start the thread."""
        if self._tasks is None:
            assert self._campaign is not None
            if not self._campaign.sealed:
                seal(self._link, self._key, self._campaign.received)
            self._resume(self._campaign)
            return
        # A daemon, because it may read from an input that never ends.
        self._thread = threading.Thread(target=self._submit, args=(self._tasks,), name="submission", daemon=True)
        self._thread.start()

    @property
    def active(self) -> bool:
        """Whether tasks are still being submitted."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def repeatable(self) -> bool:
        """Whether it can be stopped, because its tasks can be read again."""
        return self._tasks is not None and self._tasks.again

    def first(self) -> Campaign | None:
        """Wait for the first tasks to be in the store; return the campaign, or None if the run was stopped before.

        Raises
        ------
        PilotMTCError
            If nothing could be submitted.
        """
        while not self._begun.wait(0.1):
            if self._asked():
                return None
        self.raise_error()
        if self._campaign is None and self._answer is not None:
            self._campaign = get_campaign(self._link, self._answer.campaign)
        return self._campaign

    def raise_error(self) -> None:
        """Raise the thread's error, once."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def join(self, timeout_s: float) -> None:
        """Wait for the thread to end."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _submit(self, tasks: TaskStream) -> None:
        try:
            offset, coming = 0, iter(tasks)
            if self._campaign is not None:
                offset, coming = rest(self._link, self._campaign, tasks)
                self._resume(self._campaign)
            submit(
                self._link,
                TaskStream(lambda: self._fitting(coming), size=tasks.size),
                key=self._key,
                name=self._name,
                own_pilots=not self._any_pilot,
                options=tasks.options,
                offset=offset,
                on_submitted=self._on_submitted,
                stop=lambda: self._asked() > (1 if tasks.again else 0),
            )
        except PilotMTCError as error:
            self._error = error
        finally:
            self._begun.set()

    def _resume(self, campaign: Campaign) -> None:
        """Continue an existing campaign, after checking that it has the same tasks."""
        if self._any_pilot and campaign.own_pilots:
            self._link.call(ShareCampaign(campaign.id))
        if self._retry_failed:
            self._link.call(Retry(new_key(), Filter(campaign=campaign.id, states=tuple(BAD))))
            self._campaign = get_campaign(self._link, campaign.id)
        self._begun.set()

    def _fitting(self, tasks: Iterable[TaskSpec]) -> Iterator[TaskSpec]:
        known: Resources | None = None
        for task in tasks:
            if task.resources is not known:
                check_fit(task.resources, self._pilot, limits_for(self._link, task.resources))
                known = task.resources
            yield task

    def _on_submitted(self, answer: Submitted) -> None:
        self._answer = answer
        self._begun.set()
