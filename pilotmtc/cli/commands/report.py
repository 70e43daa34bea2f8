"""``pilotmtc report``."""

import sys
from typing import TYPE_CHECKING, Any

import click

from pilotmtc.cli.command import command, newest_campaign, open_session
from pilotmtc.cli.options.types import CAMPAIGN, json_option
from pilotmtc.cli.output import shapes, streams

if TYPE_CHECKING:
    from pilotmtc.report.report import Report

_EXAMPLES = """\
pilotmtc report                        # on the newest campaign
pilotmtc report 7 scan                 # on two together
pilotmtc report 7 --json | jq .efficiency
pilotmtc report 7 --csv > attempts.csv
"""
_TIMES = frozenset({"started_at", "ended_at"})


@command("report", examples=_EXAMPLES)
@click.argument("campaigns", metavar="[CAMPAIGN]...", type=CAMPAIGN, nargs=-1)
@click.option("--csv", "as_csv", is_flag=True, help="Print all attempts as CSV, times by the store's clock.")
@json_option
def report(campaigns: tuple[int | str, ...], as_csv: bool, as_json: bool) -> None:
    """Report where the time of each CAMPAIGN went, and what to ask for next time.

    CAMPAIGN is a number or a name (default: the newest campaign); several are one report.
    """
    if as_csv and as_json:
        raise click.UsageError("--csv and --json exclude each other", click.get_current_context())
    from pilotmtc.report.text import lines

    with open_session() as session:
        found = session.report(campaigns or newest_campaign(session))
    if as_json:
        streams.put_json(shapes.report(found.summary))
    elif as_csv:
        _put_csv(found)
    else:
        width = streams.screen_width(sys.stdout)
        streams.put(lines(found.summary, width=width, colour=streams.has_colour(sys.stdout)))


def _put_csv(found: "Report") -> None:
    from pilotmtc.report.report import Row

    streams.put([",".join(Row._fields)])
    for row in found.rows():
        cells: list[Any] = [shapes.time(value) if name in _TIMES else value for name, value in row._asdict().items()]
        streams.put([",".join(map(streams.csv_cell, cells))])
