"""The options of tasks, and the tasks that a command line describes."""

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, cast

import click

from pilotmtc.cli.options.amounts import take_amounts, task_amounts
from pilotmtc.cli.options.types import CAMPAIGN, Assignment, F, Ids, Number, add_all, assigned
from pilotmtc.cli.output import streams

if TYPE_CHECKING:
    from pilotmtc.session import TaskOptions, TaskStream

_PRIORITY = Number(-(2**31) + 1)


def need_options(function: F, *, new: bool = True) -> F:
    """Add the options for what a task needs and for its limits; with defaults for `new` tasks."""

    def words(what: str, default: str) -> str:
        return f"{what}  [default: {default}]" if new else f"{what}."

    return add_all(
        function,
        [
            click.option("--cores", type=Number(1), metavar="N", help=words("Cores per task", "1")),
            click.option("--ranks", type=Number(1), metavar="N", help=words("Processes per task", "1")),
            click.option(
                "--ranks-per-node", type=Number(0), metavar="N",
                help=words("Processes of a task per node; 0: as many as fit", "0"),
            ),
            click.option("--gpus", type=float, metavar="N", help="GPUs per task, or a share of one such as 0.25."),
            task_amounts,
            click.option("--time-limit", metavar="TIME", help="Kill a task that runs longer: 90s, 5m, 2h, HH:MM:SS."),
            click.option("--expected", metavar="TIME", help="Do not start a task when its pilot has less time left."),
            click.option("--priority", type=_PRIORITY, metavar="N", help=words("Higher goes first", "0")),
        ],
    )  # fmt: skip


def value_options(function: F) -> F:
    """Add the options for where values come from."""
    return add_all(
        function,
        [
            click.option(
                "--from", "files", multiple=True, type=click.Path(), metavar="FILE",
                help="Parameters from a .csv, .tsv, .jsonl or .txt file; - is standard input.",
            ),
            click.option(
                "--format", "form", type=click.Choice(("csv", "tsv", "jsonl", "lines")),
                help="Format of the --from file, if its name does not tell.",
            ),
            click.option(
                "-0", "--null", is_flag=True,
                help="Values on standard input and in --from files end with NUL, as find -print0 writes them.",
            ),
            click.option(
                "--grid", "axes", multiple=True, metavar="NAME=VALUES",
                help="Parameters from a grid: mass=1:10:0.5, seed=0..9, kind=a,b.",
            ),
        ],
    )  # fmt: skip


def limit_options(function: F, *, new: bool = True) -> F:
    """Add the options for retries, and for how tasks are ended; with defaults for `new` tasks."""

    def words(what: str, default: str) -> str:
        return f"{what}  [default: {default}]" if new else f"{what}."

    return add_all(
        function,
        [
            click.option("--retries", type=Number(0), metavar="N", help=words("Retries after a failure", "0")),
            click.option("--backoff", metavar="TIME", help="Pause before the first retry; doubles with each retry."),
            click.option(
                "--retry-on", multiple=True, metavar="CAUSES",
                help="Retry only after these causes: 'exit:75,137 oom timeout signal'; may be repeated.",
            ),
            click.option(
                "--no-retry-on", multiple=True, metavar="CAUSES",
                help="Never retry after these causes, as 'exit:2 signal'; may be repeated.",
            ),
            click.option("--retry-memory", metavar="xN", help="After an OOM, retry with xN as much memory."),
            click.option("--max-memory", metavar="SIZE", help="Let --retry-memory give no more than this."),
            click.option("--retry-time", metavar="xN", help="After a timeout, retry with xN as much time."),
            click.option(
                "--max-output", metavar="SIZE",
                help=words("Largest stdout, and stderr, that is kept", "1G"),
            ),
            click.option(
                "--grace", metavar="TIME", help=words("Time between the signal to end and the kill", "5s"),
            ),
            click.option(
                "--signal-first", metavar="SIGNAL",
                help=words("Signal that asks a task to end: USR1, INT", "TERM"),
            ),
        ],
    )  # fmt: skip


def env_option(function: F) -> F:
    """Add ``--env``."""
    return click.option(
        "--env", "env", multiple=True, metavar="NAME=VALUE", type=Assignment("variable"),
        help="Environment variable of the tasks; may hold {placeholders}.",
    )(function)  # fmt: skip


def watch_option(function: F) -> F:
    """Add ``--watch``."""
    return click.option(
        "--watch", multiple=True, type=click.Path(), metavar="FILE",
        help="Program file, on the store's host: see rerun --changed; may be repeated  "
        "[default: the programs that the command names]",
    )(function)  # fmt: skip


def memo_option(function: F) -> F:
    """Add ``--memo``."""
    return click.option(
        "--memo", is_flag=True, help="Take tasks as DONE, with their results, that this store knows from earlier ones."
    )(function)


def halt_option(function: F) -> F:
    """Add ``--halt``."""
    return click.option(
        "--halt", metavar="N|N%", help="Put the campaign on hold when so many of its tasks have failed."
    )(function)


def after_campaign_option(function: F) -> F:
    """Add ``--after-campaign``."""
    return click.option(
        "--after-campaign", "after_campaign", multiple=True, type=CAMPAIGN, metavar="CAMPAIGN",
        help="Start no task before all tasks of this campaign are DONE; may be repeated.",
    )(function)  # fmt: skip


def after_options(function: F) -> F:
    """Add the options for tasks to wait for."""
    return add_all(
        function,
        [
            click.option("--after", multiple=True, type=Ids(), metavar="ID", help="Wait until this task is DONE."),
            click.option(
                "--after-any", multiple=True, type=Ids(), metavar="ID",
                help="Wait until this task has finished, however it ends.",
            ),
        ],
    )  # fmt: skip


