"""What dialects share when they build requests: checks, quoting, and the job's script."""

import re
import shlex

import msgspec

from pilotmtc.errors import UsageError
from pilotmtc_adaptors._dialect import JobRequest

# The fields of a request that `job_script` acts on, whatever the scheduler.
SCRIPT_FIELDS = frozenset({"executable", "arguments", "environment", "pre_exec", "working_directory", "input"})
# The fields that every scheduler of several nodes acts on; then those of schedulers with queues.
BATCH_FIELDS = SCRIPT_FIELDS | {
    "name", "output", "error", "nodes", "cores_per_node", "gpus_per_node", "memory_per_node_bytes", "walltime_s",
    "signal_s", "account", "constraint", "candidate_hosts",
}  # fmt: skip
QUEUE_FIELDS = BATCH_FIELDS | {"queue", "qos", "reservation", "exclusive"}

# Some schedulers refuse a script with a carriage return at the end of a line.
_RETURN = "\"$(printf '\\r')\""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


def refuse_unmapped(request: JobRequest, maps: frozenset[str], scheduler: str) -> None:
    """Raise `UsageError` if fields are set that the scheduler's dialect cannot act on; it names them."""
    fields = msgspec.structs.fields(JobRequest)
    refused = [
        f"{field.name} ({getattr(request, field.name)!r})"
        for field in fields
        if not field.required and field.name not in maps and getattr(request, field.name) != _default(field)
    ]
    if refused:
        raise UsageError(f"{scheduler} jobs cannot have {', '.join(refused)}: leave it out, or use another scheduler")


def refuse_nonsense(request: JobRequest) -> None:
    """Raise `UsageError` if a number is invalid for every scheduler; it names the field."""
    for name in ("nodes", "cores_per_node", "gpus_per_node", "memory_per_node_bytes", "walltime_s", "signal_s"):
        value, least = getattr(request, name), 1 if name == "nodes" else 0
        if value < least:
            raise UsageError(f"{name} {value}: give {least} or more")
    if request.signal_s and request.signal_s >= request.walltime_s:
        raise UsageError(
            f"signal_s {request.signal_s} is a warning before the walltime of {request.walltime_s} s ends: "
            f"give a longer walltime"
        )


def quote(value: str) -> str:
    """Return `value` as one word of a POSIX shell."""
    return _RETURN.join(shlex.quote(part) for part in value.split("\r"))


def job_script(request: JobRequest, *, directives: tuple[str, ...] = (), warn: bool = False) -> str:
    """Return the job's script, for any POSIX shell: environment, directory, `pre_exec`, the executable.

    The shell becomes the executable (``exec``), so that the scheduler's signals reach it.

    Parameters
    ----------
    directives
        Lines to put below the first; the caller has checked them.
    warn
        Let the script itself send SIGTERM `signal_s` before the end of the walltime, where the scheduler cannot.
    """
    if not request.executable or request.executable.startswith("-"):
        raise UsageError(f"executable {request.executable!r}: name a program")
    lines = ["#!/bin/sh", *directives]
    for name, value in request.environment.items():
        if not _NAME.fullmatch(name):
            raise UsageError(f"environment variable {name!r}: use letters, digits and '_', and no digit first")
        lines.append(f"export {name}={quote(value)}")
    if request.working_directory:
        # If its directory does not exist, schedulers start the job in another one.
        lines.append(f"cd -- {quote(request.working_directory)} || exit 127")
    lines += [f"{{ {each}\n}} || exit" for each in request.pre_exec]
    if warn and request.signal_s and request.walltime_s:
        rest = max(request.walltime_s - request.signal_s, 0)
        lines.append(f"( sleep {rest}; kill -TERM $$ ) </dev/null >/dev/null 2>&1 &")
    words = [quote(each) for each in (request.executable, *request.arguments)]
    source = f" <{quote(request.input)}" if request.input else ""
    lines.append(f"exec {' '.join(words)}{source}")
    script = "\n".join(lines) + "\n"
    if "\0" in script:
        raise UsageError(
            "the job's command, environment or directory holds a NUL character, which no program can receive"
        )
    return script


def _default(field: msgspec.structs.FieldInfo) -> object:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return field.default
