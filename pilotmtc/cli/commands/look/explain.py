"""``pilotmtc explain``."""

import click

from pilotmtc.cli.command import command, hint, open_session
from pilotmtc.cli.options.types import ID, json_option
from pilotmtc.cli.output import streams
from pilotmtc.text.plain import plain


@command("explain", examples="pilotmtc explain 17\npilotmtc explain 17 --json\n")
@click.argument("id", type=ID)
@json_option
def explain(id: int, as_json: bool) -> None:  # noqa: A002 -- click's name for the user's word
    """Explain the state of the task ID: what it waits for, which pilots it fits, how it failed.

    Lines that begin with $ are commands that may help.
    """
    with open_session() as session:
        state, lines = session.explain(id)
    if as_json:
        commands = [line[2:] for line in lines if line.startswith("$ ")]
        reasons = [line for line in lines[1:] if not line.startswith("$ ")]
        streams.put_json({"id": id, "state": state.name, "why": lines[0], "reasons": reasons, "commands": commands})
        return
    streams.put([f"task {id} is {state.name}: {plain(lines[0])}", *[f"  {_line(line)}" for line in lines[1:]]])


def _line(line: str) -> str:
    return f"$ {hint(line.removeprefix('$ pilotmtc '))}" if line.startswith("$ ") else plain(line)
