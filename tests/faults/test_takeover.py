"""A host that takes a store over and is cut off, or falls asleep, after any of its steps."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from pilotmtc.errors import StoreError
from pilotmtc.model import Resources, TaskRow, Template
from pilotmtc.protocol.client.campaigns import Submit
from pilotmtc.protocol.client.maintenance import CheckStore, GetStore
from pilotmtc.states import TaskState
from pilotmtc.store.ownership import owner, takeover
from pilotmtc.store.ownership.filesystem import owner_directory
from pilotmtc.store.ownership.owner import Host, Lease, Record
from pilotmtc.store.ownership.takeover import become_owner
from pilotmtc.store.sqlite import SqliteStore
from tests.support import wait_until

RENEW_S = 0.1
STEPS = 9
ECHO = Template(command=("echo", "{x}"), fields=("x",))
# Ends, or falls asleep, after so many of the steps in which it changes something that others could see.
TAKER = """
import os, shutil, signal, sys, threading
from pilotmtc.store.ownership import owner, takeover
from pilotmtc.store.ownership.filesystem import owner_directory
owner.BELIEVED = 0  # as on a slow machine: a claim is to be renewed whenever that matters
store, last, ending = sys.argv[1], int(sys.argv[2]), sys.argv[3]
directory = owner_directory(store)
count = 0
def after(function):
    def step(*words, **settings):
        global count
        done = function(*words, **settings)
        if threading.current_thread() is threading.main_thread():
            count += 1
            if count == last:
                os._exit(7) if ending == "exit" else os.kill(os.getpid(), signal.SIGSTOP)
        return done
    return step
rename = os.rename
def renamed(source, target):  # to renew a claim is no step
    (rename if os.path.dirname(target) == directory else counted)(source, target)
counted = after(rename)
takeover.claim = after(takeover.claim)
shutil.copyfile = after(shutil.copyfile)
takeover._merge = after(takeover._merge)
takeover._sync = after(takeover._sync)
os.rename = renamed
lease = takeover.become_owner(store, lambda *words: None)
print("owner", flush=True)
sys.stdin.read()
"""
FILLER = """
import os, sys
from pilotmtc.store.sqlite import SqliteStore
from tests.faults.test_takeover import rows
store = SqliteStore(sys.argv[1], exclusive=True)
store.call(rows("k", 500))
store.complete()
store.call(rows("k", 500, 500))
os._exit(0)  # with half of it in the log
"""


def rows(key: str, count: int, offset: int = 0) -> Submit:
    made = tuple(TaskRow(0, 0, (str(n),)) for n in range(count))
    return Submit(key, offset, templates=(ECHO,), resources=(Resources(),), rows=made)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store with a thousand tasks that a host has which is not heard of any more."""
    monkeypatch.setenv(owner.RENEW_VARIABLE, str(RENEW_S))
    path = str(tmp_path / "store.db")
    subprocess.run([sys.executable, "-c", FILLER, path], check=True, timeout=60)
    os.mkdir(owner_directory(path), 0o700)
    record = Record(Host("gone", "boot", "pid:[1]"), 1, 1, "token", RENEW_S, 5, "serving")
    Path(owner_directory(path), "1").write_bytes(msgspec.json.encode(record))
    return path


def taker(store: str, step: int, ending: str) -> "subprocess.Popen[bytes]":
    argv = [sys.executable, "-c", TAKER, store, str(step), ending]
    with said(store).open("wb") as log:
        return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)


def said(store: str) -> Path:
    """Return where a taker's last words are."""
    return Path(os.environ["HOME"], f"{Path(store).name}.log")


def is_asleep(process: "subprocess.Popen[bytes]") -> bool:
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def check(store: str, lease: Lease, tasks: int) -> SqliteStore:
    opened = SqliteStore(store, exclusive=True, prove=lease.prove)
    assert opened.call(GetStore()).tasks == {TaskState.READY: tasks}
    assert opened.call(CheckStore()).problems == ()
    return opened


def left(store: str) -> set[str]:
    return {path.name for path in Path(store).parent.iterdir()} - {"home"}


@pytest.mark.parametrize("step", range(1, STEPS + 1))
def test_takeover_that_is_cut_off_after_any_step_is_done_again(store: str, step: int) -> None:
    with taker(store, step, "exit") as process:
        assert process.stdout is not None
        assert process.stdout.read() == (b"" if process.wait(30) == 7 else b"owner\n")
        assert process.returncode == 7, said(store).read_text()
    lease = become_owner(store, lambda *_: None)
    check(store, lease, 1000).close()
    lease.release()
    assert left(store) == {"store.db", "store.db.owner"}


def test_there_are_no_more_steps(store: str) -> None:
    with taker(store, STEPS + 1, "exit") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"owner\n", said(store).read_text()
        process.communicate(timeout=30)


@pytest.mark.parametrize("step", range(1, STEPS + 1))
def test_takeover_that_sleeps_after_any_step_does_no_harm_when_it_wakes(
    store: str, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with taker(store, step, "sleep") as process:
        try:
            wait_until(lambda: is_asleep(process), 30)
            monkeypatch.setattr(takeover, "this_host", lambda: Host("third", "boot", "pid:[1]"))
            lease = become_owner(store, lambda *_: None)
            opened = check(store, lease, 1000)
            lease.advertise("/run/x.sock")
            opened.call(rows("k", 100, 1000))
            before, log = os.stat(store).st_ino, os.stat(f"{store}-wal").st_ino
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGCONT)
        assert process.wait(30) != 0
    assert (os.stat(store).st_ino, os.stat(f"{store}-wal").st_ino) == (before, log)
    opened.call(rows("k", 100, 1100))
    opened.close()
    lease.release()
    again = become_owner(store, lambda *_: None)
    check(store, again, 1200).close()
    again.release()
    assert left(store) == {"store.db", "store.db.owner"}


def test_takeover_without_room_for_a_copy_says_so(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copyfile", full)
        with pytest.raises(StoreError, match=r"taken over from gone: No space left.*room for a copy"):
            become_owner(store, lambda *_: None)
    monkeypatch.setattr(takeover, "is_alive", lambda *_: False)  # a server that could not start has ended
    lease = become_owner(store, lambda *_: None)
    check(store, lease, 1000).close()
    lease.release()
