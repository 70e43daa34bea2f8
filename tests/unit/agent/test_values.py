"""Values of calls on their way from the store to the node, and back."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pilotmtc.agent import value_files, values
from pilotmtc.agent.core import events as c
from pilotmtc.agent.functions.frames import VALUES
from pilotmtc.agent.value_files import ValueFiles
from pilotmtc.agent.values import FIRST_BYTES, Values
from pilotmtc.errors import PilotMTCError, StoreError, UsageError
from pilotmtc.model import Call, CampaignId, Claimed, Function, PilotId, Resources, Result, TaskId, Template, Value
from pilotmtc.protocol.agent import Batch
from pilotmtc.protocol.values import PART_BYTES, GetValue, PutValue, ValuePart, ValueStatus
from pilotmtc.states import Cause

PILOT = PilotId(1)


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def kept(data: bytes) -> Value:
    return Value(digest=digest_of(data), size=len(data))


class Place:
    """Values on a node, and a store that answers when the test says so."""

    def __init__(self, directory: Path, files: ValueFiles | None = None) -> None:
        self.files = files or ValueFiles(directory)
        self.values = Values(PILOT, self.files, self._send)
        self.there: dict[str, bytes] = {}  # what the store has
        self.parts: dict[str, bytes] = {}  # and what it has in part
        self.paths: dict[str, str] = {}
        self.asked: list[GetValue | PutValue] = []
        self.events: list[c.Event] = []
        self.brought: list[Result] = []
        self.now = 0.0
        self.trouble: PilotMTCError | None = None  # what the store says to all that ask for values

    def _send(self, request: GetValue | PutValue) -> None:
        assert request.pilot == PILOT
        self.asked.append(request)

    def store(self, data: bytes) -> str:
        self.there[digest_of(data)] = data
        return digest_of(data)

    def want(self, *calls: Call, function: Function | None = None) -> frozenset[TaskId]:
        """Claim these calls, as tasks from 1 on; their function is here unless it is given."""
        template = Template(("work",), function=function or Function("work", ""))
        tasks = tuple(Claimed(TaskId(n), 1, 1, 1, campaign=CampaignId(1), call=call) for n, call in enumerate(calls, 1))
        return self.values.want(Batch(1, tasks, {1: template}, {1: Resources()}))

    def answer(self, number: int = 0) -> GetValue | PutValue:
        """Answer one of the requests that are under way."""
        request = self.asked.pop(number)
        if isinstance(request, GetValue) and self.trouble is not None:
            self.events += self.values.refused(request, self.trouble, self.now)
            return request
        if isinstance(request, GetValue):
            data = self.there.get(request.digest)
            part = ValuePart(False)
            if data is not None:
                end = request.offset + request.limit
                part = ValuePart(True, len(data), data[request.offset : end], self.paths.get(request.digest, ""))
            self.events += self.values.got(request, part, self.now)
            return request
        have = self.parts.get(request.digest, b"")
        if request.digest not in self.there and request.offset <= len(have):
            have = self.parts[request.digest] = have + request.data[len(have) - request.offset :]
        if len(have) == request.size:
            if digest_of(have) != request.digest:
                del self.parts[request.digest]
                self.values.refused(request, UsageError("it is not what its digest says"), self.now)
                return request
            self.there[request.digest] = have
        self.values.put(request, ValueStatus(len(self.there.get(request.digest, have))))
        return request

    def answer_all(self) -> list[GetValue | PutValue]:
        """Answer until nothing is under way."""
        done = []
        while self.asked:
            done.append(self.answer())
        return done

    def came(self) -> set[TaskId]:
        return {task for event in self.events if isinstance(event, c.ValuesCame) for task in event.tasks}

    def missing(self) -> list[c.ValuesMissing]:
        return [event for event in self.events if isinstance(event, c.ValuesMissing)]

    def read(self, digest: str) -> bytes:
        return self.files.path(digest).read_bytes()

    def bring(self, data: bytes, task: int = 1, *, written: bytes | None = None, there: bool = True) -> Result:
        """Leave a result as a worker does, and bring it to the store."""
        self.files.directory.mkdir(exist_ok=True)
        if there:
            self.files.path(digest_of(data)).write_bytes(data if written is None else written)
        result = Result(TaskId(task), 1, Cause.EXIT, 0, value=kept(data), value_text="text")
        self.values.bring(result, self.brought.append)
        return result


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.values.close()


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "FIRST_BYTES", 5)
    monkeypatch.setattr(values, "PART_BYTES", 8)
    monkeypatch.setattr(values, "_UNDER_WAY_BYTES", 20)


LARGE = os.urandom(PART_BYTES * 3 + 17)


def test_calls_with_all_in_their_rows_need_nothing(place: Place) -> None:
    assert place.want(Call(Value(b"x")), Call(Value(b"y"), (TaskId(7),), (), (Value(b"z"),))) == frozenset()
    assert place.asked == []
    assert not place.files.directory.exists()


def test_a_small_value_comes_with_one_message_and_its_call_is_told(place: Place, tmp_path: Path) -> None:
    digest = place.store(b"x" * 100)
    assert place.want(Call(values=(digest,)), Call(Value(b"x"))) == {1}
    assert place.answer_all() == [GetValue(digest, 0, FIRST_BYTES, PILOT)]
    assert place.came() == {1}
    assert place.read(digest) == b"x" * 100
    assert place.want(Call(values=(digest,))) == frozenset()
    assert oct((tmp_path / VALUES).stat().st_mode & 0o777) == "0o700"
    assert oct(place.files.path(digest).stat().st_mode & 0o777) == "0o600"


def test_a_call_waits_for_all_that_it_needs_and_what_many_need_comes_once(place: Place) -> None:
    code, setup, args, put, given_ = map(place.store, (b"code", b"setup", b"args", b"put", b"given"))
    first = Call(Value(digest=args, size=4), (TaskId(7),), (put,), (Value(digest=given_, size=5),))
    assert place.want(first, Call(values=(put,)), function=Function("work", code, setup)) == {1, 2}
    assert len(place.asked) == 5
    while place.asked:
        assert place.came() <= {2}
        place.answer()
    assert place.came() == {1, 2}


def test_a_large_value_comes_in_parts_in_any_order(place: Place) -> None:
    digest = place.store(LARGE)
    place.want(Call(values=(digest,)))
    place.answer()
    assert len(place.asked) > 1
    while place.asked:
        place.answer(-1)
    assert place.came() == {1}
    assert place.read(digest) == LARGE


def test_a_small_value_does_not_wait_for_a_large_one(place: Place) -> None:
    large, small = place.store(os.urandom(64 << 20)), place.store(b"small")
    place.want(Call(values=(large,)))
    place.answer()
    place.want(Call(values=(small,)))
    for _ in range(10):
        place.answer()
    assert place.read(small) == b"small"
    assert place.came() == {1}


def test_the_stores_own_file_is_linked(place: Place, tmp_path: Path) -> None:
    digest = place.store(LARGE)
    file = tmp_path / "kept"
    file.write_bytes(LARGE)
    place.paths[digest] = str(file)
    place.want(Call(values=(digest,)))
    assert len(place.answer_all()) == 1
    assert place.came() == {1}
    assert place.files.path(digest).samefile(file)


@pytest.mark.parametrize("why", ["it is not there", "it has another size", "it is a link", "workers cannot see it"])
def test_a_file_that_is_not_the_value_is_not_linked(why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(tmp_path, ValueFiles(tmp_path, alone=False))
    digest = place.store(LARGE)
    file = tmp_path / "kept"
    if why == "it has another size":
        file.write_bytes(LARGE[1:])
    elif why == "it is a link":
        (tmp_path / "other").write_bytes(LARGE)
        file.symlink_to(tmp_path / "other")
    elif why == "workers cannot see it":
        file.write_bytes(LARGE)

        def refuse(*args: object, **more: object) -> None:
            raise OSError(18, "Invalid cross-device link")

        monkeypatch.setattr(os, "link", refuse)
    place.paths[digest] = str(file)
    place.want(Call(values=(digest,)))
    assert len(place.answer_all()) > 1
    assert place.read(digest) == LARGE
    assert not place.files.path(digest).is_symlink()
    place.values.close()


def test_a_value_that_the_store_does_not_have_ends_its_calls(place: Place) -> None:
    place.want(Call(values=("ab" * 32,)), Call(values=("ab" * 32,)))
    place.answer_all()
    (event,) = place.missing()
    assert event.tasks == (1, 2)
    assert event.cause is Cause.LAUNCH_ERROR
    assert "ab" * 32 in event.message


def test_a_value_that_came_damaged_is_fetched_again_and_not_for_ever(place: Place) -> None:
    digest = place.store(LARGE)
    place.there[digest] = b"?" + LARGE[1:]
    place.want(Call(values=(digest,)))
    place.answer_all()
    assert not place.came()
    place.there[digest] = LARGE
    place.now += 60.0
    place.values.poll(place.now)
    place.answer_all()
    assert place.came() == {1}
    assert place.read(digest) == LARGE

    other = digest_of(b"other")
    place.there[other] = b"what is this"
    place.want(Call(values=(other,)))
    for _ in range(20):
        place.answer_all()
        place.now += 60.0
        place.values.poll(place.now)
    (event,) = place.missing()
    assert event.cause is Cause.NODE_LOST
    assert "not what its digest says" in event.message
    assert sorted(path.name for path in place.files.directory.iterdir()) == [digest]


def test_what_the_store_cannot_read_is_asked_for_again_and_not_for_ever(place: Place) -> None:
    first, other = place.store(LARGE), place.store(b"x" + LARGE)
    place.want(Call(values=(first,)))
    place.answer()
    place.trouble = StoreError("its disk hangs")
    place.answer_all()
    place.trouble = None
    place.values.poll(place.now + 60.0)
    place.answer_all()
    assert place.came() == {1}
    place.want(Call(values=(other,)))
    place.trouble = StoreError("its file is gone")
    for _ in range(20):
        place.answer_all()
        place.now += 60.0
        place.values.poll(place.now)
    (event,) = place.missing()
    assert event.cause is Cause.LAUNCH_ERROR
    assert other in event.message
    assert "its file is gone" in event.message


def test_what_is_no_digest_is_asked_for_once(place: Place) -> None:
    place.trouble = UsageError("it is no digest")
    place.want(Call(values=("x",)))
    assert len(place.answer_all()) == 1
    assert [event.cause for event in place.missing()] == [Cause.LAUNCH_ERROR]


def test_what_a_full_disk_does_not_take_is_tried_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = place.store(LARGE)
    place.want(Call(values=(digest,)))
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", lambda fd, data, at: _no_space())
        place.answer_all()
    assert not place.events
    place.values.poll(1e9)
    place.answer_all()
    assert place.came() == {1}


def _no_space() -> int:
    raise OSError(28, "No space left on device")


def test_calls_that_are_gone_meanwhile_are_not_spoken_of(place: Place) -> None:
    digest = place.store(LARGE)
    place.want(Call(values=(digest,)), Call(values=("ab" * 32,)), Call(values=("ab" * 32,)))
    place.values.release((TaskId(1), TaskId(2)))
    place.values.keep_only(())
    place.answer_all()
    assert place.events == []


def test_arguments_go_with_their_call_and_the_rest_stays(place: Place) -> None:
    args, put, code = place.store(b"args"), place.store(b"put"), place.store(b"code")
    place.want(Call(Value(digest=args, size=4), (), (put,)), function=Function("work", code))
    place.answer_all()
    place.values.release((TaskId(1),))
    assert {path.name for path in place.files.directory.iterdir()} == {put, code}


def test_values_that_nobody_holds_make_room_for_others(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(value_files, "_KEPT_BYTES", 250)
    digests = [place.store(bytes([n]) * 100) for n in range(4)]
    place.want(*(Call(values=(digest,)) for digest in digests))
    place.answer_all()
    assert all(digest in place.files for digest in digests)
    place.values.release([TaskId(n) for n in (2, 1, 3, 4)])
    assert [digest in place.files for digest in digests] == [False, False, True, True]
    assert {path.name for path in place.files.directory.iterdir()} == set(digests[2:])


def test_large_values_are_in_memory_as_far_as_they_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = tmp_path / "shm"
    monkeypatch.setattr(value_files, "_MEMORY", tmp_path)
    place = Place(tmp_path, ValueFiles(tmp_path, memory=memory, memory_bytes=9 * len(LARGE)))
    digests = [place.store(bytes([n]) + LARGE[1:]) for n in range(4)]
    small = place.store(b"small")
    place.want(*(Call(values=(digest,)) for digest in (*digests[:3], small)))
    place.answer_all()
    assert place.came() == {1, 2, 3, 4}
    assert [place.files.path(digest).is_symlink() for digest in (*digests[:3], small)] == [True, True, False, False]
    assert [place.read(digest) for digest in digests[:3]] == [place.there[digest] for digest in digests[:3]]
    place.values.release([TaskId(1)])  # which makes room
    place.want(Call(Value(b"")), Call(Value(b"")), Call(Value(b"")), Call(Value(b"")), Call(values=(digests[3],)))
    place.answer_all()
    assert {path.name for path in memory.iterdir()} == {digests[1], digests[3]}
    assert oct(memory.stat().st_mode & 0o777) == "0o700"
    place.values.close()
    assert not memory.exists()
    assert not place.files.directory.exists()


def test_a_result_goes_to_the_store_before_it_is_sent(place: Place) -> None:
    result = place.bring(b"x" * 40_000)
    assert not place.brought
    (request,) = place.answer_all()
    assert isinstance(request, PutValue)
    assert (request.offset, request.size, len(request.data)) == (0, 40_000, 40_000)
    assert place.brought == [result]
    assert place.want(Call(given=(kept(b"x" * 40_000),), inputs=(TaskId(1),))) == frozenset()


def test_a_large_result_goes_in_parts_from_where_the_store_has_it(place: Place) -> None:
    digest = digest_of(LARGE)
    place.parts[digest] = LARGE[:5000]
    result = place.bring(LARGE)
    sent = place.answer_all()
    assert [request.offset for request in sent if isinstance(request, PutValue)] == [
        0, 5000, 5000 + PART_BYTES, 5000 + 2 * PART_BYTES, 5000 + 3 * PART_BYTES,
    ][: len(sent)]  # fmt: skip
    assert place.there[digest] == LARGE
    assert place.brought == [result]


def test_results_of_the_same_value_go_once(place: Place) -> None:
    results = [place.bring(LARGE, task) for task in (1, 2)]
    sent = place.answer_all()
    assert sum(len(request.data) for request in sent if isinstance(request, PutValue)) == len(LARGE)
    assert place.brought == results
    place.bring(LARGE, 3)
    assert len(place.answer_all()) == 1  # the store has it


@pytest.mark.parametrize("why", ["gone", "cut", "wrong"])
def test_a_result_whose_value_is_lost_runs_again(place: Place, why: str) -> None:
    written = {"cut": LARGE[:-5], "wrong": LARGE[:-1] + b"?"}.get(why)
    result = place.bring(LARGE, written=written, there=why != "gone")
    place.answer_all()
    (lost,) = [one for one in place.brought if one.task == 1]
    assert (lost.cause, lost.exit_code, lost.value, lost.value_text) == (Cause.NODE_LOST, None, None, "")
    assert lost.message is not None
    assert (lost.task, lost.attempt) == (result.task, result.attempt)


def test_what_the_store_does_not_have_outlives_the_pilot(place: Place) -> None:
    owed, done = os.urandom(100_000), os.urandom(100_000)
    place.bring(done)
    place.answer_all()
    place.bring(owed, 2)
    place.values.close()
    assert {path.name for path in place.files.directory.iterdir()} == {digest_of(owed)}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.usefixtures("small_parts")
def test_all_comes_whole_whatever_the_order_of_answers(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = Place(tmp_path_factory.mktemp("pilot"))
    contents = data.draw(st.lists(st.binary(max_size=60), min_size=1, max_size=4, unique=True))
    results = data.draw(st.lists(st.binary(min_size=1, max_size=60), max_size=3, unique=True))
    place.want(*(Call(values=(place.store(content),)) for content in contents))
    brought = [place.bring(result, task) for task, result in enumerate(results, 100)]
    for time in range(9):  # troubles come a few times
        while place.asked:
            place.trouble = StoreError("for now") if data.draw(st.integers(0, 9)) == 0 and time < 7 else None
            place.answer(data.draw(st.integers(0, len(place.asked) - 1)))
        place.now += 10.0
        place.values.poll(place.now)
    assert place.came() == set(range(1, len(contents) + 1))
    assert [place.read(digest_of(content)) for content in contents] == contents
    assert sorted(place.brought, key=lambda result: result.task) == brought
    assert [place.there[digest_of(result)] for result in results] == results
    place.values.close()
