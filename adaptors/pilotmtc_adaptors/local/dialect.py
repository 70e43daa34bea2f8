"""The host itself, without a scheduler: a job is a detached process that outlives the program that submitted it."""

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from pilotmtc.errors import AdaptorError, AnswerLost, JobUnknown, StatusUnavailable, SubmitRejected, UsageError
from pilotmtc_adaptors._common import text_of
from pilotmtc_adaptors._dialect import FINAL, Call, CallResult, Conversation, JobRecord, JobRequest, JobState, Status
from pilotmtc_adaptors._script import SCRIPT_FIELDS, job_script

T = TypeVar("T")

schemes = ("local", "fork")
maps = SCRIPT_FIELDS | {
    "name",
    "output",
    "error",
    "cores_per_node",
    "memory_per_node_bytes",
    "walltime_s",
    "signal_s",
}

_ID = re.compile(r"[0-9]+-[0-9]+", re.ASCII)
_HOST = str(Path(__file__).with_name("host.py"))


class _Ended(msgspec.Struct):
    status: int | None
    why: str
    ended_at: float


class _Job(msgspec.Struct):
    """What `host` knows: `process` is its state in /proc, "" if it has ended."""

    name: str
    host: str
    created_at: float
    kept: bool
    process: str
    ended: _Ended | None


def submit(request: JobRequest) -> Conversation[str]:
    """Return the job's id."""
    for what, path in (("output", request.output), ("error", request.error)):
        if "\0" in path:
            raise UsageError(f"{what} {path!r} holds a NUL character")
    fields = ("name", "working_directory", "output", "error", "cores_per_node", "memory_per_node_bytes")
    wish = {each: getattr(request, each) for each in (*fields, "walltime_s", "signal_s")}
    said = yield _call("start", {**wish, "script": job_script(request)})
    if said.returncode:
        raise SubmitRejected(f"this host refused the job: {text_of(said)}")
    taken = said.stdout.strip('"\n')
    if not _ID.fullmatch(taken):
        raise AnswerLost(f"this host did not say which job it made: {text_of(said)}")
    return taken


def status(ids: Sequence[str]) -> Conversation[dict[str, Status]]:
    """Return a record or an error for each id, with one call."""
    said = yield _call("look", list(ids))
    found = _understood(said, dict[str, _Job | None])
    answers: dict[str, Status] = {}
    for each in ids:
        job = found.get(each)
        answers[each] = _unknown(each) if job is None else _record(each, job)
    return answers


def cancel(ids: Sequence[str]) -> Conversation[dict[str, AdaptorError]]:
    """Return the errors by id."""
    said = yield _call("end", list(ids))
    found = _understood(said, dict[str, bool])
    return {each: _unknown(each) for each in ids if not found.get(each)}


def find(name: str) -> Conversation[tuple[str, ...]]:
    """Return the ids of this user's jobs of that name, the newest last."""
    said = yield _call("all", None)
    return tuple(each for each, job in _understood(said, dict[str, _Job]).items() if job.name == name)


def jobs() -> Conversation[tuple[str, ...]]:
    """Return the ids of this user's jobs that have not ended."""
    said = yield _call("all", None)
    found = _understood(said, dict[str, _Job])
    return tuple(each for each, job in found.items() if _record(each, job).state not in FINAL)


def _call(verb: str, argument: object) -> Call:
    # Not the JSON of msgspec: it takes no surrogates, which stand for bytes that are not UTF-8.
    return Call((sys.executable, "-I", "-S", _HOST, verb), stdin=json.dumps(argument))


def _understood(said: CallResult, kind: type[T]) -> T:
    if said.returncode:
        raise StatusUnavailable(f"the jobs of this host cannot be listed: {text_of(said)}")
    try:
        return msgspec.json.decode(said.stdout.encode("utf-8", "surrogateescape"), type=kind)
    except msgspec.DecodeError as error:
        raise StatusUnavailable(f"the records of this host's jobs cannot be understood: {error}") from error


def _record(batch_id: str, job: _Job) -> JobRecord:
    state, reason, exit_code, number = JobState.RUNNING, "", None, None
    native = "running"
    if job.ended is not None:
        native = {"": "ended", "walltime": "timeout"}.get(job.ended.why, job.ended.why)
        status = job.ended.status
        if status is not None:
            exit_code, number = (status, None) if status >= 0 else (None, -status)
        state = JobState.FAILED
        if job.ended.why == "canceled":
            state = JobState.CANCELED
        elif job.ended.why == "walltime":
            reason = "killed: it reached its walltime"
        elif status == 0:
            state = JobState.DONE
    elif job.process in ("T", "t"):
        state, native = JobState.SUSPENDED, "stopped"
    elif not job.process and not job.kept:
        state, native, reason = JobState.FAILED, "lost", "it and its keeper were killed: how it ended is not known"
    return JobRecord(
        batch_id=batch_id, state=state, native_state=native, reason=reason, exit_code=exit_code, signal=number,
        nodes=(job.host,), created_at=job.created_at, started_at=job.created_at,
        ended_at=None if job.ended is None else job.ended.ended_at, name=job.name,
    )  # fmt: skip


def _unknown(batch_id: str) -> JobUnknown:
    return JobUnknown(f"this host has no job {batch_id!r} (any more)")
