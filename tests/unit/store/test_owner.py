"""Claims on a store: the record, what a claim means, and that only one host gets a number."""

import errno
import os
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from pilotmtc.errors import ConfigError, StoreError, StoreMoved
from pilotmtc.store.ownership import owner
from pilotmtc.store.ownership.filesystem import owner_directory
from pilotmtc.store.ownership.owner import (
    MAX_RECORD_BYTES,
    Host,
    Lease,
    Record,
    Seen,
    Verdict,
    claim,
    is_alive,
    judge,
    look,
    parse,
    period_s,
    started_at,
    this_host,
)

HERE = Host("alpha", "boot-1", "pid:[1]")
RECORD = Record(Host("beta", "boot-2", "pid:[1]"), 123, 4567, "token", 10.0, 3, "serving", "/run/x.sock")
DATA = msgspec.json.encode(RECORD)


class Stopped(Exception):
    """The lease was lost: a real process would be no more."""


def stop() -> None:
    raise Stopped


def verdict(record: Record, unchanged_s: float = 0.0, *, alive: bool = False, renew_s: float = 10.0) -> Verdict:
    return judge(Seen(4, msgspec.json.encode(record)), HERE, lambda *_: alive, unchanged_s, renew_s)


# -- the record ---------------------------------------------------------------------------------------------------


def test_record_is_read_back() -> None:
    assert parse(DATA) == RECORD


@given(st.binary(max_size=2 * MAX_RECORD_BYTES))
@example(b"")
@example(b"[" * MAX_RECORD_BYTES)
@example(b'{"host":' * 500)
@example(b" " * (MAX_RECORD_BYTES + 1))
@example(b"\xff\xfe{}")
def test_random_bytes_are_a_named_error(data: bytes) -> None:
    with pytest.raises(StoreError, match="owner's record"):
        parse(data)


@given(st.data())
def test_mutated_record_is_a_record_or_a_named_error(data: st.DataObject) -> None:
    mutated = bytearray(DATA)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(mutated) - 1))
        kind = data.draw(st.sampled_from(("flip", "cut", "repeat")))
        if kind == "flip":
            mutated[at] = data.draw(st.integers(0, 255))
        elif kind == "cut":
            del mutated[at : at + data.draw(st.integers(1, 20))]
            mutated = mutated or bytearray(b"0")
        else:
            mutated[at:at] = mutated[at : at + 20]
    try:
        found = parse(bytes(mutated))
    except StoreError:
        return
    assert found.renew_s > 0
    assert found.pid >= 1


@pytest.mark.parametrize(
    ("field", "value"),
    [("pid", 0), ("pid", 1 << 80), ("started", -5), ("renew_s", 0), ("renew_s", 1e9), ("state", "perhaps"),
     ("sequence", -1), ("token", ""), ("host", {"name": "", "boot": "b", "space": "s"})],
)  # fmt: skip
def test_values_out_of_range_are_refused(field: str, value: object) -> None:
    with pytest.raises(StoreError):
        parse(msgspec.json.encode({**msgspec.to_builtins(RECORD), field: value}))


def test_error_of_a_moved_store_names_the_host() -> None:
    assert StoreMoved("moved: login-1.site: it has /x: y open").host == "login-1.site"


# -- what a claim means -------------------------------------------------------------------------------------------


def test_no_claim_and_a_released_one_are_free() -> None:
    assert judge(Seen(), HERE, lambda *_: False, 0.0, 10.0) is Verdict.FREE
    assert verdict(replace(RECORD, state="released")) is Verdict.FREE
    assert verdict(replace(RECORD, state="released", host=HERE), alive=True) is Verdict.FREE


def test_process_of_this_host_is_looked_for() -> None:
    own = replace(RECORD, host=HERE)
    assert verdict(own, 1e9, alive=True) is Verdict.HERE
    assert verdict(own) is Verdict.DEAD


@pytest.mark.parametrize(
    "other", [Host("beta", "boot-1", "pid:[1]"), Host("alpha", "boot-9", "pid:[1]"), Host("alpha", "boot-1", "pid:[9]")]
)
def test_same_number_elsewhere_is_not_looked_for(other: Host) -> None:
    """Another name, another run of the kernel, or a container with process numbers of its own."""
    assert verdict(replace(RECORD, host=other), 59.0) is Verdict.ELSEWHERE
    assert verdict(replace(RECORD, host=other), 61.0) is Verdict.SILENT


def test_longer_of_both_periods_counts() -> None:
    assert verdict(RECORD, 50.0, renew_s=0.1) is Verdict.ELSEWHERE
    assert verdict(replace(RECORD, renew_s=0.1), 50.0, renew_s=10.0) is Verdict.ELSEWHERE
    assert verdict(replace(RECORD, renew_s=0.1), 50.0, renew_s=0.2) is Verdict.SILENT


