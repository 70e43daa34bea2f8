"""``pilotmtc run``."""

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click
import msgspec

from pilotmtc.cli.command import (
    EXIT_BROKEN_PIPE,
    EXIT_INTERRUPTED,
    EXIT_TASKS_FAILED,
    EXIT_TERMINATED,
    command,
    complete_file,
    hint,
    newest_campaign,
    open_session,
    site_word,
    store_url,
    typed,
)
from pilotmtc.cli.interrupts import Stops
from pilotmtc.cli.options.dry_run import described, dry_run_option, put_plan_of_run
from pilotmtc.cli.options.pilots import OWN_PILOT_NAMES, own_pilot, own_pilot_options
from pilotmtc.cli.options.tasks import build_tasks, halt_option, memo_option, task_options
from pilotmtc.cli.options.types import json_option
from pilotmtc.cli.output import shapes, streams
from pilotmtc.cli.output.labels import label_of, labelled
from pilotmtc.errors import StoreError, TransportError
from pilotmtc.text.campaigns import known_words, learned_words, waits_words
from pilotmtc.text.numbers import count
from pilotmtc.text.plain import plain
from pilotmtc.text.progress import Progress, Tally
from pilotmtc.text.tables import paint
from pilotmtc.units import format_duration

if TYPE_CHECKING:
    from pilotmtc.model import Campaign, Pilot, Task
    from pilotmtc.session import Run, Session, TaskResult

_FAILURES_SHOWN = 5
_STDERR_LINES = 5
_LONGEST_HINT = 2000
_SILENT_S = 15.0  # a well pilot reports more often
_PILOT_NAMES = ("walltime", "no_pin", "any_pilot", *OWN_PILOT_NAMES)
_EXAMPLES = """\
pilotmtc run 'python work.py {}' ::: 1 2 3
seq 100000 | pilotmtc run 'echo {}'
pilotmtc run --from params.csv --cores 2 --time-limit 5m --retries 2 -- python sim.py --mass {mass} --seed {seed}
pilotmtc run --grid mass=1:10:0.5 --grid seed=0..9 -- ./sim {mass} {seed}
pilotmtc run campaign.toml
pilotmtc run --site boulder --nodes 64 --walltime 2h -- ./sim {} ::: 1 2 3
pilotmtc run --resume                 # go on with the newest campaign
pilotmtc run --json './sim {}' ::: 1 2 3 | jq .elapsed_s
"""


