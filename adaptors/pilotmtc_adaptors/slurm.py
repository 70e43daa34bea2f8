"""SLURM."""

import re
from collections.abc import Sequence

from pilotmtc.errors import AdaptorError, AnswerLost, JobUnknown, StatusUnavailable, SubmitRejected
from pilotmtc_adaptors._dialect import Call, JobRecord, JobRequest, JobState, Said, Status, Talk
from pilotmtc_adaptors._script import SCRIPT_FIELDS, job_script, line, word

schemes = ("slurm",)
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

_ID = re.compile(r"[0-9]+", re.ASCII)
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
_UNREACHABLE = re.compile(
    r"unable to contact slurm controller|socket timed out|connection refused|transport endpoint|zero bytes were"
    r"|communication connection failure|can't find an address|slurm backup controller in standby|munge",
    re.IGNORECASE,
)
_CUT_OFF = re.compile(r"socket timed out|zero bytes were|reset by peer", re.IGNORECASE)
_UNKNOWN = re.compile(r"invalid job id", re.IGNORECASE)
_OVER = re.compile(r"already completing or completed", re.IGNORECASE)
_FORMAT = "%i|%T|%j|%r"


def submit(request: JobRequest) -> Talk[str]:
    """Return the job's id."""
    said = yield Call(("sbatch", "--parsable", *_options(request)), stdin=job_script(request))
    batch = said.stdout.strip().splitlines()[-1].partition(";")[0] if said.stdout.strip() else ""
    if said.returncode == 0 and _ID.fullmatch(batch):
        return batch
    text = _text(said)
    if said.returncode == 0 or _CUT_OFF.search(text):
        raise AnswerLost(f"sbatch did not say which job it made: {text}")
    if _UNREACHABLE.search(text):
        raise StatusUnavailable(f"SLURM cannot be reached: {text}")
    raise SubmitRejected(f"SLURM refused the job: {text}")


def status(ids: Sequence[str]) -> Talk[dict[str, Status]]:
    """Return a record or an error for each id, by one call for those that the controller knows."""
    answers: dict[str, Status] = {each: _foreign(each) for each in ids if not _ID.fullmatch(each)}
    asked = [each for each in ids if each not in answers]
    if not asked:
        return answers
    said = yield Call(("squeue", "--noheader", "--states=all", f"--jobs={','.join(asked)}", "-o", _FORMAT))
    if said.returncode and not _UNKNOWN.search(said.stderr):
        raise StatusUnavailable(f"SLURM cannot be asked: {_text(said)}")
    for text in said.stdout.splitlines():
        batch, _, rest = text.partition("|")
        native, _, rest = rest.partition("|")
        name, _, reason = rest.rpartition("|")
        answers[batch] = _record(batch, native, reason, name)
    rest_ids = [each for each in asked if each not in answers]
    if rest_ids:
        answers |= yield from _accounted(rest_ids)
    return answers


def _accounted(ids: Sequence[str]) -> Talk[dict[str, Status]]:
    """Return what the accounting, where there is one, knows of jobs that the controller has forgotten."""
    said = yield Call(
        ("sacct", "-n", "-X", "-P", f"--jobs={','.join(ids)}", "-o", "JobIDRaw,State,ExitCode,JobName"), required=False
    )
    answers: dict[str, Status] = {each: JobUnknown(f"SLURM does not know job {each} (any more)") for each in ids}
    if said.returncode == 0:
        for text in said.stdout.splitlines():
            batch, native, code, name = (*text.split("|", 3), "", "", "")[:4]
            if batch in answers:
                first, _, more = native.partition(" ")
                number, _, signal = code.partition(":")
                answers[batch] = JobRecord(
                    batch, _STATES.get(first, JobState.UNKNOWN), first, more,
                    int(number) if number.isdecimal() else None,
                    int(signal) if signal.isdecimal() and signal != "0" else None, name=name,
                )  # fmt: skip
    return answers


def cancel(ids: Sequence[str]) -> Talk[dict[str, AdaptorError]]:
    """Return the errors by id."""
    errors: dict[str, AdaptorError] = {each: _foreign(each) for each in ids if not _ID.fullmatch(each)}
    for each in ids:
        if each in errors:
            continue
        said = yield Call(("scancel", each))
        if said.returncode == 0 or _OVER.search(said.stderr):
            continue
        if _UNKNOWN.search(said.stderr):
            errors[each] = JobUnknown(f"SLURM does not know job {each} (any more)")
        elif _UNREACHABLE.search(said.stderr):
            raise StatusUnavailable(f"SLURM cannot be reached: {_text(said)}")
        else:
            errors[each] = AdaptorError(f"SLURM did not cancel job {each}: {_text(said)}")
    return errors


def find(name: str) -> Talk[tuple[str, ...]]:
    """Return the ids of this user's jobs of that name, the newest last."""
    found = yield from _list("--states=all", f"--name={word('name', name)}")
    return found


def jobs() -> Talk[tuple[str, ...]]:
    """Return the ids of this user's jobs that are not over."""
    found = yield from _list()
    return found


def _list(*options: str) -> Talk[tuple[str, ...]]:
    said = yield Call(("squeue", "--noheader", "--me", *options, "-o", "%i"))
    if said.returncode:
        raise StatusUnavailable(f"SLURM cannot be asked: {_text(said)}")
    return tuple(sorted((each for each in said.stdout.split() if _ID.fullmatch(each)), key=int))


def _options(request: JobRequest) -> list[str]:
    options = [f"--nodes={request.nodes}", "--ntasks-per-node=1", "--no-requeue"]
    for option, what, value in (
        ("job-name", "name", request.name), ("partition", "queue", request.queue), ("qos", "qos", request.qos),
        ("account", "account", request.account), ("reservation", "reservation", request.reservation),
        ("constraint", "constraint", request.constraint),
    ):  # fmt: skip
        if value:
            options.append(f"--{option}={word(what, value)}")
    # SLURM would take a % in a path for a pattern; its job ids and names are not asked for here.
    options.append(f"--output={_path('output', request.output) or '/dev/null'}")
    if request.error:
        options.append(f"--error={_path('error', request.error)}")
    if request.cores_per_node:
        options.append(f"--cpus-per-task={request.cores_per_node}")
    if request.gpus_per_node:
        options.append(f"--gres=gpu:{request.gpus_per_node}")
    if request.memory_per_node_bytes:
        options.append(f"--mem={-(-request.memory_per_node_bytes >> 20) or 1}M")
    if request.walltime_s:
        minutes, seconds = divmod(request.walltime_s, 60)
        options.append(f"--time={minutes}:{seconds:02}")
    if request.signal_s:
        options.append(f"--signal=B:TERM@{request.signal_s}")
    if request.exclusive:
        options.append("--exclusive")
    if request.candidate_hosts:
        options.append(f"--nodelist={','.join(word('candidate host', each) for each in request.candidate_hosts)}")
    return options


def _path(what: str, path: str) -> str:
    return line(what, path).replace("%", "%%") if path else ""


def _record(batch: str, native: str, reason: str, name: str) -> JobRecord:
    return JobRecord(
        batch, _STATES.get(native, JobState.UNKNOWN), native, "" if reason == "None" else reason, name=name
    )


def _foreign(batch: str) -> JobUnknown:
    return JobUnknown(f"{batch!r} is no job id of SLURM")


def _text(said: Said) -> str:
    return " ".join((said.stderr or said.stdout).split()) or f"exit code {said.returncode}"
