"""``pilotmtc add``."""

import sys
from typing import TYPE_CHECKING, Any

import click

from pilotmtc.cli.command import command, hint, open_session
from pilotmtc.cli.options.dry_run import dry_run_option, put_plan_of_submission
from pilotmtc.cli.options.tasks import (
    after_campaign_option,
    memo_option,
    take_sources,
    value_options,
    watch_option,
)
from pilotmtc.cli.options.types import CAMPAIGN, json_option
from pilotmtc.cli.output import shapes, streams
from pilotmtc.text.numbers import count

if TYPE_CHECKING:
    from pilotmtc.model import Campaign
    from pilotmtc.parameters import Source
    from pilotmtc.session import Session

_EXAMPLES = """\
pilotmtc add scan ::: 17 18 19
pilotmtc add scan --grid mass=1:10:0.1 --new-only   # the finer grid, without the points that are there
pilotmtc add 7 --from missing.csv && pilotmtc run --resume 7
"""


@command("add", examples=_EXAMPLES, context_settings={"allow_interspersed_args": True})
@click.argument("campaign", type=CAMPAIGN)
@click.argument("lists", metavar="[::: VALUES...]...", nargs=-1, type=click.UNPROCESSED)
@value_options
@click.option("--new-only", is_flag=True, help="Pass over points of which the campaign has a task.")
@click.option("--again", is_flag=True, help="Add tasks for such points, too.")
@after_campaign_option
@watch_option
@memo_option
@dry_run_option
@json_option
def add(campaign: int | str, lists: tuple[str, ...], as_json: bool, dry_run: bool, **options: Any) -> int:
    """Add tasks to CAMPAIGN (a number or name): its own command for more parameters.

    They have the resources, priority and limits of its last task. Points that are there already are an error, unless
    --new-only or --again is given. With --after-campaign, all tasks of CAMPAIGN wait that have not begun. Active pilots
    run the new tasks; so does run --resume.
    """
    from pilotmtc.session.submit.command_line import rows_of

    rows = rows_of(lists, *take_sources(options))
    options["watch"] = options["watch"] or None
    with open_session() as session:
        found = session.campaign(campaign)
        if dry_run:
            _plan(session, found, rows, as_json=as_json, **options)
            return 0
        done = session.add(found.id, rows, **options)
        pilots = [one for one in session.pilots if one.description.campaign in (None, found.id)]
        if as_json:
            now = shapes.campaign(session.campaign(found.id))
            streams.put_json({**now, "added": done.added, "passed_over": done.passed_over})
        else:
            over = f"; {count(done.passed_over, 'point')} passed over" if done.passed_over else ""
            streams.put([f"{count(done.added, 'task')} added to campaign {found.id}{over}"])
            if options["memo"]:
                known = session.campaign(found.id).known - found.known
                streams.tell(f"{known:,} of {done.added:,} are known: their results are those of earlier tasks")
    if done.added and not as_json and sys.stderr.isatty() and (found.own_pilots or not pilots):
        streams.tell(f"no pilot is active to run them: {hint(f'run --resume {found.id}')}")
    return 0


def _plan(
    session: "Session", campaign: "Campaign", rows: "Source", *, new_only: bool, again: bool, as_json: bool, **_: object
) -> None:
    """Write which tasks would be added."""
    plan, passed_over = session.plan_add(campaign.id, rows, new_only=new_only, again=again)
    if plan is not None:
        put_plan_of_submission(plan, campaign.name, session, as_json=as_json, passed_over=passed_over)
    elif as_json:
        streams.put_json({"dry_run": True, "name": campaign.name, "tasks": 0, "passed_over": passed_over})
    if passed_over and not as_json:
        new = "" if plan is not None else "0 tasks; nothing is stored; "
        streams.put([f"{new}{count(passed_over, 'point')} passed over"])
