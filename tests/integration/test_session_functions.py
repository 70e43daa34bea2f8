"""`Session.map`, and values in a session's results: from real pilots, and from another process the next day."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pilotmtc import Session
from pilotmtc.errors import ConfigError, TaskFailed, UsageError
from pilotmtc.parameters import combine, file, grid
from pilotmtc.session.run import as_they_end
from pilotmtc.states import TaskState
from tests.pools import Place, a_place, enter
from tests.support import kill, wait_until

LIMIT_S = 120.0
FEW: dict[str, Any] = {"max_workers": 2, "idle": "3s"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with a_place(tmp_path_factory.mktemp("session")) as place:
        yield place


@pytest.fixture
def session(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    enter(place, monkeypatch)
    with place.session() as session:
        yield session


def newest(session: Session) -> int:
    return session.campaigns()[0].id


def simulate(mass: float, seed: int = 0) -> float:
    if mass < 0:
        raise ValueError(f"{mass} is negative")
    return mass * mass + seed


class Point:
    def __init__(self, x: object) -> None:
        self.x = x

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Point) and other.x == self.x

    __hash__ = object.__hash__


def scaled(point: Point) -> Point:
    return Point(2 * point.x)  # type: ignore[operator]


def wait_for(path: Path) -> str:
    until = time.monotonic() + LIMIT_S
    while not path.exists():
        if time.monotonic() > until:
            raise TimeoutError(str(path))
        time.sleep(0.01)
    return path.name


def test_map_as_of_python(session: Session) -> None:
    assert list(session.map(simulate, [1, 2, 3], [10, 20, 30], **FEW)) == [11, 24, 39]
    assert list(session.map(pow, (2 for _ in range(300)), range(300), buffersize=50, **FEW)) == [
        2**n for n in range(300)
    ]
    found = list(session.results(campaign=newest(session), outputs=False))
    assert [result.value for result in found] == [2**n for n in range(300)]


def test_rows_are_arguments_by_name(session: Session, tmp_path: Path) -> None:
    rows = [{"mass": 1.5, "seed": 3}, {"mass": 2}]
    assert list(session.map(simulate, rows, name="rows", tags=["night"], **FEW)) == [5.25, 4]
    (campaign, *_) = session.campaigns()
    assert (campaign.name, campaign.sealed) == ("rows", True)
    assert [(task.function, task.tags) for task in session.tasks(campaign=campaign.id)] == [
        ("simulate", ("night",))
    ] * 2
    axes = {"mass": [1, 2], "seed": range(3)}
    assert list(session.map(simulate, axes, **FEW)) == [1, 2, 3, 4, 5, 6]
    (tmp_path / "p.csv").write_text("mass\n1.5\n2\n")
    source = combine([file(tmp_path / "p.csv"), grid(["seed=1..2"])])
    assert list(session.map(simulate, source, **FEW)) == [3.25, 4.25, 5, 6]


def test_results_as_they_come(session: Session, tmp_path: Path) -> None:
    found = session.map(wait_for, [tmp_path / "first", tmp_path / "second"], ordered=False, **FEW)
    (tmp_path / "second").touch()
    assert next(found) == "second"
    (tmp_path / "first").touch()
    assert list(found) == ["first"]


def test_known_calls_are_not_made_again(session: Session, tmp_path: Path) -> None:
    (tmp_path / "table").write_text("1")
    watch = [str(tmp_path / "table")]
    options: dict[str, Any] = {"memo": True, "watch": watch, **FEW}
    assert list(session.map(scaled, map(Point, (3, 4)), **options)) == [Point(6), Point(8)]
    assert list(session.map(scaled, map(Point, (4, 3, 5)), **options)) == [Point(8), Point(6), Point(10)]
    assert session.campaigns()[0].known == 2
    (tmp_path / "table").write_text("2")
    list(session.map(scaled, map(Point, (3, 4)), **options))
    assert session.campaigns()[0].known == 0


def test_exceptions(session: Session) -> None:
    calls = session.map(simulate, [1, -1, 2], **FEW)
    assert next(calls) == 1
    with pytest.raises(ValueError, match="-1 is negative") as caught:
        next(calls)
    assert "in simulate" in str(caught.value.__cause__)
    assert list(calls) == []
    found: list[Any] = list(session.map(simulate, [1, -1, 2], return_exceptions=True, **FEW))
    good, bad, last = found
    assert (good, type(bad), last) == (1, ValueError, 4)


def test_what_is_left_is_canceled_when_the_iterator_is_closed(session: Session, tmp_path: Path) -> None:
    calls: Any = session.map(wait_for, [tmp_path / str(number) for number in range(20)], **FEW)
    (tmp_path / "0").touch()
    assert next(calls) == "0"
    campaign = newest(session)
    calls.close()
    wait_until(lambda: session.campaign(campaign).counts.get(TaskState.CANCELED, 0) >= 17)
    (tmp_path / "1").touch()
    (tmp_path / "2").touch()
    assert TaskState.READY not in session.wait(campaign, LIMIT_S).counts


@pytest.mark.parametrize(
    ("fn", "iterables", "options", "error", "said"),
    [
        (simulate, (), {}, UsageError, "there are no values"),
        (simulate, (3,), {}, UsageError, "3 is one value: give a list"),
        (simulate, ({"mas": [1]},), {}, UsageError, "simulate takes no parameter 'mas': did you mean 'mass'"),
        (simulate, ({"mass": 1},), {}, UsageError, "'mass' is 1: give a list of values"),
        (3, ([1],), {}, TypeError, "3 cannot be called"),
        (simulate, ([1],), {"nods": 2}, TypeError, "'nods': did you mean 'nodes'"),
        (simulate, ([1],), {"buffersize": 0}, UsageError, "buffersize=0"),
        (simulate, ([1],), {"ordered": "no"}, UsageError, "ordered='no' is neither True nor False"),
        (simulate, ([1],), {"cores": 1000}, UsageError, "reduce cores="),
    ],
)
def test_mistakes(
    session: Session, fn: Any, iterables: Any, options: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        session.map(fn, *iterables, **options)


# -- values in results ------------------------------------------------------------------------------------------


def test_values_in_results(session: Session) -> None:
    list(session.map(simulate, [1, -1], return_exceptions=True, **FEW))
    good, bad = session.results(campaign=newest(session))
    assert (good.ok, good.function, good.value, good.value_text) == (True, "simulate", 1, "1")
    assert (bad.ok, bad.value_text) == (False, "ValueError: -1 is negative")
    with pytest.raises(ValueError, match="-1 is negative"):
        _ = bad.value
    assert "in simulate" in bad.error_text
    (point,) = session.map(Point, [3], **FEW)
    (result,) = session.results(campaign=newest(session))
    assert result.value == point == Point(3)
    assert result.value is result.value
    (large,) = session.map(bytes, [3_000_000], **FEW)
    (result,) = session.results(campaign=newest(session))
    assert result.value == large == bytes(3_000_000)


def test_pilots_are_for_the_campaign_of_a_name_that_is_not_finished(session: Session) -> None:
    """A program that is started every day has several of its name."""
    session.cancel(campaign=session.submit("true", name="daily"))
    today = session.submit("true", name="daily")
    pilot = session.pilots.submit(cores=1, campaign="daily")
    assert pilot.description.campaign == today
    session.wait(today, LIMIT_S)
    with pytest.raises(UsageError, match="2 campaigns are called 'daily'"):
        session.pilots.submit(cores=1, campaign="daily")
    session.pilots.cancel(pilot.id)


def test_command_has_no_value(session: Session) -> None:
    campaign = session.submit("echo hi")
    pilot = session.pilots.submit(cores=1, idle="0.1s")
    session.wait(campaign, LIMIT_S)
    (result,) = session.results(campaign=campaign)
    with pytest.raises(UsageError, match="is a command: see its stdout"):
        _ = result.value
    session.pilots.wait(pilot.id, LIMIT_S)


def test_values_of_somebody_elses_store_are_refused(
    session: Session, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list(session.map(simulate, [2], **FEW)) == [4]
    with place.session() as other, monkeypatch.context() as patch:
        (result,) = other.results(campaign=newest(other))
        patch.setattr(os, "geteuid", lambda: os.stat(place.store).st_uid + 1)
        with pytest.raises(ConfigError, match="from a store of your own only"):
            _ = result.value
        assert result.value_text == "4"


def test_results_that_are_there_and_the_others_as_they_come(session: Session, place: Place, tmp_path: Path) -> None:
    with place.pool(name="waits") as pool:
        first, second = (pool.submit(wait_for, tmp_path / name) for name in ("first", "second"))
        (tmp_path / "first").touch()
        first.result(LIMIT_S)
        assert pool.campaign is not None
        results = session.results(campaign="waits")
        assert next(results).value == "first"
        threading.Timer(0.2, (tmp_path / "second").touch).start()
        assert next(results).value == "second"
        assert list(results) == []
        assert second.done()


@pytest.mark.parametrize("select", [{}, {"campaign": [1, 2]}, {"campaign": 1, "newest": True}])
def test_waiting_is_for_one_campaign(session: Session, select: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"one campaign|leave out newest"):
        session.results(wait=True, **select)


_CLIENT = """
import sys, time
from pilotmtc import PilotExecutor

