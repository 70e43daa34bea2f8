"""What a command finds itself in: a locale that is not UTF-8, a directory behind a link, or one that is gone."""

import os
import subprocess
from pathlib import Path

import pytest

from pilotmtc.session import Session
from tests.lab.machine import ROOT, alone, install
from tests.user import User


@pytest.fixture(name="latin")
def _latin(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the variables of a Latin-1 locale, which is made for that."""
    directory = tmp_path_factory.mktemp("locales")
    name = "en_US.ISO-8859-1"
    if ROOT:
        with alone():
            install({"/usr/share/i18n/locales/en_US": "locales"})
    subprocess.run(["localedef", "-i", "en_US", "-f", "ISO-8859-1", str(directory / name)], check=False, timeout=60)
    if not (directory / name).exists():
        pytest.skip("needs the sources of locales (Debian: locales)")
    return {"LOCPATH": str(directory), "LC_ALL": name}


def test_values_reach_tasks_as_utf8_in_every_locale(user: User, latin: dict[str, str]) -> None:
    user.env |= latin
    place = user.here / "\u00fc"
    place.mkdir()
    file = user.file("\u65e5.txt", "\u65e5\n\u00fc\n")
    words = ["run", "-k", "--env", "V=\u00e9", "--cwd", "\u00fc", "--from", file.name, 'printf "%s " {} "$V"; pwd']
    done = user.cli("--store", "st\u00f6re.db", *words)
    assert done.out.splitlines() == [f"\u65e5 \u00e9 {place}", f"\u00fc \u00e9 {place}"]
    assert (user.here / "st\u00f6re.db").is_file()


def test_directory_has_the_name_that_the_shell_has_for_it(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    (user.here / "real").mkdir()
    link = user.here / "link"
    link.symlink_to("real")
    user.file("real/c.toml", '[[task]]\ncommand = "pwd"\n')
    user.here = link
    user.env["PWD"] = str(link)
    user.cli("submit", "pwd")
    user.cli("submit", "c.toml")
    user.cli("submit", "--cwd", "sub", "pwd")
    user.env["PWD"] = "/"  # somebody else's
    user.cli("submit", "pwd")
    user.env["PWD"] = str(link)
    monkeypatch.chdir(link)
    monkeypatch.setenv("PWD", str(link))
    with Session(user.store) as session:
        session.submit("pwd")
        details = [session.task(task.id).template for task in session.tasks()]
    assert [found.cwd if found else None for found in details] == [
        str(link), str(link), str(link / "sub"), os.path.realpath(link), str(link),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "words", [["submit", "true"], ["run", "true"], ["submit", "c.toml"], ["--store", "s.db", "status"]]
)
def test_directory_that_is_gone_is_named(user: User, words: list[str]) -> None:
    gone = user.here / "gone"
    gone.mkdir()
    script = 'rmdir ../gone; "$@"'
    done = subprocess.run(
        ["sh", "-c", script, "sh", *user.argv(*words)], cwd=gone, env=user.env | {"PWD": str(gone)},
        capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    if words != ["submit", "c.toml"]:
        assert done.stderr == "pilotmtc: error: the current directory has been removed: cd to one that exists\n"
    assert not Path(f"{user.store}").exists() or user.cli("tasks", "--json").out == ""
