"""What makes a store's file, step by step; a step and its record share one transaction.

A new file is made at once by `lay_down`, which leaves what `migrations` would leave, and needs no more than sqlite3:
importing sqlite-utils takes longer than all the rest of a server's start.
"""

import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from pilotmtc.store.file.schema.views import VIEWS

Step = Callable[[sqlite3.Connection], None]
NAME = "pilotmtc"  # of the set of steps, in the table of those that were taken


def m001_first_tables(connection: sqlite3.Connection) -> None:
    """Lay down the tables of schema 1."""
    script = Path(__file__).with_name("schema.sql").read_text(encoding="utf-8")
    for statement in script.split("\n\n"):  # not executescript: it would commit
        if "CREATE" in statement:
            connection.execute(statement)


def m002_schedulers(connection: sqlite3.Connection) -> None:
    """Give pilots what is to be known of their jobs."""
    for column in (
        "scheduler TEXT NOT NULL DEFAULT ''",  # its URL; empty for a pilot that no scheduler was asked for
        "watched INTEGER NOT NULL DEFAULT 0",  # the scheduler is to be asked about it
        "submits INTEGER NOT NULL DEFAULT 0",  # how often it was given to the scheduler, or nearly
        "submitted_at REAL",
        "asked_at REAL",  # when the scheduler last answered about it
        "trouble TEXT NOT NULL DEFAULT ''",  # why it has not since
        "job INTEGER",  # its state, as the scheduler said last
        "exit_code INTEGER",
    ):
        connection.execute(f"ALTER TABLE pilot ADD COLUMN {column}")
    connection.execute("CREATE INDEX pilot_watched ON pilot(scheduler) WHERE watched = 1")


def m003_nodes(connection: sqlite3.Connection) -> None:
    """Let it be known what a pilot's nodes really have, whatever was asked for."""
    for column in ("node_cores", "node_memory_bytes"):  # of the largest; 0 as long as no agent has said it
        connection.execute(f"ALTER TABLE pilot ADD COLUMN {column} INTEGER NOT NULL DEFAULT 0")


def m004_wishes(connection: sqlite3.Connection) -> None:
    """Keep what users want changed while it is being done, slice by slice."""
    # The oldest one is under way. When it is done its reply is in `control`.
    connection.execute(
        "CREATE TABLE wish (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, request BLOB NOT NULL, "
        "progress BLOB NOT NULL)"
    )
    connection.execute("CREATE TABLE revival (task_id INTEGER PRIMARY KEY)")  # that a retry has still to look at


def m004_own_pilots(connection: sqlite3.Connection) -> None:
    """Let campaigns be kept for pilots of their own."""
    connection.execute("ALTER TABLE campaign ADD COLUMN own_pilots INTEGER NOT NULL DEFAULT 0")


def m004_checksums(connection: sqlite3.Connection) -> None:
    """Know by its CRC-32 what is in the files that hold what tasks wrote and did not fit into the store."""
    connection.execute(
        "CREATE TABLE checksum (id INTEGER PRIMARY KEY REFERENCES attempt(id), stdout INTEGER, stderr INTEGER)"
    )


def m005_limits(connection: sqlite3.Connection) -> None:
    """Limit how much of a named resource all pilots together may use."""
    connection.execute("CREATE TABLE resource_limit (name TEXT PRIMARY KEY, amount REAL NOT NULL) WITHOUT ROWID")


def m006_calls(connection: sqlite3.Connection) -> None:
    """Keep what calls of functions add to their tasks, and the values that they need and return."""
    for statement in (
        # What a task adds to the function of its template: the msgpack of a `Call`, without what is given to it.
        "CREATE TABLE call (task_id INTEGER PRIMARY KEY REFERENCES task(id), body BLOB NOT NULL)",
        # A value by its digest: small ones here, large ones in a file below the directory beside the store.
        "CREATE TABLE value (id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, size INTEGER NOT NULL, data BLOB, "
        "file TEXT, unused_since REAL)",
        "CREATE INDEX value_unused ON value(unused_since) WHERE unused_since IS NOT NULL",
        # A campaign keeps its values.
        "CREATE TABLE value_use (campaign_id INTEGER NOT NULL REFERENCES campaign(id), "
        "value_id INTEGER NOT NULL REFERENCES value(id), PRIMARY KEY (campaign_id, value_id)) WITHOUT ROWID",
        "CREATE INDEX value_use_value ON value_use(value_id)",
        # What an attempt returned or raised: `data` or, if it is large, a value; and its text for people.
        "CREATE TABLE returned (id INTEGER PRIMARY KEY REFERENCES attempt(id), data BLOB, "
        "value_id INTEGER REFERENCES value(id), text TEXT NOT NULL)",
        # Where a campaign's rows, counted from 0, have ids that follow one another: from `position` to the next one.
        "CREATE TABLE campaign_run (campaign_id INTEGER NOT NULL REFERENCES campaign(id), position INTEGER NOT NULL, "
        "first_id INTEGER NOT NULL, PRIMARY KEY (campaign_id, position)) WITHOUT ROWID",
        "INSERT INTO campaign_run SELECT id, 0, first_id FROM campaign "
        "WHERE received > 0 AND last_id - first_id + 1 = received",
    ):
        connection.execute(statement)