def test_what_cannot_be_read_is_waited_for_like_any_other() -> None:
    assert judge(Seen(3, b""), HERE, lambda *_: False, 59.0, 10.0) is Verdict.ELSEWHERE
    assert judge(Seen(3, b""), HERE, lambda *_: False, 61.0, 10.0) is Verdict.SILENT


def test_processes_are_told_apart_by_their_start() -> None:
    start = started_at(os.getpid())
    assert is_alive(os.getpid(), start)
    assert not is_alive(os.getpid(), start + 1)
    assert started_at(1 << 22) == -1


@pytest.mark.parametrize("word", ["", "0", "-1", "ten", "nan", "inf", "1e9"])
def test_period_that_makes_no_sense_is_refused(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(owner.RENEW_VARIABLE, word)
    with pytest.raises(ConfigError, match=r"PILOTMTC_SERVER_RENEW_S=.*between 0\.01 and 3600"):
        period_s()


# -- claiming -----------------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> str:
    path = str(tmp_path / "store.db")
    Path(owner_directory(path)).mkdir()
    return path


def claimed(store: str, seen: Seen, host: Host = HERE) -> Lease:
    lease = claim(store, seen, host, 3600.0, stop)  # its thread has nothing to do before the test is over
    assert lease is not None
    return lease


def test_number_is_given_once(store: str) -> None:
    lease = claimed(store, Seen())
    assert claim(store, Seen(), HERE, 3600.0, stop) is None
    lease.abandon()


def test_number_that_is_taken_is_known_whatever_the_error_is(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over SFTP, what exists already is an operation that is not permitted."""
    lease = claimed(store, Seen())

    def refuse(*_: object) -> int:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", refuse)
        assert claim(store, Seen(), HERE, 3600.0, stop) is None
        with pytest.raises(PermissionError):
            claim(store, Seen(1), HERE, 3600.0, stop)
    lease.abandon()


def test_claim_that_cannot_be_written_is_taken_back(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space left"):
            claim(store, Seen(), HERE, 3600.0, stop)
    assert look(owner_directory(store)) == Seen()


def test_claim_steps_back_when_the_owner_has_stirred(store: str) -> None:
    first = claimed(store, Seen())
    seen = look(owner_directory(store))
    first.advertise("/run/x.sock")
    assert claim(store, seen, HERE, 3600.0, stop) is None
    first.advertise("/run/y.sock")  # and it still has it
    first.abandon()


@pytest.mark.parametrize("successors", [1, 2])
def test_owner_that_was_succeeded_stops_before_it_writes_anything(store: str, successors: int) -> None:
    """Even if its clock has stood still meanwhile, as that of a machine that was stopped as a whole."""
    first = claimed(store, Seen())
    first.prove()
    second = claimed(store, look(owner_directory(store)))
    if successors == 2:
        second.abandon()
        second = claimed(store, look(owner_directory(store)))
        second.forget_older()
    before = look(owner_directory(store))
    with pytest.raises(Stopped):
        first.prove()
    with pytest.raises(Stopped):
        first.advertise("/run/x.sock")
    assert look(owner_directory(store)) == before
    second.prove()
    first.abandon()
    second.abandon()


def test_lease_that_ran_out_unseen_is_renewed(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(owner, "_boot_time", lambda: now[0])
    lease = claimed(store, Seen())
    sequence = parse(look(owner_directory(store)).data).sequence
    now[0] += 1e6
    lease.prove()
    assert parse(look(owner_directory(store)).data).sequence == sequence + 1
    lease.prove()
    assert parse(look(owner_directory(store)).data).sequence == sequence + 1
    lease.abandon()


def test_owner_that_cannot_see_its_successor_yet_goes_by_the_clock(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(owner, "_boot_time", lambda: now[0])
    first = claimed(store, Seen())
    second = claimed(store, look(owner_directory(store)))
    monkeypatch.setattr(os.path, "exists", lambda path: path.endswith("/1"))  # as a host's cache may have it
    first.prove()
    now[0] += owner.BELIEVED * 3600.0
    with pytest.raises(Stopped):
        first.prove()
    first.abandon()
    second.abandon()


def test_lease_whose_claim_was_removed_is_lost(store: str) -> None:
    lease = claimed(store, Seen())
    for path in Path(owner_directory(store)).iterdir():
        path.unlink()
    with pytest.raises(Stopped):
        lease.advertise("/run/x.sock")
    assert list(Path(owner_directory(store)).iterdir()) == []
    lease.abandon()


def test_number_of_a_released_claim_is_not_given_again(store: str) -> None:
    for number in range(1, 4):
        seen = look(owner_directory(store))
        assert seen.number == number - 1
        lease = claimed(store, seen)
        lease.forget_older()
        lease.release()
        assert os.listdir(owner_directory(store)) == [str(number)]


def test_this_host_has_a_name(store: str) -> None:
    assert this_host() == this_host()
    assert this_host().name == os.uname().nodename
