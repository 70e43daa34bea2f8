"""What ``--json`` prints: the keys are documented in docs/cli.md and do not change."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pilotmtc.model import Attempt, Campaign, Pilot, PilotDescription, Resources, Task, Version
    from pilotmtc.protocol.client.tasks import TaskDetail
    from pilotmtc.protocol.records import Pace
    from pilotmtc.report.plan import Plan
    from pilotmtc.report.records import Summary
    from pilotmtc.session import TaskResult
    from pilotmtc.session.look.overview import Board

Shape = dict[str, object]


def time(then: float | None) -> str | None:
    """Return a time as ISO 8601 in UTC."""
    if then is None:
        return None
    return datetime.fromtimestamp(then, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def campaign(record: "Campaign") -> Shape:
    """Return a campaign's object."""
    from pilotmtc.states import TaskState

    return {
        "id": record.id,
        "name": record.name,
        "command": list(record.command),
        "created_at": time(record.created_at),
        "tasks": record.received,
        "sealed": record.sealed,
        "own_pilots": record.own_pilots,
        "on_hold": record.on_hold,
        "halted": record.halted,
        "max_running": record.max_running or None,
        "known": record.known,
        "start_rate": record.start_rate or None,
        "after_campaigns": [
            {"id": one.campaign, "name": one.name, "met": one.met, "left": one.left, "bad": one.bad}
            for one in record.after
        ],
        "learned": [
            {
                "at": time(one.at),
                "tasks": one.tasks,
                "before": {"memory_bytes": one.before.memory_bytes, "time_limit_s": one.before.time_limit_s},
                "after": {"memory_bytes": one.after.memory_bytes, "time_limit_s": one.after.time_limit_s},
            }
            for one in record.learned
        ],
        "counts": {state.name: record.counts.get(state, 0) for state in TaskState},
    }


def pilot(record: "Pilot") -> Shape:
    """Return a pilot's object."""
    asked = record.description
    return {
        "id": record.id,
        "state": record.state.name,
        "reason": record.reason,
        "site": asked.site,
        "host": record.host,
        "pid": record.pid or None,
        "nodes": record.nodes,
        "cores": record.cores,
        "busy": record.busy,
        "gpus": asked.gpus,
        "memory_bytes": record.node_memory_bytes or asked.memory_bytes,
        "resources": asked.named,
        "walltime_s": asked.walltime_s,
        "idle_s": asked.idle_s,
        "campaign": asked.campaign,
        "created_at": time(record.created_at),
        "started_at": time(record.started_at),
        "seen_at": time(record.seen_at),
        "ended_at": time(record.ended_at),
        "directory": record.directory,
        "batch_id": record.batch,
        "native_state": record.native_state,
        "scheduler": asked.scheduler,
        "nodes_asked": asked.nodes,
        "queue": asked.queue,
        "account": asked.account,
        "submitted_at": time(record.submitted_at),
        "asked_at": time(record.asked_at),
        "trouble": record.trouble,
        "on_hold": record.on_hold,
    }


def description(record: "PilotDescription") -> Shape:
    """Return the object of a pilot that was not submitted."""
    return {
        "site": record.site,
        "scheduler": record.scheduler,
        "nodes_asked": record.nodes,
        "cores": record.cores,
        "gpus": record.gpus,
        "memory_bytes": record.memory_bytes,
        "resources": record.named,
        "walltime_s": record.walltime_s,
        "idle_s": record.idle_s,
        "campaign": record.campaign,
        "queue": record.queue,
        "account": record.account,
        "qos": record.qos,
        "constraint": record.constraint,
        "reservation": record.reservation,
        "exclusive": record.exclusive,
    }


def resources(record: "Resources") -> Shape:
    """Return the keys of what a task needs."""
    return {
        "cores": record.cores,
        "ranks": record.ranks,
        "ranks_per_node": record.ranks_per_node,
        "gpus": record.gpus,
        "memory_bytes": record.memory_bytes,
        "resources": record.named,
        "time_limit_s": record.time_limit_s,
        "expected_s": record.expected_s,
        "grace_s": record.grace_s,
        "signal_first": record.signal_first or "TERM",
    }


def attempt(record: "Attempt") -> Shape:
    """Return an attempt's object."""
    return {
        "attempt": record.attempt,
        "cause": record.cause.name,
        "exit_code": record.exit_code,
        "signal": record.signal,
        "message": record.message,
        "pilot": record.pilot,
        "node": record.node,
        "slot": record.slot,
        "started_at": time(record.started_at or None),
        "recorded_at": time(record.recorded_at or None),
        "elapsed_s": round(record.elapsed_s, 6),
        "cpu_s": round(record.cpu_s, 6),
        "memory_bytes": record.memory_bytes,
        "stdout_bytes": record.stdout_bytes,
        "stderr_bytes": record.stderr_bytes,
        "stdout_path": record.stdout_path,
        "stderr_path": record.stderr_path,
        "version": record.version or None,
        "revision": record.revision or None,
        "known_from": record.known_from or None,
        "value_text": record.value_text or None,
    }


