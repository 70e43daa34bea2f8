"""``pilotmtc cancel``, ``retry`` and ``edit``."""

import functools
import sys
from typing import TYPE_CHECKING, Any

import click

from pilotmtc.cli.command import command, hint, open_session
from pilotmtc.cli.commands.status import tell_deserted
from pilotmtc.cli.options import assigned, check_ids, filter_options, json_option, need_options, selected
from pilotmtc.cli.output import streams
from pilotmtc.text.tables import count

if TYPE_CHECKING:
    from pilotmtc.protocol.base import Changed
    from pilotmtc.session import Selection


def _chosen(options: dict[str, Any]) -> "Selection":
    """Return the selection, which must say something."""
    select = selected(options)
    if not select:
        raise click.UsageError("which tasks? give ids, --campaign, --state... or --all", click.get_current_context())
    return select


def _tell(done: str, changed: "Changed", as_json: bool, why: tuple[str, str]) -> int:
    """Say to how many tasks something was done, and, of one or of several, `why` it was not to the others."""
    if as_json:
        streams.put_json({"changed": changed.changed, "unfit": changed.unfit})
        return 0
    left = f"; {changed.unfit:,} {why[changed.unfit > 1]}" if changed.unfit else ""
    streams.put([f"{count(changed.changed, 'task')} {done}{left}"])
    return 0


@command(
    "cancel",
    examples="pilotmtc cancel 17 18\npilotmtc cancel --campaign 7\npilotmtc cancel --tag night --state ready\n",
)
@filter_options
@json_option
def cancel(as_json: bool, **options: Any) -> int:
    """Cancel tasks: those that run are killed, the others will not start.

    The tasks are those with the IDs given (17 or 17-20), and of them those that meet all conditions.
    """
    select = _chosen(options)
    with open_session() as session:
        check_ids(session, select)
        return _tell("canceled", session.cancel(**select), as_json, ("was over already", "were over already"))


@command("retry", examples="pilotmtc retry 17\npilotmtc retry --campaign 7\npilotmtc retry --campaign 7 --cause oom\n")
@filter_options
@json_option
def retry(as_json: bool, **options: Any) -> int:
    """Run tasks again that are FAILED, CANCELED or SKIPPED, with all their tries.

    Tasks that were skipped because of them are run, too. To give them more memory or time first, see edit.
    """
    select = _chosen(options)
    with open_session() as session:
        check_ids(session, select)
        changed = session.retry(**select)
        code = _tell("to be run again", changed, as_json, ("was in no state for that", "were in no state for that"))
        if changed.changed and not as_json and sys.stderr.isatty():
            pilots = session.pilots.list()
            if not pilots:
                streams.talk(
                    f"no pilot is there to run them: {hint('pilot submit')}, or {hint('run --resume CAMPAIGN')}"
                )
            tell_deserted(session.campaigns(), pilots)
        return code


@command(
    "edit",
    examples="pilotmtc edit --campaign 7 --priority 10\n"
    "pilotmtc edit --state failed --cause oom --memory 8G && pilotmtc retry --cause oom\n",
)
@filter_options
@functools.partial(need_options, new=False)
@json_option
def edit(as_json: bool, **options: Any) -> int:
    """Change priority, resources or limits of tasks that have not started, or that failed and may be retried.

    What is not given stays as it is.
    """
    new: Any = {
        name: options.pop(name)
        for name in ("cores", "ranks", "ranks_per_node", "gpus", "memory", "time_limit", "expected", "priority")
    } | {"resources": assigned("resource", options.pop("resources")) or None}
    select = _chosen(options)
    with open_session() as session:
        check_ids(session, select)
        why = ("runs or is DONE, and stays as it is", "run or are DONE, and stay as they are")
        return _tell("changed", session.edit(new, **select), as_json, why)
