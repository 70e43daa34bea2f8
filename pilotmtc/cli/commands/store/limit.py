"""``pilotmtc store limit``."""

import click

from pilotmtc.cli.command import command, open_session
from pilotmtc.cli.options.types import Assignment, assigned, json_option
from pilotmtc.cli.output import streams
from pilotmtc.text.tables import Column

_COLUMNS = (Column("NAME"), Column("IN USE", right=True), Column("LIMIT", right=True))


@command(
    "limit",
    examples="pilotmtc store limit licence=4\npilotmtc run --resource licence=1 ./simulate ::: 1 2 3\n"
    "pilotmtc store limit\npilotmtc store limit --remove licence\n",
)
@click.argument("limits", nargs=-1, metavar="[NAME=N]...", type=Assignment("limit", number=True))
@click.option("--remove", "removed", multiple=True, metavar="NAME", help="Limit NAME no more; may be repeated.")
@json_option
def limit(limits: tuple[tuple[str, float], ...], removed: tuple[str, ...], as_json: bool) -> None:
    """Let no more than N units of a resource be in use at a time, over all pilots of the store; then show all limits.

    It is for licences, for slots of a database or a file server, or for no more than N tasks of a kind at a time. Tasks
    ask for units with --resource NAME=1. Without a limit of that name they take them from their node's own.

    A limit stays until it is removed. Tasks that run when it is lowered go on. With 0 no task that asks for it starts.
    """
    wanted = assigned("limit", limits)
    if both := wanted.keys() & set(removed):
        raise click.UsageError(f"limit {min(both)} cannot be set and removed at once", click.get_current_context())
    with open_session(makes=bool(wanted)) as session:
        if wanted or removed:
            session.set_limits({**wanted, **dict.fromkeys(removed)})
        found = session.limits()
    if as_json:
        for one in found:
            streams.put_json({"name": one.name, "limit": one.amount, "in_use": one.in_use})
    elif found:
        streams.put_table(_COLUMNS, [(one.name, f"{one.in_use:g}", f"{one.amount:g}") for one in found])
    else:
        streams.tell("there are no limits")
