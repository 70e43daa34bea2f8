"""Bringing a store's file of an older version to the present one, with sqlite-utils."""

import sqlite3
from collections.abc import Callable

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from pilotmtc.store.file.schema.steps import NAME, STEPS, Step, identify


def migrate(connection: sqlite3.Connection, application: int, schema: int) -> None:
    """Take the steps that are missing, make the views anew, and write the file's identity."""
    migrations = Migrations(NAME)
    for step in STEPS:
        migrations(name=step.__name__)(_with_connection(step))
    database = Database(connection)
    migrations.apply(database)
    with database.atomic():
        identify(connection, application, schema)


def _with_connection(step: Step) -> Callable[[Database], None]:
    return lambda database: step(database.conn)