@command("run", examples=_EXAMPLES, context_settings={"allow_interspersed_args": False})
@click.argument(
    "words", metavar="[COMMAND... [::: VALUES...]...]", nargs=-1, type=click.UNPROCESSED, shell_complete=complete_file
)
@task_options
@halt_option
@memo_option
@own_pilot_options
@click.option(
    "--walltime", metavar="TIME",
    help="Stop after this time; what is left can be resumed. At a site: the walltime of each pilot.",
)  # fmt: skip
@click.option("--any-pilot", is_flag=True, help="Let the store's other pilots run these tasks, too.")
@click.option("--no-pin", is_flag=True, help="Do not bind tasks to their cores.")
@click.option(
    "--resume", is_flag=False, flag_value="0", metavar="[CAMPAIGN]",
    help="Continue a campaign that was interrupted  [default: the newest]",
)  # fmt: skip
@click.option("--retry-failed", is_flag=True, help="With --resume: retry what failed.")
@click.option("-k", "--keep-order", is_flag=True, help="Show outputs in the order of the tasks.")
@click.option(
    "--label/--no-label", default=None,
    help="Begin each line with its task's name, or else its parameters, and a tab  [default: with --line-buffer]",
)  # fmt: skip
@click.option("--line-buffer", is_flag=True, help="Show lines as they are written, not when their task has finished.")
@click.option("--show-stderr", is_flag=True, help="Show on stderr what tasks write to stderr, also if they are DONE.")
@click.option("-q", "--quiet", is_flag=True, help="Show failures only, without outputs and progress.")
@dry_run_option
@json_option
def run(words: tuple[str, ...], **options: Any) -> int:
    """Run tasks, here or at a site, show their output, and return when all have finished.

    A COMMAND in quotes is a shell line; several words are a program and its arguments. {placeholders} take the
    parameters: {} the value, {mass} one by name, {1} one by position. Parameters come from ::: lists, --from files and
    --grid; several of these are multiplied. Without any of them, and with a placeholder in the command, the lines of
    standard input are the values.

    What tasks print goes to stdout, task by task, as they finish. The store keeps it, too: see results, logs and tasks.
    Ctrl-C lets running tasks finish and stops; a second one kills them. Nothing is lost: --resume continues.

    The exit code is 0 if all tasks are DONE, 1 if some are not, 130 after Ctrl-C.
    """
    resume: str | None = options.pop("resume")
    retry_failed: bool = options.pop("retry_failed")
    dry_run: bool = options.pop("dry_run")
    if resume is not None and not resume.isdecimal() and not _is_campaign(resume):
        words, resume = (resume, *words), "0"  # the value is not a campaign, but the command
    quiet, as_json = options.pop("quiet"), options.pop("as_json")
    keep_order: bool = options.pop("keep_order")
    look = _look(options, quiet=quiet, as_json=as_json, keep_order=keep_order)
    any_pilot: bool = options.pop("any_pilot")
    halt: str | None = options.pop("halt")
    memo: bool = options.pop("memo")
    asked = own_pilot(options)
    if (walltime := options.pop("walltime")) is not None:
        asked["walltime"] = walltime
    asked["pin"] = not options.pop("no_pin")
    if not asked.get("scheduler"):
        asked["site"] = site_word()
    built = build_tasks(words, options)
    if built is None and resume is None:
        raise click.UsageError("there is no command to run", click.get_current_context())
    if retry_failed and resume is None:
        raise click.UsageError("--retry-failed goes with --resume", click.get_current_context())
    if dry_run:
        if built is None or resume is not None:
            raise click.UsageError(
                "--dry-run shows new tasks, not the rest of a campaign: see pilotmtc tasks", click.get_current_context()
            )
        from pilotmtc.session.submit.plan import make_plan

        put_plan_of_run(make_plan(built[0]), built[1], described(asked), built[0].options, as_json=as_json)
        return 0
    from pilotmtc.session.submit.pilot import describe

    if halt is not None:
        from pilotmtc.session.halt import parse_halt

        parse_halt(halt)
    pilot = describe(remote=store_url().startswith("ssh://"), **asked)
    with open_session(makes=resume is None, pilot=pilot) as session:
        campaign = None if resume is None else newest_campaign(session, resume if resume != "0" else None)
        tasks, name = built if built is not None else (None, "")
        size = None if tasks is None else tasks.size
        if tasks is not None:
            tasks.options = msgspec.structs.replace(tasks.options, memo=memo)
        doing = session.run(
            tasks, name=name, campaign=campaign, pilot=pilot, outputs=not quiet or as_json, keep_order=keep_order,
            live=look.live, any_pilot=any_pilot,
            retry_failed=retry_failed, halt=halt,
        )  # fmt: skip
        with Progress(size, quiet=quiet) as progress:
            show = _RunPrinter(session, doing, progress, words=words, quiet=quiet, as_json=as_json, look=look)
            return show.run()


def _is_campaign(word: str) -> bool:
    """Return whether a campaign has this name."""
    with open_session() as session:
        return any(one.name == word for one in session.campaigns())


class _Look(NamedTuple):
    """How outputs are shown."""

    label: bool
    live: bool
    stderr: bool


def _look(options: dict[str, Any], *, quiet: bool, as_json: bool, keep_order: bool) -> _Look:
    """Remove the options for how outputs are shown, and return what they say."""
    label: bool | None = options.pop("label")
    live: bool = options.pop("line_buffer")
    stderr: bool = options.pop("show_stderr")
    asked = "--label" if label else "--line-buffer" if live else "--show-stderr" if stderr else ""
    if asked and (quiet or as_json):
        other = "--quiet, which shows no outputs" if quiet else "--json, which has outputs in its records"
        raise click.UsageError(f"{asked} does not go with {other}", click.get_current_context())
    if live and keep_order:
        raise click.UsageError(
            "--line-buffer shows lines as they come, and --keep-order in the order of the tasks: choose one of them",
            click.get_current_context(),
        )
    return _Look(live if label is None else label, live, stderr)


