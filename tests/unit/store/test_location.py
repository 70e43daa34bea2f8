"""Where the store is, and where its server's socket may be."""

import os
from pathlib import Path

import pytest

from pilotmtc.errors import ConfigError
from pilotmtc.store.location import locate, runtime_dir, socket_path


@pytest.fixture(autouse=True)
def _environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    for name in ("PILOTMTC_STORE", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def test_word_comes_before_variable_before_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert locate().path == f"{tmp_path}/.local/share/pilotmtc/store.db"
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert locate().path == "/data/pilotmtc/store.db"
    monkeypatch.setenv("PILOTMTC_STORE", "/variable.db")
    assert locate().path == "/variable.db"
    assert locate("/word.db").path == "/word.db"


@pytest.mark.parametrize(
    ("word", "place"),
    [("~/a.db", "a.db"), ("b.db", "b.db"), ("x/../c.db", "c.db"), ("file:///tmp/d.db", "/tmp/d.db")],
)
def test_path_is_absolute_and_means_the_same_anywhere(word: str, place: str, tmp_path: Path) -> None:
    location = locate(word)
    assert location.path == os.path.join(tmp_path, place)
    assert locate(location.url) == location


def test_directory_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"is a directory.*{tmp_path}/store\.db"):
        locate(str(tmp_path))


@pytest.mark.parametrize("url", ["sftp://host/x.db", "http://x"])
def test_other_schemes_are_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="not supported by this version"):
        locate(url)


def test_store_on_another_host_means_the_same_anywhere(tmp_path: Path) -> None:
    location = locate("ssh://me@Login/~/runs/a%20b.db?config=cfg&command=bin/pilotmtc")
    assert location.path == "~/runs/a b.db"
    assert location.target is not None
    assert (location.target.host, location.target.config) == ("Login", f"{tmp_path}/cfg")
    assert locate(location.url) == location
    assert location.directory.startswith(f"{tmp_path}/.local/share/pilotmtc/remote/Login-")


def test_command_there_may_stand_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILOTMTC_REMOTE_COMMAND", "/opt/pilotmtc")
    # An agent starts without these variables, so the URL that it gets has to say it.
    assert locate("ssh://h/x.db").url == "ssh://h/x.db?command=/opt/pilotmtc"
    assert locate("ssh://h/x.db?command=own").url == "ssh://h/x.db?command=own"


def test_unknown_home_is_refused() -> None:
    with pytest.raises(ConfigError, match="nobody-of-that-name"):
        locate("~nobody-of-that-name/x.db")


def test_runtime_directory_is_made_private(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        assert runtime_dir() == f"{tmp_path}/pilotmtc"
    finally:
        os.umask(old)
    assert os.stat(runtime_dir()).st_mode & 0o777 == 0o700


def test_runtime_directory_that_is_open_to_others_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pilotmtc").mkdir()
    (tmp_path / "pilotmtc").chmod(0o755)
    with pytest.raises(ConfigError, match="yours alone"):
        runtime_dir()


def test_runtime_directory_behind_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "pilotmtc").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="yours alone"):
        runtime_dir()


@pytest.mark.parametrize("value", ["", "relative", "/nowhere/at/all"])
def test_unusable_runtime_variable_falls_back_to_tmp(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", value)
    assert runtime_dir() == f"/tmp/pilotmtc-{os.geteuid()}"


def test_two_names_of_one_store_share_its_server(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert socket_path(str(tmp_path / "link" / "s.db")) == socket_path(str(tmp_path / "real" / "s.db"))
    assert socket_path(str(tmp_path / "real" / "t.db")) != socket_path(str(tmp_path / "real" / "s.db"))
