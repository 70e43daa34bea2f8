"""SLURM."""

import re
from collections.abc import Iterable, Sequence

from pilotmtc.errors import AdaptorError, StatusUnavailable, UsageError
from pilotmtc.scheduler_words import line, word
from pilotmtc_adaptors._common import foreign, not_submitted, text_of, unknown
from pilotmtc_adaptors._dialect import FINAL, Call, CallResult, Conversation, JobRecord, JobRequest, Status
from pilotmtc_adaptors._script import QUEUE_FIELDS, job_script
from pilotmtc_adaptors.slurm.records import SACCT_FORMAT, SQUEUE_FORMAT, sacct_records, squeue_records

schemes = ("slurm",)
maps = QUEUE_FIELDS

_ID = re.compile(r"[0-9]{1,18}", re.ASCII)
_ID_IS = "a job id of SLURM"
_UNREACHABLE = re.compile(
    r"unable to contact slurm controller|socket timed out|connection refused|transport endpoint|zero bytes were"
    r"|communication connection failure|can't find an address|slurm backup controller in standby|munge",
    re.IGNORECASE,
)
_CUT_OFF = re.compile(r"socket timed out|zero bytes were|reset by peer", re.IGNORECASE)
_UNKNOWN = re.compile(r"invalid job id", re.IGNORECASE)
_OVER = re.compile(r"already completing or completed", re.IGNORECASE)
_NO_ACCOUNTING = re.compile(r"accounting storage is disabled", re.IGNORECASE)
_NOT_FOUND = 127
# SBATCH_*, SQUEUE_* and the like change what the commands do and print, and SLURM_* may belong to a job around this
# program. sbatch passes its variables on, so the job gets only these, as with most other schedulers.
_KEEP = frozenset(
    {
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "SHELL",
        "LANG",
        "TZ",
        "LD_LIBRARY_PATH",
        "KRB5CCNAME",
        "SLURM_CONF",
        "SLURM_JWT",
    }
)
_TIMES = {"SLURM_TIME_FORMAT": "%s"}
_LOOK_BACK = "now-30days"


def submit(request: JobRequest) -> Conversation[str]:
    """Return the job's id."""
    argv = ("sbatch", "--parsable", *_options(request))
    said = yield Call(argv, stdin=job_script(request), keep=_KEEP)
    batch = said.stdout.strip().splitlines()[-1].partition(";")[0] if said.stdout.strip() else ""
    if said.returncode == 0 and _ID.fullmatch(batch):
        return batch
    raise not_submitted(said, "SLURM", "sbatch", cut_off=_CUT_OFF, unreachable=_UNREACHABLE)


def status(ids: Sequence[str]) -> Conversation[dict[str, Status]]:
    """Return a record or an error for each id, with one call for those that the controller knows."""
    answers: dict[str, Status] = {**foreign(ids, _ID, _ID_IS)}
    asked = [each for each in ids if each not in answers]
    if not asked:
        return answers
    said = yield _squeue("--states=all", f"--jobs={','.join(asked)}")
    if said.returncode and not _UNKNOWN.search(said.stderr):
        raise StatusUnavailable(f"SLURM cannot be asked: {text_of(said)}")
    known = squeue_records(said.stdout)
    answers |= {each: known[each] for each in asked if each in known}
    if rest := [each for each in asked if each not in known]:
        answers |= yield from _accounted(rest)
    return answers


def _accounted(ids: Sequence[str]) -> Conversation[dict[str, Status]]:
    """Return records from the accounting, if the site has one, of jobs that the controller has forgotten."""
    said = yield _sacct(f"--jobs={','.join(ids)}")
    known = sacct_records(said.stdout)
    answers: dict[str, Status] = {}
    for each in ids:
        record = known.get(each)
        if record is None and (said.returncode == 0 or _has_no_accounting(said)):
            answers[each] = unknown("SLURM", each)
        elif record is None:
            answers[each] = StatusUnavailable(f"SLURM's accounting cannot be asked for job {each}: {text_of(said)}")
        elif record.state not in FINAL:
            answers[each] = StatusUnavailable(
                f"SLURM's controller has forgotten job {each}, and the accounting does not have its end yet: "
                f"{record.native_state}"
            )
        else:
            answers[each] = record
    return answers


