"""On a real terminal: the bar, Ctrl-C once, twice and thrice, and what is said about going on."""

import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator

import pytest

from tests.support import patience_s, wait_until
from tests.user import User

_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

_HEARING_HANGUPS = ("env", "--default-signal=HUP")  # the tests themselves may run under nohup


class Terminal:
    """A terminal on which one command runs; what is typed reaches it as from a keyboard."""

    def __init__(self, user: User, *words: str, columns: int = 90, into: int | None = None, **env: str) -> None:
        self.master, slave = os.openpty()
        self.name = os.ttyname(slave)
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        environment = {name: value for name, value in user.env.items() if name != "COLUMNS"}
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *_HEARING_HANGUPS, *user.argv(*words)],
            cwd=user.here, env=environment | {"TERM": "xterm"} | env, stdin=slave,
            stdout=slave if into is None else into, stderr=slave, start_new_session=False,
        )  # fmt: skip
        os.close(slave)
        self.raw = ""

    @property
    def text(self) -> str:
        """What has been written so far, without colours and the moving of the cursor."""
        return _ESCAPE.sub("", self.raw).replace("\r\n", "\n")

    def read(self, wait_s: float) -> bool:
        """Take in what comes within `wait_s`; return False at the end."""
        if select.select([self.master], [], [], wait_s)[0]:
            try:
                data = os.read(self.master, 65536)
            except OSError:  # the other side is gone
                return False
            self.raw += data.decode()
            return bool(data)
        return True

    def expect(self, words: str, timeout_s: float = 30.0) -> None:
        """Wait until `words` have been written."""
        until = time.monotonic() + patience_s(timeout_s)
        while words not in self.text:
            assert time.monotonic() < until, f"no {words!r} in:\n{self.text}"
            if not self.read(0.1):
                assert words in self.text, f"no {words!r} in:\n{self.text}"

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def is_read(self) -> bool:
        """Return whether all lines that were typed, and that the terminal has shown, have been read."""
        slave = os.open(self.name, os.O_RDWR | os.O_NOCTTY)
        try:
            return fcntl.ioctl(slave, termios.FIONREAD, bytes(4)) == bytes(4)
        finally:
            os.close(slave)

    def end(self, timeout_s: float = 30.0) -> int:
        """Wait for the end, and return the exit code."""
        until = time.monotonic() + patience_s(timeout_s)
        while self.read(0.1):
            assert time.monotonic() < until, f"it does not end:\n{self.text}"
        return self.process.wait(timeout_s)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    made: list[Terminal] = []
    yield made
    for terminal in made:
        terminal.close()


def test_bar_shows_how_far_it_is(user: User, terminals: list[Terminal]) -> None:
    gates = [user.here / f"gate-{number}" for number in range(3)]
    gates[0].touch()
    line = f"until test -e {user.here}/gate-$(({{}} / 4)); do sleep 0.05; done; echo got {{}}"
    terminal = Terminal(user, "run", "-j", "2", line, ":::", *[str(n) for n in range(12)])
    terminals.append(terminal)
    terminal.expect("4/12")
    gates[1].touch()
    terminal.expect("8/12")
    terminal.expect(" left")  # for it has seen how long some take
    gates[2].touch()
    assert terminal.end() == 0
    assert re.search(r"[1-9]\d?/12", terminal.text)
    assert re.search(r"\d(\.\d)?/s +\S+ left", terminal.text)
    assert "campaign 1: 12 done in" in terminal.text
    assert all(f"got {n}\n" in terminal.text for n in range(12))
    assert "\x1b[32mcampaign 1\x1b[0m" in terminal.raw
    assert "Traceback" not in terminal.text


def test_bar_is_narrower_than_the_terminal(user: User, terminals: list[Terminal]) -> None:
    terminal = Terminal(user, "run", "-q", "exit {}", ":::", *"0123", columns=30)
    terminals.append(terminal)
    assert terminal.end() == 1
    other = Terminal(user, "run", "sleep 0.5", columns=30)
    terminals.append(other)
    assert other.end() == 0
    lines = re.split(r"[\r\n]", other.text)
    assert all(len(line) < 30 for line in lines if "━" in line)


def test_no_colours_if_they_are_not_wanted(user: User, terminals: list[Terminal]) -> None:
    terminal = Terminal(user, "run", "exit {}", ":::", "0", "1", NO_COLOR="1")
    terminals.append(terminal)
    assert terminal.end() == 1
    assert re.search(r"\x1b\[[0-9;]*m", terminal.raw.replace("\x1b[0m", "").replace("\x1b[m", "")) is None


