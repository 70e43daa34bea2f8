"""``pilotmtc hold`` and ``release``."""

import click

from pilotmtc.cli.command import command, open_session
from pilotmtc.cli.options.types import CAMPAIGN, json_option
from pilotmtc.cli.output import shapes, streams


@command("hold", examples="pilotmtc hold scan\npilotmtc hold 7 'night-*'\n")
@click.argument("campaigns", metavar="CAMPAIGN...", type=CAMPAIGN, nargs=-1, required=True)
@json_option
def hold(campaigns: tuple[int | str, ...], as_json: bool) -> None:
    """Put each CAMPAIGN (a number or name) on hold: no pilot takes more of its tasks.

    What runs goes on, and so does what a pilot has taken already. See release.
    """
    _set(campaigns, hold=True, as_json=as_json)


@command("release", examples="pilotmtc release scan\n")
@click.argument("campaigns", metavar="CAMPAIGN...", type=CAMPAIGN, nargs=-1, required=True)
@json_option
def release(campaigns: tuple[int | str, ...], as_json: bool) -> None:
    """Let pilots take the tasks of each CAMPAIGN (a number or name) again, after hold."""
    _set(campaigns, hold=False, as_json=as_json)


def _set(campaigns: tuple[int | str, ...], *, hold: bool, as_json: bool) -> None:
    with open_session() as session:
        for found in session.campaigns_named(*campaigns):
            changed = (session.hold if hold else session.release)(found.id).changed
            if as_json:
                streams.put_json(shapes.campaign(session.campaign(found.id)))
            else:
                now = "on hold" if hold else "released"
                streams.put([f"campaign {found.id} is {now}" if changed else f"campaign {found.id} was {now} already"])
