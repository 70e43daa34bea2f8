"""``pilotmtc pilot``."""

import os
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from pilotmtc.cli.command import CommandGroup, command, open_session, site_word, store_option
from pilotmtc.cli.options.amounts import pilot_amounts, take_amounts
from pilotmtc.cli.options.dry_run import described, dry_run_option, pilot_words
from pilotmtc.cli.options.pilots import pilot_options, scheduler_options
from pilotmtc.cli.options.types import CAMPAIGN, ID, Number, json_option
from pilotmtc.cli.output import shapes, streams
from pilotmtc.resources.kinds import named
from pilotmtc.text.numbers import ago, count
from pilotmtc.text.tables import Column, pairs
from pilotmtc.units import format_duration, format_memory

if TYPE_CHECKING:
    from pilotmtc.model import Pilot, PilotDescription
    from pilotmtc.session import PilotOptions

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
    "pilot", cls=CommandGroup, examples="pilotmtc pilot submit --cores 8\npilotmtc pilot list\npilotmtc pilot drain 3\n"
)
@store_option
def pilot() -> None:
    """Start, list and end pilots. A pilot takes tasks from the store and runs them, in the background.

    A pilot may be killed at any time: another pilot then runs its tasks.
    """


@command(
    "submit",
    examples="pilotmtc pilot submit\npilotmtc pilot submit --cores 8 --gpus 1 --walltime 12h --idle 10m\n"
    "pilotmtc pilot submit --site boulder --nodes 64 --walltime 2h\n",
)
@scheduler_options
@click.option("--cores", type=Number(1), metavar="N", help="Cores per node  [default: all]")
@click.option("--gpus", "--gpus-per-node", "gpus", type=Number(0), metavar="N", help="GPUs per node  [default: 0]")
@pilot_amounts()
@click.option("--walltime", metavar="TIME", help="Time after which the pilot ends: 5m, 2h, 1d  [default: never]")
@click.option("--idle", metavar="TIME", help="Time without a task after which the pilot ends  [default: never]")
@click.option("-c", "--campaign", type=CAMPAIGN, metavar="CAMPAIGN", help="Take tasks of this campaign only.")
@click.option("--no-pin", is_flag=True, help="Do not bind tasks to their cores.")
@dry_run_option
@json_option
def submit(as_json: bool, no_pin: bool, dry_run: bool, **options: Any) -> None:
    """Start a pilot in the background, and print its id.

    Without --site or --scheduler it runs on this machine, and its tasks inherit the environment of this command. A
    scheduler is asked on the store's host. This returns when the scheduler has accepted the pilot, which then waits in
    the queue: see pilot list.
    """
    asked = pilot_options(options)
    options |= take_amounts(options)
    if not asked.get("scheduler"):
        asked["site"] = site_word()
    for name in ("cores", "gpus", "memory", "resources", "walltime", "idle", "campaign"):
        if options[name] is not None:
            asked[name] = options[name]
    asked["pin"] = not no_pin
    if dry_run:
        _put_preview(asked, as_json=as_json)
        return
    with open_session(makes=True) as session:
        found = session.pilots.submit(**asked)
    if as_json:
        streams.put_json(shapes.pilot(found))
    else:
        streams.put([str(found.id)])
    if found.trouble:
        streams.tell(f"the scheduler cannot be asked yet, and will be again: {found.trouble}")
    elif sys.stderr.isatty() and not as_json:
        what = f"job {found.batch} of {found.description.site}" if found.batch else count(found.cores, "core")
        streams.tell(f"pilot {found.id} is {found.state.name}: {what}{f', {found.reason}' if found.reason else ''}")


def _put_preview(asked: "PilotOptions", *, as_json: bool) -> None:
    """Write which pilot would be submitted, and its job."""
    import shlex

    from pilotmtc.session.submit.pilot import preview

    if (campaign := asked.get("campaign")) is not None:
        with open_session() as session:
            asked["campaign"] = session.campaign(campaign).id
    found = described(asked)
    job = preview(found)
    if as_json:
        shape = {"dry_run": True, "pilot": shapes.description(found)}
        more = {} if job is None else {"command": job.command, "input": job.input, "script": job.script}
        streams.put_json(shape | more)
        return
    lines = [f"a pilot on {pilot_words(found)}; nothing is stored"]
    lines += [f"{name:10} {value}" for name, value in _asked_rows(found) if value]
    if job is not None:
        lines += ["", f"$ {shlex.join(job.command)}", *job.input.splitlines()] if job.command else []
        lines += ["", "/DIRECTORY/job.sh:", *job.script.splitlines()]
    streams.put(lines)


def _asked_rows(asked: "PilotDescription") -> list[tuple[str, str]]:
    return [
        ("gpus", f"{asked.gpus} a node" if asked.gpus else ""),
        ("memory", f"{format_memory(asked.memory_bytes)} a node" if asked.memory_bytes else ""),
        ("resources", ", ".join(named(name).words(amount) for name, amount in asked.named.items())),
        ("walltime", format_duration(asked.walltime_s) if asked.walltime_s else ""),
        ("idle", f"{format_duration(asked.idle_s)} without a task" if asked.idle_s else ""),
        ("campaign", str(asked.campaign or "")),
        *((name, getattr(asked, name)) for name in ("queue", "account", "qos", "constraint", "reservation", "login")),
        ("exclusive", "yes" if asked.exclusive else ""),
    ]


