"""Why a task is in its state, in words. Pure: records in, lines out."""

import shlex
from collections.abc import Container

from pilotmtc.model import Pilot, Resources, Task
from pilotmtc.pilots.capacity import beyond, capacity_of, never_starts, sized
from pilotmtc.protocol.client.tasks import AHEAD_MAX, Explanation
from pilotmtc.resources.amounts import SHARE, shares, without
from pilotmtc.resources.fit import Lack, Reason, TaskRequest, fit
from pilotmtc.resources.retry import is_retried
from pilotmtc.states import TASK_HELD, Cause, PilotState, TaskState
from pilotmtc.text.campaigns import waits_words
from pilotmtc.text.endings import describe_end, end_sentence, message_of
from pilotmtc.text.numbers import count
from pilotmtc.text.tasks import growth, retry_causes
from pilotmtc.units import format_duration, format_rate

_NAMED = 5  # number of tasks or pilots that are named before "and more"
T = TaskState


def explain(found: Explanation) -> list[str]:
    """Return lines that say why the task of `found` is in its state, and what can be done about it.

    The first line is the answer, and the reasons follow; lines that start with ``$ `` are commands to type.
    """
    task = found.task
    if task is None:
        return ["there is no such task"]
    lines = _over(task, found) if task.state >= T.DONE else _open(task, found)
    if task.cancel:
        lines.append("it is being canceled: its agent was told to end it")
    return lines


def _open(task: Task, found: Explanation) -> list[str]:
    if task.on_hold:
        more = _waiting(task, found) if task.state is T.WAITING else []
        return ["it is on hold: no pilot takes it until it is released", f"$ pilotmtc release --task {task.id}", *more]
    if task.state is T.WAITING:
        return _waiting(task, found)
    if task.state is T.RUNNING:
        return [f"it {_runs(task, found.now)}, attempt {task.attempt}", *_limit(task, found)]
    if task.state is T.CLAIMED:
        return [f"pilot {task.pilot} has taken it and starts it as soon as a slot of its size is free there"]
    if task.not_before is not None and task.not_before > found.now:
        return [
            f"it failed and is retried in {format_duration(task.not_before - found.now)}",
            f"retries used: {task.failures} of {task.max_retries}; the pause doubles with each failure",
            *([*retry_causes(found.template), *growth(found.template)] if found.template else []),
            *([f"last time: {describe_end(task.last)}"] if task.last else []),
        ]
    return _ready(task, found)


def _limit(task: Task, found: Explanation) -> list[str]:
    limit = task.resources.time_limit_s
    if not limit or task.started_at is None:
        return []
    left = format_duration(task.started_at + limit - found.now)
    return [f"its time limit of {format_duration(limit)} ends it in {left}"]


def _runs(task: Task, now: float) -> str:
    if task.started_at is None:
        return f"runs on pilot {task.pilot}"
    return f"has run for {format_duration(now - task.started_at)} on pilot {task.pilot}"


# -- it waits for others ----------------------------------------------------------------------------------------


def _waiting(task: Task, found: Explanation) -> list[str]:
    number = task.unmet or len(found.blockers)
    lines = [f"{count(number, 'task')} must end before it"]
    lines += [
        f"task {one.id}{f' ({one.name})' if one.name else ''} {_blocked_by(one, found.now)}"
        for one in found.blockers[:_NAMED]
    ]
    if number > _NAMED:
        lines.append(f"and {number - _NAMED} more")
    if found.blockers:
        lines.append(f"$ pilotmtc explain {found.blockers[0].id}")
    return lines


def _blocked_by(one: Task, now: float) -> str:
    if one.state is T.RUNNING:
        return _runs(one, now)
    if one.state is T.WAITING:
        return f"waits itself for {count(one.unmet, 'task')}"
    if one.state is T.READY:
        return "has not started: no pilot has had room for it yet"
    if one.state is T.CLAIMED:
        return f"is about to start on pilot {one.pilot}"
    return f"is {one.state.name}"


# -- it waits for a pilot ---------------------------------------------------------------------------------------


