"""Values of calls: from a real store to the nodes of real pilots, and back."""

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cloudpickle  # type: ignore[import-untyped]
import pytest
from msgspec import structs

from pilotmtc import pickled
from pilotmtc.agent import guard
from pilotmtc.agent.crews.contact import NAME, Contact
from pilotmtc.agent.functions.frames import VALUES
from pilotmtc.boot import program
from pilotmtc.model import Call, Pilot, PilotDescription, Resources, Value
from pilotmtc.protocol.client.maintenance import CheckStore
from pilotmtc.protocol.client.pilots import CreatePilot, DrainPilot
from pilotmtc.protocol.values import PART_BYTES, GetValue
from pilotmtc.states import TASK_FINAL, Cause, PilotState, TaskState
from tests.integration.agent_support import kill, running_site
from tests.integration.calls_support import Calls
from tests.integration.function_support import Argument, dump_args
from tests.integration.pool_support import PoolPilot, running_pool
from tests.support import alive, kill_at_once, small_disk, wait_until

cloudpickle.register_pickle_by_value(sys.modules[__name__])
LARGE = 5 * PART_BYTES + 3


@pytest.fixture
def calls(tmp_path: Path, surroundings: Path) -> Iterator[Calls]:
    with running_site(tmp_path) as site:
        yield Calls(site)


def values_in(directory: str | Path) -> set[str]:
    """Return the names of the values in a pilot's directory, without those that are not complete."""
    place = Path(directory) / VALUES
    return {path.name for path in place.iterdir() if not path.name.startswith(".")} if place.exists() else set()


def make(size: int, path: str = os.devnull) -> bytes:
    while not os.path.exists(path):
        time.sleep(0.01)
    return bytes(size)


def size_of(*values: bytes) -> list[int]:
    return [len(value) for value in values]


def put(calls: Calls, value: object) -> str:
    return calls.put(b"".join(bytes(part) for part in pickled.dump_value(value)))


def test_files_of_the_store_are_linked_and_arguments_go_with_their_calls(calls: Calls) -> None:
    shared = put(calls, os.urandom(LARGE))
    own = dump_args(os.urandom(LARGE), Argument("value", shared))
    tasks = calls.submit(size_of, *[Call(Value(digest=calls.put(own), size=len(own)), (), (shared,))] * 3)
    pilot = calls.site.start()
    assert calls.values(tasks) == [[LARGE, LARGE]] * 3
    path = calls.site.client.call(GetValue(shared)).path
    assert (Path(pilot.directory) / VALUES / shared).samefile(path)
    wait_until(lambda: hashlib.sha256(own).hexdigest() not in values_in(pilot.directory))
    calls.site.client.call(DrainPilot(pilot.id))
    calls.site.wait_over(pilot.id)
    wait_until(lambda: not (Path(pilot.directory) / VALUES).exists())
    assert Path(path).exists()


def test_result_that_is_here_is_not_fetched_for_the_next_call(calls: Calls) -> None:
    (first,) = calls.submit(make, (LARGE,))
    args = dump_args(Argument("input", 0), Argument("input", 0))
    (second,) = calls.submit(size_of, Call(Value(args), (first,)))
    pilot = calls.site.start()
    assert calls.values([second]) == [[LARGE, LARGE]]
    (row,) = calls.returned([first])
    assert row.value is not None
    path = Path(pilot.directory) / VALUES / row.value.digest
    assert not path.samefile(calls.site.client.call(GetValue(row.value.digest)).path)


def test_server_may_be_killed_again_and_again_while_large_results_come(calls: Calls) -> None:
    tasks = calls.submit(make, *[(8 * PART_BYTES + number,) for number in range(12)])
    calls.site.start()
    for _ in range(6):
        before = calls.site.counts().get(TaskState.DONE, 0)
        wait_until(lambda count=before: calls.site.counts().get(TaskState.DONE, 0) > count, 60.0)  # type: ignore[misc]
        if calls.site.counts().get(TaskState.DONE, 0) == len(tasks):
            break
        kill(calls.site.server())
    assert [len(value) for value in calls.values(tasks)] == [8 * PART_BYTES + number for number in range(12)]
    assert {len(calls.site.attempts(task)) for task in tasks} == {1}
    assert calls.site.client.call(CheckStore()).problems == ()


