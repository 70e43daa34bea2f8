"""Values between an agent and a node worker that has not the pilot's directory."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pilotmtc.agent import values
from pilotmtc.agent.core.events import Start, Stop
from pilotmtc.agent.crews.distant_values import DistantValues
from pilotmtc.agent.crews.value_desk import ValueDesk
from pilotmtc.agent.functions.frames import VALUES
from pilotmtc.agent.value_files import ValueFiles
from pilotmtc.model import Call, Claimed, Function, PilotId, Resources, Result, TaskId, Template, Value
from pilotmtc.protocol.values import PART_BYTES, GetValue, PutValue, ValuePart
from pilotmtc.resources.slots import Slot
from pilotmtc.states import Cause

BIRTH = 17
LARGE = os.urandom(2 * PART_BYTES + 5)


class Line:
    """A node that shares nothing with its agent, the agent's values, and what goes between them when a test says so."""

    def __init__(self, directory: Path) -> None:
        self.agent = directory / "agent" / VALUES
        self.agent.mkdir(parents=True)
        self.node = directory / "node"
        self.node.mkdir()
        self.desk = ValueDesk(self.agent)
        self.values = DistantValues(PilotId(1), ValueFiles(self.node), self._start, self._report)
        self.started: list[list[int]] = []
        self.ended: dict[int, tuple[Cause, str]] = {}
        self.brought: list[Result] = []
        self.now = 0.0

    def _start(self, start: Start, now: float) -> None:
        calls = (start.claimed, *start.mates)
        for call in calls:
            assert call.call is not None
            for digest in call.call.values:
                assert hashlib.sha256((self.node / VALUES / digest).read_bytes()).hexdigest() == digest
        self.started.append([call.task for call in calls])

    def _report(self, task: TaskId, attempt: int, cause: Cause, message: str) -> None:
        assert attempt == 1
        self.ended[task] = cause, message

    def keep(self, data: bytes) -> str:
        """Let the agent have a value."""
        digest = hashlib.sha256(data).hexdigest()
        (self.agent / digest).write_bytes(data)
        return digest

    def start(self, *needs: tuple[str, ...]) -> None:
        """Start calls together that need values, as tasks from 1 on."""
        calls = [Call(Value(b"x"), (), digests) for digests in needs]
        first, *mates = [Claimed(TaskId(number), 1, 1, 1, call=call) for number, call in enumerate(calls, 1)]
        template = Template(("work",), function=Function("work", ""))
        self.values.start(Start(first, template, Resources(), (Slot((0,)),), mates=tuple(mates)), self.now)

    def stop(self, task: int, attempt: int = 1) -> None:
        self.values.stop(Stop(TaskId(task), attempt, Cause.CANCELED, 0.0), self.now)

    def bring(self, data: bytes) -> Result:
        """Leave a result as a worker does, and bring it to the agent."""
        digest = hashlib.sha256(data).hexdigest()
        (self.node / VALUES).mkdir(exist_ok=True)
        (self.node / VALUES / digest).write_bytes(data)
        result = Result(TaskId(99), 1, Cause.EXIT, 0, value=Value(digest=digest, size=len(data)))
        self.values.bring(result, self.brought.append)
        return result

    def speak(self) -> list[GetValue | PutValue]:
        """Let both say what they have to; return what the node has said."""
        said: list[GetValue | PutValue] = [*self.values.asks, *self.values.puts]
        parts = [self.desk.part(ask) for ask in self.values.asks]
        taken = [self.desk.take(BIRTH, put) for put in self.values.puts]
        self.values.asks.clear()
        self.values.puts.clear()
        self.values.hear(parts, taken, self.now)
        return said

    def speak_out(self) -> None:
        while self.speak():
            pass


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    made = Line(tmp_path)
    yield made
    made.values.close()
    made.desk.close()
    assert not (made.node / VALUES).exists()


def test_calls_start_together_when_all_of_them_have_what_they_need(line: Line) -> None:
    small, large = line.keep(b"small"), line.keep(LARGE)
    line.start((small,), (), (large, small))
    assert line.started == []
    line.speak_out()
    assert line.started == [[1, 2, 3]]
    line.start((small,))
    assert line.started[1:] == [[1]]


