"""Results on disk: written, acknowledged, synced, read back, and damaged."""

import os
import resource
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotmtc.agent import spool as spool_module
from pilotmtc.agent.spool import SEGMENT_BYTES, SYNC_AFTER_S, Spool
from pilotmtc.errors import ConfigError
from pilotmtc.model import Result, TaskId
from pilotmtc.protocol.spool import read_file, read_spool, spool_files
from pilotmtc.states import Cause


def results(*tasks: int, size: int = 0) -> list[Result]:
    return [Result(TaskId(task), 1, Cause.EXIT, 0, stdout=b"x" * size) for task in tasks]


def test_what_is_written_is_read_back_in_order(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.write(results(1, 2))
    spool.write(results(3))
    assert list(read_spool(tmp_path)) == [results(1, 2), results(3)]
    spool.close()
    assert list(read_spool(tmp_path)) == [results(1, 2), results(3)]


def test_what_is_acknowledged_leaves_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    segments = [spool.write(results(task, size=SEGMENT_BYTES // 2)) for task in range(5)]
    assert len(spool_files(tmp_path)) == 3
    for segment in segments:
        spool.acked(segment)
    assert list(read_spool(tmp_path)) == []
    spool.close()
    assert spool_files(tmp_path) == []


def test_too_much_owed_makes_it_full_until_some_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "OWED_MAX_BYTES", 2 * SEGMENT_BYTES)
    spool = Spool(tmp_path)
    segments = []
    while not spool.full:
        segments.append(spool.write(results(1, size=SEGMENT_BYTES)))
    assert len(segments) == 2
    spool.acked(segments.pop(0))
    assert not spool.full
    for segment in segments:
        spool.acked(segment)
    spool.close()


def test_a_disk_that_is_full_still_counts_what_is_owed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "OWED_MAX_BYTES", 1000)
    spool = Spool(tmp_path)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, spool._segment.fd)
    os.close(full)
    assert spool.complete
    segment = spool.write(results(1, size=2000))
    assert spool.full
    assert not spool.complete
    segment.size = 0
    segment.open_records = 0
    os.close(segment.fd)
    spool._open.clear()


def test_where_no_other_file_can_be_made_the_last_one_takes_more(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    spool = Spool(tmp_path / "spool")
    first = spool.write(results(1, size=SEGMENT_BYTES + 1))
    (tmp_path / "spool").rename(tmp_path / "away")
    assert spool.write(results(2)) is first
    assert list(read_spool(tmp_path / "away")) == [results(1, size=SEGMENT_BYTES + 1), results(2)]
    assert spool.complete
    (tmp_path / "away").rename(tmp_path / "spool")
    assert spool.write(results(3)) is not first
    spool.close()


def test_who_has_no_descriptors_left_goes_on(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    segment = spool.write(results(1, size=SEGMENT_BYTES + 1))
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        spool.poll(time.monotonic() + 2 * SYNC_AFTER_S)
        assert spool.write(results(2)) is segment
        spool.acked(segment)
        spool.acked(segment)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    spool.poll(time.monotonic() + 4 * SYNC_AFTER_S)
    assert spool.write(results(3)) is segment
    assert list(read_spool(tmp_path)) == [results(3)]
    spool.acked(segment)
    spool.close()


def test_no_pilot_starts_where_it_could_not_write(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot write in the pilot's directory .*: No such file"):
        Spool(tmp_path / "none")


def test_only_what_is_not_taken_soon_waits_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    done = threading.Event()

    def fsync(fd: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))
        if len(synced) == 2:
            done.set()

    monkeypatch.setattr(os, "fsync", fsync)
    spool = Spool(tmp_path)
    segment = spool.write(results(1))
    began = spool._unsynced_since
    assert began is not None
    spool.poll(began + SYNC_AFTER_S / 2)
    spool.acked(segment)
    spool.poll(began + 10 * SYNC_AFTER_S)
    assert spool._syncer is None
    spool.write(results(2))
    spool.poll(began + 20 * SYNC_AFTER_S)
    assert done.wait(10)
    assert synced == [str(tmp_path / "spool.1"), str(tmp_path)]
    spool.close()


def test_a_torn_record_ends_its_file_only(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.write(results(1))
    spool.write(results(2))
    spool.close()
    first = tmp_path / "spool.1"
    os.truncate(first, first.stat().st_size - 1)
    again = Spool(tmp_path)
    again.write(results(3))
    assert list(read_spool(tmp_path)) == [results(1), results(3)]
    again.close()


@given(data=st.binary(max_size=200))
def test_random_bytes_are_read_as_far_as_they_make_sense(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "random-spool.1"
    path.write_bytes(data)
    assert list(read_file(path)) == []


@given(at=st.integers(0, 10_000), bits=st.integers(1, 255))
def test_one_wrong_byte_never_makes_a_wrong_result(
    at: int, bits: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.getbasetemp() / "mutated"
    directory.mkdir(exist_ok=True)
    path = directory / "spool.1"
    path.unlink(missing_ok=True)
    written = [results(1, 2, size=30), results(3, size=50), results(4)]
    spool = Spool(directory)
    for each in written:
        spool.write(each)
    spool.close()
    (path,) = spool_files(directory)
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= bits
    path.write_bytes(data)
    found = list(read_file(path))
    path.unlink()
    assert found == written[: len(found)]
    assert len(found) < len(written)
