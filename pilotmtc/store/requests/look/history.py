"""The past of whole campaigns, in columns: a report on a million tasks reads them all."""

import sys
from array import array
from collections.abc import Iterable
from typing import Any, TypeAlias

from pilotmtc.model import Template
from pilotmtc.protocol.client.history import (
    COLUMNS,
    GetHistory,
    GetLinks,
    GetWorkload,
    History,
    Links,
    WorkKind,
    Workload,
)
from pilotmtc.store.attempt_id import ATTEMPT_BITS, LAST_ATTEMPT, attempt_id, attempt_sql, task_sql
from pilotmtc.store.file.sql import IN_LIST, id_list
from pilotmtc.store.file.transaction import TASK_STATES, Transaction
from pilotmtc.store.requests.handlers import handles

_LOOK_S = 0.02  # after this time, the rest is left to the next page
_WINDOW = 4_096  # ids of tasks that are looked at together
_MOST_ROWS = 20_000
_COMMAND_CHARS = 200
# What comes after the ids is in the order of `COLUMNS`.
_ROWS = f"""SELECT a.id, t.campaign_id, t.state, t.attempt = {attempt_sql("a.id")}, a.cause,
    coalesce(a.exit_code, a.signal, 0), a.pilot_id, a.node, a.slot, coalesce(t.name, ''), coalesce(t.tags, ''),
    t.template_id, t.resources_id, a.started_at, a.elapsed_s, a.cpu_s, a.memory_bytes, a.recorded_at
    FROM attempt AS a CROSS JOIN task AS t ON t.id = {task_sql("a.id")} WHERE a.id >= ? AND a.id < ?
    AND NOT EXISTS (SELECT 1 FROM memo AS m WHERE m.id = a.id)"""
_OF_CAMPAIGNS = f"{_ROWS} AND t.campaign_id {IN_LIST} ORDER BY a.id"
_OF_PILOTS = f"{_ROWS} AND a.pilot_id {IN_LIST} AND t.campaign_id NOT {IN_LIST} ORDER BY a.id"
_RANGE = f"SELECT min(first_id), max(last_id) FROM campaign WHERE id {IN_LIST}"
_WORK = """SELECT id, template_id, resources_id, state, priority, failures FROM task
    WHERE id BETWEEN ? AND ? AND campaign_id = ? ORDER BY id"""
_LINKS = """SELECT task_id, needs_id, well FROM dependency INDEXED BY dependency_task
    WHERE (task_id, needs_id) > (?, ?) AND task_id <= ? ORDER BY task_id, needs_id LIMIT ?"""
_TEXTS = frozenset({"node", "slot", "name", "tags"})

Row = tuple[Any, ...]
Column: TypeAlias = "array[Any]"


@handles(GetHistory)
def get_history(tx: Transaction, request: GetHistory) -> History:
    """Return a page of attempts."""
    begin, end = 1, tx.caches.next_task - 1
    if not request.pilots:
        first, last = tx.execute(_RANGE, (id_list(request.campaigns),)).fetchone()
        begin, end = first or 1, min(end, last or 0)
    rows: list[Row] = []
    edge = max(begin, request.after + 1)
    until = tx.clock.monotonic() + _LOOK_S
    while edge <= end:
        between = (attempt_id(edge, 0), attempt_id(edge + _WINDOW, 0))
        if request.pilots:
            rows += tx.execute(_OF_PILOTS, (*between, id_list(request.pilots), id_list(request.campaigns)))
        else:
            rows += tx.execute(_OF_CAMPAIGNS, (*between, id_list(request.campaigns)))
        edge += _WINDOW
        if len(rows) >= _MOST_ROWS or tx.clock.monotonic() >= until:
            break
    columns, texts = _columns(rows)
    commands = {id_: _command(tx.caches.templates.get(id_)) for id_ in set(columns["template"])}
    resources = {id_: tx.caches.resources.get(id_) for id_ in set(columns["resources"])}
    return History(
        now=tx.clock.now(),
        next=edge - 1 if edge <= end else 0,
        columns=tuple([_packed(columns[name]) for name, _ in COLUMNS]),
        texts=tuple(texts),
        commands=commands,
        resources=resources,
    )


def _columns(rows: list[Row]) -> tuple[dict[str, Column], list[str]]:
    """Return arrays for rows of `_ROWS`, and the texts that they are indexes into."""
    numbers = {"": 0}
    values: list[Iterable[Any]] = [[row[0] >> ATTEMPT_BITS for row in rows], [row[0] & LAST_ATTEMPT for row in rows]]
    values += list(zip(*rows, strict=True))[1:] or [()] * (len(COLUMNS) - 2)
    columns: dict[str, Column] = {}
    for (name, code), column in zip(COLUMNS, values, strict=True):
        if name in _TEXTS:
            columns[name] = array(code, [numbers.setdefault(text, len(numbers)) for text in column])
        else:
            columns[name] = array(code, column)
    return columns, list(numbers)


def _packed(column: Column) -> bytes:
    if sys.byteorder == "big":
        column.byteswap()
    return column.tobytes()


def _command(template: Template) -> str:
    return " ".join(template.command)[:_COMMAND_CHARS]


@handles(GetWorkload)
def get_workload(tx: Transaction, request: GetWorkload) -> Workload:
    """Return a page of tasks: what they are and how they stand."""
    first, last = tx.execute(_RANGE, (id_list((request.campaign,)),)).fetchone()
    edge, end = max(first or 1, request.after + 1), last or 0
    numbers: dict[Row, int] = {}
    tasks: Column = array("q")
    kind: Column = array("i")
    until = tx.clock.monotonic() + _LOOK_S
    while edge <= end:
        for task, *one in tx.execute(_WORK, (edge, edge + _WINDOW - 1, request.campaign)):
            tasks.append(task)
            kind.append(numbers.setdefault(tuple(one), len(numbers)))
        edge += _WINDOW
        if len(tasks) >= _MOST_ROWS or tx.clock.monotonic() >= until:
            break
    return Workload(
        tuple([WorkKind(template, need, TASK_STATES[state], *rest) for template, need, state, *rest in numbers]),
        _packed(tasks),
        _packed(kind),
        edge - 1 if edge <= end else 0,
        {template: _of_retries(tx.caches.templates.get(template)) for template in {one[0] for one in numbers}},
        {need: tx.caches.resources.get(need) for need in {one[1] for one in numbers}},
    )


def _of_retries(template: Template) -> Template:
    """Return what a plan needs of a template."""
    return Template(
        (_command(template),), max_retries=template.max_retries, backoff_s=template.backoff_s,
        retry_on=template.retry_on, no_retry_on=template.no_retry_on, retry_memory=template.retry_memory,
        max_memory_bytes=template.max_memory_bytes, retry_time=template.retry_time,
    )  # fmt: skip


@handles(GetLinks)
def get_links(tx: Transaction, request: GetLinks) -> Links:
    """Return a page of dependencies."""
    if not tx.caches.has_dependencies:
        return Links()
    first, last = tx.execute(_RANGE, (id_list((request.campaign,)),)).fetchone()
    after = max((first or 1, 0), request.after)
    rows = tx.execute(_LINKS, (*after, last or 0, _MOST_ROWS)).fetchall()
    columns = zip(*rows, strict=True) if rows else ((), (), ())
    tasks, needs, well = [_packed(array(code, column)) for code, column in zip("qqb", columns, strict=True)]
    return Links(tasks, needs, well, len(rows) == _MOST_ROWS)
