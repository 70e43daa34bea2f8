"""Claims of cores among the pilots of a user on a host."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pilotmtc.agent.node import core_claims
from pilotmtc.agent.node.core_claims import CoreClaim, claim, own_cores
from pilotmtc.errors import ConfigError

_HOLDER = """
import sys
from pilotmtc.agent.node.core_claims import claim
got = claim([int(word) for word in sys.argv[2].split(",")], int(sys.argv[3]), sys.argv[1])
print(*got.cores, got.fd is not None, flush=True)
sys.stdin.read()
"""


@contextmanager
def holder(path: Path, there: str, count: int) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """Let another process claim cores; give it and what it got."""
    command = [sys.executable, "-c", _HOLDER, str(path), there, str(count)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def let_go(got: CoreClaim) -> tuple[tuple[int, ...], bool]:
    if got.fd is not None:
        os.close(got.fd)
    return got.cores, got.fd is not None


def test_cores_that_others_have_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "cores"
    with holder(path, "0,1,2,3", 2) as (_, first):
        assert first == "0 1 True"
        assert let_go(claim([0, 1, 2, 3], 1, str(path))) == ((2,), True)
        with holder(path, "0,1,2,3", 1) as (_, second):
            assert second == "2 True"
            assert let_go(claim([0, 1, 2, 3], 1, str(path))) == ((3,), True)


def test_too_few_that_nobody_has_are_used_first_and_claimed_by_nobody(tmp_path: Path) -> None:
    path = tmp_path / "cores"
    with holder(path, "0,1", 1):
        assert let_go(claim([0, 1], 2, str(path))) == ((0, 1), False)
        assert let_go(claim([0, 1, 2, 3], 1, str(path))) == ((1,), True)  # it was given back
        assert let_go(claim([0], 1, str(path))) == ((0,), False)


def test_killed_holder_has_no_cores_any_more(tmp_path: Path) -> None:
    path = tmp_path / "cores"
    with holder(path, "0,1", 2) as (process, _):
        assert let_go(claim([0, 1], 2, str(path))) == ((0, 1), False)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        assert let_go(claim([0, 1], 2, str(path))) == ((0, 1), True)


def test_cores_of_a_pilot_that_is_leaving_are_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core_claims, "_PATIENCE_S", 60.0)
    path = tmp_path / "cores"
    with holder(path, "0,1", 1) as (process, _):
        leaving = threading.Timer(0.2, process.kill)
        leaving.start()
        assert let_go(claim([0, 1], 2, str(path))) == ((0, 1), True)
        leaving.join()


def test_file_is_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        let_go(claim([0], 1, str(tmp_path / "cores")))
    finally:
        os.umask(before)
    assert (tmp_path / "cores").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("what", ["link", "open", "directory", "fifo", "second name"])
def test_file_that_may_be_anothers_is_refused(tmp_path: Path, what: str) -> None:
    path, other = tmp_path / "cores", tmp_path / "other"
    match what:
        case "link":
            path.symlink_to(other)
        case "open":
            path.touch()
            path.chmod(0o666)
        case "directory":
            path.mkdir()
        case "fifo":
            os.mkfifo(path, 0o600)
        case _:
            other.touch(0o600)
            path.hardlink_to(other)
    with pytest.raises(ConfigError, match="remove it"):
        claim([0], 1, str(path))
    assert what == "second name" or not other.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_file_of_another_user_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cores"
    path.touch(0o600)
    os.chown(path, 1234, 1234)
    with pytest.raises(ConfigError, match="yours alone"):
        claim([0], 1, str(path))


def test_parts_and_what_is_not_there_are_bound_only_where_that_is_safe() -> None:
    there = sorted(os.sched_getaffinity(0))
    whole, more = len(there), len(there) + 1
    assert own_cores(more, whole, pin=True, part=True) == (tuple(range(more)), False, "", None)
    assert own_cores(0, whole, pin=False, part=True) == (tuple(there), False, "", None)
    if whole > 1:
        assert own_cores(1, whole, pin=True, part=False)[:2] == ((there[0],), False)
        assert own_cores(0, 1, pin=True, part=True)[:2] == ((there[0],), False)  # by a quota
        part = own_cores(1, whole, pin=True, part=True)
        assert part.pin
        assert part.fd is not None
        os.close(part.fd)


def test_claims_that_cannot_be_made_are_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "pilotmtc").mkdir(mode=0o755)
    own = own_cores(0, len(os.sched_getaffinity(0)), pin=True, part=True)
    assert not own.pin
    assert "not bound" in own.note
    assert str(tmp_path / "pilotmtc") in own.note


def test_overlap_with_another_pilot_is_said_and_nothing_is_bound(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    there = sorted(os.sched_getaffinity(0))
    first = own_cores(0, len(there), pin=True, part=True)  # makes the file's directory
    assert first.pin
    assert first.fd is not None
    os.close(first.fd)
    (path,) = (tmp_path / "pilotmtc").glob("cores-*")
    with holder(path, ",".join(map(str, there)), 1):
        note = "tasks are not bound to cores: another pilot of yours has bound its tasks to cores of this machine"
        assert own_cores(0, len(there), pin=True, part=True) == (tuple(there), False, note, None)
