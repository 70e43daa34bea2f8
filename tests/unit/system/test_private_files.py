"""Files and directories where others may write."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilotmtc.errors import ConfigError
from pilotmtc.protocol.spool import read_file
from pilotmtc.store.access.keys import new_key
from pilotmtc.store.server.listener import ServerLock
from pilotmtc.store.sqlite import SqliteStore
from pilotmtc.system import private_files

STRANGER = 54321
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture(params=[0o000, 0o002, 0o022, 0o077], autouse=True)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_all_directories_that_are_made_are_private(tmp_path: Path) -> None:
    private_files.make_directory(tmp_path / "a" / "b" / "c")
    assert [mode(tmp_path / name) for name in ("a", "a/b", "a/b/c")] == [0o700] * 3
    SqliteStore(tmp_path / "p" / "q" / "store.db").close()
    assert [mode(tmp_path / name) for name in ("p", "p/q", "p/q/store.db")] == [0o700, 0o700, 0o600]


def test_directory_of_ours_that_was_open_is_closed(tmp_path: Path, surroundings: Path) -> None:
    (tmp_path / "store.db.d").mkdir()
    (tmp_path / "store.db.d").chmod(0o777)
    new_key(tmp_path / "store.db", "a")
    assert [mode(tmp_path / name) for name in ("store.db.d", "store.db.d/keys")] == [0o700, 0o700]


@needs_root
@pytest.mark.parametrize("name", ["store.db", "store.db-wal", "store.db-shm", "store.db-journal"])
def test_store_with_a_file_of_another_user_is_refused(name: str, tmp_path: Path) -> None:
    SqliteStore(tmp_path / "store.db").close()
    (tmp_path / name).touch()
    os.chown(tmp_path / name, STRANGER, STRANGER)
    with pytest.raises(ConfigError, match=rf"{name} belongs to another user"):
        SqliteStore(tmp_path / "store.db")


@needs_root
@pytest.mark.parametrize("name", ["store.db.d", "store.db.d/keys"])
def test_directory_of_another_user_is_refused(name: str, tmp_path: Path, surroundings: Path) -> None:
    (tmp_path / name).mkdir(parents=True)
    os.chown(tmp_path / name, STRANGER, STRANGER)
    with pytest.raises(ConfigError, match="another user"):
        new_key(tmp_path / "store.db", "a")


@pytest.mark.parametrize("name", ["store.db-wal", "store.db-journal"])
def test_link_beside_the_store_is_refused(name: str, tmp_path: Path) -> None:
    SqliteStore(tmp_path / "store.db").close()
    (tmp_path / name).symlink_to("precious")
    with pytest.raises(ConfigError, match="symbolic link"):
        SqliteStore(tmp_path / "store.db")


def test_lock_that_is_a_link_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "store.db.lock").symlink_to("precious")
    with pytest.raises(ConfigError, match="symbolic link"):
        ServerLock(str(tmp_path / "store.db"))
    assert (tmp_path / "precious").read_text() == "precious"


def test_pipe_in_the_place_of_a_file_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "store.db.lock")
    with pytest.raises(ConfigError, match="not a regular file"):
        ServerLock(str(tmp_path / "store.db"))


@needs_root
def test_results_of_another_user_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "spool.1").write_bytes(b"")
    os.chown(tmp_path / "spool.1", STRANGER, STRANGER)
    with pytest.raises(ConfigError, match="another user"):
        list(read_file(tmp_path / "spool.1"))
