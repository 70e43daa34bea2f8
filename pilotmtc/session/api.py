"""`Session`: a store, and all that can be done with it."""

import concurrent.futures
import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Unpack

from pilotmtc.campaign import TaskSpec
from pilotmtc.errors import PilotMTCError, UsageError
from pilotmtc.model import Campaign, CampaignId, Key, Limit, PilotDescription, Task, TaskId
from pilotmtc.protocol.base import Changed, R, Request
from pilotmtc.protocol.client.campaigns import GetCampaigns, Submitted
from pilotmtc.protocol.client.maintenance import (
    CheckStore,
    Compacted,
    CompactStore,
    GetKeys,
    GetLimits,
    GetStore,
    NewKey,
    RevokeKey,
    SetLimit,
    SetMode,
    SnapshotStore,
    StoreInfo,
)
from pilotmtc.protocol.client.tasks import Cancel, Explain, GetTail, Output, Retry, Tail, TaskDetail
from pilotmtc.protocol.records import Filter
from pilotmtc.session.arguments import seconds
from pilotmtc.session.arguments import whole as whole_number
from pilotmtc.session.link import Link
from pilotmtc.session.look.explain import explain
from pilotmtc.session.look.follow import Step, follow, get_campaign, is_over
from pilotmtc.session.look.output import Piece, follow_output, get_output, get_task
from pilotmtc.session.look.results import TaskResult, pages, results
from pilotmtc.session.look.select import NewValues, Selection, as_choice, as_edit, as_filter
from pilotmtc.session.pilots import Pilots
from pilotmtc.session.run.resume import rest
from pilotmtc.session.run.runner import Run
from pilotmtc.session.submit.sending import new_key, seal, submit
from pilotmtc.session.submit.tasks import Params, TaskOptions, TaskStream, Word, as_source, make_tasks, read_campaign
from pilotmtc.sites import LOCAL, get_site
from pilotmtc.states import TaskState
from pilotmtc.store.client.client import StoreClient
from pilotmtc.store.client.connect import connect_store
from pilotmtc.store.interface import Store
from pilotmtc.store.location import locate
from pilotmtc.transport.link import Ask

_PAGE = 1000
_FIELDS_PAGE = 10_000


