"""Options that several commands have, and what becomes of them."""

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from pilotmtc.cli.command import Clearable
from pilotmtc.cli.output import streams

if TYPE_CHECKING:
    AnyParamType = click.ParamType[Any]
    from pilotmtc.session import PilotOptions, Selection, Session, TaskOptions, TaskStream
else:  # generic only since click 8.2
    AnyParamType = click.ParamType

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
STATES = ("waiting", "ready", "claimed", "running", "done", "failed", "canceled", "skipped")
CAUSES = (
    "exit", "signal", "timeout", "oom", "walltime", "preempted", "node-lost", "pilot-lost", "canceled", "launch-error",
)  # fmt: skip
_MANY_IDS = 1_000_000
_NAMED = 10
_LARGEST_ID = 2**63 - 1


class Number(AnyParamType):
    """A whole number."""

    name = "number"

    def __init__(self, least: int = 0, most: int = 2**31 - 1) -> None:
        self._least = least
        self._most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number that `value` means."""
        try:
            number = int(value)
        except ValueError:
            self.fail(f"{value!r} is no whole number", param, ctx)
        if not self._least <= number <= self._most:
            self.fail(f"{value} is out of range: give a number from {self._least} to {self._most}", param, ctx)
        return number


ID = Number(1, _LARGEST_ID)
_PRIORITY = Number(-(2**31) + 1)


class Ids(AnyParamType):
    """A task's id, or a range of them."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> range:
        """Return the range that `value` means."""
        first, dash, last = str(value).partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            self.fail(f"{value!r} is no task id: write 17, or 17-20 for several", param, ctx)
        found = range(int(first), int(last if dash else first) + 1)
        if not found:
            self.fail(f"{value!r} is empty: the smaller id comes first", param, ctx)
        if found.stop > _LARGEST_ID:
            self.fail(f"{value!r}: there are no ids above {_LARGEST_ID}", param, ctx)
        if len(found) > _MANY_IDS:
            self.fail(f"{value!r} are too many: use --campaign", param, ctx)
        return found


class Assignment(AnyParamType):
    """``NAME=VALUE``."""

    name = "assignment"

    def __init__(self, what: str, *, number: bool = False) -> None:
        self._what = what
        self._number = number

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str | float]:
        """Return name and value."""
        if isinstance(value, tuple):
            return cast("tuple[str, str | float]", value)
        name, equals, text = str(value).partition("=")
        if not name or not equals:
            self.fail(f"{value!r} is no {self._what}: write NAME=VALUE", param, ctx)
        if not self._number:
            return name, text
        try:
            return name, float(text)
        except ValueError:
            self.fail(f"{text!r} in {value!r} is no number: write NAME=NUMBER", param, ctx)


def assigned(what: str, pairs: "Sequence[tuple[str, T]]") -> dict[str, T]:
    """Return the values by their names, each of which is given once."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise click.UsageError(f"{what} {twice} is given twice: give it one value", click.get_current_context())
    return found


def _all(function: F, options: Sequence[Callable[[F], F]]) -> F:
    for option in reversed(options):
        function = option(function)
    return function


def json_option(function: F) -> F:
    """Add ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")(function)


def ids_argument(function: F) -> F:
    """Add any number of ids."""
    return click.argument("ids", metavar="[ID]...", nargs=-1, type=Ids())(function)


def filter_options(function: F) -> F:
    """Add ids and all that selects tasks."""
    return _all(
        function,
        [
            ids_argument,
            click.option(
                "-c", "--campaign", "campaign", multiple=True, type=ID, metavar="ID",
                help="Tasks of this campaign; repeated: of one of them.",
            ),
            click.option(
                "-s", "--state", "states", multiple=True, metavar="STATE", type=click.Choice(STATES, False),
                help=f"In this state; may be repeated: {', '.join(STATES)}.",
            ),
            click.option("--name", "names", multiple=True, metavar="NAME", help="Of this name; * and ? are wildcards."),
            click.option("--tag", "tags", multiple=True, metavar="TAG", help="With this tag; repeated: with all."),
            click.option(
                "--exit", "exit_codes", multiple=True, type=Number(-(2**31)), metavar="CODE",
                help="Whose last attempt exited with this code; repeated: with one of them.",
            ),
            click.option(
                "--cause", "causes", multiple=True, metavar="CAUSE", type=click.Choice(CAUSES, False),
                help=f"Whose last attempt ended so: {', '.join(CAUSES)}.",
            ),
            click.option("--pilot", type=ID, metavar="ID", help="Held, or last held, by this pilot."),
            click.option(
                "-f", "--filter", metavar="FILTER",
                help="Conditions in one text, and more of them: 'state:failed tag:x exit:137 mass>3 elapsed>10m'.",
            ),
            click.option("--all", "everything", is_flag=True, help="All tasks of the store."),
        ],
    )  # fmt: skip


