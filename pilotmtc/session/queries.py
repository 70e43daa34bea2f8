"""The part of a session that reads the store: campaigns, tasks, results, outputs, reasons."""

import functools
import itertools
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from pilotmtc.errors import UsageError
from pilotmtc.model import Campaign, CampaignId, Task, TaskId
from pilotmtc.protocol.client.campaigns import GetCampaigns
from pilotmtc.protocol.client.tasks import Explain, GetTail, GetWords, Output, Tail, TaskDetail, Tasks
from pilotmtc.protocol.client.watch import GetOverview, MarkSeen, Overview
from pilotmtc.session.arguments import seconds
from pilotmtc.session.arguments import whole as whole_number
from pilotmtc.session.link import StoreLink
from pilotmtc.session.look.explain import explain
from pilotmtc.session.look.filter import Vocabulary
from pilotmtc.session.look.follow import Step, follow, get_campaign, get_campaigns, is_finished
from pilotmtc.session.look.output import OutputPiece, follow_output, get_output, get_task
from pilotmtc.session.look.pages import get_page, pages
from pilotmtc.session.look.results import TaskResult, results
from pilotmtc.session.look.select import Selection, as_filter
from pilotmtc.session.run.as_they_end import results_of_campaign
from pilotmtc.states import TaskState

if TYPE_CHECKING:
    from pilotmtc.report.plan import Plan
    from pilotmtc.report.report import Report
    from pilotmtc.session.look.campaign import CampaignView
    from pilotmtc.session.look.plan import PlanOptions

_PAGE = 1000
_FIELDS_PAGE = 10_000


