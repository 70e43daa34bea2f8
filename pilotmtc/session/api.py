"""`Session`: a store, and everything that can be done with it."""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Unpack

from msgspec.structs import replace

from pilotmtc.campaign.submit import NO_OPTIONS, TaskSpec
from pilotmtc.errors import PilotMTCError, UsageError
from pilotmtc.model import CampaignId, PilotDescription
from pilotmtc.protocol.base import Changed
from pilotmtc.protocol.client.campaigns import GetCampaigns, Submitted
from pilotmtc.protocol.client.tasks import Cancel
from pilotmtc.protocol.records import Filter
from pilotmtc.session.arguments import campaign_words
from pilotmtc.session.functions import Functions
from pilotmtc.session.link import StoreLink
from pilotmtc.session.look.follow import get_campaign, ids_of
from pilotmtc.session.look.select import NewValues, Selection, as_choice
from pilotmtc.session.maintenance import Maintenance
from pilotmtc.session.pilots import Pilots
from pilotmtc.session.queries import Queries
from pilotmtc.session.run.resume import rest
from pilotmtc.session.run.runner import Run
from pilotmtc.session.steering import Steering
from pilotmtc.session.stores import find_store
from pilotmtc.session.submit.add import Added, add, new_points
from pilotmtc.session.submit.changes import edit_request, rerun_request, retry_request
from pilotmtc.session.submit.command_line import commands_of
from pilotmtc.session.submit.sending import new_key, seal, submit
from pilotmtc.session.submit.tasks import (
    Params,
    TaskOptions,
    TaskStream,
    Word,
    as_source,
    make_commands,
    make_tasks,
    read_campaign,
)
from pilotmtc.sites import LOCAL
from pilotmtc.store.client.client import StoreClient
from pilotmtc.store.client.connect import connect_store
from pilotmtc.store.interface import Store
from pilotmtc.transport.link import Ask

if TYPE_CHECKING:
    from pilotmtc.session.ahead import Ahead
    from pilotmtc.session.submit.plan import Plan as SubmitPlan


