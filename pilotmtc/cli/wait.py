"""``pilotmtc wait``."""

import time
from typing import TYPE_CHECKING

import click

from pilotmtc.cli import out, shapes
from pilotmtc.cli.command import EXIT_TASKS_FAILED, EXIT_TIMEOUT, command, hint, newest_campaign, open_session
from pilotmtc.cli.options import ID, json_option
from pilotmtc.cli.progress import Progress, Tally
from pilotmtc.units import parse_duration

if TYPE_CHECKING:
    from pilotmtc.session import Session

_EXAMPLES = """\
pilotmtc wait                    # for the newest campaign
pilotmtc wait 7 8 && python plot.py
pilotmtc wait 7 --timeout 1h
"""


def _warn(session: "Session") -> None:
    if not session.pilots.list():
        out.talk(f"no pilot is there to run what is left: {hint('pilot submit')}")


@command("wait", examples=_EXAMPLES)
@click.argument("campaigns", metavar="[CAMPAIGN]...", nargs=-1, type=ID)
@click.option("--timeout", metavar="TIME", help="Wait no longer than that: 90s, 5m, 2h.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
@json_option
def wait(campaigns: tuple[int, ...], timeout: str | None, quiet: bool, as_json: bool) -> int:
    """Wait until all tasks of each CAMPAIGN (the newest, if none is given) are over.

    The exit code is 0 if all are DONE, 1 if some are not, 124 if the time is over before.
    """
    until = None if timeout is None else time.monotonic() + parse_duration(timeout)
    code = 0
    with open_session() as session:
        for campaign in campaigns or (newest_campaign(session, None),):
            with Progress(quiet=quiet) as progress:
                warned = False
                for step in session.follow(campaign):
                    if not (warned or quiet or step.complete):
                        warned = True
                        _warn(session)
                    progress.show(step.campaign)
                    if until is not None and time.monotonic() >= until and not step.complete:
                        progress.hide()
                        out.talk(f"campaign {campaign}: {Tally(step.campaign).words(left=True)}")
                        return EXIT_TIMEOUT
            tally = Tally(step.campaign)
            if as_json:
                out.put_json(shapes.campaign(step.campaign))
            elif not quiet:
                out.talk(f"campaign {campaign}: {tally.words()}")
            if tally.bad:
                code = EXIT_TASKS_FAILED
    return code
