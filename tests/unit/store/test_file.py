"""The store's file: what may be wrong with it, and what is said then; transactions; upkeep; views."""

import resource
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import cast

import pytest
from sqlite_utils import Database

from pilotmtc.errors import ConfigError, InvalidTransition, SchemaMismatch, StoreBusy, StoreError, UsageError
from pilotmtc.model import Resources, TaskId
from pilotmtc.protocol.agent import Finish, Release
from pilotmtc.protocol.base import Done, Request
from pilotmtc.protocol.client.campaigns import GetCampaigns, Submit, Submitted
from pilotmtc.protocol.client.maintenance import CheckStore, CompactStore, GetStore, SnapshotStore
from pilotmtc.protocol.client.tasks import GetTask
from pilotmtc.states import TaskState
from pilotmtc.store.file.opening import APPLICATION_ID, SCHEMA
from pilotmtc.store.file.schema.migrations import migrate
from pilotmtc.store.file.schema.steps import lay_down
from pilotmtc.store.file.transaction import Transaction
from pilotmtc.store.requests.handlers import HANDLERS
from pilotmtc.store.sqlite import SqliteStore
from tests.contract.storekit import ECHO, Kit, result, row


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    opened = SqliteStore(tmp_path / "store.db")
    yield opened
    opened.close()


def chunk(key: str, n: int = 1) -> Submit:
    return Submit(key, 0, "c", (ECHO,), (Resources(),), tuple(row("x" * 100) for _ in range(n)), True)


