"""What must hold in a store, as queries that find what breaks it."""

import sqlite3
from collections.abc import Iterator

from pilotmtc.store.attempt_id import ATTEMPT_BITS, LAST_ATTEMPT
from pilotmtc.store.file.checksums import damaged
from pilotmtc.store.file.large_outputs import missing

_SHOWN = 5  # of each kind of problem

# Each query answers the ids of what breaks the rule.
_RULES = (
    ("tasks in a state that does not exist", "SELECT id FROM task WHERE state NOT BETWEEN 0 AND 7"),
    ("held tasks without a pilot that is at work",
     "SELECT t.id FROM task AS t LEFT JOIN pilot AS p ON p.id = t.pilot_id "
     "WHERE t.state IN (2, 3) AND (p.state IS NULL OR p.state NOT IN (2, 3))"),
    ("tasks that were claimed or are over but never had an attempt",
     "SELECT id FROM task WHERE state IN (2, 3, 4, 5) AND attempt < 1"),
    ("DONE tasks without a recorded attempt that ended with exit code 0",
     f"SELECT t.id FROM task AS t LEFT JOIN attempt AS a ON a.id = (t.id << {ATTEMPT_BITS}) + t.attempt "
     "WHERE t.state = 4 AND (a.cause IS NOT 0 OR a.exit_code IS NOT 0)"),
    ("FAILED tasks without a recorded last attempt",
     f"SELECT t.id FROM task AS t LEFT JOIN attempt AS a ON a.id = (t.id << {ATTEMPT_BITS}) + t.attempt "
     "WHERE t.state = 5 AND a.id IS NULL"),
    ("READY or held tasks whose present attempt is recorded as ended",
     f"SELECT t.id FROM task AS t JOIN attempt AS a ON a.id = (t.id << {ATTEMPT_BITS}) + t.attempt "
     "WHERE t.state IN (2, 3)"),
    ("recorded attempts that their task never made",
     f"SELECT a.id >> {ATTEMPT_BITS} FROM attempt AS a LEFT JOIN task AS t ON t.id = a.id >> {ATTEMPT_BITS} "
     f"WHERE t.id IS NULL OR a.id & {LAST_ATTEMPT} NOT BETWEEN 1 AND t.attempt"),
    ("tasks with another attempt after the one that ended well",
     f"SELECT a.id >> {ATTEMPT_BITS} FROM attempt AS a JOIN task AS t ON t.id = a.id >> {ATTEMPT_BITS} "
     f"WHERE a.cause = 0 AND a.exit_code = 0 AND (t.state != 4 OR a.id & {LAST_ATTEMPT} != t.attempt)"),
    ("outputs without an attempt",
     f"SELECT o.id >> {ATTEMPT_BITS} FROM output AS o LEFT JOIN attempt AS a ON a.id = o.id WHERE a.id IS NULL"),
    ("WAITING tasks that count other unmet dependencies than there are",
     "SELECT t.id FROM task AS t WHERE t.state = 0 AND (t.unmet = 0 OR t.unmet != (SELECT count(*) "
     "FROM dependency AS d JOIN task AS n ON n.id = d.needs_id WHERE d.task_id = t.id AND n.state < 4))"),
    ("WAITING tasks that wait for one that did not end well",
     "SELECT t.id FROM task AS t JOIN dependency AS d ON d.task_id = t.id JOIN task AS n ON n.id = d.needs_id "
     "WHERE t.state = 0 AND d.well AND n.state IN (5, 6, 7)"),
    ("dependencies on a later task", "SELECT task_id FROM dependency WHERE needs_id >= task_id"),
    ("tasks that pause but are not READY", "SELECT id FROM task WHERE not_before IS NOT NULL AND state != 1"),
    ("tasks to be canceled that no pilot holds", "SELECT id FROM task WHERE cancel AND state NOT IN (2, 3)"),
    ("tasks outside their campaign's range",
     "SELECT t.id FROM task AS t JOIN campaign AS c ON c.id = t.campaign_id "
     "WHERE t.id NOT BETWEEN c.first_id AND c.last_id"),
    ("tasks whose values are not as many as their template's fields",
     "SELECT t.id FROM task AS t JOIN template AS m ON m.id = t.template_id "
     "WHERE coalesce(json_array_length(t.params), 0) != coalesce(json_array_length(m.body, '$.fields'), 0)"),
)  # fmt: skip
_TALLY = """SELECT campaign_id, state, sum(told), sum(there) FROM (
    SELECT campaign_id, state, n AS told, 0 AS there FROM tally
    UNION ALL SELECT campaign_id, state, 0, count(*) FROM task GROUP BY campaign_id, state)
    GROUP BY campaign_id, state HAVING sum(told) != sum(there)"""
_RECEIVED = """SELECT c.id, c.received, (SELECT count(*) FROM task AS t WHERE t.campaign_id = c.id
    AND t.id BETWEEN c.first_id AND c.last_id) AS there FROM campaign AS c WHERE c.received != there"""


def problems(connection: sqlite3.Connection, store: str) -> Iterator[str]:
    """Yield what is wrong with the file `store`, in words."""
    broken = False
    for (line,) in connection.execute("PRAGMA integrity_check(20)"):
        if line != "ok":
            broken = True
            yield f"the file is damaged: {line}"
    if broken:
        return  # the rest would only say it again in other words
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