class _RunPrinter:
    """Shows a run."""

    def __init__(
        self, session: "Session", doing: "Run", progress: Progress, *, words: Sequence[str], quiet: bool, as_json: bool,
        look: _Look,
    ) -> None:  # fmt: skip
        self._words = words
        self._session = session
        self._doing = doing
        self._progress = progress
        self._quiet = quiet
        self._json = as_json
        self._look = look
        self._stops = Stops(doing.drain, doing.cancel)
        self._broken = False
        self._ended = 0
        self._failures = 0
        self._learned = 0 if doing.campaign is None else len(doing.campaign.learned)
        self._began = time.monotonic()

    def run(self) -> int:
        """Run, and return the exit code."""
        try:
            with self._stops.handled():
                for event in self._doing.events():
                    self._tell_signals()
                    self._draw(event)
        except (StoreError, TransportError):
            if self._doing.campaign is not None:
                self._tell(_to_go_on(self._doing.campaign, self._words))
            raise
        self._progress.hide()
        return self._conclude()

    def _draw(self, event: object) -> None:
        from pilotmtc.session import Advanced, Begun, Ended, HeldElsewhere, PilotLost, PilotMoved, StoreTroubled, Wrote

        match event:
            case Begun() if not self._quiet:
                if event.shared:
                    self._tell(f"pilotmtc: any pilot of the store may run the tasks of campaign {event.campaign}")
                if event.pilot.reason and not event.pilot.description.scheduler:
                    self._tell(f"pilotmtc: pilot {event.pilot.id}: {event.pilot.reason}")
            case HeldElsewhere(pilot=pilot, tasks=tasks):
                self._tell(f"pilotmtc: {_held_words(pilot, tasks)}")
            case Advanced(campaign=campaign):
                self._write(sys.stdout.flush)
                if not self._quiet:
                    for one in campaign.learned[self._learned :]:
                        self._tell(f"pilotmtc: from now on tasks begin with {learned_words(one)}")
                self._learned = len(campaign.learned)
                self._progress.show(campaign)
            case Wrote(task=task, stream=stream, data=data):
                self._show(stream, [data], task)
            case Ended(result=result, told=told):
                self._end(result, told)
            case PilotMoved(pilot=pilot) if not self._quiet:
                self._tell(f"pilotmtc: {_queue_words(pilot)}")
            case PilotLost(pilot=pilot):
                self._tell(f"pilotmtc: pilot {pilot.id} was lost ({pilot.reason}); its tasks go on in another one")
            case StoreTroubled(trouble=""):
                self._tell("pilotmtc: the store takes results again")
            case StoreTroubled(trouble=trouble):
                self._tell(f"pilotmtc: the store takes no results, which are kept and sent again: {trouble}")

    def _end(self, result: "TaskResult", told: tuple[int, int]) -> None:
        from pilotmtc.session import output_blocks, output_text
        from pilotmtc.session.look.output import after

        self._ended += 1
        outputs = (
            ("stdout", result.stdout, result.stdout_path, result.stdout_bytes),
            ("stderr", result.stderr, result.stderr_path, result.stderr_bytes),
        )
        if self._json:
            self._progress.hide()
            texts = {
                name: output_text(kept, path, size, streams.warn) if kept else ()  # in a file, it is kept
                for name, kept, path, size in outputs
            }
            self._write(lambda: streams.put_bytes(streams.json_line(shapes.result(result), texts)))
        elif not self._quiet:
            for (name, kept, path, size), shown in zip(outputs, told, strict=True):
                if kept:
                    self._show(name, after(output_blocks(kept, path, size, streams.warn), shown), result)
        if not result.ok:
            self._failures += 1
            if self._failures <= _FAILURES_SHOWN:
                self._tell(*describe_failure(result, stderr=not self._look.stderr))
            elif self._failures == _FAILURES_SHOWN + 1:
                select = f"tasks --campaign {result.campaign} --state failed"
                self._tell(f"more failures are not shown; to see them all: {hint(select)}")

    def _show(self, stream: str, blocks: Iterable[bytes], task: "Task | TaskResult") -> None:
        """Show what a task has written to one of its streams on the same one of ours."""
        if stream == "stderr" and not self._look.stderr:
            return
        self._progress.hide()
        if self._look.label:
            blocks = labelled(blocks, label_of(task.id, task.name, task.params))
        put = streams.write_stderr if stream == "stderr" else streams.put_bytes
        self._write(lambda: put(blocks))

    def _write(self, do: Callable[[], None]) -> None:
        try:
            do()
        except BrokenPipeError:  # the reader has gone: stop as after a Ctrl-C
            streams.silence()
            self._broken = True
            self._doing.drain()

    def _tell(self, *lines: str) -> None:
        self._progress.hide()
        for line in lines:
            streams.tell(line)

    def _tell_signals(self) -> None:
        if news := self._stops.news():  # not in the handler, which may interrupt drawing
            self._tell(news)

    def _conclude(self) -> int:
        campaign = self._doing.campaign
        if campaign is None:
            streams.tell("pilotmtc: interrupted before there was a task")
            return EXIT_INTERRUPTED
        tally = Tally(campaign)
        took = format_duration(time.monotonic() - self._began)
        colour = "red" if tally.bad or self._doing.interrupted else "green"
        begin = paint(f"campaign {campaign.id}", colour, on=streams.has_colour(sys.stderr))
        if self._doing.interrupted and campaign.halted and not self._stops.signals:
            streams.tell(f"{begin}: halted after {took}, because of its failures: {tally.words(left=True)}")
            retry = hint(_again(campaign.id, "--retry-failed"))
            streams.tell(f"to go on: {hint(f'release {campaign.id}')} && {retry}")
            return EXIT_TASKS_FAILED
        if self._doing.interrupted and not self._stops.signals and any(one.failed for one in campaign.after):
            streams.tell(f"{begin}: {tally.words(left=True)}; it waits for {'; and for '.join(waits_words(campaign))}")
            retry = " && ".join([hint(f"retry -c {one.campaign}") for one in campaign.after if one.failed])
            streams.tell(f"to go on: {retry} && {hint(_again(campaign.id))}")
            return EXIT_TASKS_FAILED
        if self._doing.interrupted and not tally.complete:
            why = "its walltime was over" if self._doing.out_of_time else "interrupted"
            streams.tell(f"{begin}: {why} after {took}: {tally.words(left=True)}")
            if self._doing.out_of_time and not self._ended:
                streams.tell("no task ended in that time: if none can, ask for a longer --walltime")
            streams.tell(_to_go_on(campaign, self._words))
            if self._broken:
                return EXIT_BROKEN_PIPE
            if self._doing.out_of_time and not self._stops.signals and not self._stops.terminated:
                return EXIT_TASKS_FAILED
            return EXIT_TERMINATED if self._stops.terminated else EXIT_INTERRUPTED
        if campaign.known and not self._quiet:
            streams.tell(known_words(campaign))
        if not self._quiet or tally.bad:
            streams.tell(f"{begin}: {tally.words()} in {took}")
        if tally.failed and self._failures <= _FAILURES_SHOWN:
            again = hint(_again(campaign.id, "--retry-failed"))
            if campaign.on_hold:
                again = f"{hint(f'release {campaign.id}')} && {again}"
            streams.tell(f"to run {count(tally.failed, 'failed task')} again: {again}")
        if self._broken:
            return EXIT_BROKEN_PIPE
        return EXIT_TASKS_FAILED if tally.bad else 0


