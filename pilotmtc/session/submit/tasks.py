"""Make a stream of tasks from a command, its parameters and options."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypedDict, cast

from pilotmtc.campaign.outputs import check_shared
from pilotmtc.campaign.readers import first_signal
from pilotmtc.campaign.submit import NO_OPTIONS, CampaignOptions, TaskSpec
from pilotmtc.errors import UsageError
from pilotmtc.model import GRACE_S, MAX_OUTPUT_BYTES, After, Resources, TaskId, Template
from pilotmtc.parameters import Row, Source, numbered
from pilotmtc.parameters.source import ONE_ROW, check_fields
from pilotmtc.resources.retry import check_growth
from pilotmtc.session import arguments
from pilotmtc.session.needs import READERS, about, check_needs
from pilotmtc.system.environment import captured_here
from pilotmtc.system.locale import current_directory
from pilotmtc.template import WHOLE_COMMAND, literal, make_template, render, wants_number
from pilotmtc.units import parse_duration, parse_memory, parse_rate

Value: TypeAlias = str | int | float
Word: TypeAlias = str | int | float | os.PathLike[str]
Params: TypeAlias = Source | Mapping[str, Iterable[Value]] | Iterable[Mapping[str, Value]] | Iterable[Value]


class TaskOptions(TypedDict, total=False):
    """Options of tasks, besides their command and parameters.

    Attributes
    ----------
    cores, gpus, memory, resources
        What a task needs: whole cores; whole GPUs or a share of one; memory, ``"2G"`` or bytes, which is also the
        limit; amounts of named resources.
    ranks, ranks_per_node
        Number of processes, each of which needs all of that, and how many of them share a node (default: as many as
        fit).
    time_limit, expected
        Seconds or ``"5m"``: a task is stopped after the first, and not started if its pilot has less than the second
        left.
    grace, signal_first
        How long its processes have to end when the task is stopped, and the signal that tells them to, such as
        ``"USR1"`` (default: 5 seconds, TERM).
    priority
        Tasks with a higher one go first.
    retries, backoff
        How many failures are followed by another attempt, and the pause before the first retry.
    retry_on, no_retry_on
        The causes that are retried (default: all), and those that are not: ``"exit:75,137 oom timeout signal"``, or a
        list of these.
    retry_memory, max_memory, retry_time
        After an OOM, the next attempt has ``"x2"`` as much memory, up to ``"64G"``; after a TIMEOUT ``"x1.5"`` as
        much time.
    max_output
        ``"2G"`` or bytes: the largest part of stdout, and of stderr, that is kept.
    env, cwd, stdin, stdout, stderr
        Variables, directory (default: the current one) and files; may contain placeholders.
    append
        Append to the files ``stdout`` and ``stderr``, which tasks may then share.
    setup
        Shell lines to run before each command, in the same shell; the first that fails ends the attempt.
    shell
        The shell of setup and of shell lines, with options if need be: ``"bash -l"`` (default: ``bash`` with a setup,
        else ``/bin/sh``).
    capture_env
        Give tasks the environment of this process, without what belongs to its login, terminal, host or job, and
        without secrets; `env` goes before it.
    task_name, tags
        May contain placeholders.
    after, after_any
        Ids of tasks to wait for: until they are DONE, or until they have ended in any way.
    max_running
        At most so many tasks of the campaign are claimed or running at once, over all pilots (default: no limit).
    start_rate
        Pilots are given at most so many tasks of the campaign a second, all together: ``"5/s"``, ``"30/min"``, or a
        number (default: no limit).
    after_campaign
        A campaign, or several, by id or name, whose tasks must all be DONE before those of this one.
    watch
        Program files, looked for on the store's host: when their content changes, ``rerun(changed=True)`` runs tasks
        again (default: the programs that the command names).
    memo
        Take tasks as DONE, with the results that earlier tasks of this store have, if these ran the same.
    """

    cores: int
    gpus: float
    memory: str | int
    resources: Mapping[str, float]
    ranks: int
    ranks_per_node: int
    time_limit: str | float
    expected: str | float
    grace: str | float
    signal_first: str
    priority: int
    retries: int
    backoff: str | float
    retry_on: str | Sequence[str]
    no_retry_on: str | Sequence[str]
    retry_memory: str | float
    max_memory: str | int
    retry_time: str | float
    max_output: str | int
    env: Mapping[str, Word]
    cwd: str | os.PathLike[str]
    stdin: str | os.PathLike[str]
    stdout: str | os.PathLike[str]
    stderr: str | os.PathLike[str]
    append: bool
    setup: Sequence[str]
    shell: str
    capture_env: bool
    task_name: str
    tags: Sequence[str]
    after: Sequence[int]
    after_any: Sequence[int]
    max_running: int
    start_rate: str | float
    after_campaign: int | str | Sequence[int | str]
    watch: Sequence[str]
    memo: bool


_READ: dict[str, Callable[[str, object], Any]] = {
    **READERS,
    "max_running": arguments.whole,
    "start_rate": arguments.amount,
    **dict.fromkeys(("cwd", "stdin", "stdout", "stderr"), arguments.path),
    **dict.fromkeys(("append", "capture_env", "memo"), arguments.flag),
    **dict.fromkeys(("task_name", "shell"), arguments.text),
    "setup": lambda name, value: arguments.several(name, value, arguments.text),
    "tags": lambda name, value: arguments.several(name, value, arguments.text),
    "after": lambda name, value: arguments.several(name, value, arguments.whole),
    "after_campaign": arguments.campaign_words,
    "after_any": lambda name, value: arguments.several(name, value, arguments.whole),
}


def retry_fields(options: "TaskOptions") -> dict[str, Any]:
    """Return the fields of a template that say what is retried and how, from options that have been read."""
    return {
        "max_retries": options.get("retries", 0),
        "backoff_s": parse_duration(options.get("backoff", 0.0)),
        "retry_on": options.get("retry_on", ()),
        "no_retry_on": options.get("no_retry_on", ()),
        "retry_memory": options.get("retry_memory", 1.0),
        "max_memory_bytes": parse_memory(options.get("max_memory", 0)),
        "retry_time": options.get("retry_time", 1.0),
    }


def read_options(options: TaskOptions, *own: str) -> TaskOptions:
    """Return `options`, each value checked and converted.

    Parameters
    ----------
    own
        Other keywords of the caller, for suggestions in errors.

    Raises
    ------
    TypeError
        If there is no such option.
    UsageError
        If a value has a wrong type.
    """
    arguments.check_names(options, (*TaskOptions.__annotations__, *own))
    return cast("TaskOptions", {name: _READ[name](name, value) for name, value in options.items()})


class TaskStream:
    """Tasks to be submitted: iterated over once for each submission, never kept in memory.

    Attributes
    ----------
    size
        Number of tasks; None if not known.
    again
        Whether they can be iterated over again, because their source is not consumed by reading.
    template
        The template that all of them share; None: there may be several.
    options
        Those of the campaign.
    """

    def __init__(
        self,
        tasks: Callable[[], Iterable[TaskSpec]],
        *,
        size: int | None = None,
        again: bool = True,
        template: Template | None = None,
        options: CampaignOptions = NO_OPTIONS,
    ) -> None:
        self.options = options
        self.size = size
        self.again = again
        self.template = template
        self._tasks = tasks

    def __iter__(self) -> Iterator[TaskSpec]:
        """Return an iterator over all tasks."""
        return iter(self._tasks())


def as_source(params: Params) -> Source:
    """Return a source of rows for parameters given in Python.

    A mapping of names to values is a grid; an iterable of mappings gives named rows; an iterable of single values gives
    unnamed rows. Iterables are consumed as needed; sequences such as lists can be read again.

    Raises
    ------
    UsageError
        If rows have different names.
    """
    if isinstance(params, Source):
        return params
    if isinstance(params, str):
        raise UsageError(f"params={params!r} is one text: give a list of values")
    if isinstance(params, Mapping):
        return _grid(params)
    if not isinstance(params, Iterable):
        raise UsageError(f"params={params!r} is one value: give a list, as in params=[{params!r}]")
    again = isinstance(params, Sequence)
    first = iter(params)
    try:
        head = next(first)
    except StopIteration:
        return Source(("1",), lambda: iter(()), size=0)
    fields = tuple(head) if isinstance(head, Mapping) else ("1",)
    if isinstance(head, Mapping):
        check_fields(fields, "params")
    known: list[Iterator[Mapping[str, Value] | Value]] = [] if again else [_with(head, first)]

    def rows() -> Iterator[Row]:
        found = known.pop() if known else iter(params)
        for number, row in enumerate(found, 1):
            yield _row(row, fields, number)

    return Source(fields, rows, size=len(params) if isinstance(params, Sequence) else None, again=again)


def _with(
    head: Mapping[str, Value] | Value, rest: Iterator[Mapping[str, Value] | Value]
) -> Iterator[Mapping[str, Value] | Value]:
    yield head
    yield from rest


def _row(row: Mapping[str, Value] | Value, fields: tuple[str, ...], number: int) -> Row:
    if not isinstance(row, Mapping):
        if fields != ("1",):
            raise UsageError(f"row {number} of params is {row!r}, the first one has the names {', '.join(fields)}")
        return (arguments.cell(row, "row", number, "of params"),)
    if row.keys() != set(fields):
        odd = sorted(row.keys() ^ set(fields))
        raise UsageError(f"row {number} of params has not the same names as the first one: look at {', '.join(odd)}")
    return tuple([arguments.cell(row[field], repr(field), "in row", number, "of params") for field in fields])


def _grid(axes: Mapping[str, Iterable[Value]]) -> Source:
    from pilotmtc.parameters import combine

    check_fields(tuple(axes), "params")
    sources = []
    for name, values in axes.items():
        if isinstance(values, str) or not isinstance(values, Iterable):
            raise UsageError(f"params[{name!r}] is {values!r}: give a list of values")
        kept = tuple([(arguments.cell(value, f"params[{name!r}]"),) for value in values])
        sources.append(Source((name,), lambda kept=kept: iter(kept), size=len(kept)))  # type: ignore[misc]
    return combine(sources)


def make_tasks(command: str | Sequence[Word], source: Source | None, options: TaskOptions) -> TaskStream:
    """Return the tasks that run `command`, one for each row of `source`.

    Raises
    ------
    TypeError
        If there is no such option.
    UsageError
        If an option or a parameter is invalid.
    """
    options = read_options(options, "name", "params")
    command = command if isinstance(command, str) else arguments.several("command", command, arguments.word)
    source = _numbered(command, source, options)
    fields = source.fields if source is not None else ()
    here = literal(current_directory(), fields)
    template = make_template(
        command,
        fields,
        env=environment(options, fields),
        cwd=os.path.join(here, os.path.expanduser(options.get("cwd", ""))).rstrip("/") or "/",
        stdin=_path(options.get("stdin")),
        stdout=_path(options.get("stdout")),
        stderr=_path(options.get("stderr")),
        append=options.get("append", False),
        setup=options.get("setup", ()),
        shell_program=options.get("shell", ""),
        max_output_bytes=parse_memory(options.get("max_output", MAX_OUTPUT_BYTES)),
        watch=options.get("watch", ()),
        **retry_fields(options),
    )
    check_shared(template, None if source is None else source.size)
    resources = make_resources(options)
    check_growth(template, resources)
    priority = options.get("priority", 0)
    after = tuple(
        [After(TaskId(task)) for task in options.get("after", ())]
        + [After(TaskId(task), False) for task in options.get("after_any", ())]
    )
    name = render(options["task_name"], fields, "task's name") if "task_name" in options else None
    tags = tuple([render(tag, fields, "tag") for tag in options.get("tags", ())])

    def tasks() -> Iterator[TaskSpec]:
        for row in source if source is not None else ((),):
            yield TaskSpec(
                template,
                resources,
                row,
                priority,
                name(row) if name is not None else None,
                tuple([tag(row) for tag in tags]) if tags else (),
                after,
            )

    whole = CampaignOptions(
        check_max_running(options.get("max_running", 0)),
        about("start_rate", parse_rate, options.get("start_rate", 0.0)),
        cast("tuple[int | str, ...]", options.get("after_campaign", ())),
        memo=options.get("memo", False),
    )
    if source is None:
        return TaskStream(tasks, size=1, template=template, options=whole)
    return TaskStream(tasks, size=source.size, again=source.again, template=template, options=whole)


def check_max_running(tasks: int) -> int:
    """Return how many tasks of a campaign may run at once.

    Raises
    ------
    UsageError
        If it is negative or too large.
    """
    if not 0 <= tasks <= 2**31:
        raise UsageError(f"max_running is {tasks}: give the number of tasks that may run at once, or 0 for no limit")
    return tasks


def environment(options: TaskOptions, fields: Sequence[str]) -> dict[str, str]:
    """Return the variables of tasks: those that are given, and if they are asked for those of this process."""
    own = cast("dict[str, str]", options.get("env", {}))
    if not options.get("capture_env"):
        return own
    return {name: literal(value, fields) for name, value in captured_here().items() if name not in own} | own


def make_commands(commands: Source, options: TaskOptions) -> TaskStream:
    """Return tasks that are whole commands, one for each row: each is a shell line, in which nothing is replaced.

    Raises
    ------
    TypeError
        If there is no such option.
    UsageError
        If an option or a command is invalid.
    """
    if len(commands.fields) != 1:
        raise UsageError(f"whole commands are single texts, and these have the names {', '.join(commands.fields)}")

    def rows() -> Iterator[Row]:
        for (line,) in commands:
            yield (f" {line}" if line.startswith(("-", "+")) else line,)  # the shell would take it for an option

    source = Source(("command",), rows, size=commands.size, again=commands.again)
    return make_tasks(WHOLE_COMMAND, source, options)


def _numbered(command: str | Sequence[str], source: Source | None, options: TaskOptions) -> Source | None:
    """Return `source` with numbers of rows, if a placeholder asks for them."""
    words = [command] if isinstance(command, str) else command
    texts = [options.get(name, "") for name in ("cwd", "stdin", "stdout", "stderr", "task_name")]
    texts += [*words, *options.get("env", {}).values(), *options.get("tags", ())]
    if not wants_number(map(str, texts), () if source is None else source.fields):
        return source
    return numbered(ONE_ROW if source is None else source)


def make_resources(options: TaskOptions) -> Resources:
    """Return what a task needs, as a record.

    Raises
    ------
    UsageError
        If that cannot be.
    """
    check_needs(options)
    return Resources(
        cores=options.get("cores", 1),
        gpus=float(options.get("gpus", 0.0)),
        memory_bytes=parse_memory(options.get("memory", 0)),
        named={name: float(amount) for name, amount in options.get("resources", {}).items()},
        time_limit_s=parse_duration(options.get("time_limit", 0.0)),
        expected_s=parse_duration(options.get("expected", 0.0)),
        ranks=options.get("ranks", 1),
        ranks_per_node=options.get("ranks_per_node", 0),
        grace_s=parse_duration(options.get("grace", GRACE_S)),
        signal_first=first_signal(options.get("signal_first", "TERM")),
    )


def _path(text: str | os.PathLike[str] | None) -> str | None:
    return None if text is None else os.path.expanduser(os.fspath(text))


def read_campaign(path: str | Path) -> tuple[TaskStream, str]:
    """Return the tasks of a campaign file, and its name."""
    from pilotmtc.campaign.file import load  # and what reads TOML and tables, which most campaigns do without

    found = load(path)
    return TaskStream(found.tasks, size=found.size, options=found.options), found.name
