"""How pools of functions begin and end, and what they survive."""

import gc
import operator
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Any

import pytest

from pilotmtc import PilotExecutor
from pilotmtc.errors import UsageError
from pilotmtc.executor import PoolBroken
from pilotmtc.states import PILOT_FINAL, PilotState
from tests.pools import Place, a_place, agents, enter
from tests.support import kill, wait_until

LIMIT_S = 120.0


@pytest.fixture(scope="module")
def _place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with a_place(tmp_path_factory.mktemp("pools")) as place:
        yield place


@pytest.fixture
def place(_place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """The place of all pools here; none has left a descriptor."""
    enter(_place, monkeypatch)
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    yield _place
    gc.collect()
    wait_until(lambda: len(os.listdir("/proc/self/fd")) <= before)


def wait_for(file: Path) -> Any:
    """Wait in a worker."""
    until = time.monotonic() + LIMIT_S
    while not file.exists():
        if time.monotonic() > until:
            raise TimeoutError(str(file))
        time.sleep(0.01)
    return file


def own_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("pilotmtc-pool")]


# -- the end ------------------------------------------------------------------------------------------------------


def test_shutdown_waits_for_all(place: Place) -> None:
    with place.pool() as pool:
        futures = [pool.submit(time.sleep, 0.05) for _ in range(6)]
    assert all(future.done() for future in futures)
    assert own_threads() == []


def test_shutdown_without_waiting(place: Place, tmp_path: Path) -> None:
    pool = place.pool()
    futures = [pool.submit(wait_for, tmp_path / "go") for _ in range(3)]
    pool.shutdown(wait=False)
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(abs, 1)
    assert not any(future.done() for future in futures)
    (tmp_path / "go").touch()
    assert [future.result(LIMIT_S) for future in futures]
    wait_until(lambda: own_threads() == [])


def test_shutdown_cancels_what_has_not_begun(place: Place, tmp_path: Path) -> None:
    pool = place.pool()
    running = [pool.submit(wait_for, tmp_path / "go") for _ in range(2)]
    for future in running:
        wait_until(future.running)
    queued = [pool.submit(abs, n) for n in range(20)]
    threading.Timer(0.2, (tmp_path / "go").touch).start()
    pool.shutdown(cancel_futures=True)
    assert [future.result(0) for future in running] == [tmp_path / "go"] * 2
    assert all(future.cancelled() for future in queued)


def test_pool_that_is_forgotten_ends_by_itself(place: Place) -> None:
    pool = place.pool()
    future = pool.submit(operator.add, 1, 2)
    gone = weakref.ref(pool)
    del pool
    gc.collect()
    assert gone() is None
    assert future.result(LIMIT_S) == 3  # its calls go on
    wait_until(lambda: own_threads() == [])


def test_view_keeps_its_pool(place: Place) -> None:
    view = place.pool().options(priority=1)
    gc.collect()
    with view:  # which shuts nothing down
        assert view.submit(abs, -3).result(LIMIT_S) == 3
    assert list(view.map(abs, [-1])) == [1]
    view._pool.shutdown()


def test_pilot_leaves_with_its_pool(place: Place) -> None:
    with place.pool() as pool, place.session() as session:
        pool.submit(abs, 1).result(LIMIT_S)
        (mine,) = [pilot for pilot in session.pilots if pilot.description.campaign == pool._engine._campaign]
    with place.session() as session:
        assert session.pilots.wait(mine.id, LIMIT_S).state is PilotState.DONE
        (campaign,) = [one for one in session.campaigns() if one.id == mine.description.campaign]
        assert campaign.sealed


