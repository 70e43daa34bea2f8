"""`Session.run`: a campaign with pilots of its own, told as events."""

import itertools
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from pilotmtc.errors import ConfigError, UsageError
from pilotmtc.model import Pilot, PilotDescription, PilotId
from pilotmtc.pilots import start_local
from pilotmtc.session import (
    Advanced,
    Begun,
    Ended,
    HeldElsewhere,
    PilotLost,
    Run,
    RunEvent,
    Session,
    TaskOptions,
    as_source,
    describe,
    make_tasks,
)
from pilotmtc.session.run.runner import _news
from pilotmtc.states import PilotState, TaskState
from pilotmtc.store.interface import Store
from tests.support import wait_until


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    with Session(tmp_path / "store.db") as session:
        yield session
        for pilot in session.pilots:
            session.pilots.cancel(pilot.id)
            session.pilots.wait(pilot.id, 20)


TWO = PilotDescription(cores=2)


def run(session: Session, command: str, values: object, options: TaskOptions | None = None, **more: object) -> Run:
    tasks = make_tasks(command, as_source(values), options or {})  # type: ignore[arg-type]  # values of any kind
    return session.run(tasks, pilot=TWO, **more)  # type: ignore[arg-type]  # handed through


def ended(events: list[RunEvent]) -> list[Ended]:
    return [event for event in events if isinstance(event, Ended)]


def test_events_tell_of_each_task_once(session: Session) -> None:
    doing = run(session, "echo {}; exit $(({} == 3))", range(20))
    events = list(doing.events())
    assert isinstance(events[0], Begun)
    assert isinstance(events[-1], Advanced)
    results = [event.result for event in ended(events)]
    assert sorted(int(result.text) for result in results) == list(range(20))
    assert [result.params["1"] for result in results if not result.ok] == ["3"]
    assert doing.campaign is not None
    assert doing.campaign.counts == {TaskState.DONE: 19, TaskState.FAILED: 1}
    assert not doing.interrupted


def test_without_outputs_only_failures_are_told(session: Session) -> None:
    events = list(run(session, "exit $(({} == 3))", range(10), outputs=False).events())
    assert [event.result.params["1"] for event in ended(events)] == ["3"]


def test_order_is_kept_if_it_is_wanted(session: Session) -> None:
    events = list(run(session, "sleep 0.$((3 - {})); echo {}", range(4), keep_order=True).events())
    assert [event.result.text for event in ended(events)] == ["0\n", "1\n", "2\n", "3\n"]


