"""Turn the output of SLURM's commands into records."""

import re

from pilotmtc.errors import ConfigError
from pilotmtc.host_lists import expand
from pilotmtc_adaptors._dialect import FINAL, JobRecord, JobState

# The name is the last field: only a name may contain the separator.
SQUEUE_FORMAT = ",".join(
    f"{each}:|" for each in ("JobID", "State", "exit_code", "SubmitTime", "StartTime", "EndTime", "NodeList", "Reason")
)
SQUEUE_FORMAT += ",Name:|"
SACCT_FORMAT = "JobIDRaw,State,ExitCode,Submit,Start,End,NodeList,JobName"

_STATES = {
    "PENDING": JobState.PENDING, "CONFIGURING": JobState.PENDING, "REQUEUED": JobState.PENDING,
    "REQUEUE_HOLD": JobState.PENDING, "SPECIAL_EXIT": JobState.PENDING, "RESV_DEL_HOLD": JobState.PENDING,
    "REQUEUE_FED": JobState.PENDING, "RUNNING": JobState.RUNNING, "COMPLETING": JobState.RUNNING,
    "SIGNALING": JobState.RUNNING, "STAGE_OUT": JobState.RUNNING, "RESIZING": JobState.RUNNING,
    "STOPPED": JobState.SUSPENDED, "SUSPENDED": JobState.SUSPENDED, "COMPLETED": JobState.DONE,
    "CANCELLED": JobState.CANCELED, "REVOKED": JobState.CANCELED, "FAILED": JobState.FAILED,
    "TIMEOUT": JobState.FAILED, "NODE_FAIL": JobState.FAILED, "PREEMPTED": JobState.FAILED,
    "BOOT_FAIL": JobState.FAILED, "DEADLINE": JobState.FAILED, "OUT_OF_MEMORY": JobState.FAILED,
    "LAUNCH_FAILED": JobState.FAILED, "RECONFIG_FAIL": JobState.FAILED,
}  # fmt: skip
_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)


def squeue_records(text: str) -> dict[str, JobRecord]:
    """Return the jobs in what ``squeue -O SQUEUE_FORMAT`` printed, by id; other lines are left out."""
    lines = (line.removesuffix("|").split("|", 8) for line in text.splitlines())
    return {fields[0]: _record(*fields[:8], name=fields[8]) for fields in lines if len(fields) == 9}


def sacct_records(text: str) -> dict[str, JobRecord]:
    """Return the jobs in what ``sacct -n -X -P -o SACCT_FORMAT`` printed, by id."""
    found = {}
    for line in text.splitlines():
        fields = line.split("|", 7)
        if len(fields) == 8:
            native, _, reason = fields[1].partition(" ")  # "CANCELLED by 1000"
            found[fields[0]] = _record(fields[0], native, *fields[2:7], reason, name=fields[7])
    return found


def host_names(text: str) -> tuple[str, ...]:
    """Return the names in a list of hosts, such as ``n[1-2,07],login``; none if it cannot be read."""
    try:
        return tuple(expand(text))
    except ConfigError:
        return ()


def _record(*fields: str, name: str) -> JobRecord:
    batch, native, code, submitted, started, ended, nodes, reason = fields
    state = _STATES.get(native, JobState.UNKNOWN)
    over = state in FINAL
    exit_code, signal = _ending(code) if over else (None, None)
    if state != JobState.DONE and exit_code == 0:
        exit_code = None  # SLURM ended the job
    return JobRecord(
        batch_id=batch, state=state, native_state=native, reason="" if reason == "None" else reason,
        exit_code=exit_code, signal=signal, nodes=() if nodes == "None assigned" else host_names(nodes),
        created_at=_time(submitted), started_at=_time(started), ended_at=_time(ended) if over else None, name=name,
    )  # fmt: skip


def _time(text: str) -> float | None:
    return float(text) if _NUMBER.fullmatch(text) else None


def _ending(code: str) -> tuple[int | None, int | None]:
    """Return exit code and signal: old versions of squeue print the status of wait(2), all others "code:signal"."""
    first, colon, second = code.partition(":")
    if not _NUMBER.fullmatch(first) or (colon and not _NUMBER.fullmatch(second)):
        return None, None
    number, signal = (int(first), int(second)) if colon else (int(first) >> 8, int(first) & 0x7F)
    return (None, signal) if signal else (number, None)
