"""PBS: OpenPBS and PBS Pro, and Torque. ``qsub --version`` says which of them it is; nothing is guessed from answers.

The two families share commands and little else: OpenPBS takes resources as ``select`` and Torque as ``nodes``;
``qstat -x`` is history for OpenPBS and XML for Torque. Recorded answers of real servers count more than the manuals.
"""

import hashlib
import re
from collections.abc import Callable, Sequence

from pilotmtc.errors import (
    AdaptorError,
    StatusUnavailable,
    UsageError,
)
from pilotmtc.scheduler_words import word
from pilotmtc_adaptors._common import foreign, not_submitted, text_of, unknown, user_name
from pilotmtc_adaptors._dialect import Call, CallResult, Conversation, JobRecord, JobRequest, Status
from pilotmtc_adaptors._qsub import (
    checked_name,
    extensions,
    hosts_of,
    kib,
    qsub_options,
    refuse_blanks,
    torque_resources,
    walltime,
)
from pilotmtc_adaptors._script import QUEUE_FIELDS, job_script
from pilotmtc_adaptors.pbs.records import pro_records, pro_records_of_lines, torque_records

schemes = ("pbs", "pbspro", "torque")
maps = QUEUE_FIELDS

_ID = re.compile(r"[0-9]+(\[[0-9]*\])?(\.[A-Za-z0-9_.-]+)?", re.ASCII)
_ID_IS = "a job id of PBS"
_NOT_FOUND = 127
_SHORT_NAME = 15  # what old servers allow
# Such as "host=n1:mem=2gb"; a '+' would begin another chunk.
_CONSTRAINT = re.compile(r"[A-Za-z0-9_]+=[A-Za-z0-9_.,/-]+(:[A-Za-z0-9_]+=[A-Za-z0-9_.,/-]+)*", re.ASCII)
_UNREACHABLE = re.compile(
    r"cannot connect to|couldn't connect|connection refused|unable to communicate|unknown host|no route to host"
    r"|timed out|server shutting down|cannot resolve|communication failure",
    re.IGNORECASE,
)
# The server may have taken the job all the same.
_CUT_OFF = re.compile(r"end of file|premature end|reset by peer|broken pipe|protocol error", re.IGNORECASE)
_NO_HISTORY = re.compile(r"not configured to maintain job history|job_history_enable", re.IGNORECASE)
_UNKNOWN = re.compile(r"unknown job ?id[a-z ]*|nonexistent job id:? ?", re.IGNORECASE)
# The job has ended, or is about to: its processes have, and there is nothing left to delete.
_FINISHED = re.compile(r"has finished|invalid for state of job|invalid state for job", re.IGNORECASE)
# Torque hides jobs that have ended from those who have this variable.
_TORQUE_QSTAT = ("env", "-u", "PBS_QSTAT_NO_COMPLETE", "qstat", "-x")


def submit(request: JobRequest) -> Conversation[str]:
    """Return the job's id."""
    torque = yield from _is_torque()
    resources = (yield from _torque_resources(request)) if torque else _pro_resources(request)
    script = job_script(request, warn=True)
    name = checked_name(request.name)
    said = yield _qsub(request, name, resources, script)
    if said.returncode and len(name) > _SHORT_NAME and re.search(r"illegal -N|job name", said.stderr, re.IGNORECASE):
        said = yield _qsub(request, _short(name), resources, script)
    found = [each for each in said.stdout.split() if _ID.fullmatch(each)]
    if said.returncode == 0 and found:
        return found[-1]
    raise not_submitted(said, "PBS", "qsub", cut_off=_CUT_OFF, unreachable=_UNREACHABLE)


def status(ids: Sequence[str]) -> Conversation[dict[str, Status]]:
    """Return a record or an error for each id, with one call."""
    answers: dict[str, Status] = {**foreign(ids, _ID, _ID_IS)}
    asked = [each for each in ids if each not in answers]
    if not asked:
        return answers
    torque = yield from _is_torque()
    if torque:
        said = yield Call((*_TORQUE_QSTAT, *asked))
        answers |= _answers(asked, said, torque_records)
        return answers
    qstat: tuple[str, ...] = ("qstat", "-x", "-f", "-F")
    said = yield Call((*qstat, "json", *asked))
    if _NO_HISTORY.search(said.stderr):
        qstat = ("qstat", "-f", "-F")
        said = yield Call((*qstat, "json", *asked))
    answers |= _answers(asked, said, pro_records)
    rest = [each for each in asked if isinstance(answers[each], StatusUnavailable)]
    if rest and len(rest) < len(asked):
        # OpenPBS 23 writes only the first of several jobs as JSON, and all of them as lines.
        said = yield Call((*qstat, "dsv", *rest))
        answers |= _answers(rest, said, pro_records_of_lines)
    return answers


def cancel(ids: Sequence[str]) -> Conversation[dict[str, AdaptorError]]:
    """Return the errors by id, with a call for each: OpenPBS 23.06 dies of a known and an unknown id in one call."""
    errors: dict[str, AdaptorError] = {**foreign(ids, _ID, _ID_IS)}
    for each in ids:
        if each in errors:
            continue
        said = yield Call(("qdel", each))
        _raise_if_unreachable(said)
        if said.returncode == 0 or _FINISHED.search(said.stderr):
            continue
        if _UNKNOWN.search(said.stderr):
            errors[each] = unknown("PBS", each)
        else:
            errors[each] = AdaptorError(f"PBS did not delete job {each}: {text_of(said)}")
    return errors