def test_data_goes_past_the_terminal(user: User, terminals: list[Terminal]) -> None:
    reader, writer = os.pipe()
    terminal = Terminal(user, "run", "echo got {}", ":::", "1", "2", into=writer)
    terminals.append(terminal)
    os.close(writer)
    assert terminal.end() == 0
    with open(reader, encoding="utf-8") as stream:
        assert sorted(stream.read().splitlines()) == ["got 1", "got 2"]
    assert "got" not in terminal.text


def test_control_c_once_finishes_what_runs(user: User, terminals: list[Terminal]) -> None:
    gate = user.here / "gate"
    line = f"echo begun {{}}; touch run-{{}}; until test -e {gate}; do sleep 0.05; done; echo over {{}}"
    terminal = Terminal(user, "run", "-j", "2", line, ":::", *"123456")
    terminals.append(terminal)
    wait_until(lambda: len(list(user.here.glob("run-*"))) == 2, 20.0)
    terminal.type(b"\x03")
    terminal.expect("stopping when the running tasks have finished; Ctrl-C again kills them")
    wait_until(lambda: user.cli("pilot", "list", "--json").record["state"] == "DRAINING", 20.0)
    wait_until(lambda: user.counts() == {"RUNNING": 2, "READY": 4}, 20.0, user.counts)
    gate.touch()
    assert terminal.end() == 130
    assert "over 1" in terminal.text
    assert "over 2" in terminal.text
    assert "campaign 1: interrupted after" in terminal.text
    assert "2 done, 4 to run" in terminal.text
    assert "to go on: pilotmtc run --resume 1" in terminal.text
    assert user.counts() == {"DONE": 2, "READY": 4}
    assert "campaign 1: 6 done in" in user.cli("run", "--resume", "1").err
    # Nothing ran twice.
    assert [record["attempt"] for record in user.cli("results", "--json").records] == [1] * 6


def test_control_c_twice_kills_what_runs(user: User, terminals: list[Terminal]) -> None:
    terminal = Terminal(user, "run", "-j", "1", "touch run-{}; trap '' INT; sleep 94.5", ":::", "1", "2")
    terminals.append(terminal)
    wait_until((user.here / "run-1").exists, 20.0)
    terminal.type(b"\x03")
    terminal.expect("Ctrl-C again kills them")
    terminal.type(b"\x03")
    terminal.expect("killing the running tasks")
    assert terminal.end() == 130
    assert "0 done, 2 to run" in terminal.text
    assert "to go on: pilotmtc run --resume 1" in terminal.text
    # What was killed was not the task's fault.
    task = user.cli("task", "1", "--json").record
    assert (task["state"], task["failures"]) == ("READY", 0)


def test_control_c_thrice_leaves_at_once(user: User, terminals: list[Terminal]) -> None:
    terminal = Terminal(user, "run", "-j", "1", "touch run-{}; sleep 95.5", ":::", "1", "2")
    terminals.append(terminal)
    wait_until((user.here / "run-1").exists, 20.0)
    pid = int((user.here / "store.db.lock").read_text().split()[0])
    os.kill(pid, signal.SIGSTOP)  # so that neither draining nor killing gets anywhere
    try:

        def left_when_asked_once_more() -> bool:  # two of the same signal that come before the first is seen are one
            terminal.type(b"\x03")
            return terminal.process.poll() is not None

        wait_until(left_when_asked_once_more, 30.0, lambda: terminal.text)
        assert terminal.end() == 130, terminal.text
        assert "Traceback" not in terminal.text
    finally:
        os.kill(pid, signal.SIGCONT)


def test_control_c_before_there_is_a_task(user: User, terminals: list[Terminal]) -> None:
    # Standard input is the terminal, from which `--from -` reads lines.
    terminal = Terminal(user, "run", "--from", "-", "echo {1}")
    terminals.append(terminal)
    terminal.type(b"\n")  # an empty line is no value
    terminal.expect("\n")
    wait_until(terminal.is_read, 30.0)
    terminal.type(b"\x03")
    assert terminal.end() == 130
    assert "Traceback" not in terminal.text


def test_values_may_be_typed(user: User, terminals: list[Terminal]) -> None:
    terminal = Terminal(user, "run", "--from", "-", "echo got-{1}")
    terminals.append(terminal)
    terminal.type(b"one\n")
    terminal.expect("got-one\n")
    terminal.type(b"two\n")
    terminal.expect("got-two\n")
    terminal.type(b"\x04")
    assert terminal.end() == 0
    assert "campaign 1: 2 done in" in terminal.text