def task(record: "Task") -> Shape:
    """Return a task's object."""
    return {
        "id": record.id,
        "campaign": record.campaign,
        "name": record.name,
        "tags": record.tags,
        "state": record.state.name,
        "attempt": record.attempt,
        "command": record.command[0] if record.shell else record.command,
        "shell": record.shell,
        "params": record.params,
        "function": record.function or None,
        "priority": record.priority,
        **resources(record.resources),
        "max_retries": record.max_retries,
        "failures": record.failures,
        "crashes": record.crashes,
        "unmet": record.unmet,
        "pilot": record.pilot,
        "started_at": time(record.started_at),
        "not_before": time(record.not_before),
        "canceling": record.cancel,
        "on_hold": record.on_hold,
        "last": attempt(record.last) if record.last else None,
    }


def detail(record: "TaskDetail") -> Shape:
    """Return the object of all about a task."""
    assert record.task is not None
    template = record.template
    return {
        **task(record.task),
        "env": template.env if template else {},
        "cwd": template.cwd if template else None,
        "stdin": template.stdin if template else None,
        "stdout": template.stdout if template else None,
        "stderr": template.stderr if template else None,
        "append": template.append if template else False,
        "setup": template.setup if template else (),
        "shell_program": (template.shell_program or None) if template else None,
        "python": (template.function.python or None) if template and template.function else None,
        "backoff_s": template.backoff_s if template else 0.0,
        "max_output_bytes": template.max_output_bytes if template else None,
        "retry_on": template.retry_on if template else (),
        "no_retry_on": template.no_retry_on if template else (),
        "retry_memory": template.retry_memory if template else 1.0,
        "max_memory_bytes": (template.max_memory_bytes or None) if template else None,
        "retry_time": template.retry_time if template else 1.0,
        "watch": template.watch if template else (),
        "versions": [version(one) for one in record.versions.values()],
        "attempts": [attempt(one) for one in record.attempts],
        "needs": [{"id": one.id, "state": one.state.name, "well": one.well} for one in record.needs],
        "needed_by": [{"id": one.id, "state": one.state.name, "well": one.well} for one in record.needed_by],
    }


def version(record: "Version") -> Shape:
    """Return the object of what attempts ran."""
    from pilotmtc.text.tasks import files_run

    program = record.program
    return {
        "version": record.id,
        "command": record.template.command[0] if record.template.shell else record.template.command,
        "env": record.template.env,
        "directory": (program.directory or None) if program else None,
        "revision": (program.revision or None) if program else None,
        "dirty": program.dirty if program else False,
        "host": program.host if program else None,
        "user": program.user if program else None,
        "pilotmtc": program.pilotmtc if program else None,
        "files": files_run(record),
    }


def result(record: "TaskResult") -> Shape:
    """Return a result's object, without outputs."""
    return {
        "id": record.id,
        "campaign": record.campaign,
        "name": record.name,
        "tags": record.tags,
        "params": record.params,
        "state": record.state.name,
        "attempt": record.attempt,
        "cause": record.cause.name if record.cause is not None else None,
        "exit_code": record.exit_code,
        "signal": record.signal,
        "message": record.message,
        "node": record.node,
        "started_at": time(record.started_at),
        "elapsed_s": round(record.elapsed_s, 6),
        "cpu_s": round(record.cpu_s, 6),
        "memory_bytes": record.memory_bytes,
        "stdout_bytes": record.stdout_bytes,
        "stderr_bytes": record.stderr_bytes,
        "version": record.version or None,
        "revision": record.revision or None,
        "known_from": record.known_from or None,
        "function": record.function or None,
        "value": None,
        "value_text": record.value_text or None,
    }


def pace(record: "Pace | None") -> Shape:
    """Return the keys of how fast a pilot or campaign is."""
    return {
        "tasks_per_s": record.lately if record else 0.0,
        "tasks_ended": record.ended if record else 0,
        "tasks_failed": record.failed if record else 0,
    }


def board(record: "Board") -> Shape:
    """Return the object of an overview."""
    from pilotmtc.session.look.overview import left_s, notices

    series = record.series
    busy, cores = record.cores
    return {
        "at": time(record.now),
        "counting_since": time(record.since_at),
        "tasks": {state.name: n for state, n in record.tasks.items()},
        "cores": cores,
        "busy": busy,
        "tasks_per_s": round(record.pace, 4),
        "pilots": [
            pilot(one) | pace(record.pilot_paces.get(one.id)) | {"left_s": left_s(one, record.now)}
            for one in record.pilots.values()
        ],
        "campaigns": [
            campaign(one) | pace(record.campaign_paces.get(one.id)) | {"eta_s": record.eta_s(one)}
            for one in record.campaigns.values()
        ],
        "attention": [
            {"level": one.level, "text": one.text, "filter": one.tasks or None, "pilot": one.pilot, "seen": one.seen}
            for one in notices(record)
        ],
        "series": {
            "start_at": time(series.start_at),
            "step_s": series.step_s,
            "ended": series.ended,
            "failed": series.failed,
            "busy": series.busy,
            "cores": series.cores,
        },
    }


def report(record: "Summary") -> Shape:
    """Return the object of a report."""
    import msgspec

    found: Shape = _with_times(msgspec.to_builtins(record))
    return found


def plan(record: "Plan") -> Shape:
    """Return the object of a plan."""
    import msgspec

    found: Shape = msgspec.to_builtins(record)
    return found


def _with_times(value: Any) -> Any:
    """Return a value of records with their times as ISO 8601."""
    if isinstance(value, dict):
        return {key: time(one) if key.endswith("_at") else _with_times(one) for key, one in value.items()}
    return [_with_times(one) for one in value] if isinstance(value, list | tuple) else value
