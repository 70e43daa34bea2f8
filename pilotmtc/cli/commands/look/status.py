"""``pilotmtc status``."""

import sys
import time
from typing import TYPE_CHECKING

import click

from pilotmtc.cli.command import command, hint, open_session
from pilotmtc.cli.options.types import CAMPAIGN, Number, json_option
from pilotmtc.cli.output import shapes, streams
from pilotmtc.text.campaigns import campaign_title, command_title, steering_rows
from pilotmtc.text.numbers import ago, count
from pilotmtc.text.tables import Column, paint, pairs
from pilotmtc.units import format_memory

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pilotmtc.model import Campaign, Pilot
    from pilotmtc.session import Session

_DESERTED = 5
_MOST_HELD = 10_000
_ON_HOLD, _FREE = "hold:yes", "hold:no"  # filters
_EXAMPLES = """\
pilotmtc status
pilotmtc status 7
pilotmtc status scan night-*
pilotmtc --store ~/runs/store.db status --json
"""
_COLUMNS = (
    Column("CAMPAIGN", right=True), Column("CREATED", spare=3), Column("TASKS", right=True), Column("DONE", right=True),
    Column("FAILED", right=True, optional=True), Column("SKIPPED", right=True, optional=True, spare=4),
    Column("CANCELED", right=True, optional=True, spare=5), Column("RUNNING", right=True, spare=2),
    Column("TO RUN", right=True), Column("NAME", optional=True, spare=1),
)  # fmt: skip


@command("status", examples=_EXAMPLES)
@click.argument("wanted", metavar="[CAMPAIGN]...", type=CAMPAIGN, nargs=-1)
@click.option(
    "-n", "--limit", type=Number(0), metavar="N", default=20, show_default=True,
    help="Largest number of campaigns to show; 0: all.",
)  # fmt: skip
@json_option
def status(wanted: tuple[int | str, ...], limit: int, as_json: bool) -> None:
    """Show the progress of all campaigns, or of each CAMPAIGN (its number or name), and the active pilots."""
    with open_session() as session:
        campaigns = session.campaigns_named(*wanted) if wanted else session.campaigns()
        pilots = session.pilots.list()
        if as_json:
            info = session.info()
            shown = campaigns if wanted else campaigns[: limit or None]
            streams.put_json(
                {
                    "store": {
                        "path": info.path,
                        "host": info.host,
                        "version": info.version,
                        "size_bytes": info.size_bytes,
                        "clients": info.clients,
                    },
                    "campaigns": [shapes.campaign(one) for one in shown],
                    "pilots": [shapes.pilot(one) for one in pilots],
                }
            )
            return
        if len(wanted) == len(campaigns) == 1:
            put_campaign(campaigns[0], session)
        elif wanted:
            streams.put_table(_COLUMNS, [_row(one) for one in campaigns])
        else:
            _overview(session, campaigns, limit)
        if pilots:
            from pilotmtc.cli.commands.run.pilot import put_pilots

            streams.put([""])
            put_pilots(pilots)
        elif any(_could_run(session, one) for one in campaigns):
            streams.tell(f"no pilot is active to run what is left: {hint('pilot submit')}")
        tell_deserted(campaigns, pilots)


def _could_run(session: "Session", campaign: "Campaign") -> bool:
    """Return whether any pilot could run some of what is left."""
    if not _left(campaign) or campaign.own_pilots or campaign.on_hold or campaign.waits:
        return False
    return (
        session.count(campaign=campaign.id, states=["waiting", "ready", "claimed", "running"], filter=_FREE, most=0) > 0
    )


def tell_deserted(campaigns: "Iterable[Campaign]", pilots: "Iterable[Pilot]") -> None:
    """Tell which campaigns wait for pilots of their own, which the user must start."""
    from pilotmtc.session.look.overview import deserted

    for one in list(deserted(campaigns, pilots))[:_DESERTED]:
        ways = f"{hint(f'run --resume {one.id}')}, or {hint(f'pilot submit --campaign {one.id}')}"
        streams.tell(f"campaign {one.id} is kept for pilots of its own, and none is active: {ways}")


def _left(campaign: "Campaign") -> int:
    return campaign.received - sum(n for state, n in campaign.counts.items() if state.value >= 4)


def _overview(session: "Session", campaigns: "tuple[Campaign, ...]", limit: int) -> None:
    info = session.info()
    streams.put([paint(f"{info.path}  {format_memory(info.size_bytes)}", "dim", on=streams.has_colour(sys.stdout)), ""])
    if not campaigns:
        streams.put(["no campaigns yet"])
        return
    shown = campaigns[: limit or None]
    streams.put_table(_COLUMNS, [_row(one) for one in shown])
    if len(campaigns) > len(shown):
        streams.tell(f"{count(len(campaigns) - len(shown), 'older campaign')} not shown: use --limit")


def _row(campaign: "Campaign") -> tuple[str, ...]:
    counts = {state.name: n for state, n in campaign.counts.items()}

    def n(*states: str) -> int:
        return sum(counts.get(state, 0) for state in states)

    def some(state: str) -> str:
        return f"{n(state):,}" if n(state) else ""

    return (
        str(campaign.id),
        ago(campaign.created_at, time.time()),
        f"{campaign.received:,}{'' if campaign.sealed else '+'}",
        f"{n('DONE'):,}",
        some("FAILED"),
        some("SKIPPED"),
        some("CANCELED"),
        f"{n('RUNNING'):,}",
        f"{n('WAITING', 'READY', 'CLAIMED'):,}",
        campaign_title(campaign),
    )


def _held(campaign: "Campaign", session: "Session") -> int:
    """Return how many tasks are on hold by themselves; of more than some thousands that many."""
    return session.count(campaign=campaign.id, filter=_ON_HOLD, most=_MOST_HELD) if _left(campaign) else 0


def put_campaign(campaign: "Campaign", session: "Session") -> None:
    """Write what a campaign is, and how many of its tasks are in which state."""
    colour = streams.has_colour(sys.stdout)
    rows = [
        ("campaign", f"{campaign.id}{f' ({campaign.name})' if campaign.name else ''}"),
        ("command", command_title(campaign)),
        *steering_rows(campaign),
        ("known", f"{count(campaign.known, 'task')}, with results of earlier ones" if campaign.known else ""),
        ("on hold", count(held, "task") if (held := _held(campaign, session)) else ""),
        ("created", ago(campaign.created_at, time.time())),
        ("tasks", f"{campaign.received:,}{'' if campaign.sealed else ' so far: its submission has not finished'}"),
    ]
    rows += [(state.name.lower(), f"{n:,}") for state, n in sorted(campaign.counts.items()) if n]
    streams.put(pairs(rows, colour=colour))
    failed = list(session.tasks(campaign=campaign.id, states=["failed"], limit=1))
    if failed:
        streams.tell(f"see them: {hint(f'tasks --campaign {campaign.id} --state failed')}")
