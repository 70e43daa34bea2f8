"""Options of qsub that Torque and Moab share; PBS Pro has some of them."""

import re

from pilotmtc.errors import UsageError
from pilotmtc.scheduler_words import line, word
from pilotmtc_adaptors._dialect import JobRequest

_NAME = re.compile(r"[A-Za-z0-9_.+-]{1,230}", re.ASCII)
_PROPERTIES = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*(:[A-Za-z_][A-Za-z0-9_.-]*)*", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*", re.ASCII)
_EXTENSION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", re.ASCII)


def qsub_options(request: JobRequest, name: str) -> list[str]:
    """Return the options common to all of them; `name` comes from `checked_name`, perhaps shortened."""
    argv = ["-S", "/bin/sh", "-r", "n"]
    if name:
        argv += ["-N", name]
    if request.queue:
        argv += ["-q", word("queue", request.queue)]
    if request.account:
        argv += ["-A", line("account", request.account)]
    for option, what, path in (("-o", "output", request.output), ("-e", "error", request.error)):
        if path:
            argv += [option, _path(what, path, request.working_directory)]
    if bool(request.output) != bool(request.error):
        # Of an output without a path PBS tries for minutes to bring it to the directory of qsub, and fails.
        argv += ["-j", "oe" if request.output else "eo"]
    return argv


def torque_resources(request: JobRequest) -> list[str]:
    """Return the options for nodes, memory and walltime."""
    node = f":ppn={request.cores_per_node}" if request.cores_per_node else ""
    node += f":gpus={request.gpus_per_node}" if request.gpus_per_node else ""
    if request.constraint:
        if not _PROPERTIES.fullmatch(request.constraint):
            raise UsageError(f"constraint {request.constraint!r}: Torque takes names of node properties, joined by ':'")
        node += f":{request.constraint}"
    hosts = hosts_of(request)
    nodes = "+".join(f"{host}{node}" for host in hosts) if hosts else f"{request.nodes}{node}"
    found = ["-l", f"nodes={nodes}"]
    if request.memory_per_node_bytes:
        found += ["-l", f"mem={kib(request.memory_per_node_bytes) * request.nodes}kb"]  # of the whole job
    return found + walltime(request)


def extensions(request: JobRequest) -> list[str]:
    """Return the option for what Torque passes on to Maui or Moab."""
    found = []
    for key, what, value in (("qos", "qos", request.qos), ("advres", "reservation", request.reservation)):
        if value and not _EXTENSION.fullmatch(value):
            raise UsageError(f"{what} {value!r}: give a plain name")
        found += [f"{key}:{value}"] if value else []
    if request.exclusive:
        found.append("naccesspolicy:singlejob")
    return ["-W", f"x={';'.join(found)}"] if found else []


def refuse_blanks(request: JobRequest) -> None:
    """Raise `UsageError` for a path with blanks: Torque does not quote it, and would lose the output."""
    for what, path in (("output", request.output), ("error", request.error)):
        whole = path if path.startswith("/") else f"{request.working_directory}/{path}"
        if path and re.search(r"\s", whole):
            raise UsageError(f"{what} {whole!r}: Torque loses output that goes to a path with blanks; choose another")


def walltime(request: JobRequest) -> list[str]:
    """Return the option for the walltime, if there is one."""
    if not request.walltime_s:
        return []
    minutes, seconds = divmod(request.walltime_s, 60)
    return ["-l", f"walltime={minutes // 60:02}:{minutes % 60:02}:{seconds:02}"]


def hosts_of(request: JobRequest) -> tuple[str, ...]:
    """Return the candidate hosts; `UsageError` if there are not as many as nodes."""
    hosts = request.candidate_hosts
    for host in hosts:
        if not _HOST.fullmatch(host):
            raise UsageError(f"candidate host {host!r}: give a host's plain name")
    if hosts and len(hosts) != request.nodes:
        raise UsageError(
            f"{len(hosts)} candidate hosts for {request.nodes} nodes: give as many as nodes: PBS uses all of them"
        )
    return hosts


def checked_name(name: str) -> str:
    """Return a job's name if it can be one; `UsageError` otherwise."""
    if name and (not _NAME.fullmatch(name) or not name[0].isalpha()):
        raise UsageError(f"job name {name!r}: use a letter first, then letters, digits and '_', '.', '+' or '-'")
    return name


def _path(what: str, path: str, directory: str) -> str:
    if ":" in path or "," in path or "$" in path or "^" in path:
        raise UsageError(
            f"{what} {path!r}: ':', ',', '$' and '^' have other meanings for PBS; choose a path without them"
        )
    return line(what, path if path.startswith("/") or not directory else f"{directory.rstrip('/')}/{path}")


def kib(size: int) -> int:
    """Return bytes as KiB, rounded up."""
    return -(-size // 1024)
