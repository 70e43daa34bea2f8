"""``--dry-run``, and what it prints: what a command would make."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import click

from pilotmtc.cli.command import open_session, site_word, store_word
from pilotmtc.cli.options.types import F
from pilotmtc.cli.output import shapes, streams
from pilotmtc.text.numbers import count
from pilotmtc.text.plain import plain

if TYPE_CHECKING:
    from pilotmtc.campaign.submit import CampaignOptions
    from pilotmtc.model import PilotDescription
    from pilotmtc.session import PilotOptions, Session
    from pilotmtc.session.submit.plan import Plan, PlannedTask


def dry_run_option(function: F) -> F:
    """Add ``--dry-run``."""
    return click.option("--dry-run", is_flag=True, help="Show what would be made, and store nothing.")(function)


@contextlib.contextmanager
def session_if_there() -> "Iterator[Session | None]":
    """Yield a session with the store that was given; None if there is none yet, and none is made."""
    import os

    from pilotmtc.session.stores import find_store

    where = find_store(store_word(), site_word())
    if where.target is None and not os.path.exists(where.path):
        yield None
        return
    with open_session() as session:
        yield session


def described(options: "PilotOptions") -> "PilotDescription":
    """Return the description of a pilot, without a session."""
    from pilotmtc.session import describe
    from pilotmtc.session.stores import find_store

    return describe(remote=find_store(store_word(), site_word()).target is not None, **options)


def check_after(session: "Session | None", options: "CampaignOptions") -> None:
    """Raise `UsageError` if there is no campaign that the new one is to wait for."""
    from pilotmtc.errors import UsageError

    if session is None and options.after:
        raise UsageError(f"there is no campaign {options.after[0]}: there is no store yet")
    if session is not None and options.after:
        session.campaigns_named(*options.after)


def put_plan_of_run(
    plan: "Plan", name: str, pilot: "PilotDescription", options: "CampaignOptions | None" = None, *, as_json: bool
) -> None:
    """Write what would be run in pilots of its own, and how much of it at a time; raise if it does not fit there."""
    from pilotmtc.session.run.fitting import check_fit, room_for

    with session_if_there() as session:
        if options is not None:
            check_after(session, options)
        limits = {} if session is None else {limit.name: limit.amount for limit in session.limits()}
    found: list[tuple[str, dict[str, object]]] = []
    for one in plan.needs:
        check_fit(one.resources, pilot, limits)
        room = room_for(one.resources, pilot, limits)
        words = f"{room} at a time" if room is not None else "as many at a time as there is room for"
        found.append((f"{words}, on {pilot_words(pilot)}", {"at_once": room}))
    put_plan(plan, name, found, as_json=as_json)


def put_plan_of_submission(
    plan: "Plan", name: str, session: "Session | None", *, as_json: bool, **keys: object
) -> None:
    """Write what would be submitted, and which pilots could run it; `keys` are added to the JSON."""
    import time

    from pilotmtc.session.submit.plan import places

    pilots = [] if session is None else list(session.pilots)
    limits = {} if session is None else {limit.name: limit.amount for limit in session.limits()}
    found: list[tuple[str, dict[str, object]]] = []
    for one in plan.needs:
        why = places(one.resources, pilots, limits, time.time())
        fits = [pilot for pilot, obstacle in why.items() if not obstacle]
        words = f"fit pilot {', '.join(map(str, fits))}" if fits else "no pilot that is for all campaigns is active"
        if why and not fits:
            words = "; ".join(f"pilot {pilot} {obstacle}" for pilot, obstacle in why.items())
        found.append((words, {"pilots": fits}))
    put_plan(plan, name, found, as_json=as_json, **keys)


def put_plan_of_rerun(plan: "Plan", *, as_json: bool) -> None:
    """Write which tasks would run again."""
    if as_json:
        streams.put_json({"dry_run": True, "tasks": plan.tasks, "first": plan.first, "last": plan.last})
        return
    streams.put([f"{count(plan.tasks, 'task')} would run again; nothing is stored", *_lines(plan)])


def put_plan(
    plan: "Plan", name: str, places: Sequence[tuple[str, Mapping[str, object]]], *, as_json: bool, **keys: object
) -> None:
    """Write a plan.

    Parameters
    ----------
    places
        For each of the plan's needs, where they fit: in words, and as keys of JSON.
    **keys
        Further keys of the JSON.
    """
    if as_json:
        needs = [
            {"tasks": one.tasks, **shapes.resources(one.resources), **keys}
            for one, (_, keys) in zip(plan.needs, places, strict=True)
        ]
        streams.put_json(
            {"dry_run": True, "name": name, "tasks": plan.tasks, "first": plan.first, "last": plan.last, "needs": needs}
            | keys
        )
        return
    from pilotmtc.text.tasks import needs_words

    lines = [f"{count(plan.tasks, 'task')}{f' of a campaign called {name}' if name else ''}; nothing is stored"]
    lines += _lines(plan)
    for one, (words, _) in zip(plan.needs, places, strict=True):
        lines.append(f"{count(one.tasks, 'task')} of {needs_words(one.resources)}: {words}")
    for template in plan.templates:
        lines += [f"setup      {plain(line)}" for line in template.setup]
    streams.put(lines)


def _lines(plan: "Plan") -> list[str]:
    """Return the lines for the first and last tasks."""
    left = plan.tasks - len(plan.first) - len(plan.last)
    width = max([len(str(one.number)) for one in (*plan.first, *plan.last)], default=1)
    lines = [line for one in plan.first for line in _task_lines(one, width)]
    if left:
        lines.append(f"{'...':>{width + 2}} {left:,} more")
    return lines + [line for one in plan.last for line in _task_lines(one, width)]


def pilot_words(pilot: "PilotDescription") -> str:
    """Return what a pilot is, in words."""
    if not pilot.scheduler:
        return f"{count(pilot.cores, 'core') if pilot.cores else 'all cores'} of this machine"
    each = f" with {count(pilot.cores, 'core')}{' each' * (pilot.nodes > 1)}" if pilot.cores else ""
    return f"{count(pilot.nodes, 'node')}{each} of {pilot.site}"


def _task_lines(one: "PlannedTask", width: int) -> list[str]:
    params = " ".join(f"{name}={value}" for name, value in one.params.items() if not name.isdecimal())
    label = ", ".join(filter(None, [one.name, params, *one.tags, f"after {', '.join(one.after)}" if one.after else ""]))
    lines = [f"{one.number:>{width + 2}} {plain(one.command)}{f'  ({plain(label)})' if label else ''}"]
    files = [(mark, path) for mark, path in (("<", one.stdin), (">", one.stdout), ("2>", one.stderr)) if path]
    return [*lines, *(f"{'':{width + 2}} {mark} {plain(path)}" for mark, path in files)]
