"""Pages of tasks that end because their time is over, as they do in large stores: short, or empty, and not the last."""

from collections.abc import Iterator

import pytest

from pilotmtc.model import PilotDescription
from pilotmtc.session import Ended, Run, Session, as_source, make_tasks
from pilotmtc.states import TaskState
from pilotmtc.store.requests.look import query
from tests.integration.test_session_run import Queue
from tests.serving import Place, serving_here


@pytest.fixture
def session(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    """A store in which the time for a page is over after each id."""
    monkeypatch.setattr(query, "_LOOK_S", -1.0)
    monkeypatch.setattr(query, "_WINDOW", 1)
    monkeypatch.setattr(query, "_WINDOW_MAX", 1)
    with serving_here(place), Session(place.path) as session:
        yield session
        for pilot in session.pilots:
            session.pilots.cancel(pilot.id)
            session.pilots.wait(pilot.id, 20)


def test_pages_are_short_and_all_are_asked_for(session: Session) -> None:
    session.submit("true", range(5), task_name="t{}")
    assert len(session.task_page().tasks) == 1
    assert [task.id for task in session.tasks()] == [1, 2, 3, 4, 5]
    assert [task.id for task in session.tasks(newest=True, names=["t0", "t3"])] == [4, 1]
    assert session.fields() == ("1",)
    session.cancel(names=["t1", "t4"])
    assert [result.id for result in session.results()] == [2, 5]


def test_order_is_kept_and_nothing_is_left_out(session: Session) -> None:
    tasks = make_tasks("echo {}", as_source(range(6)), {})
    doing = session.run(tasks, pilot=PilotDescription(cores=2), keep_order=True)
    assert [event.result.text for event in doing.events() if isinstance(event, Ended)] == [f"{n}\n" for n in range(6)]


def test_run_waits_for_the_pause_of_its_last_task_when_its_pilot_has_gone(session: Session) -> None:
    tasks = make_tasks("exit {}", as_source([0, 0, 0, 1]), {"retries": 1, "backoff": 2})
    doing = Run(session._link, tasks, pilot=PilotDescription(scheduler="none://localhost/"), start=Queue())
    list(doing.events())
    assert doing.campaign is not None
    assert doing.campaign.counts == {TaskState.DONE: 3, TaskState.FAILED: 1}