class Queries:
    """The part of a session that only reads the store."""

    _link: StoreLink

    def campaigns(self) -> tuple[Campaign, ...]:
        """Return all campaigns, newest first."""
        return self._link.call(GetCampaigns()).campaigns

    def campaign(self, campaign: int | str) -> Campaign:
        """Return a campaign, given by its number or its name.

        Raises
        ------
        UsageError
            If there is none, or if several have the name.
        """
        return get_campaign(self._link, campaign)

    def campaign_view(self, campaign: int, *, grid: bool = False) -> "CampaignView":
        """Return what is seen of a campaign from near: what runs, what has ended last, how long its tasks take.

        With `grid` also its tasks over two of its parameters, for which some thousand tasks are read.

        Raises
        ------
        UsageError
            If there is none of that number.
        """
        from pilotmtc.session.look.campaign import read_campaign  # most sessions need none

        return read_campaign(self._link, CampaignId(whole_number("campaign", campaign)), grid=grid)

    def campaigns_named(self, *campaigns: int | str) -> tuple[Campaign, ...]:
        """Return campaigns, given by numbers or by names, which may contain ``*`` and ``?``; each only once.

        Raises
        ------
        UsageError
            If there is none for one of them, or if several have a name without ``*`` and ``?``.
        """
        found = [one for word in campaigns for one in get_campaigns(self._link, word)[::-1]]
        return tuple({one.id: one for one in found}.values())

    def report(self, campaign: int | str | Iterable[int | str]) -> "Report":
        """Return a report on a campaign, or on several together: ``report.summary`` has all numbers.

        Parameters
        ----------
        campaign
            Numbers or names, as in `campaigns_named`.

        Raises
        ------
        UsageError
            If there is none for one of them.
        """
        from pilotmtc.session.look.report import read_report  # most sessions need none

        words = (campaign,) if isinstance(campaign, int | str) else tuple(campaign)
        if not words:
            raise UsageError("no campaign is given to report on: give a number or a name, or several")
        return read_report(self._link, self.campaigns_named(*words))

    def plan(
        self, campaign: int | str | None = None, *, file: str | Path | None = None, **options: Unpack["PlanOptions"]
    ) -> "Plan":
        """Return when work would end on pilots of different shapes, by simulation.

        Parameters
        ----------
        campaign
            What is left of it; if nothing is, all of it once more.
        file
            Instead, the tasks of a campaign file; those like tasks of `campaign` take as long as these.
        **options
            See `PlanOptions`.

        Raises
        ------
        UsageError
            If there are no tasks, or if it is not known how long they take or what a node has.
        """
        from pilotmtc.session.look.plan import read_plan

        if campaign is None and file is None:
            raise UsageError("there is nothing to plan: give a campaign, or a campaign file")
        loaded = None
        if file is not None:
            from pilotmtc.campaign.file import load

            loaded = load(file)
        found = None if campaign is None else get_campaign(self._link, campaign)
        return read_plan(self._link, found, loaded, **options)

    def tasks(self, *, limit: int | None = None, newest: bool = False, **select: Unpack[Selection]) -> Iterator[Task]:
        """Yield at most `limit` tasks in order of their ids, or in descending order with `newest`."""
        size = _PAGE if limit is None else max(1, min(limit, _PAGE))
        them = itertools.chain.from_iterable(
            pages(self._link, as_filter("limit", "newest", **select), newest=newest, size=size)
        )
        return itertools.islice(them, limit)

    def task_page(
        self,
        *,
        after: int = 0,
        limit: int = _PAGE,
        newest: bool = False,
        largest: str = "",
        **select: Unpack[Selection],
    ) -> Tasks:
        """Return a page of tasks; its ``next`` is the `after` of the following page, or 0 if it is the last one.

        A page may have fewer than `limit` tasks, or none, without being the last.

        Parameters
        ----------
        newest
            In descending order of ids; the page then begins below `after`.
        largest
            ``priority``, ``elapsed_s``, ``cpu_s``, ``memory_bytes`` or ``recorded_at``: return those with the largest
            values among the tasks that the store has looked at for this page.
        """
        wish = as_filter("after", "limit", "newest", "largest", **select)
        return get_page(self._link, wish, after=after, size=limit, newest=newest, largest=largest)

    def count(self, *, most: int | None = None, **select: Unpack[Selection]) -> int:
        """Return the number of tasks; counting stops once there are more than `most`."""
        number = 0
        for page in pages(self._link, as_filter("most", **select)):
            number += len(page)
            if most is not None and number > most:
                break
        return number

    def task(self, task: int) -> TaskDetail:
        """Return everything about a task: its template, its attempts, its dependencies and dependents.

        Raises
        ------
        UsageError
            If there is none of that number.
        """
        return get_task(self._link, _task_id(task))

    def explain(self, task: int) -> tuple[TaskState, list[str]]:
        """Return lines that explain a task's state: the answer, then reasons, then commands after ``$ ``.

        Raises
        ------
        UsageError
            If there is none of that number.
        """
        found = self._link.call(Explain(_task_id(task)))
        if found.task is None:
            raise UsageError(f"there is no task {task} in {self._link.url}: see pilotmtc tasks")
        return found.task.state, explain(found)

    def output(self, task: int, attempt: int = 0, *, whole: bool = True) -> Output:
        """Return the output of a task's attempt (0: the last one).

        Parameters
        ----------
        whole
            Read the files of outputs that were too large for the store; otherwise return head and tail.

        Raises
        ------
        UsageError
            If there is no such task or attempt.
        StoreError
            If a file cannot be read.
        """
        return get_output(self._link, _task_id(task), whole_number("attempt", attempt), whole=whole)

    def tail(self, task: int, *, since: float = 0.0, wait_s: float = 5.0) -> Tail:
        """Return the end of what a running task has written so far, which its agent reports.

        Parameters
        ----------
        since
            ``Tail.at`` of the last answer: wait for newer output.
        wait_s
            How long to wait. If the task does not run, the answer comes at once.
        """
        return self._link.call(GetTail(_task_id(task), since, wait_s))

    def follow_output(self, task: int) -> Iterator[OutputPiece]:
        """Yield what a task has written so far, and then what it writes until it ends.

        Raises
        ------
        UsageError
            If there is no such task, or if it ends without having run.
        """
        return follow_output(self._link, _task_id(task))

    def results(
        self, *, outputs: bool = True, whole: bool = False, newest: bool = False, wait: bool | None = None,
        **select: Unpack[Selection],
    ) -> Iterator[TaskResult]:  # fmt: skip
        """Yield the results of finished tasks in order of their ids.

        Parameters
        ----------
        outputs
            Whether to fetch their stdout and stderr.
        whole
            Whether to read outputs that were too large for the store from their files.
        wait
            Go on with the results of the others as they finish, until none of the campaign is left. None does so with
            calls of functions, if one campaign is named, as long as there is a pilot that may make the rest.

        Raises
        ------
        UsageError
            If there is nothing, or several things, to wait for.
        """
        wish = as_filter("outputs", "whole", "newest", "wait", **select)
        fetch = functools.partial(
            results, self._link, outputs=outputs, whole=whole, newest=newest, load=self._load_value
        )
        if isinstance(wish.campaign, int | str) and wait is not False and not newest:
            return results_of_campaign(self._link, wish.campaign, wish, fetch, wait=wait)
        if wait:
            raise UsageError(
                "wait=True gives results in the order in which tasks end: leave out newest=True"
                if newest
                else "wait=True is for the results of one campaign: give campaign="
            )
        return fetch(wish)

    def _load_value(self, task: TaskId, call: str, near: Sequence[TaskId]) -> Any:
        """Return what a call has returned; a session that has functions knows how."""
        raise NotImplementedError

    def vocabulary(self) -> Vocabulary:
        """Return the names of parameters and the tags in use, for the completion of filters."""
        words = self._link.call(GetWords())
        return Vocabulary(words.params, words.tags)

    def overview(self, since: int = 0, *, span_s: float = 600.0, wait_s: float = 0.0) -> Overview:
        """Return pilots, campaigns and the recent past, for a `pilotmtc.session.look.overview.Board` to add up.

        Parameters
        ----------
        since
            ``Overview.seq`` of the last answer: return what has changed since then; 0: everything.
        span_s
            The length of the past.
        wait_s
            How long to wait for a change.
        """
        return self._link.call(GetOverview(since, span_s, wait_s))

    def mark_seen(self, marks: Mapping[str, float | None]) -> None:
        """Mark what needs attention as seen until there is more of it, by `Notice.key`; None: it is new again."""
        self._link.call(MarkSeen(dict(marks)))

    def fields(self, **select: Unpack[Selection]) -> tuple[str, ...]:
        """Return the names of all parameters, in order of appearance. This looks at every task."""
        names: dict[str, None] = {}
        for page in pages(self._link, as_filter(**select), size=_FIELDS_PAGE):
            for task in page:
                if not names.keys() >= task.params.keys():
                    names.update(dict.fromkeys(task.params))
        return tuple(names)

    def follow(self, campaign: int | str) -> Iterator[Step]:
        """Yield the progress of a campaign, and which of its tasks have ended, until all have finished."""
        for step in follow(self._link, get_campaign(self._link, campaign).id):
            yield step
            if step.complete:
                return

    def wait(self, campaign: int | str, timeout_s: float | None = None) -> Campaign:
        """Wait until all tasks of a campaign have finished; return the campaign.

        Raises
        ------
        TimeoutError
            If they have not finished within `timeout_s`.
        """
        timeout_s = seconds("timeout_s", timeout_s)
        until = None if timeout_s is None else time.monotonic() + timeout_s
        found = get_campaign(self._link, campaign)
        if is_finished(found):
            return found
        for step in self.follow(found.id):
            found = step.campaign
            if until is not None and time.monotonic() >= until and not is_finished(found):
                raise TimeoutError(f"campaign {campaign} has not finished after {timeout_s:g} s")
        return found


def _task_id(task: object) -> TaskId:
    return TaskId(whole_number("task", task))
