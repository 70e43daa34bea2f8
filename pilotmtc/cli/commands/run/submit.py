"""``pilotmtc submit``."""

import sys
from typing import Any

import click
import msgspec

from pilotmtc.cli.command import command, complete_file, hint, open_session
from pilotmtc.cli.options.dry_run import check_after, dry_run_option, put_plan_of_submission, session_if_there
from pilotmtc.cli.options.tasks import build_tasks, halt_option, memo_option, task_options
from pilotmtc.cli.options.types import json_option
from pilotmtc.cli.output import shapes, streams
from pilotmtc.text.campaigns import known_words
from pilotmtc.text.numbers import count

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
@memo_option
@dry_run_option
@json_option
def submit(words: tuple[str, ...], as_json: bool, dry_run: bool, halt: str | None, memo: bool, **options: Any) -> int:
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
    tasks.options = msgspec.structs.replace(tasks.options, memo=memo)
    if dry_run:
        from pilotmtc.session.submit.plan import make_plan

        plan = make_plan(tasks)
        with session_if_there() as session:
            check_after(session, tasks.options)
            put_plan_of_submission(plan, name, session, as_json=as_json)
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
        if memo:
            streams.tell(known_words(found))
    if not pilots and sys.stderr.isatty():
        streams.tell(f"no pilot is active to run them: {hint('pilot submit')}")
    return 0
