"""``pilotmtc pilot``."""

import os
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from pilotmtc.cli.command import Group, command, open_session, site_word, store_option
from pilotmtc.cli.options import ID, Assignment, Number, assigned, json_option, pilot_options, scheduler_options
from pilotmtc.cli.output import shapes, streams
from pilotmtc.text.tables import Column, ago, count, pairs
from pilotmtc.units import format_duration, format_memory

if TYPE_CHECKING:
    from pilotmtc.model import Pilot

_COLUMNS = (
    Column("PILOT", right=True), Column("STATE", state=True), Column("SITE", spare=5),
    Column("BATCH", optional=True, spare=7), Column("NATIVE", optional=True, spare=8), Column("HOST", spare=3),
    Column("NODES", right=True, optional=True), Column("CORES", right=True), Column("BUSY", right=True),
    Column("WAITED", right=True, optional=True, spare=9), Column("STARTED"),
    Column("LEFT", right=True, optional=True, spare=10), Column("SEEN", spare=4),
    Column("ENDED", optional=True, spare=2),
    Column("CAMPAIGN", right=True, optional=True, spare=6), Column("REASON", optional=True, spare=1),
)  # fmt: skip
_SHOWN = 20


@click.group(
    "pilot", cls=Group, examples="pilotmtc pilot submit --cores 8\npilotmtc pilot list\npilotmtc pilot drain 3\n"
)
@store_option
def pilot() -> None:
    """Start, list and end pilots. A pilot takes tasks from the store and runs them, in the background.

    It may come, go and be killed at any time: the tasks that it had are run by another.
    """


@command(
    "submit",
    examples="pilotmtc pilot submit\npilotmtc pilot submit --cores 8 --gpus 1 --walltime 12h --idle 10m\n"
    "pilotmtc pilot submit --site boulder --nodes 64 --walltime 2h\n",
)
@scheduler_options
@click.option("--cores", type=Number(1), metavar="N", help="Cores of a node for tasks  [default: all]")
@click.option("--gpus", "--gpus-per-node", "gpus", type=Number(0), metavar="N", help="GPUs of a node  [default: 0]")
@click.option("--memory", metavar="SIZE", help="Memory of a node for tasks: 512M, 2G  [default: all]")
@click.option(
    "--resource", "resources", multiple=True, metavar="NAME=N", type=Assignment("resource", number=True),
    help="A named resource that a node has, such as licences.",
)  # fmt: skip
@click.option("--walltime", metavar="TIME", help="It ends after that: 5m, 2h, 1d  [default: never]")
@click.option("--idle", metavar="TIME", help="It ends after so long without a task  [default: never]")
@click.option("-c", "--campaign", type=ID, metavar="ID", help="It takes tasks of this campaign only.")
@click.option("--no-pin", is_flag=True, help="Do not bind tasks to their cores.")
@json_option
def submit(as_json: bool, no_pin: bool, resources: tuple[tuple[str, float], ...], **options: Any) -> None:
    """Start a pilot in the background, and print its id.

    Without --site or --scheduler it runs on this machine, and tasks inherit its environment. A scheduler is asked where
    the store is: this returns when it has taken the pilot, which then waits for its turn; see pilot list.
    """
    asked = pilot_options(options)
    with open_session(makes=True) as session:
        if not asked.get("scheduler"):
            asked["site"] = site_word()
        for name in ("cores", "gpus", "memory", "walltime", "idle", "campaign"):
            if options[name] is not None:
                asked[name] = options[name]
        asked |= {"resources": assigned("resource", resources), "pin": not no_pin}
        found = session.pilots.submit(**asked)
    if as_json:
        streams.put_json(shapes.pilot(found))
    else:
        streams.put([str(found.id)])
    if found.trouble:
        streams.talk(f"the scheduler cannot be asked yet, and will be again: {found.trouble}")
    elif sys.stderr.isatty() and not as_json:
        what = f"job {found.batch} of {found.description.site}" if found.batch else count(found.cores, "core")
        streams.talk(f"pilot {found.id} is {found.state.name}: {what}{f', {found.reason}' if found.reason else ''}")


@command("list", examples="pilotmtc pilot list\npilotmtc pilot list --all --json | jq .reason\n")
@click.option("-a", "--all", "ended", is_flag=True, help="Those that are over, too.")
@json_option
def list_(ended: bool, as_json: bool) -> None:
    """List pilots, the newest first."""
    with open_session() as session:
        found = session.pilots.list(ended=ended)
    if as_json:
        for one in found:
            streams.put_json(shapes.pilot(one))
    elif found:
        put_pilots(found)
    else:
        streams.talk("no pilots" if ended else "no pilots are there; to see those that are over: --all")


def put_pilots(pilots: "Sequence[Pilot]") -> None:
    """Write a table of pilots."""
    now = time.time()
    streams.put_table(
        _COLUMNS,
        [
            (
                str(one.id),
                one.state.name,
                one.description.site,
                one.batch or "",
                one.native_state,
                one.host,
                str(one.nodes or one.description.nodes) if one.description.scheduler else "",
                str(one.cores or one.description.cores * one.description.nodes or ""),
                str(one.busy) if one.ended_at is None else "",
                _waited(one, now),
                ago(one.started_at, now),
                _left(one, now),
                ago(one.seen_at, now) if one.ended_at is None else "",
                ago(one.ended_at, now),
                str(one.description.campaign or ""),
                _why(one, now),
            )
            for one in pilots
        ],
    )


