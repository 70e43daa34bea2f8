"""The command ``pilotmtc``: the table of commands, and their exit codes."""

import importlib
import io
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from pilotmtc.cli.command import (
    EXIT_BROKEN_PIPE,
    EXIT_INTERRUPTED,
    EXIT_TIMEOUT,
    GlobalOptions,
    Helpful,
    set_site,
    set_store,
)
from pilotmtc.cli.output import streams
from pilotmtc.errors import PilotMTCError, near
from pilotmtc.system.locale import current_directory, speak_utf8
from pilotmtc.text.plain import plain_text

# By section: name, module (the command is its attribute of the same name), and summary, so that the help imports none.
SECTIONS: dict[str, dict[str, tuple[str, str]]] = {
    "Run": {
        "run": ("run.run", "Run tasks now, and show their output."),
        "map": ("run.map", "Call a Python function for many values."),
        "submit": ("run.submit", "Submit tasks to the store, for pilots to run."),
        "add": ("run.add", "Add tasks to a campaign: its command for more parameters."),
        "pilot": ("run.pilot", "Start, list and end pilots, which run tasks."),
        "site": ("run.site", "Manage sites: machines with a scheduler."),
    },
    "Look": {
        "status": ("look.status", "Show campaigns and pilots."),
        "show": ("look.show", "Show a campaign, or the command or file that makes it again."),
        "tui": ("look.tui", "Watch and steer pilots and tasks on a full screen."),
        "top": ("look.top", "Watch pilots, campaigns and what needs attention, as plain text."),
        "tasks": ("look.tasks", "List tasks, by state, campaign, name, exit code..."),
        "task": ("look.tasks", "Show everything about one task."),
        "explain": ("look.explain", "Explain why a task does not run, or how it failed."),
        "logs": ("look.logs", "Print the stdout and stderr of tasks."),
        "results": ("look.results", "Print the results of a campaign as a table, CSV or JSON."),
        "report": ("look.report", "Report where a campaign's time went, and what to ask for next time."),
        "plan": ("look.plan", "Say when work would end on pilots of different shapes."),
    },
    "Steer": {
        "wait": ("steer.wait", "Wait until all tasks of a campaign have finished."),
        "cancel": ("steer.cancel_retry_edit", "Cancel tasks."),
        "retry": ("steer.cancel_retry_edit", "Retry tasks that failed or were canceled."),
        "rerun": ("steer.cancel_retry_edit", "Run tasks again that have finished, DONE ones, too."),
        "hold": ("steer.hold", "Let no pilot take more tasks of a campaign."),
        "release": ("steer.hold", "Let pilots take the tasks of a campaign again."),
        "edit": ("steer.cancel_retry_edit", "Change the priority, resources or limits of tasks."),
        "rename": ("steer.rename", "Give a campaign another name."),
        "delete": ("steer.delete", "Delete campaigns with their results."),
    },
    "Store": {
        "store": ("store.store", "Check, compact, copy, export or find the store."),
        "completion": ("plumbing", "Print the completion script of a shell."),
        "serve": ("plumbing", "Serve a store on stdin and stdout."),
    },
}
HIDDEN = {
    "agent": ("plumbing", "Run tasks for a pilot."),
    "look-here": ("plumbing", "Look at a site on its own host."),
}
_EXAMPLES = """\
pilotmtc run 'python work.py {}' ::: 1 2 3
seq 1000 | pilotmtc run 'echo {}'
pilotmtc run --grid mass=1:10:0.5 --grid seed=0..9 -- ./sim {mass} {seed}
pilotmtc submit campaign.toml
pilotmtc pilot submit --cores 8
pilotmtc results 1 --csv > results.csv
"""


class _ReaderGone(Exception):
    """A `BrokenPipeError` under a name that click does not know, which would exit with code 1."""


@contextmanager
def _renamed() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as error:
        raise _ReaderGone from error


