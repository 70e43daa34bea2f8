"""What a serve makes of the words of a server that another one is starting."""

import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilotmtc.store import serve


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The lock of those that start, held by somebody else."""
    runtime = tmp_path / "run"
    runtime.mkdir(0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    fd = os.open(serve.socket_path(str(tmp_path / "a.db"))[: -len("sock")] + "start", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)
    yield fd
    os.close(fd)


@pytest.mark.parametrize("word", ["ready\n", "served\n/elsewhere.sock", "StoreBusy\nanother has it"])
def test_server_that_has_just_begun_to_serve_is_looked_for_again(
    word: str, lock: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.pwrite(lock, word.encode(), 0)

    def sleep(_s: float) -> None:  # meanwhile the one that starts has come to its end
        fcntl.flock(lock, fcntl.LOCK_UN)

    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(serve, "_spawn", lambda *_: "its own")
    assert serve.start(str(tmp_path / "a.db"), time.monotonic() + 30.0)[0] == "its own"


def test_why_it_cannot_serve_is_handed_on(lock: int, tmp_path: Path) -> None:
    os.pwrite(lock, b"StoreMoved\nmoved: other: it has it", 0)
    with pytest.raises(serve.Refused, match="moved: other") as caught:
        serve.start(str(tmp_path / "a.db"), time.monotonic() + 30.0)
    assert caught.value.error == "StoreMoved"
