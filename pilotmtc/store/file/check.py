"""The rules of a store, as queries for rows that break them."""

import sqlite3
from collections.abc import Iterator

from pilotmtc.states import TASK_HELD, Cause, PilotState, TaskState
from pilotmtc.store.attempt_id import attempt_id_sql, attempt_sql, task_sql
from pilotmtc.store.file.checksums import damaged
from pilotmtc.store.file.large_outputs import missing
from pilotmtc.store.file.sql import in_states
from pilotmtc.store.file.task_status import HELD, ON_HOLD
from pilotmtc.store.file.values import wrong_values

WAITING, DONE, FAILED = TaskState.WAITING, TaskState.DONE, TaskState.FAILED
_AT_WORK = frozenset({PilotState.ACTIVE, PilotState.DRAINING})
_CURRENT = attempt_id_sql("t.id", "t.attempt")
_SHOWN = 5  # of each kind of problem

# Each query returns the ids of rows that break the rule.
_RULES = (
    ("tasks in a state that does not exist", f"SELECT id FROM task WHERE state NOT {in_states(TaskState)}"),
    ("held tasks without a pilot that is at work",
     "SELECT t.id FROM task AS t LEFT JOIN pilot AS p ON p.id = t.pilot_id "
     f"WHERE t.{HELD} AND (p.state IS NULL OR p.state NOT {in_states(_AT_WORK)})"),
    ("tasks that were claimed or are over but never had an attempt",
     f"SELECT id FROM task WHERE state {in_states(TASK_HELD | {DONE, FAILED})} AND attempt < 1"),
    ("DONE tasks without a recorded attempt that ended with exit code 0",
     f"SELECT t.id FROM task AS t LEFT JOIN attempt AS a ON a.id = {_CURRENT} "
     f"WHERE t.state = {DONE:d} AND (a.cause IS NOT {Cause.EXIT:d} OR a.exit_code IS NOT 0)"),
    ("FAILED tasks without a recorded last attempt",
     f"SELECT t.id FROM task AS t LEFT JOIN attempt AS a ON a.id = {_CURRENT} "
     f"WHERE t.state = {FAILED:d} AND a.id IS NULL"),
    ("READY or held tasks whose present attempt is recorded as ended",
     f"SELECT t.id FROM task AS t JOIN attempt AS a ON a.id = {_CURRENT} WHERE t.{HELD}"),
    ("recorded attempts that their task never made",
     f"SELECT {task_sql('a.id')} FROM attempt AS a LEFT JOIN task AS t ON t.id = {task_sql('a.id')} "
     f"WHERE t.id IS NULL OR {attempt_sql('a.id')} NOT BETWEEN 1 AND t.attempt"),
    ("tasks with another attempt after the one that ended well",
     f"SELECT {task_sql('a.id')} FROM attempt AS a JOIN task AS t ON t.id = {task_sql('a.id')} "
     f"WHERE a.cause = {Cause.EXIT:d} AND a.exit_code = 0 "
     f"AND (t.state != {DONE:d} OR {attempt_sql('a.id')} != t.attempt) "
     "AND NOT EXISTS (SELECT 1 FROM superseded AS s WHERE s.id = a.id)"),
    ("outputs without an attempt",
     f"SELECT {task_sql('o.id')} FROM output AS o LEFT JOIN attempt AS a ON a.id = o.id WHERE a.id IS NULL"),
    ("WAITING tasks that count other unmet dependencies than there are",
     f"SELECT t.id FROM task AS t WHERE t.state = {WAITING:d} AND (t.unmet = 0 OR t.unmet != (SELECT count(*) "
     f"FROM dependency AS d JOIN task AS n ON n.id = d.needs_id WHERE d.task_id = t.id AND n.state < {DONE:d}))"),
    ("WAITING tasks that wait for one that did not end well",
     "SELECT t.id FROM task AS t JOIN dependency AS d ON d.task_id = t.id JOIN task AS n ON n.id = d.needs_id "
     f"WHERE t.state = {WAITING:d} AND d.well AND n.state > {DONE:d}"),
    ("dependencies on a later task", "SELECT task_id FROM dependency WHERE needs_id >= task_id"),
    ("tasks that pause or are on hold but could not run otherwise",
     f"SELECT id FROM task WHERE not_before IS NOT NULL AND state != {TaskState.READY:d} "
     f"AND NOT (not_before = {ON_HOLD} AND state = {WAITING:d})"),
    ("tasks to be canceled that no pilot holds", f"SELECT id FROM task WHERE cancel AND NOT {HELD}"),
    ("tasks outside their campaign's range",
     "SELECT t.id FROM task AS t JOIN campaign AS c ON c.id = t.campaign_id "
     "WHERE t.id NOT BETWEEN c.first_id AND c.last_id"),
    ("tasks whose values are not as many as their template's fields",
     "SELECT t.id FROM task AS t JOIN template AS m ON m.id = t.template_id "
     "WHERE coalesce(json_array_length(t.params), 0) != coalesce(json_array_length(m.body, '$.fields'), 0)"),
    ("tasks of functions without a call, or of commands with one",
     "SELECT t.id FROM task AS t JOIN template AS m ON m.id = t.template_id LEFT JOIN call AS c ON c.task_id = t.id "
     "WHERE (json_extract(m.body, '$.function') IS NULL) != (c.task_id IS NULL)"),
    ("returned values without an attempt",
     f"SELECT {task_sql('r.id')} FROM returned AS r LEFT JOIN attempt AS a ON a.id = r.id WHERE a.id IS NULL"),
    ("returned values that their task's campaign does not keep",
     f"SELECT t.id FROM returned AS r JOIN task AS t ON t.id = {task_sql('r.id')} WHERE r.value_id IS NOT NULL "
     "AND NOT EXISTS (SELECT 1 FROM value_use AS u WHERE (u.campaign_id, u.value_id) = (t.campaign_id, r.value_id))"),
)  # fmt: skip
# Counts of tasks that are not as many as there are.
_TALLY = """SELECT campaign_id, state, sum(told), sum(there) FROM (
    SELECT campaign_id, state, n AS told, 0 AS there FROM tally
    UNION ALL SELECT campaign_id, state, 0, count(*) FROM task GROUP BY campaign_id, state)
    GROUP BY campaign_id, state HAVING sum(told) != sum(there)"""