def test_terminated_run_can_be_resumed(user: User) -> None:
    run = user.start("run", "-j", "1", "touch run-{}; test {attempt} = 2 || sleep 96.5; echo {}", ":::", "1", "2")
    wait_until((user.here / "run-1").exists, 20.0)
    run.terminate()
    _, err = run.communicate(timeout=30)
    assert run.returncode == 143
    assert b"to go on: pilotmtc run --resume 1" in err


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
def test_run_whose_terminal_is_gone_loses_nothing(user: User, terminals: list[Terminal], number: int) -> None:
    gate = user.here / "gate"
    line = f"test {{}} -lt 3 || until test -e {gate}; do sleep 0.05; done; echo {{}}"
    terminal = Terminal(user, "run", "-j", "2", line, ":::", *[str(n) for n in range(30)])
    terminals.append(terminal)
    terminal.expect("\n")
    wait_until(lambda: user.store.exists() and user.counts().get("DONE", 0) == 3, 30.0)
    terminal.process.send_signal(number)
    terminal.process.wait(120)
    gate.touch()
    done = user.cli("run", "--resume")
    assert "campaign 1: 30 done in" in done.err
    records = user.cli("results", "--json").records
    assert [record["stdout"] for record in records] == [str(n) for n in range(30)]
    assert user.cli("store", "check", "--json").record["ok"] is True


def test_wait_shows_a_bar_and_may_be_left(user: User, terminals: list[Terminal]) -> None:
    gate = user.here / "gate"
    user.cli("submit", f"until test -e {gate}; do sleep 0.05; done; : {{}}", ":::", *"123456")
    user.cli("pilot", "submit", "--cores", "1", "--idle", "3s")
    terminal = Terminal(user, "wait")
    terminals.append(terminal)
    terminal.expect("/6")
    terminal.type(b"\x03")
    assert terminal.end() == 130
    assert "Traceback" not in terminal.text
    gate.touch()
    assert user.cli("wait").err.splitlines()[-1] == "campaign 1: 6 done"


def test_tables_fit_the_terminal(past: User, terminals: list[Terminal]) -> None:
    for words in (["tasks"], ["results"], ["status"], ["pilot", "list", "--all"], ["task", "4"]):
        terminal = Terminal(past, *words, columns=60, NO_COLOR="1")
        terminals.append(terminal)
        assert terminal.end() == 0
        if words != ["task", "4"]:  # which has pairs, not a table
            body = [line for line in terminal.text.splitlines() if str(past.store) not in line]
            assert max(map(len, body)) <= 60 or words == ["status"], terminal.text


def test_escapes_in_what_tasks_are_called_do_not_reach_the_terminal(user: User, terminals: list[Terminal]) -> None:
    user.cli("run", "-q", "--task-name", "x{n}", "--grid", "n=\x1b[31mred\x07", "exit 1", code=1)
    for words in (["tasks"], ["task", "1"], ["results"]):
        terminal = Terminal(user, *words, NO_COLOR="1")
        terminals.append(terminal)
        assert terminal.end() == 0
        assert "\x1b[31m" not in terminal.raw
        assert "\x07" not in terminal.raw


@pytest.mark.parametrize("kind", ["dumb", "unknown"])
def test_screen_is_refused_where_it_cannot_be_drawn(user: User, terminals: list[Terminal], kind: str) -> None:
    terminal = Terminal(user, "tui", TERM=kind)
    terminals.append(terminal)
    assert terminal.end() == 2
    assert f"TERM={kind}" in terminal.text
    assert "pilotmtc top" in terminal.text
    assert "\x1b" not in terminal.raw
    assert not user.store.exists()


def test_screen_needs_a_terminal_to_write_to(user: User, terminals: list[Terminal]) -> None:
    reader, writer = os.pipe()
    terminal = Terminal(user, "tui", into=writer)
    terminals.append(terminal)
    os.close(writer)
    assert terminal.end() == 2
    with open(reader, encoding="utf-8") as stream:
        assert stream.read() == ""
    assert "pilotmtc top" in terminal.text


def test_deleting_asks(user: User, terminals: list[Terminal]) -> None:
    user.cli("run", "-q", "--name", "scan", "true")
    for answer, code, left in ((b"n", 1, 1), (b"y", 0, 0)):
        terminal = Terminal(user, "delete", "scan")
        terminals.append(terminal)
        terminal.expect("Delete them and their results? [y/N]:")
        assert "campaign 1  1 task  scan" in terminal.text
        terminal.type(answer + b"\n")
        assert terminal.end() == code
        assert len(user.cli("status", "--json").record["campaigns"]) == left