def wait_for(path):
    import os, time
    while not os.path.exists(path):
        time.sleep(0.01)
    return [path]

if __name__ == "__main__":
    pool = PilotExecutor(2, store=sys.argv[1], idle="3s", name="left")
    for path in sys.argv[2:]:
        pool.submit(wait_for, path)
    while pool.campaign is None:
        time.sleep(0.01)
    print(pool.campaign, flush=True)
    time.sleep(600)
"""


def test_results_of_a_client_that_has_died(
    session: Session, place: Place, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that are there and those that come, as long as there is a pilot."""
    monkeypatch.setattr(as_they_end, "_ABANDONED_S", 0.2)
    (tmp_path / "client.py").write_text(_CLIENT)
    paths = [str(tmp_path / name) for name in ("a", "b", "c", "d", "e", "f")]
    argv = [sys.executable, str(tmp_path / "client.py"), str(place.store), *paths]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as client:
        assert client.stdout is not None
        campaign = int(client.stdout.readline())
        wait_until(lambda: session.count(campaign=campaign) == len(paths))
        wait_until(lambda: session.count(campaign=campaign, states=["running"]) == 2)
        kill(client.pid)
    for path in paths[:3]:
        Path(path).touch()
    results = session.results(campaign=campaign)
    assert sorted(next(results).value for _ in range(3)) == [[path] for path in paths[:3]]
    (pilot,) = [pilot for pilot in session.pilots if pilot.description.campaign == campaign]
    session.pilots.cancel(pilot.id)
    assert list(results) == []
    assert f"campaign {campaign} has 3 calls left, and no pilot" in caplog.text


def test_call_that_was_killed(session: Session) -> None:
    error: Any
    (error,) = session.map(os._exit, [3], return_exceptions=True, **FEW)
    assert isinstance(error, TaskFailed)
    (result,) = session.results(campaign=newest(session))
    with pytest.raises(TaskFailed, match="its worker ended with exit code 3") as caught:
        _ = result.value
    assert (caught.value.task, caught.value.returncode) == (result.id, 3)
