"""Leases, pauses and what else is due by the clock."""

from pathlib import Path

from pilotmtc.clock import FakeClock
from pilotmtc.model import Resources, Template
from pilotmtc.protocol.client.campaigns import Submit
from pilotmtc.protocol.client.pilots import CancelPilot, GetPilots
from pilotmtc.protocol.client.tasks import GetTask
from pilotmtc.protocol.client.watch import GetChanges
from pilotmtc.states import Cause, PilotState, TaskState
from pilotmtc.store.sqlite import SqliteStore
from tests.contract.storekit import ECHO, Kit, row

S = TaskState


def test_a_silent_pilot_fails_and_its_tasks_go_back(local: SqliteStore, clock: FakeClock) -> None:
    kit = Kit(local)
    kit.submit(row(1), row(2))
    pilot = kit.pilot()
    (running, _) = kit.claim(pilot)
    kit.start(pilot, running)
    clock.advance(59)
    local.due()
    assert kit.state(1) is S.RUNNING
    local.take_wakeup()
    clock.advance(2)
    local.due()
    (gone,) = local.call(GetPilots(pilot)).pilots
    assert (gone.state, gone.reason) == (PilotState.FAILED, "no heartbeat")
    assert [kit.state(1), kit.state(2)] == [S.READY, S.READY]
    assert [a.cause for a in local.call(GetTask(running.task)).attempts] == [Cause.PILOT_LOST]
    assert local.take_wakeup().ready


def test_any_word_of_a_pilot_renews_its_lease(local: SqliteStore, clock: FakeClock) -> None:
    kit = Kit(local)
    pilot = kit.pilot()
    for act in (kit.beat, kit.claim, kit.finish, kit.start, kit.release, kit.beat):
        clock.advance(50)
        local.due()
        act(pilot)
    assert local.call(GetPilots(pilot)).pilots[0].state is PilotState.ACTIVE


def test_anything_that_comes_from_an_agent_renews_its_lease(local: SqliteStore, clock: FakeClock) -> None:
    pilot = Kit(local).pilot()
    for _ in range(3):
        clock.advance(50)
        local.heard(pilot, 20)  # a part of a message that has not come as a whole, say
        local.due()
    assert local.call(GetPilots(pilot)).pilots[0].state is PilotState.ACTIVE
    local.heard(pilot, 500)  # what was heard long ago changes nothing
    clock.advance(39)
    local.due()
    assert local.call(GetPilots(pilot)).pilots[0].state is PilotState.ACTIVE
    clock.advance(2)
    local.due()
    local.heard(pilot, 0)  # too late
    local.due()
    assert local.call(GetPilots(pilot)).pilots[0].state is PilotState.FAILED


def test_time_in_which_the_store_could_hear_nobody_does_not_count(local: SqliteStore, clock: FakeClock) -> None:
    pilot = Kit(local).pilot()
    clock.advance(59)
    clock.advance(10)
    assert not local.extend_leases(10)
    local.due()
    clock.advance(2)
    local.due()
    assert local.call(GetPilots(pilot)).pilots[0].state is PilotState.FAILED


def test_leases_start_anew_after_the_store_could_hear_nobody_for_long(local: SqliteStore, clock: FakeClock) -> None:
    pilot = Kit(local).pilot()
    clock.advance(59)
    clock.advance(7200)
    assert local.extend_leases(7200)
    clock.advance(59)  # which agents have to come back
    local.due()
    assert local.call(GetPilots(pilot)).pilots[0].state is PilotState.ACTIVE
    clock.advance(2)
    local.due()
    assert local.call(GetPilots(pilot)).pilots[0].state is PilotState.FAILED


def test_a_jump_of_the_wall_clock_loses_no_pilot(local: SqliteStore, clock: FakeClock) -> None:
    pilot = Kit(local).pilot()
    clock.jump(86400)
    local.due()
    assert local.call(GetPilots(pilot)).pilots[0].state is PilotState.ACTIVE