def cancel(ids: Sequence[str]) -> Conversation[dict[str, AdaptorError]]:
    """Return the errors by id. scancel often says nothing about jobs that it does not know."""
    errors: dict[str, AdaptorError] = {**foreign(ids, _ID, _ID_IS)}
    asked = [each for each in ids if each not in errors]
    if not asked:
        return errors
    said = yield Call(("scancel", *asked), keep=_KEEP)
    if _UNREACHABLE.search(said.stderr):
        raise StatusUnavailable(f"SLURM cannot be reached: {text_of(said)}")
    if said.returncode == 0:
        return errors
    if len(asked) > 1:
        # Which of the jobs an error means depends on the version.
        for each in asked:
            errors |= yield from cancel([each])
    elif _UNKNOWN.search(said.stderr):
        errors[asked[0]] = unknown("SLURM", asked[0])
    elif not _OVER.search(said.stderr):
        errors[asked[0]] = AdaptorError(f"SLURM did not cancel job {asked[0]}: {text_of(said)}")
    return errors


def find(name: str) -> Conversation[tuple[str, ...]]:
    """Return the ids of this user's jobs of that name, the newest last."""
    said = yield _squeue("--me", "--states=all", f"--name={_name(name)}")
    if said.returncode:
        raise StatusUnavailable(f"SLURM cannot be asked: {text_of(said)}")
    records = squeue_records(said.stdout)
    if not records:
        said = yield _sacct(f"--name={_name(name)}", f"--starttime={_LOOK_BACK}")
        if said.returncode and not _has_no_accounting(said):
            raise StatusUnavailable(f"SLURM's accounting cannot be asked for {name}: {text_of(said)}")
        records = sacct_records(said.stdout)
    return _in_order(record for record in records.values() if record.name == name)


def jobs() -> Conversation[tuple[str, ...]]:
    """Return the ids of this user's jobs that have not ended."""
    said = yield _squeue("--me")
    if said.returncode:
        raise StatusUnavailable(f"SLURM cannot be asked: {text_of(said)}")
    return _in_order(record for record in squeue_records(said.stdout).values() if record.state not in FINAL)


def _squeue(*options: str) -> Call:
    return Call(("squeue", "--noheader", *options, "-O", SQUEUE_FORMAT), keep=_KEEP, environment=_TIMES)


def _sacct(*options: str) -> Call:
    argv = ("sacct", "-n", "-X", "-P", *options, "-o", SACCT_FORMAT)
    return Call(argv, keep=_KEEP, environment=_TIMES, required=False)


def _has_no_accounting(said: CallResult) -> bool:
    return said.returncode == _NOT_FOUND or bool(_NO_ACCOUNTING.search(said.stdout + said.stderr))


def _options(request: JobRequest) -> list[str]:
    options = [f"--nodes={request.nodes}", "--ntasks-per-node=1", "--no-requeue"]
    if request.nodes > 1:
        options.append("--no-kill")  # the other nodes go on when one fails
    for option, what, value in (
        ("partition", "queue", request.queue), ("qos", "qos", request.qos), ("account", "account", request.account),
        ("reservation", "reservation", request.reservation), ("constraint", "constraint", request.constraint),
    ):  # fmt: skip
        if value:
            options.append(f"--{option}={word(what, value)}")
    if request.name:
        options.append(f"--job-name={_name(request.name)}")
    if request.working_directory.startswith("/"):
        # The script changes to it, too, and ends if it cannot; without this SLURM takes the directory of sbatch.
        options.append(f"--chdir={line('working_directory', request.working_directory)}")
    options.append(f"--output={_path('output', request.output, request) or '/dev/null'}")
    if request.error:
        options.append(f"--error={_path('error', request.error, request)}")
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
        hosts = request.candidate_hosts
        if len(hosts) != request.nodes:
            raise UsageError(
                f"{len(hosts)} candidate hosts for {request.nodes} nodes: give as many as nodes: SLURM uses all of them"
            )
        options.append(f"--nodelist={','.join(word('candidate host', each) for each in hosts)}")
    return options


def _name(name: str) -> str:
    if "," in name:
        raise UsageError(f"job name {name!r}: for SLURM ',' separates names; choose a name without it")
    return word("job name", name)


def _path(what: str, path: str, request: JobRequest) -> str:
    """Return a path for SLURM: absolute where possible, and never a pattern."""
    if not path:
        return ""
    if "\\" in path:
        raise UsageError(f"{what} {path!r}: '\\' has another meaning for SLURM; choose a path without it")
    if request.working_directory and not path.startswith("/"):
        path = f"{request.working_directory.rstrip('/')}/{path}"
    return line(what, path).replace("%", "%%")


def _in_order(records: Iterable[JobRecord]) -> tuple[str, ...]:
    return tuple(sorted((each.batch_id for each in records if _ID.fullmatch(each.batch_id)), key=int))
