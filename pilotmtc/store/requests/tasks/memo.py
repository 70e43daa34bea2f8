"""Taking the results of earlier tasks for new ones that would run the same.

The same are a command, its variables, directory and files, the values, and the content of the program files; of a call
its function's code, initializer and arguments. What retries and how much output is kept makes no difference, nor do
resources.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from pilotmtc.model import Call, CampaignId, Program, TaskRow, Template
from pilotmtc.states import TaskState
from pilotmtc.store.attempt_id import attempt_id, attempt_id_sql
from pilotmtc.store.file.sql import IN_LIST, id_list
from pilotmtc.store.file.transaction import Transaction
from pilotmtc.store.requests.calls import identity_of
from pilotmtc.store.requests.programs import program_of
from pilotmtc.template import own_numbers
from pilotmtc.template.programs import files_of

_json = msgspec.json.Encoder().encode
_decode_call = msgspec.msgpack.Decoder(Call).decode
# Made when it is first asked for: tasks of stores that never do are spared it.
_INDEX = f"CREATE INDEX IF NOT EXISTS task_known ON task(template_id, params) WHERE state = {TaskState.DONE:d}"
_VERSIONS = "SELECT id, template_id, program_id FROM version"
# The newest task for each of a list of values.
_FIND = f"""SELECT wanted.key, max(t.id), t.attempt, t.version_id FROM json_each(?) AS same
    CROSS JOIN json_each(?) AS wanted CROSS JOIN task AS t INDEXED BY task_known
    ON t.template_id = same.value AND t.params IS wanted.value
    WHERE t.state = {TaskState.DONE:d} AND t.version_id {IN_LIST} GROUP BY wanted.key"""
_MOST_CALLS = 100_000  # that people see as one, and that are told apart by what they are
# The newest first of those that people see as one of a list of calls, and whose values are still there.
_FIND_CALLS = f"""SELECT t.id, t.attempt, t.version_id, c.body FROM json_each(?) AS same
    CROSS JOIN json_each(?) AS wanted CROSS JOIN task AS t INDEXED BY task_known
    ON t.template_id = same.value AND t.params IS wanted.value
    CROSS JOIN call AS c ON c.task_id = t.id
    CROSS JOIN returned AS r ON r.id = {attempt_id_sql("t.id", "t.attempt")}
    WHERE t.state = {TaskState.DONE:d} AND t.version_id {IN_LIST} AND coalesce(r.data, r.value_id) IS NOT NULL
    ORDER BY t.id DESC LIMIT {_MOST_CALLS}"""
# An output that is in a file of the store, or that was deleted, cannot be taken.
_COPY = """INSERT INTO attempt SELECT ?1, cause, exit_code, signal, pilot_id, node, slot, started_at, elapsed_s, cpu_s,
    memory_bytes, stdout_bytes, stderr_bytes, stdout_path, stderr_path, message, recorded_at, version_id
    FROM attempt AS a LEFT JOIN output AS o ON o.id = a.id WHERE a.id = ?2
    AND iif(a.stdout_path IS NULL, a.stdout_bytes = 0 OR o.id IS NOT NULL, substr(a.stdout_path, 1, 1) = '/')
    AND iif(a.stderr_path IS NULL, a.stderr_bytes = 0 OR o.id IS NOT NULL, substr(a.stderr_path, 1, 1) = '/')"""
_COPY_OUTPUT = "INSERT INTO output SELECT ?, stdout, stderr FROM output WHERE id = ?"
_COPY_VALUE = "INSERT INTO returned SELECT ?, data, value_id, text FROM returned WHERE id = ?"
# Large values that attempts have returned are kept for their campaign, too.
_USE_VALUES = f"""INSERT OR IGNORE INTO value_use SELECT DISTINCT ?, value_id FROM returned
    WHERE id {IN_LIST} AND value_id IS NOT NULL"""
_ARE_USED = f"""UPDATE value SET unused_since = NULL WHERE unused_since IS NOT NULL
    AND id IN (SELECT value_id FROM returned WHERE id {IN_LIST} AND value_id IS NOT NULL)"""
_NOTE = "INSERT INTO memo VALUES (?, ?)"
_END = "UPDATE task SET attempt = 1, version_id = ? WHERE id = ?"
_COUNT = "UPDATE campaign SET known = known + ? WHERE id = ?"


class Known(NamedTuple):
    """A new task's first attempt, the one whose result it takes, and what that ran."""

    attempt: int
    source: int
    version: int


