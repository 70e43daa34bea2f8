"""Streams that are closed, full, or have lost their reader: how a command then ends."""

import subprocess

import pytest

from tests.user import User


def shell(user: User, script: str) -> tuple[int, str, str]:
    """Run `script`, in which ``$M`` is pilotmtc, in a bash; return its code and what it wrote."""
    done = subprocess.run(
        ["bash", "-c", script], cwd=user.here, env=user.env | {"M": " ".join(user.argv())}, capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("words", ["tasks", "submit 'echo 1'", "run 'echo 1' ::: 1 2 3", "--help", "--version"])
def test_closed_stdout_is_said_before_anything_is_done(user: User, words: str) -> None:
    assert shell(user, f"$M {words} >&-") == (
        3, "", "pilotmtc: error: cannot write the output: standard output is closed\n",
    )  # fmt: skip
    assert not user.store.exists()


def test_with_all_streams_closed_nothing_is_done(user: User) -> None:
    assert shell(user, "$M submit 'echo 1' <&- >&- 2>&-") == (3, "", "")
    assert not user.store.exists()


def test_closed_stdin_is_an_empty_one(user: User) -> None:
    assert shell(user, "$M run 'cat; echo 1' <&- 2>/dev/null") == (0, "1\n", "")


@pytest.mark.parametrize("words", ["--help", "tasks --help", "tasks -n 0", "tasks -n 0 --json", "results --csv"])
def test_reader_that_has_gone_is_code_141(user: User, words: str) -> None:
    user.cli("run", "-q", "true {}", ":::", "1", "2", "3")
    assert shell(user, f"$M {words} | true; echo ${{PIPESTATUS[0]}}") == (0, "141\n", "")


def test_reader_that_goes_after_many_rows_is_code_141(user: User) -> None:
    user.cli("submit", "true {}", stdin=b"".join(b"%d\n" % n for n in range(3000)))
    for words in ("tasks -n 0", "tasks -n 0 --json"):
        assert shell(user, f"$M {words} | head -1 >/dev/null; echo ${{PIPESTATUS[0]}}") == (0, "141\n", "")


@pytest.mark.parametrize("stderr", ["2>&-", "2>/dev/full"])
def test_talk_that_cannot_be_written_changes_nothing(user: User, stderr: str) -> None:
    assert shell(user, f"$M run 'echo {{}}' ::: 1 {stderr}") == (0, "1\n", "")
    assert shell(user, f"$M run 'exit 3' {stderr}")[0] == 1
    assert shell(user, f"$M task 99 {stderr}")[0] == 2
    assert shell(user, f"$M tasks --state waiting {stderr}")[0] == 0


def test_stderr_of_a_task_that_cannot_be_written_is_an_error(user: User) -> None:
    user.cli("run", "-q", "echo oh >&2")
    assert shell(user, "$M logs 1 2>/dev/full")[0] == 3