def run(place: Place, script: str, *words: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a program of its own."""
    argv = [sys.executable, "-u", "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(script), str(place.store)]
    return subprocess.run(
        [*argv, *map(str, words)], capture_output=True, text=True, timeout=LIMIT_S, check=check,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


def test_program_that_ends_waits_for_its_calls(place: Place) -> None:
    script = """
        import sys, time
        from pilotmtc import PilotExecutor

        def work(x):
            time.sleep(0.3)
            return x

        pool = PilotExecutor(2, store=sys.argv[1], idle="3s")
        for n in range(4):
            pool.submit(work, n).add_done_callback(lambda done: print("got", done.result(), flush=True))
    """
    done = run(place, script)
    assert sorted(done.stdout.split("\n")) == ["", "got 0", "got 1", "got 2", "got 3"]
    assert done.stderr == ""


def test_nothing_is_called_while_the_program_ends(place: Place) -> None:
    script = """
        import atexit, sys
        from pilotmtc import PilotExecutor

        def late():
            try:
                pool.submit(abs, 1)
            except RuntimeError as error:
                print("refused:", error)

        atexit.register(late)
        pool = PilotExecutor(2, store=sys.argv[1], idle="3s")
        pool.submit(abs, 1).result(60)
    """
    assert run(place, script).stdout == "refused: cannot schedule new futures after interpreter shutdown\n"


def test_program_that_is_interrupted_twice_leaves(place: Place, tmp_path: Path) -> None:
    script = """
        import pathlib, sys, time
        from pilotmtc import PilotExecutor

        with PilotExecutor(1, store=sys.argv[1], idle="3s") as pool:
            futures = [pool.submit(time.sleep, 1000) for _ in range(3)]
            while not futures[0].running():
                time.sleep(0.01)
            pathlib.Path(sys.argv[2]).touch()
            futures[0].result()
    """
    argv = [sys.executable, "-c", textwrap.dedent(script), str(place.store), str(tmp_path / "up")]
    with subprocess.Popen(argv, stderr=subprocess.PIPE) as program:
        try:
            wait_until((tmp_path / "up").exists)
            with place.session() as session:
                campaign = session.campaigns()[0].id
                program.send_signal(signal.SIGINT)
                wait_until(lambda: len(list(session.tasks(campaign=campaign, states=["canceled"]))) == 2)
                assert program.poll() is None  # what runs may finish
                program.send_signal(signal.SIGINT)
                assert program.wait(LIMIT_S) == -signal.SIGINT
                session.cancel(campaign=campaign)
        finally:
            program.kill()


# -- the beginning ------------------------------------------------------------------------------------------------


def test_initializer(place: Place) -> None:
    def remember(word: str, more: int) -> None:
        from pilotmtc.worker import state

        state.word = word * more

    def recall() -> Any:
        from pilotmtc.worker import state

        return state.word

    with place.pool(initializer=remember, initargs=("ab", 2)) as pool:
        assert {pool.submit(recall).result(LIMIT_S) for _ in range(5)} == {"abab"}


model = ""


def set_up(word: str) -> None:
    global model  # noqa: PLW0603 -- as users write initializers
    model = word


def test_initializer_sets_a_global(place: Place) -> None:
    with place.pool(initializer=set_up, initargs=("loaded",)) as pool:
        assert pool.submit(lambda: model).result(LIMIT_S) == "loaded"
    assert model == ""


def test_initializer_that_fails_breaks_the_pool(place: Place) -> None:
    def bad() -> None:
        raise ValueError("no model")

    with place.pool(initializer=bad) as pool:
        futures = [pool.submit(abs, n) for n in range(5)]
        for future in futures:
            error = future.exception(LIMIT_S)
            assert isinstance(error, BrokenExecutor)
            assert "no model" in str(error)
        assert isinstance(futures[0].exception().__cause__, ValueError)  # type: ignore[union-attr]
        wait_until(lambda: pool._engine.ledger.broken)
        with pytest.raises(PoolBroken, match="no model"):
            pool.submit(abs, 1)
        with pytest.raises(PoolBroken, match="no model"):
            pool.put(1)


def test_initializer_that_kills_its_worker_breaks_the_pool(place: Place) -> None:
    def bad() -> None:
        import ctypes

        ctypes.string_at(0)

    with place.pool(initializer=bad) as pool:
        errors = [future.exception(LIMIT_S) for future in [pool.submit(abs, n) for n in range(5)]]
        for error in errors:
            assert isinstance(error, PoolBroken)
            assert "the initializer failed: 3 workers in a row died in it; the last one was killed by SIGSEGV" in str(
                error
            )
        assert any("in bad" in str(error) for error in errors)
        wait_until(lambda: pool._engine.ledger.broken)
        with pytest.raises(PoolBroken, match="the initializer failed"):
            pool.submit(abs, 1)


def test_first_calls_from_many_threads(place: Place) -> None:
    pool = place.pool()
    found: list[int] = []
    threads = [threading.Thread(target=lambda n=n: found.append(pool.submit(abs, n).result(LIMIT_S))) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    assert sorted(found) == list(range(8))
    pool.shutdown()
    with place.session() as session:
        assert session.campaigns()[0].received == 8


def test_pool_inside_a_worker(place: Place) -> None:
    def outer(store: str, n: int) -> Any:
        from pilotmtc import PilotExecutor

        with PilotExecutor(1, store=store, idle="3s") as inner:
            return inner.submit(lambda x: x + 1, n).result(60)

    with place.pool() as pool:
        assert pool.submit(outer, str(place.store), 3).result(LIMIT_S) == 4


def test_forked_child_leaves_its_parents_pool_alone(place: Place) -> None:
    script = """
        import multiprocessing, os, sys
        from pilotmtc import PilotExecutor

        def child(n):
            try:
                pool.submit(abs, n)
            except Exception as error:
                return str(error)

        if __name__ == "__main__":
            with PilotExecutor(1, store=sys.argv[1], idle="3s") as pool:
                pool.submit(abs, 1).result(60)
                with multiprocessing.get_context("fork").Pool(1) as forked:
                    print(forked.map(child, [1])[0])
                if not os.fork():
                    pool.shutdown()
                    sys.exit()
                print(os.wait()[1])
                print(pool.submit(abs, -2).result(60))
    """
    first, second, third = run(place, script).stdout.splitlines()
    assert "made before a fork" in first
    assert (second, third) == ("0", "2")


def test_store_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "s.db").write_text("this is no store, and never was one" * 100)
    with PilotExecutor(store=tmp_path / "s.db") as pool:
        error = pool.submit(abs, 1).exception(LIMIT_S)
    assert isinstance(error, PoolBroken)
    assert "not a pilotmtc store" in str(error)


# -- what it survives ---------------------------------------------------------------------------------------------


def test_pilot_that_is_refused_breaks_the_pool_and_says_why(place: Place) -> None:
    with PilotExecutor(store=place.store, scheduler="condor", login="-", walltime="5m") as pool:
        error = pool.submit(pow, 2, 3).exception(LIMIT_S)
    assert isinstance(error, PoolBroken)
    assert str(error).startswith("pilot ")
    assert str(error).endswith("never a whole host: say how many cores a node has")


def test_pilot_that_is_killed_is_replaced(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    with place.pool() as pool:
        assert pool.submit(abs, -1).result(LIMIT_S) == 1
        for pid in agents(place):
            kill(pid)
        assert list(pool.map(abs, range(-50, 0))) == list(range(50, 0, -1))
    assert "takes its place" in caplog.text


def test_pilot_that_was_idle_is_back_for_the_next_call(place: Place) -> None:
    with place.pool(idle="0.2s") as pool, place.session() as session:
        assert pool.submit(abs, -1).result(LIMIT_S) == 1
        (mine,) = [pilot for pilot in session.pilots if pilot.description.campaign == pool._engine._campaign]
        session.pilots.wait(mine.id, LIMIT_S)
        assert pool.submit(abs, -2).result(LIMIT_S) == 2


def test_server_that_is_killed_is_back(place: Place) -> None:
    from tests.serving import Place as Server

    server = Server(place.store)
    with place.pool() as pool:
        results = pool.map(abs, range(400), buffersize=50)
        found = [next(results) for _ in range(100)]
        server.kill()
        found += list(results)
    assert found == list(range(400))
    server.clear()


def test_pilot_that_somebody_cancels_is_not_replaced(place: Place, tmp_path: Path) -> None:
    with place.pool() as pool, place.session() as session:
        future = pool.submit(wait_for, tmp_path / "never")
        wait_until(future.running)
        (mine,) = [pilot for pilot in session.pilots if pilot.description.campaign == pool._engine._campaign]
        session.pilots.cancel(mine.id)
        error = future.exception(LIMIT_S)
        assert isinstance(error, PoolBroken)
        assert f"somebody has ended pilot {mine.id}" in str(error)


# -- more pilots, and others' -------------------------------------------------------------------------------------


def test_pilots_that_are_added_take_part(place: Place, tmp_path: Path) -> None:
    with place.pool(1) as pool, place.session() as session:
        first = pool.submit(wait_for, tmp_path / "go")
        wait_until(first.running)
        (added,) = pool.add_pilots(cores=1)
        assert added.description.campaign == pool._engine._campaign
        others = [pool.submit(abs, -1) for _ in range(3)]
        wait_until(lambda: sum(future.done() for future in others) >= 2)  # the first pilot may have taken one
        by_hand = session.pilots.submit(cores=2, campaign=added.description.campaign, idle="3s")
        more = [pool.submit(wait_for, tmp_path / "go") for _ in range(4)]
        wait_until(lambda: sum(future.running() for future in more) >= 2)
        (tmp_path / "go").touch()
    with place.session() as session:
        for pilot in (added, by_hand):
            assert session.pilots.wait(pilot.id, LIMIT_S).state in PILOT_FINAL


def test_calls_on_any_pilot(place: Place) -> None:
    with place.session() as session:
        there = session.pilots.submit(cores=1, idle="1m")
        with place.pool(pilots="any") as pool:
            assert pool.submit(abs, -1).result(LIMIT_S) == 1
            assert [pilot.id for pilot in session.pilots] == [there.id]
        session.pilots.drain(there.id)
        session.pilots.wait(there.id, LIMIT_S)
        with place.pool(pilots="any") as pool:  # there is none: it starts one
            assert pool.submit(abs, -1).result(LIMIT_S) == 1


# -- a program that dies ------------------------------------------------------------------------------------------

DYING = """
    import os, pathlib, signal, sys, time
    from dataclasses import dataclass
    from pilotmtc import PilotExecutor

    @dataclass
    class Point:
        x: int

    def work(point, log):
        with open(log, "a") as file:
            file.write(f"{point.x}\\n")
        if point.x == 9:
            raise ValueError("bad")
        return Point(2 * point.x)

    store, log, what = sys.argv[1:]
    pool = PilotExecutor(2, store=store, name="study", resume=True, idle="3s")
    futures = [pool.submit(work, Point(n), log) for n in (range(10) if what == "die" else reversed(range(15)))]
    total = pool.submit(lambda *points: sum(point.x for point in points), *futures[:5])
    if what == "die":
        print(total.result(60))
        futures[9].exception(60)
        os.kill(os.getpid(), signal.SIGKILL)
    print(total.result(60), [type(future.exception(60)) for future in futures].count(ValueError))
    assert type(futures[0].result()) is Point
    pool.shutdown()
"""


def test_program_goes_on_where_another_one_has_died(place: Place, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()
    died = run(place, DYING, log, "die", check=False)
    assert (died.returncode, died.stdout) == (-signal.SIGKILL, "20\n")
    again = run(place, DYING, log, "again")
    assert again.stdout == "120 1\n", again.stderr
    ran = [int(line) for line in log.read_text().split()]
    # Each of the first ten ran once, but what had failed ran again; the others are new.
    assert sorted(ran) == sorted([*range(15), 9])
    third = run(place, DYING, log, "again")
    assert third.stdout == "120 1\n"
    assert len(log.read_text().split()) == 17
    with place.session() as session:
        assert [campaign.name for campaign in session.campaigns()].count("study") == 1


def test_calls_that_are_not_made_again_are_told(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    with place.pool(name="half") as pool:
        assert list(pool.map(abs, range(4))) == [0, 1, 2, 3]
    with place.pool(name="half", resume=True) as pool:
        assert list(pool.map(abs, [3, 2, 8])) == [3, 2, 8]
    assert "2 calls of campaign" in caplog.text
    with place.session() as session:
        assert session.campaigns()[0].received == 5


def test_of_two_programs_that_go_on_one_can(place: Place) -> None:
    first = place.pool(name="both")
    first.submit(abs, 1).result(LIMIT_S)
    with place.pool(name="both", resume=True) as second:
        assert second.submit(abs, 1).result(LIMIT_S) == 1
        error = first.submit(abs, 2).exception(LIMIT_S)
        assert isinstance(error, UsageError)
        assert "another program goes on with it" in str(error)
        assert second.submit(abs, 2).result(LIMIT_S) == 2
    first.shutdown()


def test_name_is_needed_to_go_on(place: Place) -> None:
    with pytest.raises(UsageError, match="needs the name"):
        place.pool(resume=True)
