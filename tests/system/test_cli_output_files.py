"""Files that tasks write their outputs to: each is one task's own, and none is read for ever."""

import os
import subprocess
import sys

from tests.support import patience_s
from tests.user import User

ONE_FILE = '[[task]]\ncommand = "echo a"\nstdout = "x.txt"\n[[task]]\ncommand = "echo b"\nstderr = "./x.txt"\n'
SHARED: list[tuple[list[str], str]] = [
    (["--stdout", "x.txt", "echo {}", ":::", "1", "2"], "2 tasks would write to 'x.txt': put a placeholder"),
    (["--stderr", "x-{attempt}.txt", "echo {}", ":::", "1", "2"], "2 tasks would write to 'x-{attempt}.txt'"),
    (["--stdout", "{1}.txt", "echo {}", ":::", "1", "1"], "task 2 would write to "),
    (["--stdout", "{a}.txt", "--grid", "a=1,2", "--grid", "b=1,2", "echo {a} {b}"], "task 2 would write to "),
    (["--stdout", "{1}", "--stderr", "{2}", "echo", "{}", ":::", "a", ":::", "b", "a"], "task 2 would write to "),
    (["one.toml"], "task 2 would write to "),
    (["many.toml"], "many.toml:3: [[task]] number 1: 3 tasks would write to 'x.txt'"),
    (["--stdout", "/dev/stdout", "echo"], "stdout is /dev/stdout, which is the pilot's own"),
    (["--stderr", "/proc/self/fd/1", "echo"], "stderr is /proc/self/fd/1, which is the pilot's own"),
    (
        ["--stdin", "/dev/stdin", "cat"],
        "a task reads a file; lines of this standard input become values with {}, or with --from -",
    ),
]


def test_file_of_several_tasks_is_an_error(user: User) -> None:
    user.file("one.toml", ONE_FILE)
    user.file("many.toml", '[[task]]\ncommand = "echo {n}"\nstdout = "x.txt"\ngrid = { n = "1..3" }\n')
    user.store.touch()
    for words, answer in SHARED:
        assert answer in user.cli("submit", *words, code=2).err
        assert user.cli("tasks", "--state", "ready", "--json").out == ""


def test_files_of_their_own_a_shared_device_and_a_file_to_append_to(user: User) -> None:
    user.cli("run", "-q", "--stdout", "own-{}.txt", "--stderr", "own-{}.txt", "echo {}", ":::", "1", "2")
    assert (user.here / "own-2.txt").read_text() == "2\n"
    user.cli("run", "-q", "--stdout", "n-{task_id}", "--stderr", "/dev/null", "echo {}; echo x >&2", ":::", "1", "1")
    user.file("log", "before\n")
    user.cli("run", "-q", "-j", "1", "--append", "--stdout", "log", "echo {}", ":::", "5", "6")
    assert (user.here / "log").read_text() == "before\n5\n6\n"
    assert user.cli("logs", "5") == ("", f"the stdout of task 5 went to {user.here}/log\n", 0)
    assert user.cli("logs", "2").out == "2\n"
    assert user.cli("task", "5", "--json").record["append"] is True


def test_no_log_is_read_for_ever(user: User) -> None:
    """A task's file may be what the reader writes to, or something that has no end."""
    user.cli("run", "-q", "--stdout", "out", "echo hi")
    with (user.here / "out").open("ab") as file:
        process = user.start("logs", "1", stdout=file)
        assert process.communicate(timeout=60)[1] == b""
    assert (user.here / "out").read_text() == "hi\nhi\n"
    (user.here / "out").unlink()
    os.mkfifo(user.here / "out")
    assert user.cli("logs", "1") == ("", "", 0)
    (user.here / "out").unlink()
    (user.here / "out").symlink_to("/dev/zero")
    assert user.cli("logs", "1") == ("", "", 0)
    assert user.cli("results", "--stdout", "whole", "--json").record["stdout"] == ""


# The peak of its memory since it began, in KiB; that of wait4 may be the parent's.
_MEASURED = """
import atexit, runpy, sys
def say_peak():
    with open("/proc/self/status") as file:
        sys.stderr.write(file.read().split("VmHWM:")[1].split()[0])
atexit.register(say_peak)
runpy.run_module("pilotmtc", run_name="__main__", alter_sys=True)
"""


def test_large_output_is_printed_in_pieces(user: User) -> None:
    user.cli("run", "-q", "head -c {} /dev/zero | tr '\\0' x; test {} != 1000", ":::", "1000", "50000000", code=1)

    def peak_mib(state: str, size: int) -> float:
        words = ["results", "--state", state, "--json", "--stdout", "whole"]
        with (user.here / "printed").open("wb") as file:
            done = subprocess.run(
                [sys.executable, "-c", _MEASURED, *words], stdout=file, stderr=subprocess.PIPE, cwd=user.here,
                env=user.env, timeout=patience_s(60.0), check=True,
            )  # fmt: skip
        assert (user.here / "printed").stat().st_size > size
        return int(done.stderr) / 1024

    assert peak_mib("done", 50_000_000) < peak_mib("failed", 1000) + 40