# Campaigns that have not as many tasks as they have received.
_RECEIVED = """SELECT c.id, c.received, (SELECT count(*) FROM task AS t WHERE t.campaign_id = c.id
    AND t.id BETWEEN c.first_id AND c.last_id) AS there FROM campaign AS c WHERE c.received != there"""


def problems(connection: sqlite3.Connection, store: str) -> Iterator[str]:
    """Yield messages about what is wrong with the file `store`."""
    broken = False
    for (line,) in connection.execute("PRAGMA integrity_check(20)"):
        if line != "ok":
            broken = True
            yield f"the file is damaged: {line}"
    if broken:
        return  # the rest would only repeat it in other words
    for table, n, parent in connection.execute(
        'SELECT "table", count(*), parent FROM pragma_foreign_key_check GROUP BY 1, 3'
    ):
        yield f"{n} rows of {table} refer to a {parent} that is not there"
    for text, query in _RULES:
        found = connection.execute(query)
        ids = [str(row[0]) for row in found.fetchmany(_SHOWN)]
        if ids:
            n = len(ids) + sum(1 for _ in found)
            yield f"{n} {text}: {', '.join(ids)}{', ...' if n > _SHOWN else ''}"
    for campaign, state, told, there in connection.execute(_TALLY):
        yield f"campaign {campaign} counts {told} tasks in state {state}, but has {there}"
    for campaign, received, there in connection.execute(_RECEIVED):
        yield f"campaign {campaign} says that it has {received} tasks, but has {there}"
    yield from missing(connection, store)
    yield from damaged(connection, store)
    yield from wrong_values(connection, store)
