"""``pilotmtc report``."""

import sys
from typing import TYPE_CHECKING, Any

import click

from pilotmtc.cli.command import command, newest_campaign, open_session
from pilotmtc.cli.options.types import CAMPAIGN, json_option
from pilotmtc.cli.output import shapes, streams
from pilotmtc.cli.output.files import new_file

if TYPE_CHECKING:
    from pilotmtc.report.report import Report
    from pilotmtc.session import Session

_EXAMPLES = """\
pilotmtc report                        # on the newest campaign
pilotmtc report 7 scan                 # on two together
pilotmtc report 7 --json | jq .efficiency
pilotmtc report 7 --csv > attempts.csv
pilotmtc report 7 --html report.html --png report.png
pilotmtc report 7 --trace trace.pftrace   # for https://ui.perfetto.dev
"""
_TIMES = frozenset({"started_at", "ended_at"})


@command("report", examples=_EXAMPLES)
@click.argument("campaigns", metavar="[CAMPAIGN]...", type=CAMPAIGN, nargs=-1)
@click.option("--csv", "as_csv", is_flag=True, help="Print all attempts as CSV, times by the store's clock.")
@json_option
@click.option("--html", type=click.Path(), metavar="FILE", help="Write a page with a chart of all slots.")
@click.option("--trace", type=click.Path(), metavar="FILE", help="Write a trace for Perfetto.")
@click.option("--png", type=click.Path(), metavar="FILE", help="Write a figure (needs pilotmtc[plot]).")
@click.option("--svg", type=click.Path(), metavar="FILE", help="Write a figure (needs pilotmtc[plot]).")
def report(campaigns: tuple[int | str, ...], as_csv: bool, as_json: bool, **written: str | None) -> None:
    """Report where the time of each CAMPAIGN went, and what to ask for next time.

    CAMPAIGN is a number or a name (default: the newest campaign); several are one report.
    Where files are written, nothing is printed but what --csv or --json says.
    """
    if as_csv and as_json:
        raise click.UsageError("--csv and --json exclude each other", click.get_current_context())
    from pilotmtc.report.show.text import lines

    with open_session() as session:
        found = session.report(campaigns or newest_campaign(session))
        for form, path in written.items():
            if path is not None:
                _write(session, found, form, path)
    if as_json:
        streams.put_json(shapes.report(found.summary))
    elif as_csv:
        _put_csv(found)
    elif not any(written.values()):
        width = streams.screen_width(sys.stdout)
        streams.put(lines(found.summary, width=width, colour=streams.has_colour(sys.stdout)))


def _write(session: "Session", found: "Report", form: str, path: str) -> None:
    with new_file(session, path, binary=True) as stream:
        if form == "html":
            from pilotmtc.report.show.page import page

            for piece in page(found):
                stream.write(piece.encode())
        elif form == "trace":
            from pilotmtc.report.show.trace import trace

            for block in trace(found.past):
                stream.write(block)
        else:
            from pilotmtc.report.show.plot import plot

            plot(found, stream, form)


def _put_csv(found: "Report") -> None:
    from pilotmtc.report.report import Row

    streams.put([",".join(Row._fields)])
    for row in found.rows():
        cells: list[Any] = [shapes.time(value) if name in _TIMES else value for name, value in row._asdict().items()]
        streams.put([",".join(map(streams.csv_cell, cells))])