def _waited(pilot: "Pilot", now: float) -> str:
    """Return how long it was, or is, in its queue."""
    if not pilot.description.scheduler:
        return ""
    until = pilot.started_at or pilot.ended_at or now
    return format_duration(until - (pilot.submitted_at or pilot.created_at))


def _left(pilot: "Pilot", now: float) -> str:
    """Return how much of its walltime is left."""
    if not pilot.description.walltime_s or pilot.started_at is None or pilot.ended_at is not None:
        return ""
    return format_duration(pilot.started_at + pilot.description.walltime_s - now)


def _why(pilot: "Pilot", now: float) -> str:
    """Return its reason, and why that may be out of date."""
    if not pilot.trouble or pilot.ended_at is not None:
        return pilot.reason
    when = f"asked {ago(pilot.asked_at, now)}" if pilot.asked_at else "not asked yet"
    return f"{pilot.reason}{' ' if pilot.reason else ''}({when}: {pilot.trouble})"


def _asked(pilot: "Pilot", now: float) -> str:
    """Return when its scheduler was asked about it, and why it could not be."""
    if not pilot.trouble:
        return ago(pilot.asked_at, now)
    return f"{ago(pilot.asked_at, now) or 'not yet'}: {pilot.trouble}"


@command("show", examples="pilotmtc pilot show 3\n")
@click.argument("id", type=ID)
@json_option
def show(id: int, as_json: bool) -> None:  # noqa: A002 -- click's name for the user's word
    """Show all about the pilot ID."""
    with open_session() as session:
        found = session.pilots.get(id)
    if as_json:
        streams.put_json(shapes.pilot(found))
        return
    now = time.time()
    asked = found.description
    memory = found.node_memory_bytes or asked.memory_bytes
    rows = [
        ("pilot", f"{found.id} at {asked.site}"),
        ("state", f"{found.state.name}{f' ({found.reason})' if found.reason else ''}"),
        ("scheduler", asked.scheduler),
        ("batch", f"{found.batch or ''} {found.native_state}".strip()),
        ("asked", _asked(found, now)),
        ("waited", _waited(found, now)),
        ("nodes", str(found.nodes or asked.nodes) if asked.scheduler else ""),
        *[(name, str(getattr(asked, name))) for name in ("queue", "account", "qos", "constraint", "reservation")],
        ("host", f"{found.host}, process {found.pid}" if found.host else ""),
        ("cores", f"{found.busy} of {found.cores} busy" if found.ended_at is None else str(found.cores)),
        ("GPUs", str(asked.gpus) if asked.gpus else ""),
        ("memory", format_memory(memory) if memory else ""),
        ("resources", ", ".join(f"{name}={amount:g}" for name, amount in asked.named.items())),
        ("walltime", format_duration(asked.walltime_s) if asked.walltime_s else ""),
        ("left", _left(found, now)),
        ("idle", format_duration(asked.idle_s) if asked.idle_s else ""),
        ("campaign", str(asked.campaign or "")),
        ("created", ago(found.created_at, now)),
        ("started", ago(found.started_at, now)),
        ("seen", ago(found.seen_at, now)),
        ("ended", ago(found.ended_at, now)),
        ("log", os.path.join(found.directory, "agent.log") if found.directory else ""),
    ]
    streams.put(pairs(rows, colour=streams.has_colour(sys.stdout)))


def _end(ids: tuple[int, ...], everything: bool, as_json: bool, *, kill: bool) -> None:
    if bool(ids) == everything:
        raise click.UsageError("which pilots? give ids, or --all", click.get_current_context())
    with open_session() as session:
        chosen = [one.id for one in session.pilots] if everything else [session.pilots.get(id_).id for id_ in ids]
        changed = 0
        for id_ in chosen:
            changed += (session.pilots.cancel(id_) if kill else session.pilots.drain(id_)).changed
    if as_json:
        streams.put_json({"changed": changed, "unfit": len(chosen) - changed})
        return
    over = len(chosen) - changed
    done = "to end now" if kill else "to end when their tasks have"
    left = f"; {over} {'was' if over == 1 else 'were'} over already" if over else ""
    streams.put([f"{count(changed, 'pilot')} {done}{left}"])


@command("drain", examples="pilotmtc pilot drain 3\npilotmtc pilot drain --all\n")
@click.argument("ids", metavar="[ID]...", nargs=-1, type=ID)
@click.option("-a", "--all", "everything", is_flag=True, help="All that are there.")
@json_option
def drain(ids: tuple[int, ...], everything: bool, as_json: bool) -> None:
    """Let pilots finish the tasks that they run, take no new ones, and leave."""
    _end(ids, everything, as_json, kill=False)


@command("cancel", examples="pilotmtc pilot cancel 3\npilotmtc pilot cancel --all\n")
@click.argument("ids", metavar="[ID]...", nargs=-1, type=ID)
@click.option("-a", "--all", "everything", is_flag=True, help="All that are there.")
@json_option
def cancel(ids: tuple[int, ...], everything: bool, as_json: bool) -> None:
    """End pilots now: the tasks that they run are killed, and run again by others."""
    _end(ids, everything, as_json, kill=True)


for _command in (submit, list_, show, drain, cancel):
    pilot.add_command(_command)