def selected(options: dict[str, Any]) -> "Selection":
    """Take what `filter_options` has added out of `options` and return it as a selection."""
    ids = [id_ for some in options.pop("ids") for id_ in some]
    select: dict[str, object] = {"ids": ids, "all": options.pop("everything")}
    for name in ("campaign", "states", "names", "tags", "exit_codes", "causes", "pilot", "filter"):
        select[name] = options.pop(name)
    given = {name: value for name, value in select.items() if value not in (None, (), [], False)}
    if "all" in given and len(given) > 1:
        raise click.UsageError("--all goes without ids and conditions", click.get_current_context())
    return cast("Selection", given)


def check_ids(session: "Session", select: "Selection") -> None:
    """See that the pilot and the tasks are there whose ids were given; of a range it is the ends that were.

    Raises
    ------
    UsageError
        If some are not; it names them.
    """
    from pilotmtc.errors import UsageError

    if (pilot := select.get("pilot")) is not None:
        session.pilots.get(pilot)
    given = set(select.get("ids") or ())
    ends = sorted(id_ for id_ in given if not {id_ - 1, id_ + 1} <= given)
    there = {task.id for task in session.tasks(ids=ends)} if ends else set()
    missing = [str(id_) for id_ in ends if id_ not in there]
    if missing:
        what = f"is no task {missing[0]}" if len(missing) == 1 else f"are no tasks {', '.join(missing[:_NAMED])}"
        raise UsageError(f"there {what} in {session.url}: see pilotmtc tasks")


def scheduler_options(function: F) -> F:
    """Add what a scheduler may be told of a pilot."""
    return _all(
        function,
        [
            click.option(
                "--scheduler", metavar="NAME",
                help="Through the scheduler of the store's host: slurm, pbs, moab, condor, or auto.",
            ),
            click.option("--nodes", type=Number(1), metavar="N", help="Nodes of a pilot  [default: 1]"),
            click.option(
                "--queue", "--partition", "queue", cls=Clearable, metavar="NAME", help="Queue of the scheduler."
            ),
            click.option("--account", cls=Clearable, metavar="NAME", help="Account that is charged."),
            click.option("--qos", cls=Clearable, metavar="NAME", help="Quality of service."),
            click.option("--constraint", cls=Clearable, metavar="WORDS", help="Features that the nodes must have."),
            click.option("--reservation", cls=Clearable, metavar="NAME", help="Reservation to run in."),
            click.option(
                "--exclusive/--no-exclusive", default=None, help="Have its nodes alone, as it has without --cores."
            ),
            click.option(
                "--signal", metavar="TIME",
                help="Warning before the end of the walltime  [default: a tenth of it, 2m at the most]",
            ),
            click.option(
                "--login", cls=Clearable, metavar="HOST",
                help="How nodes reach the store's host, [user@]host[:port]; - if they run on it  "
                "[default: its name; with local: -]",
            ),
        ],
    )  # fmt: skip


SCHEDULER_NAMES = (
    "scheduler", "nodes", "queue", "account", "qos", "constraint", "reservation", "exclusive", "signal", "login",
)  # fmt: skip


def pilot_options(options: dict[str, Any]) -> "PilotOptions":
    """Take what `scheduler_options` has added out of `options` and return what was given."""
    taken = {name: options.pop(name) for name in SCHEDULER_NAMES}
    return cast("PilotOptions", {name: value for name, value in taken.items() if value is not None})


def need_options(function: F, *, new: bool = True) -> F:
    """Add what a task needs, and its limits; those of `new` tasks have defaults."""

    def words(what: str, default: str) -> str:
        return f"{what}; {default} if not given." if new else f"{what}."

    return _all(
        function,
        [
            click.option("--cores", type=Number(1), metavar="N", help=words("Cores of a task", "1")),
            click.option("--ranks", type=Number(1), metavar="N", help=words("Processes of a task", "1")),
            click.option(
                "--ranks-per-node", type=Number(0), metavar="N",
                help=f"How many of them on a node; 0{', or not given,' if new else ''} is as many as fit.",
            ),
            click.option("--gpus", type=float, metavar="N", help="GPUs of a task, or a share of one such as 0.25."),
            click.option("--memory", metavar="SIZE", help="Memory of a task, also a limit: 512M, 2G."),
            click.option(
                "--resource", "resources", multiple=True, metavar="NAME=N", type=Assignment("resource", number=True),
                help="Amount of a named resource: of the pilot's nodes, or one that the store limits.",
            ),
            click.option("--time-limit", metavar="TIME", help="A task is killed after that: 90s, 5m, 2h, HH:MM:SS."),
            click.option("--expected", metavar="TIME", help="A task is not started with less time left."),
            click.option("--priority", type=_PRIORITY, metavar="N", help=words("Higher goes first", "0")),
        ],
    )  # fmt: skip


