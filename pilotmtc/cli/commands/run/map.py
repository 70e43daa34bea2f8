"""``pilotmtc map``."""

import concurrent.futures
import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import click

from pilotmtc.cli.command import (
    EXIT_BROKEN_PIPE,
    EXIT_INTERRUPTED,
    EXIT_TASKS_FAILED,
    EXIT_TERMINATED,
    Helpful,
    command,
    hint,
    open_session,
    site_word,
    store_word,
    typed,
)
from pilotmtc.cli.interrupts import Stops
from pilotmtc.cli.options.dry_run import described, dry_run_option, put_plan_of_run
from pilotmtc.cli.options.pilots import SCHEDULER_NAMES, own_pilot, own_pilot_options
from pilotmtc.cli.options.tasks import (
    after_options,
    limit_options,
    need_options,
    take_options,
    take_sources,
    value_options,
)
from pilotmtc.cli.options.types import Assignment
from pilotmtc.cli.output import streams
from pilotmtc.cli.output.files import new_file
from pilotmtc.cli.output.values import as_json
from pilotmtc.errors import PilotMTCError, TaskFailed, UsageError
from pilotmtc.text.numbers import count
from pilotmtc.text.plain import plain
from pilotmtc.text.progress import Progress, Tally
from pilotmtc.text.tables import paint
from pilotmtc.units import format_duration

if TYPE_CHECKING:
    from pilotmtc.executor import PilotExecutor, PilotFuture
    from pilotmtc.executor.options import CallOptions
    from pilotmtc.executor.rows import RowCall, RowCalls
    from pilotmtc.parameters import Source
    from pilotmtc.session import Session

_FAILURES_SHOWN = 5
_ERROR_LINES = 5
_LONGEST_HINT = 2000
_LOOK_S = 0.1
_EXAMPLES = """\
pilotmtc map work:simulate --from params.csv > results.jsonl
pilotmtc map work:simulate --grid mass=1:10:0.5 --grid seed=0..9 -j 8 --retries 2
pilotmtc map work:simulate --site boulder --nodes 16 --walltime 1h --from params.csv --pickle results.pickle
pilotmtc map math:sqrt ::: 1 2 3
pilotmtc map work:simulate --from params.csv --resume     # go on where it stopped
"""


