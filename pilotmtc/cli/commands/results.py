"""``pilotmtc results``, and the writing of results for ``store export``."""

import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any

import click
import msgspec

from pilotmtc.cli.command import command, hint, newest_campaign, open_session
from pilotmtc.cli.options.selection import STATES
from pilotmtc.cli.options.types import CAMPAIGN, Number, json_option
from pilotmtc.cli.output import shapes, streams
from pilotmtc.cli.output.values import as_json
from pilotmtc.errors import PilotMTCError
from pilotmtc.text.numbers import count
from pilotmtc.text.tables import Column
from pilotmtc.units import format_duration, format_memory

if TYPE_CHECKING:
    from pilotmtc.session import TaskResult

_SHOWN = 100
_EXAMPLES = """\
pilotmtc results                       # of the newest campaign
pilotmtc results scan-* --csv > results.csv
pilotmtc results 7 --csv --state done --stdout whole
pilotmtc results 7 --json | jq 'select(.state == "DONE") | [.params.mass, .stdout]'
"""
PARTS = click.Choice(("first", "whole", "none"))
# The columns of CSV, before and after the parameters.
BEFORE = ("id", "campaign", "name")
AFTER = (
    "state", "attempt", "cause", "exit_code", "signal", "node", "started_at", "elapsed_s", "cpu_s", "memory_bytes",
    "message",
)  # fmt: skip
VALUE = "value"  # of calls; no column where a parameter has that name


@command("results", examples=_EXAMPLES)
@click.argument("campaigns", metavar="[CAMPAIGN]...", type=CAMPAIGN, nargs=-1)
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, with one column per parameter.")
@json_option
@click.option(
    "-s",
    "--state",
    "states",
    multiple=True,
    type=click.Choice(STATES[4:], False),
    help="Only tasks in this state; may be repeated.",
)
@click.option(
    "--stdout", type=PARTS, default="first", show_default=True, help="Print its first line, all of it, or nothing."
)
@click.option(
    "--stderr", type=PARTS, default="none", show_default=True, help="Print its first line, all of it, or nothing."
)
@click.option(
    "-n", "--limit", type=Number(0), metavar="N",
    help=f"Largest number of results; 0: all  [default: all; {_SHOWN} in a table]",
)  # fmt: skip
def results(campaigns: tuple[int | str, ...], as_csv: bool, as_json: bool, limit: int | None, **options: Any) -> None:
    """Print the results of the finished tasks of each CAMPAIGN (a number or name; default: the newest campaign).

    CSV and JSON are for programs, and stream: a million results need no more memory than one.
    """
    if as_csv and as_json:
        raise click.UsageError("--csv and --json exclude each other", click.get_current_context())
    table = not (as_csv or as_json)
    if limit is None:
        limit = _SHOWN if table else 0
    stdout, stderr = options["stdout"], options["stderr"]
    with open_session() as session:
        them = session.campaigns_named(*campaigns) if campaigns else (session.campaign(newest_campaign(session, None)),)
        campaign = [one.id for one in them]
        select: Any = {"campaign": campaign, "states": options["states"] or None}
        found = session.results(wait=False, outputs=(stdout, stderr) != ("none", "none"), **select)
        shown = itertools.islice(found, limit or None)
        if as_json:
            streams.put_bytes(json_lines(shown, stdout, stderr))
        elif as_csv:
            put_csv(shown, session.fields(campaign=campaign), stdout, stderr, sys.stdout)
        else:
            rows = list(shown)
            if not rows:
                left = sum(n for one in them for state, n in one.counts.items() if state.value < 4)
                of = f"campaign{'s' * (len(them) > 1)} {', '.join(map(str, campaign))}"
                are = f"{count(left, 'task')} of {of} {'has' if left == 1 else 'have'} not finished"
                streams.tell(f"no results yet: {are}" if left else "no results")
                return
            _put_table(rows, session.fields(ids=[row.id for row in rows]), stdout, stderr)
            if next(found, None) is not None:
                all_of_them = hint(f"results {' '.join(map(str, campaign))} --csv")
                streams.tell(f"there are more than {limit}: use --limit, or {all_of_them}")


def part_of(text: str, part: str) -> str:
    """Return the requested part of an output."""
    if part == "first":
        return text.split("\n", 1)[0].rstrip("\r")
    return text if part == "whole" else ""


