"""Outputs go to regular files that are not the store's own."""

import os
from pathlib import Path

import pytest

from tests.user import User

OWN = ("", "-wal", "-shm", ".lock", ".d/x", "-journal")


@pytest.fixture
def user(tmp_path: Path) -> User:
    found = User(tmp_path)
    found.cli("submit", "true")
    return found


@pytest.mark.parametrize("suffix", OWN)
@pytest.mark.parametrize("words", [("snapshot",), ("export", "-o")])
def test_outputs_never_replace_the_stores_own_files(words: tuple[str, ...], suffix: str, user: User) -> None:
    store = str(user.store)
    before = os.stat(store).st_ino
    user.cli("store", *words, store + suffix, code=2)
    assert os.stat(store).st_ino == before
    user.cli("store", "check")


@pytest.mark.parametrize("words", [("snapshot",), ("export", "-o")])
def test_store_is_known_by_another_name(words: tuple[str, ...], user: User) -> None:
    other = user.here / "other"
    other.symlink_to(user.store)
    user.cli("store", *words, str(other), code=2)
    other.unlink()
    os.link(user.store, other)
    user.cli("store", *words, str(other), code=2)


@pytest.mark.parametrize("words", [("snapshot",), ("export", "-o")])
def test_pipe_is_refused_and_holds_nobody_up(words: tuple[str, ...], user: User) -> None:
    os.mkfifo(user.here / "pipe")
    assert "not a regular file" in user.cli("store", *words, "pipe", code=2).err
    user.cli("store", "key", "list")


def test_export_follows_a_link_of_the_users(user: User) -> None:
    (user.here / "results").write_text("old")
    (user.here / "link").symlink_to("results")
    user.cli("store", "export", "-o", "link")
    assert (user.here / "link").is_symlink()
    assert (user.here / "results").read_text() != "old"
