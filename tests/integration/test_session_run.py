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
    PilotLost,
    Run,
    RunEvent,
    Session,
    TaskOptions,
    as_source,
    describe,
    make_tasks,
)
from pilotmtc.session.run import _news
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
    doing = run(session, f"touch {tmp_path}/run-{{}}; sleep 0.5", range(6))
    events = []
    for event in doing.events():
        events.append(event)
        if list(tmp_path.glob("run-*")):
            doing.drain()
    assert doing.interrupted
    assert doing.campaign is not None
    left = doing.campaign.counts[TaskState.READY]
    assert left + doing.campaign.counts[TaskState.DONE] == 6
    again = session.run(None, campaign=doing.campaign.id, pilot=TWO)
    told = ended(events) + ended(list(again.events()))
    assert sorted(event.result.params["1"] for event in told) == list("012345")
    assert all(event.result.attempt == 1 for event in told)


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


def test_lost_pilot_is_replaced_and_told(session: Session) -> None:
    doing = run(session, "sleep 0.1; echo {}", range(20))
    killed = 0
    lost = []
    for event in doing.events():
        if isinstance(event, Begun):
            killed = event.pilot.pid
        elif isinstance(event, Ended) and killed:
            os.kill(killed, signal.SIGKILL)
            killed = 0
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
