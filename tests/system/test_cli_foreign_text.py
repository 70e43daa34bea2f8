"""Words of others, such as names of files and tasks, move nothing on the terminal."""

import os
import re
import shlex
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.user import User

EVIL = "x\x1b]0;title\x07\x9b31m\u202edesrever\x1b[2J"
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


@pytest.mark.parametrize(
    "words",
    [
        ("store", "export", "-o", f"no/{EVIL}"),
        ("--store", f"{EVIL}://", "status"),
        ("run", "--from", EVIL, "true"),
        (EVIL,),
    ],
)
def test_error_shows_foreign_text_as_text(words: tuple[str, ...], tmp_path: Path) -> None:
    user = User(tmp_path)
    user.cli("submit", "true")
    said = user.cli(*words, code=2).err
    assert not OBEYED.search(said), repr(said)
    assert "title" in said


@pytest.mark.parametrize(
    "words", [("status",), ("tasks",), ("task", "1"), ("explain", "1"), ("results", "1"), ("top", "--once")]
)
def test_names_of_tasks_and_campaigns_are_shown_as_text(words: tuple[str, ...], tmp_path: Path) -> None:
    user = User(tmp_path)
    user.cli("submit", "--name", EVIL, f"echo {EVIL!r}")
    done = user.cli(*words)
    assert not OBEYED.search(done.out + done.err), repr(done)


def test_error_that_lists_names_shows_them_as_text_on_one_line(tmp_path: Path) -> None:
    user = User(tmp_path)
    user.cli("submit", "--name", "x\x1b[31mred\ny", "true")
    said = user.cli("hold", "nosuch", code=2).err
    assert not OBEYED.search(said.rstrip("\n")), repr(said)
    assert said.endswith(r"there are 'x\x1b[31mred\ny'" + "\n")


def test_what_another_host_says_before_its_hello_is_shown_as_text(tmp_path: Path) -> None:
    user = User(tmp_path)
    user.cli("submit", "true")
    ssh = tmp_path / "ssh"
    said = shlex.quote(f"pilotmtc: waiting: {EVIL}")
    ssh.write_text(f"#!/bin/sh\nprintf '%s\\n' {said}\nfor last; do :; done\nexec sh -c \"$last\"\n")
    ssh.chmod(0o755)
    command = shlex.join([sys.executable, "-m", "pilotmtc"])
    url = f"ssh://elsewhere{user.store}?transport=openssh&command={quote(command)}"
    done = user.cli("--store", url, "status", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert not OBEYED.search(done.err), repr(done.err)
    assert done.err.startswith("pilotmtc: warning: waiting: x\\x1b]0;title")
