"""``pilotmtc tasks`` and ``pilotmtc task``."""

import itertools
import sys
import time
from typing import TYPE_CHECKING, Any, cast

import click

from pilotmtc.cli.command import command, hint, open_session
from pilotmtc.cli.options.selection import check_ids, filter_options, selected
from pilotmtc.cli.options.types import ID, Number, json_option
from pilotmtc.cli.output import shapes, streams
from pilotmtc.text.plain import plain
from pilotmtc.text.tables import Column, pairs
from pilotmtc.units import format_duration, format_memory

if TYPE_CHECKING:
    from pilotmtc.model import Task
    from pilotmtc.protocol.client.tasks import TaskDetail
    from pilotmtc.session import Session

_SHOWN = 100
_TRACEBACK_LINES = 20
_TASKS_EXAMPLES = """\
pilotmtc tasks --state failed
pilotmtc tasks --campaign 7 --exit 3 --limit 0
pilotmtc tasks --name 'fit-*' --tag night --json | jq .params
pilotmtc tasks 100-120
"""
_COLUMNS = (
    Column("TASK", right=True), Column("CAMPAIGN", right=True, optional=True, spare=5), Column("STATE", state=True),
    Column("ATTEMPT", right=True, spare=4), Column("END", optional=True, spare=2),
    Column("TIME", right=True, optional=True, spare=3),
    Column("MEMORY", right=True, optional=True, spare=6), Column("NAME", optional=True, spare=1), Column("COMMAND"),
)  # fmt: skip
_ATTEMPT_COLUMNS = (
    Column("ATTEMPT", right=True), Column("END"), Column("TIME", right=True), Column("CPU", right=True, spare=3),
    Column("MEMORY", right=True, spare=2), Column("STARTED", spare=4), Column("PILOT", right=True, spare=5),
    Column("NODE", spare=6), Column("CORES", spare=7), Column("VERSION", optional=True),
    Column("MESSAGE", optional=True),
)  # fmt: skip


@command("tasks", examples=_TASKS_EXAMPLES)
@filter_options
@click.option(
    "-n", "--limit", type=Number(0), metavar="N",
    help=f"No more than that; 0 is all  [default: {_SHOWN}, with --json all]",
)  # fmt: skip
@click.option("--newest", is_flag=True, help="The newest first.")
@json_option
def tasks(limit: int | None, newest: bool, as_json: bool, **options: Any) -> None:
    """List tasks: all, or those with the given IDs (17 or 17-20), limited to those that meet every condition."""
    select = selected(options)
    if limit is None:
        limit = 0 if as_json else _SHOWN
    with open_session() as session:
        check_ids(session, select)
        found = session.tasks(newest=newest, limit=limit + 1 if limit else None, **select)
        if as_json:
            for task in itertools.islice(found, limit or None):
                streams.put_json(shapes.task(task))
            return
        several = len(cast("tuple[int, ...]", select.get("campaign", ()))) != 1
        if limit == 0:  # there may be millions: one table per page
            _stream(found, several)
            return
        shown = list(itertools.islice(found, limit))
        if not shown:
            streams.tell("no such tasks")
            return
        streams.put_table(_COLUMNS, _rows(shown, several=several))
        if next(found, None) is not None:
            streams.tell(f"there are more than {limit}: use --limit")


def _stream(found: Any, several: bool) -> None:
    while page := list(itertools.islice(found, 1000)):
        streams.put_table(_COLUMNS, _rows(page, several=several))


def _rows(tasks: "list[Task]", *, several: bool) -> list[tuple[str, ...]]:
    from pilotmtc.states import TaskState
    from pilotmtc.text.endings import describe_end
    from pilotmtc.text.tasks import command_line

    now = time.time()
    rows: list[tuple[str, ...]] = []
    for task in tasks:
        last = task.last
        running = task.state is TaskState.RUNNING and task.started_at is not None
        elapsed = now - (task.started_at or now) if running else last.elapsed_s if last else None
        rows.append(
            (
                str(task.id),
                str(task.campaign) if several else "",
                f"{task.state.name}{', on hold' * task.on_hold}",
                str(task.attempt),
                "" if running or last is None else describe_end(last),
                "" if elapsed is None else format_duration(elapsed),
                format_memory(last.memory_bytes) if last and last.memory_bytes and not running else "",
                task.name or "",
                command_line(task),
            )
        )
    return rows


@command("task", examples="pilotmtc task 17\npilotmtc task 17 --json | jq .attempts\n")
@click.argument("id", type=ID)
@json_option
def task(id: int, as_json: bool) -> None:  # noqa: A002 -- click's name for the user's word
    """Show everything about the task ID: its command, what it needs, its attempts, what it waits for."""
    with open_session() as session:
        found = session.task(id)
        if as_json:
            streams.put_json(shapes.detail(found))
            return
        _put_detail(found, _traceback(session, found))


def _traceback(session: "Session", detail: "TaskDetail") -> list[str]:
    """Return the end of what a call that has failed wrote to stderr, which is its traceback."""
    from pilotmtc.states import TaskState
    from pilotmtc.text.tasks import last_lines

    task = detail.task
    assert task is not None
    if not task.function or task.state is not TaskState.FAILED or task.last is None or not task.last.stderr_bytes:
        return []
    return last_lines(session.output(task.id, whole=False).stderr, _TRACEBACK_LINES)


def _put_detail(detail: "TaskDetail", traceback: list[str]) -> None:
    from pilotmtc.text.tasks import attempt_row, detail_rows

    assert detail.task is not None
    now = time.time()
    rows = detail_rows(detail, now)
    for title, neighbours in (("comes after", detail.needs), ("comes before", detail.needed_by)):
        rows.append((title, ", ".join(f"{one.id} ({one.state.name})" for one in neighbours)))
    streams.put(pairs(rows, colour=streams.has_colour(sys.stdout)))
    if detail.attempts:
        streams.put([""])
        streams.put_table(_ATTEMPT_COLUMNS, [attempt_row(one, now) for one in detail.attempts])
        if traceback:
            streams.put(["", *map(plain, traceback)])
        streams.tell(f"what it wrote: {hint(f'logs {detail.task.id}')}")
