"""Calls of functions in real worker processes of one node."""

import ast
import ctypes
import operator
import os
import pickle
import pwd
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
import pytest
from msgspec import structs

import pilotmtc
from pilotmtc import pickled
from pilotmtc import worker as user_side
from pilotmtc.agent import functions
from pilotmtc.agent.functions import calls as in_worker
from pilotmtc.agent.functions import frames, pool, process, rank, serve
from pilotmtc.agent.functions import worker as program
from pilotmtc.model import INLINE_BYTES, Call, Function, Resources, TaskId, Value
from pilotmtc.states import Cause
from tests.integration.function_support import HERE, Argument, Node, dump_args, running_node
from tests.support import alive, nap, small_disk, wait_until

cloudpickle.register_pickle_by_value(sys.modules[__name__])
MIB = 1 << 20


@pytest.fixture
def node(tmp_path: Path, surroundings: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    monkeypatch.setattr(pool, "RECALL_S", 3600.0)  # where many tests share a machine, any call may take long
    with running_node(tmp_path) as made:
        yield made


def twice(x: Any) -> Any:
    return 2 * x


def pid() -> int:
    return os.getpid()


def raises(error: BaseException) -> None:
    raise error


def wait_for(path: str, then: object = None) -> object:
    while not os.path.exists(path):
        time.sleep(0.005)
    return then


def begin_and_wait(began: str, until: str) -> None:
    open(began, "w").close()
    wait_for(until)


# -- values ------------------------------------------------------------------------------------------------------


def test_call_returns_its_value_with_a_text_for_people(node: Node) -> None:
    result = node.run(twice, 21)
    assert (result.cause, result.exit_code, result.signal, result.value_text) == (Cause.EXIT, 0, None, "42")
    assert node.value(result) == 42
    assert (result.node, result.slot, result.stdout, result.stderr) == ("n1", "0", b"", b"")
    assert result.elapsed_s > 0
    assert result.cpu_s > 0
    assert result.memory_bytes > 5 * MIB
    assert abs(result.started_at - time.time()) < 60


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "None"),
        ("a\nb\x1b[31m", r"'a\nb\x1b[31m'"),
        ("x" * 1000, "'" + "x" * 200 + "'"),
        (b"\0", r"b'\x00'"),
        (10**1000, "<int of 3322 bits>"),
        (list(range(100)), "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ...]"),
        ({"a": [1.5, (2,)]}, "{'a': [1.5, (2,)]}"),
        ("ünï", "'ünï'"),
    ],
)
def test_text_of_a_value_is_bounded_and_printable(value: object, text: str) -> None:
    assert in_worker.bounded(in_worker._shown(value)).decode() == text


def test_text_of_strange_objects_does_no_harm() -> None:
    class Lines:
        def __repr__(self) -> str:
            return "two\n  lines"

    class Evil:
        def __repr__(self) -> str:
            raise RuntimeError

    assert in_worker._shown(Lines()) == "two lines"
    assert "Evil" in in_worker._shown(Evil())
    assert in_worker.bounded("\ud800 \x00") == rb"\ud800 \x00"
    assert len(in_worker.bounded("x" * 10_000)) < 1000


def test_values_that_were_put_and_results_of_others_are_arguments(node: Node) -> None:
    def join(numbers: list[int], one: int, *, two: bytes) -> tuple[int, int, bytes]:
        numbers.append(4)
        return len(numbers), one, two

    put = node.keep(pickled.dump_value([1, 2, 3]))
    large = b"x" * (INLINE_BYTES + 1)
    given = (Value(pickle.dumps(5)), Value(b"", node.keep(pickled.dump_value(large)), len(large)))
    code = node.function(join)
    args = dump_args(Argument("value", put), Argument("input", 0), two=Argument("input", 1))
    call = Call(Value(args), (TaskId(7), TaskId(8)), (put,), given)
    first, second = node.start(code, node.claim_call(call), node.claim_call(call))
    node.wait(lambda: len(node.results) == 2)
    assert node.value(node.results[first]) == (4, 5, large)
    assert node.value(node.results[second]) == (5, 5, large)  # it is the same object for each call


def test_large_arguments_and_results_are_kept_in_files(node: Node) -> None:
    data = os.urandom(3 * INLINE_BYTES)
    args = dump_args(data)
    call = Call(Value(b"", node.keep([args]), len(args)))
    (task,) = node.start(twice, node.claim_call(call))
    result = node.result(task)
    assert result.value is not None
    assert result.value.digest
    assert node.value(result) == 2 * data


def test_frames_that_do_not_fit_into_a_datagram_lie_in_files(node: Node) -> None:
    def total(*parts: bytes) -> int:
        return sum(map(len, parts))

    given = tuple([Value(pickle.dumps(os.urandom(INLINE_BYTES - 50))) for _ in range(20)])
    args = dump_args(*[Argument("input", number) for number in range(20)])
    call = Call(Value(args), tuple(map(TaskId, range(1, 21))), (), given)
    tasks = node.start(total, *[node.claim_call(call) for _ in range(3)])
    assert {node.value(node.result(task)) for task in tasks} == {20 * (INLINE_BYTES - 50)}
    assert not list((node.directory / frames.VALUES).glob(".call*"))


