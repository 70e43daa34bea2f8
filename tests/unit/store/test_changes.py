"""The feed of changes: numbered, cut to what watchers ask for, and forgotten in the end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotmtc.states import TaskState
from pilotmtc.store.attempt_id import attempt_id
from pilotmtc.store.live import changes as changes_module
from pilotmtc.store.live.changes import ChangeFeed

RUN = st.tuples(st.integers(1, 2), st.sampled_from(TaskState), st.integers(1, 9))
COMMITS = st.lists(st.tuples(st.lists(RUN, max_size=4), st.booleans()), max_size=12)


@given(COMMITS, st.data())
def test_feed_gives_what_was_committed_after_a_number_in_order(
    commits: list[tuple[list[tuple[int, TaskState, int]], bool]], data: st.DataObject
) -> None:
    feed = ChangeFeed(100)
    all_: list[tuple[int, tuple[int, TaskState, int]]] = []  # campaign and change
    for runs, is_kept in commits:
        mark = feed.mark()
        for campaign, state, n in runs:
            tasks = range(len(all_) + 1, len(all_) + 1 + n)
            feed.add(campaign, state, [attempt_id(task, n) for task in tasks])
            if is_kept:
                all_ += [(campaign, (task, state, n)) for task in tasks]
        if not is_kept:
            feed.rewind(mark)
        feed.commit()
    assert (feed.first_seq, feed.seq) == (100, 100 + len(all_))
    since = data.draw(st.integers(100, feed.seq))
    limit = data.draw(st.integers(1, 20))
    asked = data.draw(st.sampled_from([None, 1, 2]))
    found = []
    seq = since
    while seq < feed.seq:
        seq, more = feed.since(seq, asked, limit)
        assert len(more) <= limit
        found += more
    assert found == [change for campaign, change in all_[since - 100 :] if asked in (None, campaign)]


def test_changes_are_seen_in_their_transaction_and_gone_if_they_are_undone() -> None:
    feed = ChangeFeed(0)
    feed.add(1, TaskState.READY, [attempt_id(1, 0)])
    feed.commit()
    feed.add(1, TaskState.DONE, [attempt_id(1, 1)])
    assert feed.since(1, 1, 10) == (2, [(1, TaskState.DONE, 1)])
    feed.rewind(0)
    assert feed.since(1, 1, 10) == (1, [])
    assert (feed.first_seq, feed.seq) == (0, 1)


@pytest.mark.parametrize("run", [1, 7, 50])
def test_feed_forgets_the_oldest_changes_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch, run: int) -> None:
    monkeypatch.setattr(changes_module, "KEPT", 20)
    monkeypatch.setattr(changes_module, "_LONGEST_RUN", 8)
    feed = ChangeFeed(0)
    for first in range(1, 1000, run):
        feed.add(1, TaskState.READY, [attempt_id(task, 0) for task in range(first, first + run)])
        feed.commit()
    assert 20 <= feed.seq - feed.first_seq <= 20 + 8
    assert feed.since(feed.seq - 20, None, 1)[1][0][0] == feed.seq - 19
