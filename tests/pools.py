"""Pools of function workers for tests: one that the tests of a file share, and ones of their own."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pilotmtc import PilotExecutor, Session
from tests.support import surroundings, wait_until

RUNTIME = "XDG_RUNTIME_DIR"


class Place:
    """Where pools have their store. Tests that share it share its server."""

    def __init__(self, directory: Path, runtime: str) -> None:
        self.store = directory / "store.db"
        self.runtime = runtime

    def pool(self, max_workers: int = 2, **options: Any) -> PilotExecutor:
        """Return a new pool, which leaves soon if it is forgotten."""
        return PilotExecutor(max_workers, **{"store": self.store, "idle": "3s", **options})

    def session(self) -> Session:
        return Session(self.store)


@contextlib.contextmanager
def a_place(directory: Path) -> Iterator[Place]:
    """Give a place for pools of all tests of a file."""
    with pytest.MonkeyPatch.context() as patch, surroundings(directory, patch) as runtime:
        place = Place(directory, str(runtime))
        yield place
        with place.session() as session:
            for pilot in session.pilots:
                session.pilots.cancel(pilot.id)
            wait_until(lambda: not list(session.pilots))


def enter(place: Place, patch: pytest.MonkeyPatch) -> None:
    """Let a test find the server that the tests of its file share."""
    patch.setenv(RUNTIME, place.runtime)


def agents(place: Place) -> list[int]:
    """Return the processes of the agents of a place."""
    from tests.support import command_lines

    return [
        pid for pid, line in command_lines().items() if "pilotmtc.agent\0" in line and os.fspath(place.store) in line
    ]