def m007_iterate(connection: sqlite3.Connection) -> None:
    """Let campaigns be deleted, with no number used again, and put on hold; let tasks that are DONE run again."""
    connection.execute("ALTER TABLE campaign ADD COLUMN deleted_at REAL")
    # No pilot takes its tasks: 1: a user wants it so; 2: so many have failed as the next two columns say.
    connection.execute("ALTER TABLE campaign ADD COLUMN on_hold INTEGER NOT NULL DEFAULT 0")
    connection.execute("ALTER TABLE campaign ADD COLUMN halt_failed INTEGER NOT NULL DEFAULT 0")
    connection.execute("ALTER TABLE campaign ADD COLUMN halt_share REAL NOT NULL DEFAULT 0")
    # Attempts that ended well and were followed by others, because the user wanted the task to run again.
    connection.execute("CREATE TABLE superseded (id INTEGER PRIMARY KEY REFERENCES attempt(id))")


def m008_max_running(connection: sqlite3.Connection) -> None:
    """Let campaigns have a limit of tasks that are claimed or running at once; 0: none."""
    connection.execute("ALTER TABLE campaign ADD COLUMN max_running INTEGER NOT NULL DEFAULT 0")


def m009_versions(connection: sqlite3.Connection) -> None:
    """Keep what each attempt ran, what has grown, what users have seen; let new tasks take earlier results."""
    for statement in (
        # What was seen of the programs of a campaign: revision, content of files. Each once, as templates are.
        "CREATE TABLE program (id INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, body TEXT NOT NULL)",
        # A command and its programs; program 0: nothing is known of them.
        "CREATE TABLE version (id INTEGER PRIMARY KEY, template_id INTEGER NOT NULL REFERENCES template(id), "
        "program_id INTEGER NOT NULL, UNIQUE (template_id, program_id))",
        "ALTER TABLE campaign ADD COLUMN program_id INTEGER NOT NULL DEFAULT 0",  # as seen last
        "ALTER TABLE campaign ADD COLUMN known INTEGER NOT NULL DEFAULT 0",  # tasks with the result of an earlier one
        "ALTER TABLE task ADD COLUMN version_id INTEGER",  # of its newest attempt
        "ALTER TABLE attempt ADD COLUMN version_id INTEGER",
        # Attempts that were not made, but taken from another task.
        "CREATE TABLE memo (id INTEGER PRIMARY KEY REFERENCES attempt(id), source_id INTEGER NOT NULL)",
        # What tasks needed before retries gave them more.
        "CREATE TABLE grown (task_id INTEGER PRIMARY KEY REFERENCES task(id), "
        "resources_id INTEGER NOT NULL REFERENCES resources(id))",
        # What needed attention and was marked as seen: how much of it there was, and when it was marked.
        "CREATE TABLE seen (key TEXT PRIMARY KEY, mark REAL NOT NULL, at REAL NOT NULL) WITHOUT ROWID",
    ):
        connection.execute(statement)


def m009_steering(connection: sqlite3.Connection) -> None:
    """Let campaigns wait for others, start at a rate, and keep what growth has taught; let pilots be put on hold."""
    connection.execute("ALTER TABLE campaign ADD COLUMN start_rate REAL NOT NULL DEFAULT 0")  # a second; 0: no limit
    connection.execute("ALTER TABLE campaign ADD COLUMN next_start_at REAL NOT NULL DEFAULT 0")
    connection.execute("ALTER TABLE pilot ADD COLUMN on_hold INTEGER NOT NULL DEFAULT 0")
    for statement in (
        # A campaign waits until all tasks of another are DONE; then this is met, for good.
        "CREATE TABLE campaign_after (campaign_id INTEGER NOT NULL REFERENCES campaign(id), "
        "needs_id INTEGER NOT NULL REFERENCES campaign(id), met INTEGER NOT NULL, "
        "PRIMARY KEY (campaign_id, needs_id)) WITHOUT ROWID",
        # Tasks of these resources came to have more after an attempt had lacked it: how many have been DONE since with
        # so much more (`enough`), and how many with as little as before; since `learned_at` new tasks begin with more,
        # and so do those that have not begun, up to this id if it is not all of them.
        "CREATE TABLE growth (campaign_id INTEGER NOT NULL REFERENCES campaign(id), "
        "template_id INTEGER NOT NULL REFERENCES template(id), resources_id INTEGER NOT NULL REFERENCES resources(id), "
        "grown_id INTEGER NOT NULL REFERENCES resources(id), enough INTEGER NOT NULL, less INTEGER NOT NULL, "
        "learned_at REAL, raised_to INTEGER, PRIMARY KEY (campaign_id, template_id, resources_id)) WITHOUT ROWID",
    ):
        connection.execute(statement)


STEPS: tuple[Step, ...] = (
    m001_first_tables,
    m002_schedulers,
    m003_nodes,
    m004_wishes,
    m004_own_pilots,
    m004_checksums,
    m005_limits,
    m006_calls,
    m007_iterate,
    m008_max_running,
    m009_versions,
    m009_steering,
)

# As sqlite-utils makes it.
_RECORDS = """
CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
)
""".strip()
_RECORDS_INDEX = """
CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name")
""".strip()


def _make_views(connection: sqlite3.Connection) -> None:
    for name, query in VIEWS.items():
        connection.execute(f"DROP VIEW IF EXISTS {name}")
        connection.execute(f"CREATE VIEW {name} AS {query}")


def identify(connection: sqlite3.Connection, application: int, schema: int) -> None:
    """Make the views anew and write the file's identity, which comes last: a file left half made is taken up again."""
    _make_views(connection)
    connection.execute(f"PRAGMA application_id = {application}")
    connection.execute(f"PRAGMA user_version = {schema}")


def lay_down(connection: sqlite3.Connection, application: int, schema: int) -> None:
    """Make all of an empty file, in one transaction."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(_RECORDS)
        connection.execute(_RECORDS_INDEX)
        for step in STEPS:
            step(connection)
            connection.execute(
                "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES (?, ?, ?)",
                (NAME, step.__name__, str(datetime.now(UTC))),
            )
        identify(connection, application, schema)
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