def _held_words(pilot: "Pilot", tasks: int) -> str:
    """Return what other pilot has tasks of a run that goes on."""
    import time

    silent_s = max(time.time() - (pilot.seen_at or pilot.created_at), 0.0)
    words = f"pilot {pilot.id} still has {count(tasks, 'task')} of this campaign"
    if silent_s < _SILENT_S:
        return words
    return f"{words}, and has not reported for {format_duration(silent_s)}: they run again once it is given up"


def _queue_words(pilot: "Pilot") -> str:
    """Return where in its queue a scheduler's pilot is."""
    from pilotmtc.session import never_starts

    job = f"pilot {pilot.id}{f' (job {pilot.batch})' if pilot.batch else ''}"
    if pilot.trouble:
        return f"{job}: the scheduler cannot be asked: {pilot.trouble}"
    if pilot.started_at is not None:
        return f"{job} is {pilot.state.name} with {count(pilot.nodes, 'node')} and {count(pilot.cores, 'core')}"
    never = never_starts(pilot)
    why = f": {pilot.reason}" if pilot.reason else ""
    return f"{job} waits in the queue{why}{f'; {never}' if never else ''}"


def _to_go_on(campaign: "Campaign", words: Sequence[str]) -> str:
    """Return the line that tells how to run the rest of a campaign."""
    import shlex

    if campaign.sealed or not (words or typed({"commands"})):
        return f"to go on: {hint(_again(campaign.id))}"
    names = {option.name or "" for option in run.params} - {"resume", "retry_failed"}
    given = ["run", "--resume", str(campaign.id), *typed(names), *(["--"] if words else []), *map(shlex.quote, words)]
    line = hint(" ".join(given))
    if len(line) > _LONGEST_HINT:
        line = f"{hint(f'run --resume {campaign.id}')} with the options, command and values of this run behind it"
    return f"to go on, with the same values if they came from standard input: {line}"


def _again(campaign: int, *more: str) -> str:
    """Return the command that runs a campaign again, in pilots like its own."""
    return " ".join(["run", "--resume", str(campaign), *more, *typed(_PILOT_NAMES)])


def describe_failure(result: "TaskResult", *, stderr: bool = True) -> list[str]:
    """Return the lines that report a task that did not succeed, with the last ones of its `stderr`."""
    from pilotmtc.session.look.results import last_words
    from pilotmtc.text.endings import describe_end, message_of

    params = " ".join(f"{name}={value}" if not name.isdecimal() else value for name, value in result.params.items())
    label = plain(f"{result.name}: {params}" if result.name and params else result.name or params)
    head = f"task {result.id}{f' ({label})' if label else ''} {result.state.name}: {describe_end(result)}"
    if result.elapsed_s:
        head += f" after {format_duration(result.elapsed_s)}"
    lines = [paint(head, "red", on=streams.has_colour(sys.stderr))]
    if message := message_of(result):
        lines.append(f"    {plain(message)}")
    said = last_words(result).rstrip().splitlines() if stderr else []
    lines += [f"    {plain(line)}" for line in said[-_STDERR_LINES:]]
    if result.attempt:
        lines.append(f"    more: {hint(f'logs {result.id}')}")
    return lines
