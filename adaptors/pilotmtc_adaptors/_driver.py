"""The driver of all dialects: it runs their commands with time limits, and repeats them where that is safe."""

import contextlib
import os
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from pilotmtc.errors import AdaptorError, AnswerLost, ConfigError, StatusUnavailable
from pilotmtc_adaptors._dialect import Call, CallResult, Conversation, Dialect, JobRecord, JobRequest, Status
from pilotmtc_adaptors._script import refuse_nonsense, refuse_unmapped

T = TypeVar("T")

_PAUSES_S = (0.5, 2.0)  # between attempts
_FIND_PAUSES_S = (0.5, 2.0, 5.0)  # a scheduler may take a while to show a job that it has accepted
_CLOCKS_S = 120.0  # how far the scheduler's clock may be from this host's
_OUTPUT_BYTES = 64 << 20
_LOOK_S = 0.02
_TIMED_OUT = 124  # the exit code of timeout(1)
_PLACES = ("/opt/pbs/bin", "/opt/slurm/bin", "/opt/torque/bin", "/usr/local/bin")
_NOT_FOUND = 127  # the exit code of shells


def submit(dialect: Dialect, request: JobRequest) -> str:
    """Submit a job and return its id; never submits it twice.

    Raises
    ------
    UsageError
        If the request makes no sense, or asks for what the dialect cannot do; the text names it.
    SubmitRejected
        If the scheduler refused the job.
    StatusUnavailable
        If the scheduler could not be asked, and does not have the job.
    AnswerLost
        If the scheduler may have the job but does not show it: look for it by its name before submitting again.
    ConfigError
        If its commands are not installed.
    """
    refuse_nonsense(request)
    refuse_unmapped(request, dialect.maps, dialect.schemes[0])
    asked_at = time.time()
    try:
        return _again(lambda: _converse(dialect.submit(request), AnswerLost), AnswerLost)
    except AnswerLost as lost:
        found = _find_lost(dialect, request.name, asked_at) if request.name else None
        if found is None:
            raise
        if isinstance(found, str):
            return found
        raise AnswerLost(f"{lost}; and several jobs have its name: {' '.join(found)}") from lost


def preview(dialect: Dialect, request: JobRequest) -> tuple[tuple[str, ...], str]:
    """Return the command that `submit` would run, and what that would read; it is not run.

    Dialects may ask for the scheduler's version before it. Where that is not installed, the command is empty.

    Raises
    ------
    UsageError
        If the request makes no sense, or asks for what the dialect cannot do; the text names it.
    """
    refuse_nonsense(request)
    refuse_unmapped(request, dialect.maps, dialect.schemes[0])
    with contextlib.closing(dialect.submit(request)) as talk:
        call = next(talk)
        try:
            while not call.stdin:
                call = talk.send(run(call))
        except (ConfigError, StatusUnavailable):
            return (), ""
        return call.argv, call.stdin


def status(dialect: Dialect, ids: Sequence[str]) -> dict[str, Status]:
    """Return a record or an error for each id. Raises `StatusUnavailable` if the scheduler could not be asked."""
    if not ids:
        return {}
    return _again(lambda: _converse(dialect.status(ids)))


def cancel(dialect: Dialect, ids: Sequence[str]) -> dict[str, AdaptorError]:
    """Cancel jobs; return errors by id. Raises `StatusUnavailable` if the scheduler could not be asked."""
    if not ids:
        return {}
    return _again(lambda: _converse(dialect.cancel(ids)))


def find(dialect: Dialect, name: str) -> tuple[str, ...]:
    """Return the ids of this user's jobs of that name. Raises `StatusUnavailable` likewise."""
    return _again(lambda: _converse(dialect.find(name)))


def jobs(dialect: Dialect) -> tuple[str, ...]:
    """Return the ids of this user's jobs that have not ended. Raises `StatusUnavailable` likewise."""
    return _again(lambda: _converse(dialect.jobs()))


