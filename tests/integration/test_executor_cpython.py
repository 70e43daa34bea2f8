"""CPython's own tests of executors hold for `PilotExecutor`, too, where a Python of this machine has come with them."""

import importlib
import logging
import os
import pwd
import signal
import sys
import unittest
import unittest.mock
from collections.abc import Callable, Iterator
from concurrent.futures._base import CANCELLED, CANCELLED_AND_NOTIFIED, FINISHED, PENDING, RUNNING
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from pilotmtc import PilotExecutor
from pilotmtc.executor import PilotFuture
from tests.support import surroundings

LIMIT_S = 120.0
SUITE = "test.test_concurrent_futures"
PARTS = (
    "executor",
    "test_as_completed",
    "test_future",
    "test_init",
    "test_shutdown",
    "test_wait",
    "util",
)  # from 3.12 on
_PRINTS = "what a call prints is its task's output, and not printed by the program"
# What does not hold, and why. The classes of CPython's two own pools are about their threads and processes: they are
# not taken, nor is ExecutorDeadlockTest, where a worker that dies breaks a whole pool; here it takes one attempt.
DIFFERENT = {
    "test_interpreter_shutdown": _PRINTS,
    "test_hang_gh83386": _PRINTS,
    "test_cancel_futures": "its calls would not have begun when it cancels them: that takes some milliseconds here",
    "test_repr": "the text of a future names its call",
    "test_multiple_set_result": "the text of a future names its call",
    "test_multiple_set_exception": "the text of a future names its call",
}


def find_suite() -> tuple[list[ModuleType], bool]:
    """Return CPython's tests, and whether they are another Python's, whose modules workers do not find."""
    try:
        found = importlib.import_module(SUITE)
        borrowed = False
    except ImportError:
        home = Path(os.environ.get("PYENV_ROOT", Path(pwd.getpwuid(os.geteuid()).pw_dir, ".pyenv")))
        minor = sys.version_info.minor
        places = [next(home.glob(f"versions/3.{n}.*/lib/python3.{n}/{SUITE.replace('.', '/')}.py"), None)
                  for n in range(minor, 9, -1)]  # fmt: skip
        place = next(filter(None, places), None)
        if place is None:
            return [], False
        importlib.import_module("test").__path__.append(str(place.parent))
        found = importlib.import_module(SUITE)
        borrowed = True
    if not hasattr(found, "__path__"):
        return [found], borrowed
    return [importlib.import_module(f"{SUITE}.{name}") for name in PARTS], borrowed


MODULES, BORROWED = find_suite()
if not MODULES:
    pytest.skip("this Python has come without its own tests (test.test_concurrent_futures)", allow_module_level=True)


def from_suite(name: str) -> Any:
    return next(getattr(module, name) for module in MODULES if hasattr(module, name))


class Pool(PilotExecutor):
    """A pool of this test; the suite calls it by its class."""

    def __init__(self, max_workers: int | None = None, **options: Any) -> None:
        super().__init__(max_workers, ship=MODULES if BORROWED else None, progress=False, idle="3s", **options)


@pytest.fixture(autouse=True, scope="module")
def _place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch, surroundings(tmp_path_factory.mktemp("cpython"), patch):
        alarm = signal.alarm
        patch.setattr("test.support.SHORT_TIMEOUT", LIMIT_S)
        patch.setattr(signal, "alarm", lambda seconds: alarm(int(LIMIT_S) if seconds else 0))
        yield


@pytest.fixture(autouse=True)
def _child(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the programs that the suite starts find this pool instead of its own ones, and the store of these tests."""
    for module in MODULES:
        if not hasattr(module, "assert_python_ok"):
            continue

        def run(option: str, program: str, real: Callable[..., Any] = module.assert_python_ok) -> Any:
            names = ("HOME", "XDG_RUNTIME_DIR", "XDG_DATA_HOME", "XDG_CONFIG_HOME")
            program = program.replace(
                "from concurrent.futures import Pool", "from pilotmtc import PilotExecutor as Pool"
            )
            path = str(Path(__file__).resolve().parents[2])
            return real(option, program, PYTHONPATH=path, **{name: os.environ[name] for name in names})

        monkeypatch.setattr(module, "assert_python_ok", run)


class Case(from_suite("ExecutorMixin"), from_suite("BaseTestCase")):  # type: ignore[misc]
    """What is around each test of the suite: a pool, and a look at what threads and processes it leaves."""

    executor_type = Pool

    def setUp(self) -> None:
        super().setUp()
        self.executor.submit(int).result(LIMIT_S)  # the suite's time limits leave none for a pilot to start


class TestExecutor(from_suite("ExecutorTest"), Case):  # type: ignore[misc]
    pass


class TestShutdown(from_suite("ExecutorShutdownTest"), Case):  # type: ignore[misc]
    pass


class TestWait(from_suite("WaitTests"), Case):  # type: ignore[misc]
    pass


class TestAsCompleted(from_suite("AsCompletedTests"), Case):  # type: ignore[misc]
    pass


if not BORROWED:  # initializer and function share a module only where workers can import it

    class TestInitializer(from_suite("InitializerMixin"), Case):  # type: ignore[misc]
        executor_type = Pool


class TestFuture(from_suite("FutureTests")):  # type: ignore[misc]
    """Of futures as a pool makes them, although they were sent nowhere."""

    def setUp(self) -> None:
        super().setUp()
        handlers: Any = unittest.mock.patch.object(logging.root, "handlers", [])  # for errors to go to stderr
        handlers.start()
        self.addCleanup(handlers.stop)
        pool = SimpleNamespace(forget=lambda future: None)

        def future() -> PilotFuture[Any]:
            return PilotFuture(pool, "work", "3.0")

        def create(state: str = PENDING, exception: BaseException | None = None, result: Any = None) -> Any:
            made = future()
            made._state, made._exception, made._result = state, exception, result
            return made

        states = {
            "PENDING_FUTURE": create(),
            "RUNNING_FUTURE": create(RUNNING),
            "CANCELLED_FUTURE": create(CANCELLED),
            "CANCELLED_AND_NOTIFIED_FUTURE": create(CANCELLED_AND_NOTIFIED),
            "EXCEPTION_FUTURE": create(FINISHED, exception=OSError()),
            "SUCCESSFUL_FUTURE": create(FINISHED, result=42),
        }
        for module in MODULES:
            for name, value in {"Future": future, "create_future": create, **states}.items():
                if hasattr(module, name):
                    patched = unittest.mock.patch.object(module, name, value)
                    patched.start()
                    self.addCleanup(patched.stop)


for case in (TestExecutor, TestShutdown, TestWait, TestAsCompleted, TestFuture):
    for name in DIFFERENT:
        if hasattr(case, name):
            setattr(case, name, None)