@pytest.mark.parametrize("victims", ["agent", "agent and guard"])
def test_large_result_of_a_killed_agent_is_not_made_again(calls: Calls, tmp_path: Path, victims: str) -> None:
    site = calls.site
    server = site.server()
    pilot = site.start()
    agent, guard = site.agent(pilot.id), site.guard(pilot.id)
    (task,) = calls.submit(make, (LARGE, str(tmp_path / "go")))
    site.wait_running(task)
    os.kill(server, signal.SIGSTOP)  # nothing is acknowledged
    try:
        (tmp_path / "go").touch()
        spool = Path(pilot.directory)
        wait_until(lambda: any(path.stat().st_size for path in spool.glob("spool.*")), 30.0)
        if victims == "agent":
            kill(agent)
            wait_until(lambda: set(alive("--post-mortem")) & set(alive(pilot.directory)))
        else:
            kill_at_once([guard, agent])
            wait_until(lambda: not alive(pilot.directory))
    finally:
        if victims == "agent":
            os.kill(server, signal.SIGCONT)
        else:
            kill(server)
    if victims == "agent":
        assert site.wait_over(pilot.id).state is PilotState.FAILED
    else:
        site.start()
    assert [len(value) for value in calls.values([task])] == [LARGE]
    assert [attempt.pilot for attempt in site.attempts(task)] == [pilot.id]
    wait_until(lambda: not (spool / VALUES).exists())


def test_results_of_a_pilot_that_drains_are_all_brought(calls: Calls, tmp_path: Path) -> None:
    tasks = calls.submit(make, *[(LARGE + number, str(tmp_path / "go")) for number in range(2)])
    pilot = calls.site.start(PilotDescription(cores=2))
    for task in tasks:
        calls.site.wait_running(task)
    calls.site.client.call(DrainPilot(pilot.id))
    (tmp_path / "go").touch()
    assert calls.site.wait_over(pilot.id, 60.0).state is PilotState.DONE
    assert [len(value) for value in calls.values(tasks)] == [LARGE, LARGE + 1]
    wait_until(lambda: not (Path(pilot.directory) / VALUES).exists())


def test_results_wait_for_a_full_disk_of_the_store(calls: Calls, tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "4m") as small:
        (tmp_path / "store.db.d").mkdir(mode=0o700, exist_ok=True)
        (tmp_path / "store.db.d" / "values").symlink_to(small)
        tasks = calls.submit(make, (LARGE,), (1,))
        pilot = calls.site.start()
        assert [len(value) for value in calls.values(tasks[1:])] == [1]
        log = Path(pilot.directory) / "agent.log"
        wait_until(lambda: "no space left for a value" in log.read_text(), 60.0, on_timeout=log.read_text)
        assert calls.site.state(tasks[0]) not in TASK_FINAL
        assert any(path.stat().st_size for path in Path(pilot.directory).glob("spool.*"))
        subprocess.run(["mount", "-o", "remount,size=64m", str(small)], check=True, timeout=10)
        assert [len(value) for value in calls.values(tasks)] == [LARGE, 1]
        assert len(calls.site.attempts(tasks[0])) == 1


@contextlib.contextmanager
def pilot_elsewhere(calls: Calls, directory: Path) -> Iterator[Pilot]:
    """Give a pilot for which the files of the store's values are not there, as on another host."""
    site = calls.site
    if subprocess.run(["unshare", "-m", "true"], check=False, timeout=10).returncode:
        pytest.skip("processes cannot have mounts of their own here, as those of root mostly can")
    pilot = site.client.call(CreatePilot("elsewhere", PilotDescription(cores=2), str(directory))).pilots[0]
    site.pilots.append(pilot)
    agent = program("pilotmtc.agent", "--store", site.url, "--pilot", str(pilot.id), "--directory", str(directory))
    command = [
        "unshare", "-m", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"', str(Path(f"{site.url}.d") / "values"),
        sys.executable, "-I", "-S", guard.__file__, guard.instructions(agent),
    ]  # fmt: skip
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as job:
        try:
            wait_until(lambda: site.pilot(pilot.id).state is PilotState.ACTIVE)
            yield pilot
        finally:
            site.close_pilot(pilot)
            job.wait(30.0)