@command("list", examples="pilotmtc pilot list\npilotmtc pilot list --all --json | jq .reason\n")
@click.option("-a", "--all", "ended", is_flag=True, help="Also pilots that have ended.")
@json_option
def list_(ended: bool, as_json: bool) -> None:
    """List pilots, newest first."""
    with open_session() as session:
        found = session.pilots.list(ended=ended)
    if as_json:
        for one in found:
            streams.put_json(shapes.pilot(one))
    elif found:
        put_pilots(found)
    else:
        streams.tell("no pilots" if ended else "no active pilots; to see those that have ended: --all")


def put_pilots(pilots: "Sequence[Pilot]") -> None:
    """Write a table of pilots."""
    now = time.time()
    streams.put_table(
        _COLUMNS,
        [
            (
                str(one.id),
                f"{one.state.name}{', on hold' * one.on_hold}",
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
    """Return how long it has waited, or waited, in its queue."""
    if not pilot.description.scheduler:
        return ""
    until = pilot.started_at or pilot.ended_at or now
    return format_duration(until - (pilot.submitted_at or pilot.created_at))


def _left(pilot: "Pilot", now: float) -> str:
    """Return the rest of its walltime."""
    from pilotmtc.session.look.overview import left_s

    left = left_s(pilot, now)
    return "" if left is None else format_duration(left)


def _why(pilot: "Pilot", now: float) -> str:
    """Return the reason for its state, and why that may be out of date."""
    if not pilot.trouble or pilot.ended_at is not None:
        return pilot.reason
    when = f"asked {ago(pilot.asked_at, now)}" if pilot.asked_at else "not asked yet"
    return f"{pilot.reason}{' ' if pilot.reason else ''}({when}: {pilot.trouble})"


def _asked(pilot: "Pilot", now: float) -> str:
    """Return when its scheduler was last asked about it, and why it could not be asked since."""
    if not pilot.trouble:
        return ago(pilot.asked_at, now)
    return f"{ago(pilot.asked_at, now) or 'not yet'}: {pilot.trouble}"


@command("show", examples="pilotmtc pilot show 3\n")
@click.argument("id", type=ID)
@json_option
def show(id: int, as_json: bool) -> None:  # noqa: A002 -- click's name for the user's word
    """Show everything about the pilot ID."""
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
        ("on hold", "it takes no more tasks until it is released" if found.on_hold else ""),
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
        ("resources", ", ".join(f"{name}={named(name).typed(amount)}" for name, amount in asked.named.items())),
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
    ended = len(chosen) - changed
    their = "its" if changed == 1 else "their"
    done = "will end now" if kill else f"will end when {their} running tasks finish"
    left = f"; {ended} had ended already" if ended else ""
    streams.put([f"{count(changed, 'pilot')} {done}{left}"])


@command("drain", examples="pilotmtc pilot drain 3\npilotmtc pilot drain --all\n")
@click.argument("ids", metavar="[ID]...", nargs=-1, type=ID)
@click.option("-a", "--all", "everything", is_flag=True, help="All active pilots.")
@json_option
def drain(ids: tuple[int, ...], everything: bool, as_json: bool) -> None:
    """Let pilots finish their running tasks, take no new ones, and end."""
    _end(ids, everything, as_json, kill=False)


@command("cancel", examples="pilotmtc pilot cancel 3\npilotmtc pilot cancel --all\n")
@click.argument("ids", metavar="[ID]...", nargs=-1, type=ID)
@click.option("-a", "--all", "everything", is_flag=True, help="All active pilots.")
@json_option
def cancel(ids: tuple[int, ...], everything: bool, as_json: bool) -> None:
    """End pilots now: their running tasks are killed, and run again on other pilots."""
    _end(ids, everything, as_json, kill=True)


def _set_hold(ids: tuple[int, ...], everything: bool, as_json: bool, *, hold: bool) -> None:
    if bool(ids) == everything:
        raise click.UsageError("which pilots? give ids, or --all", click.get_current_context())
    with open_session() as session:
        pilots = session.pilots
        chosen = [one.id for one in pilots] if everything else [pilots.get(id_).id for id_ in ids]
        done = [(pilots.hold if hold else pilots.release)(id_) for id_ in chosen]
    changed, unfit = sum(one.changed for one in done), sum(one.unfit for one in done)
    if as_json:
        streams.put_json({"changed": changed, "unfit": unfit})
        return
    now = "on hold" if hold else "released"
    same = len(chosen) - changed - unfit
    left = f"; {same} {'was' if same == 1 else 'were'} {now} already" if same else ""
    ended = f"; {unfit} had ended already" if unfit else ""
    streams.put([f"{count(changed, 'pilot')} {now}{left}{ended}"])


@command("hold", examples="pilotmtc pilot hold 3\n")
@click.argument("ids", metavar="[ID]...", nargs=-1, type=ID)
@click.option("-a", "--all", "everything", is_flag=True, help="All active pilots.")
@json_option
def hold(ids: tuple[int, ...], everything: bool, as_json: bool) -> None:
    """Let pilots take no more tasks until they are released; they end what they have taken.

    Their time goes on: a pilot that has nothing to do still ends after its --idle time, and with its walltime.
    """
    _set_hold(ids, everything, as_json, hold=True)


@command("release", examples="pilotmtc pilot release 3\npilotmtc pilot release --all\n")
@click.argument("ids", metavar="[ID]...", nargs=-1, type=ID)
@click.option("-a", "--all", "everything", is_flag=True, help="All active pilots.")
@json_option
def release(ids: tuple[int, ...], everything: bool, as_json: bool) -> None:
    """Let pilots take tasks again, after hold."""
    _set_hold(ids, everything, as_json, hold=False)


for _command in (submit, list_, show, drain, hold, release, cancel):
    pilot.add_command(_command)
