"""Interface of a dialect: how to speak to one scheduler.

A dialect is a module, or any object, with the attributes of `Dialect`. It is pure: its verbs are generators that yield
commands to run, receive their results, and return records. They start no process and touch no file or clock; the one
driver does, see `_driver.py`.

A scheduler's answer can mean three things, which are never confused:

- it refused: `SubmitRejected`;
- it could not be asked, or its answer cannot be understood: `StatusUnavailable`, and another attempt may help. If it
  may have taken a job all the same: `AnswerLost`, and the driver looks for the job by its name;
- it does not know the job: `JobUnknown`.
"""

from collections.abc import Generator, Mapping, Sequence
from enum import StrEnum
from typing import Protocol, TypeAlias, TypeVar

from msgspec import Struct

from pilotmtc.errors import AdaptorError

T = TypeVar("T")


class JobState(StrEnum):
    """A job's state, in SAGA's words. `UNKNOWN` is a state that the dialect does not know."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUSPENDED = "Suspended"
    DONE = "Done"
    FAILED = "Failed"
    CANCELED = "Canceled"
    UNKNOWN = "Unknown"


FINAL = frozenset({JobState.DONE, JobState.FAILED, JobState.CANCELED})


class JobRequest(Struct, frozen=True, kw_only=True):
    """A job to be submitted. A dialect does what each field that is set asks for, or refuses it by name.

    Attributes
    ----------
    executable, arguments
        Run once, on the job's first node, without a shell.
    environment
        Added to what the scheduler gives a job; see `job_script`.
    pre_exec
        Lines of shell to run first, in the same shell; when one fails, the job fails.
    working_directory, input, output, error
        Paths, taken literally. "" is the scheduler's choice; if only one of the outputs is named, both may go there.
    nodes
        How many; what follows is for each of them.
    cores_per_node, gpus_per_node, memory_per_node_bytes
        0 is the scheduler's choice.
    walltime_s
        0 is the scheduler's choice.
    signal_s
        How many seconds before the end of the walltime the executable gets SIGTERM; 0 is no warning.
    exclusive
        Whole nodes, which no other job shares.
    candidate_hosts
        Names of the nodes to choose from.
    file_transfer
        SAGA's ``"here > there"`` and ``"here < there"``.
    """

    executable: str
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = {}
    pre_exec: tuple[str, ...] = ()
    name: str = ""
    working_directory: str = ""
    input: str = ""
    output: str = ""
    error: str = ""
    nodes: int = 1
    cores_per_node: int = 0
    gpus_per_node: int = 0
    memory_per_node_bytes: int = 0
    walltime_s: int = 0
    signal_s: int = 0
    queue: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    reservation: str = ""
    exclusive: bool = False
    candidate_hosts: tuple[str, ...] = ()
    file_transfer: tuple[str, ...] = ()


class Call(Struct, frozen=True):
    """A command to run.

    Attributes
    ----------
    argv
        Run without a shell; the program is looked for on PATH.
    stdin
        What it reads.
    timeout_s
        It is killed after this long, with all that it started.
    environment
        Added to what it gets of the driver's own environment; LC_ALL is C already.
    keep
        Names of the driver's variables that it gets, for a program whose answer others could change, or that passes
        them on to the job; None is all.
    required
        If it is not installed or does not answer in time, the whole conversation fails: `ConfigError` or
        `StatusUnavailable` (`AnswerLost` for a submission). If false, its result has exit code 127 or 124.
    """

    argv: tuple[str, ...]
    stdin: str = ""
    timeout_s: float = 60.0
    environment: Mapping[str, str] = {}
    keep: frozenset[str] | None = None
    required: bool = True


class CallResult(Struct, frozen=True):
    """How a command ended. Bytes that are not UTF-8 become surrogates; a negative code is the signal that ended it."""

    returncode: int
    stdout: str = ""
    stderr: str = ""


class JobRecord(Struct, frozen=True):
    """What a scheduler knows of a job.

    Attributes
    ----------
    native_state, reason
        The scheduler's own words.
    exit_code, signal
        Of a job that has ended: one of them, or neither if the scheduler does not say.
    nodes
        Names of its nodes in order, once it runs.
    created_at, started_at, ended_at
        Seconds since the epoch, where they are known.
    """

    batch_id: str
    state: JobState
    native_state: str = ""
    reason: str = ""
    exit_code: int | None = None
    signal: int | None = None
    nodes: tuple[str, ...] = ()
    created_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    name: str = ""


Status: TypeAlias = JobRecord | AdaptorError
Conversation: TypeAlias = Generator[Call, CallResult, T]


class Dialect(Protocol):
    """How to speak to one scheduler.

    Attributes
    ----------
    schemes
        Of the URLs that it serves, such as ``slurm`` for ``slurm://localhost/``.
    maps
        Names of the fields of `JobRequest` that it can act on. Others are refused by name before `submit` is called,
        also those that are added to `JobRequest` later. `SCRIPT_FIELDS` are those that `job_script` acts on.
    """

    @property
    def schemes(self) -> tuple[str, ...]: ...

    @property
    def maps(self) -> frozenset[str]: ...

    def submit(self, request: JobRequest) -> Conversation[str]:
        """Return the job's id. Raises `UsageError`, `SubmitRejected`, `AnswerLost` or `StatusUnavailable`."""
        ...

    def status(self, ids: Sequence[str]) -> Conversation[dict[str, Status]]:
        """Return a record or an error for each id, with as few calls as the scheduler allows.

        `JobUnknown` means that the scheduler does not know the job. `StatusUnavailable`, raised or for one id, means
        that the scheduler could not be asked.
        """
        ...

    def cancel(self, ids: Sequence[str]) -> Conversation[dict[str, AdaptorError]]:
        """Return the errors by id. Jobs without one are canceled, or had ended before."""
        ...

    def find(self, name: str) -> Conversation[tuple[str, ...]]:
        """Return the ids of this user's jobs of that name that the scheduler still knows, the newest last."""
        ...

    def jobs(self) -> Conversation[tuple[str, ...]]:
        """Return the ids of this user's jobs that have not ended."""
        ...
