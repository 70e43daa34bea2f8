"""Making a store's file what this version needs, step by step; a step and its record share one transaction."""

import sqlite3
from importlib.resources import files

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from pilotmtc.store.file.views import VIEWS

migrations = Migrations("pilotmtc")


@migrations()
def m001_first_tables(database: Database) -> None:
    """Lay down the tables of schema 1."""
    script = files("pilotmtc.store.file").joinpath("schema.sql").read_text(encoding="utf-8")
    for statement in script.split("\n\n"):  # not executescript: it would commit
        if "CREATE" in statement:
            database.execute(statement)


@migrations()
def m002_schedulers(database: Database) -> None:
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
        database.execute(f"ALTER TABLE pilot ADD COLUMN {column}")
    database.execute("CREATE INDEX pilot_watched ON pilot(scheduler) WHERE watched = 1")


@migrations()
def m003_nodes(database: Database) -> None:
    """Let it be known what a pilot's nodes really have, whatever was asked for."""
    for column in ("node_cores", "node_memory_bytes"):  # of the largest; 0 as long as no agent has said it
        database.execute(f"ALTER TABLE pilot ADD COLUMN {column} INTEGER NOT NULL DEFAULT 0")


@migrations()
def m004_wishes(database: Database) -> None:
    """Keep what users want changed while it is being done, slice by slice."""
    # The oldest one is under way. When it is done its reply is in `control`.
    database.execute(
        "CREATE TABLE wish (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, request BLOB NOT NULL, "
        "progress BLOB NOT NULL)"
    )
    database.execute("CREATE TABLE revival (task_id INTEGER PRIMARY KEY)")  # that a retry has still to look at


@migrations()
def m004_own_pilots(database: Database) -> None:
    """Let campaigns be kept for pilots of their own."""
    database.execute("ALTER TABLE campaign ADD COLUMN own_pilots INTEGER NOT NULL DEFAULT 0")


@migrations()
def m004_checksums(database: Database) -> None:
    """Know by its CRC-32 what is in the files that hold what tasks wrote and did not fit into the store."""
    database.execute(
        "CREATE TABLE checksum (id INTEGER PRIMARY KEY REFERENCES attempt(id), stdout INTEGER, stderr INTEGER)"
    )


@migrations()
def m005_limits(database: Database) -> None:
    """Limit how much of a named resource all pilots together may use."""
    database.execute("CREATE TABLE resource_limit (name TEXT PRIMARY KEY, amount REAL NOT NULL) WITHOUT ROWID")


@migrations()
def m006_calls(database: Database) -> None:
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
        database.execute(statement)


def _make_views(connection: sqlite3.Connection) -> None:
    for name, query in VIEWS.items():
        connection.execute(f"DROP VIEW IF EXISTS {name}")
        connection.execute(f"CREATE VIEW {name} AS {query}")


def migrate(connection: sqlite3.Connection, application: int, schema: int) -> None:
    """Apply what is missing, make the views anew, and write the file's identity.

    The identity comes last: a file that was left half made is taken up again.
    """
    database = Database(connection)
    migrations.apply(database)
    with database.atomic():
        _make_views(connection)
        connection.execute(f"PRAGMA application_id = {application}")
        connection.execute(f"PRAGMA user_version = {schema}")
