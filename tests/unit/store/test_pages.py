"""What it costs to go through many tasks: each page, and each slice of a change, as much as the first."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pilotmtc.clock import FakeClock
from pilotmtc.model import CampaignId, Resources
from pilotmtc.protocol.client.campaigns import Submit
from pilotmtc.protocol.client.tasks import Cancel, GetTasks
from pilotmtc.protocol.records import Comparison, Filter
from pilotmtc.store.requests.steer import steer
from pilotmtc.store.sqlite import SqliteStore
from tests.contract.storekit import ECHO, row

_EACH = 6000  # tasks of a campaign


@pytest.fixture
def store(tmp_path: Path) -> SqliteStore:
    """Three campaigns."""
    store = SqliteStore(tmp_path / "store.db", FakeClock())
    rows = tuple(row(n) for n in range(_EACH))
    for key in ("a", "b", "c"):
        store.call(Submit(key, 0, key, (ECHO,), (Resources(),), rows, True))
    return store


def steps(store: SqliteStore, do: Callable[[], object]) -> int:
    """Return how many hundreds of steps SQLite takes for it."""
    count = 0

    def step() -> int:
        nonlocal count
        count += 1
        return 0

    store._connection.set_progress_handler(step, 100)
    try:
        do()
    finally:
        store._connection.set_progress_handler(None, 0)
    return count


@pytest.mark.parametrize("newest", [False, True])
@pytest.mark.parametrize(
    "select",
    [
        Filter(campaign=CampaignId(2)),
        Filter(campaign=(CampaignId(1), CampaignId(2))),
        Filter(compare=(Comparison("id", ">", _EACH), Comparison("id", "<=", 2 * _EACH))),
    ],
)
def test_each_page_costs_as_much_as_the_first(store: SqliteStore, select: Filter, newest: bool) -> None:
    after = 0
    costs, found = [], []

    def page() -> None:
        nonlocal after
        tasks = store.call(GetTasks(select, after, 300, newest))
        found.extend([task.id for task in tasks.tasks])
        after = tasks.next

    while after or not found:
        costs.append(steps(store, page))
    first = _EACH + 1 if select.campaign != (1, 2) else 1
    expected = list(range(first, 2 * _EACH + 1))
    assert found == (expected[::-1] if newest else expected)
    assert max(costs) <= 3 * min(costs[:-1])
    store.close()


def test_each_slice_of_a_change_costs_as_much_as_the_first(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steer, "SLICE", 300)
    costs = [steps(store, lambda: store.call_many([Cancel("k", Filter(campaign=CampaignId(3)))]))]
    while store.pending_changes:
        costs.append(steps(store, store.due))
    assert len(costs) >= _EACH // 300
    assert max(costs) <= 3 * sorted(costs)[3]
    store.close()
