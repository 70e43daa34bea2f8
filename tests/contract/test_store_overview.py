"""The overview and its like: what faces ask at a glance."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from pilotmtc.clock import FakeClock
from pilotmtc.errors import UsageError
from pilotmtc.model import After, CampaignId, PilotDescription, PilotId, Resources, TaskId, TaskRow
from pilotmtc.protocol.agent import EndPilot, Finish, Heartbeat, Started
from pilotmtc.protocol.client.campaigns import Submit
from pilotmtc.protocol.client.pilots import CreatePilot, DrainPilot, GetPilotFile, GetPilotView, GetSpans
from pilotmtc.protocol.client.tasks import Explain, GetTasks, GetWords
from pilotmtc.protocol.client.watch import GetOverview
from pilotmtc.protocol.records import Comparison, Filter, NodeState
from pilotmtc.states import Cause, PilotState, TaskState
from pilotmtc.store.sqlite import SqliteStore
from tests.contract.storekit import ECHO, Kit, result, row

S = TaskState


def test_an_overview_tells_all_at_first_and_then_only_what_is_new(kit: Kit) -> None:
    empty = kit.store.call(GetOverview())
    assert (empty.whole, empty.pilots, empty.campaigns, empty.tasks) == (True, (), (), {})
    again = kit.store.call(GetOverview(since=empty.seq))
    assert (again.seq, again.whole) == (empty.seq, False)
    campaign = kit.submit(row(1), row(2)).campaign
    pilot = kit.pilot()
    news = kit.store.call(GetOverview(since=empty.seq))
    assert ([one.id for one in news.campaigns], [one.id for one in news.pilots]) == ([campaign], [pilot])
    assert (news.whole, news.tasks) == (False, {S.READY: 2})
    one, _ = kit.claim(pilot)
    kit.finish(pilot, one, code=3)
    later = kit.store.call(GetOverview(since=news.seq))
    assert later.seq > news.seq
    assert (later.pilots, later.campaigns[0].counts) == ((), {S.CLAIMED: 1, S.FAILED: 1})
    assert [(pace.id, pace.ended, pace.failed) for pace in later.campaign_paces] == [(campaign, 1, 1)]
    assert [(pace.id, pace.ended, pace.failed) for pace in later.pilot_paces] == [(pilot, 1, 1)]
    assert sum(later.series.ended) == 1
    assert later.failures is not None
    (group,) = later.failures
    assert (group.campaign, group.cause, group.exit_code, group.count, group.task) == (
        campaign,
        Cause.EXIT,
        3,
        1,
        one.task,
    )
    quiet = kit.store.call(GetOverview(since=later.seq))
    assert (quiet.seq, quiet.failures) == (later.seq, None)
    assert kit.store.call(GetOverview(since=12345)).whole


def test_a_heartbeat_is_news_only_if_something_else_than_its_time_has_changed(kit: Kit) -> None:
    pilot = kit.pilot()
    kit.store.call(Heartbeat(pilot, busy=3))
    first = kit.store.call(GetOverview())
    kit.store.call(Heartbeat(pilot, busy=3))
    assert kit.store.call(GetOverview(since=first.seq)).seq == first.seq
    kit.store.call(Heartbeat(pilot, busy=4))
    assert [one.busy for one in kit.store.call(GetOverview(since=first.seq)).pilots] == [4]


def test_retried_failures_are_no_longer_told(local: SqliteStore, clock: FakeClock) -> None:
    kit = Kit(local)
    kit.submit(row(1))
    pilot = kit.pilot()
    (one,) = kit.claim(pilot)
    kit.finish(pilot, one, code=3)
    first = local.call(GetOverview())
    assert first.failures
    kit.retry(1)
    clock.advance(10)
    assert local.call(GetOverview(since=first.seq)).failures == ()


def test_a_failure_after_a_retry_is_told_even_if_nobody_looked_meanwhile(local: SqliteStore, clock: FakeClock) -> None:
    kit = Kit(local)
    kit.submit(row(1))
    pilot = kit.pilot()
    kit.finish(pilot, *kit.claim(pilot), code=3)
    first = local.call(GetOverview())
    assert first.failures
    clock.advance(10)
    kit.retry(1)
    kit.finish(pilot, *kit.claim(pilot), code=3)
    (group,) = local.call(GetOverview(since=first.seq)).failures or ()
    assert group.newest_at > first.failures[0].newest_at


def test_utilisation_is_the_mean_of_what_heartbeats_said(local: SqliteStore, clock: FakeClock) -> None:
    kit = Kit(local)
    pilot = kit.pilot()  # 64 cores
    local.call(Heartbeat(pilot, busy=64))
    clock.advance(8)
    series = local.call(GetOverview()).series
    assert series.busy[-4:-1] == (64, 64, 64)
    local.call(EndPilot(pilot, PilotState.DONE))
    clock.advance(8)
    assert local.call(GetOverview()).series.cores[-4:-1] == (0, 0, 0)


def test_explain_tells_of_blockers_pilots_and_order(kit: Kit) -> None:
    kit.submit(row(1), row(2, priority=5), row(3, after=[After(TaskId(1))]))
    pilot = kit.pilot()
    found = kit.store.call(Explain(TaskId(1)))
    assert found.task is not None
    assert (found.ahead, [one.id for one in found.pilots], found.blockers) == (1, [pilot], ())
    waiting = kit.store.call(Explain(TaskId(3)))
    assert [one.id for one in waiting.blockers] == [1]
    assert kit.store.call(Explain(TaskId(99))).task is None
    kit.store.call(EndPilot(pilot, PilotState.DONE))
    assert kit.store.call(Explain(TaskId(1))).pilots == ()


def test_a_pilot_view_tells_where_its_tasks_run_and_what_became_of_it(kit: Kit) -> None:
    kit.submit(row(1), row(2))
    pilot = kit.pilot()
    one, two = kit.claim(pilot)
    kit.start(pilot, one)
    nodes = (NodeState("n1", 64, 1, 0, 0.5, 1 << 30, 1 << 20),)
    kit.store.call(Heartbeat(pilot, busy=1, nodes=nodes))
    view = kit.store.call(GetPilotView(pilot))
    assert view.pilot is not None
    assert view.nodes == nodes
    assert [(task.task, task.started_at > 0) for task in view.tasks] == [(one.task, True), (two.task, False)]
    kit.finish(pilot, one)
    assert [task.task for task in kit.store.call(GetPilotView(pilot)).tasks] == [two.task]
    kit.store.call(DrainPilot(pilot))
    kit.store.call(EndPilot(pilot, PilotState.DONE, "walltime"))
    view = kit.store.call(GetPilotView(pilot))
    said = "\n".join(words for _, words in view.events)
    assert "attached" in said
    assert "told to drain" in said
    assert "DRAINING to DONE: walltime" in said
    assert (view.tasks, view.nodes) == ((), ())
    assert kit.store.call(GetPilotView(PilotId(99))).pilot is None


def test_spans_of_a_pilot_come_in_pages_newest_first_and_are_all_there(kit: Kit) -> None:
    kit.submit(*[row(n) for n in range(30)])
    pilot, other = kit.pilot(), kit.pilot()
    kit.finish(other, *kit.claim(other, 10))
    kit.finish(pilot, *kit.claim(pilot, 20))
    found: list[int] = []
    before = 0
    while True:
        page = kit.store.call(GetSpans(pilot, before, 7))
        found += [span.task for span in page.spans]
        if not page.next:
            break
        before = page.next
    assert found == list(range(30, 10, -1))


def test_spans_since_an_answer_are_those_of_what_has_ended_since_old_tasks_too(kit: Kit) -> None:
    kit.submit(row(1), row(2), row(3))
    pilot, other = kit.pilot(), kit.pilot()
    one, two, three = kit.claim(pilot)
    kit.start(pilot, one, two, three)
    kit.finish(pilot, two, code=3)
    first = kit.store.call(GetSpans(pilot))
    assert ([span.task for span in first.spans], first.reset) == ([2], True)
    quiet = kit.store.call(GetSpans(pilot, since=first.seq))
    assert (quiet.spans, quiet.seq, quiet.reset) == ((), first.seq, False)
    kit.finish(pilot, three, cause=Cause.NODE_LOST)  # it goes back to those that are ready
    kit.finish(pilot, one)
    kit.retry(2)
    (again,) = kit.claim(other, 1)
    kit.finish(other, again)
    news = kit.store.call(GetSpans(pilot, since=quiet.seq))
    assert not news.reset
    # The second was retried: that its first attempt is told once more does no harm.
    assert {(span.task, span.attempt, span.cause) for span in news.spans} - {(2, 1, Cause.EXIT)} == {
        (1, 1, Cause.EXIT),
        (3, 1, Cause.NODE_LOST),
    }
    assert kit.store.call(GetSpans(pilot, since=news.seq)).spans == ()
    assert kit.store.call(GetSpans(pilot, since=12345)).reset


def test_words_for_filters_are_those_of_the_tasks(kit: Kit) -> None:
    kit.store.call(Submit("k", 0, "c", (ECHO,), (Resources(),), (TaskRow(0, 0, ("1",), 0, None, ("night",)),), True))
    words = kit.store.call(GetWords())
    assert (words.params, words.tags) == (("x",), ("night",))


@pytest.fixture
def many(kit: Kit) -> Kit:
    """Ten tasks, x from 1 to 10, of which the first three are over: after 1.5 s, with 1 MiB, the third badly."""
    kit.submit(*[row(n, priority=n % 3) for n in range(1, 11)])
    pilot = kit.pilot()
    first = {task.task: task for task in kit.claim(pilot)}
    kit.finish(pilot, first[TaskId(1)], first[TaskId(2)])
    kit.finish(pilot, first[TaskId(3)], code=3)
    kit.start(pilot, first[TaskId(4)])
    return kit


@pytest.mark.parametrize(
    ("compare", "ids"),
    [
        ((Comparison("params.x", ">", 8.0),), [9, 10]),
        ((Comparison("params.x", "=", 10.0),), [10]),
        ((Comparison("params.x", "=", "1*"),), [1, 10]),
        ((Comparison("params.x", "!=", "1*"), Comparison("id", "<", 4.0)), [2, 3]),
        ((Comparison("id", ">=", 4.0), Comparison("id", "<=", 6.0)), [4, 5, 6]),
        ((Comparison("elapsed_s", "=", 1.5),), [1, 2, 3]),
        ((Comparison("elapsed_s", ">", 100.0),), [4]),
        ((Comparison("memory_bytes", "<", float(2 << 20)),), [1, 2, 3]),
        ((Comparison("priority", ">", 1.0),), [2, 5, 8]),
        ((Comparison("attempt", ">=", 1.0), Comparison("priority", "=", 0.0)), [3, 6, 9]),
    ],
)
def test_comparisons_find_exactly_what_they_say(many: Kit, compare: tuple[Comparison, ...], ids: list[int]) -> None:
    assert [task.id for task in many.store.call(GetTasks(Filter(compare=compare))).tasks] == ids


@pytest.mark.parametrize(
    "compare",
    [
        Comparison("params.mas", ">", 1.0),
        Comparison("weight", ">", 1.0),
        Comparison("id", "~", 1.0),
        Comparison("id", "=", "one"),
    ],
)
def test_comparisons_that_mean_nothing_are_refused_with_what_there_is(many: Kit, compare: Comparison) -> None:
    with pytest.raises(UsageError):
        many.store.call(GetTasks(Filter(compare=(compare,))))


def test_the_largest_come_first(many: Kit) -> None:
    found = many.store.call(GetTasks(largest="priority", limit=4))
    assert [task.id for task in found.tasks] == [2, 5, 8, 1]
    with pytest.raises(UsageError, match="cannot be sorted"):
        many.store.call(GetTasks(largest="colour"))


def test_the_longest_are_all_tasks_running_ones_by_their_time_so_far_and_those_without_a_time_last(many: Kit) -> None:
    found = many.store.call(GetTasks(largest="elapsed_s"))
    assert [task.id for task in found.tasks] == [4, 1, 2, 3, 5, 6, 7, 8, 9, 10]
    most = many.store.call(GetTasks(largest="cpu_s"))
    assert [task.id for task in most.tasks] == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    assert [task.id for task in many.store.call(GetTasks(largest="elapsed_s", limit=2)).tasks] == [4, 1]


def test_a_task_that_is_being_tried_again_is_as_long_as_it_now_runs(local: SqliteStore, clock: FakeClock) -> None:
    kit = Kit(local)
    kit.submit(row(1), row(2))
    pilot = kit.pilot()
    one, two = kit.claim(pilot)
    kit.finish(pilot, two, code=3)
    kit.finish(pilot, one, cause=Cause.NODE_LOST)  # it goes back to those that are ready
    (again,) = kit.claim(pilot)
    local.call(Started(pilot, ((again.task, again.attempt, clock.now() - 1.0, "n1", "0"),)))
    assert [task.id for task in local.call(GetTasks(largest="elapsed_s")).tasks] == [2, 1]
    clock.advance(1)
    assert [task.id for task in local.call(GetTasks(largest="elapsed_s")).tasks] == [1, 2]


class _Ticking(FakeClock):
    """A clock on which every look takes a second."""

    def monotonic(self) -> float:
        self.advance(1.0)
        return super().monotonic()


def test_a_page_gives_up_in_time_and_the_next_one_goes_on(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "slow.db", _Ticking(), lease_s=1e9)
    kit = Kit(store)
    for n in range(5):
        kit.submit(*[row(n) for n in range(2_000)], key=f"k{n}")
    seen, pages, after = [], 0, 0
    while True:
        page = store.call(GetTasks(Filter(compare=(Comparison("params.x", "=", 1999.0),)), after))
        seen += [task.id for task in page.tasks]
        pages += 1
        if not page.next:
            break
        after = page.next
    assert seen == [2_000, 4_000, 6_000, 8_000, 10_000]
    assert pages > 2
    back, after = [], 0
    while True:
        page = store.call(GetTasks(Filter(compare=(Comparison("params.x", "=", 1999.0),)), after, newest=True))
        back += [task.id for task in page.tasks]
        if not page.next:
            break
        after = page.next
    assert back == seen[::-1]
    store.close()


def test_files_of_a_pilot_are_read_in_its_directory_and_nowhere_else(kit: Kit, tmp_path: Path) -> None:
    directory = tmp_path / "p"
    directory.mkdir()
    (directory / "agent.log").write_text("a" * 100 + "the end")
    (directory / "out").symlink_to("/etc/passwd")
    pilot = kit.store.call(CreatePilot("k", PilotDescription(), str(directory))).pilots[0].id
    found = kit.store.call(GetPilotFile(pilot, "agent.log", 7))
    assert (found.data, found.size, found.trouble) == (b"the end", 107, "")
    assert "No such file" in kit.store.call(GetPilotFile(pilot, "nothing")).trouble
    assert kit.store.call(GetPilotFile(pilot, "out")).trouble
    for name in ("../store.db", "/etc/passwd", "", "a/../../x"):
        with pytest.raises(UsageError, match="no file in a pilot's directory"):
            kit.store.call(GetPilotFile(pilot, name))
    with pytest.raises(UsageError, match="no pilot"):
        kit.store.call(GetPilotFile(PilotId(99), "agent.log"))
    assert kit.store.call(GetPilotFile(kit.pilot(), "agent.log")).trouble


def test_campaign_bound_questions_know_campaigns(kit: Kit) -> None:
    with pytest.raises(UsageError, match="no campaign"):
        kit.store.call(GetTasks(Filter(campaign=CampaignId(9), compare=(Comparison("id", ">", 0.0),))))


def test_a_pilot_that_beats_is_not_silent_and_one_that_does_not_is_news_and_so_is_its_return(
    local: SqliteStore, clock: FakeClock
) -> None:
    kit = Kit(local)
    pilot = kit.pilot()
    first = local.call(GetOverview())
    for _ in range(30):
        clock.advance(20)
        local.call(Heartbeat(pilot))
        local.due()
    local.take_wakeup()
    quiet = local.call(GetOverview(since=first.seq))
    assert (quiet.seq, quiet.pilots, quiet.silent) == (first.seq, (), ())
    heard_at = clock.now()
    pause_s = 0.0
    for _ in range(20):  # as the server does
        clock.advance(pause_s)
        pause_s = local.due()
        if local.take_wakeup().changed:
            break
    assert clock.now() - heard_at == pytest.approx(45, abs=1)
    told = local.call(GetOverview(since=first.seq))
    assert told.seq != first.seq
    assert (told.silent, [one.seen_at for one in told.pilots]) == ((pilot,), [heard_at])
    assert local.call(GetOverview(since=told.seq)).seq == told.seq
    assert not local.take_wakeup().changed
    local.call(Heartbeat(pilot))
    assert local.take_wakeup().changed
    back = local.call(GetOverview(since=told.seq))
    assert (back.silent, [one.seen_at for one in back.pilots]) == ((), [clock.now()])
    assert back.seq != told.seq


def test_only_attempts_that_failed_by_themselves_are_a_pilots_failures(kit: Kit) -> None:
    kit.submit(*[row(n) for n in range(5)])
    pilot = kit.pilot()
    one, two, three, four, five = kit.claim(pilot)
    kit.start(pilot, five)
    kit.finish(pilot, one)
    kit.finish(pilot, two, code=3)
    kit.finish(pilot, three, cause=Cause.TIMEOUT)
    kit.finish(pilot, four, cause=Cause.NODE_LOST)
    kit.store.call(EndPilot(pilot, PilotState.CANCELED))
    (pace,) = kit.store.call(GetOverview()).pilot_paces
    assert (pace.ended, pace.failed) == (5, 2)


def test_an_answer_without_news_repeats_no_past(kit: Kit) -> None:
    first = kit.store.call(GetOverview())
    assert first.series.ended
    assert kit.store.call(GetOverview(since=first.seq)).series.ended == ()


def test_a_new_server_knows_what_was_going_on(tmp_path: Path, clock: FakeClock) -> None:
    store = SqliteStore(tmp_path / "again.db", clock)
    kit = Kit(store)
    kit.submit(row(1))
    pilot = kit.pilot()
    (task,) = kit.claim(pilot)
    kit.start(pilot, task)
    store.call(Heartbeat(pilot, busy=7))
    store.close()
    store = SqliteStore(tmp_path / "again.db", clock)
    clock.advance(8)
    found = store.call(GetOverview())
    assert set(found.series.busy) == {7}
    clock.advance(92)
    kit.store = store
    kit.finish(pilot, task)
    (pace,) = store.call(GetOverview()).campaign_paces
    assert pace.lately == pytest.approx(0.01, rel=0.1)  # counting began before it ended
    store.close()


def test_a_signal_finds_those_that_it_killed(kit: Kit) -> None:
    kit.submit(row(1), row(2), row(3))
    pilot = kit.pilot()
    hup, interrupt, other = kit.claim(pilot)
    for task, number in ((hup, 1), (interrupt, 2)):
        kit.store.call(Finish(pilot, (replace(result(task, cause=Cause.SIGNAL), signal=number),)))
    kit.finish(pilot, other, code=2)
    found = kit.store.call(GetTasks(Filter(compare=(Comparison("signal", "=", 2.0),))))
    assert [task.id for task in found.tasks] == [interrupt.task]