def _ready(task: Task, found: Explanation) -> list[str]:
    limited = {limit.name: limit for limit in found.limits}
    need = without(task.resources, limited)
    waits = []
    for name, units in TaskRequest.of(task.resources, limited).units:
        limit, needs = limited[name], units / SHARE
        if needs > limit.amount:
            return [
                f"it needs {needs:g} of {name}, and no more than {limit.amount:g} may be in use at a time",
                f"$ pilotmtc store limit {shlex.quote(f'{name}={needs:g}')}",
            ]
        if units > shares(limit.amount) - shares(limit.in_use):
            waits.append(f"it waits for {name}: {limit.in_use:g} of {limit.amount:g} in use")
    own = found.campaign is not None and found.campaign.own_pilots
    if found.campaign is not None and found.campaign.on_hold:
        why = ": so many of its tasks have failed that it was halted" if found.campaign.halted else ""
        return [f"its campaign {task.campaign} is on hold{why}", f"$ pilotmtc release {task.campaign}"]
    if found.campaign is not None and (others := waits_words(found.campaign)):
        failed = [one.campaign for one in found.campaign.after if one.failed]
        ways = [f"$ pilotmtc retry --campaign {other}" for other in failed]
        ways += [f"$ pilotmtc edit --campaign {task.campaign} --after-campaign none"] if failed else []
        return [f"its campaign {task.campaign} waits for {other}" for other in others] + ways
    if found.campaign is not None and found.campaign.start_rate:
        rate = format_rate(found.campaign.start_rate)
        waits.append(f"pilots are given at most {rate} of the tasks of its campaign {task.campaign}")
    if found.campaign is not None and (most := found.campaign.max_running):
        held = sum(found.campaign.counts.get(state, 0) for state in TASK_HELD)
        if held >= most:
            waits.append(
                f"its campaign {task.campaign} has {count(held, 'task')} with pilots, and may have {most} at once"
            )
    if own and not any(pilot.description.campaign == task.campaign for pilot in found.pilots):
        return [
            f"it waits for a pilot of campaign {task.campaign}, which is kept for pilots of its own, as its run "
            "started them: none is active",
            f"$ pilotmtc run --resume {task.campaign}",
            f"$ pilotmtc pilot submit --campaign {task.campaign}{sized(need, ())}",
        ]
    if not found.pilots:
        return ["no pilot is active to run it", f"$ pilotmtc pilot submit{sized(need, ())}"]
    verdicts = [(pilot, obstacle(pilot, task, found.now, own=own, limits=limited)) for pilot in found.pilots]
    fitting = [pilot for pilot, words in verdicts if not words]
    lines = list(waits)
    if any(pilot.state is PilotState.ACTIVE for pilot in fitting):
        busy = sum(pilot.busy for pilot in fitting)
        cores = sum(pilot.cores for pilot in fitting)
        if found.ahead:
            lines.append(f"{_ahead(found.ahead)} before it on {_pilots(fitting)}")
        elif not waits:
            lines.append(f"it comes next: nothing goes before it on {_pilots(fitting)}")
        if cores == 1 and not waits:
            lines.append(f"its only core is {'busy' if busy else 'free'}")
        elif not waits:
            lines.append(f"{busy} of {'their' if len(fitting) > 1 else 'its'} {cores} cores are busy")
    elif fitting:
        lines.append(f"the pilots that could run it have not started: {_pilots(fitting)}")
    else:
        lines.append("no active pilot can run it")
    for pilot, words in verdicts:
        if words:
            lines.append(f"pilot {pilot.id}: {words}")
        elif pilot.state is not PilotState.ACTIVE:
            lines.append(f"pilot {pilot.id}: {pending(pilot, found.now)}")
    if len(lines) > 2 * _NAMED:
        more = len(lines) - 2 * _NAMED
        lines[2 * _NAMED :] = [f"and {count(more, 'more pilot')} that cannot run it"]
    if not fitting:
        too_much = beyond(need, found.pilots)
        which = f" --campaign {task.campaign}" if own else ""
        lines.append(too_much or f"$ pilotmtc pilot submit{which}{sized(need, found.pilots)}")
        lines.append(f"$ pilotmtc edit {task.id} --help")
    return lines


def _ahead(number: int) -> str:
    if number >= AHEAD_MAX:
        return f"more than {AHEAD_MAX:,} ready tasks go"
    return f"{count(number, 'ready task')} {'goes' if number == 1 else 'go'}"


def obstacle(pilot: Pilot, task: Task, now: float, *, own: bool = False, limits: Container[str] = ()) -> str:
    """Return why `pilot` will not run `task`; empty if it may. `own`: the campaign has pilots of its own.

    Resources in `limits` are not taken from the node, but from the store's limit.
    """
    asked, need = pilot.description, task.resources
    if own and asked.campaign is None:
        return f"takes no tasks of campaign {task.campaign}, which is kept for pilots of its own"
    if asked.campaign is not None and asked.campaign != task.campaign:
        return f"takes tasks of campaign {asked.campaign} only, and this one is of campaign {task.campaign}"
    if pilot.state is PilotState.DRAINING:
        return "is draining: it takes nothing new"
    if pilot.on_hold:
        return "is on hold: it takes nothing new until it is released"
    capacity = capacity_of(pilot, now)
    lack = fit(TaskRequest.of(need, limits), capacity)
    return _lacking(lack, need, capacity.nodes[0][0]) if lack else ""


