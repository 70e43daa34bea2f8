"""``pilotmtc cancel``, ``retry``, ``rerun`` and ``edit``."""

import functools
import sys
from typing import TYPE_CHECKING, Any, cast

import click

from pilotmtc.cli.command import command, hint, open_session
from pilotmtc.cli.commands.look.status import tell_deserted
from pilotmtc.cli.options.amounts import take_amounts
from pilotmtc.cli.options.dry_run import dry_run_option, put_plan_of_rerun
from pilotmtc.cli.options.selection import check_ids, filter_options, selected
from pilotmtc.cli.options.tasks import env_option, limit_options, need_options, watch_option
from pilotmtc.cli.options.types import CAMPAIGN, Number, assigned, json_option
from pilotmtc.cli.output import streams
from pilotmtc.text.campaigns import waits_words
from pilotmtc.text.numbers import count
from pilotmtc.units import format_rate

if TYPE_CHECKING:
    from pilotmtc.protocol.base import Changed
    from pilotmtc.session import Selection, Session


_NEW = (
    "cores", "ranks", "ranks_per_node", "gpus", "time_limit", "expected", "priority", "retries", "backoff", "retry_on",
    "no_retry_on", "retry_memory", "max_memory", "retry_time", "max_output", "grace", "signal_first", "command",
    "watch",
)  # fmt: skip
_WHOLE = ("after_campaign", "max_running", "start_rate")  # of a campaign, not of tasks
_NOT_CHANGED = "skipped: tasks that run or are DONE cannot be changed"
_NOT_RERUN = "skipped: only tasks that have finished can run again, after all that they need"
_NOT_RETRIED = "skipped: only failed, canceled or skipped tasks can be retried"


def _chosen(options: dict[str, Any]) -> "Selection":
    """Return the selection, which must not be empty."""
    select = selected(options)
    if not select:
        raise click.UsageError("which tasks? give ids, --campaign, --state... or --all", click.get_current_context())
    return select


def _tell(done: str, changed: "Changed", as_json: bool, why: tuple[str, str]) -> int:
    """Tell how many tasks were changed, and `why` the others were not."""
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
    """Cancel tasks: running tasks are killed, the others never start.

    The tasks are those with the given IDs (17 or 17-20), limited to those that meet every condition.
    """
    select = _chosen(options)
    with open_session() as session:
        check_ids(session, select)
        return _tell("canceled", session.cancel(**select), as_json, ("had finished already", "had finished already"))


@command("retry", examples="pilotmtc retry 17\npilotmtc retry --campaign 7\npilotmtc retry --campaign 7 --cause oom\n")
@filter_options
@json_option
def retry(as_json: bool, **options: Any) -> int:
    """Retry tasks that are FAILED, CANCELED or SKIPPED, with all their retries.

    Tasks that were skipped because of them run, too. To give them more memory or time first, see edit. To run tasks
    again that are DONE, see rerun.
    """
    select = _chosen(options)
    with open_session() as session:
        check_ids(session, select)
        return _tell_revived(session, session.retry(**select), as_json, _NOT_RETRIED)


@command(
    "rerun",
    examples="pilotmtc rerun 17\npilotmtc rerun -c scan --filter 'mass>3' --with-dependents\n"
    "pilotmtc rerun -c scan --changed   # after an edit of the program\n",
)
@filter_options
@click.option("--with-dependents", is_flag=True, help="Also the finished tasks that depend on them.")
@click.option(
    "--changed", is_flag=True,
    help="Only tasks whose program files have changed since they ran, and the finished ones that depend on them.",
)  # fmt: skip
@dry_run_option
@json_option
def rerun(as_json: bool, with_dependents: bool, changed: bool, dry_run: bool, **options: Any) -> int:
    """Run tasks again that have finished, DONE ones, too: the program has changed.

    Results of earlier attempts stay on record: see task. Tasks that have not started, and that depend on these, wait.
    """
    select = _chosen(options)
    with open_session() as session:
        check_ids(session, select)
        if dry_run:
            plan = session.plan_rerun(dependents=with_dependents, changed=changed, **select)
            put_plan_of_rerun(plan, as_json=as_json)
            return 0
        done = session.rerun(dependents=with_dependents, changed=changed, **select)
        return _tell_revived(session, done, as_json, _NOT_RERUN)


