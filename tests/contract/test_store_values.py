"""Values: put in parts, got in parts, checked, kept as long as a campaign uses them."""

import os
import resource
from pathlib import Path
from typing import cast

import pytest
from msgspec.structs import replace

from pilotmtc.clock import FakeClock
from pilotmtc.errors import StoreError, UsageError
from pilotmtc.model import CampaignId, Function, Template, Value
from pilotmtc.protocol.agent import Finish
from pilotmtc.protocol.client.campaigns import DeleteCampaign
from pilotmtc.protocol.client.maintenance import CheckStore, CompactStore, SnapshotStore
from pilotmtc.protocol.values import MAX_VALUE_BYTES, PART_BYTES, GetValue, PutValue
from pilotmtc.store.file.value_files import ValueFiles, make_part, names, part_name, values_directory
from pilotmtc.store.file.values import ROW_BYTES, UNUSED_S, leave_values
from pilotmtc.store.interface import Store
from pilotmtc.store.sqlite import SqliteStore
from tests.contract.storekit import Kit, call_row, digest_of, result, row

LARGE = os.urandom(2 * PART_BYTES + 12_345)
SMALL = b"small" * 100


def put(store: Store, data: bytes, campaign: CampaignId | None = None) -> str:
    """Put a value, part by part, and return its digest."""
    digest = digest_of(data)
    offset = store.call(PutValue(digest, 0, len(data), b"", campaign)).received
    while offset < len(data):
        part = data[offset : offset + PART_BYTES]
        offset = store.call(PutValue(digest, offset, len(data), part, campaign)).received
    return digest


def get(store: Store, digest: str) -> bytes:
    """Get a value, part by part."""
    data = b""
    while len(data) < (part := store.call(GetValue(digest, len(data)))).size:
        assert part.found
        data += part.data
    return data


@pytest.mark.parametrize("data", [b"", SMALL, LARGE[:ROW_BYTES], LARGE[: ROW_BYTES + 1], LARGE], ids=len)
def test_value_comes_back_as_it_was_put(store: Store, data: bytes) -> None:
    digest = digest_of(data)
    assert not store.call(GetValue(digest)).found
    put(store, data)
    assert get(store, digest) == data
    assert store.call(PutValue(digest, 0, len(data), b"")).received == len(data)
    assert store.call(GetValue(digest, len(data) - 3 if data else 0, 10)).data == data[-3:]
    assert store.call(GetValue(digest, len(data) + 10)).data == b""


def test_large_value_can_be_read_where_it_lies(store: Store, tmp_path: Path) -> None:
    part = store.call(GetValue(put(store, LARGE), limit=0))
    path = Path(part.path)
    assert path.read_bytes() == LARGE
    assert (part.data, part.size) == (b"", len(LARGE))
    assert path.stat().st_mode & 0o777 == 0o600
    assert {above.stat().st_mode & 0o777 for above in path.parents if tmp_path in above.parents} == {0o700}
    assert store.call(GetValue(put(store, SMALL))).path == ""


def test_parts_may_come_twice_and_late(store: Store) -> None:
    digest, size = digest_of(LARGE), len(LARGE)
    first = PutValue(digest, 0, size, LARGE[:PART_BYTES])
    second = PutValue(digest, PART_BYTES, size, LARGE[PART_BYTES : 2 * PART_BYTES])
    assert store.call(second).received == 0  # it would leave a gap
    for _ in range(2):
        assert store.call(first).received == PART_BYTES
    assert store.call(second).received == 2 * PART_BYTES
    assert store.call(first).received == 2 * PART_BYTES
    assert store.call(PutValue(digest, 0, size, b"")).received == 2 * PART_BYTES
    overlapping = PutValue(digest, 2 * PART_BYTES - 7, size, LARGE[2 * PART_BYTES - 7 :])
    for part in (overlapping, overlapping, first):
        assert store.call(part).received == size
    assert get(store, digest) == LARGE


def test_two_may_put_the_same_value_at_once(store: Store) -> None:
    digest, size = digest_of(LARGE), len(LARGE)
    offsets = [0, 0]
    while min(offsets) < size:
        for who, offset in enumerate(offsets):
            part = LARGE[offset : offset + PART_BYTES - who * 1000]
            offsets[who] = store.call(PutValue(digest, offset, size, part)).received
    assert get(store, digest) == LARGE


