"""``pilotmtc show``."""

from typing import Literal

import click

from pilotmtc.cli.command import command, open_session
from pilotmtc.cli.commands.look.status import put_campaign
from pilotmtc.cli.options.types import CAMPAIGN, json_option
from pilotmtc.cli.output import shapes, streams

_EXAMPLES = """\
pilotmtc show scan
pilotmtc show scan --as command
pilotmtc show scan --as toml > scan.toml && pilotmtc submit scan.toml
"""


@command("show", examples=_EXAMPLES)
@click.argument("campaign", type=CAMPAIGN)
@click.option(
    "--as", "form", type=click.Choice(("command", "toml")),
    help="Print the command line, or the campaign file, that makes it again.",
)  # fmt: skip
@json_option
def show(campaign: int | str, form: Literal["command", "toml"] | None, as_json: bool) -> None:
    """Show CAMPAIGN (its number or name), or what makes it again.

    What the command line or the campaign file cannot say is an error that names it.
    """
    with open_session() as session:
        found = session.campaign(campaign)
        if form is None:
            if as_json:
                streams.put_json(shapes.campaign(found))
            else:
                put_campaign(found, session)
            return
        text = session.show(found.id, form=form)
    if as_json:
        streams.put_json({"campaign": found.id, "as": form, "text": text})
    else:
        streams.put([text.rstrip("\n")])
