"""``pilotmtc store``, other programs that read it, and the completion of shells."""

import contextlib
import csv
import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import small_disk
from tests.user import User


def test_path_need_not_be_there(user: User) -> None:
    assert user.cli("store", "path").out == f"{user.store}\n"
    assert not user.store.exists()
    assert user.cli("store", "path", PILOTMTC_STORE="").out.endswith("/home/.local/share/pilotmtc/store.db\n")
    assert user.cli("--store", "ssh://me@host/~/x.db", "store", "path", "--json").record == {
        "path": "ssh://me@host/~/x.db"
    }


def test_check_finds_what_is_wrong(past: User) -> None:
    assert past.cli("store", "check").out == f"{past.store} is sound\n"
    past.wait_alone()
    with sqlite3.connect(past.store) as database:
        database.execute("UPDATE task SET state = 4 WHERE state = 1")
    database.close()
    done = past.cli("store", "check", code=1)
    assert done.out
    assert "is damaged; make a copy of it before anything else" in done.err
    found = past.cli("store", "check", "--json", code=1).record
    assert found["ok"] is False
    assert found["problems"]


def test_damaged_file_is_named(past: User) -> None:
    past.wait_alone()
    with open(past.store, "r+b") as file:
        file.seek(4096)
        file.write(os.urandom(60_000))
    for words in (["status"], ["tasks"], ["store", "check"]):
        done = subprocess.run(
            past.argv(*words), cwd=past.here, env=past.env, capture_output=True, text=True, timeout=60, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode in (1, 3), done
        assert "Traceback" not in done.stderr
        assert "store.db" in done.stderr


def test_newer_store_is_not_touched(past: User) -> None:
    past.wait_alone()
    with sqlite3.connect(past.store) as database:
        database.execute("PRAGMA user_version = 9999")
    database.close()
    done = past.cli("status", code=3)
    assert "newer" in done.err


def test_compact_gives_space_back(user: User) -> None:
    user.env["PILOTMTC_SERVER_LINGER_S"] = "0.2"
    user.cli("submit", "true {}", ":::", "1")
    user.wait_alone()
    with contextlib.closing(sqlite3.connect(user.store)) as database:
        database.executescript("CREATE TABLE unused AS SELECT zeroblob(1000000); DROP TABLE unused")
    found = user.cli("store", "compact", "--json").record
    assert 0 < found["after_bytes"] < found["before_bytes"] - 900_000
    assert " before, " in user.cli("store", "compact").out


@pytest.fixture
def large(user: User) -> User:
    """Someone with a task that has written too much for the store."""
    user.env["PILOTMTC_SERVER_LINGER_S"] = "0.2"
    user.cli("run", "-q", "head -c 200000 /dev/zero | tr '\\0' x")
    return user


def test_copied_store_gives_its_large_outputs_and_says_what_is_missing(large: User) -> None:
    text = "x" * 200000
    done = large.cli("store", "snapshot", "there.db")
    lacks = "the copy lacks 1 large output (195K), of which it has head and tail: to have all, copy the directory "
    assert done.err == f"pilotmtc: warning: {lacks}{large.store}.d, too, as {large.here}/there.db.d\n"
    assert large.cli("--store", "there.db", "logs", "1").out == text  # the original is where it was
    shutil.copytree(f"{large.store}.d", large.here / "there.db.d")
    (file,) = Path(f"{large.store}.d").glob("pilots/*/outputs/*")
    file.unlink()
    assert large.cli("--store", "there.db", "logs", "1").out == text
    assert large.cli("--store", "there.db", "store", "check").out.endswith("there.db is sound\n")
    done = large.cli("store", "check", code=1)
    assert done.out == "1 large output of which the file is gone, so that only head and tail are left: of task 1\n"
    assert done.err == f"{large.store} itself is sound, but not all files of large outputs beside it are\n"
    done = large.cli("logs", "1")
    assert (done.out.count("x"), done.err.count(f"warning: {file}, which holds")) == (65536, 1)
    assert "lacks" in large.cli("--store", "there.db", "store", "snapshot", "third.db", "--json").record["lacks"]
    large.cli("run", "-q", "seq 20000; seq 20000 >&2")
    for file in Path(f"{large.store}.d").glob("pilots/*/outputs/*"):
        file.unlink()
    done = large.cli("store", "check", code=1)
    assert done.out.startswith("3 large outputs of which the files are gone, ")
    assert done.out.endswith(": of tasks 1, 2\n")


def test_store_of_before_has_absolute_paths_and_can_be_moved_all_the_same(large: User) -> None:
    large.wait_alone()
    with sqlite3.connect(large.store) as database:
        ((path,),) = database.execute("SELECT stdout_path FROM attempt").fetchall()
        assert path.startswith("pilots/")
        database.execute("UPDATE attempt SET stdout_path = ?", (f"{large.store}.d/{path}",))
    database.close()
    assert large.cli("logs", "1").out == "x" * 200000
    large.wait_alone()
    moved = large.here / "moved"
    moved.mkdir()
    for file in (large.store, large.store.with_name("store.db.d")):
        file.rename(moved / file.name)
    assert large.cli("--store", "moved/store.db", "logs", "1").out == "x" * 200000
    assert "sound" in large.cli("--store", "moved/store.db", "store", "check").out


def test_snapshot_is_a_store(past: User) -> None:
    assert past.cli("store", "snapshot", "copy.db").out == f"{past.here}/copy.db\n"
    assert (past.here / "copy.db").stat().st_mode & 0o777 == 0o600
    assert past.cli("--store", "copy.db", "tasks", "--json").out == past.cli("tasks", "--json").out
    # It is one that has been worked with, and may hold tasks of its own.
    assert "copy.db is a store that is or was in use" in past.cli("store", "snapshot", "copy.db", code=2).err
    past.cli("store", "snapshot", "other.db")
    past.cli("store", "snapshot", "other.db")  # replaces an older one
    past.file("thesis.txt", "years of work")
    assert "is no snapshot of a store" in past.cli("store", "snapshot", "thesis.txt", code=2).err


@pytest.fixture
def long_fields() -> Iterator[None]:
    """Let `csv` read longer fields than it does otherwise."""
    usual = csv.field_size_limit(1 << 20)
    yield
    csv.field_size_limit(usual)


@pytest.mark.usefixtures("long_fields")
def test_export_has_all_that_is_over(past: User) -> None:
    records = past.cli("store", "export").records
    assert [record["id"] for record in records] == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert (records[0]["stdout"], records[0]["stderr"]) == ("out 1\nmore\n", "err 1\n")
    assert len(records[8]["stdout"]) == 200_000
    table = list(csv.DictReader(io.StringIO(past.cli("store", "export", "--format", "csv").out)))
    assert [row["stdout"] for row in table[:2]] == ["out 1\nmore\n", "out 2\nmore\n"]
    assert past.cli("store", "export", "-c", "1", "--stdout", "none", "--stderr", "first").records[3]["stderr"] == "oh"


def test_export_to_a_file_is_whole_or_not_there(past: User) -> None:
    assert past.cli("store", "export", "-o", "all.csv") == ("", "", 0)
    assert (past.here / "all.csv").read_text().startswith("id,campaign,name,n,state,")
    past.cli("store", "export", "--output", "all.jsonl")
    assert len((past.here / "all.jsonl").read_text().splitlines()) == 9
    assert sorted(path.name for path in past.here.glob(".all*")) == []


def test_sqlite_utils_reads_it_while_it_is_in_use(past: User) -> None:
    program = shutil.which("sqlite-utils", path=os.path.dirname(sys.executable))
    assert program is not None
    query = "select state, count(*) as n from tasks where campaign_id = 1 group by state order by state"
    past.cli("pilot", "submit", "--cores", "1")
    done = subprocess.run(
        [program, "query", str(past.store), query], capture_output=True, text=True, timeout=30, check=True
    )
    assert {row["state"]: row["n"] for row in json.loads(done.stdout)} == {
        "DONE": 4, "FAILED": 4, "SKIPPED": 1, "READY": 1,
    }  # fmt: skip
    for view in ("tasks", "attempts", "results", "campaigns", "pilots"):
        done = subprocess.run(
            [program, "rows", str(past.store), view], capture_output=True, text=True, timeout=30, check=True
        )
        assert json.loads(done.stdout)


def test_full_disk_loses_nothing(user: User, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "2m") as disk:
        try:
            store = str(disk / "store.db")
            user.env["PILOTMTC_STORE"] = store
            user.cli("submit", "true")
            done = user.cli("--store", store, "submit", "true {}", ":::", *[f"{n:0200d}" for n in range(9000)], code=3)
            assert "full" in done.err
            assert user.cli("--store", store, "tasks", "-c", "1", "--json").record["state"] == "READY"
            # There is room again, and it works on.
            subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True, timeout=10)
            user.cli("--store", store, "cancel", "--campaign", "2")  # what the submission itself may have done by now
            states = user.cli("--store", store, "tasks", "-c", "2", "--json").records
            assert {task["state"] for task in states} == {"CANCELED"}
            assert user.cli("--store", store, "store", "check", "--json").record["ok"] is True
        finally:
            user.store = disk / "store.db"
            user.wait_alone()
            user.store = tmp_path / "store.db"


