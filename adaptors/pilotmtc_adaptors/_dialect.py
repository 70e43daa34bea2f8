"""What a dialect is: how one scheduler is spoken to.

A dialect is a module, or any object, with the attributes of `Dialect`. It is pure: its verbs are generators that yield
the calls to make, are sent what was said, and return records. They touch no process, file or clock; the one driver
does, see `_driver.py`.

Three things that a scheduler's answer can mean are never confused:

- it said no: `SubmitRejected`;
- it could not be asked, or gave no answer that can be understood: `StatusUnavailable`, worth trying again. If a
  submission may have been taken all the same, `AnswerLost`, and the driver looks for the job by its name;
- it was asked and does not know the job: `JobUnknown`.
"""

from collections.abc import Generator, Mapping, Sequence
from enum import StrEnum
from typing import Protocol, TypeAlias, TypeVar

from msgspec import Struct

from pilotmtc.errors import AdaptorError

T = TypeVar("T")


class JobState(StrEnum):
    """A job's state, in SAGA's words. `UNKNOWN` is a state that the dialect has never heard of."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUSPENDED = "Suspended"
    DONE = "Done"
    FAILED = "Failed"
    CANCELED = "Canceled"
    UNKNOWN = "Unknown"


FINAL = frozenset({JobState.DONE, JobState.FAILED, JobState.CANCELED})


class JobRequest(Struct, frozen=True, kw_only=True):
    """A job to be submitted. Of a field that is not at its default, a dialect makes what it says or refuses it by name.

    Attributes
    ----------
    executable, arguments
        Run once, on the job's first node, without a shell.
    environment
        Added to what the scheduler gives a job; see `job_script`.
    pre_exec
        Lines of shell to run before, in the same shell; the job fails at the first that does.
    working_directory, input, output, error
        Paths, taken literally. "" is the scheduler's choice; where only one of the outputs is named, both may go there.
    nodes
        How many; the rest is for each of them.
    cores_per_node, gpus_per_node, memory_per_node_bytes
        0 is the scheduler's choice.
    walltime_s
        0 is the scheduler's choice.
    signal_s
        So many seconds before the walltime's end the executable gets SIGTERM; 0 is no warning.
    exclusive
        Whole nodes, with nobody else on them.
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
        Never seen by a shell; the program is looked for on PATH.
    stdin
        What it reads.
    timeout_s
        After this long it is killed, with all that it started.
    environment
        Added to what it sees of the driver's own environment; LC_ALL is C already.
    keep
        Names of the driver's variables that it may see, for a program whose answer they could change, or which hands
        them on to the job; None is all.
    required
        If it is not there or gives no answer in time, the whole conversation fails: `ConfigError` or
        `StatusUnavailable` (`AnswerLost` for a submission). If false, that is said as exit code 127 or 124.
    """

    argv: tuple[str, ...]
    stdin: str = ""
    timeout_s: float = 60.0
    environment: Mapping[str, str] = {}
    keep: frozenset[str] | None = None
    required: bool = True


class Said(Struct, frozen=True):
    """What a call said. Bytes that are not UTF-8 come as surrogates; a negative code is the signal that ended it."""

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
        Of a job that is over; one of them or, where the scheduler does not say, neither.
    nodes
        Names, the first first, once it runs.
    created_at, started_at, ended_at
        Seconds since the epoch, as far as they are known.
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
Talk: TypeAlias = Generator[Call, Said, T]


class Dialect(Protocol):
    """How one scheduler is spoken to.

    Attributes
    ----------
    schemes
        Of the URLs that it serves, such as ``slurm`` for ``slurm://localhost/``.
    maps
        Names of the fields of `JobRequest` that it can make something of. Others are refused by name before `submit` is
        asked, and so are fields that are added to `JobRequest` later. `SCRIPT_FIELDS` are those that `job_script` does.
    """

    @property
    def schemes(self) -> tuple[str, ...]: ...

    @property
    def maps(self) -> frozenset[str]: ...

    def submit(self, request: JobRequest) -> Talk[str]:
        """Return the job's id. Raises `UsageError`, `SubmitRejected`, `AnswerLost` or `StatusUnavailable`."""
        ...

    def status(self, ids: Sequence[str]) -> Talk[dict[str, Status]]:
        """Return a record or an error for each id, with as few calls as the scheduler allows, however many they are.

        `JobUnknown` is for a job that the scheduler was asked for and does not know. `StatusUnavailable`, raised or
        for one id, is for what could not be asked.
        """
        ...

    def cancel(self, ids: Sequence[str]) -> Talk[dict[str, AdaptorError]]:
        """Return the errors by id: what is not in there is canceled, or was over already."""
        ...

    def find(self, name: str) -> Talk[tuple[str, ...]]:
        """Return the ids of this user's jobs of that name that the scheduler still knows, the newest last."""
        ...

    def jobs(self) -> Talk[tuple[str, ...]]:
        """Return the ids of this user's jobs that are not over."""
        ...
