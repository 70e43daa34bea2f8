"""``pilotmtc wait``."""

import time
from typing import TYPE_CHECKING

import click

from pilotmtc.cli.command import EXIT_TASKS_FAILED, EXIT_TIMEOUT, command, hint, newest_campaign, open_session
from pilotmtc.cli.commands.look.status import tell_deserted
from pilotmtc.cli.options.types import CAMPAIGN, json_option
from pilotmtc.cli.output import shapes, streams
from pilotmtc.states import TASK_HELD
from pilotmtc.text.campaigns import waits_words
from pilotmtc.text.progress import Progress, Tally
from pilotmtc.units import parse_duration

if TYPE_CHECKING:
    from pilotmtc.model import Campaign
    from pilotmtc.session import Session

_EXAMPLES = """\
pilotmtc wait                    # for the newest campaign
pilotmtc wait 7 scan && python plot.py
pilotmtc wait 7 --timeout 1h
"""


def _warn(session: "Session", campaign: "Campaign") -> None:
    if campaign.on_hold:
        streams.tell(f"campaign {campaign.id} is on hold: {hint(f'release {campaign.id}')}")
        return
    if campaign.waits:
        for words in waits_words(campaign):
            streams.tell(f"campaign {campaign.id} waits for {words}")
        for one in campaign.after:
            if one.failed:
                ways = hint(f"retry -c {one.campaign}"), hint(f"edit -c {campaign.id} --after-campaign none")
                streams.tell(f"it starts when they are DONE: {ways[0]}; or without them: {ways[1]}")
        return
    if not campaign.sealed:
        streams.tell(f"the submission of campaign {campaign.id} has not finished: it goes on, or was interrupted")
    pilots = session.pilots.list()
    if not pilots and not campaign.own_pilots:
        streams.tell(f"no pilot is active to run what is left: {hint('pilot submit')}")
    tell_deserted([campaign], pilots)


@command("wait", examples=_EXAMPLES)
@click.argument("campaigns", metavar="[CAMPAIGN]...", nargs=-1, type=CAMPAIGN)
@click.option("--timeout", metavar="TIME", help="Longest wait: 90s, 5m, 2h.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
@json_option
def wait(campaigns: tuple[int | str, ...], timeout: str | None, quiet: bool, as_json: bool) -> int:
    """Wait until all tasks of each CAMPAIGN have finished (a number or name; default: the
    newest campaign).

    A campaign that halts has finished until it is released. The exit code is 0 if all are DONE, 1 if some are not, 124
    if --timeout comes first.
    """
    until = None if timeout is None else time.monotonic() + parse_duration(timeout)
    code = 0
    with open_session() as session:
        them = session.campaigns_named(*campaigns) if campaigns else (session.campaign(newest_campaign(session, None)),)
        for campaign in [one.id for one in them]:
            found = _wait_for(session, campaign, until, quiet)
            if found is None:
                return EXIT_TIMEOUT
            tally = Tally(found)
            if as_json:
                streams.put_json(shapes.campaign(found))
            elif not quiet:
                streams.tell(f"campaign {campaign}: {tally.words(left=found.halted)}")
            if tally.bad:
                code = EXIT_TASKS_FAILED
    return code


def _wait_for(session: "Session", campaign: int, until: float | None, quiet: bool) -> "Campaign | None":
    """Return the campaign once it has finished; None at the timeout, after telling the current counts."""
    seen = session.campaign(campaign)
    complete = warned = False
    with Progress(quiet=quiet) as progress:
        try:
            for step in session.follow(campaign):
                seen, complete = step.campaign, step.complete
                if not (warned or quiet or complete):
                    warned = True
                    _warn(session, seen)
                progress.show(seen)
                if seen.halted and not any(seen.counts.get(state) for state in TASK_HELD):
                    complete = True  # nothing more comes until it is released
                    streams.tell(f"campaign {campaign} has halted: {hint(f'release {campaign}')} lets it go on")
                    return seen
                if until is not None and time.monotonic() >= until and not complete:
                    return None
        finally:
            if not complete:
                progress.hide()
                streams.tell(f"campaign {campaign}: {Tally(seen).words(left=True)}")
    return seen