def take_known(
    tx: Transaction, campaign: CampaignId, templates: Sequence[Template], rows: Sequence[TaskRow], first: int
) -> dict[int, Known]:
    """Copy the attempts of earlier tasks that ran the same as new ones; return these by their ids, from `first` on.

    Tasks that wait for others are not known: what they read may be another.
    """
    tx.execute(_INDEX)
    program = program_of(tx, campaign) or Program()
    places: dict[int, list[int]] = {}
    for at, row in enumerate(rows):
        if not row.after:
            places.setdefault(row.template, []).append(at)
    found: dict[int, Known] = {}
    for index, some in places.items():
        template = templates[index]
        if own_numbers(template):  # another task is given others
            continue
        versions = _same(tx, template, program)
        if versions and template.function is not None:
            found |= _find_calls(tx, versions, rows, some, first)
        elif versions:
            wanted = [_json(rows[at].params).decode() if rows[at].params else None for at in some]
            same = id_list(set(versions.values())), _json(wanted).decode(), id_list(versions)
            for key, task, attempt, version in tx.execute(_FIND, same).fetchall():
                id_ = first + some[key]
                found[id_] = Known(attempt_id(id_, 1), attempt_id(task, attempt), version)
    return {id_: one for id_, one in found.items() if tx.execute(_COPY, (one.attempt, one.source)).rowcount}


def _find_calls(
    tx: Transaction, versions: dict[int, int], rows: Sequence[TaskRow], some: Sequence[int], first: int
) -> dict[int, Known]:
    """Return the earlier ones of new calls: those that people see as the same, and that have the same arguments."""
    wanted = {_json(rows[at].params).decode() if rows[at].params else None for at in some}
    same = id_list(set(versions.values())), _json(list(wanted)).decode(), id_list(versions)
    newest: dict[bytes, tuple[int, int]] = {}
    for task, attempt, version, body in tx.execute(_FIND_CALLS, same):
        newest.setdefault(identity_of(_decode_call(body)), (attempt_id(task, attempt), version))
    found = {}
    for at in some:
        call = rows[at].call
        if call is not None and (source := newest.get(identity_of(call))) is not None:
            id_ = first + at
            found[id_] = Known(attempt_id(id_, 1), *source)
    return found


def _same(tx: Transaction, template: Template, program: Program) -> dict[int, int]:
    """Return the versions that run the same as `template` with `program` does, with their templates."""
    wanted, files = _essence(template), files_of(template, program)
    found = {}
    for version, other, seen in tx.execute(_VERSIONS).fetchall():
        ran = tx.caches.templates.get(other)
        if ran.command == template.command and _essence(ran) == wanted:
            before = tx.caches.programs.get(seen) if seen else Program()
            if "" not in files.values() and files_of(ran, before) == files:
                found[version] = other
    return found


def _essence(template: Template) -> Template:
    """Return the part of a template that results depend on."""
    usual = Template(())
    function = template.function
    if function is not None and function.identity:
        function = replace(function, code="", setup="")
    return replace(
        template, max_retries=0, backoff_s=0.0, max_output_bytes=usual.max_output_bytes, retry_on=(), no_retry_on=(),
        retry_memory=1.0, max_memory_bytes=0, retry_time=1.0, function=function,
    )  # fmt: skip


def end_known(tx: Transaction, campaign: CampaignId, known: Iterable[tuple[int, Known]]) -> None:
    """Complete what `take_known` began, when the tasks are in the file."""
    them = list(known)
    tx.executemany(_COPY_OUTPUT, [(one.attempt, one.source) for _, one in them])
    tx.executemany(_COPY_VALUE, [(one.attempt, one.source) for _, one in them])
    copies = id_list([one.attempt for _, one in them])
    tx.execute(_USE_VALUES, (campaign, copies))
    tx.execute(_ARE_USED, (copies,))
    tx.executemany(_NOTE, [(one.attempt, one.source) for _, one in them])
    tx.executemany(_END, [(one.version, id_) for id_, one in them])
    tx.execute(_COUNT, (len(them), campaign))
