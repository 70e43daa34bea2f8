"""``pilotmtc pilot``."""

import os
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from pilotmtc.cli import out, shapes
from pilotmtc.cli.command import Group, command, open_session, store_option
from pilotmtc.cli.options import ID, Assignment, Number, json_option
from pilotmtc.cli.text import Column, ago, count, pairs, span
from pilotmtc.units import format_memory

if TYPE_CHECKING:
    from pilotmtc.model import Pilot

_COLUMNS = (
    Column("PILOT", right=True), Column("STATE", state=True), Column("SITE", spare=5), Column("HOST", spare=3),
    Column("CORES", right=True), Column("BUSY", right=True), Column("STARTED"), Column("SEEN", spare=4),
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
    "submit", examples="pilotmtc pilot submit\npilotmtc pilot submit --cores 8 --gpus 1 --walltime 12h --idle 10m\n"
)
@click.option("--site", type=click.Choice(("local",)), default="local", show_default=True, help="Where: this machine.")
@click.option("--cores", type=Number(1), metavar="N", help="Cores for tasks  [default: all]")
@click.option("--gpus", type=Number(0), metavar="N", help="GPUs for tasks  [default: 0]")
@click.option("--memory", default="0", metavar="SIZE", help="Memory for tasks: 512M, 2G  [default: all]")
@click.option(
    "--resource", "resources", multiple=True, metavar="NAME=N", type=Assignment("resource", number=True),
    help="A named resource that there is, such as licences.",
)  # fmt: skip
@click.option("--walltime", default="0", metavar="TIME", help="It ends after that: 5m, 2h, 1d  [default: never]")
@click.option("--idle", default="0", metavar="TIME", help="It ends after so long without a task  [default: never]")
@click.option("-c", "--campaign", type=ID, metavar="ID", help="It takes tasks of this campaign only.")
@click.option("--no-pin", is_flag=True, help="Do not bind tasks to their cores.")
@json_option
def submit(  # noqa: PLR0917 -- click gives them by name
    site: str, cores: int | None, gpus: int | None, memory: str, resources: tuple[tuple[str, float], ...],
    walltime: str, idle: str,
    campaign: int | None, no_pin: bool, as_json: bool,
) -> None:  # fmt: skip
    """Start a pilot on this machine, in the background, and print its id. Tasks inherit its environment."""
    del site  # there is one, so far
    with open_session() as session:
        found = session.pilots.submit(
            cores=cores or 0, gpus=gpus or 0, memory=memory, resources=dict(resources), walltime=walltime, idle=idle,
            campaign=campaign, pin=not no_pin,
        )  # fmt: skip
    if as_json:
        out.put_json(shapes.pilot(found))
        return
    out.put([str(found.id)])
    if sys.stderr.isatty():
        out.talk(
            f"pilot {found.id} is {found.state.name}, with {count(found.cores or found.description.cores, 'core')}"
        )


@command("list", examples="pilotmtc pilot list\npilotmtc pilot list --all --json | jq .reason\n")
@click.option("-a", "--all", "ended", is_flag=True, help="Those that are over, too.")
@json_option
def list_(ended: bool, as_json: bool) -> None:
    """List pilots, the newest first."""
    with open_session() as session:
        found = session.pilots.list(ended=ended)
    if as_json:
        for one in found:
            out.put_json(shapes.pilot(one))
    elif found:
        put_pilots(found)
    else:
        out.talk("no pilots" if ended else "no pilots are there; to see those that are over: --all")


def put_pilots(pilots: "Sequence[Pilot]") -> None:
    """Write a table of pilots."""
    now = time.time()
    out.put_table(
        _COLUMNS,
        [
            (
                str(one.id),
                one.state.name,
                one.description.site,
                one.host,
                str(one.cores or one.description.cores or ""),
                str(one.busy) if one.ended_at is None else "",
                ago(one.started_at or one.created_at, now),
                ago(one.seen_at, now) if one.ended_at is None else "",
                ago(one.ended_at, now),
                str(one.description.campaign or ""),
                one.reason,
            )
            for one in pilots
        ],
    )


@command("show", examples="pilotmtc pilot show 3\n")
@click.argument("id", type=ID)
@json_option
def show(id: int, as_json: bool) -> None:  # noqa: A002 -- click's name for the user's word
    """Show all about the pilot ID."""
    with open_session() as session:
        found = session.pilots.get(id)
    if as_json:
        out.put_json(shapes.pilot(found))
        return
    now = time.time()
    asked = found.description
    rows = [
        ("pilot", f"{found.id} at {asked.site}"),
        ("state", f"{found.state.name}{f' ({found.reason})' if found.reason else ''}"),
        ("host", f"{found.host}, process {found.pid}" if found.host else ""),
        ("cores", f"{found.busy} of {found.cores} busy" if found.ended_at is None else str(found.cores)),
        ("GPUs", str(asked.gpus) if asked.gpus else ""),
        ("memory", format_memory(asked.memory_bytes) if asked.memory_bytes else ""),
        ("resources", ", ".join(f"{name}={amount:g}" for name, amount in asked.named.items())),
        ("walltime", span(asked.walltime_s) if asked.walltime_s else ""),
        ("idle", span(asked.idle_s) if asked.idle_s else ""),
        ("campaign", str(asked.campaign or "")),
        ("created", ago(found.created_at, now)),
        ("started", ago(found.started_at, now)),
        ("seen", ago(found.seen_at, now)),
        ("ended", ago(found.ended_at, now)),
        ("log", os.path.join(found.directory, "agent.log") if found.directory else ""),
    ]
    out.put(pairs(rows, colour=out.has_colour(sys.stdout)))


def _end(ids: tuple[int, ...], everything: bool, as_json: bool, *, kill: bool) -> None:
    if bool(ids) == everything:
        raise click.UsageError("which pilots? give ids, or --all", click.get_current_context())
    with open_session() as session:
        chosen = [one.id for one in session.pilots] if everything else [session.pilots.get(id_).id for id_ in ids]
        changed = 0
        for id_ in chosen:
            changed += (session.pilots.cancel(id_) if kill else session.pilots.drain(id_)).changed
    if as_json:
        out.put_json({"changed": changed, "unfit": len(chosen) - changed})
        return
    over = len(chosen) - changed
    done = "to end now" if kill else "to end when their tasks have"
    out.put([f"{count(changed, 'pilot')} {done}" + (f"; {over} were over already" if over else "")])


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