def test_leases_start_anew_with_the_server(tmp_path: Path, clock: FakeClock) -> None:
    store = SqliteStore(tmp_path / "s.db", clock)
    pilot = Kit(store).pilot()
    store.close()
    clock.advance(1000)
    store = SqliteStore(tmp_path / "s.db", clock)
    store.due()
    assert store.call(GetPilots(pilot)).pilots[0].state is PilotState.ACTIVE
    clock.advance(61)
    store.due()
    assert store.call(GetPilots(pilot)).pilots[0].state is PilotState.FAILED
    store.close()


def test_a_canceled_pilot_that_falls_silent_is_canceled(local: SqliteStore, clock: FakeClock) -> None:
    pilot = Kit(local).pilot()
    local.call(CancelPilot(pilot))
    clock.advance(61)
    local.due()
    assert local.call(GetPilots(pilot)).pilots[0].state is PilotState.CANCELED


def test_pauses_before_retries_double(local: SqliteStore, clock: FakeClock) -> None:
    kit = Kit(local)
    kit.submit(row(1), template=Template(("x",), fields=("x",), max_retries=9, backoff_s=4.0))
    pilot = kit.pilot()
    for pause in (4.0, 8.0, 16.0):
        kit.finish(pilot, *kit.claim(pilot), code=1)
        assert kit.claim(pilot) == ()
        assert local.due() == min(10.0, pause)
        clock.advance(pause - 0.5)
        local.due()
        kit.beat(pilot)
        assert kit.claim(pilot) == ()
        clock.advance(0.5)
        local.take_wakeup()
        assert local.due() > 0
        assert local.take_wakeup().ready


def test_due_is_called_again_in_time(local: SqliteStore, clock: FakeClock) -> None:
    assert local.due() == 10.0
    Kit(local).pilot()
    clock.advance(57)
    assert local.due() == 3.0


def test_nap_ends_with_the_next_deadline_as_soon_as_there_is_one(local: SqliteStore) -> None:
    kit = Kit(local)
    assert local.due() == local.nap() == 10.0
    kit.submit(row(1), template=Template(("x",), fields=("x",), max_retries=1, backoff_s=0.125))
    pilot = kit.pilot()
    kit.finish(pilot, *kit.claim(pilot), code=1)
    assert local.take_wakeup().changed  # who sleeps looks at the nap again
    assert local.nap() == 0.125


def test_nap_ends_when_a_lease_does_or_a_pilot_turns_silent(tmp_path: Path, clock: FakeClock) -> None:
    store = SqliteStore(tmp_path / "s.db", clock, lease_s=8.0)
    assert store.due() == 10.0
    Kit(store).pilot()
    assert store.take_wakeup().changed
    naps = []
    while store.call(GetPilots(live=True)).pilots:
        naps.append(store.nap())
        clock.advance(naps[-1])
        store.due()
    assert naps == [4.0, 2.0, 2.0]  # its scheduler is asked, watchers are told, it is given up
    store.close()


def test_news_tell_what_to_wake(local: SqliteStore) -> None:
    kit = Kit(local)
    pilot = kit.pilot()
    local.take_wakeup()
    kit.submit(row(1))
    news = local.take_wakeup()
    assert (news.ready, news.changed, news.orders) == (True, True, frozenset())
    kit.claim(pilot)
    assert not local.take_wakeup().ready
    kit.cancel(1)
    assert local.take_wakeup().orders == {pilot}
    kit.beat(pilot)
    news = local.take_wakeup()
    assert (news.ready, news.changed, news.orders) == (False, False, frozenset())


def test_a_watcher_of_an_earlier_server_is_told_to_look_anew(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.db")
    store.call(Submit("k", 0, "c", (ECHO,), (Resources(),), (row(1),), True))
    seq = store.call(GetChanges()).seq
    store.close()
    store = SqliteStore(tmp_path / "s.db")
    assert store.call(GetChanges(seq)).reset
    store.close()
