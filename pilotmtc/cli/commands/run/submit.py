"""``pilotmtc submit``."""

import sys
import time
from typing import TYPE_CHECKING, Any

import click

from pilotmtc.cli.command import command, complete_file, hint, open_session
from pilotmtc.cli.options.dry_run import check_after, dry_run_option, put_plan, session_if_there
from pilotmtc.cli.options.tasks import build_tasks, halt_option, task_options
from pilotmtc.cli.options.types import json_option
from pilotmtc.cli.output import shapes, streams
from pilotmtc.text.numbers import count

if TYPE_CHECKING:
    from pilotmtc.session import TaskStream

_EXAMPLES = """\
pilotmtc submit campaign.toml
pilotmtc submit --grid mass=1:10:0.5 --retries 2 -- python sim.py --mass {mass}
campaign=$(pilotmtc submit campaign.toml) && pilotmtc wait $campaign
"""


@command("submit", examples=_EXAMPLES, context_settings={"allow_interspersed_args": False})
@click.argument(
    "words",
    metavar="CAMPAIGN.TOML | COMMAND... [::: VALUES...]...",
    nargs=-1,
    type=click.UNPROCESSED,
    shell_complete=complete_file,
)
@task_options
@halt_option
@dry_run_option
@json_option
def submit(words: tuple[str, ...], as_json: bool, dry_run: bool, halt: str | None, **options: Any) -> int:
    """Submit the tasks of a campaign file, or of a command and its parameters, and print the campaign's id.

    It returns at once. Active pilots, and those that start later, run the tasks: see pilotmtc pilot. COMMAND and the
    sources of parameters are as in pilotmtc run.
    """
    from pilotmtc.session.halt import parse_halt

    if halt is not None:
        parse_halt(halt)  # before anything is submitted
    built = build_tasks(words, options)
    if built is None:
        raise click.UsageError("there is nothing to submit", click.get_current_context())
    tasks, name = built
    if dry_run:
        _plan(tasks, name, as_json=as_json)
        return 0
    with open_session(makes=True) as session:
        campaign = session.submit_tasks(tasks, name=name)
        if halt is not None:
            session.set_halt(campaign, halt)
        found = session.campaign(campaign)
        pilots = [pilot for pilot in session.pilots if pilot.description.campaign in (None, found.id)]
    if as_json:
        streams.put_json(shapes.campaign(found))
    else:
        streams.put([str(found.id)])
        if sys.stderr.isatty():
            streams.tell(f"{count(found.received, 'task')} submitted as campaign {found.id}")
    if not pilots and sys.stderr.isatty():
        streams.tell(f"no pilot is active to run them: {hint('pilot submit')}")
    return 0


def _plan(tasks: "TaskStream", name: str, *, as_json: bool) -> None:
    """Write what would be submitted, and which pilots could run it."""
    from pilotmtc.session.submit.plan import make_plan, places

    plan = make_plan(tasks)
    with session_if_there() as session:
        check_after(session, tasks.options)
        pilots = [] if session is None else list(session.pilots)
        limits = {} if session is None else {limit.name: limit.amount for limit in session.limits()}
    found = []
    for one in plan.needs:
        why = places(one.resources, pilots, limits, time.time())
        fits = [pilot for pilot, obstacle in why.items() if not obstacle]
        words = f"fit pilot {', '.join(map(str, fits))}" if fits else "no pilot that is for all campaigns is active"
        if why and not fits:
            words = "; ".join(f"pilot {pilot} {obstacle}" for pilot, obstacle in why.items())
        found.append((words, {"pilots": fits}))
    put_plan(plan, name, found, as_json=as_json)