@pytest.mark.parametrize("size", [len(SMALL), len(LARGE)])
def test_value_that_is_not_what_its_digest_says_is_dropped(store: Store, tmp_path: Path, size: int) -> None:
    whole = (SMALL if size == len(SMALL) else LARGE)[:size]
    digest = digest_of(whole)
    wrong = b"x" + whole[1:]
    for offset in range(0, size - PART_BYTES, PART_BYTES):
        store.call(PutValue(digest, offset, size, wrong[offset : offset + PART_BYTES]))
    last = size // PART_BYTES * PART_BYTES
    with pytest.raises(UsageError, match="not what its digest says: put it again"):
        store.call(PutValue(digest, last, size, wrong[last:]))
    assert not store.call(GetValue(digest)).found
    assert [path for path in (tmp_path / "store.db.d").rglob("*") if path.is_file()] == []
    put(store, whole)
    assert get(store, digest) == whole


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (PutValue("../../etc/passwd", 0, 1, b"x"), "no digest"),
        (PutValue("A" * 64, 0, 1, b"x"), "64 hexadecimal digits"),
        (cast("PutValue", GetValue("f" * 63)), "no digest"),
        (PutValue("f" * 64, 0, MAX_VALUE_BYTES + 1, b"x"), f"{MAX_VALUE_BYTES} is the most"),
        (PutValue("f" * 64, 0, -1, b""), "cannot have -1 bytes"),
        (PutValue("f" * 64, 3, 4, b"xx"), "no part of a value of 4 bytes"),
        (PutValue("f" * 64, -1, 4, b"xx"), "no part"),
        (PutValue("f" * 64, 0, 2 * PART_BYTES, b"x" * (PART_BYTES + 1)), f"{PART_BYTES} is the most"),
        (PutValue("f" * 64, 0, 4, b"", CampaignId(77)), "no campaign 77"),
    ],
)
def test_requests_that_make_no_sense_are_refused(local: SqliteStore, request_: PutValue, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        local.call(request_)


def test_size_is_that_of_the_value(local: SqliteStore) -> None:
    digest = put(local, SMALL)
    with pytest.raises(UsageError, match="has 500 bytes, not 501"):
        local.call(PutValue(digest, 0, 501, b""))


# -- what goes wrong ---------------------------------------------------------------------------------------------


def test_upload_that_a_restart_interrupts_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = SqliteStore(path)
    digest, size = digest_of(LARGE), len(LARGE)
    store.call(PutValue(digest, 0, size, LARGE[:PART_BYTES]))
    store.close()
    assert [file for file in (tmp_path / "store.db.d").rglob("*") if file.is_file()]
    store = SqliteStore(path)
    assert [file for file in (tmp_path / "store.db.d").rglob("*") if file.is_file()] == []
    assert store.call(PutValue(digest, PART_BYTES, size, LARGE[PART_BYTES : 2 * PART_BYTES])).received == 0
    put(store, LARGE)
    store.close()
    store = SqliteStore(path)
    assert get(store, digest) == LARGE
    store.close()


def test_full_disk_is_said_and_nothing_of_the_value_stays(local: SqliteStore, tmp_path: Path) -> None:
    digest, size = digest_of(LARGE), len(LARGE)
    local.call(PutValue(digest, 0, size, LARGE[:PART_BYTES]))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (PART_BYTES + 4096, hard))
    try:
        with pytest.raises(StoreError, match=r"no space left for a value in .*store\.db\.d/values"):
            local.call(PutValue(digest, PART_BYTES, size, LARGE[PART_BYTES : 2 * PART_BYTES]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [file for file in (tmp_path / "store.db.d").rglob("*") if file.is_file()] == []
    assert local.call(PutValue(digest, 0, size, b"")).received == 0
    put(local, LARGE)
    assert get(local, digest) == LARGE


def test_value_that_cannot_fit_is_refused_at_once(local: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    there = os.statvfs(local.path.parent)
    monkeypatch.setattr(os, "statvfs", lambda _: there)
    monkeypatch.setattr("pilotmtc.store.requests.values.MAX_VALUE_BYTES", 1 << 60)
    with pytest.raises(StoreError, match="no space left"):
        local.call(PutValue("f" * 64, 0, 1 << 59, b"x"))


def test_file_that_has_no_row_for_a_full_store_gets_it_later(local: SqliteStore) -> None:
    digest, size = digest_of(LARGE), len(LARGE)
    for offset in range(0, size - PART_BYTES, PART_BYTES):
        local.call(PutValue(digest, offset, size, LARGE[offset : offset + PART_BYTES]))
    connection = local._connection
    connection.execute("CREATE TEMP TRIGGER full BEFORE INSERT ON main.value BEGIN SELECT raise(ABORT, 'full'); END")
    last = PutValue(digest, 2 * PART_BYTES, size, LARGE[2 * PART_BYTES :])
    with pytest.raises(StoreError):
        local.call(last)
    assert not local.call(GetValue(digest)).found
    connection.execute("DROP TRIGGER full")
    assert local.call(last).received == size
    assert get(local, digest) == LARGE


def test_lost_file_is_named_by_those_who_look_for_it_and_can_be_put_again(local: SqliteStore) -> None:
    digest = put(local, LARGE)
    path = Path(local.call(GetValue(digest, limit=0)).path)
    path.write_bytes(LARGE[:-1])
    with pytest.raises(StoreError, match=f"{path}, which holds a value, is gone or cut short"):
        local.call(GetValue(digest, 2 * PART_BYTES))
    assert local.call(CheckStore()).problems == (
        f"{path}, which holds a value of {len(LARGE)} bytes, has {len(LARGE) - 1}",
    )
    path.write_bytes(b"x" + LARGE[1:])
    assert local.call(CheckStore()).problems == (f"{path}, which holds a value, is not as it was written",)
    path.unlink()
    path.symlink_to(local.path)
    (words,) = local.call(CheckStore()).problems
    assert "is a symbolic link, where a file of yours should be" in words
    path.unlink()
    assert local.call(CheckStore()).problems == (f"{path}, which holds a value of 2.0M, is gone",)
    with pytest.raises(StoreError, match="is gone"):
        local.call(GetValue(digest))
    assert local.call(PutValue(digest, 0, len(LARGE), b"")).received == 0
    put(local, LARGE)
    assert get(local, digest) == LARGE


def test_damaged_row_is_found(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "store.db")
    put(store, SMALL)
    store._connection.execute("UPDATE value SET data = x'00'")
    assert [words for words in store.call(CheckStore()).problems if "not what its digest says" in words]
    store.close()


# -- how long they are kept --------------------------------------------------------------------------------------


def files(store: SqliteStore) -> list[str]:
    return sorted(names(values_directory(str(store.path))))


def test_value_that_no_campaign_uses_is_removed_after_days(local: SqliteStore, clock: FakeClock) -> None:
    campaign = Kit(local).submit(row(1)).campaign
    used, unused = put(local, LARGE, campaign), put(local, LARGE[1:])
    small = put(local, SMALL)
    clock.advance(UNUSED_S - 10)
    assert local.call(PutValue(small, 0, len(SMALL), b"")).received == len(SMALL)  # who asks may need it
    clock.advance(20)
    local.call(CompactStore())
    found = [local.call(GetValue(digest)).found for digest in (used, unused, small)]
    assert found == [True, False, True]
    assert len(files(local)) == 1
    clock.advance(UNUSED_S + 10)
    local.call(CompactStore())
    assert not local.call(GetValue(small)).found


def test_value_is_kept_as_long_as_any_campaign_uses_it(local: SqliteStore, clock: FakeClock) -> None:
    kit = Kit(local)
    code, args = put(local, SMALL), put(local, LARGE)
    template = Template(("f",), function=Function("f", code))
    one, other = (kit.submit(call_row(args=args, size=len(LARGE)), template=template).campaign for _ in range(2))
    for campaign, left in ((one, True), (other, False)):
        local._by_itself(lambda campaign=campaign: leave_values(local._tx, campaign))  # type: ignore[misc]
        clock.advance(UNUSED_S + 10)
        local.call(CompactStore())
        assert [local.call(GetValue(digest)).found for digest in (code, args)] == [left, left]
        assert len(files(local)) == left
    local._connection.execute("DELETE FROM call")
    local._connection.execute("UPDATE template SET body = json_remove(body, '$.function')")


def test_file_that_an_earlier_server_left_without_a_row_is_swept(
    local: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = put(local, LARGE)
    (known,) = files(local)
    left = ValueFiles(str(local.path))
    other = LARGE[5:]
    for offset in range(0, len(other), PART_BYTES):
        left.take(digest_of(other), offset, len(other), other[offset : offset + PART_BYTES])
    assert len(files(local)) == 2
    local.call(CompactStore())
    assert len(files(local)) == 2  # it may get its row at any moment
    monkeypatch.setattr("pilotmtc.store.file.value_files._ABANDONED_S", -1.0)
    local.call(CompactStore())
    assert files(local) == [known]
    assert get(local, digest) == LARGE


def test_copy_says_which_values_it_lacks(local: SqliteStore, tmp_path: Path) -> None:
    digest = put(local, LARGE)
    small = put(local, SMALL)
    target = tmp_path / "copy.db"
    note = local.call(SnapshotStore(str(target))).note
    assert note.startswith("the copy lacks 1 large value (2.0M): to have all, copy")
    assert note.endswith(f"the directory {local.path}.d, too, as {target}.d")
    copy = SqliteStore(target)
    assert get(copy, small) == SMALL
    with pytest.raises(StoreError, match=r"copy\.db\.d/values/.* is gone"):
        copy.call(GetValue(digest))
    put(copy, LARGE)
    assert get(copy, digest) == LARGE
    copy.close()
    with pytest.raises(UsageError, match="one of the store's own files"):
        local.call(SnapshotStore(local.call(GetValue(digest, limit=0)).path + "x"))


# -- files that clients on the store's host write ---------------------------------------------------------------------


def part(store: Store, data: bytes, name: str = "") -> tuple[Path, PutValue]:
    """Write a file as a client does; return it, and the request that gives it to the store."""
    digest = digest_of(LARGE)
    parts = store.call(PutValue(digest, 0, len(LARGE), b"")).parts
    path = Path(parts) / (name or part_name(digest))
    with os.fdopen(make_part(parts, str(path), len(data)), "wb") as file:
        file.write(data)
    return path, PutValue(digest, 0, len(LARGE), b"", file=path.name)


def test_file_that_a_client_has_written_is_taken_as_it_is(store: Store) -> None:
    path, request = part(store, LARGE)
    inode = path.stat().st_ino
    assert store.call(request).received == len(LARGE)
    assert not path.exists()
    kept = Path(store.call(GetValue(digest_of(LARGE))).path)
    assert (kept.stat().st_ino, kept.read_bytes()) == (inode, LARGE)
    assert store.call(request).received == len(LARGE)  # again


def test_file_that_is_not_there_is_not_received(store: Store) -> None:
    path, request = part(store, LARGE)
    path.unlink()
    assert store.call(request).received == 0


@pytest.mark.parametrize(
    ("data", "words"), [(b"x" + LARGE[1:], "not what its digest says"), (LARGE[1:], "bytes, not"), (b"", "0 bytes")],
    ids=["other", "short", "empty"],
)  # fmt: skip
def test_file_of_something_else_is_removed(store: Store, data: bytes, words: str) -> None:
    path, request = part(store, data)
    with pytest.raises(UsageError, match=words):
        store.call(request)
    assert not path.exists()
    assert not store.call(GetValue(digest_of(LARGE))).found


@pytest.mark.parametrize("name", ["../../store.db", "other", "DIGEST-/x"])
def test_only_files_among_the_parts_are_taken(store: Store, name: str) -> None:
    request = PutValue(digest_of(LARGE), 0, len(LARGE), b"", file=name.replace("DIGEST", digest_of(LARGE)))
    with pytest.raises(UsageError, match="cannot be the value"):
        store.call(request)


def test_deleting_only_what_was_written_keeps_what_calls_need(local: SqliteStore, clock: FakeClock) -> None:
    kit = Kit(local)
    code, args, returned = put(local, SMALL), put(local, LARGE), put(local, LARGE[::-1])
    template = Template(("f",), function=Function("f", code))
    campaign = kit.submit(call_row(args=args, size=len(LARGE)), template=template).campaign
    pilot = kit.pilot()
    (task,) = kit.claim(pilot)
    value = Value(digest=returned, size=len(LARGE))
    local.call(Finish(pilot, (replace(result(task), value=value, value_text="it"),)))
    local.call(DeleteCampaign("d", campaign, keep_results=True))
    clock.advance(UNUSED_S + 10)
    local.call(CompactStore())
    assert [local.call(GetValue(digest)).found for digest in (code, args, returned)] == [True, True, False]
    local.call(DeleteCampaign("all", campaign))
    clock.advance(UNUSED_S + 10)
    local.call(CompactStore())
    assert not any(local.call(GetValue(digest)).found for digest in (code, args))
    assert not files(local)
