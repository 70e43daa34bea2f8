"""What becomes of what tasks write."""

import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilotmtc.agent.node.capture import LIMIT_BYTES, PART_BYTES, Captures, tail
from tests.support import small_disk, wait_until

_MUCH = 10 * LIMIT_BYTES


@pytest.fixture
def captures(tmp_path: Path) -> Iterator[Captures]:
    captures = Captures(tmp_path / "outputs")
    yield captures
    captures.close()


def _numbers(size: int) -> bytes:
    return b"".join(b"%07d\n" % number for number in range(size // 8))


def _write(captures: Captures, data: bytes, limit: int, name: str = "1.1.out") -> int:
    """Return a pipe into which `data` was written while it was watched."""
    reading, writing = captures.get()
    captures.watch(reading, name, limit)
    with open(writing, "wb", buffering=0) as file:
        view = memoryview(data)
        while view:
            view = view[os.write(file.fileno(), view) :]
    return reading


@pytest.mark.parametrize("size", [0, 1, LIMIT_BYTES])
def test_what_the_store_takes_makes_no_file(tmp_path: Path, captures: Captures, size: int) -> None:
    reading, writing = captures.get()
    os.write(writing, b"x" * size)
    os.close(writing)
    assert captures.harvest(reading, "1.1.out", _MUCH) == (b"x" * size, size, None, "", None)
    assert not (tmp_path / "outputs").exists()


def test_opening_a_stream_anew_cuts_nothing(captures: Captures) -> None:
    reading, writing = captures.get()
    os.write(writing, b"first\n")
    again = os.open(f"/proc/self/fd/{writing}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.write(again, b"second\n")
    os.write(writing, b"third\n")
    os.close(again)
    os.close(writing)
    assert captures.harvest(reading, "1.1.err", _MUCH) == (b"first\nsecond\nthird\n", 19, None, "", None)


def test_who_keeps_a_stream_reaches_no_other_one(captures: Captures) -> None:
    reading, kept = captures.get()
    os.write(kept, b"mine\n")
    assert captures.harvest(reading, "1.1.out", _MUCH)[0] == b"mine\n"
    with pytest.raises(BrokenPipeError):
        os.write(kept, b"not yours\n")
    reading, writing = captures.get()
    with pytest.raises(BrokenPipeError):
        os.write(kept, b"not yours\n")
    os.close(kept)
    os.close(writing)
    assert captures.harvest(reading, "2.1.out", _MUCH) == (b"", 0, None, "", None)


def test_a_large_output_is_kept_whole_in_a_file(tmp_path: Path, captures: Captures) -> None:
    data = _numbers(_MUCH)
    content, size, path, trouble, crc = captures.harvest(_write(captures, data, 2 * _MUCH), "1.1.out", 2 * _MUCH)
    assert (size, trouble, crc) == (len(data), "", zlib.crc32(data))
    assert path == str(tmp_path / "outputs" / "1.1.out")
    assert Path(path).read_bytes() == data
    assert content.startswith(data[:PART_BYTES])
    assert content.endswith(data[-PART_BYTES:])
    assert f"[pilotmtc: {size - 2 * PART_BYTES} bytes left out here; all of it is in {path}]".encode() in content
    assert [file.stat().st_mode & 0o777 for file in (Path(path), Path(path).parent)] == [0o600, 0o700]


@pytest.mark.parametrize("beyond", [1, PART_BYTES, PART_BYTES + 1, 5 * LIMIT_BYTES])
def test_no_more_is_kept_than_the_limit(captures: Captures, beyond: int) -> None:
    limit = 2 * LIMIT_BYTES
    data = _numbers(limit) + b"e" * beyond
    content, size, path, trouble, crc = captures.harvest(_write(captures, data, limit), "1.1.out", limit)
    assert (size, trouble) == (len(data), "")
    assert path is not None
    kept = Path(path).read_bytes()
    assert crc == zlib.crc32(kept)
    assert kept.startswith(data[:limit])
    assert kept.endswith(data[-PART_BYTES:])
    assert len(kept) < limit + PART_BYTES + 200
    if beyond <= PART_BYTES:
        assert kept == data
    else:
        assert f"[pilotmtc: {beyond - PART_BYTES} bytes left out here; more than was to be kept]".encode() in kept
    assert content.startswith(data[:PART_BYTES])
    assert content.endswith(data[-PART_BYTES:])


@pytest.mark.parametrize("limit", [1, 2, 99, 1000, LIMIT_BYTES])
def test_a_small_limit_needs_no_file(tmp_path: Path, captures: Captures, limit: int) -> None:
    data = _numbers(LIMIT_BYTES + 8)
    content, size, path, trouble, _ = captures.harvest(_write(captures, data, limit), "1.1.out", limit)
    assert (size, path, trouble) == (len(data), None, "")
    assert b"left out here; more than was to be kept" in content
    assert len(content) <= max(limit, 2) + 100
    assert not (tmp_path / "outputs").exists()


def test_an_output_that_cannot_be_kept_says_so_and_stops_nobody(tmp_path: Path, captures: Captures) -> None:
    (tmp_path / "outputs").write_text("in the way")
    data = _numbers(_MUCH)
    content, size, path, trouble, _ = captures.harvest(_write(captures, data, 2 * _MUCH), "1.1.out", 2 * _MUCH)
    assert (size, path) == (len(data), None)
    assert content.startswith(data[:PART_BYTES])
    assert content.endswith(data[-PART_BYTES:])
    assert f"it could not be kept: {trouble}".encode() in content
    assert trouble == "Not a directory"


def test_the_last_room_on_a_disk_is_not_for_outputs(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "10m") as disk:
        captures = Captures(disk / "outputs")
        data = _numbers(LIMIT_BYTES + 8)
        assert captures.harvest(_write(captures, data, _MUCH), "1.1.out", _MUCH)[2] is not None
        (disk / "ballast").write_bytes(bytes((10 << 20) - 250_000))
        content, _, path, trouble, _ = captures.harvest(_write(captures, data, _MUCH, "2.1.out"), "2.1.out", _MUCH)
        assert (path, trouble) == (None, "its disk is all but full")
        assert content.endswith(data[-PART_BYTES:])
        assert [file.name for file in (disk / "outputs").iterdir()] == ["1.1.out"]
        captures.close()


def test_one_who_never_stops_writing_holds_up_nobody(captures: Captures) -> None:
    reading, writing = captures.get()
    if (child := os.fork()) == 0:  # a survivor
        try:
            os.close(reading)
            while True:
                os.write(writing, b"y\n" * 4096)
        finally:
            os._exit(0)
    os.close(writing)
    stream = captures.watch(reading, "1.1.out", 1 << 40)
    wait_until(lambda: stream.size > _MUCH, 20.0)
    content, size, *_ = captures.harvest(reading, "1.1.out", 1 << 40)
    assert size > _MUCH
    assert content.endswith(b"y\n")
    os.waitpid(child, 0)  # its pipe broke


def test_news_of_another_pipe_with_the_same_number_end_no_look_at_this_one(captures: Captures) -> None:
    reading, writing = captures.get()
    stream = captures.watch(reading, "1.1.out", _MUCH)
    stream.leave(captures._epoll)
    os.write(writing, b"x" * 100)
    wait_until(lambda: stream.size == 100, 20.0)
    os.close(writing)
    stream.leave(captures._epoll)
    assert captures.harvest(reading, "1.1.out", _MUCH)[0] == b"x" * 100


def test_end_of_what_was_written_so_far(captures: Captures) -> None:
    reading, writing = captures.get()
    os.write(writing, b"0123456789")
    stream = captures.watch(reading, "1.1.out", _MUCH)
    assert stream.end(4) == (b"6789", 10)
    os.write(writing, b"ab")
    assert stream.end(4) == (b"89ab", 12)
    os.close(writing)
    assert stream.end(99) == (b"0123456789ab", 12)
    assert captures.harvest(reading, "1.1.out", _MUCH) == (b"0123456789ab", 12, None, "", None)


def test_end_of_a_file_and_its_size(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"0123456789")
    assert tail(str(path), 4) == (b"6789", 10)
    assert tail(str(path), 99) == (b"0123456789", 10)


@pytest.mark.parametrize("name", ["none", "pipe", "/dev/null", ""])
def test_what_is_no_file_has_nothing(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "pipe")  # without a writer, which would be waited for
    assert tail(str(tmp_path / name), 4) == (b"", 0)
