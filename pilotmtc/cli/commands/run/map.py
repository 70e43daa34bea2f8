"""``pilotmtc map``."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import click

from pilotmtc.cli.command import (
    Helpful,
    command,
    hint,
    open_session,
    site_word,
    store_word,
    typed,
)
from pilotmtc.cli.commands.run.map_printer import MapPrinter
from pilotmtc.cli.options.dry_run import described, dry_run_option, put_plan_of_run
from pilotmtc.cli.options.pilots import SCHEDULER_NAMES, own_pilot, own_pilot_options
from pilotmtc.cli.options.tasks import (
    after_options,
    limit_options,
    memo_option,
    need_options,
    take_options,
    take_sources,
    value_options,
    watch_option,
)
from pilotmtc.cli.options.types import Assignment
from pilotmtc.cli.output.files import new_file
from pilotmtc.errors import UsageError
from pilotmtc.text.progress import Progress

if TYPE_CHECKING:
    from pilotmtc.executor import PilotExecutor
    from pilotmtc.executor.options import CallOptions
    from pilotmtc.executor.rows import RowCall
    from pilotmtc.parameters import Source

_LONGEST_HINT = 2000
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
@watch_option
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
@memo_option
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
        options.pop("memo")
        _put_plan(function, calls, options, plan_as_json=plan_as_json)
        return 0
    with contextlib.ExitStack() as stack:
        session = stack.enter_context(open_session(makes=True))
        pool = _pool(options, name=options.pop("name") or function)
        target = None if pickle_file is None else stack.enter_context(new_file(session, pickle_file, binary=True))
        sent = RowCalls(lambda *args, **named: pool.submit(called, *args, **named), calls, keep_order=keep_order)
        bar = stack.enter_context(Progress(rows.size, quiet=quiet))
        show = MapPrinter(session, pool, sent, bar, again=_again(function, lists, rows), quiet=quiet, keep=bool(target))
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
        task = PlannedTask(
            number, text, call.params, setup.name, setup.tags, after, setup.template.cwd, None, None, None
        )
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
            memo=options.pop("memo"),
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

    given = {option.name or "" for option in map.params} - {"resume", "site", "store"}  # `hint` knows these
    line = hint(" ".join(["map", function, "--resume", *typed(given), *[shlex.quote(word) for word in lists]]))
    if len(line) > _LONGEST_HINT:
        line = f"{hint(f'map {function} --resume')} with the options and values of this one behind it"
    return f": {line}" if rows.again else f", with the same values on standard input: {line}"
