"""``pilotmtc results``, and the writing of results for ``store export``."""

import itertools
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any

import click
import msgspec

from pilotmtc.cli.command import command, hint, newest_campaign, open_session
from pilotmtc.cli.options.selection import STATES
from pilotmtc.cli.options.types import CAMPAIGN, Number, json_option
from pilotmtc.cli.output import shapes, streams
from pilotmtc.cli.output.values import as_json
from pilotmtc.errors import PilotMTCError, UsageError
from pilotmtc.text.numbers import count
from pilotmtc.text.tables import Column
from pilotmtc.units import format_duration, format_memory

if TYPE_CHECKING:
    from pilotmtc.session import TaskResult

_SHOWN = 100
_MOST_KEYS = 4096
_KEPT = msgspec.json.Decoder(tuple[list[str], dict[str, msgspec.Raw], list[str]])
_EXAMPLES = """\
pilotmtc results                       # of the newest campaign
pilotmtc results scan-* --csv > results.csv
pilotmtc results 7 --csv --state done --stdout whole
pilotmtc results 7 --csv --stdout json  # columns for the keys of JSON objects that tasks print
pilotmtc results 7 --json | jq 'select(.state == "DONE") | [.params.mass, .stdout]'
"""
PARTS = click.Choice(("first", "whole", "none"))
JSON = "json"
STDOUT_PARTS = click.Choice((*PARTS.choices, JSON))
# The columns of CSV, before and after the parameters.
BEFORE = ("id", "campaign", "name")
AFTER = (
    "state", "attempt", "cause", "exit_code", "signal", "node", "started_at", "elapsed_s", "cpu_s", "memory_bytes",
    "message", "version", "revision", "known_from",
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
    "--stdout", type=STDOUT_PARTS, default="first", show_default=True,
    help="Print its first line, all of it, nothing, or the keys of the JSON objects in it.",
)  # fmt: skip
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
    from pilotmtc.session.look.results import printed_by

    values = _Values()
    for result in found:
        shape = shapes.result(result) | {"value": values.of(result)}
        if stdout == JSON:
            has = printed_by(result, streams.warn)
            shape |= {"stdout": has.values, "stdout_error": has.error or None}
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
    after = [*AFTER, *((VALUE,) if VALUE not in fields else ())]
    head = [*BEFORE, *names, *after]

    def cells(result: "TaskResult") -> list[object]:
        shape = shapes.result(result)
        params = result.params
        return [
            *(shape[column] for column in BEFORE),
            *(params.get(field) for field in fields),
            *(result.value_text if column == VALUE else shape[column] for column in after),
        ]

    if stdout == JSON:
        _put_objects(found, head, cells, stderr, stream)
        return
    ends = [name for name, part in (("stdout", stdout), ("stderr", stderr)) if part != "none"]
    stream.write(",".join(map(streams.csv_cell, [*head, *ends])) + "\n")
    for result in found:
        stream.write(",".join(map(streams.csv_cell, cells(result))))
        for pieces in _texts(result, stdout, stderr).values():
            if isinstance(pieces, list):
                stream.write("," + streams.csv_cell("".join(pieces)))
                continue
            stream.write(',"')
            for piece in pieces:
                stream.write(piece.replace('"', '""'))
            stream.write('"')
        stream.write("\n")


def _put_objects(
    found: "Iterable[TaskResult]", head: Sequence[str], cells: Callable[["TaskResult"], list[object]], stderr: str,
    stream: IO[str],
) -> None:  # fmt: skip
    """Write results as CSV, with a column for each key of the JSON objects that tasks have printed.

    Which keys there are is known when all results have been read, so they wait in a file.
    """
    from pilotmtc.session.look.results import printed_by

    keys: dict[str, str] = {}  # the column of each
    taken = {*head, "stdout", "stdout_error", "stderr"}
    with tempfile.TemporaryFile() as kept:
        for result in found:
            has = printed_by(result, streams.warn)
            for key in has.values:
                if key not in keys:
                    taken.add(keys.setdefault(key, f"stdout.{key}" if key in taken else key))
            if len(keys) > _MOST_KEYS:
                raise UsageError(
                    f"tasks have printed objects with more than {_MOST_KEYS} different keys: print them with --json"
                )
            texts = ["".join(pieces) for pieces in _texts(result, "none", stderr).values()]
            row = [*map(streams.csv_cell, cells(result))], has.values, [has.error, *texts]
            kept.write(msgspec.json.encode(row) + b"\n")
        kept.seek(0)
        ends = ["stdout_error", *(["stderr"] if stderr != "none" else [])]
        stream.write(",".join(map(streams.csv_cell, [*head, *keys.values(), *ends])) + "\n")
        for line in kept:
            begin, values, end = _KEPT.decode(line)
            middle = [printed_cell(values.get(key)) for key in keys]
            stream.write(",".join([*begin, *map(streams.csv_cell, [*middle, *end])]) + "\n")


def printed_cell(raw: msgspec.Raw | None) -> str:
    """Return a value in JSON as a cell: texts are themselves, null is nothing, and all else is as it was written."""
    if raw is None or bytes(raw) == b"null":
        return ""
    value = msgspec.json.decode(raw)
    return value if isinstance(value, str) else bytes(raw).decode()


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
        elif part not in ("none", JSON):
            texts[name] = [part_of(kept.decode("utf-8", "replace"), part)]
    return texts


def _put_table(rows: "list[TaskResult]", fields: Sequence[str], stdout: str, stderr: str) -> None:
    from pilotmtc.session.look.printed import Printed
    from pilotmtc.session.look.results import printed_by
    from pilotmtc.text.endings import describe_end
    from pilotmtc.text.tasks import version_words

    versions, known = len({row.version for row in rows}) > 1, any(row.known_from for row in rows)
    has = [printed_by(row, streams.warn) if stdout == JSON else Printed() for row in rows]
    keys = list(dict.fromkeys(key for one in has for key in one.values))
    columns = [
        Column("TASK", right=True),
        Column("NAME", optional=True, spare=1),
        *(Column(field if not field.isdecimal() else f"{{{field}}}") for field in fields),
        Column("STATE", state=True),
        Column("END"),
        Column("TIME", right=True, spare=2),
        Column("CPU", right=True, spare=4),
        Column("MEMORY", right=True, spare=3),
        *([Column("VERSION")] if versions else []),
        *([Column("FROM", right=True)] if known else []),
        Column("VALUE", optional=True),
        *(Column(key) for key in keys),
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
            *([version_words(row)] if versions else []),
            *([str(row.known_from or "")] if known else []),
            row.value_text,
            *(printed_cell(one.values.get(key)) for key in keys),
            one.error if stdout == JSON else part_of(row.text, stdout),
            part_of(row.error_text, stderr),
        )
        for row, one in zip(rows, has, strict=True)
    ]
    streams.put_table(columns, cells)
