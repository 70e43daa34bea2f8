"""The campaign of ``make faults`` in short: a round of each fault. And that its count does find what is wrong."""

import secrets
import sqlite3
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from pilotmtc.protocol.client.campaigns import GetCampaigns
from pilotmtc.protocol.client.maintenance import SnapshotStore
from pilotmtc.states import TASK_FINAL
from pilotmtc.store.client.connect import connect_store
from tests.faults.campaign.faults import FAULTS, play
from tests.faults.campaign.paper import Agent
from tests.faults.campaign.work import Count, Work
from tests.support import wait_until

TASKS = 60


@pytest.mark.parametrize("name", FAULTS)
def test_round_ends_well(name: str, surroundings: Path, tmp_path: Path) -> None:
    if why := FAULTS[name].missing():
        pytest.skip(f"not here: {why}")
    directory = tmp_path / secrets.token_hex(4)  # whose name decides what happens when
    directory.mkdir()
    found = play(name, directory, surroundings, TASKS * FAULTS[name].scale, directory.name)
    assert found.well, found
    assert found.struck


@pytest.fixture
def done(tmp_path: Path, surroundings: Path) -> tuple[Work, Path]:
    """Work that was done, and a copy of the store in which it was."""
    work = Work(Random(1), TASKS, tmp_path / "ran", "count")
    with connect_store(str(tmp_path / "store.db"), patience_s=30.0) as store:
        campaign = work.submit(store)
        work.let_end()
        agent = Agent([store], work, "1")
        try:
            wait_until(lambda: set(store.call(GetCampaigns(id=campaign)).campaigns[0].counts) <= TASK_FINAL, 30.0)
        finally:
            agent.stop()
        store.call(SnapshotStore(str(tmp_path / "copy.db")))
    return work, tmp_path / "copy.db"


def counted(done: tuple[Work, Path], *changes: str) -> Count:
    """Return what the count says after `changes` to the copy, behind the back of everything that would object."""
    work, copy = done
    with closing(sqlite3.connect(copy, isolation_level=None)) as db:
        for change in changes:
            db.execute(change)
    return work.count(copy, ())


def test_count_finds_nothing_where_nothing_is_wrong(done: tuple[Work, Path]) -> None:
    assert counted(done).well


@pytest.mark.parametrize(
    ("column", "changes"),
    [
        ("lost", ["UPDATE task SET state = 1 WHERE id = (SELECT max(id) FROM task WHERE state = 4)"]),
        ("lost", ["UPDATE output SET stdout = x'' WHERE id = (SELECT max(id) FROM attempt WHERE exit_code = 0)"]),
        (
            "twice",
            [
                "CREATE TEMP TABLE more AS SELECT * FROM attempt WHERE exit_code = 0 LIMIT 1",
                "UPDATE more SET id = id + 1",
                "INSERT INTO attempt SELECT * FROM more",
            ],
        ),
        ("inconsistent", ["UPDATE tally SET n = n + 1 WHERE state = 4"]),
    ],
)
def test_count_finds_what_is_wrong(done: tuple[Work, Path], column: str, changes: list[str]) -> None:
    found = counted(done, *changes)
    assert getattr(found, column) == 1
    assert not found.well