class _Map(Helpful):
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the command line; what is behind ``:::`` is no option, as -1 could be."""
        at = args.index(":::") if ":::" in args else len(args)
        return super().parse_args(ctx, args if "--" in args[:at] else [*args[:at], "--", *args[at:]])


@command("map", kind=_Map, examples=_EXAMPLES)
@click.argument("function", metavar="MODULE:FUNCTION")
@click.argument("lists", metavar="[::: VALUES...]...", nargs=-1, type=click.UNPROCESSED)
@value_options
@click.option("--as-text", is_flag=True, help="Leave all values texts, also those that are written as numbers.")
@need_options
@limit_options
@click.option(
    "--env", "env", multiple=True, metavar="NAME=VALUE", type=Assignment("variable"),
    help="Environment variable of the workers.",
)  # fmt: skip
@click.option("--cwd", type=click.Path(), metavar="DIR", help="Directory of the workers  [default: the current one]")
@click.option("--name", metavar="NAME", help="Name of the campaign  [default: MODULE:FUNCTION]")
@click.option("--task-name", metavar="NAME", help="Name of the tasks.")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="Tag of the tasks.")
@after_options
@click.option("--python", metavar="PATH", help="Python of the workers  [default: this one; at a site, pilotmtc's]")
@click.option(
    "--ship", multiple=True, metavar="MODULE",
    help="Send this module along, as workers cannot import it; those outside of site-packages are sent in any case.",
)  # fmt: skip
@own_pilot_options
@click.option("--walltime", metavar="TIME", help="Walltime of each pilot; when it is over, another one takes over.")
@click.option("--any-pilot", is_flag=True, help="Let the store's other pilots make these calls, too.")
@click.option("--no-pin", is_flag=True, help="Do not bind calls to their cores.")
@click.option(
    "--resume", is_flag=True,
    help="Go on with the newest campaign of that name: calls that have returned are not made again.",
)  # fmt: skip
@click.option("-k", "--keep-order", is_flag=True, help="Print results in the order of the rows.")
@click.option("--pickle", "pickle_file", type=click.Path(), metavar="FILE", help="Also write all results to this file.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress, and nothing at the end if all went well.")
@dry_run_option
@click.option("--json", "plan_as_json", is_flag=True, help="Print JSON with --dry-run; results are JSON in any case.")
def map(function: str, lists: tuple[str, ...], **options: Any) -> int:  # noqa: A001 -- the user's word
    """Call a Python function for each row of values, here or at a site, and print what it returns.

    MODULE is imported as Python would do it in the current directory. The columns of --from files and the axes of
    --grid are parameters of the function, by their names; values without a name, as those of ::: and of the lines of
    standard input, are arguments by their places. A value that is written as a whole number, such as 3, is an int; as
    a decimal number, such as 2.5 or 1e-3, a float; anything else is a text. So is all that is for a parameter which
    is annotated as str.

    Each result is a line of JSON: {"id": 7, "params": {"mass": 1.5}, "value": 2.25}. A value that JSON cannot say has
    its "repr" instead, and a call that failed its "error". With --pickle the values themselves are in FILE, as a list
    of such records.

    Ctrl-C lets running calls finish and stops; a second one kills them. Nothing is lost: --resume goes on.

    The exit code is 0 if all calls have returned, 1 if some have not, 130 after Ctrl-C.
    """
    from pilotmtc.executor.named import Parameters, find_function
    from pilotmtc.executor.pickling.records import dump_records
    from pilotmtc.executor.rows import RowCalls, calls_of
    from pilotmtc.session.submit.command_line import rows_of

    rows = rows_of(lists, *take_sources(options))
    called = find_function(function)
    taken = Parameters(called, function, rows.fields)
    quiet = options.pop("quiet")
    keep_order, pickle_file = options.pop("keep_order"), options.pop("pickle_file")
    if pickle_file == "-":
        raise click.UsageError("--pickle - would mix with the lines of JSON: name a file", click.get_current_context())
    calls = calls_of(rows, taken, as_text=options.pop("as_text"))
    plan_as_json: bool = options.pop("plan_as_json")
    if options.pop("dry_run"):
        _put_plan(function, calls, options, plan_as_json=plan_as_json)
        return 0
    with contextlib.ExitStack() as stack:
        session = stack.enter_context(open_session(makes=True))
        pool = _pool(options, name=options.pop("name") or function)
        target = None if pickle_file is None else stack.enter_context(new_file(session, pickle_file, binary=True))
        sent = RowCalls(lambda *args, **named: pool.submit(called, *args, **named), calls, keep_order=keep_order)
        bar = stack.enter_context(Progress(rows.size, quiet=quiet))
        show = _MapPrinter(
            session, pool, sent, bar, again=_again(function, lists, rows), quiet=quiet, keep=bool(target)
        )
        code = show.run()
        if target is not None:
            target.write(dump_records(show.records))
        return code


def _put_plan(function: str, calls: "Iterator[RowCall]", options: dict[str, Any], *, plan_as_json: bool) -> None:
    """Write which calls would be made."""
    from collections import deque

    from pilotmtc.executor.options import read_call
    from pilotmtc.executor.texts import arguments
    from pilotmtc.session.submit.plan import SHOWN, Plan, PlannedNeeds, PlannedTask

    pilot = own_pilot(options)
    if (walltime := options.pop("walltime")) is not None:
        pilot["walltime"] = walltime
    if not pilot.get("scheduler"):
        pilot["site"] = site_word()
    name = options.pop("name") or function
    setup = read_call(cast("CallOptions", take_options(options)), here=site_word() == "local")
    first: list[PlannedTask] = []
    last: deque[PlannedTask] = deque(maxlen=SHOWN)
    number = 0
    after = tuple([str(one.task) for one in setup.after])
    for number, call in enumerate(calls, 1):
        text = f"{function.rpartition(':')[2]}({arguments(call.args, call.kwargs)})"
        params = {key: str(value) for key, value in call.params.items()}
        task = PlannedTask(number, text, params, setup.name, setup.tags, after, setup.template.cwd, None, None, None)
        (first if len(first) < SHOWN else last).append(task)
    if not number:
        raise UsageError("there are no calls: the source of values is empty")
    needs = (PlannedNeeds(setup.resources, number),)
    plan = Plan(number, tuple(first), tuple(last), needs, ())
    put_plan_of_run(plan, name, described(pilot), as_json=plan_as_json)


def _pool(options: dict[str, Any], name: str) -> "PilotExecutor":
    """Return a pool as the options say, which are removed."""
    from pilotmtc.executor import PilotExecutor

    pilot = own_pilot(options)
    more: Any = {key if key in SCHEDULER_NAMES else f"pilot_{key}": value for key, value in pilot.items()}
    ship = options.pop("ship")
    try:
        return PilotExecutor(
            store=store_word(),
            site=site_word(),
            name=name,
            resume=options.pop("resume"),
            pilots="any" if options.pop("any_pilot") else "own",
            python=options.pop("python"),
            ship=list(ship) or None,
            progress=False,
            walltime=options.pop("walltime"),
            pin=not options.pop("no_pin"),
            **more,
            **take_options(options),
        )
    except UsageError as error:
        if error.__cause__ is None and isinstance(error.__context__, UsageError):  # in words of the command line
            raise error.__context__ from None
        raise


def _again(function: str, lists: Sequence[str], rows: "Source") -> str:
    """Return the end of a sentence: the command that goes on."""
    import shlex

    given = {option.name or "" for option in map.params} - {"resume"}
    line = hint(" ".join(["map", function, "--resume", *typed(given), *[shlex.quote(word) for word in lists]]))
    if len(line) > _LONGEST_HINT:
        line = f"{hint(f'map {function} --resume')} with the options and values of this one behind it"
    return f": {line}" if rows.again else f", with the same values on standard input: {line}"


class _MapPrinter:
    """Prints what calls return as they end, or in their order."""

    def __init__(
        self, session: "Session", pool: "PilotExecutor", calls: "RowCalls", progress: Progress, *, again: str,
        quiet: bool, keep: bool,
    ) -> None:  # fmt: skip
        self.records: list[dict[str, Any]] = []
        self._session = session
        self._pool = pool
        self._calls = calls
        self._progress = progress
        self._again = again
        self._quiet = quiet
        self._keep = keep
        self._asked = 0  # 1: drain, 2: cancel
        self._obeyed = 0
        self._stops = Stops(self._drain, self._cancel)
        self._broken = False
        self._counts = {"DONE": 0, "FAILED": 0, "CANCELED": 0}
        self._began = self._shown_at = time.monotonic()

    def _drain(self) -> None:
        self._asked = max(self._asked, 1)

    def _cancel(self) -> None:
        self._asked = 2

    def run(self) -> int:
        """Have the calls made, and return the exit code."""
        try:
            with self._stops.handled():
                self._calls.start()
                while not self._calls.finished:
                    self._obey()
                    ended = self._calls.take(_LOOK_S)
                    if ended is not None:
                        self._end(*ended)
                    self._show(idle=ended is None)
        except KeyboardInterrupt:
            self._leave_at_once()
        except BaseException:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._cancel_calls()
            raise
        self._progress.hide()
        self._pool.shutdown()
        return self._conclude()

    def _leave_at_once(self) -> None:
        """End this process without waiting for what the pool still does, as the third Ctrl-C asks."""
        self._progress.hide()
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os._exit(EXIT_INTERRUPTED)

    def _obey(self) -> None:
        if news := self._stops.news():  # not in the handler, which may interrupt drawing
            self._tell(news)
        if self._asked > self._obeyed:
            self._obeyed = self._asked
            self._calls.drain()
            self._cancel_calls(None if self._asked > 1 else ("waiting", "ready", "claimed"))

    def _cancel_calls(self, states: tuple[str, ...] | None = None) -> None:
        """Cancel the calls that the store has, of which it alone knows which ones run."""
        if self._pool.campaign is not None:
            self._session.cancel(campaign=self._pool.campaign, states=states)

    def _end(self, call: "RowCall", future: "PilotFuture[Any]") -> None:
        if future.cancelled():
            return
        error = future.exception()
        if isinstance(error, concurrent.futures.BrokenExecutor):
            raise error.__cause__ if isinstance(error.__cause__, PilotMTCError) else TaskFailed(str(error))
        if self._asked and isinstance(error, TaskFailed) and error.cause == "CANCELED":
            return
        record: dict[str, Any] = {"id": future.task_id, "params": call.params}
        if error is None:
            self._counts["DONE"] += 1
            value = future.result()
            said = as_json(value)
            kept, line = {"value": value}, {"value": said} if said is not None else {"repr": _json(_repr(value))}
        else:
            self._counts["FAILED"] += 1
            kept, line = {"error": error}, {"error": _json(_words(error))}
        if self._keep:
            self.records.append(record | kept)
        self._put(record, line)
        if error is not None:
            self._tell_failure(future, error)

    def _put(self, record: dict[str, Any], more: dict[str, bytes]) -> None:
        ((name, said),) = more.items()
        line = b'{"id":%d,"params":%b,"%b":%b}\n' % (record["id"] or 0, _json(record["params"]), name.encode(), said)
        self._progress.hide()
        self._write(lambda: streams.put_bytes((line,)))

    def _tell_failure(self, future: "PilotFuture[Any]", error: BaseException) -> None:
        failures = self._counts["FAILED"]
        if failures == _FAILURES_SHOWN + 1:
            select = f"tasks --campaign {self._pool.campaign} --state failed"
            self._tell(f"more failures are not shown; to see them all: {hint(select)}")
        if failures > _FAILURES_SHOWN:
            return
        if isinstance(error, TaskFailed):
            said, *lines = str(error).removeprefix(f"{future.call} (task {future.task_id})").lstrip(": ").splitlines()
        else:  # the last line of the traceback is what the error says
            said = _words(error).splitlines()[0]
            lines = str(error.__cause__ or "").strip('"\n').splitlines()[1:-1]
        head = f"task {future.task_id} ({plain(future.call)}) FAILED: {plain(said)}"
        self._tell(
            paint(head, "red", on=streams.has_colour(sys.stderr)),
            *[f"    {plain(line)}" for line in lines[-_ERROR_LINES:]],
            f"    more: {hint(f'logs {future.task_id}')}",
        )

    def _write(self, do: Callable[[], None]) -> None:
        try:
            do()
        except BrokenPipeError:  # the reader has gone: stop as after a Ctrl-C
            streams.silence()
            self._broken = True
            self._drain()

    def _tell(self, *lines: str) -> None:
        self._progress.hide()
        for line in lines:
            streams.tell(line)

    def _show(self, *, idle: bool) -> None:
        now = time.monotonic()
        if idle or now - self._shown_at >= _LOOK_S or self._calls.finished:
            self._shown_at = now
            self._write(sys.stdout.flush)
            self._progress.show(self._campaign())

    def _campaign(self) -> Any:
        from pilotmtc.model import Campaign, CampaignId
        from pilotmtc.states import TaskState

        counts = {TaskState[name]: n for name, n in self._counts.items() if n}
        number = self._pool.campaign or CampaignId(0)
        return Campaign(number, "", "", 0.0, self._calls.sent, self._calls.all_sent, counts)

    def _conclude(self) -> int:
        if not self._calls.sent:
            if self._asked:
                streams.tell("pilotmtc: interrupted before there was a call")
                return EXIT_TERMINATED if self._stops.terminated else EXIT_INTERRUPTED
            raise UsageError("there are no calls: the source of parameters is empty")
        tally = Tally(self._campaign())
        took = format_duration(time.monotonic() - self._began)
        colour = "red" if tally.bad or self._asked else "green"
        begin = paint(f"campaign {self._pool.campaign}", colour, on=streams.has_colour(sys.stderr))
        if self._asked:
            streams.tell(f"{begin}: interrupted after {took}: {tally.words(left=True)}")
            streams.tell(f"to go on{self._again}")
            if self._broken:
                return EXIT_BROKEN_PIPE
            return EXIT_TERMINATED if self._stops.terminated else EXIT_INTERRUPTED
        if not self._quiet or tally.bad:
            streams.tell(f"{begin}: {tally.words()} in {took}")
        if tally.failed:
            streams.tell(f"to make {count(tally.failed, 'failed call')} again{self._again}")
        return EXIT_TASKS_FAILED if tally.bad else 0


def _json(value: object) -> bytes:
    """Return as JSON what JSON can say."""
    said = as_json(value)
    return said if said is not None else _json(repr(value).encode("ascii", "backslashreplace").decode())


def _repr(value: object) -> str:
    try:
        return repr(value)
    except Exception as error:  # noqa: BLE001 -- a user's class may raise anything
        return f"<{type(value).__name__}, whose repr raises {type(error).__name__}>"


def _words(error: BaseException) -> str:
    """Return what an error says in one text, as ``ValueError: bad x``."""
    if isinstance(error, PilotMTCError):
        return str(error)
    import traceback

    return "".join(traceback.format_exception_only(error)).strip()