def test_buffers_of_put_values_are_mapped_and_cannot_be_changed(node: Node) -> None:
    class Table:
        def __init__(self, content: Any) -> None:
            self.content = content

        def __reduce_ex__(self, protocol: Any) -> Any:
            return Table, (pickle.PickleBuffer(self.content),)

    def look(table: Any) -> tuple[int, bool, int]:
        with open("/proc/self/smaps_rollup") as file:
            private = sum(int(line.split()[1]) for line in file if line.startswith("Private"))
        return sum(table.content[::4096]), table.content.readonly, private

    put = node.keep(pickled.dump_value(Table(bytearray([1]) * (64 * MIB)), cloudpickle.dumps))
    call = Call(Value(dump_args(Argument("value", put))), (), (put,))
    code = node.function(look)
    tasks = node.start(code, node.claim_call(call)) + node.start(code, node.claim_call(call), cores=(1,))
    for task in tasks:
        total, readonly, private_kb = node.value(node.result(task))
        assert (total, readonly) == (64 * MIB // 4096, True)
        # One alone may have all of it: its pages are in the file's, which the second shares.
        assert private_kb < (64 + 40) * 1024


def test_result_that_cannot_be_pickled_fails_its_own_call(node: Node) -> None:
    code = node.function(lambda number: threading.Lock() if number == 1 else number)
    tasks = node.start(code, *[node.claim(number) for number in range(3)])
    node.wait(lambda: len(node.results) == 3)
    bad = node.results[tasks[1]]
    assert bad.exit_code == 1
    error = node.value(bad)
    assert isinstance(error, pickle.PicklingError)
    assert "the result, a lock, cannot be pickled" in str(error)

    async def later() -> int:
        return 1

    error = node.value(node.run(later))
    assert str(error).endswith("cannot pickle 'coroutine' object; let the function return asyncio.run(...) of it")
    assert [node.value(node.results[task]) for task in (tasks[0], tasks[2])] == [0, 2]


def test_results_of_classes_that_only_the_function_has(node: Node) -> None:
    class Point:
        x = 3

    found = node.value(node.run(lambda: (Point(), lambda: Point.x)))
    assert type(found[0]).__name__ == "Point"
    assert found[1]() == 3


def test_arguments_that_cannot_be_unpickled_fail_their_own_call(node: Node) -> None:
    bad = node.claim_call(Call(Value(b"\x80\x05cno_such_module\nname\n.")))
    good = node.claim(4)
    tasks = node.start(twice, bad, good)
    assert isinstance(node.value(node.result(tasks[0])), ModuleNotFoundError)
    assert node.value(node.result(tasks[1])) == 8


# -- exceptions --------------------------------------------------------------------------------------------------


class Two(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")
        self.two = two


class NotPickled(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


def test_exception_comes_with_its_traceback_and_worker_goes_on(node: Node) -> None:
    def divide(x: float) -> float:
        return 1 / x

    code = node.function(divide)
    tasks = node.start(code, node.claim(0), node.claim(2))
    result = node.result(tasks[0])
    assert (result.cause, result.exit_code, result.value_text) == (Cause.EXIT, 1, "ZeroDivisionError: division by zero")
    error = node.value(result)
    assert type(error) is ZeroDivisionError
    assert "in divide" in str(error.__cause__)
    assert result.stderr.decode() in str(error.__cause__)
    assert result.stderr.startswith(b"Traceback")
    assert b"worker.py" not in result.stderr
    assert node.value(node.result(tasks[1])) == 0.5
    assert len(node.pids()) == 1


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt("by hand"), GeneratorExit()], ids=repr)
def test_exceptions_that_end_programs_end_the_call_only(node: Node, error: BaseException) -> None:
    code = node.function(raises)
    tasks = node.start(code, node.claim(error), node.claim(ValueError("next")))
    found = node.value(node.result(tasks[0]))
    assert (type(found), found.args) == (type(error), error.args)
    assert str(node.value(node.result(tasks[1]))) == "next"
    assert len(node.pids()) == 1


def test_exception_whose_class_takes_other_arguments_comes_back(node: Node) -> None:
    found = node.value(node.run(lambda: raises(Two(1, 2))))
    assert (str(found), found.two) == ("1 and 2", 2)
    assert "Two: 1 and 2" in str(found.__cause__)


def test_exception_that_cannot_travel_is_told_as_text(node: Node) -> None:
    found = node.value(node.run(lambda: raises(NotPickled("here"))))
    assert isinstance(found, pickled.RemoteError)
    assert str(found).endswith("NotPickled: here")
    assert "Traceback" in str(found.__cause__)


def test_large_exception_is_kept_in_a_file(node: Node) -> None:
    result = node.run(lambda: raises(ValueError("x" * 100_000)))
    assert result.value is not None
    assert result.value.digest
    assert node.value(result).args == ("x" * 100_000,)
    assert len(result.value_text) < 1000


# -- output ------------------------------------------------------------------------------------------------------


def test_each_call_has_what_it_printed(node: Node) -> None:
    def say(number: int) -> None:
        print("out", number)
        os.write(2, b"err %d\n" % number)
        subprocess.run(["sh", "-c", f"echo child {number}"], check=True)

    tasks = node.start(say, *[node.claim(number) for number in range(5)])
    for number, task in enumerate(tasks):
        result = node.result(task)
        assert result.stdout.decode() == f"out {number}\nchild {number}\n"
        assert (result.stderr.decode(), result.stdout_bytes) == (f"err {number}\n", len(result.stdout))


def test_large_output_is_kept_in_a_file_with_head_and_tail(node: Node) -> None:
    def say(lines: int) -> None:
        for number in range(lines):
            print(f"{number:09}")

    code = node.function(say)
    tasks = node.start(code, node.claim(100_000), node.claim(5000), node.claim(1))
    result = node.result(tasks[0])
    whole = "".join(f"{number:09}\n" for number in range(100_000)).encode()
    assert result.stdout_bytes == 1_000_000
    assert result.stdout_path == str(node.directory / "outputs" / f"{tasks[0]}.1.out")
    assert Path(result.stdout_path).read_bytes() == whole
    assert result.stdout.startswith(whole[:32768])
    assert result.stdout.endswith(whole[-32768:])
    assert (node.result(tasks[1]).stdout, node.result(tasks[1]).stdout_path) == (whole[:50_000], None)
    assert node.result(tasks[2]).stdout == b"000000000\n"


def test_output_beyond_what_is_to_be_kept_is_dropped(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pilotmtc.agent.functions.process._SPARE_BYTES", 1000)
    monkeypatch.setattr(pool, "TRIM_S", 3600.0)

    def say() -> None:
        os.write(1, b"x" * 5_000_000)
        open("written", "w").close()
        wait_for("go")
        os.write(1, b"end")

    (task,) = node.start(say, node.claim(), max_output_bytes=100_000)
    node.wait((node.directory / "written").exists)
    node.functions.poll(time.monotonic() + 3601)
    assert node.written(task).stdout_bytes == 5_000_000
    (node.directory / "go").touch()
    result = node.result(task)
    assert result.stdout_bytes == 5_000_003
    assert result.stdout.endswith(b"xend")
    assert os.path.getsize(result.stdout_path or "") < 110_000


def test_output_of_long_calls_is_looked_at_from_time_to_time(node: Node) -> None:
    (task,) = node.start(wait_for, node.claim("go"))
    for later in (1.5, 10.0):
        now = time.monotonic() + later * pool.TRIM_S
        node.functions.poll(now)
        assert node.functions.due() >= now + pool.TRIM_S  # and not all the time
    (node.directory / "go").touch()
    node.result(task)


def test_running_call_shows_what_it_has_printed(node: Node) -> None:
    def say() -> None:
        print("here I am")
        wait_for("go")

    (task,) = node.start(say, node.claim())
    node.wait(lambda: node.written(task).stdout == b"here I am\n")
    (node.directory / "go").touch()
    assert node.result(task).stdout == b"here I am\n"


def test_streams_that_a_call_closes_are_there_for_the_next(node: Node) -> None:
    def close(how: str) -> None:
        if how == "close":
            sys.stdout.close()
        elif how == "replace":
            sys.stdout = sys.stderr = None
        elif how == "raise":
            sys.stderr.close()
            raise ValueError
        else:
            print("hello")

    tasks = node.start(close, *[node.claim(how) for how in ("close", "say", "replace", "say", "raise", "say")])
    assert [node.result(task).stdout for task in tasks] == [b"", b"hello\n"] * 3


def test_output_of_a_thread_in_between_is_in_the_next_call(node: Node) -> None:
    def later() -> None:
        def run() -> None:
            wait_for("go")
            os.write(1, b"late\n")
            open("said", "w").close()

        threading.Thread(target=run, daemon=True).start()

    assert node.run(later).stdout == b""
    (node.directory / "go").touch()
    node.wait((node.directory / "said").exists)
    assert node.run(pid).stdout == b"late\n"


# -- setups ------------------------------------------------------------------------------------------------------


def test_initializer_runs_once_in_each_worker_and_state_stays(node: Node) -> None:
    def load(name: str) -> None:
        from pilotmtc import worker

        print("loading", name)
        worker.state.model = name
        worker.state.count = 0

    def count() -> Any:
        from pilotmtc.worker import state

        state.count += 1
        return state.model, state.count

    code = node.function(count, initializer=load, initargs=("m.npz",))
    tasks = node.start(code, *[node.claim() for _ in range(3)])
    assert [node.value(node.result(task)) for task in tasks] == [("m.npz", 1), ("m.npz", 2), ("m.npz", 3)]
    assert [node.result(task).stdout for task in tasks] == [b"loading m.npz\n", b"", b""]


def test_cached_loads_once_although_each_call_brings_its_own_loader(node: Node) -> None:
    def work(x: int) -> tuple[int, int]:
        from pilotmtc import worker

        def load(name: str, scale: int = 1) -> int:
            print("loading", name)
            return len(name) * scale

        return x, worker.cached(load, "model", scale=10)

    code = node.function(work)
    tasks = node.start(code, *[node.claim(number) for number in range(3)])
    assert [node.value(node.result(task)) for task in tasks] == [(0, 50), (1, 50), (2, 50)]
    assert [node.result(task).stdout for task in tasks] == [b"loading model\n", b"", b""]


def test_initializer_that_fails_is_told_for_each_call(node: Node) -> None:

    def load() -> None:
        print("about to fail")
        raises(OSError(2, "no such model"))

    code = node.function(twice, initializer=load)
    tasks = node.start(code, node.claim(1), node.claim(2))
    for task in tasks:
        result = node.result(task)
        assert (result.cause, result.exit_code) == (Cause.LAUNCH_ERROR, None)
        assert result.message == "the initializer failed: FileNotFoundError: [Errno 2] no such model"
        assert result.value is not None
        error = pickled.load_exception(result.value.data)
        assert (type(error), error.args) == (FileNotFoundError, (2, "no such model"))
    assert node.results[tasks[0]].stdout == b"about to fail\n"
    assert b"Traceback" in node.results[tasks[0]].stderr
    assert node.unbegun == []
    node.wait(lambda: not node.pids())


def test_other_minor_version_is_told_before_anything_is_unpickled(node: Node) -> None:
    known = node.function(twice)
    other = Function("twice", known.code, version=(3, 99))
    setup = Function("twice", known.code, known.code, version=(3, 99))
    for function, what in ((other, "the function"), (setup, "the initializer")):
        result = node.run(function, 1)
        assert result.cause is Cause.LAUNCH_ERROR
        assert f"{what} was pickled by Python 3.99 and cannot run in {sys.executable}" in (result.message or "")
        assert "python=" in (result.message or "")
    assert node.value(node.run(Function("twice", known.code), 1)) == 2


def test_missing_module_is_named_with_what_to_do(node: Node) -> None:
    code = node.keep([b"\x80\x05cno_such_package.sub\nname\n."])
    result = node.run(Function("name", code, version=HERE))
    assert result.cause is Cause.LAUNCH_ERROR
    assert "No module named 'no_such_package'; install no_such_package there" in (result.message or "")
    assert result.value is not None
    assert isinstance(pickled.load_exception(result.value.data), ModuleNotFoundError)


@pytest.mark.parametrize(
    ("python", "text"),
    [
        ("/no/such/python", "/no/such/python: No such file or directory; choose another Python"),
        ("no-such-python", "no-such-python: no such program in PATH"),
        ("/bin/false", "the function worker could not start: /bin/false ended with exit code 1: no message"),
    ],
)
def test_python_that_cannot_be_started(node: Node, python: str, text: str) -> None:
    tasks = node.start(node.function(twice, python=python), node.claim(1), node.claim(2))
    for task in tasks:
        result = node.result(task)
        assert result.cause is Cause.LAUNCH_ERROR
        assert text in (result.message or "")


def test_value_that_is_not_there_is_the_nodes_fault(node: Node) -> None:
    result = node.run(Function("gone", "0" * 64, version=HERE))
    assert result.cause is Cause.NODE_LOST
    assert "0" * 64 in (result.message or "")


def test_directory_and_variables_are_the_templates(node: Node, tmp_path: Path) -> None:
    def look() -> tuple[str, dict[str, str], bool]:
        return os.getcwd(), dict(os.environ), "" in sys.path

    place = tmp_path / "place"
    place.mkdir()
    result = node.run(look, cwd=str(place), env={"MINE": "yes"}, cores=(1,), resources=Resources(cores=1))
    cwd, env, is_on_path = node.value(result)
    assert (cwd, env["MINE"], env["PWD"], is_on_path) == (str(place), "yes", str(place), True)
    assert (env["PILOTMTC_CORE_LIST"], env["PILOTMTC_CORES"], env["OMP_NUM_THREADS"]) == ("1", "1", "1")
    assert (env["PILOTMTC_PILOT_ID"], env["PILOTMTC_STORE"]) == ("1", "store")
    assert "PILOTMTC_TASK_ID" not in env
    gone = node.run(look, cwd="/no/such/place")
    assert gone.cause is Cause.LAUNCH_ERROR
    assert "/no/such/place" in (gone.message or "")
    advised = node.run(node.function(look, python=sys.executable), cwd="/no/such/place")
    assert (advised.message or "").endswith("No such file or directory; choose another cwd")
    assert node.value(node.run(look))[0] == str(node.directory)


def test_user_programs_find_a_main_module_of_their_own(node: Node) -> None:
    def look() -> tuple[list[str], list[str], bool]:
        import __main__

        return sorted(vars(__main__)), sys.argv, any("functions" in entry for entry in sys.path)

    names, argv, has_ours = node.value(node.run(look))
    assert "Worker" not in names
    assert (argv, has_ours) == ([""], False)


# -- which worker ------------------------------------------------------------------------------------------------


def test_worker_is_used_again_and_calls_keep_their_order(node: Node) -> None:
    code = node.function(pid)
    first = node.value(node.run(code))
    tasks = node.start(code, *[node.claim() for _ in range(500)])
    node.wait(lambda: len(node.results) == 501)
    assert node.order[1:] == tasks
    assert {node.value(node.results[task]) for task in node.order} == {first}


def test_calls_of_other_cores_have_a_worker_of_their_own(node: Node) -> None:
    code = node.function(wait_for)
    tasks = node.start(code, node.claim("go")) + node.start(code, node.claim("go"), cores=(1,))
    assert len(node.pids()) == 2
    (node.directory / "go").touch()
    assert [node.result(task).slot for task in tasks] == ["0", "1"]


def test_idle_worker_moves_to_other_cores(tmp_path: Path, surroundings: Path) -> None:
    def look() -> tuple[int, set[int], str]:
        return os.getpid(), os.sched_getaffinity(0), os.environ["PILOTMTC_CORE_LIST"]

    there = sorted(os.sched_getaffinity(0))
    if len(there) < 2:
        pytest.skip("needs two cores")
    with running_node(tmp_path, pin=True) as node:
        code = node.function(look)
        first, one, name = node.value(node.run(code, cores=(there[0],)))
        again, other, other_name = node.value(node.run(code, cores=(there[1],)))
        assert (one, name) == ({there[0]}, str(there[0]))
        assert (again, other, other_name) == (first, {there[1]}, str(there[1]))


def test_idle_worker_makes_room_for_one_of_another_setup(node: Node) -> None:
    first = node.value(node.run(pid))
    other = node.value(node.run(node.function(pid, initializer=time.time), cores=(1,)))
    assert sorted(node.pids()) == sorted([first, other])
    third = node.value(node.run(node.function(pid, initializer=time.monotonic)))
    node.wait(lambda: sorted(node.pids()) == sorted([other, third]))


def test_calls_of_several_widths_keep_their_workers(tmp_path: Path, surroundings: Path) -> None:
    with running_node(tmp_path, cores=4) as node:
        code = node.function(pid)
        turns = [{node.value(node.run(code, cores=tuple(range(width)))) for width in (1, 2, 4)} for _ in range(3)]
        assert turns[0] == turns[1] == turns[2]
        assert len(turns[0]) == 3
        other = node.value(node.run(node.function(pid, initializer=time.time), cores=(0, 1, 2, 3)))
        node.wait(lambda: node.pids() == [other])


def test_idle_worker_ends_after_a_while_and_runs_its_exit_handlers(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr(pool, "IDLE_S", 0.1)

    def register() -> None:
        import atexit

        atexit.register(lambda: open("farewell", "w").close())

    node.run(register)
    node.wait(lambda: not node.pids())
    assert (node.directory / "farewell").exists()


def test_worker_that_does_not_quit_is_killed(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "IDLE_S", 0.1)
    monkeypatch.setattr(pool, "QUIT_S", 0.1)
    node.run(lambda: threading.Thread(target=time.sleep, args=(1000,)).start())
    node.wait(lambda: not node.pids())


# -- ends --------------------------------------------------------------------------------------------------------


def segfault() -> None:
    ctypes.string_at(0)


def test_crash_takes_the_running_call_only(node: Node) -> None:

    def crash(number: int) -> int:
        if number == 20:
            segfault()
        return number

    code = node.function(crash)
    tasks = node.start(code, *[node.claim(number) for number in range(60)])
    node.wait(lambda: len(node.results) + len(node.unbegun) == 60)
    result = node.results[tasks[20]]
    assert (result.cause, result.signal, result.exit_code, result.value) == (Cause.SIGNAL, signal.SIGSEGV, None, None)
    assert result.message == "the function worker was killed in the middle of the call"
    assert b"Segmentation fault" in result.stderr
    assert b"in segfault" in result.stderr
    assert [node.value(node.results[task]) for task in tasks[:20]] == list(range(20))
    assert node.unbegun == tasks[21:]
    assert node.value(node.run(code, 5)) == 5


@pytest.mark.parametrize(("code", "told"), [(3, 3), (0, 1)])
def test_exit_in_the_middle_of_a_call_is_not_taken_for_its_end(node: Node, code: int, told: int) -> None:
    def leave(code: int) -> None:
        print("bye", flush=True)
        os._exit(code)

    result = node.run(leave, code)
    assert (result.cause, result.exit_code, result.value) == (Cause.EXIT, told, None)
    assert f"exit code {code}" in (result.message or "")
    assert result.stdout == b"bye\n"


def test_killed_worker_is_replaced_and_nothing_is_lost(node: Node) -> None:
    code = node.function(twice)
    todo = [node.claim(number) for number in range(3000)]
    expected = {claimed.task: 2 * number for number, claimed in enumerate(todo)}
    by_task = {claimed.task: claimed for claimed in todo}
    node.start(code, *todo)
    kills = lost = 0
    while len(node.results) < 3000:
        node.turn(0.001)
        if kills < 10 and len(node.results) > 250 * kills and node.pids():
            os.kill(node.pids()[0], signal.SIGKILL)
            kills += 1
        again = [by_task[task] for task in node.unbegun]
        for task in [task for task, result in node.results.items() if result.cause is Cause.SIGNAL]:
            again.append(by_task[task])
            del node.results[task]
            lost += 1
        node.unbegun.clear()
        if again:
            node.start(code, *again)
    assert {task: node.value(result) for task, result in node.results.items()} == expected
    assert lost <= kills


def test_idle_worker_that_is_killed_harms_nobody(node: Node) -> None:
    first = node.value(node.run(pid))
    os.kill(first, signal.SIGKILL)
    node.wait(lambda: not node.pids())
    assert len(node.results) == 1
    assert node.value(node.run(pid)) != first


def test_worker_that_never_begins_a_call_is_not_started_for_ever(node: Node) -> None:
    dies_as_it_starts = node.directory / "python"
    dies_as_it_starts.write_text("#!/bin/sh\nkill -KILL $$\n")
    dies_as_it_starts.chmod(0o700)
    code = node.function(twice, python=str(dies_as_it_starts))
    tasks = node.start(code, node.claim(1), node.claim(2))
    result = node.result(tasks[0])
    assert (result.cause, result.signal) == (Cause.SIGNAL, signal.SIGKILL)
    assert result.message == "the function worker was killed as it started"
    assert node.unbegun == [tasks[1]]


def leave(code: int) -> None:
    os._exit(code)


@pytest.mark.parametrize(
    ("initializer", "args", "said"),
    [
        (leave, (9,), "ended with exit code 9"),
        (leave, (0,), "ended with exit code 0"),
        (segfault, (), "was killed by SIGSEGV"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), (), "was killed by SIGKILL"),
    ],
)
def test_initializer_that_kills_its_workers_has_failed(node: Node, initializer: Any, args: Any, said: str) -> None:
    code = node.function(twice, initializer=initializer, initargs=args)
    calls = [node.claim(1), node.claim(2)]
    for _ in range(2):  # once may be chance
        tasks = node.start(code, *calls)
        node.wait(lambda: node.unbegun)
        assert (node.unbegun, node.results) == (tasks, {})
        node.unbegun.clear()
    for task in node.start(code, *calls):
        result = node.result(task)
        assert (result.cause, result.exit_code, result.signal) == (Cause.LAUNCH_ERROR, None, None)
        assert result.message == f"the initializer failed: 3 workers in a row died in it; the last one {said}"
    assert (b"in segfault" in node.results[tasks[0]].stderr) == (initializer is segfault)
    assert not node.pids()


def test_workers_that_are_killed_while_they_initialize_are_started_again(node: Node) -> None:
    code = node.function(twice, initializer=begin_and_wait, initargs=("began", "go"))
    began = node.directory / "began"

    def kill_some(count: int) -> None:
        """Start workers one after the other, and kill all at once."""
        for _ in range(count):
            began.unlink(missing_ok=True)
            node.start(code, node.claim(1))
            node.wait(began.exists)
        for each in node.pids():
            os.kill(each, signal.SIGKILL)
        node.wait(lambda: len(node.unbegun) == count)
        node.unbegun.clear()

    kill_some(4)
    kill_some(1)
    (node.directory / "go").touch()
    assert node.value(node.run(code, 5)) == 10
    (node.directory / "go").unlink()
    for each in node.pids():
        os.kill(each, signal.SIGKILL)
    node.wait(lambda: not node.pids())
    kill_some(2)  # it is counted anew since one has got through
    kill_some(2)
    assert [node.value(result) for result in node.results.values()] == [10]


@pytest.mark.parametrize(
    ("limit_s", "limit", "said"),
    [(0.1, "START_S", "the calls' time_limit of 0.1s"), (0.0, "SETUP_S", "0.2s")],
)
def test_initializer_that_does_not_return_is_ended(
    node: Node, monkeypatch: pytest.MonkeyPatch, limit_s: float, limit: str, said: str
) -> None:
    monkeypatch.setattr(pool, limit, 0.2)
    code = node.function(twice, initializer=wait_for, initargs=("never",))
    tasks = node.start(code, node.claim(1), node.claim(2), resources=Resources(time_limit_s=limit_s))
    for task in tasks:
        result = node.result(task)
        assert result.cause is Cause.LAUNCH_ERROR
        assert result.message == f"the initializer failed: it has not returned within {said}; see time_limit="
    node.wait(lambda: not node.pids())


def test_time_limit_is_each_calls_own(node: Node) -> None:

    def nap_for(seconds: float) -> float:
        time.sleep(seconds)
        return seconds

    code = node.function(nap_for)
    node.run(code, 0)
    limited = Resources(time_limit_s=1.0, grace_s=5.0)
    tasks = node.start(code, node.claim(0.0), node.claim(1000), node.claim(0.0), resources=limited)
    result = node.result(tasks[1])
    assert (result.cause, result.message, result.value) == (Cause.TIMEOUT, "over its time limit", None)
    assert 1.0 <= result.elapsed_s < 100
    assert node.value(node.results[tasks[0]]) == 0
    assert node.unbegun == [tasks[2]]


def test_memory_limit(node: Node) -> None:
    def fill(size: int) -> None:
        held = b"x" * size
        wait_for("never", held)

    limited = Resources(memory_bytes=100 * MIB, grace_s=0.1)
    code = node.function(fill)
    (task,) = node.start(code, node.claim(150 * MIB), resources=limited)
    result = node.result(task)
    assert (result.cause, result.message) == (Cause.OOM, "over its memory limit")
    assert result.memory_bytes > 140 * MIB


def test_memory_of_what_was_put_is_not_limited(node: Node) -> None:
    class Table:
        def __init__(self, content: Any) -> None:
            self.content = content

        def __reduce_ex__(self, protocol: Any) -> Any:
            return Table, (pickle.PickleBuffer(self.content),)

    def read(table: Any, path: str) -> int:
        found = sum(table.content[::4096])
        begin_and_wait("began", path)
        return int(found)

    put = node.keep(pickled.dump_value(Table(bytearray([1]) * (200 * MIB)), cloudpickle.dumps))
    limited = Resources(memory_bytes=100 * MIB, grace_s=0.1)
    call = Call(Value(dump_args(Argument("value", put), "go")), (), (put,))
    (task,) = node.start(read, node.claim_call(call), resources=limited)
    node.wait((node.directory / "began").exists)
    for _ in range(3):
        node.supervisor.poll(time.monotonic() + 10)
    (node.directory / "go").touch()
    assert node.value(node.result(task)) == 200 * MIB // 4096
    assert node.results[task].memory_bytes > 200 * MIB


def test_memory_is_that_of_the_call(node: Node) -> None:
    def fill(size: int) -> None:
        held = bytearray(size)
        held[::4096] = held[::4096]
        time.sleep(0.01)

    code = node.function(fill)
    tasks = node.start(code, node.claim(1), node.claim(100 * MIB), node.claim(1))
    small, large, after = [node.result(task).memory_bytes for task in tasks]
    assert large > 100 * MIB
    assert max(small, after) < 60 * MIB


def test_canceled_call_ends_and_others_come_back(node: Node) -> None:
    code = node.function(begin_and_wait)
    calls = [node.claim("began", "never"), node.claim("a", "b"), node.claim("a", "b")]
    tasks = node.start(code, *calls)
    node.wait((node.directory / "began").exists)
    node.stop(tasks[0])
    result = node.result(tasks[0])
    assert (result.cause, result.signal, result.value) == (Cause.CANCELED, signal.SIGTERM, None)
    assert sorted(node.unbegun) == tasks[1:]


def test_call_that_waits_for_another_is_canceled_at_once(node: Node) -> None:
    code = node.function(begin_and_wait)
    tasks = node.start(code, node.claim("began", "go"), node.claim("a", "b"), node.claim("a", "b"))
    node.wait((node.directory / "began").exists)
    node.stop(tasks[2])
    assert sorted(node.unbegun) == tasks[1:]
    (node.directory / "go").touch()
    assert node.result(tasks[0]).exit_code == 0
    assert len(node.pids()) == 1


def test_call_that_is_not_begun_can_be_canceled_while_its_worker_starts(node: Node) -> None:
    code = node.function(twice, initializer=wait_for, initargs=("go",))
    tasks = node.start(code, node.claim(1), node.claim(2))
    node.stop(tasks[0])
    assert sorted(node.unbegun) == tasks
    (node.directory / "go").touch()
    assert node.value(node.run(code, 5)) == 10


def test_signals_of_a_stop_are_those_that_the_task_wants(node: Node) -> None:
    def polite() -> None:
        def leave(number: int, frame: object) -> None:
            print("told by", number, flush=True)
            raise SystemExit

        signal.signal(signal.SIGUSR1, leave)
        begin_and_wait("began", "never")

    (task,) = node.start(polite, node.claim(), resources=Resources(signal_first="USR1", grace_s=30.0))
    node.wait((node.directory / "began").exists)
    node.stop(task, 30.0)
    result = node.result(task)
    assert (result.cause, result.stdout) == (Cause.CANCELED, b"told by %d\n" % signal.SIGUSR1)
    node.wait(lambda: not node.pids())  # it was told to end: nobody knows what state it is in


def test_worker_that_ignores_a_signal_is_killed_after_the_grace(node: Node) -> None:
    def stubborn() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        begin_and_wait("began", "never")

    (task,) = node.start(stubborn, node.claim())
    node.wait((node.directory / "began").exists)
    node.stop(task, 0.2)
    assert (node.result(task).cause, node.result(task).signal) == (Cause.CANCELED, signal.SIGKILL)


# -- what holds others up ------------------------------------------------------------------------------------------


def test_slow_call_holds_up_no_others(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    code = node.function(wait_for)
    quick = [node.claim(os.devnull) for _ in range(20)]
    tasks = node.start(code, *quick[:10], node.claim("go"), *quick[10:])
    node.wait(lambda: len(node.results) == 10)
    assert set(node.results) == set(tasks[:10])
    assert node.unbegun == []
    monkeypatch.setattr(pool, "RECALL_S", 0.05)
    node.functions._plan(next(iter(node.functions._busy.values())))
    node.wait(lambda: node.unbegun)
    assert node.unbegun == tasks[11:]
    assert tasks[10] in node.begun
    (node.directory / "go").touch()
    assert node.result(tasks[10]).exit_code == 0
    monkeypatch.setattr(pool, "RECALL_S", 3600.0)
    node.start(code, *quick[10:])  # they may come again, to the same worker too
    node.wait(lambda: len(node.results) == 21)
    assert len(node.pids()) == 1


def test_finished_result_does_not_wait_for_a_slow_call(node: Node) -> None:
    code = node.function(wait_for)
    tasks = node.start(code, node.claim(os.devnull), node.claim("go"))
    assert node.result(tasks[0]).exit_code == 0
    assert not node.unbegun
    (node.directory / "go").touch()
    assert node.result(tasks[1]).exit_code == 0


def test_worker_that_starts_keeps_its_first_call_only(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "RECALL_S", 0.05)
    code = node.function(twice, initializer=wait_for, initargs=("go",))
    tasks = node.start(code, *[node.claim(number) for number in range(5)])
    node.wait(lambda: node.unbegun == tasks[1:])
    (node.directory / "go").touch()
    assert node.value(node.result(tasks[0])) == 0


def test_batch_that_is_larger_than_the_socket_goes_through(node: Node) -> None:
    code = node.function(twice)
    node.run(code, 1)
    tasks = node.start(code, *[node.claim(b"x" * 5000) for _ in range(400)])
    node.wait(lambda: len(node.results) == 401)
    assert node.order[1:] == tasks
    assert {len(node.value(node.results[task])) for task in node.order[1:]} == {10_000}


# -- what is left --------------------------------------------------------------------------------------------------


def test_processes_of_a_call_live_no_longer_than_its_worker(node: Node) -> None:
    mark = nap()

    def leave_behind() -> None:
        for how in (False, True):
            subprocess.Popen(["sleep", mark], start_new_session=how)
        subprocess.run(["sh", "-c", f"setsid sleep {mark} &"], check=True)

    node.run(leave_behind)
    assert len(alive(mark)) == 3
    node.turn()
    node.supervisor.poll(time.monotonic() + 10)
    assert len(alive(mark)) == 3  # they may serve later calls
    os.kill(node.pids()[0], signal.SIGKILL)

    def gone() -> bool:
        node.turn()
        node.supervisor.poll(time.monotonic() + 10)
        return not alive(mark)

    wait_until(gone)


def test_copy_of_the_worker_that_comes_back_from_a_call_is_not_one(node: Node) -> None:
    def fork(how: str) -> tuple[str, int]:
        child = os.fork()
        if child == 0:
            if how == "exit":
                sys.exit(7)
            if how == "raise":
                raise ValueError("in the child")
            return "child", 0
        return "parent", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    tasks = node.start(fork, *[node.claim(how) for how in ("return", "exit", "raise", "return")])
    assert [node.value(node.result(task)) for task in tasks] == [
        ("parent", 0), ("parent", 7), ("parent", 1), ("parent", 0),
    ]  # fmt: skip
    assert len(node.pids()) == 1


def test_multiprocessing_works_in_calls(node: Node) -> None:
    def total(method: str) -> int:
        import multiprocessing
        import operator

        with multiprocessing.get_context(method).Pool(2) as workers:
            return sum(workers.map(operator.neg, range(10)))

    tasks = node.start(total, *[node.claim(method) for method in ("fork", "spawn")])
    assert [node.value(node.result(task)) for task in tasks] == [-45, -45]


def test_nothing_is_left_when_the_node_closes(tmp_path: Path, surroundings: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with running_node(tmp_path) as node:
        code = node.function(begin_and_wait)
        node.start(code, node.claim("began", "never"))
        node.run(code, "also", os.devnull, cores=(1,))
        node.wait((node.directory / "began").exists)
        pids = node.pids()
        assert len(pids) == 2
    assert len(os.listdir("/proc/self/fd")) == before
    assert not [each for each in pids if os.path.exists(f"/proc/{each}")]


def test_nonsense_from_a_worker_ends_it(node: Node) -> None:

    def write() -> None:
        os.write(3, b"nonsense")
        os.write(4, b"\1\0\0\0")
        time.sleep(1000)

    code = node.function(write)
    tasks = node.start(code, node.claim(), node.claim())
    result = node.result(tasks[0])
    assert result.cause is Cause.NODE_LOST
    assert "makes no sense" in (result.message or "")


def test_calls_that_a_worker_has_taken_and_not_run_come_back_when_it_ends(node: Node) -> None:
    def steal() -> None:
        for _ in range(2):
            os.read(3, 1 << 16)
        os.kill(os.getpid(), signal.SIGKILL)

    tasks = node.start(node.function(steal), *[node.claim() for _ in range(5)])
    assert node.result(tasks[0]).signal == signal.SIGKILL
    assert sorted(node.unbegun) == tasks[1:]


@pytest.mark.parametrize("size", [10, frames.FRAME_BYTES])
def test_worker_may_take_a_call_while_others_are_taken_back(
    size: int, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(began: str, until: str, data: bytes) -> None:
        begin_and_wait(began, until)

    code = node.function(step)
    node.run(code, "a", os.devnull, b"")
    (worker,) = node.functions._workers.values()
    calls = [node.claim("began", "go", b""), *(node.claim("a", os.devnull, b"x" * size) for _ in range(6))]
    all_of = process._all_of

    def all_but_one(fd: int) -> list[bytes]:
        found = all_of(fd)
        if fd == worker._theirs and len(found) > 3:
            os.write(worker._ours, found.pop(3))  # which the worker takes next
        return found

    monkeypatch.setattr(process, "_all_of", all_but_one)
    tasks = node.start(code, *calls)
    node.wait((node.directory / "began").exists)
    node.functions._take_back(worker, all_but_first=True)
    (node.directory / "go").touch()
    node.wait(lambda: len(node.results) + len(node.unbegun) == 8)
    kept = [task for task in tasks if task in node.results]
    assert len(kept) == 2
    assert kept[0] == tasks[0]
    assert [node.results[task].cause for task in kept] == [Cause.EXIT, Cause.EXIT]
    assert sorted(node.unbegun) == sorted(set(tasks) - set(kept))


# -- the program ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [program, in_worker, serve, rank, frames, pickled, user_side, functions, pilotmtc])
def test_program_can_be_read_by_old_pythons(module: Any) -> None:
    ast.parse(Path(module.__file__).read_text(), feature_version=(3, 9))


def test_numbers_are_the_same() -> None:
    assert in_worker.INLINE_BYTES == INLINE_BYTES


def test_idle_worker_is_small(node: Node) -> None:
    (number,) = [node.value(node.run(node.function(pid)))]

    def own_kb() -> int:
        lines = Path(f"/proc/{number}/smaps_rollup").read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith("Private"))

    assert own_kb() < 12 * 1024


def test_result_waits_for_room_on_a_full_disk(node: Node) -> None:
    (node.directory / frames.VALUES).rmdir()
    with small_disk(node.directory / frames.VALUES, "1m") as disk:
        (task,) = node.start(bytes, node.claim(2_400_000))
        node.wait(lambda: b"bytes waits for room in " in node.written(task).stderr)
        node.wait(lambda: not list(disk.glob("*.*")))  # what was written of it
        assert task not in node.results
        subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True, timeout=10)
        result = node.result(task)
        assert (result.cause, result.exit_code) == (Cause.EXIT, 0)
        assert node.value(result) == bytes(2_400_000)
        assert b"No space left on device" in result.stderr


def test_result_for_which_there_is_no_room_names_the_disk(node: Node) -> None:
    def hurried() -> bytes:
        from pilotmtc.agent.functions import calls

        calls._ROOM_S = 0.0
        return bytes(2_400_000)

    (node.directory / frames.VALUES).rmdir()
    with small_disk(node.directory / frames.VALUES, "1m") as disk:
        result = node.run(hurried)
    assert result.cause is Cause.NODE_LOST
    assert result.message is not None
    assert result.message.endswith(f" bytes cannot be kept in {disk}: No space left on device")


# -- other Pythons -------------------------------------------------------------------------------------------------


def other_python(minor: int) -> str:
    """Return another Python of this machine; skip the test if there is none."""
    home = Path(os.environ.get("PYENV_ROOT", Path(pwd.getpwuid(os.geteuid()).pw_dir, ".pyenv")))
    for place in (*sorted(home.glob(f"versions/3.{minor}.*/bin/python")), shutil.which(f"python3.{minor}")):
        if place is not None and not subprocess.run([place, "-c", ""], check=False, capture_output=True).returncode:
            return str(place)
    pytest.skip(f"there is no Python 3.{minor} here")


def test_cloudpickle_that_travels_is_used_whatever_there_is(node: Node) -> None:
    (node.directory / "cloudpickle.py").write_text("raise RuntimeError('too old')")
    result = node.run(node.function(lambda: cloudpickle.__version__), env={"PYTHONPATH": str(node.directory)})
    assert node.value(result) == cloudpickle.__version__


@pytest.mark.parametrize("minor", [minor for minor in (9, 10, 11, 12, 13, 14) if minor != sys.version_info.minor])
def test_calls_run_in_other_pythons(node: Node, minor: int) -> None:
    python = other_python(minor)

    def of(function: Any) -> Function:
        code = node.keep([pickle.dumps(function)])
        return Function(function.__name__, code, python=python)

    assert node.value(node.run(of(operator.neg), 3.5)) == -3.5
    assert node.run(of(print), "hello").stdout == b"hello\n"
    assert len(node.value(node.run(of(operator.mul), b"x", 100_000))) == 100_000
    failed = node.run(of(operator.truediv), 1, 0)
    assert failed.value_text == "ZeroDivisionError: division by zero"
    assert isinstance(node.value(failed), ZeroDivisionError)
    assert node.value(node.run(of(cloudpickle.dumps), 1)) == cloudpickle.dumps(1)  # it travels with us
    assert node.run(of(os._exit), 3).exit_code == 3
    wrong = node.run(structs.replace(node.function(twice), python=python), 1)
    assert wrong.cause is Cause.LAUNCH_ERROR
    assert f"cannot run in {python} (Python 3.{minor})" in (wrong.message or "")


def test_python_that_is_too_old_is_told(node: Node) -> None:
    python = other_python(6)
    result = node.run(Function("neg", node.keep([pickle.dumps(operator.neg)]), python=python), 1)
    assert result.cause is Cause.LAUNCH_ERROR
    assert f"{python} ended with exit code 1: SyntaxError" in (result.message or "")
    assert "Python 3.9 or later (python=)" in (result.message or "")