class Session:
    """A store, and all that can be done with it. Threads may share a session.

    Parameters
    ----------
    store
        The store's file; None is ``$PILOTMTC_STORE``, or else ``~/.local/share/pilotmtc/store.db``. It is made if it is
        not there. Or a `pilotmtc.store.interface.Store`, which the session then does not close.
    site
        A site of ``sites.toml``: its store, if no other is given, and where pilots are started if nothing else is said.
    patience_s
        How long requests wait for a store that cannot be reached; None: for ever.
    ask
        Asks for passwords and codes, called with prompts and whether each answer may be seen; None asks on the
        terminal.

    Raises
    ------
    ConfigError
        If `store` is no place for a store.

    Examples
    --------
    >>> with Session() as session:                                        # doctest: +SKIP
    ...     campaign = session.submit("python sim.py {mass}", {"mass": [1, 2, 3]}, cores=2, retries=1)
    ...     session.pilots.submit(cores=8, idle="1m")
    ...     session.wait(campaign)
    ...     for result in session.results(campaign=campaign):
    ...         print(result.params["mass"], result.stdout)
    """

    def __init__(
        self,
        store: str | Path | Store | None = None,
        *,
        site: str = LOCAL,
        patience_s: float | None = 60.0,
        ask: Ask | None = None,
    ) -> None:
        self._site = site
        if site != LOCAL:
            known = get_site(site)
            store = known.url if store is None else store
        if store is None or isinstance(store, str | Path):
            where = None if store is None else str(store)
            self._client: StoreClient | None = connect_store(where, patience_s=patience_s, ask=ask)
            self._link = Link(self._client, locate(where).url)
        else:
            self._client = None
            self._link = Link(store, "the store")

    def __enter__(self) -> "Session":
        """Return the session."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the session."""
        self.close()

    def close(self) -> None:
        """Let go of the store. What was submitted stays, and pilots go on."""
        if self._client is not None:
            self._client.close()

    @property
    def url(self) -> str:
        """Where the store is."""
        return self._link.url

    @property
    def pilots(self) -> Pilots:
        """The pilots of the store."""
        return Pilots(self._link, self._site)

    def call(self, request: Request[R]) -> R:
        """Send the store a request of `pilotmtc.protocol` and return its answer."""
        return self._link.call(request)

    def send(self, request: Request[R]) -> "concurrent.futures.Future[R]":
        """Send the store a request and return a future of its answer."""
        return self._link.send(request)

    @property
    def trouble(self) -> str:
        """Why there is no connection to the store right now; empty while there is one, and until it is known."""
        return "" if self._client is None else self._client.trouble

    # -- submitting -------------------------------------------------------------------------------------------

    def submit(
        self,
        command: str | Sequence[Word],
        params: Params | None = None,
        *,
        name: str = "",
        **options: Unpack[TaskOptions],
    ) -> CampaignId:
        """Submit tasks that run `command`, one for each row of `params`, and return their campaign.

        Parameters
        ----------
        command
            A shell line, or a sequence of a program and its arguments; ``{placeholders}`` take the parameters.
        params
            ``{"mass": [1, 2], "seed": range(10)}`` is a grid of 20; an iterable of mappings gives a row each; one of
            single values takes the place of ``{}``; and there are the sources of `pilotmtc.parameters`. None is one
            task.
        name
            The campaign's.
        **options
            See `TaskOptions`.

        Raises
        ------
        UsageError
            If a task cannot be. Those that had been submitted are then canceled.
        """
        source = None if params is None else as_source(params)
        return self.submit_tasks(make_tasks(command, source, options), name=name)

    def submit_file(self, path: str | Path) -> CampaignId:
        """Submit the tasks of the campaign file at `path` and return their campaign."""
        tasks, name = read_campaign(path)
        return self.submit_tasks(tasks, name=name)

    def submit_tasks(
        self,
        tasks: Iterable[TaskSpec],
        *,
        name: str = "",
        key: str | None = None,
        on_submitted: Callable[[Submitted], None] | None = None,
    ) -> CampaignId:
        """Submit `tasks`, which are taken as they come and not held, and return their campaign.

        Parameters
        ----------
        key
            Makes it safe to call again, after a crash, say, with the same key and the same tasks: what the store has
            already is compared and passed over.
        on_submitted
            Is told from time to time what the store has, perhaps by another thread.
        """
        own = key is None
        found = self._link.call(GetCampaigns(key=key)).campaigns if key else ()
        offset, tasks = rest(self._link, found[0], tasks) if found else (0, tasks)
        key = key or new_key()
        done = False
        try:
            answer = submit(self._link, tasks, key=key, name=name, offset=offset, on_submitted=on_submitted)
            done = True
        finally:
            if not done and own:
                self._take_back(key)
        return answer.campaign

    def _take_back(self, key: str) -> None:
        """Cancel the part of a campaign whose submission has failed: nobody knows its number."""
        try:
            for found in self._link.call(GetCampaigns(key=key)).campaigns:
                seal(self._link, key, found.received)
                self._link.call(Cancel(new_key(), Filter(campaign=found.id)))
        except PilotMTCError:  # the store is what failed: the first error says so
            return

    def run(
        self,
        tasks: TaskStream | None,
        *,
        name: str = "",
        campaign: int | None = None,
        pilot: PilotDescription | None = None,
        outputs: bool = True,
        keep_order: bool = False,
        any_pilot: bool = False,
        retry_failed: bool = False,
    ) -> Run:
        """Return a run of `tasks` with pilots of its own; iterating over its ``events()`` does it.

        Parameters
        ----------
        tasks
            As `make_tasks` makes them. None, with `campaign`, is what is left of that campaign; both submit `tasks`
            from where the campaign's submission was interrupted: they must begin with those that it has.
        pilot
            What its pilots are to be.
        outputs, keep_order, any_pilot, retry_failed
            See `Run`.

        Raises
        ------
        UsageError
            If there is nothing to run, or the campaign is complete and `tasks` are given.
        """
        found = None if campaign is None else get_campaign(self._link, campaign)
        if found is None and tasks is None:
            raise UsageError("there is nothing to run: give tasks, or a campaign to go on with")
        if found is not None and found.sealed and tasks is not None:
            raise UsageError(
                f"campaign {found.id} is complete with {found.received} task{'s' * (found.received != 1)}: "
                "go on with it without a command"
            )
        return Run(
            self._link, tasks, name=name, campaign=found, pilot=pilot, outputs=outputs, keep_order=keep_order,
            any_pilot=any_pilot, retry_failed=retry_failed,
        )  # fmt: skip

    # -- looking ----------------------------------------------------------------------------------------------

    def campaigns(self) -> tuple[Campaign, ...]:
        """Return all campaigns, newest first."""
        return self._link.call(GetCampaigns()).campaigns

    def campaign(self, campaign: int) -> Campaign:
        """Return a campaign.

        Raises
        ------
        UsageError
            If there is none of that number.
        """
        return get_campaign(self._link, campaign)

    def tasks(self, *, limit: int | None = None, newest: bool = False, **select: Unpack[Selection]) -> Iterator[Task]:
        """Yield tasks in order of their ids (`newest`: the other way round), `limit` at the most."""
        size = _PAGE if limit is None else max(1, min(limit, _PAGE))
        them = itertools.chain.from_iterable(
            pages(self._link, as_filter("limit", "newest", **select), newest=newest, size=size)
        )
        return itertools.islice(them, limit)

    def task(self, task: int) -> TaskDetail:
        """Return all about a task: its template, attempts and neighbours.

        Raises
        ------
        UsageError
            If there is none of that number.
        """
        return get_task(self._link, _task_id(task))

    def explain(self, task: int) -> tuple[TaskState, list[str]]:
        """Return a task's state, and why it is so: the answer first, then reasons, then commands behind ``$ ``.

        Raises
        ------
        UsageError
            If there is none of that number.
        """
        found = self._link.call(Explain(_task_id(task)))
        if found.task is None:
            raise UsageError(f"there is no task {task} in {self.url}: see pilotmtc tasks")
        return found.task.state, explain(found)

    def output(self, task: int, attempt: int = 0, *, whole: bool = True) -> Output:
        """Return what an attempt (0: the last) of a task has written.

        Parameters
        ----------
        whole
            Read the files of outputs that were too large for the store; if not, it is their heads and tails.

        Raises
        ------
        UsageError
            If there is no such task or attempt.
        StoreError
            If a file cannot be read.
        """
        return get_output(self._link, _task_id(task), whole_number("attempt", attempt), whole=whole)

    def tail(self, task: int, *, since: float = 0.0, wait_s: float = 5.0) -> Tail:
        """Return the end of what a task that runs has written so far, as its agent says.

        Parameters
        ----------
        since
            ``Tail.at`` of the last answer, to wait for a newer one.
        wait_s
            How long, in seconds. A task that does not run is answered at once.
        """
        return self._link.call(GetTail(_task_id(task), since, wait_s))

    def follow_output(self, task: int) -> Iterator[Piece]:
        """Yield what a task writes until it is over, from what it has written so far on.

        Raises
        ------
        UsageError
            If there is no such task, or it ends without ever having run.
        """
        return follow_output(self._link, _task_id(task))

    def results(
        self, *, outputs: bool = True, whole: bool = False, newest: bool = False, **select: Unpack[Selection]
    ) -> Iterator[TaskResult]:
        """Yield how tasks have ended, one by one, in order of their ids; those that are not over are passed over.

        Parameters
        ----------
        outputs
            Whether their stdout and stderr are wanted.
        whole
            Whether outputs that were too large for the store are to be read from their files.
        """
        wish = as_filter("outputs", "whole", "newest", **select)
        return results(self._link, wish, outputs=outputs, whole=whole, newest=newest)

    def fields(self, **select: Unpack[Selection]) -> tuple[str, ...]:
        """Return the names of all parameters of tasks, in order of appearance. Looks at every task."""
        names: dict[str, None] = {}
        for page in pages(self._link, as_filter(**select), size=_FIELDS_PAGE):
            for task in page:
                if not names.keys() >= task.params.keys():
                    names.update(dict.fromkeys(task.params))
        return tuple(names)

    def follow(self, campaign: int) -> Iterator[Step]:
        """Yield how far a campaign is and which of its tasks have ended, until all of it is over."""
        for step in follow(self._link, get_campaign(self._link, campaign).id):
            yield step
            if step.complete:
                return

    def wait(self, campaign: int, timeout_s: float | None = None) -> Campaign:
        """Return a campaign once all of its tasks are over.

        Raises
        ------
        TimeoutError
            If that is not so within `timeout_s`.
        """
        timeout_s = seconds("timeout_s", timeout_s)
        until = None if timeout_s is None else time.monotonic() + timeout_s
        found = get_campaign(self._link, campaign)
        if is_over(found):
            return found
        for step in self.follow(campaign):
            found = step.campaign
            if until is not None and time.monotonic() >= until and not is_over(found):
                raise TimeoutError(f"campaign {campaign} is not over after {timeout_s:g} s")
        return found

    # -- steering ---------------------------------------------------------------------------------------------

    def cancel(self, **select: Unpack[Selection]) -> Changed:
        """Cancel tasks: those that have not started at once, running ones are killed."""
        return self._link.call(Cancel(new_key(), as_choice(**select)))

    def retry(self, **select: Unpack[Selection]) -> Changed:
        """Run tasks again that are FAILED, CANCELED or SKIPPED, with all their tries."""
        return self._link.call(Retry(new_key(), as_choice(**select)))

    def edit(self, new: NewValues, **select: Unpack[Selection]) -> Changed:
        """Change tasks that have not started, as in ``session.edit({"priority": 5}, campaign=3)``."""
        return self._link.call(as_edit(new_key(), as_choice(**select), **new))

    # -- the store itself -------------------------------------------------------------------------------------

    def info(self) -> StoreInfo:
        """Return what the store is, who serves it, and how many tasks it has."""
        return self._link.call(GetStore())

    def limits(self) -> tuple[Limit, ...]:
        """Return the limits of named resources that count over all pilots of the store, and what is in use."""
        return self._link.call(GetLimits()).limits

    def set_limit(self, name: str, amount: float | None) -> None:
        """Let tasks of all pilots together use no more than `amount` of the named resource; None ends the limit.

        Tasks that run go on, also if they use more.

        Raises
        ------
        UsageError
            If the amount is not a number from 0 on.
        """
        self._link.call(SetLimit(name, amount))

    def set_mode(self, mode: str) -> None:
        """Let all hosts open the store as ``local`` or ``network``, or as its file system demands (``auto``)."""
        self._link.call(SetMode(mode))

    def check(self) -> tuple[str, ...]:
        """Return what is wrong with the store, in words; nothing if it is sound."""
        return self._link.call(CheckStore()).problems

    def compact(self) -> Compacted:
        """Give unused space in the store's file back, and return its size before and after."""
        return self._link.call(CompactStore())

    def snapshot(self, path: str | Path, *, lacks: Callable[[str], None] | None = None) -> Path:
        """Write a consistent copy of the store to `path` on its host, while it is in use; return where it is.

        Parameters
        ----------
        lacks
            Told in words if the copy lacks outputs, since they are in files beside the store.
        """
        where = Path(path) if "://" in self.url else Path(os.path.abspath(os.path.expanduser(path)))
        note = self._link.call(SnapshotStore(str(where))).note
        if note and lacks is not None:
            lacks(note)
        return where

    def new_key(self, name: str) -> Key:
        """Make a key on the store's host that opens this store over SSH and nothing else, and return it.

        A key of that name that is there already stays as it is.
        """
        return self._link.call(NewKey(name)).keys[0]

    def keys(self) -> tuple[Key, ...]:
        """Return the keys of the store, by name."""
        return self._link.call(GetKeys()).keys

    def revoke_key(self, name: str) -> bool:
        """Let a key open nothing any more, and remove it; return whether there was such a key."""
        return bool(self._link.call(RevokeKey(name)).changed)


def _task_id(task: object) -> TaskId:
    return TaskId(whole_number("task", task))