def find(name: str) -> Conversation[tuple[str, ...]]:
    """Return the ids of this user's jobs of that name, the newest last."""
    torque = yield from _is_torque()
    user = yield from user_name()
    found: set[str] = set()
    for each in dict.fromkeys((name, _short(name))):
        found |= yield from _select("-u", user, "-N", each, history=not torque)
    return _in_order(found)


def jobs() -> Conversation[tuple[str, ...]]:
    """Return the ids of this user's jobs that have not ended."""
    torque = yield from _is_torque()
    user = yield from user_name()
    states = ("-s", "EHQRTW") if torque else ()
    found = yield from _select("-u", user, *states)
    return _in_order(found)


def _answers(ids: Sequence[str], said: CallResult, parse: Callable[[str], dict[str, JobRecord]]) -> dict[str, Status]:
    """Return what an answer of qstat says about each id."""
    _raise_if_unreachable(said)
    records = parse(said.stdout)
    by_number = {_number(batch_id): record for batch_id, record in records.items()}
    missing = _missing(said.stderr)
    answers: dict[str, Status] = {}
    for each in ids:
        record = records.get(each) or by_number.get(_number(each))
        if record is not None:
            answers[each] = record
        elif _number(each) in missing:
            answers[each] = unknown("PBS", each)
        else:
            answers[each] = StatusUnavailable(f"PBS said nothing of job {each}: {text_of(said)}")
    return answers


def _is_torque() -> Conversation[bool]:
    said = yield Call(("qsub", "--version"), timeout_s=20)
    text = said.stdout + said.stderr
    if re.search(r"pbs_version|openpbs|pbspro", text, re.IGNORECASE):
        return False
    if re.search(r"^version:|torque", text, re.IGNORECASE | re.MULTILINE):
        return True
    raise StatusUnavailable(f"qsub --version is neither OpenPBS's, PBS Pro's nor Torque's: {text_of(said)}")


def _select(*arguments: str, history: bool = False) -> Conversation[set[str]]:
    said = yield Call(("qselect", *(("-x",) if history else ()), *arguments))
    if history and _NO_HISTORY.search(said.stderr):
        said = yield Call(("qselect", *arguments))
    _raise_if_unreachable(said)
    found = set(said.stdout.split())
    if said.returncode or not all(_ID.fullmatch(each) for each in found):
        raise StatusUnavailable(f"qselect's answer cannot be understood: {text_of(said)}")
    return found


def _qsub(request: JobRequest, name: str, resources: Sequence[str], script: str) -> Call:
    return Call(("qsub", *qsub_options(request, name), *resources), stdin=script)


def _torque_resources(request: JobRequest) -> Conversation[list[str]]:
    """Return the options for Torque, whose own scheduler knows neither QOS nor reservations."""
    refuse_blanks(request)
    found = [*torque_resources(request), *extensions(request)]
    if request.exclusive:
        found.append("-n")
    for what, value in (("qos", request.qos), ("reservation", request.reservation)):
        said = (yield Call(("showq", "--version"), timeout_s=20, required=False)) if value else None
        if said is not None and said.returncode == _NOT_FOUND:
            raise UsageError(f"{what} {value!r}: Torque needs Maui or Moab for that, and there is no showq here")
    return found


def _pro_resources(request: JobRequest) -> list[str]:
    if request.qos:
        raise UsageError(f"qos {request.qos!r}: PBS Pro has none; choose a queue, or leave it out")
    chunk = f":ncpus={request.cores_per_node}" if request.cores_per_node else ""
    chunk += f":ngpus={request.gpus_per_node}" if request.gpus_per_node else ""
    chunk += f":mem={kib(request.memory_per_node_bytes)}kb" if request.memory_per_node_bytes else ""
    if request.constraint:
        if not _CONSTRAINT.fullmatch(request.constraint):
            raise UsageError(
                f"constraint {request.constraint!r}: PBS Pro takes name=value, joined by ':', as in "
                f"cpu_type=rome:switch=r1"
            )
        chunk += f":{request.constraint}"
    hosts = hosts_of(request)
    select = "+".join(f"1{chunk}:host={host}" for host in hosts) if hosts else f"{request.nodes}{chunk}"
    found = ["-l", f"select={select}"]
    if request.exclusive:
        found += ["-l", "place=scatter:exclhost"]
    elif request.nodes > 1:
        found += ["-l", "place=scatter"]
    if request.reservation:
        # A reservation is a queue of that name.
        if request.queue:
            raise UsageError(
                f"queue {request.queue!r} and reservation {request.reservation!r}: PBS Pro takes one of them, "
                f"because a reservation is a queue"
            )
        found += ["-q", word("reservation", request.reservation.partition(".")[0])]
    return found + walltime(request)


def _short(name: str) -> str:
    """Return the name, or a short form of it where servers take at most 15 characters."""
    if len(name) <= _SHORT_NAME:
        return name
    return f"{name[:4]}-{hashlib.sha256(name.encode()).hexdigest()[:10]}"


def _missing(stderr: str) -> set[str]:
    """Return the numbers of the jobs that the server does not know."""
    found = set()
    for each in stderr.splitlines():
        match = _UNKNOWN.search(each)
        if match:
            found.add(_number(each[match.end() :].strip()))
    return found


def _number(batch_id: str) -> str:
    return batch_id.partition(".")[0]


def _in_order(ids: set[str]) -> tuple[str, ...]:
    return tuple(sorted(ids, key=lambda each: (int(_number(each).partition("[")[0]), each)))


def _raise_if_unreachable(said: CallResult) -> None:
    if said.returncode and _UNREACHABLE.search(said.stderr):
        raise StatusUnavailable(f"PBS cannot be reached: {text_of(said)}")
