"""What holds for every test: a home of its own, and nothing left behind."""

import multiprocessing
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import children, kill, processes_with, wait_until

# What a store server may take to leave after its last client has: a minute would be a minute for every test.
LINGER_S = "0.2"
_GONE_WITHIN_S = 8.0


@pytest.fixture
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Point HOME and its like into the test's own directories; return that of the test's runtime files.

    Sockets lie in the runtime directory, and a socket's path may have 107 bytes only: so it is not below `tmp_path`.
    """
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    runtime = Path(tempfile.mkdtemp(prefix="pmtc-", dir="/tmp"))
    runtime.chmod(0o700)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    monkeypatch.setenv("XDG_DATA_HOME", str(home / ".local" / "share"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    monkeypatch.setenv("PILOTMTC_SERVER_LINGER_S", LINGER_S)
    for name in ("PILOTMTC_STORE", "PILOTMTC_TASK_ID", "PILOTMTC_PILOT_ID", "COLUMNS", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    yield runtime
    shutil.rmtree(runtime, ignore_errors=True)


@pytest.fixture(autouse=True)
def nothing_is_left_behind(surroundings: Path) -> Iterator[None]:
    """Fail a test after which a thread, a child or a detached process of its own is still there."""
    threads_before = set(threading.enumerate())
    children_before = set(children())
    yield
    # Detached ones are known by their environment, which names the test's own runtime directory.
    mark = f"XDG_RUNTIME_DIR={surroundings}"

    def left() -> dict[str, object]:
        multiprocessing.active_children()  # reaps
        own = {pid: command for pid, command in children().items() if pid not in children_before}
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
        for pid in [*processes_with(mark), *(set(children()) - children_before)]:
            kill(pid)
        if remains:
            pytest.fail(f"the test left behind: {remains}")
