"""What users say of calls and of a pool's pilots, in the words of `TaskOptions` and `PilotOptions`."""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, cast

from msgspec import Struct, structs

from pilotmtc.campaign.submit import Packer, TaskSpec
from pilotmtc.errors import UsageError
from pilotmtc.model import MAX_OUTPUT_BYTES, After, Function, PilotDescription, Resources, TaskId, Template
from pilotmtc.resources.retry import check_growth
from pilotmtc.session import arguments
from pilotmtc.session.submit.pilot import PilotOptions, describe
from pilotmtc.session.submit.tasks import TaskOptions, Word, make_resources, read_options, retry_fields
from pilotmtc.system.locale import current_directory
from pilotmtc.template import literal, make_template
from pilotmtc.units import parse_memory

FIELD = "args"  # of a call's template: its arguments as people see them


class CallOptions(TypedDict, total=False):
    """Options of calls. None is as if it were not given.

    Attributes
    ----------
    cores, gpus, memory, resources
        What one call needs: whole cores; whole GPUs or a share of one; ``"2G"`` or bytes, also a limit; amounts of the
        pilot's named resources.
    ranks, ranks_per_node
        Number of MPI ranks, each of which needs that and calls the function, and how many of them share a node.
    gather
        With ranks, the result is the list of all ranks' results, not that of rank 0.
    time_limit, expected
        Seconds or ``"5m"``: a call is ended after the first, and is not begun when its pilot has less than the second
        left.
    grace, signal_first
        Time that its processes have to end when they are asked to, and the signal that asks them.
    priority
        Higher goes first.
    retries, backoff
        How many failures are followed by another attempt, and the pause before the first.
    max_output
        ``"2G"`` or bytes: the largest stdout, and stderr, that is kept in the store.
    env, cwd
        Variables and directory of the workers (default: the current directory if the store is on this machine).
    task_name, tags
        To choose tasks by.
    after, after_any
        Ids of tasks to wait for: until they are DONE, or only until they have finished.
    watch
        Program files, looked for on the store's host: calls that were made with another content of them are not the
        same (see ``memo``), and ``rerun(changed=True)`` makes them again.
    """

    cores: int | None
    gpus: float | None
    memory: str | int | None
    resources: Mapping[str, float] | None
    ranks: int | None
    ranks_per_node: int | None
    gather: bool | None
    time_limit: str | float | None
    expected: str | float | None
    grace: str | float | None
    signal_first: str | None
    priority: int | None
    retries: int | None
    backoff: str | float | None
    retry_on: str | Sequence[str] | None
    no_retry_on: str | Sequence[str] | None
    retry_memory: str | float | None
    max_memory: str | int | None
    retry_time: str | float | None
    max_output: str | int | None
    env: Mapping[str, Word] | None
    cwd: str | os.PathLike[str] | None
    task_name: str | None
    tags: Sequence[str] | None
    after: Sequence[int] | None
    after_any: Sequence[int] | None
    watch: Sequence[str] | None


class PoolOptions(CallOptions, total=False):
    """Options of a pool: those of its calls, and of its own pilots. None is as if it were not given.

    Attributes
    ----------
    scheduler, nodes, walltime, idle, queue, account, qos, constraint, reservation, exclusive, signal, login, setup, pin
        As in `PilotOptions`.
    pilot_cores, pilot_gpus, pilot_memory, pilot_resources
        What each node of a pilot has for calls; 0 cores and 0 memory are all of it.
    """

    scheduler: str | None
    nodes: int | None
    walltime: str | float | None
    idle: str | float | None
    queue: str | None
    account: str | None
    qos: str | None
    constraint: str | None
    reservation: str | None
    exclusive: bool | None
    signal: str | float | None
    login: str | None
    setup: Sequence[str] | None
    pin: bool | None
    pilot_cores: int | None
    pilot_gpus: int | None
    pilot_memory: str | int | None
    pilot_resources: Mapping[str, float] | None