def _tell_revived(session: "Session", changed: "Changed", as_json: bool, why: str) -> int:
    """Tell how many tasks will run again, and whether a pilot is there to run them."""
    code = _tell("will run again", changed, as_json, (why, why))
    if changed.changed and not as_json and sys.stderr.isatty():
        pilots = session.pilots.list()
        if not pilots:
            streams.tell(f"no pilot is active to run them: {hint('pilot submit')}, or {hint('run --resume CAMPAIGN')}")
        tell_deserted(session.campaigns(), pilots)
    return code


@command(
    "edit",
    examples="pilotmtc edit --campaign 7 --priority 10\n"
    "pilotmtc edit --campaign scan --max-running 4 --start-rate 30/min\n"
    "pilotmtc edit --campaign scan --after-campaign mesh\n"
    "pilotmtc edit --campaign scan --command './sim --steps 2000 {mass}' --env OMP_NUM_THREADS=2\n"
    "pilotmtc edit --state failed --cause oom --memory 8G && pilotmtc retry --cause oom\n",
)
@filter_options
@functools.partial(need_options, new=False)
@functools.partial(limit_options, new=False)
@click.option("--command", metavar="LINE", help="Another shell line, for the same {placeholders}.")
@env_option
@watch_option
@click.option(
    "--max-running",
    type=Number(0),
    metavar="N",
    help="At most N tasks of each --campaign at once, over all pilots; 0: no limit.",
)
@click.option(
    "--start-rate",
    metavar="RATE",
    help="Start at most so many tasks of each --campaign, over all pilots: 5/s, 30/min; 0: no limit.",
)
@click.option(
    "--after-campaign", "after_campaign", multiple=True, type=CAMPAIGN, metavar="CAMPAIGN",
    help="Start no task of each --campaign before all tasks of this one are DONE; none: wait no more.",
)  # fmt: skip
@json_option
def edit(as_json: bool, **options: Any) -> int:
    """Change tasks that have not started, or that failed and may be retried: command, resources, limits, priority.

    Everything else stays as it is. What has begun or ended keeps what it ran.
    """
    new: Any = {name: options.pop(name) for name in _NEW}
    new["env"] = assigned("variable", options.pop("env"))
    new |= take_amounts(options)
    new = {name: None if value in ((), {}) else value for name, value in new.items()}
    whole = {name: options.pop(name) for name in _WHOLE}
    whole = {name: value for name, value in whole.items() if value not in (None, ())}
    select = _chosen(options)
    if whole and list(select) != ["campaign"]:
        name = next(iter(whole)).replace("_", "-")
        raise click.UsageError(
            f"--{name} is of whole campaigns: choose by --campaign alone", click.get_current_context()
        )
    with open_session() as session:
        check_ids(session, select)
        if whole:
            found = session.campaigns_named(*cast("tuple[int | str, ...]", select["campaign"]))
            said = [line for campaign in found for line in _edit_whole(session, campaign.id, whole)]
            if all(value is None for value in new.values()):
                if as_json:
                    streams.put_json({"changed": sum(one.received for one in found), "unfit": 0})
                else:
                    streams.put(said)
                return 0
        why = (_NOT_CHANGED, _NOT_CHANGED)
        return _tell("changed", session.edit(new, **select), as_json, why)


def _edit_whole(session: "Session", campaign: int, new: dict[str, Any]) -> list[str]:
    """Change what a campaign has as a whole; return what it is now, in words."""
    said = []
    if (after := new.get("after_campaign")) is not None:  # the only one that may be refused by the store
        session.set_after_campaigns(campaign, [] if after == ("none",) else after)
        waits = waits_words(session.campaign(campaign))
        said.append(f"campaign {campaign} waits for {'; and for '.join(waits) if waits else 'no other'}")
    if (most := new.get("max_running")) is not None:
        session.set_max_running(campaign, most)
        at_once = f"at most {most:,} tasks at once" if most else "any number of tasks at once"
        said.append(f"campaign {campaign} runs {at_once}")
    if (rate := new.get("start_rate")) is not None:
        session.set_start_rate(campaign, rate)
        per_s = session.campaign(campaign).start_rate
        starts = f"at most {format_rate(per_s)}" if per_s else "as fast as pilots can"
        said.append(f"campaign {campaign} starts tasks {starts}")
    return said
