"""Options that select tasks, by id and by conditions."""

from typing import TYPE_CHECKING, Any, cast

import click

from pilotmtc.cli.options.types import CAMPAIGN, ID, F, Ids, Number, add_all

if TYPE_CHECKING:
    from pilotmtc.session import Selection, Session

STATES = ("waiting", "ready", "claimed", "running", "done", "failed", "canceled", "skipped")
CAUSES = (
    "exit", "signal", "timeout", "oom", "walltime", "preempted", "node-lost", "pilot-lost", "canceled", "launch-error",
)  # fmt: skip
_NAMED = 10


def ids_argument(function: F) -> F:
    """Add an argument for any number of ids."""
    return click.argument("ids", metavar="[ID]...", nargs=-1, type=Ids())(function)


def filter_options(function: F) -> F:
    """Add ids and all conditions that select tasks."""
    return add_all(function, [ids_argument, condition_options])


def condition_options(function: F) -> F:
    """Add all conditions that select tasks, without ids."""
    return add_all(
        function,
        [
            click.option(
                "-c", "--campaign", "campaign", multiple=True, type=CAMPAIGN, metavar="CAMPAIGN",
                help="Tasks of this campaign, by number or name; * and ? are wildcards; may be repeated.",
            ),
            click.option(
                "-s", "--state", "states", multiple=True, metavar="STATE", type=click.Choice(STATES, False),
                help=f"Tasks in this state; may be repeated: {', '.join(STATES)}.",
            ),
            click.option(
                "--name", "names", multiple=True, metavar="NAME",
                help="Tasks with this name; * and ? are wildcards.",
            ),
            click.option(
                "--tag", "tags", multiple=True, metavar="TAG",
                help="Tasks with this tag; repeat to require several tags.",
            ),
            click.option(
                "--exit", "exit_codes", multiple=True, type=Number(-(2**31)), metavar="CODE",
                help="Tasks whose last attempt exited with this code; may be repeated.",
            ),
            click.option(
                "--cause", "causes", multiple=True, metavar="CAUSE", type=click.Choice(CAUSES, False),
                help=f"Tasks whose last attempt ended for this cause: {', '.join(CAUSES)}.",
            ),
            click.option("--pilot", type=ID, metavar="ID", help="Tasks that this pilot runs, or ran last."),
            click.option(
                "-f", "--filter", metavar="FILTER",
                help="Conditions as one text: 'state:failed tag:x exit:137 mass>3 elapsed>10m'.",
            ),
            click.option("--all", "everything", is_flag=True, help="All tasks of the store."),
        ],
    )  # fmt: skip


def selected(options: dict[str, Any]) -> "Selection":
    """Remove the options of `filter_options` from `options`; return them as a selection."""
    ids = [id_ for some in options.pop("ids") for id_ in some]
    select: dict[str, object] = {"ids": ids, "all": options.pop("everything")}
    for name in ("campaign", "states", "names", "tags", "exit_codes", "causes", "pilot", "filter"):
        select[name] = options.pop(name)
    given = {name: value for name, value in select.items() if value not in (None, (), [], False)}
    if "all" in given and len(given) > 1:
        raise click.UsageError("--all goes without ids and conditions", click.get_current_context())
    return cast("Selection", given)


def check_ids(session: "Session", select: "Selection") -> None:
    """Check that the given pilot and tasks exist; of a range, check both ends.

    Raises
    ------
    UsageError
        If some do not exist; it names them.
    """
    from pilotmtc.errors import UsageError

    if (pilot := select.get("pilot")) is not None:
        session.pilots.get(pilot)
    given = set(select.get("ids") or ())
    ends = sorted(id_ for id_ in given if not {id_ - 1, id_ + 1} <= given)
    there = {task.id for task in session.tasks(ids=ends)} if ends else set()
    missing = [str(id_) for id_ in ends if id_ not in there]
    if missing:
        what = f"is no task {missing[0]}" if len(missing) == 1 else f"are no tasks {', '.join(missing[:_NAMED])}"
        raise UsageError(f"there {what} in {session.url}: see pilotmtc tasks")