def test_a_call_whose_value_cannot_be_had_does_not_keep_others_from_their_start(line: Line) -> None:
    small = line.keep(b"small")
    line.start(("ab" * 32,), (small,), ("ab" * 32,))
    for _ in range(20):
        line.speak_out()
        line.now += 60.0
        line.values.poll(line.now)
    assert line.started == [[2]]
    assert {task: cause for task, (cause, _) in line.ended.items()} == dict.fromkeys((1, 3), Cause.LAUNCH_ERROR)
    assert "ab" * 32 in line.ended[1][1]


def test_calls_that_wait_are_canceled_one_by_one(line: Line) -> None:
    large = line.keep(LARGE)
    line.start((large,), (), (large,))
    line.stop(2)
    line.stop(3, attempt=2)
    line.stop(4)
    line.speak()
    line.stop(1)
    line.speak_out()
    assert line.started == [[3]]
    assert {task: cause for task, (cause, _) in line.ended.items()} == dict.fromkeys((1, 2), Cause.CANCELED)


def test_the_last_call_that_lacks_something_may_be_canceled(line: Line) -> None:
    line.start((line.keep(LARGE),), ())
    line.stop(1)
    assert line.started == [[2]]
    line.speak_out()
    assert line.started == [[2]]


def test_large_results_come_to_the_agent_and_those_that_it_has_do_not(line: Line) -> None:
    results = [line.bring(LARGE), line.bring(b"other" * 20_000)]
    assert line.values.owes
    line.speak_out()
    assert line.brought == results[::-1] or line.brought == results
    assert not line.values.owes
    for result in results:
        assert result.value is not None
        data = (line.agent / result.value.digest).read_bytes()
        assert hashlib.sha256(data).hexdigest() == result.value.digest
    line.bring(LARGE)
    assert [len(put.data) for put in line.speak() if isinstance(put, PutValue)] == [0]


def test_a_result_that_the_agent_cannot_keep_is_made_again(line: Line) -> None:
    line.bring(LARGE)
    line.speak()
    line.agent.rename(line.agent.with_name("away"))
    line.desk.close()
    line.speak_out()
    (result,) = line.brought
    assert (result.cause, result.value) == (Cause.NODE_LOST, None)
    assert "could not keep it" in (result.message or "")


def test_what_a_lost_worker_has_sent_in_part_is_removed(line: Line) -> None:
    digest = hashlib.sha256(LARGE).hexdigest()
    assert line.desk.take(BIRTH, PutValue(digest, 0, len(LARGE), LARGE[:PART_BYTES])) == PART_BYTES
    assert len(list(line.agent.iterdir())) == 1
    line.desk.forget(BIRTH + 1)
    assert line.desk.take(BIRTH, PutValue(digest, 0, len(LARGE), b"")) == PART_BYTES
    line.desk.forget(BIRTH)
    assert list(line.agent.iterdir()) == []


def test_value_that_the_agent_cannot_read_is_said_not_to_be_there(line: Line) -> None:
    assert line.desk.part(GetValue("ab" * 32)) == ValuePart(False)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "FIRST_BYTES", 5)
    monkeypatch.setattr(values, "PART_BYTES", 8)
    monkeypatch.setattr(values, "_UNDER_WAY_BYTES", 20)


@pytest.mark.usefixtures("small_parts")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    contents=st.lists(st.binary(max_size=60), min_size=1, max_size=4, unique=True),
    results=st.lists(st.binary(min_size=1, max_size=60), max_size=3, unique=True),
)
def test_all_comes_whole(
    contents: list[bytes], results: list[bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:  # fmt: skip
    line = Line(tmp_path_factory.mktemp("line"))
    line.start(*((line.keep(content),) for content in contents))
    brought = [line.bring(result) for result in results]
    line.speak_out()
    assert line.started == [list(range(1, len(contents) + 1))]
    assert sorted(line.brought, key=brought.index) == brought
    for result in results:
        assert (line.agent / hashlib.sha256(result).hexdigest()).read_bytes() == result
    line.values.close()
    line.desk.close()