def task_options(function: F) -> F:
    """Add all that may be said about tasks besides their command."""
    return _all(
        function,
        [
            click.option(
                "--from", "files", multiple=True, type=click.Path(), metavar="FILE",
                help="Parameters from a .csv, .tsv, .jsonl or .txt file; - is standard input.",
            ),
            click.option(
                "--format", "form", type=click.Choice(("csv", "tsv", "jsonl", "lines")),
                help="What --from reads, if the file's name does not say.",
            ),
            click.option(
                "--grid", "axes", multiple=True, metavar="NAME=VALUES",
                help="Parameters from a grid: mass=1:10:0.5, seed=0..9, kind=a,b.",
            ),
            need_options,
            click.option("--retries", type=Number(0), metavar="N", help="Tries after a failure  [default: 0]"),
            click.option("--backoff", metavar="TIME", help="Pause before the first retry; doubles with each."),
            click.option("--max-output", metavar="SIZE", help="Keep no more of stdout, and of stderr  [default: 1G]"),
            click.option("--grace", metavar="TIME", help="Time to end by itself before it is killed  [default: 5s]"),
            click.option("--signal-first", metavar="SIGNAL", help="What tells it to: USR1, INT  [default: TERM]"),
            click.option(
                "--env", "env", multiple=True, metavar="NAME=VALUE", type=Assignment("variable"),
                help="A variable for the tasks; may hold {placeholders}.",
            ),
            click.option("--cwd", type=click.Path(), metavar="DIR", help="Directory of the tasks  [default: this one]"),
            click.option(
                "--stdin", type=click.Path(), metavar="FILE",
                help="Standard input of the tasks; may hold {placeholders}.",
            ),
            click.option(
                "--stdout", type=click.Path(), metavar="FILE", help="Where stdout goes, instead of into the store."
            ),
            click.option(
                "--stderr", type=click.Path(), metavar="FILE", help="Where stderr goes, instead of into the store."
            ),
            click.option("--append", is_flag=True, help="Write behind what is in these files; tasks may share them."),
            click.option("--name", metavar="NAME", help="Name of the campaign."),
            click.option("--task-name", metavar="NAME", help="Name of the tasks; may hold {placeholders}."),
            click.option("--tag", "tags", multiple=True, metavar="TAG", help="Tag of the tasks; may hold {}."),
            click.option("--after", multiple=True, type=Ids(), metavar="ID", help="Wait until this task is DONE."),
            click.option("--after-any", multiple=True, type=Ids(), metavar="ID", help="Wait until this task is over."),
        ],
    )  # fmt: skip


_OPTION_NAMES = (
    "cores", "ranks", "ranks_per_node", "gpus", "memory", "time_limit", "expected", "grace", "signal_first",
    "priority", "retries", "backoff", "max_output", "cwd", "stdin", "stdout", "stderr", "append", "task_name",
)  # fmt: skip


def build_tasks(words: Sequence[str], options: dict[str, Any]) -> "tuple[TaskStream, str] | None":
    """Return the tasks, and the campaign's name, that a command line means; None if there are no words.

    What `task_options` has added is taken out of `options`.
    """
    from pilotmtc.errors import UsageError
    from pilotmtc.session.submit.command_line import tasks_of, toml_of

    files, form, axes = options.pop("files"), options.pop("form"), options.pop("axes")
    name = options.pop("name") or ""
    taken: dict[str, object] = {key: options.pop(key) for key in _OPTION_NAMES}
    taken |= {
        "env": assigned("variable", options.pop("env")),
        "resources": assigned("resource", options.pop("resources")),
        "tags": options.pop("tags"),
    }
    for key in ("after", "after_any"):
        taken[key] = [id_ for some in options.pop(key) for id_ in some]
    given = {key: value for key, value in taken.items() if value not in (None, (), [], {}) and value is not False}
    if (found := toml_of(words)) is not None:
        if given or files or axes:
            names = ", ".join(
                sorted(
                    f"--{key.replace('_', '-')}" for key in (*given, *["from"] * bool(files), *["grid"] * bool(axes))
                )
            )
            raise click.UsageError(f"{names} cannot be given with a campaign file: write it into {words[0]}")
        return found[0], name or found[1]
    if not words:
        if given or files or axes or name:
            raise click.UsageError("there is no command to run with these options", click.get_current_context())
        return None
    talk = streams.talk if sys.stderr.isatty() else (lambda _words: None)
    behind = _option_behind(words)
    if behind and len(words[0].split()) > 1:  # a shell line, which takes no arguments
        raise click.UsageError(behind, click.get_current_context())
    try:
        return tasks_of(words, files, form, axes, cast("TaskOptions", given), talk=talk), name
    except UsageError as error:
        if behind:
            error.add_note(behind)
        raise


def _option_behind(words: Sequence[str]) -> str:
    """Return what is to be said of a word behind the command that is an option of ours; empty if there is none."""
    params = click.get_current_context().command.params
    known = {name for param in params for name in (*param.opts, *param.secondary_opts)}
    command = words[: words.index(":::")] if ":::" in words else words
    found = next((word for word in command[1:] if word.startswith("-") and word.partition("=")[0] in known), "")
    return found and f"{found} behind the command is an argument of it: options come before the command"
