"""What holds for every test: a home of its own, and nothing left behind."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests import user
from tests.forked import Forker
from tests.support import children, kill, processes_with, surroundings, wait_until

_GONE_WITHIN_S = 8.0

settings.register_profile(
    "shared", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)  # others work here, too
settings.load_profile("shared")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in a shell's background, and so would be all that tests start
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _forker() -> Iterator[None]:
    """Let commands of the command line run in forks of one process."""
    user.forker = Forker()
    yield
    user.forker.close()
    user.forker = None


@pytest.fixture(name="surroundings")
def _surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Point HOME and its like into the test's own directories; return that of the test's runtime files."""
    with surroundings(tmp_path, monkeypatch) as runtime:
        yield runtime


@pytest.fixture(autouse=True)
def nothing_is_left_behind(surroundings: Path) -> Iterator[None]:
    """Fail a test after which a thread, a child or a detached process of its own is still there."""
    threads_before = set(threading.enumerate())
    children_before = set(children())
    yield
    # Detached ones are known by their environment, which names the test's own runtime directory.
    mark = f"XDG_RUNTIME_DIR={surroundings}"

    def own_children() -> dict[int, str]:
        known = {*children_before, user.forker.pid if user.forker is not None else 0}
        return {pid: command for pid, command in children().items() if pid not in known}

    def left() -> dict[str, object]:
        multiprocessing.active_children()  # reaps
        own = own_children()
        for pid in [pid for pid, command in own.items() if command == "(zombie)"]:
            # That of another, whose parent ended while a test was, as a node's worker, the one that orphans fall to.
            with contextlib.suppress(ChildProcessError):
                if os.waitpid(pid, os.WNOHANG)[0]:
                    del own[pid]
        found: dict[str, object] = {f"child {pid}": command for pid, command in own.items()}
        found |= {f"process {pid}": command for pid, command in processes_with(mark).items() if pid not in own}
        for thread in threading.enumerate():
            if thread not in threads_before and thread.is_alive():
                found[f"thread {thread.name}"] = "daemon" if thread.daemon else "not a daemon"
        return found

    try:
        wait_until(lambda: not left(), _GONE_WITHIN_S)
    except TimeoutError:
        remains = left()
        for pid in [*processes_with(mark), *own_children()]:
            kill(pid)
        if remains:
            pytest.fail(f"the test left behind: {remains}")