def _lacking(lack: Lack, need: Resources, nodes: int) -> str:
    """Return what a pilot lacks, as the end of a sentence that starts with its name."""
    if lack.of is not None:
        return f"has {lack.of.words(lack.has)} a node, and the task needs {lack.of.typed(lack.needs)}"
    if lack.reason is Reason.RANKS_PER_NODE:
        return f"has room for {count(int(lack.has), 'rank')} a node, and the task needs {lack.needs}"
    if lack.reason is Reason.RANKS:
        return f"has room for {count(int(lack.has), 'rank')} on {count(nodes, 'node')}, and the task has {lack.needs}"
    which = "limit" if need.time_limit_s >= need.expected_s else "expected time"
    which += " with its grace" if lack.needs > max(need.time_limit_s, need.expected_s) else ""
    return f"has {format_duration(lack.has)} left, and the task's {which} is {format_duration(lack.needs)}"


def pending(pilot: Pilot, now: float) -> str:
    """Return why a pilot has not started."""
    for_s = format_duration(now - pilot.created_at)
    native = " ".join(filter(None, (pilot.native_state, f"({pilot.reason})" if pilot.reason else "")))
    if pilot.state is PilotState.NEW:  # without a scheduler, a pilot has no other state before it starts
        return f"was made {for_s} ago and has not {'been submitted' if pilot.description.scheduler else 'started'} yet"
    never = never_starts(pilot)
    words = f"waits in the queue of {pilot.description.site} for {for_s}{f': {native}' if native else ''}"
    return f"{words}; {never}" if never else words


def _pilots(pilots: list[Pilot]) -> str:
    named = ", ".join(str(pilot.id) for pilot in pilots[:_NAMED])
    more = f" and {len(pilots) - _NAMED} more" if len(pilots) > _NAMED else ""
    return f"pilot{'s' * (len(pilots) > 1)} {named}{more}"


# -- it is over -------------------------------------------------------------------------------------------------


def _over(task: Task, found: Explanation) -> list[str]:
    """Return how the task ended, without the name of its state, which the reader has seen."""
    last = task.last
    if task.state is T.DONE:
        if last is None:
            return ["it succeeded"]
        which = f", attempt {last.attempt}" if last.attempt > 1 else ""
        returned = [f"it returned {last.value_text}"] if last.value_text else []
        return [f"it took {format_duration(last.elapsed_s)}{which}", *returned]
    if task.state is T.CANCELED:
        ran = last is not None and last.cause is Cause.CANCELED and last.attempt == task.attempt
        when = f", when it had run for {format_duration(last.elapsed_s)}" if last is not None and ran else ""
        return [f"by a user{when}", f"$ pilotmtc retry {task.id}"]
    if task.state is T.SKIPPED:
        bad = [one for one in found.blockers if one.state in (T.FAILED, T.CANCELED, T.SKIPPED)]
        lines = ["a task that it needs did not succeed"]
        lines += [f"task {one.id}{f' ({one.name})' if one.name else ''} is {one.state.name}" for one in bad[:_NAMED]]
        first = bad[0].id if bad else task.id
        return [*lines, f"$ pilotmtc explain {first}", f"$ pilotmtc retry {first}"]
    lines = ["it is not known how it ended"]
    if last is not None:
        said = message_of(last)
        lines = [
            f"{end_sentence(last, task.resources)}{f': {said}' if said else ''}",
            *([] if task.function and last.cause is Cause.LAUNCH_ERROR else advice(last.cause, last.exit_code)),
        ]
    if task.crashes:
        lines.append(f"its node or pilot was lost {count(task.crashes, 'time')} while it ran")
    template = found.template
    if (
        last is not None
        and template is not None
        and task.max_retries
        and not is_retried(template, last.cause, last.exit_code)
    ):
        lines.append(f"it was not retried: that is done {', and '.join(retry_causes(template))}")
    elif task.max_retries:
        only = task.max_retries == 1
        lines.append("its only retry is used" if only else f"all {task.max_retries} retries are used")
    return [*lines, f"$ pilotmtc logs {task.id}", f"$ pilotmtc retry {task.id}"]


def advice(cause: Cause, exit_code: int | None) -> list[str]:
    """Return what such an end may mean, and what may help."""
    if cause is Cause.OOM:
        return ["for more memory: pilotmtc edit --memory"]
    if cause is Cause.TIMEOUT:
        return ["for more time: pilotmtc edit --time-limit"]
    if cause is Cause.LAUNCH_ERROR:
        return ["check its command and directory"]
    if cause is Cause.EXIT and exit_code == 137:
        return ["137 is how a shell says that its program was killed: out of memory?"]
    if cause is Cause.EXIT and exit_code == 127:
        return ["127 is how a shell says that there is no such command"]
    if cause is Cause.EXIT and exit_code == 126:
        return ["126 is how a shell says that a file cannot be executed"]
    return []