def test_drained_run_goes_on_later(session: Session, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    doing = run(session, f"test {{}} = 0 || until test -e {gate}; do sleep 0.05; done", range(6))

    def open_when_nothing_more_is_taken() -> None:
        wait_until(lambda: [pilot.state for pilot in session.pilots.list()] == [PilotState.DRAINING])
        # The agent has heard of it when it has given back what it had not started.
        wait_until(lambda: session.campaign(1).counts.get(TaskState.READY) == 3)
        gate.touch()

    opening = threading.Thread(target=open_when_nothing_more_is_taken)
    opening.start()
    events = []
    for event in doing.events():
        events.append(event)
        if isinstance(event, Ended):
            doing.drain()
    opening.join()
    assert doing.interrupted
    assert doing.campaign is not None
    assert doing.campaign.counts == {TaskState.DONE: 3, TaskState.READY: 3}
    again = session.run(None, campaign=doing.campaign.id, pilot=TWO)
    told = ended(events) + ended(list(again.events()))
    assert sorted(event.result.params["1"] for event in told) == list("012345")


def test_canceled_run_gives_its_tasks_back(session: Session, tmp_path: Path) -> None:
    doing = run(session, f"touch {tmp_path}/run-{{}}; sleep 97.5", range(3))

    def cancel_when_two_run() -> None:
        wait_until(lambda: len(list(tmp_path.glob("run-*"))) == 2, 20)
        doing.cancel()

    stop = threading.Thread(target=cancel_when_two_run)
    stop.start()
    events = list(doing.events())
    stop.join()
    assert doing.interrupted
    assert ended(events) == []
    assert doing.campaign is not None
    assert doing.campaign.counts == {TaskState.READY: 3}


def test_lost_pilot_is_replaced_and_told(session: Session, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    doing = run(session, f"test {{}} = 0 || until test -e {gate}; do sleep 0.05; done; echo {{}}", range(20))
    killed = 0
    lost = []
    for event in doing.events():
        if isinstance(event, Begun):
            killed = event.pilot.pid
        elif isinstance(event, Ended) and killed:
            os.kill(killed, signal.SIGKILL)
            killed = 0
            gate.touch()
        elif isinstance(event, PilotLost):
            lost.append(event.pilot)
    assert ["killed by signal 9" in pilot.reason for pilot in lost] == [True]
    assert doing.campaign is not None
    assert doing.campaign.counts == {TaskState.DONE: 20}


def test_nodes_are_told_of_when_they_are_there() -> None:
    alone = Pilot(PilotId(1), PilotDescription(nodes=3), PilotState.ACTIVE, 0.0, started_at=1.0)
    pilots = [replace(alone, state=PilotState.PENDING, started_at=None), alone]
    pilots += [replace(alone, nodes=n, cores=12 * n) for n in (1, 2, 3)]
    news = [_news(before, after) for before, after in itertools.pairwise(pilots)]
    assert news == [False, True, False, True]


class Queue:
    """Starts pilots of this machine for a scheduler, of which nobody knows what its nodes have."""

    def __init__(self) -> None:
        self.started = 0

    def __call__(self, store: Store, url: str, description: PilotDescription) -> Pilot:
        self.started += 1
        return start_local(store, url, replace(description, scheduler="", cores=2, idle_s=1.0))


def queued(session: Session, options: TaskOptions, nodes: int = 1) -> tuple[Run, Queue]:
    tasks, queue = make_tasks("echo {}", as_source([1]), options), Queue()
    pilot = PilotDescription(scheduler="none://localhost/", nodes=nodes)
    return Run(session._link, tasks, pilot=pilot, start=queue), queue


def test_run_keeps_its_tasks_for_its_own_pilots_unless_they_are_shared(session: Session) -> None:
    stranger = session.pilots.submit(cores=2, idle="60s")
    own = run(session, "echo $PILOTMTC_PILOT_ID", range(8))
    pilots = {event.result.text.strip() for event in ended(list(own.events()))}
    assert own.campaign is not None
    assert own.campaign.own_pilots
    assert str(stranger.id) not in pilots
    shared = run(session, "echo $PILOTMTC_PILOT_ID; sleep 0.2", range(8), any_pilot=True)
    events = list(shared.events())
    assert isinstance(events[0], Begun)
    assert events[0].shared
    assert str(stranger.id) in {event.result.text.strip() for event in ended(events)}


def test_what_a_run_has_left_is_for_pilots_of_the_next_one_or_for_all(session: Session) -> None:
    stranger = session.pilots.submit(cores=2, idle="60s")
    doing = run(session, "sleep 97.5", range(2))
    for event in doing.events():
        if isinstance(event, Begun):
            doing.cancel()
    assert doing.campaign is not None
    session.edit({"priority": 1}, campaign=doing.campaign.id)
    _, why = session.explain(1)
    assert "kept for pilots of its own" in why[0]
    again = session.run(None, campaign=doing.campaign.id, pilot=TWO)
    for event in again.events():
        if isinstance(event, Begun):
            assert not event.shared
            wait_until(lambda: session.task(1).task.state is TaskState.RUNNING)  # type: ignore[union-attr]
            again.cancel()
    first = session.task(1).attempts
    assert stranger.id not in {attempt.pilot for attempt in first}
    shared = session.run(None, campaign=doing.campaign.id, pilot=TWO, any_pilot=True)
    for event in shared.events():
        if isinstance(event, Begun):
            assert event.shared
            shared.cancel()
    assert not session.campaign(doing.campaign.id).own_pilots
    wait_until(lambda: session.task(1).task.pilot == stranger.id)  # type: ignore[union-attr]


def test_pilot_for_the_campaign_finishes_what_a_run_has_left(session: Session) -> None:
    doing = run(session, "true", range(2))
    for event in doing.events():
        if isinstance(event, Begun):
            doing.cancel()
    assert doing.campaign is not None
    session.pilots.submit(cores=2, idle="1s", campaign=doing.campaign.id)
    session.wait(doing.campaign.id)


def test_walltime_ends_a_run_on_this_machine(session: Session, tmp_path: Path) -> None:
    tasks = make_tasks(f"touch {tmp_path}/run-{{}}; sleep 97.5", as_source(range(3)), {})
    doing = session.run(tasks, pilot=PilotDescription(cores=2, walltime_s=4.0))
    assert ended(list(doing.events())) == []
    assert doing.interrupted
    assert doing.out_of_time
    assert doing.campaign is not None
    assert doing.campaign.counts == {TaskState.READY: 3}
    assert len(session.pilots.list(ended=True)) == 1


def test_walltime_goes_on_for_the_pilot_that_follows_a_lost_one(session: Session) -> None:
    doing = session.run(make_tasks("sleep 97.5", None, {}), pilot=PilotDescription(cores=2, walltime_s=8.0))
    for event in doing.events():
        if isinstance(event, Begun):
            os.kill(event.pilot.pid, signal.SIGKILL)
    assert doing.out_of_time
    second, first = session.pilots.list(ended=True)
    assert second.description.walltime_s < first.description.walltime_s <= 8.0


def test_task_that_is_longer_than_a_sites_walltime_ends_the_run(session: Session) -> None:
    tasks = make_tasks("sleep {}", as_source([0, 97.5]), {})
    pilot = PilotDescription(scheduler="none://localhost/", walltime_s=4.0)
    doing = Run(session._link, tasks, pilot=pilot, start=Queue())
    with pytest.raises(UsageError, match=r"task 2 ran for .*, until the walltime of pilot \d+ \(4s\) was over"):
        list(doing.events())
    assert doing.campaign is not None
    # The run may have looked at its campaign before the pilot gave the task back.
    counts = {TaskState.DONE: 1, TaskState.READY: 1}
    campaign = doing.campaign.id
    wait_until(lambda: session.campaign(campaign).counts == counts)


def test_pilots_of_a_site_follow_each_other_until_all_is_done(session: Session) -> None:
    tasks = make_tasks("test {} = 0 || test $PILOTMTC_PILOT_ID != 1 || sleep 97.5", as_source(range(3)), {})
    queue = Queue()
    doing = Run(
        session._link, tasks, pilot=PilotDescription(scheduler="none://localhost/", walltime_s=4.0), start=queue
    )
    assert len(ended(list(doing.events()))) == 3
    assert (queue.started, doing.interrupted, doing.out_of_time) == (2, False, False)
    assert doing.campaign is not None
    assert doing.campaign.counts == {TaskState.DONE: 3}
    assert session.pilots.list(ended=True)[-1].reason == "walltime"


@pytest.mark.parametrize("options", [TaskOptions(cores=3), TaskOptions(ranks=3), TaskOptions(memory="999G")])
def test_run_stops_once_its_pilot_is_seen_to_have_too_little(session: Session, options: TaskOptions) -> None:
    doing, queue = queued(session, options)
    with pytest.raises(UsageError, match=r"pilot 1 has .*, and the task "):
        list(doing.events())
    assert queue.started == 1
    assert doing.campaign is not None
    assert doing.campaign.counts == {TaskState.READY: 1}
    session.pilots.wait(1, 20)  # it was let go


def test_pilot_that_could_run_nothing_is_not_replaced(session: Session) -> None:
    """Of its two nodes one never comes: it is not seen before its end that it has too little."""
    doing, queue = queued(session, TaskOptions(cores=3), nodes=2)
    with pytest.raises(UsageError, match="pilot 1 has 2 cores a node, and the task needs 3"):
        list(doing.events())
    assert queue.started == 1


def test_pilots_that_die_again_and_again_end_the_run(session: Session) -> None:
    doing = run(session, "sleep 99.5", [1])
    killed = set()

    def kill_each() -> None:
        for _event in doing.events():
            for pilot in session.pilots:
                if pilot.pid and pilot.id not in killed:
                    killed.add(pilot.id)
                    os.kill(pilot.pid, signal.SIGKILL)

    with pytest.raises(ConfigError, match=r"4 pilots died one after the other, .*agent\.log"):
        kill_each()
    assert len(killed) == 4


def test_task_that_fits_no_pilot_is_an_error_at_once(session: Session) -> None:
    with pytest.raises(UsageError, match="needs 64 cores"):
        list(run(session, "true", [1], {"cores": 64}).events())
    with pytest.raises(UsageError, match="needs 1 of licence, and the pilot has 0"):
        list(run(session, "true", [1], {"resources": {"licence": 1}}).events())
    assert list(session.pilots) == []


def test_task_edited_beyond_the_pilot_is_an_error(session: Session) -> None:
    campaign = session.submit("true")
    session.edit({"cores": 64}, campaign=campaign)
    with pytest.raises(UsageError, match="task 1: a task needs 64 cores"):
        list(session.run(None, campaign=campaign, pilot=PilotDescription(cores=2)).events())


def test_source_that_fails_ends_the_run_with_its_error(session: Session) -> None:
    def values() -> Iterator[object]:
        yield {"a": 1}
        yield {"b": 1}

    with pytest.raises(UsageError, match="row 2 of params"):
        list(run(session, "true", values()).events())


def test_another_command_does_not_go_on_with_a_campaign(session: Session) -> None:
    campaign = session.submit("true", range(3))
    with pytest.raises(UsageError, match="is complete with 3 tasks"):
        session.run(make_tasks("true", as_source(range(3)), {}), campaign=campaign)


def test_description_of_pilots() -> None:
    assert describe(cores=2, walltime="1h", memory="1G", resources={"a": 1}).walltime_s == 3600
    for wrong in ({"cores": -1}, {"gpus": -1}, {"resources": {"a": float("nan")}}, {"memory": "x"}, {"cores": 10**9}):
        with pytest.raises(UsageError):
            describe(**wrong)


def test_run_that_goes_on_tells_what_another_pilot_still_has(session: Session) -> None:
    doing = run(session, "sleep 600", [1, 2])
    going = doing.events()
    campaigns = (event.campaign for event in going if isinstance(event, Advanced))
    running = next(campaign for campaign in campaigns if campaign.counts.get(TaskState.RUNNING) == 2)
    again = session.run(None, campaign=running.id, pilot=TWO)
    events = again.events()
    held = [event for event in itertools.islice(events, 2) if isinstance(event, HeldElsewhere)]
    assert [(event.pilot.description.campaign, event.tasks) for event in held] == [(running.id, 2)]
    for one in (again, doing):
        one.cancel()
    assert not ended(list(events))
    assert not ended(list(going))


def test_no_pilot_is_queued_while_the_campaign_waits_for_another(session: Session) -> None:
    first = session.submit("true")
    doing, queue = queued(session, {"after_campaign": first})
    events: list[RunEvent] = []
    for event in doing.events():
        if isinstance(event, Advanced) and not events:
            assert (queue.started, event.campaign.waits) == (0, True)
            session.pilots.submit(cores=1, idle="1s")
        if isinstance(event, Begun):
            assert not session.campaign(2).waits
        events.append(event)
    assert [event.result.text for event in ended(events)] == ["1\n"]
    assert queue.started == 1


@pytest.mark.parametrize("failed", [False, True])
def test_run_that_waits_for_another_campaign_ends_when_it_is_told_to_or_must(session: Session, failed: bool) -> None:
    first = session.submit("true")
    doing, queue = queued(session, {"after_campaign": first})
    for event in doing.events():
        assert isinstance(event, Advanced)
        if failed:
            session.cancel(campaign=first)
        else:
            doing.drain()
    assert (doing.interrupted, queue.started) == (True, 0)