def run(call: Call) -> CallResult:
    """Run one command and return its result.

    Raises
    ------
    ConfigError
        If the program is not installed.
    StatusUnavailable
        If it did not end in time, or wrote too much.
    """
    environment = _environment(call)
    with tempfile.TemporaryFile() as stdin:
        stdin.write(call.stdin.encode("utf-8", "surrogateescape"))
        stdin.seek(0)
        try:
            process = subprocess.Popen(
                [os.fsencode(each) for each in call.argv],
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            if not call.required:
                return CallResult(_NOT_FOUND, stderr=str(error))
            text = f"cannot run {call.argv[0]}: {error.strerror}; is the scheduler's client installed here and on PATH?"
            raise ConfigError(text) from error
    with process:
        try:
            outputs = _read(process, call)
        finally:
            _end(process)
    if outputs is None:
        if call.required:
            raise StatusUnavailable(f"{call.argv[0]} gave no answer within {call.timeout_s:g} s")
        return CallResult(_TIMED_OUT, stderr=f"no answer within {call.timeout_s:g} s")
    stdout, stderr = (each.decode("utf-8", "surrogateescape") for each in outputs)
    return CallResult(process.returncode, stdout, stderr)


def _again(ask: Callable[[], T], not_after: type[StatusUnavailable] | None = None) -> T:
    """Return what `ask` returns, in up to three attempts."""
    for pause in _PAUSES_S:
        try:
            return ask()
        except StatusUnavailable as error:
            if not_after is not None and isinstance(error, not_after):
                raise
        time.sleep(pause)
    return ask()


def _converse(talk: Conversation[T], unanswered: type[StatusUnavailable] = StatusUnavailable) -> T:
    """Run a verb of a dialect to its end; raise `unanswered` for a command that does not answer in time."""
    with contextlib.closing(talk):
        try:
            call = next(talk)
            while True:
                try:
                    said = run(call)
                except StatusUnavailable as error:
                    raise unanswered(str(error)) from error
                call = talk.send(said)
        except StopIteration as end:
            result: T = end.value
            return result


def _find_lost(dialect: Dialect, name: str, asked_at: float) -> str | tuple[str, ...] | None:
    """Return the id of the job of that name submitted since `asked_at`; all ids if there are several; else None."""
    for pause in _FIND_PAUSES_S:
        time.sleep(pause)
        found = find(dialect, name)
        if found:
            records = status(dialect, found)
            young = tuple(each for each in found if _is_young(records.get(each), asked_at))
            if young:
                return young[0] if len(young) == 1 else young
    return None


def _is_young(record: Status | None, asked_at: float) -> bool:
    if not isinstance(record, JobRecord) or record.created_at is None:
        return True
    return record.created_at >= asked_at - _CLOCKS_S


def _environment(call: Call) -> Mapping[str, str]:
    own = {name: value for name, value in os.environ.items() if call.keep is None or name in call.keep}
    return {**own, "PATH": _search_path(), "LC_ALL": "C", **call.environment}


def _search_path() -> str:
    """Return PATH with the usual directories of schedulers, which only the profile of a login shell may add."""
    try:
        with open(os.environ.get("PBS_CONF_FILE") or "/etc/pbs.conf", encoding="utf-8", errors="replace") as file:
            places = [f"{line.strip()[9:]}/bin" for line in file if line.startswith("PBS_EXEC=/")]
    except OSError:  # this host has no PBS
        places = []
    paths = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join(dict.fromkeys([*paths, *places, *_PLACES]))


def _read(process: "subprocess.Popen[bytes]", call: Call) -> tuple[bytes, bytes] | None:
    """Return both outputs when the process has ended, or None if that takes too long."""
    assert process.stdout is not None
    assert process.stderr is not None
    outputs = {process.stdout.fileno(): bytearray(), process.stderr.fileno(): bytearray()}
    until = time.monotonic() + call.timeout_s
    with selectors.DefaultSelector() as selector:
        for descriptor in outputs:
            selector.register(descriptor, selectors.EVENT_READ)
        over = False
        while True:
            # Wait for the process, not for its pipes: a child that it left may hold them open.
            ready = selector.select(0 if over else _LOOK_S) if selector.get_map() else []
            for key, _ in ready:
                data = os.read(key.fd, 1 << 16)
                outputs[key.fd] += data
                if not data:
                    selector.unregister(key.fd)
                if len(outputs[key.fd]) > _OUTPUT_BYTES:
                    raise StatusUnavailable(f"{call.argv[0]} wrote more than {_OUTPUT_BYTES >> 20} MiB")
            if over and not ready:
                stdout, stderr = outputs.values()
                return bytes(stdout), bytes(stderr)
            if not over:
                over = _is_over(process)
                if not over and not selector.get_map():
                    time.sleep(_LOOK_S)
            if time.monotonic() >= until and not over:
                return None


def _is_over(process: "subprocess.Popen[bytes]") -> bool:
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Kill all processes of the call. The first one is not reaped yet, so the group's number cannot be another's."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
