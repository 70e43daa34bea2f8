"""Turn SAGA's job description into a `JobRequest`: each attribute is either used or refused by name."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from pilotmtc.errors import UsageError
from pilotmtc_adaptors._dialect import JobRequest

EXTRAS = frozenset(
    {"nodes", "gpus_per_node", "memory_per_node_bytes", "qos", "constraint", "reservation", "exclusive", "signal_s"}
)
_SAME = {
    "Executable": "executable",
    "Arguments": "arguments",
    "Environment": "environment",
    "PreExec": "pre_exec",
    "Name": "name",
    "WorkingDirectory": "working_directory",
    "Input": "input",
    "Output": "output",
    "Error": "error",
    "Queue": "queue",
    "Project": "account",
    "CandidateHosts": "candidate_hosts",
    "FileTransfer": "file_transfer",
}
_TOTALS = {
    "TotalCPUCount": "cores_per_node",
    "TotalGPUCount": "gpus_per_node",
    "TotalPhysicalMemory": "memory_per_node_bytes",
}
_MINUTE_S = 60
_INSTEAD = {
    "NumberOfProcesses": "one is started, on the first node; let it start the others, and give nodes in "
    "system_architecture",
    "ProcessesPerHost": "give nodes in system_architecture, and total_cpu_count",
    "ThreadsPerProcess": "give nodes in system_architecture, and total_cpu_count",
    "SPMDVariation": "let the executable start its processes itself",
    "PostExec": "let the executable do that at its end",
    "Interactive": "a scheduler's job cannot be interactive",
    "Cleanup": "there is nothing to clean up",
}
_ONE_IS_FINE = ("NumberOfProcesses", "ProcessesPerHost", "ThreadsPerProcess")


def as_request(attributes: Mapping[str, Any]) -> JobRequest:
    """Return the request that corresponds to a description with these attributes, in SAGA's names.

    Raises
    ------
    UsageError
        If an attribute has no meaning here, or its value makes no sense. The text names it.
    """
    given = {name: value for name, value in attributes.items() if value not in (None, "", [], (), {}, 0, False)}
    extras = given.pop("SystemArchitecture", {})
    if not isinstance(extras, Mapping):
        raise UsageError(f"system_architecture {extras!r}: give a dict, with some of {', '.join(sorted(EXTRAS))}")
    if odd := sorted(set(map(str, extras)) - EXTRAS):
        raise UsageError(f"system_architecture has no {', '.join(odd)}: there are {', '.join(sorted(EXTRAS))}")
    fields: dict[str, Any] = dict(extras)
    nodes = max(_number("nodes", extras.get("nodes", 1)), 1)  # the driver refuses others
    for name, value in given.items():
        if name in _SAME:
            fields[_SAME[name]] = value
        elif name in _TOTALS:
            field = _TOTALS[name]
            if fields.get(field):
                raise UsageError(f"{_snake(name)} and {field} mean the same: give one of them")
            fields[field] = _share(name, _number(_snake(name), value), nodes)
        elif name == "WallTimeLimit":
            fields["walltime_s"] = _number("wall_time_limit", value) * _MINUTE_S
        elif name not in _ONE_IS_FINE or value != 1:
            remedy = _INSTEAD.get(name, "leave it out")
            raise UsageError(f"{_snake(name)} ({value!r}) cannot be given to jobs here: {remedy}")
    if isinstance(environment := fields.get("environment"), Mapping):
        fields["environment"] = {name: str(value) for name, value in environment.items()}
    try:
        return msgspec.convert(fields, JobRequest, strict=False)
    except msgspec.ValidationError as error:
        raise UsageError(f"the job's description makes no sense: {error}") from error


def _share(name: str, total: int, nodes: int) -> int:
    """Return one node's part of an amount for the whole job."""
    if name == "TotalPhysicalMemory":
        return -(-(total << 20) // nodes)  # SAGA counts MiB
    if total % nodes:
        raise UsageError(f"{_snake(name)} {total} is not a multiple of {nodes} nodes, which all get the same")
    return total // nodes


def _number(name: str, value: object) -> int:
    try:
        return msgspec.convert(value, int, strict=False)
    except msgspec.ValidationError as error:
        raise UsageError(f"{name} {value!r}: give a whole number") from error


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
