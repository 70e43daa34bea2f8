"""The stores that the contract suite runs against."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pilotmtc.clock import FakeClock
from pilotmtc.protocol.client.maintenance import CheckStore
from pilotmtc.store.client.client import StoreClient
from pilotmtc.store.client.connect import connect_store
from pilotmtc.store.interface import Store
from pilotmtc.store.sqlite import SqliteStore
from tests.contract.storekit import Kit


@pytest.fixture(params=["sqlite", "exclusive", "server"])
def store(request: pytest.FixtureRequest, tmp_path: Path, surroundings: Path) -> Iterator[Store]:
    """A new store, itself or behind its server; what a test leaves behind must be consistent."""
    path = tmp_path / "store.db"
    opened: SqliteStore | StoreClient
    if request.param == "server":
        opened = connect_store(str(path), patience_s=30)
    else:
        opened = SqliteStore(path, exclusive=request.param == "exclusive")
    yield opened
    assert opened.call(CheckStore()).problems == ()
    opened.close()


@pytest.fixture
def kit(store: Store) -> Kit:
    return Kit(store)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def local(tmp_path: Path, clock: FakeClock) -> Iterator[SqliteStore]:
    """An SQLite store under the test's own clock."""
    opened = SqliteStore(tmp_path / "store.db", clock)
    yield opened
    assert opened.call(CheckStore()).problems == ()
    opened.close()
