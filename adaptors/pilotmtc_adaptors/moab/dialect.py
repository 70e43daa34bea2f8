"""Moab, after its documentation: it has not been tried on a real one.

Options are Torque's, which msub takes too. Jobs that are there, and those that were for as long as Moab keeps them, are
told by two calls of ``showq --xml`` however many they are; the rest are asked for one by one.
"""

import re
from collections.abc import Iterable, Sequence

from pilotmtc.errors import AdaptorError, AnswerLost, JobUnknown, StatusUnavailable, SubmitRejected
from pilotmtc_adaptors._dialect import FINAL, Call, JobRecord, JobRequest, Said, Status, Talk
from pilotmtc_adaptors._qsub import checked_name, extensions, qsub_options, refuse_blanks, torque_resources
from pilotmtc_adaptors._script import SCRIPT_FIELDS, job_script
from pilotmtc_adaptors.moab.records import moab_records

schemes = ("moab",)
maps = SCRIPT_FIELDS | {
    "name",
    "output",
    "error",
    "nodes",
    "cores_per_node",
    "gpus_per_node",
    "memory_per_node_bytes",
    "walltime_s",
    "signal_s",
    "queue",
    "account",
    "qos",
    "constraint",
    "reservation",
    "exclusive",
    "candidate_hosts",
}

# Moab's own are "Moab.17", or "17" once a resource manager has the job.
_ID = re.compile(r"(?:[A-Za-z][A-Za-z0-9_-]*\.)?[0-9]+(?:\.[A-Za-z0-9_.-]+)?", re.ASCII)
_UNREACHABLE = re.compile(
    r"communication error|cannot connect|connection refused|lost connection|timed out|no route to host|cannot locate",
    re.IGNORECASE,
)
_CUT_OFF = re.compile(r"lost connection|timed out", re.IGNORECASE)
_UNKNOWN = re.compile(r"invalid job specified|cannot locate job|no such job", re.IGNORECASE)
_OVER = re.compile(r"already (?:been )?cancell?ed|job has completed|is not (?:active|running)", re.IGNORECASE)


def submit(request: JobRequest) -> Talk[str]:
    """Return the job's id."""
    refuse_blanks(request)
    resources = [*torque_resources(request), *extensions(request)]
    options = (*qsub_options(request, checked_name(request.name)), *resources)
    said = yield Call(("msub", *options), stdin=job_script(request, warn=True))
    # An empty line comes before the id.
    found = [each for each in said.stdout.split() if _ID.fullmatch(each)]
    if said.returncode == 0 and found:
        return found[-1]
    text = _text(said)
    if said.returncode <= 0 or _CUT_OFF.search(text):
        raise AnswerLost(f"msub did not say which job it made: {text}")
    if _UNREACHABLE.search(text):
        raise StatusUnavailable(f"Moab cannot be reached: {text}")
    raise SubmitRejected(f"Moab refused the job: {text}")


def status(ids: Sequence[str]) -> Talk[dict[str, Status]]:
    """Return a record or an error for each id."""
    answers: dict[str, Status] = {each: _foreign(each) for each in ids if not _ID.fullmatch(each)}
    asked = [each for each in ids if each not in answers]
    if not asked:
        return answers
    known = yield from _all_jobs()
    for each in asked:
        record = known.get(each) or known.get(_number(each))
        answers[each] = record if record is not None else (yield from _one(each))
    return answers


def _one(batch_id: str) -> Talk[Status]:
    said = yield Call(("checkjob", "--xml", batch_id))
    if _UNKNOWN.search(said.stderr + said.stdout):
        return JobUnknown(f"Moab does not know job {batch_id} (any more)")
    if said.returncode:
        return StatusUnavailable(f"Moab cannot be asked for job {batch_id}: {_text(said)}")
    found = _by_id(moab_records(said.stdout))
    record = found.get(batch_id) or found.get(_number(batch_id))
    return record or StatusUnavailable(f"Moab said nothing of job {batch_id}: {_text(said)}")


def cancel(ids: Sequence[str]) -> Talk[dict[str, AdaptorError]]:
    """Return the errors by id."""
    errors: dict[str, AdaptorError] = {each: _foreign(each) for each in ids if not _ID.fullmatch(each)}
    for each in ids:
        if each in errors:
            continue
        said = yield Call(("canceljob", each))
        text = said.stderr + said.stdout
        if said.returncode == 0 and "ERROR" not in text:
            continue
        if _UNKNOWN.search(text):
            errors[each] = JobUnknown(f"Moab does not know job {each} (any more)")
        elif _UNREACHABLE.search(text):
            raise StatusUnavailable(f"Moab cannot be reached: {_text(said)}")
        elif not _OVER.search(text):
            errors[each] = AdaptorError(f"Moab did not cancel job {each}: {_text(said)}")
    return errors


def find(name: str) -> Talk[tuple[str, ...]]:
    """Return the ids of this user's jobs of that name, the newest last."""
    known = yield from _all_jobs()
    return _in_order(record for record in known.values() if record.name == name)


def jobs() -> Talk[tuple[str, ...]]:
    """Return the ids of this user's jobs that are not over."""
    user = yield from _user()
    known = yield from _showq(user)
    return _in_order(record for record in known.values() if record.state not in FINAL)


def _all_jobs() -> Talk[dict[str, JobRecord]]:
    """Return this user's jobs, those that are over too, by every id that they go by."""
    user = yield from _user()
    there = yield from _showq(user)
    over = yield from _showq(user, "-c")  # after that, so that a job which ends in between is in one of them
    return there | over


def _showq(user: str, *options: str) -> Talk[dict[str, JobRecord]]:
    said = yield Call(("showq", *options, "--xml", "-w", f"user={user}"))
    if said.returncode:
        raise StatusUnavailable(f"Moab cannot be asked: {_text(said)}")
    return _by_id(moab_records(said.stdout))


def _user() -> Talk[str]:
    said = yield Call(("id", "-un"), timeout_s=20)
    if said.returncode or not said.stdout.strip():
        raise StatusUnavailable(f"this account has no name: {_text(said)}")
    return said.stdout.strip()


def _by_id(records: Iterable[tuple[set[str], JobRecord]]) -> dict[str, JobRecord]:
    return {each: record for ids, record in records for each in ids}


def _in_order(records: Iterable[JobRecord]) -> tuple[str, ...]:
    young = {record.batch_id: record.created_at or 0.0 for record in records if _ID.fullmatch(record.batch_id)}
    return tuple(sorted(young, key=lambda each: (young[each], each)))


def _number(batch_id: str) -> str:
    """Return "17" of "17.host": not of "Moab.17", which is another."""
    first = batch_id.partition(".")[0]
    return first if first.isdecimal() else batch_id


def _foreign(batch_id: str) -> JobUnknown:
    return JobUnknown(f"{batch_id!r} is no job id of Moab's")


def _text(said: Said) -> str:
    words = " ".join((said.stderr.strip() or said.stdout.strip()).split())
    return f"{words[:500] or 'nothing'} (exit code {said.returncode})"