def test_a_new_store_is_private_and_its_directories_are_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "store.db"
    SqliteStore(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    SqliteStore(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_an_empty_file_becomes_a_store(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.touch()
    SqliteStore(path).close()


def test_what_was_submitted_is_there_after_reopening(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = SqliteStore(path)
    store.call(chunk("k", 3))
    store.close()
    store = SqliteStore(path)
    assert store.call(chunk("k", 3)).received == 3
    assert store.call(chunk("other")).received == 1
    store.close()


def test_files_that_are_no_stores_are_named_as_what_they_are(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("a shopping list that is longer than the magic of SQLite")
    with pytest.raises(SchemaMismatch, match="not even SQLite"):
        SqliteStore(text)
    foreign = tmp_path / "foreign.db"
    with closing(sqlite3.connect(foreign)) as connection:
        connection.execute("CREATE TABLE t(x)")
    with pytest.raises(SchemaMismatch, match="another program"):
        SqliteStore(foreign)
    assert "shopping" in text.read_text()


def test_a_newer_store_asks_for_an_upgrade(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    SqliteStore(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(SchemaMismatch, match=r"newer pilotmtc .schema 99"):
        SqliteStore(path)


def test_views_of_another_version_are_made_anew_and_a_users_own_stay(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    SqliteStore(path).close()
    with closing(sqlite3.connect(path)) as connection:
        before = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'view' ORDER BY 1").fetchall()
        connection.execute("DROP VIEW tasks")
        connection.execute("CREATE VIEW tasks AS SELECT id FROM task")
        connection.execute("DROP VIEW results")
        connection.execute("CREATE VIEW zz_mine AS SELECT id FROM task")
        connection.commit()
    SqliteStore(path).close()
    with closing(sqlite3.connect(path)) as connection:
        after = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'view' ORDER BY 1").fetchall()
    assert after == [*before, ("zz_mine", "CREATE VIEW zz_mine AS SELECT id FROM task")]


@pytest.mark.parametrize("cut", [50, 100, 5000])
def test_a_damaged_store_says_so(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "store.db"
    SqliteStore(path).close()
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(SchemaMismatch, match=r"damaged|not a pilotmtc store"):
        SqliteStore(path).call(GetCampaigns())


def test_places_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a directory"):
        SqliteStore(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="not a directory"):
        SqliteStore(tmp_path / "file" / "store.db")
    with pytest.raises(ConfigError, match=r"cannot be opened|cannot be made"):
        SqliteStore("/proc/nowhere/store.db")


def test_a_start_that_was_cut_off_is_taken_up_again(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = SqliteStore(path)
    store.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA application_id = 0")
        connection.execute("PRAGMA user_version = 0")
    store = SqliteStore(path)
    assert store.call(GetStore()).schema == SCHEMA
    store.close()


# -- transactions -----------------------------------------------------------------------------------------------


def test_a_failing_request_hurts_no_other_of_its_transaction(store: SqliteStore) -> None:
    answers = store.call_many([chunk("a"), Submit("b", 7), chunk("c"), Finish(99, ()), GetCampaigns()])  # type: ignore[arg-type]
    assert [type(answer).__name__ for answer in answers] == [
        "Submitted", "UsageError", "Submitted", "Finished", "Campaigns"
    ]  # fmt: skip
    keys = [campaign.key for campaign in store.call(GetCampaigns()).campaigns]
    assert keys == ["c", "a"]
    assert store.call(CheckStore()).problems == ()


@pytest.mark.parametrize("alone", [True, False])
def test_an_illegal_transition_undoes_its_request(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch, alone: bool
) -> None:
    def resurrect(tx: Transaction, request: Release) -> Done:
        tx.execute("UPDATE task SET state = 1")
        tx.move_task(1, 1, 1, TaskState.DONE, TaskState.CLAIMED)
        return Done()

    kit = Kit(store)
    kit.submit(row(1))
    pilot = kit.pilot()
    kit.finish(pilot, *kit.claim(pilot))
    monkeypatch.setitem(cast("dict[object, object]", HANDLERS), Release, resurrect)
    answers = store.call_many([Release(pilot, ())] if alone else [Release(pilot, ()), chunk("more")])
    assert isinstance(answers[0], InvalidTransition)
    assert kit.state(1) is TaskState.DONE
    assert store.call(CheckStore()).problems == ()


def test_a_full_disk_is_said_and_survived(store: SqliteStore) -> None:
    store.call(chunk("a"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        answers = store.call_many([chunk("b"), chunk("big", 50_000), GetCampaigns()])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [isinstance(answer, StoreError) for answer in answers] == [True, True, False]
    assert "nothing was changed" in str(answers[0])
    assert len(store.call(GetCampaigns()).campaigns) == 1
    assert store.call(chunk("big", 100)).received == 100
    assert store.call(CheckStore()).problems == ()


def test_a_full_database_is_said_and_survived(store: SqliteStore) -> None:
    connection = store._connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(StoreError, match="no space left"):
        store.call(chunk("big", 5000))
    connection.execute("PRAGMA max_page_count = 1000000")
    assert store.call(chunk("big", 5000)).received == 5000
    assert store.call(CheckStore()).problems == ()


def test_a_foreign_writer_makes_the_store_busy_not_broken(store: SqliteStore) -> None:
    store._connection.execute("PRAGMA busy_timeout = 1")
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusy, match="another program"):
            store.call(chunk("a"))
        other.execute("ROLLBACK")
    assert isinstance(store.call(chunk("a")), Submitted)


def test_submit_is_synced_to_disk_and_results_are_not(store: SqliteStore) -> None:
    statements: list[str] = []
    store._connection.set_trace_callback(statements.append)
    kit = Kit(store)
    store.call(chunk("a"))
    assert store._connection.execute("PRAGMA synchronous").fetchone() == (2,)
    pilot = kit.pilot()
    kit.finish(pilot, *kit.claim(pilot))
    assert store._connection.execute("PRAGMA synchronous").fetchone() == (1,)


def test_an_unknown_request_is_refused(store: SqliteStore) -> None:
    class Odd(Request[Submitted], frozen=True, tag="odd"):
        pass

    with pytest.raises(UsageError, match="Odd"):
        store.call(Odd())


# -- upkeep -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("UPDATE tally SET n = n + 1 WHERE state = 4", "counts"),
        ("UPDATE task SET state = 1 WHERE id = 1", "another attempt after"),
        ("UPDATE task SET state = 4 WHERE id = 2", "without a recorded attempt"),
        ("UPDATE task SET state = 3, pilot_id = NULL WHERE id = 2", "without a pilot"),
        ("UPDATE task SET unmet = 5 WHERE id = 3", "unmet dependencies"),
        ("UPDATE task SET state = 9 WHERE id = 2", "does not exist"),
        ("UPDATE task SET cancel = 1 WHERE id = 2", "no pilot holds"),
        ("UPDATE task SET not_before = 1 WHERE id = 1", "could not run otherwise"),
        ("UPDATE task SET template_id = 77 WHERE id = 2", "refer to a template"),
        ("UPDATE task SET params = '[]' WHERE id = 2", "as many as"),
        ("DELETE FROM task WHERE id = 2", "has 3 tasks, but has 2|says that it has"),
        ("DELETE FROM attempt", "without an attempt|without a recorded"),
        ("INSERT INTO attempt SELECT id + 1, cause, 1, signal, pilot_id, node, slot, started_at, elapsed_s, cpu_s,"
         "memory_bytes, stdout_bytes, stderr_bytes, stdout_path, stderr_path, message, recorded_at, version_id "
         "FROM attempt",
         "never made"),
    ],
)  # fmt: skip
def test_check_finds_what_was_planted(store: SqliteStore, damage: str, words: str) -> None:
    from pilotmtc.model import After

    kit = Kit(store)
    kit.submit(row(1), row(2, name="two"), row(3, after=[After("two")]))
    pilot = kit.pilot()
    (task,) = kit.claim(pilot, 1)
    store.call(Finish(pilot, (result(task, out=b"x"),)))
    assert store.call(CheckStore()).problems == ()
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute(damage)
    import re

    assert re.search(words, "\n".join(store.call(CheckStore()).problems))


def test_a_snapshot_is_a_private_store_of_one_file(store: SqliteStore, tmp_path: Path) -> None:
    store.call(chunk("a", 10))
    target = tmp_path / "copy.db"
    store.call(SnapshotStore(str(target)))
    store.call(SnapshotStore(str(target)))
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    copy = SqliteStore(target)
    assert copy.call(GetCampaigns()).campaigns[0].received == 10
    copy.close()
    assert [path.name for path in tmp_path.iterdir() if "copy" in path.name] == ["copy.db"]


def test_a_snapshot_overwrites_nothing_else(store: SqliteStore, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work, of which there is one copy only, as is usual in this trade")
    for target, words in (
        (tmp_path / "thesis.tex", "no snapshot"),
        (store.path, "the store itself"),
        (tmp_path, "direc"),
    ):
        with pytest.raises(UsageError, match=words):
            store.call(SnapshotStore(str(target)))
    with pytest.raises(ConfigError, match="cannot be written"):
        store.call(SnapshotStore(str(tmp_path / "nowhere" / "copy.db")))


def test_compacting_gives_space_back(store: SqliteStore) -> None:
    store.call(chunk("a", 20_000))
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("DELETE FROM task WHERE id > 100")
    sizes = store.call(CompactStore())
    assert sizes.after < sizes.before / 2


# -- views ------------------------------------------------------------------------------------------------------


def test_views_say_states_and_causes_in_words(store: SqliteStore) -> None:
    kit = Kit(store)
    kit.submit(row("a'b", name="one"), row(2))
    pilot = kit.pilot()
    (task,) = kit.claim(pilot, 1)
    store.call(Finish(pilot, (result(task, code=3, out=b"hi\n"),)))
    other = Database(sqlite3.connect(f"file:{store.path}?mode=ro", uri=True))
    try:
        tasks = list(other.query("SELECT id, name, state, command, params, cores FROM tasks ORDER BY id"))
        assert tasks[0] == {
            "id": 1, "name": "one", "state": "FAILED", "command": '["echo","{x}"]', "params": '{"x":"a\'b"}', "cores": 1
        }  # fmt: skip
        assert tasks[1]["state"] == "READY"
        (attempt,) = other.query("SELECT * FROM attempts")
        assert (attempt["task_id"], attempt["attempt"], attempt["cause"], attempt["exit_code"]) == (1, 1, "EXIT", 3)
        (found,) = other.query("SELECT * FROM results")
        assert (found["stdout"], found["state"], found["recorded_at"][-1]) == ("hi\n", "FAILED", "Z")
        (campaign,) = other.query("SELECT tasks, failed, ready, done FROM campaigns")
        assert campaign == {"tasks": 2, "failed": 1, "ready": 1, "done": 0}
        assert [row_["state"] for row_ in other.query("SELECT state FROM pilots")] == ["ACTIVE"]
    finally:
        other.conn.close()


def test_a_task_of_a_large_id_keeps_its_attempts_apart(store: SqliteStore) -> None:
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("PRAGMA ignore_check_constraints = 1")
    store._tx.caches.next_task = 1 << 40
    kit = Kit(store)
    kit.submit(row(1), row(2))
    pilot = kit.pilot()
    kit.finish(pilot, *kit.claim(pilot))
    assert [a.attempt for a in store.call(GetTask(TaskId((1 << 40) + 1))).attempts] == [1]
    assert store.call(CheckStore()).problems == ()


@contextmanager
def worn(store: SqliteStore, attempt: int) -> Iterator[None]:
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("UPDATE task SET attempt = ?", (attempt,))
    yield


def test_attempt_numbers_never_run_into_the_next_task(store: SqliteStore) -> None:
    kit = Kit(store)
    kit.submit(row(1))
    pilot = kit.pilot()
    with worn(store, (1 << 20) - 2):
        (task,) = kit.claim(pilot)
    kit.release(pilot, task)
    assert kit.state(1) is TaskState.FAILED
    assert store.call(CheckStore()).problems == ()


def test_damage_that_sqlite_cannot_name_in_utf_8_is_said_to_be_damage(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    SqliteStore(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(
            "UPDATE sqlite_master SET name = CAST(x'ff61' AS TEXT), sql = 'CREATE nonsense' WHERE name = 'task'"
        )
        connection.commit()
    with pytest.raises(SchemaMismatch, match=r"store\.db is damaged .*restore it from a snapshot"):
        SqliteStore(path)


def test_text_that_is_not_utf_8_is_damage_and_does_not_keep_others_from_being_read(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "store.db")
    store.call(chunk("k", 2))
    with closing(sqlite3.connect(tmp_path / "store.db")) as connection:
        connection.execute("UPDATE task SET name = CAST(x'ff' AS TEXT) WHERE id = 1")
        connection.commit()
    with pytest.raises(SchemaMismatch, match="is damaged"):
        store.call(GetTask(TaskId(1)))
    assert store.call(GetTask(TaskId(2))).task is not None
    assert store.call(CheckStore()).problems == ()
    store.close()


def test_new_file_is_what_all_steps_together_make(tmp_path: Path) -> None:
    def contents(connection: sqlite3.Connection) -> list[tuple[object, ...]]:
        rows = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name").fetchall()
        taken = connection.execute("SELECT id, migration_set, name FROM _sqlite_migrations ORDER BY id").fetchall()
        marks = [connection.execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version")]
        return [*rows, *taken, *marks]

    made = sqlite3.connect(tmp_path / "made.db", isolation_level=None)
    lay_down(made, APPLICATION_ID, SCHEMA)
    migrated = sqlite3.connect(tmp_path / "migrated.db", isolation_level=None)
    migrate(migrated, APPLICATION_ID, SCHEMA)
    assert contents(made) == contents(migrated)
    made.close()
    migrated.close()