def task_options(function: F) -> F:
    """Add all options of tasks."""
    return add_all(
        function,
        [
            value_options,
            click.option(
                "--commands", type=click.Path(), metavar="FILE",
                help="Run the whole commands in FILE, one a line; - is standard input.",
            ),
            need_options,
            limit_options,
            env_option,
            watch_option,
            click.option(
                "--cwd", type=click.Path(), metavar="DIR",
                help="Directory of the tasks  [default: the current one]",
            ),
            click.option(
                "--stdin", type=click.Path(), metavar="FILE",
                help="Standard input of the tasks; may hold {placeholders}.",
            ),
            click.option(
                "--stdout", type=click.Path(), metavar="FILE", help="File for stdout, instead of the store."
            ),
            click.option(
                "--stderr", type=click.Path(), metavar="FILE", help="File for stderr, instead of the store."
            ),
            click.option("--append", is_flag=True, help="Append to these files, which tasks may then share."),
            click.option(
                "--setup", "setup", multiple=True, metavar="LINE",
                help="Shell line before each command, as in 'source venv/bin/activate'; may be repeated.",
            ),
            click.option(
                "--shell", metavar="SHELL",
                help="Shell of the tasks, as 'bash' or 'bash -l'  [default: bash with --setup, else /bin/sh]",
            ),
            click.option(
                "--capture-env", is_flag=True,
                help="Give tasks this environment, without what is of the login, host or job, and without secrets.",
            ),
            click.option("--name", metavar="NAME", help="Name of the campaign."),
            click.option(
                "--max-running", type=Number(0), metavar="N",
                help="At most N of these tasks at once, over all pilots.",
            ),
            click.option(
                "--start-rate", metavar="RATE",
                help="Start at most so many of these tasks, over all pilots: 5/s, 30/min, 100/h.",
            ),
            after_campaign_option,
            click.option("--task-name", metavar="NAME", help="Name of the tasks; may hold {placeholders}."),
            click.option(
                "--tag", "tags", multiple=True, metavar="TAG",
                help="Tag of the tasks; may hold {placeholders}.",
            ),
            after_options,
        ],
    )  # fmt: skip


_OPTION_NAMES = (
    "cores", "ranks", "ranks_per_node", "gpus", "time_limit", "expected", "grace", "signal_first",
    "priority", "retries", "backoff", "max_output", "cwd", "retry_on", "no_retry_on",
    "max_running", "start_rate", "after_campaign", "retry_memory", "max_memory", "retry_time",
    "stdin", "stdout", "stderr", "append", "task_name",
    "setup", "shell", "capture_env", "watch",
)  # fmt: skip


def take_options(options: dict[str, Any]) -> dict[str, Any]:
    """Remove the options of tasks, without those for values, from `options`; return those that were given."""
    taken: dict[str, object] = {key: options.pop(key) for key in _OPTION_NAMES if key in options}
    taken |= take_amounts(options)
    taken |= {"env": assigned("variable", options.pop("env")), "tags": options.pop("tags")}
    for key in ("after", "after_any"):
        taken[key] = [id_ for some in options.pop(key) for id_ in some]
    return {key: value for key, value in taken.items() if value not in (None, (), [], {}) and value is not False}


def take_sources(options: dict[str, Any]) -> tuple[Sequence[str], str | None, Sequence[str]]:
    """Remove the options of `value_options` from `options`; return files, their format, and axes."""
    files, form, axes = options.pop("files"), options.pop("form"), options.pop("axes")
    if options.pop("null"):
        if form not in (None, "lines"):
            raise click.UsageError(f"--null is about lines, not --format {form}", click.get_current_context())
        form = "null"
    return files, form, axes


def build_tasks(words: Sequence[str], options: dict[str, Any]) -> "tuple[TaskStream, str] | None":
    """Return the tasks of a command line and their campaign's name; None if there is no command.

    The options of `task_options` are removed from `options`.
    """
    from pilotmtc.errors import UsageError
    from pilotmtc.session.submit.command_line import check_causes, commands_of, tasks_of, toml_of

    check_causes(words, {name: options[name] for name in ("retry_on", "no_retry_on")})
    files, form, axes = take_sources(options)
    commands = options.pop("commands")
    name = options.pop("name") or ""
    given = take_options(options)
    if commands is not None:
        if words or files or axes or form not in (None, "null"):
            raise click.UsageError(
                f"--commands {commands} brings whole commands: give no command, and no parameters, beside it",
                click.get_current_context(),
            )
        return commands_of(commands, form, cast("TaskOptions", given)), name
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
    tell = streams.tell if sys.stderr.isatty() else (lambda _words: None)
    command, values = (words[: words.index(":::")], words[words.index(":::") :]) if ":::" in words else (words, ())
    behind = ""
    if option := _option_in(command[1:]):
        behind = f"{option} behind the command is one of its arguments: options come before the command"
        if len(words[0].split()) > 1:  # a shell line, which has no arguments
            raise click.UsageError(behind, click.get_current_context())
    if option := _option_in(values):
        streams.warn(f"{option} behind ':::' is a value, like all that follows: options come before the command")
    try:
        return tasks_of(words, files, form, axes, cast("TaskOptions", given), tell=tell), name
    except UsageError as error:
        if behind:
            error.add_note(behind)
        raise


def _option_in(words: Iterable[str]) -> str:
    """Return the first word that is an option of the command of `pilotmtc` that is being run; empty if none is."""
    params = click.get_current_context().command.params
    known = {name for param in params for name in (*param.opts, *param.secondary_opts)}
    return next((word for word in words if word.startswith("-") and word.partition("=")[0] in known), "")
