"""``pilotmtc top``."""

import os
import sys
import time
from typing import TYPE_CHECKING

import click

from pilotmtc.cli.command import command, open_session
from pilotmtc.cli.options.types import json_option
from pilotmtc.cli.output import shapes, streams
from pilotmtc.text.campaigns import campaign_title
from pilotmtc.text.numbers import rate
from pilotmtc.text.tables import Column, paint, table
from pilotmtc.units import format_duration

if TYPE_CHECKING:
    from pilotmtc.session.look.overview import Board

_EXAMPLES = """\
pilotmtc top
pilotmtc top --once
pilotmtc top --once --json | jq .attention
pilotmtc --store ssh://me@login.site/~/runs/store.db top --interval 10
"""
_PILOTS = (
    Column("PILOT", right=True), Column("STATE", state=True), Column("SITE", spare=4), Column("BUSY", right=True),
    Column("CORES", right=True), Column("LEFT", right=True, optional=True, spare=2), Column("TASKS/S", right=True),
    Column("FAILED", right=True, optional=True, spare=3), Column("REASON", optional=True, spare=1),
)  # fmt: skip
_CAMPAIGNS = (
    Column("CAMPAIGN", right=True), Column("DONE", right=True), Column("OF", right=True),
    Column("FAILED", right=True, optional=True), Column("RUNNING", right=True), Column("TASKS/S", right=True, spare=2),
    Column("ENDS IN", right=True, optional=True, spare=3), Column("NAME", optional=True, spare=1),
)  # fmt: skip
_SHOWN = 12
_WAIT_S = 10.0


@command("top", examples=_EXAMPLES)
@click.option("--once", is_flag=True, help="Show it once, and end.")
@click.option(
    "--interval", type=click.FloatRange(0.2, 3600), default=2.0, show_default=True, metavar="SECONDS",
    help="Minimum interval between updates; while nothing changes it is 10 s.",
)  # fmt: skip
@json_option
def top(once: bool, interval: float, as_json: bool) -> None:
    """Show pilots, campaigns and what needs attention, as plain text, again when something has changed.

    It runs until Ctrl-C. Rates are recent; failures of pilots are counted since the store's server started.
    """
    from pilotmtc.session.look.overview import Board

    board = Board()
    clears = not once and not as_json and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    with open_session() as session:
        while True:
            board.take(session.overview(board.seq, wait_s=_WAIT_S if board.seq else 0.0))
            if as_json:
                streams.put_json(shapes.board(board))
            else:
                lines = _lines(board, session.url, height=_height() if clears else None)
                streams.put(["\x1b[H\x1b[2J" + lines[0], *lines[1:]] if clears else [*lines, *([] if once else [""])])
            sys.stdout.flush()
            if once:
                return
            time.sleep(interval)


def _height() -> int:
    import shutil

    return shutil.get_terminal_size().lines - 1


def _lines(board: "Board", url: str, height: int | None) -> list[str]:
    from pilotmtc.session.look.overview import notices
    from pilotmtc.states import TaskState

    width, colour = streams.screen_width(sys.stdout), streams.has_colour(sys.stdout)
    n = {state: board.tasks.get(state, 0) for state in TaskState}
    busy, cores = board.cores
    counts = ", ".join(f"{count:,} {state.name.lower()}" for state, count in n.items() if count) or "no tasks yet"
    lines = [
        f"{paint(url, 'bold', on=colour)}  {time.strftime('%H:%M:%S', time.localtime(board.now))}",
        f"tasks: {counts}",
        f"cores: {busy:,} of {cores:,} busy; {rate(board.pace, 'tasks')}",
    ]
    for title, columns, rows in (
        ("pilots", _PILOTS, _pilot_rows(board)),
        ("campaigns", _CAMPAIGNS, _campaign_rows(board)),
    ):
        if rows:
            lines += ["", *table(columns, rows[:_SHOWN], width=width, colour=colour)]
        if len(rows) > _SHOWN:
            lines.append(f"and {len(rows) - _SHOWN:,} more {title}")
    marks = {"bad": "red", "warn": "bold", "note": "dim"}
    found = notices(board)
    new = [notice for notice in found if not notice.seen]
    if found:
        lines += ["", *[paint(f"! {notice.text}", marks[notice.level], on=colour) for notice in new[:_SHOWN]]]
    if seen := len(found) - len(new):
        lines.append(f"! {seen:,} more {'was' if seen == 1 else 'were'} marked as seen")
    return lines if height is None else lines[:height]


def _pilot_rows(board: "Board") -> list[tuple[str, ...]]:
    from pilotmtc.session.look.overview import left_s

    rows: list[tuple[str, ...]] = []
    for pilot in board.live:
        pace, left = board.pilot_paces.get(pilot.id), left_s(pilot, board.now)
        rows.append(
            (
                str(pilot.id), pilot.state.name, pilot.description.site, f"{pilot.busy:,}", f"{pilot.cores:,}",
                "" if left is None else format_duration(left), rate(pace.lately) if pace else "0",
                f"{pace.failed:,}" if pace and pace.failed else "", pilot.reason or pilot.native_state,
            )
        )  # fmt: skip
    return rows


def _campaign_rows(board: "Board") -> list[tuple[str, ...]]:
    from pilotmtc.states import TaskState

    rows: list[tuple[str, ...]] = []
    for id_ in sorted(board.campaigns, reverse=True):
        campaign = board.campaigns[id_]
        counts, eta, pace = campaign.counts, board.eta_s(campaign), board.campaign_paces.get(id_)
        rows.append(
            (
                str(id_), f"{counts.get(TaskState.DONE, 0):,}",
                f"{campaign.received:,}{'' if campaign.sealed else '+'}",
                f"{counts[TaskState.FAILED]:,}" if TaskState.FAILED in counts else "",
                f"{counts.get(TaskState.RUNNING, 0):,}", rate(pace.lately) if pace else "0",
                "" if eta is None else format_duration(eta), campaign_title(campaign),
            )
        )  # fmt: skip
    return rows
