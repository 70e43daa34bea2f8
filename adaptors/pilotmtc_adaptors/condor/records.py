"""Turn HTCondor's JSON into records: one per cluster, however many jobs it has."""

import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import msgspec

from pilotmtc.errors import StatusUnavailable
from pilotmtc_adaptors._dialect import FINAL, JobRecord, JobState

Job: TypeAlias = Mapping[str, object]

ATTRIBUTES = (
    "ClusterId,ProcId,JobStatus,ExitCode,ExitBySignal,ExitSignal,RemoveReason,HoldReason,HoldReasonCode,LastHoldReason,"
    "LastHoldReasonCode,RemoteHost,LastRemoteHost,AllRemoteHosts,QDate,JobStartDate,JobCurrentStartDate,CompletionDate,"
    "EnteredCurrentStatus,JobBatchName,TotalSubmitProcs,LastRejMatchTime,RequestCpus,RequestMemory,RequestGPUs"
)
_NATIVE = {
    1: ("Idle", JobState.PENDING),
    2: ("Running", JobState.RUNNING),
    3: ("Removed", JobState.CANCELED),
    4: ("Completed", JobState.DONE),
    5: ("Held", JobState.PENDING),  # it can be released; jobs that cannot run are removed, see `submit`
    6: ("Transferring Output", JobState.RUNNING),
    7: ("Suspended", JobState.SUSPENDED),
}
# The state of a cluster with jobs that have not ended: the first of these that one of its jobs has.
_ALIVE = (JobState.RUNNING, JobState.SUSPENDED, JobState.PENDING, JobState.UNKNOWN)
_IDLE, _REMOVED, _COMPLETED, _HELD = 1, 3, 4, 5
_BY_A_USER = 1


def parse_jobs(text: str) -> list[Job]:
    """Return the jobs in what ``condor_q -json`` or ``condor_history -json`` wrote; an empty text has none.

    Raises
    ------
    StatusUnavailable
        If it cannot be understood.
    """
    if not text.strip():
        return []
    try:
        jobs: object = msgspec.json.decode(text.encode("utf-8", "replace"))
    except (msgspec.DecodeError, RecursionError) as error:
        raise StatusUnavailable(f"HTCondor's answer is not JSON: {text[:200]!r}") from error
    if not isinstance(jobs, list) or not all(
        isinstance(job, dict) and _integer(job, "ClusterId") is not None for job in jobs
    ):
        raise StatusUnavailable(f"HTCondor's answer is not a list of jobs: {text[:200]!r}")
    return jobs


def by_cluster(jobs: Sequence[Job]) -> dict[str, dict[int, Job]]:
    """Return the jobs by cluster and number."""
    found: dict[str, dict[int, Job]] = {}
    for job in jobs:
        found.setdefault(str(_integer(job, "ClusterId")), {}).setdefault(_integer(job, "ProcId") or 0, job)
    return found


def rejected_request(jobs: Mapping[int, Job]) -> tuple[tuple[str, int], ...]:
    """Return what a cluster needs of a slot, if all of its jobs wait and no machine has matched so far."""
    first = next(iter(jobs.values()))
    waits = all(_integer(job, "JobStatus") == _IDLE for job in jobs.values())
    if not waits or not all(_integer(job, "LastRejMatchTime") for job in jobs.values()):
        return ()
    return tuple((name, number) for name in ("Cpus", "Memory", "GPUs") if (number := _integer(first, f"Request{name}")))


def is_whole(jobs: Mapping[int, Job]) -> bool:
    """Return whether these are all jobs of their cluster."""
    return len(jobs) >= max(_integer(job, "TotalSubmitProcs") or 0 for job in jobs.values())


def cluster_record(batch_id: str, jobs: Mapping[int, Job]) -> JobRecord:
    """Return the record of a cluster whose jobs these are.

    The cluster runs while any of its jobs runs; else it is suspended or pending while any of them is. When all have
    ended, it ended as its first job did, which has the agent.
    """
    records = [_record(batch_id, jobs[number]) for number in sorted(jobs)]
    first = records[0]
    state = first.state
    for each in _ALIVE:
        if any(record.state is each for record in records):
            state = each
            break
    final = state in FINAL
    telling = first if final else next(record for record in records if record.state is state)
    natives = [record.native_state for record in records]
    native = ", ".join(f"{natives.count(each)} {each}" for each in dict.fromkeys(natives))
    return JobRecord(
        batch_id=batch_id,
        state=state,
        native_state=natives[0] if len(set(natives)) == 1 else native,
        reason=telling.reason or next((record.reason for record in records if record.reason), ""),
        exit_code=telling.exit_code if final else None,
        signal=telling.signal if final else None,
        nodes=tuple(dict.fromkeys(node for record in records for node in record.nodes)),
        created_at=first.created_at,
        started_at=min((each.started_at for each in records if each.started_at is not None), default=None),
        ended_at=max((each.ended_at for each in records if each.ended_at is not None), default=None) if final else None,
        name=first.name,
    )


def _record(batch_id: str, job: Job) -> JobRecord:
    number = _integer(job, "JobStatus")
    native, state = _NATIVE.get(number or 0, (f"JobStatus {number}", JobState.UNKNOWN))
    exit_code, signal, reason = None, None, ""
    # Look at the status before the exit code: a job that was removed may have an exit code, too.
    if number == _REMOVED:
        state, reason = _removal(job)
        signal = _integer(job, "ExitSignal") if job.get("ExitBySignal") is True else None
    elif number == _COMPLETED:
        if job.get("ExitBySignal") is True:
            signal = _integer(job, "ExitSignal")
        else:
            exit_code = _integer(job, "ExitCode")
        state = JobState.DONE if exit_code == 0 else JobState.FAILED
    elif number == _HELD:
        reason = _text(job, "HoldReason")
    return JobRecord(
        batch_id=batch_id,
        state=state,
        native_state=native,
        reason=reason,
        exit_code=exit_code,
        signal=signal,
        nodes=_nodes(job),
        created_at=_time(job, "QDate"),
        started_at=_time(job, "JobCurrentStartDate", "JobStartDate"),
        ended_at=_time(job, "CompletionDate", "EnteredCurrentStatus") if state in FINAL else None,
        name=_text(job, "JobBatchName"),
    )


def _removal(job: Job) -> tuple[JobState, str]:
    """Return state and reason of a job that was removed by a person, or by a rule of the job or the site."""
    reason = _text(job, "RemoveReason")
    if not re.search(r"periodic_?remove", reason, re.IGNORECASE):
        return JobState.CANCELED, reason
    held, code = _text(job, "LastHoldReason", "HoldReason"), _integer(job, "LastHoldReasonCode", "HoldReasonCode")
    if held and code != _BY_A_USER:
        return JobState.FAILED, held
    if "JobCurrentStartDate" in reason:
        return JobState.FAILED, f"it reached its walltime ({reason})"
    return JobState.FAILED, reason


def _nodes(job: Job) -> tuple[str, ...]:
    # "slot1_1@n3@vm" or "slot1@host.domain"; several in the parallel universe
    hosts = _text(job, "AllRemoteHosts", "RemoteHost", "LastRemoteHost").split(",")
    return tuple(dict.fromkeys(host.partition("@")[2] or host for host in hosts if host))


def _text(job: Job, *names: str) -> str:
    for name in names:
        value = job.get(name)
        if isinstance(value, str) and value:
            return value
    return ""


def _integer(job: Job, *names: str) -> int | None:
    for name in names:
        value = job.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**12:
            return value
    return None


def _time(job: Job, *names: str) -> float | None:
    return next((float(value) for name in names if (value := _integer(job, name))), None)
