"""Standard input: read where something has a place for its values, and left alone everywhere else."""

import os
import pty
import subprocess

import pytest

from tests.user import User


def bash(user: User, script: str, stdin: str | None = None) -> str:
    """Run `script`, in which ``$M`` is pilotmtc, in a bash that reads `stdin`; return what it printed."""
    done = subprocess.run(
        ["bash", "-c", script], cwd=user.here, env=user.env | {"M": " ".join(user.argv())}, input=stdin,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


@pytest.mark.parametrize("words", ["submit", "run"])
def test_list_of_a_loop_is_left_to_the_loop(user: User, words: str) -> None:
    bash(user, f'while read -r x; do $M {words} "echo got $x"; done', "a\nb\n")
    assert [row["command"] for row in user.cli("tasks", "--json").records] == ["echo got a", "echo got b"]


def test_rest_of_a_script_is_left_to_the_shell(user: User) -> None:
    script = f"{' '.join(user.argv())} submit true\necho the next line\n"
    assert bash(user, "bash", script) == "1\nthe next line\n"


def test_pipe_that_never_ends_is_not_waited_for(user: User) -> None:
    ours, theirs = os.pipe()  # the end that could write stays open
    try:
        process = user.start("submit", "true", stdin=ours)
        out, _ = process.communicate(timeout=60)
    finally:
        os.close(ours)
        os.close(theirs)
    assert (out, process.returncode) == (b"1\n", 0)


@pytest.mark.parametrize(
    ("words", "stdin", "expected"),
    [
        (["echo {}"], "1\n2\n", [{"1": "1"}, {"1": "2"}]),
        (["echo {1}"], "1\n", [{"1": "1"}]),
        (["echo \"{}\" '{}'"], "1\n", [{"1": "1"}]),
        (["./sim {mass}"], "1.5\n", [{"mass": "1.5"}]),
        (["--", "./sim", "--mass={mass}"], "1.5\n", [{"mass": "1.5"}]),
        (["--env", "X={}", "echo $X"], "1\n", [{"1": "1"}]),
        (["--stdout", "out-{}", "echo"], "1\n", [{"1": "1"}]),
        (["--tag", "t{}", "echo"], "1\n", [{"1": "1"}]),
        (["--from", "-", "echo"], "1\n", [{"1": "1"}]),
        (["echo {task_id} ${HOME} {{}}"], "1\n", [{}]),
        (["awk '{print $1}'"], "1\n", [{}]),
        (["echo {}", ":::", "a"], "1\n", [{"1": "a"}]),
        (["--grid", "x=1", "echo {x}"], "1\n", [{"x": "1"}]),
    ],
)
def test_lines_are_values_where_there_is_a_place_for_them(
    user: User, words: list[str], stdin: str, expected: list[dict[str, str]]
) -> None:
    user.cli("submit", *words, stdin=stdin.encode())
    assert [row["params"] for row in user.cli("tasks", "--json").records] == expected


def test_who_sits_at_a_terminal_is_told_how_values_are_taken(user: User) -> None:
    ours, theirs = pty.openpty()
    read, write = os.pipe()
    process = user.start("submit", "true", stdin=read, stderr=theirs)
    os.close(theirs)
    assert process.wait(60) == 0
    said = os.read(ours, 4096).decode()
    for fd in (ours, read, write):
        os.close(fd)
    assert process.stdout is not None
    process.stdout.close()
    assert "standard input is not read: to run a task for each of its lines, write {}" in said