def test_read_only_disk_is_named(past: User, tmp_path: Path) -> None:
    past.wait_alone()
    with small_disk(tmp_path / "disk", "2m") as disk:
        shutil.copy(past.store, disk / "store.db")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True, timeout=10)
        for words in (["status"], ["submit", "true"]):
            done = past.cli("--store", str(disk / "store.db"), *words, code=2)
            assert "store.db" in done.err
            assert "read-only" in done.err.lower()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("pilotmtc ", {"run", "submit", "status", "store"}),
        ("pilotmtc sta", {"status"}),
        ("pilotmtc store ", {"check", "compact", "snapshot", "export", "path"}),
        ("pilotmtc run --time", {"--time-limit"}),
        ("pilotmtc tasks --state ", {"failed", "ready"}),
        ("pilotmtc pilot submit --si", {"--site"}),
    ],
)
def test_completion_in_a_real_bash(user: User, words: str, expected: set[str]) -> None:
    bash = shutil.which("bash")
    assert bash is not None
    (user.here / "bin").mkdir()
    program = user.here / "bin" / "pilotmtc"
    program.write_text(f'#!/bin/sh\nexec {" ".join(user.argv())} "$@"\n')
    program.chmod(0o755)
    script = f"""
        eval "$(pilotmtc completion bash)"
        COMP_WORDS=({words}{"''" if words.endswith(" ") else ""}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
        function=$(complete -p pilotmtc | sed 's/.*-F \\([^ ]*\\).*/\\1/')
        $function pilotmtc
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    env = user.env | {"PATH": f"{user.here}/bin:{os.environ['PATH']}"}
    done = subprocess.run(
        [bash, "-c", script], cwd=user.here, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert expected <= set(done.stdout.split()), done


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_is_read_by_its_shell(user: User, shell: str) -> None:
    script = user.cli("completion", shell).out
    assert "_PILOTMTC_COMPLETE" in script
    program = shutil.which(shell)
    if program is not None:
        subprocess.run([program, "-n"], input=script, text=True, timeout=30, check=True, capture_output=True)


def test_serve_is_not_for_people(user: User) -> None:
    assert "serve is for stores of this host" in user.cli("serve", "ssh://host/x.db", code=2).err
    # Without a client at the other end it ends by itself.
    assert user.cli("serve", stdin=b"").out.startswith("")
