"""What killed agents have left on the disk: results, and the values of calls."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilotmtc.agent import guard
from pilotmtc.agent.functions.frames import VALUES
from pilotmtc.agent.leftovers import send_spool, take_in
from pilotmtc.agent.spool import Spool
from pilotmtc.model import (
    Call,
    Function,
    Pilot,
    PilotDescription,
    Resources,
    Result,
    TaskId,
    TaskRow,
    Template,
    Value,
)
from pilotmtc.protocol.agent import AttachPilot, Claim
from pilotmtc.protocol.client.campaigns import Submit
from pilotmtc.protocol.client.pilots import CreatePilot
from pilotmtc.protocol.client.tasks import GetReturned, GetTask, ReturnedCall
from pilotmtc.protocol.values import PART_BYTES, GetValue, PutValue
from pilotmtc.states import Cause, TaskState
from pilotmtc.store.client.client import StoreClient
from pilotmtc.store.client.connect import connect_store

LARGE = os.urandom(1000) * 2100


class Dead:
    """A pilot whose agent has claimed two calls, and has been killed."""

    def __init__(self, client: StoreClient, directory: Path) -> None:
        self.client = client
        self.directory = directory
        code = hashlib.sha256(b"code").hexdigest()
        client.call(PutValue(code, 0, 4, b"code"))
        template = Template(("work({args})",), fields=("args",), function=Function("work", code))
        rows = tuple(TaskRow(0, 0, (str(n),), call=Call(Value(b"x"))) for n in range(2))
        client.call(Submit("key", 0, "test", (template,), (Resources(),), rows, True))
        description = PilotDescription(cores=2)
        self.pilot: Pilot = client.call(CreatePilot("pilot", description, str(directory))).pilots[0]
        client.call(AttachPilot(self.pilot.id, "here", 1, 1, 2))
        batch = client.call(Claim(self.pilot.id, 1, Resources(cores=2), Resources(cores=2), 2))
        self.tasks = [claimed.task for claimed in batch.tasks]
        directory.mkdir(mode=0o700)
        (directory / VALUES).mkdir(mode=0o700)

    def left(self, task: TaskId, data: bytes, written: bytes | None) -> None:
        """Leave the result of a call in the spool, and its value in a file if it is `written`."""
        value = Value(digest=hashlib.sha256(data).hexdigest(), size=len(data))
        if written is not None:
            (self.directory / VALUES / value.digest).write_bytes(written)
        spool = Spool(self.directory)
        spool.write([Result(task, 1, Cause.EXIT, 0, value=value, value_text="text")])
        spool.close()

    def returned(self, task: TaskId) -> ReturnedCall:
        return self.client.call(GetReturned((task,))).rows[0]


@pytest.fixture
def client(tmp_path: Path) -> Iterator[StoreClient]:
    with connect_store(str(tmp_path / "store.db")) as made:
        yield made


@pytest.fixture
def dead(client: StoreClient, tmp_path: Path) -> Dead:
    return Dead(client, tmp_path / "pilot")


def test_large_results_are_sent_with_their_values_and_these_are_removed(client: StoreClient, dead: Dead) -> None:
    small = os.urandom(100_000)
    dead.left(dead.tasks[0], LARGE, LARGE)
    dead.left(dead.tasks[1], small, small)
    digest = hashlib.sha256(LARGE).hexdigest()
    client.call(PutValue(digest, 0, len(LARGE), LARGE[:PART_BYTES]))  # the agent had begun to
    assert send_spool(client, dead.pilot.id, dead.directory) == 2
    for task, data in zip(dead.tasks, (LARGE, small), strict=True):
        back = dead.returned(task)
        assert (back.state, back.value_text) == (TaskState.DONE, "text")
        assert back.value == Value(digest=hashlib.sha256(data).hexdigest(), size=len(data))
        assert client.call(GetValue(back.value.digest)).data == data[:PART_BYTES]
    assert list(dead.directory.iterdir()) == []


@pytest.mark.parametrize("how", ["gone", "cut", "changed"])
def test_call_whose_value_is_lost_runs_again(client: StoreClient, dead: Dead, how: str) -> None:
    dead.left(dead.tasks[0], LARGE, {"cut": LARGE[:-5], "changed": b"?" + LARGE[1:]}.get(how))
    send_spool(client, dead.pilot.id, dead.directory)
    found = client.call(GetTask(dead.tasks[0]))
    assert found.task is not None
    assert (found.task.state, found.task.failures) == (TaskState.READY, 0)
    assert [attempt.cause for attempt in found.attempts] == [Cause.NODE_LOST]


def test_value_that_the_store_has_already_need_not_be_there(client: StoreClient, dead: Dead) -> None:
    small = os.urandom(100_000)
    client.call(PutValue(hashlib.sha256(small).hexdigest(), 0, len(small), small))
    dead.left(dead.tasks[0], small, None)
    send_spool(client, dead.pilot.id, dead.directory)
    assert dead.returned(dead.tasks[0]).state is TaskState.DONE


def test_next_agent_removes_values_that_others_have_left(client: StoreClient, dead: Dead, tmp_path: Path) -> None:
    (dead.directory / VALUES / "abc").write_bytes(b"x")
    living, strange = tmp_path / "living", tmp_path / "strange"
    for other in (living, strange):
        (other / VALUES).mkdir(0o700, parents=True)
        other.chmod(0o700)
    client.call(CreatePilot("living", PilotDescription(), str(living)))
    spool = Spool(living)
    try:
        take_in(str(tmp_path / "store.db"), tmp_path / "new")
        assert [(place / VALUES).exists() for place in (dead.directory, living, strange)] == [False, True, True]
    finally:
        spool.close()


def test_guard_removes_what_its_processes_have_left_in_memory_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = tmp_path / "memory"
    monkeypatch.setattr(guard, "MEMORY", str(memory))
    mark = 0xABC << guard.HALF
    precious = memory / "precious"
    for path in (memory / "pilotmtc-7-abc", memory / "pilotmtc-7-1abc", memory / "other-abc", precious):
        path.mkdir(parents=True)
        (path / "value").touch()
    (memory / "pilotmtc-8-abc").symlink_to(precious)
    guard.clear_memory(mark)
    guard.clear_memory(0)
    left = {path.name for path in memory.iterdir()}
    assert left == {"pilotmtc-7-1abc", "other-abc", "precious", "pilotmtc-8-abc"}
    assert (precious / "value").exists()


def test_guard_knows_which_pipes_are_abandoned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    swept: list[int] = []
    monkeypatch.setattr(guard, "MEMORY", str(tmp_path))
    monkeypatch.setattr(guard, "sweep_marked", lambda mark, timeout_s: swept.append(mark >> guard.HALF))
    living, dead = (guard.named_pipe(mark << guard.HALF) for mark in (0xA1, 0xDE))
    for fd in (*dead, living[0]):
        os.close(fd)
    os.mkfifo(tmp_path / f"{guard._ALIVE}de.new")  # its guard is about to open it
    (tmp_path / f"{guard._ALIVE}fe").touch()
    (tmp_path / f"{guard._ALIVE}dd").symlink_to(f"{guard._ALIVE}de")
    guard.sweep_abandoned()
    assert swept == [0xDE]
    os.close(living[1])
    guard.clear_memory(0xA1 << guard.HALF)
    assert not (tmp_path / f"{guard._ALIVE}a1").exists()


def test_guard_without_memory_has_a_pipe_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(guard, "MEMORY", str(tmp_path / "none"))
    guard.sweep_abandoned()
    reading, writing = guard.named_pipe(0xA1 << guard.HALF)
    os.close(writing)
    assert os.read(reading, 1) == b""
    os.close(reading)
    assert "later pilots could not end what this one leaves" in capfd.readouterr().err


@pytest.mark.parametrize("ends", ["well", "killed"])
def test_nothing_stays_in_memory_however_the_agent_ends(ends: str, tmp_path: Path) -> None:
    """The guard runs a program in the agent's place, which leaves a value there."""
    program = tmp_path / "agent.py"
    program.write_text(
        "import os, sys\n"
        "from pathlib import Path\n"
        "from pilotmtc.agent.value_files import memory_directory\n"
        "if '--post-mortem' in sys.argv:\n"
        "    sys.exit()\n"
        "directory = memory_directory(4711)\n"
        "assert directory is not None\n"
        "directory.mkdir(0o700)\n"
        "(directory / 'value').write_bytes(b'x')\n"
        f"Path({str(tmp_path / 'name')!r}).write_text(str(directory))\n"
        f"os.kill(os.getpid(), 9 if {ends!r} == 'killed' else 0)\n"
    )
    todo = guard.instructions([sys.executable, str(program)])
    root = str(Path(guard.__file__).parents[2])
    argv = [sys.executable, "-I", "-S", guard.__file__, todo]
    subprocess.run(argv, check=False, timeout=60, env=os.environ | {"PYTHONPATH": root})
    directory = Path((tmp_path / "name").read_text())
    assert directory.name.startswith("pilotmtc-4711-")
    assert not directory.exists()
