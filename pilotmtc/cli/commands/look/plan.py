"""``pilotmtc plan``."""

import sys
from typing import Any

import click

from pilotmtc.cli.command import command, newest_campaign, open_session
from pilotmtc.cli.options.types import CAMPAIGN, Checked, Number, json_option
from pilotmtc.cli.output import shapes, streams

_EXAMPLES = """\
pilotmtc plan                                    # what is left of the newest campaign
pilotmtc plan 7 --shape 1x10 --shape 10x1 --shape 1x20
pilotmtc plan campaign.toml --like 7             # tasks that take as long as those of campaign 7
pilotmtc plan campaign.toml --duration 27s..33s --shape 1x1024x12
"""


def _check_shape(word: str) -> None:
    from pilotmtc.report.plan import check_shape

    check_shape(word)


def _check_memory(word: str) -> None:
    from pilotmtc.units import parse_memory

    parse_memory(word)


def _check_time(word: str) -> None:
    from pilotmtc.units import parse_duration

    parse_duration(word)


def _check_durations(word: str) -> None:
    from pilotmtc.report.plan import parse_durations

    parse_durations(word)


_TIME = Checked("time", _check_time)


@command("plan", examples=_EXAMPLES)
@click.argument("what", metavar="[CAMPAIGN | CAMPAIGN.TOML]", required=False)
@click.option("--like", type=CAMPAIGN, metavar="CAMPAIGN", help="Tasks of the file take as long as those of this one.")
@click.option(
    "--shape", "wanted", multiple=True, type=Checked("shape", _check_shape), metavar="PILOTSxNODES[xCORES]",
    help="Pilots to try; may be repeated.",
)  # fmt: skip
@click.option("--cores", type=Number(1), metavar="N", help="Cores of a node  [default: as the campaign's pilots]")
@click.option("--gpus", type=Number(0), metavar="N", help="GPUs of a node  [default: as the campaign's pilots]")
@click.option(
    "--memory", type=Checked("size", _check_memory), metavar="SIZE",
    help="Memory of a node  [default: as the campaign's pilots]",
)  # fmt: skip
@click.option("--walltime", type=_TIME, metavar="TIME", help="Walltime of the pilots  [default: none]")
@click.option(
    "--wait", type=_TIME, metavar="TIME", help="Their wait in the queue  [default: as pilots of as many nodes waited]"
)
@click.option(
    "--duration", type=Checked("time", _check_durations), metavar="TIME[..TIME]",
    help="How long tasks take of which nothing is known.",
)  # fmt: skip
@json_option
def plan(what: str | None, like: int | str | None, wanted: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Say when work would end on pilots of different shapes, with how many core-hours, and which shape is best.

    The work is what is left of a campaign (default: the newest one; if nothing is left, all of it once more), or the
    tasks of a campaign file. The decisions are those of a pilot's agent, in virtual time; durations are those that were
    measured, dependencies are those of the tasks, and as many attempts fail as have failed.
    """
    from pilotmtc.report.plan import plan_lines

    file = what if what is not None and what.endswith(".toml") else None
    if like is not None and file is None:
        raise click.UsageError("--like is for campaign files: give one", click.get_current_context())
    with open_session() as session:
        campaign = like
        if file is None:
            campaign = newest_campaign(session, None if what is None else CAMPAIGN.convert(what, None, None))
        found = session.plan(campaign, file=file, shapes=wanted or None, **options)
    if as_json:
        streams.put_json(shapes.plan(found))
    else:
        width = streams.screen_width(sys.stdout)
        streams.put(plan_lines(found, width=width, colour=streams.has_colour(sys.stdout)))