_CALLS = frozenset(CallOptions.__annotations__)
_PILOTS = frozenset(PoolOptions.__annotations__) - _CALLS


class CallSetup(Struct, frozen=True):
    """What calls have in common besides their function."""

    resources: Resources
    template: Template
    priority: int = 0
    name: str | None = None
    tags: tuple[str, ...] = ()
    after: tuple[After, ...] = ()
    gather: bool = False

    def template_of(self, function: Function) -> Template:
        """Return the template of a function's calls."""
        command = (f"{literal(function.name, (FIELD,))}({{{FIELD}}})",)
        return structs.replace(self.template, command=command, function=structs.replace(function, gather=self.gather))


def split_options(options: PoolOptions, *own: str) -> tuple[CallOptions, PilotOptions]:
    """Return the options of calls and those of pilots.

    Parameters
    ----------
    own
        What else the caller takes by keyword, for the hint at what may be meant.

    Raises
    ------
    TypeError
        If there is no such option.
    """
    arguments.check_names(options, (*PoolOptions.__annotations__, *own))
    given = {name: value for name, value in options.items() if value is not None}
    calls = {name: value for name, value in given.items() if name in _CALLS}
    pilots = {name.removeprefix("pilot_"): value for name, value in given.items() if name in _PILOTS}
    return cast("CallOptions", calls), cast("PilotOptions", pilots)


def read_call(options: CallOptions, *, here: bool) -> CallSetup:
    """Return what `options` say.

    Parameters
    ----------
    here
        Whether the workers see the directories of this host.

    Raises
    ------
    TypeError
        If there is no such option.
    UsageError
        If a value cannot be.
    """
    arguments.check_names(options, CallOptions.__annotations__)
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    gather = arguments.flag("gather", given.pop("gather", False))
    read = read_options(cast("TaskOptions", given))
    if gather and read.get("ranks", 1) < 2:
        raise UsageError("gather=True is for calls with several ranks: give ranks=2 or more, or leave it out")
    fields = (FIELD,)
    cwd = read.get("cwd")
    if here:
        start = literal(current_directory(), fields)
        cwd = os.path.join(start, os.path.expanduser(cwd or "")).rstrip("/") or "/"
    template = make_template(
        (f"call({{{FIELD}}})",),
        fields,
        env=cast("dict[str, str] | None", read.get("env")),
        cwd=None if cwd is None else os.fspath(cwd),
        **retry_fields(read),
        max_output_bytes=parse_memory(read.get("max_output", MAX_OUTPUT_BYTES)),
        watch=read.get("watch", ()),
    )
    setup = CallSetup(
        make_resources(read),
        template,
        read.get("priority", 0),
        read.get("task_name"),
        tuple(read.get("tags", ())),
        (
            *(After(TaskId(task)) for task in read.get("after", ())),
            *(After(TaskId(task), False) for task in read.get("after_any", ())),
        ),
        gather,
    )
    check_growth(template, setup.resources)
    # Which looks at it.
    Packer(key="").add(TaskSpec(template, setup.resources, ("",), setup.priority, setup.name, setup.tags))
    return setup


def read_pilot(
    options: PilotOptions, max_workers: int | None, call: Resources, *, site: str, remote: bool
) -> PilotDescription:
    """Return what a pool's own pilots are.

    Parameters
    ----------
    max_workers
        How many calls as `call` run at a time; None is as many as there is room for.

    Raises
    ------
    UsageError
        If they cannot be.
    """
    options = options.copy()
    if max_workers is not None:
        if "cores" in options:
            raise UsageError("max_workers and pilot_cores exclude each other: both say how much runs at a time")
        nodes = arguments.whole("nodes", options.get("nodes", 1))
        options["cores"] = math.ceil(max_workers / max(1, nodes)) * call.cores * call.ranks
    if not options.get("scheduler"):
        options["site"] = site
    return describe(remote=remote, **options)