@pytest.mark.parametrize("end", ["cancel", "kill the agent", "kill agent and guard"])
def test_values_of_a_store_elsewhere_are_in_memory_and_do_not_stay_there(
    calls: Calls, tmp_path: Path, end: str
) -> None:  # fmt: skip
    shared = put(calls, os.urandom(LARGE))
    small = put(calls, os.urandom(200_000))
    tasks = calls.submit(
        size_of, *[Call(Value(dump_args(Argument("value", shared), Argument("value", small))), (), (shared, small))] * 2
    )
    with pilot_elsewhere(calls, tmp_path / "pilot") as pilot:
        assert calls.values(tasks) == [[LARGE, 200_000]] * 2
        values = tmp_path / "pilot" / VALUES
        memory = (values / shared).readlink().parent
        assert memory.parent == Path("/dev/shm")
        assert memory.name.startswith(f"pilotmtc-{pilot.id}-")
        assert not (values / small).is_symlink()
        assert values_in(pilot.directory) >= {shared, small}
        agent, parent = calls.site.agent(pilot.id), calls.site.guard(pilot.id)
        if end == "kill the agent":
            kill(agent)
        elif end == "kill agent and guard":
            kill_at_once([parent, agent])
        else:
            calls.site.close_pilot(pilot)
        wait_until(lambda: not memory.exists())
        if end != "kill agent and guard":  # else the next pilot removes it
            wait_until(lambda: not values.exists())


# -- nodes that have not the pilot's directory -----------------------------------------------------------------------


class DistantNode:
    """A node worker of a pool that looks for the pilot's directory in vain."""

    def __init__(self, pool: PoolPilot, directory: Path) -> None:
        contact = Contact.read(pool.directory / NAME)
        directory.mkdir()
        structs.replace(contact, directory=str(directory / "nowhere")).write(directory / NAME)
        self.scratch = directory / "tmp"
        self.scratch.mkdir()
        command = [sys.executable, "-m", "pilotmtc.agent.crews.worker", str(directory / NAME), "--name", "far"]
        with (directory / "log").open("wb") as log:
            environ = os.environ | {"TMPDIR": str(self.scratch)}
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environ)
        pool.wait_nodes(2)


@pytest.fixture
def far(calls: Calls, tmp_path: Path) -> Iterator[DistantNode]:
    """Give one, in a pool whose other node is full."""
    with running_pool(calls.site, nodes=1, cores=2) as pool:
        pool.wait_nodes(1)
        (stay,) = calls.submit(make, (1, str(tmp_path / "leave")), resources=Resources(cores=2))
        calls.site.wait_running(stay)
        node = DistantNode(pool, tmp_path / "far")
        try:
            yield node
        finally:
            (tmp_path / "leave").touch()
            calls.site.close_pilot(calls.site.pilots[-1])
            node.process.wait(30.0)
    assert list(node.scratch.iterdir()) == []


def test_values_go_to_nodes_that_share_nothing_and_results_come_back(calls: Calls, far: DistantNode) -> None:
    shared = put(calls, os.urandom(LARGE))
    own = dump_args(os.urandom(LARGE), Argument("value", shared))
    tasks = calls.submit(size_of, *[Call(Value(digest=calls.put(own), size=len(own)), (), (shared,))] * 3)
    (large,) = calls.submit(make, (LARGE,))
    args = dump_args(Argument("input", 0))
    (after,) = calls.submit(size_of, Call(Value(args), (large,)))
    many = calls.submit(make, *[(number,) for number in range(500)])
    assert calls.values(tasks) == [[LARGE, LARGE]] * 3
    assert [len(value) for value in calls.values([large])] == [LARGE]
    assert calls.values([after]) == [[LARGE]]
    assert [len(value) for value in calls.values(many)] == list(range(500))
    for task in (*tasks, large, after, *many[::50]):
        assert [attempt.node for attempt in calls.site.attempts(task)] == ["far"]


def test_large_results_of_nodes_that_share_nothing_outlive_a_killed_server(calls: Calls, far: DistantNode) -> None:
    tasks = calls.submit(make, *[(8 * PART_BYTES + number,) for number in range(6)])
    calls.site.wait_done(2)
    kill(calls.site.server())
    assert [len(value) for value in calls.values(tasks)] == [8 * PART_BYTES + number for number in range(6)]
    assert {len(calls.site.attempts(task)) for task in tasks} == {1}


def test_ranks_need_the_pilots_directory(calls: Calls, far: DistantNode) -> None:
    (task,) = calls.submit(make, (1,), resources=Resources(ranks=2))
    (row,) = calls.returned([task])
    assert row.cause is Cause.LAUNCH_ERROR
    assert "need the pilot's directory" in (row.message or "")
