"""Moab, written from its documentation: it has not been tried on a real one.

msub takes the options of Torque. Two calls of ``showq --xml`` list all jobs, those that have ended too as long as Moab
keeps them; the others are asked for one by one.
"""

import re
from collections.abc import Iterable, Sequence

from pilotmtc.errors import AdaptorError, StatusUnavailable
from pilotmtc_adaptors._common import foreign, not_submitted, text_of, unknown, user_name
from pilotmtc_adaptors._dialect import FINAL, Call, Conversation, JobRecord, JobRequest, Status
from pilotmtc_adaptors._qsub import checked_name, extensions, qsub_options, refuse_blanks, torque_resources
from pilotmtc_adaptors._script import QUEUE_FIELDS, job_script
from pilotmtc_adaptors.moab.records import moab_records

schemes = ("moab",)
maps = QUEUE_FIELDS

# "Moab.17", or "17" when a resource manager has the job.
_ID = re.compile(r"(?:[A-Za-z][A-Za-z0-9_-]*\.)?[0-9]+(?:\.[A-Za-z0-9_.-]+)?", re.ASCII)
_ID_IS = "a job id of Moab"
_UNREACHABLE = re.compile(
    r"communication error|cannot connect|connection refused|lost connection|timed out|no route to host|cannot locate",
    re.IGNORECASE,
)
_CUT_OFF = re.compile(r"lost connection|timed out", re.IGNORECASE)
_UNKNOWN = re.compile(r"invalid job specified|cannot locate job|no such job", re.IGNORECASE)
_OVER = re.compile(r"already (?:been )?cancell?ed|job has completed|is not (?:active|running)", re.IGNORECASE)


def submit(request: JobRequest) -> Conversation[str]:
    """Return the job's id."""
    refuse_blanks(request)
    resources = [*torque_resources(request), *extensions(request)]
    options = (*qsub_options(request, checked_name(request.name)), *resources)
    said = yield Call(("msub", *options), stdin=job_script(request, warn=True))
    # An empty line comes before the id.
    found = [each for each in said.stdout.split() if _ID.fullmatch(each)]
    if said.returncode == 0 and found:
        return found[-1]
    raise not_submitted(said, "Moab", "msub", cut_off=_CUT_OFF, unreachable=_UNREACHABLE)


def status(ids: Sequence[str]) -> Conversation[dict[str, Status]]:
    """Return a record or an error for each id."""
    answers: dict[str, Status] = {**foreign(ids, _ID, _ID_IS)}
    asked = [each for each in ids if each not in answers]
    if not asked:
        return answers
    known = yield from _all_jobs()
    for each in asked:
        record = known.get(each) or known.get(_number(each))
        answers[each] = record if record is not None else (yield from _one(each))
    return answers


def _one(batch_id: str) -> Conversation[Status]:
    said = yield Call(("checkjob", "--xml", batch_id))
    if _UNKNOWN.search(said.stderr + said.stdout):
        return unknown("Moab", batch_id)
    if said.returncode:
        return StatusUnavailable(f"Moab cannot be asked for job {batch_id}: {text_of(said)}")
    found = _by_id(moab_records(said.stdout))
    record = found.get(batch_id) or found.get(_number(batch_id))
    return record or StatusUnavailable(f"Moab said nothing of job {batch_id}: {text_of(said)}")


def cancel(ids: Sequence[str]) -> Conversation[dict[str, AdaptorError]]:
    """Return the errors by id."""
    errors: dict[str, AdaptorError] = {**foreign(ids, _ID, _ID_IS)}
    for each in ids:
        if each in errors:
            continue
        said = yield Call(("canceljob", each))
        text = said.stderr + said.stdout
        if said.returncode == 0 and "ERROR" not in text:
            continue
        if _UNKNOWN.search(text):
            errors[each] = unknown("Moab", each)
        elif _UNREACHABLE.search(text):
            raise StatusUnavailable(f"Moab cannot be reached: {text_of(said)}")
        elif not _OVER.search(text):
            errors[each] = AdaptorError(f"Moab did not cancel job {each}: {text_of(said)}")
    return errors


def find(name: str) -> Conversation[tuple[str, ...]]:
    """Return the ids of this user's jobs of that name, the newest last."""
    known = yield from _all_jobs()
    return _in_order(record for record in known.values() if record.name == name)


def jobs() -> Conversation[tuple[str, ...]]:
    """Return the ids of this user's jobs that have not ended."""
    user = yield from user_name()
    known = yield from _showq(user)
    return _in_order(record for record in known.values() if record.state not in FINAL)


def _all_jobs() -> Conversation[dict[str, JobRecord]]:
    """Return this user's jobs, those that have ended too, by each of their ids."""
    user = yield from user_name()
    there = yield from _showq(user)
    over = yield from _showq(user, "-c")  # second, so that a job that ends meanwhile is in one of them
    return there | over


def _showq(user: str, *options: str) -> Conversation[dict[str, JobRecord]]:
    said = yield Call(("showq", *options, "--xml", "-w", f"user={user}"))
    if said.returncode:
        raise StatusUnavailable(f"Moab cannot be asked: {text_of(said)}")
    return _by_id(moab_records(said.stdout))


def _by_id(records: Iterable[tuple[set[str], JobRecord]]) -> dict[str, JobRecord]:
    return {each: record for ids, record in records for each in ids}


def _in_order(records: Iterable[JobRecord]) -> tuple[str, ...]:
    young = {record.batch_id: record.created_at or 0.0 for record in records if _ID.fullmatch(record.batch_id)}
    return tuple(sorted(young, key=lambda each: (young[each], each)))


def _number(batch_id: str) -> str:
    """Return "17" of "17.host", but not of "Moab.17", which is another job."""
    first = batch_id.partition(".")[0]
    return first if first.isdecimal() else batch_id