def json_lines(found: "Iterable[TaskResult]", stdout: str, stderr: str) -> Iterator[bytes]:
    """Yield results as JSON, one object a line, in blocks: an output may be larger than memory."""
    values = _Values()
    for result in found:
        shape = shapes.result(result) | {"value": values.of(result)}
        yield from streams.json_line(shape, _texts(result, stdout, stderr))


class _Values:
    """What calls returned, as JSON. Why there is none is said once."""

    def __init__(self) -> None:
        self._told = False

    def of(self, result: "TaskResult") -> msgspec.Raw | None:
        if not result.function or not result.ok:
            return None
        try:
            said = as_json(result.value)
        except PilotMTCError as error:  # it cannot be loaded here, or must not be; there is its text
            if not self._told:
                streams.warn(str(error))
                self._told = True
            return None
        return None if said is None else msgspec.Raw(said)


def put_csv(found: "Iterable[TaskResult]", fields: Sequence[str], stdout: str, stderr: str, stream: IO[str]) -> None:
    """Write results as CSV.

    A parameter that is called like another column becomes ``params.NAME``, but one that is called ``value`` keeps its
    name.
    """
    taken = {*BEFORE, *AFTER, "stdout", "stderr"}
    names = [f"params.{field}" if field in taken or field.isdecimal() else field for field in fields]
    ends = [name for name, part in (("stdout", stdout), ("stderr", stderr)) if part != "none"]
    after = [*AFTER, *((VALUE,) if VALUE not in fields else ())]
    stream.write(",".join(map(streams.csv_cell, [*BEFORE, *names, *after, *ends])) + "\n")
    for result in found:
        shape = shapes.result(result)
        params = result.params
        cells = [
            *(shape[column] for column in BEFORE),
            *(params.get(field) for field in fields),
            *(result.value_text if column == VALUE else shape[column] for column in after),
        ]
        stream.write(",".join(map(streams.csv_cell, cells)))
        for pieces in _texts(result, stdout, stderr).values():
            if isinstance(pieces, list):
                stream.write("," + streams.csv_cell("".join(pieces)))
                continue
            stream.write(',"')
            for piece in pieces:
                stream.write(piece.replace('"', '""'))
            stream.write('"')
        stream.write("\n")


def _texts(result: "TaskResult", stdout: str, stderr: str) -> dict[str, Iterable[str]]:
    """Return the requested parts of a task's output, in pieces where they may be large."""
    from pilotmtc.session import output_text

    texts: dict[str, Iterable[str]] = {}
    for name, part, kept, path, size in (
        ("stdout", stdout, result.stdout, result.stdout_path, result.stdout_bytes),
        ("stderr", stderr, result.stderr, result.stderr_path, result.stderr_bytes),
    ):
        if part == "whole" and path is not None and len(kept) != size:
            texts[name] = output_text(kept, path, size, streams.warn)
        elif part != "none":
            texts[name] = [part_of(kept.decode("utf-8", "replace"), part)]
    return texts


def _put_table(rows: "list[TaskResult]", fields: Sequence[str], stdout: str, stderr: str) -> None:
    from pilotmtc.text.endings import describe_end

    columns = [
        Column("TASK", right=True),
        Column("NAME", optional=True, spare=1),
        *(Column(field if not field.isdecimal() else f"{{{field}}}") for field in fields),
        Column("STATE", state=True),
        Column("END"),
        Column("TIME", right=True, spare=2),
        Column("CPU", right=True, spare=4),
        Column("MEMORY", right=True, spare=3),
        Column("VALUE", optional=True),
        Column("STDOUT", optional=True),
        Column("STDERR", optional=True),
    ]
    cells = [
        (
            str(row.id),
            row.name or "",
            *(row.params.get(field, "") for field in fields),
            row.state.name,
            describe_end(row),
            format_duration(row.elapsed_s) if row.attempt else "",
            format_duration(row.cpu_s) if row.attempt else "",
            format_memory(row.memory_bytes) if row.memory_bytes else "",
            row.value_text,
            part_of(row.text, stdout),
            part_of(row.error_text, stderr),
        )
        for row in rows
    ]
    streams.put_table(columns, cells)