class Session(Functions, Queries, Steering, Maintenance):
    """A store, and everything that can be done with it. Threads may share a session.

    Parameters
    ----------
    store
        The store's file, which is created if it does not exist; None: ``$PILOTMTC_STORE``, by default
        ``~/.local/share/pilotmtc/store.db``. Or a `pilotmtc.store.interface.Store`, which the session does not close.
    site
        A site of ``sites.toml``: by default, the session uses its store and starts pilots there.
    patience_s
        How long requests wait for a store that cannot be reached; None: without limit.
    ask
        Called to ask for passwords and codes, with prompts and whether each answer may be shown; None: ask on the
        terminal.
    ahead
        What was started for it before.

    Raises
    ------
    ConfigError
        If a store cannot be at `store`.

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
        ahead: "Ahead | None" = None,
    ) -> None:
        self._site = site
        self._ahead = ahead
        if store is None or isinstance(store, str | Path):
            where = find_store(store, site)
            self._client: StoreClient | None = connect_store(
                where.url, patience_s=patience_s, ask=ask, ahead=None if ahead is None else ahead.server
            )
            self._link = StoreLink(self._client, where.url)
        else:
            self._client = None
            self._link = StoreLink(store, "the store")

    def __enter__(self) -> "Session":
        """Return the session."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the session."""
        self.close()

    def close(self) -> None:
        """Disconnect from the store. Submitted tasks stay, and pilots continue."""
        if self._client is not None:
            self._client.close()

    @property
    def url(self) -> str:
        """The path or URL of the store."""
        return self._link.url

    @property
    def pilots(self) -> Pilots:
        """The pilots of the store."""
        return Pilots(self._link, self._site)

    @property
    def trouble(self) -> str:
        """Why there is no connection to the store now; empty if there is one, and before the first attempt."""
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
            ``{"mass": [1, 2], "seed": range(10)}`` is a grid of 20 tasks; an iterable of mappings gives one task each;
            an iterable of single values replaces ``{}``; a source of `pilotmtc.parameters` works, too. None: one task.
        name
            The campaign's name.
        **options
            See `TaskOptions`.

        Raises
        ------
        UsageError
            If a task is invalid. Tasks that were submitted before it are then canceled.
        """
        source = None if params is None else as_source(params)
        return self.submit_tasks(make_tasks(command, source, options), name=name)

    def submit_commands(
        self, commands: str | Path | Iterable[str], *, name: str = "", **options: Unpack[TaskOptions]
    ) -> CampaignId:
        """Submit tasks that are whole commands, each a shell line, and return their campaign.

        Parameters
        ----------
        commands
            The path of a file with one command a line, or the commands. Braces in them are no placeholders.
        name
            The campaign's name.
        **options
            See `TaskOptions`; there, ``{command}`` and ``{#}`` are placeholders.
        """
        if isinstance(commands, str | Path):
            return self.submit_tasks(commands_of(os.fspath(commands), None, options), name=name)
        return self.submit_tasks(make_commands(as_source(commands), options), name=name)

    def submit_file(self, path: str | Path, *, memo: bool = False) -> CampaignId:
        """Submit the tasks of the campaign file at `path` and return their campaign; `memo` is as in `TaskOptions`."""
        tasks, name = read_campaign(path)
        tasks.options = replace(tasks.options, memo=memo)
        return self.submit_tasks(tasks, name=name)

    def submit_tasks(
        self,
        tasks: Iterable[TaskSpec],
        *,
        name: str = "",
        key: str | None = None,
        on_submitted: Callable[[Submitted], None] | None = None,
    ) -> CampaignId:
        """Submit a stream of `tasks`, which are not kept in memory, and return their campaign.

        Parameters
        ----------
        key
            Makes it safe to call this again with the same key and tasks, for example after a crash: tasks that the
            store already has are compared and skipped.
        on_submitted
            Called from time to time with the campaign so far, perhaps by another thread.
        """
        options = tasks.options if isinstance(tasks, TaskStream) else NO_OPTIONS
        own = key is None
        found = self._link.call(GetCampaigns(key=key)).campaigns if key else ()
        offset, tasks = rest(self._link, found[0], tasks) if found else (0, tasks)
        key = key or new_key()
        done = False
        try:
            answer = submit(
                self._link, tasks, key=key, name=name, options=options, offset=offset, on_submitted=on_submitted
            )
            done = True
        finally:
            if not done and own:
                self._take_back(key)
        return answer.campaign

    def add(
        self, campaign: int | str, params: Params, *, new_only: bool = False, again: bool = False,
        after_campaign: int | str | Sequence[int | str] = (), watch: Sequence[str] | None = None, memo: bool = False,
    ) -> Added:  # fmt: skip
        """Add tasks to a campaign: its own command for more parameters.

        Parameters
        ----------
        params
            As in `submit`, with the names that the campaign's tasks have.
        new_only
            Pass over points of which the campaign has a task. Without this, they are an error.
        again
            Add tasks for such points, too.
        after_campaign
            A campaign, or several, by id or name, for which all tasks of this one wait that have not begun.
        watch, memo
            Other program files for these tasks; take results of earlier ones. See `TaskOptions`.

        Returns
        -------
        Added
            How many tasks were ``added``, and how many points were ``passed_over``.

        Raises
        ------
        UsageError
            If there is no such campaign, or if it cannot be added to. Nothing is added then.
        """
        found = get_campaign(self._link, campaign)
        after = ids_of(self._link, campaign_words("after_campaign", after_campaign))
        points = new_points(self._link, found, as_source(params), new_only=new_only, again=again, watch=watch)
        return add(self._link, found, points, after=after, memo=memo)

    def plan_add(
        self, campaign: int | str, params: Params, *, new_only: bool = False, again: bool = False
    ) -> tuple["SubmitPlan | None", int]:
        """Return what `add` would make, and how many points it would pass over; nothing is stored.

        None: there would be no new task.
        """
        from pilotmtc.session.submit.plan import make_plan

        found = get_campaign(self._link, campaign)
        points = new_points(self._link, found, as_source(params), new_only=new_only, again=again)
        plan = make_plan(points.tasks, offset=found.received) if points.tasks else None
        return plan, points.passed_over

    def show(self, campaign: int | str, *, form: Literal["command", "toml"] = "toml") -> str:
        """Return what makes a campaign again.

        Parameters
        ----------
        form
            ``"toml"``: the text of a campaign file. ``"command"``: the command line ``pilotmtc submit ...``, quoted for
            a shell.

        Raises
        ------
        UsageError
            If there is no such campaign, or if it cannot be said so; the text names what.
        """
        from pilotmtc.session.submit.again import campaign_file, command_line, joined  # most sessions need none

        found = get_campaign(self._link, campaign)
        if form == "toml":
            return campaign_file(self._link, found)
        if form == "command":
            return joined(command_line(self._link, found))
        raise UsageError(f'form={form!r} is neither "toml" nor "command": choose one')

    def _take_back(self, key: str) -> None:
        """Cancel the submitted part of a campaign whose submission has failed: the user does not know its number."""
        try:
            for found in self._link.call(GetCampaigns(key=key)).campaigns:
                seal(self._link, key, found.received)
                self._link.call(Cancel(new_key(), Filter(campaign=found.id)))
        except PilotMTCError:  # the store itself fails, as the first error says
            return

    def run(
        self,
        tasks: TaskStream | None,
        *,
        name: str = "",
        campaign: int | str | None = None,
        pilot: PilotDescription | None = None,
        outputs: bool = True,
        keep_order: bool = False,
        live: bool = False,
        any_pilot: bool = False,
        retry_failed: bool = False,
        halt: str | int | None = None,
    ) -> Run:
        """Return a `Run` of `tasks` in pilots of its own; iterating over its ``events()`` performs it.

        Parameters
        ----------
        tasks
            From `make_tasks`. None, with `campaign`: run the rest of that campaign. With both, continue the campaign's
            interrupted submission: `tasks` must start with those that it has.
        pilot
            The description of its pilots.
        outputs, keep_order, live, any_pilot, retry_failed, halt
            See `Run`.

        Raises
        ------
        UsageError
            If there is nothing to run, or the campaign is complete and `tasks` are given.
        """
        found = None if campaign is None else get_campaign(self._link, campaign)
        if found is not None and found.on_hold:
            raise UsageError(f"campaign {found.id} is on hold: release it first, with pilotmtc release {found.id}")
        if found is None and tasks is None:
            raise UsageError("there is nothing to run: give tasks, or a campaign to go on with")
        if found is not None and found.sealed and tasks is not None:
            raise UsageError(
                f"campaign {found.id} is complete with {found.received} task{'s' * (found.received != 1)}: "
                "go on with it without a command"
            )
        return Run(
            self._link, tasks, name=name, campaign=found, pilot=pilot, outputs=outputs, keep_order=keep_order,
            live=live, any_pilot=any_pilot, retry_failed=retry_failed, halt=halt,
            ahead=None if self._ahead is None else self._ahead.agent,
        )  # fmt: skip

    # -- steering ---------------------------------------------------------------------------------------------

    def cancel(self, **select: Unpack[Selection]) -> Changed:
        """Cancel tasks: running tasks are killed, the others never start."""
        return self._link.call(Cancel(new_key(), as_choice(**select)))

    def retry(self, **select: Unpack[Selection]) -> Changed:
        """Retry tasks that are FAILED, CANCELED or SKIPPED, with all their retries."""
        return self._link.call(retry_request(self._link, as_choice(**select)))

    def rerun(self, *, dependents: bool = False, changed: bool = False, **select: Unpack[Selection]) -> Changed:
        """Run tasks again that have finished, DONE ones, too. Results of earlier attempts stay on record.

        Parameters
        ----------
        dependents
            Run again also the finished tasks that depend on them.
        changed
            Only those, DONE or FAILED, whose program files have another content than when they ran, and the finished
            tasks that depend on them.

        Raises
        ------
        UsageError
            If a program file cannot be read now, or if none is known.
        """
        return self._link.call(rerun_request(self._link, as_choice(**select), dependents=dependents, changed=changed))

    def plan_rerun(
        self, *, dependents: bool = False, changed: bool = False, **select: Unpack[Selection]
    ) -> "SubmitPlan":
        """Return which tasks `rerun` would run again, as far as those that they need let them; nothing is stored."""
        from pilotmtc.session.submit.plan_rerun import plan_rerun

        return plan_rerun(self._link, as_choice(**select), dependents=dependents, changed=changed)

    def edit(self, new: NewValues, **select: Unpack[Selection]) -> Changed:
        """Change tasks that have not started, as in ``session.edit({"priority": 5}, campaign=3)``.

        What has begun or ended keeps what it ran.

        Raises
        ------
        UsageError
            If nothing is to be changed, or if a value is invalid.
        """
        return self._link.call(edit_request(self._link, as_choice(**select), new))