class App(Helpful, click.Group):
    """The group of all commands. Their modules are imported when they are needed."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Read the command line, which may ask for help."""
        with _renamed():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        streams.report_logs()
        with _renamed():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return all names, in the order of the help."""
        return [name for section in SECTIONS.values() for name in section]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command."""
        for section in (*SECTIONS.values(), HIDDEN):
            if cmd_name in section:
                module = importlib.import_module(f"pilotmtc.cli.commands.{section[cmd_name][0]}")
                found: click.Command = getattr(module, cmd_name.replace("-", "_"))
                return found
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that `args` begin with."""
        name = args[0]
        if self.get_command(ctx, name) is None and not ctx.resilient_parsing:
            meant = near(name, self.list_commands(ctx))
            hint = f"did you mean {meant!r}?" if meant else "see pilotmtc --help"
            raise click.UsageError(f"there is no command {name!r}: {hint}", None)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands by section, from the table alone."""
        width = max(len(name) for name in self.list_commands(ctx))
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), words) for name, (_, words) in commands.items()])


def _version(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from pilotmtc import __version__

        click.echo(f"pilotmtc {__version__}")
        ctx.exit()


@click.command(cls=App, name="pilotmtc", examples=_EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--store",
    type=click.Path(),
    metavar="PATH",
    expose_value=False,
    is_eager=True,
    callback=set_store,
    help="The store's file  [default: $PILOTMTC_STORE, or ~/.local/share/pilotmtc/store.db]",
)
@click.option(
    "--site",
    metavar="NAME",
    expose_value=False,
    is_eager=True,
    callback=set_site,
    help="Use this site's store and scheduler; see pilotmtc site",
)
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Show the version.")
def app() -> None:
    """Run thousands to millions of tasks, on this machine or on a cluster, and lose none of them.

    A store, which is one SQLite file, keeps tasks and their results. Pilots take tasks from it and run them. Each
    command has its own help: pilotmtc COMMAND --help.
    """


def main() -> int:
    """Run the command in ``sys.argv``, and return its exit code."""
    speak_utf8()
    if not streams.prepare():  # before anything is done whose outcome could not be told
        return _complain("cannot write the output: standard output is closed", 3)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr is: a terminal may not have all letters
    code = _run()
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        streams.silence()
        code = code or EXIT_BROKEN_PIPE
    except OSError as error:
        streams.silence()
        code = code or _complain(f"cannot write the output: {error.strerror}", 3)
    return code


def _run() -> int:
    try:
        result = app.main(prog_name="pilotmtc", standalone_mode=False, obj=GlobalOptions())
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return 2
    except click.ClickException as error:
        return _complain(_click_words(error), 2)
    except PilotMTCError as error:
        return _complain("\n".join([str(error), *getattr(error, "__notes__", ())]), error.exit_code)
    except TimeoutError as error:
        return _complain(str(error), EXIT_TIMEOUT)
    except (KeyboardInterrupt, click.exceptions.Abort):
        return EXIT_INTERRUPTED
    except _ReaderGone:
        streams.silence()
        return EXIT_BROKEN_PIPE
    except OSError as error:
        try:
            current_directory()
        except PilotMTCError as removed:  # that is what is not there
            return _complain(str(removed), removed.exit_code)
        if error.filename is None and error.errno is not None:  # of writing: files are opened elsewhere
            return _complain(f"cannot write the output: {error.strerror}", 3)
        raise
    return result if isinstance(result, int) else 0


def _click_words(error: click.ClickException) -> str:
    if isinstance(error, click.NoSuchOption) and error.possibilities:
        word = error.option_name.lstrip("-")
        some = [one for one in error.possibilities if near(word, [one.lstrip("-")])]
        error = click.NoSuchOption(error.option_name, error.message, some, error.ctx)
    if isinstance(error, click.BadParameter) and isinstance(error.param, click.Argument) and not error.param_hint:
        plain = error.param.human_readable_name.strip("[].")  # not as it stands in the usage: '[ID]...'
        error.param_hint = plain if plain.replace(" ", "").isalpha() else (error.param.name or "").upper()
    words = " ".join(error.format_message().replace(". Choose from:", ":").split())
    words = words[:1].lower() + words[1:] if not words[:2].isupper() else words
    words = re.sub(r"\.? \(?Did you mean ([^)]*)\)?$", r": did you mean \1", words)
    ctx = getattr(error, "ctx", None)
    if ctx is not None and not words.endswith("?"):
        words = f"{words.rstrip('.')}: see {ctx.command_path} --help"
    return words


def _complain(words: str, code: int) -> int:
    click.echo(f"pilotmtc: error: {plain_text(words)}", err=True)
    return code
