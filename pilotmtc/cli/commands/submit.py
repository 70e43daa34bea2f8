"""``pilotmtc submit``."""

import sys
from typing import Any

import click

from pilotmtc.cli.command import command, complete_file, hint, open_session
from pilotmtc.cli.options.tasks import build_tasks, task_options
from pilotmtc.cli.options.types import json_option
from pilotmtc.cli.output import shapes, streams
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
@json_option
def submit(words: tuple[str, ...], as_json: bool, **options: Any) -> int:
    """Submit the tasks of a campaign file, or of a command and its parameters, and print the campaign's id.

    It returns at once. Active pilots, and those that start later, run the tasks: see pilotmtc pilot. COMMAND and the
    sources of parameters are as in pilotmtc run.
    """
    built = build_tasks(words, options)
    if built is None:
        raise click.UsageError("there is nothing to submit", click.get_current_context())
    tasks, name = built
    with open_session(makes=True) as session:
        found = session.campaign(session.submit_tasks(tasks, name=name))
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
