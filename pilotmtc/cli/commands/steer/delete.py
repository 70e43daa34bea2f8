"""``pilotmtc delete``."""

import sys
from typing import TYPE_CHECKING

import click

from pilotmtc.cli.command import command, open_session
from pilotmtc.cli.options.types import CAMPAIGN, json_option
from pilotmtc.cli.output import streams
from pilotmtc.text.campaigns import campaign_title
from pilotmtc.text.numbers import count

if TYPE_CHECKING:
    from pilotmtc.model import Campaign

_EXAMPLES = """\
pilotmtc delete 7
pilotmtc delete 'night-*' --yes
pilotmtc delete scan --keep-results   # free the room of outputs, keep how tasks ended
"""


@command("delete", examples=_EXAMPLES)
@click.argument("campaigns", metavar="CAMPAIGN...", type=CAMPAIGN, nargs=-1, required=True)
@click.option("--keep-results", is_flag=True, help="Delete only outputs and values; keep tasks and how they ended.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@json_option
def delete(campaigns: tuple[int | str, ...], keep_results: bool, yes: bool, as_json: bool) -> int:
    """Delete each CAMPAIGN (a number or name), all of whose tasks have finished.

    Its tasks, results, outputs and values are gone then. Work on other campaigns goes on meanwhile. To return the
    space to the file system, see store compact.

    The exit code is 1 if the answer to the question is no.
    """
    with open_session() as session:
        found = session.campaigns_named(*campaigns)
        if not yes and not _confirmed(found, keep_results=keep_results):
            return 1
        for campaign in found:
            changed = session.delete(campaign.id, keep_results=keep_results)
            if as_json:
                streams.put_json({"id": campaign.id, "name": campaign.name, "tasks": changed.changed})
            else:
                tasks = count(changed.changed, "task")
                what = f"the outputs of {tasks}" if keep_results else tasks
                streams.put([f"campaign {campaign.id}: {what} deleted"])
    return 0


def _confirmed(campaigns: "tuple[Campaign, ...]", *, keep_results: bool) -> bool:
    """Ask whether to delete, and return whether the answer is yes."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        words = "deleting asks on a terminal, and there is none: give --yes"
        raise click.UsageError(words, click.get_current_context())
    for one in campaigns:
        streams.tell(f"campaign {one.id}  {count(one.received, 'task')}  {campaign_title(one)}")
    return click.confirm(
        "Delete what these tasks wrote?" if keep_results else "Delete them and their results?", err=True
    )
