"""``pilotmtc rename``."""

import click

from pilotmtc.cli.command import command, open_session
from pilotmtc.cli.options.types import CAMPAIGN, json_option
from pilotmtc.cli.output import shapes, streams


@command("rename", examples="pilotmtc rename 7 mass-scan\npilotmtc rename scan scan-before-the-fix\n")
@click.argument("campaign", type=CAMPAIGN)
@click.argument("name")
@json_option
def rename(campaign: int | str, name: str, as_json: bool) -> None:
    """Give CAMPAIGN (its number or name) the NAME. An empty one takes the name away."""
    with open_session() as session:
        before = session.campaign(campaign)
        session.rename(before.id, name)
        if as_json:
            streams.put_json(shapes.campaign(session.campaign(before.id)))
        else:
            now = f"is called {name!r} now" if name else "has no name"
            streams.put([f"campaign {before.id} {now}"])
