"""The screen, on a terminal of its own: a million tasks and 100 pilots, seen over a real sshd."""

import contextlib
import fcntl
import os
import re
import secrets
import select
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from pilotmtc.model import PilotDescription, PilotId, Resources
from pilotmtc.protocol.agent import AttachPilot, Batch, Claim, Finish, Heartbeat
from pilotmtc.protocol.client.pilots import CreatePilot
from pilotmtc.protocol.records import NodeState
from pilotmtc.store.client.client import StoreClient
from tests.bench.measure import Measured, Series, in_turn, say
from tests.bench.place import cpu_s, memory_mb, specs, submit
from tests.bench.remote import remote_store
from tests.bench.storage import BATCH, Agent, results_of
from tests.lab.slow import Proxy

_TASKS = 1_000_000
_PILOTS = 100
_RATE = 500  # tasks a second
_BEAT_S = 10.0  # an agent's
_WATCHED_S = 20.0
_TIMES = 15  # each key
_CLAIMED = 50_000  # a round
_PATIENCE_S = 60.0
_ESCAPE = re.compile(rb"\x1b(\[[0-9;?]*[ -/]*[@-~]|[()].|[=>78])")
_PLAIN = """
from textual.app import App
from textual.screen import Screen
from textual.widgets import DataTable, Footer

class Rows(Screen):
    BINDINGS = [("escape", "app.pop_screen", "Back"), *[(key, "nothing", f"Key {key}") for key in "abcdefg"]]
    def compose(self):
        yield DataTable(cursor_type="row")
        yield Footer()
    def on_mount(self):
        table = self.query_one(DataTable)
        table.add_columns("ID", *"abcdefghi", "COMMAND")
        for number in range(1, 151):
            table.add_row(str(number), *"abcdefghi", f"/bin/true {number}")

class Plain(App):
    BINDINGS = [("t", "rows", "Rows"), ("q", "quit", "Quit")]
    def compose(self):
        yield DataTable()
        yield Footer()
    def on_mount(self):
        self.query_one(DataTable).add_column("overview")
    def action_rows(self):
        self.push_screen(Rows())

Plain().run()
"""


class Terminal:
    """A terminal of 120x40 on which a program runs."""

    def __init__(self, argv: list[str]) -> None:
        self.started = time.perf_counter()
        self._master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *argv], stdin=slave, stdout=slave, stderr=slave,
            env=os.environ | {"TERM": "xterm-256color", "COLORTERM": "truecolor"},
        )  # fmt: skip
        os.close(slave)
        self.drawn_bytes = 0
        self._new = bytearray()

    def until(self, words: str, timeout_s: float = 30.0) -> float:
        """Return when `words` had been drawn since the last key."""
        end = time.perf_counter() + timeout_s
        while words.encode() not in _ESCAPE.sub(b"", bytes(self._new)):
            if not self._read(0.05) and time.perf_counter() > end:
                raise RuntimeError(f"{words!r} was not drawn in {timeout_s:g} s")
        return time.perf_counter()

    def milliseconds(self, key: str, words: str) -> float:
        """Return how long it takes from a key to what it should show."""
        self.rest(0.2)
        self._new.clear()
        before = time.perf_counter()
        os.write(self._master, key.encode())
        return 1000 * (self.until(words) - before)

    def rest(self, for_s: float) -> None:
        """Read for a while."""
        end = time.perf_counter() + for_s
        while (left := end - time.perf_counter()) > 0:
            self._read(left)

    def _read(self, wait_s: float) -> int:
        if not select.select([self._master], [], [], wait_s)[0]:
            return 0
        data = os.read(self._master, 65536)
        self.drawn_bytes += len(data)
        self._new += data
        return len(data)

    def close(self) -> None:
        """Leave as a person does."""
        os.write(self._master, b"q")
        end = time.perf_counter() + 10.0
        try:
            while self.process.poll() is None and time.perf_counter() < end:
                with contextlib.suppress(OSError):  # the other side is gone
                    self._read(0.1)
        finally:
            self.process.kill()
            self.process.wait()
            os.close(self._master)


class Crew:
    """The agents of many pilots, which beat, and finish `rate` tasks a second."""

    def __init__(self, client: StoreClient, number: int) -> None:
        self.rate = 0
        self._client = client
        self._pilots = [self._attached() for _ in range(number)]
        self._held: dict[PilotId, Batch] = {}
        self._claims = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="crew")
        self._thread.start()

    def _attached(self) -> PilotId:
        description = PilotDescription(cores=64)
        pilot = self._client.call(CreatePilot(secrets.token_hex(8), description)).pilots[0].id
        self._client.call(AttachPilot(pilot, f"n{pilot}", os.getpid(), 1, 64))
        return pilot

    def _run(self) -> None:
        tick = 0
        due = time.perf_counter()
        while not self._over.wait(max(0.0, due - time.perf_counter())):
            due += 1.0
            tick += 1
            self._step(tick)

    def _step(self, tick: int) -> None:
        share = self.rate // len(self._pilots)
        finishes = [self._client.send(Finish(pilot, results_of(batch))) for pilot, batch in self._held.items()]
        beats = [
            self._client.send(Heartbeat(pilot, 0, share, 0.0, (_node(pilot, share),)))
            for index, pilot in enumerate(self._pilots)
            if (tick + index) % int(_BEAT_S) == 0
        ]
        self._claims += 1
        room = Resources(cores=max(1, share))
        claims = {
            pilot: self._client.send(Claim(pilot, self._claims, room, room, share))
            for pilot in (self._pilots if share else ())
        }
        for finish in finishes:
            finish.result(_PATIENCE_S)
        for beat in beats:
            beat.result(_PATIENCE_S)
        self._held = {pilot: claim.result(_PATIENCE_S) for pilot, claim in claims.items()}

    def close(self) -> None:
        """Stop."""
        self._over.set()
        self._thread.join(_PATIENCE_S)


def _node(pilot: PilotId, busy: int) -> NodeState:
    return NodeState(f"n{pilot}", 64, busy, 0, float(busy), 256 << 30, 8 << 30)


def screen(rounds: int, scale: float, slots: int) -> list[Measured]:
    """First paint, a key to its effect, CPU, bytes, and what watching costs those who work."""
    number, pilots = int(_TASKS * scale), max(2, int(_PILOTS * scale))
    with remote_store() as (remote, _), Proxy(remote.sshd.port) as proxy, remote.client() as client:
        say(f"submitting {number:,} tasks")
        submit(client, specs(["/bin/true"], map(str, range(1, number + 1))), "bench")
        url = remote.through(proxy)
        with contextlib.closing(Crew(client, pilots)) as crew:
            return [
                *_paint(url, number, rounds),
                *_keys(url, number, rounds),
                *_watched(url, number, crew, proxy, rounds, max(2.0, _WATCHED_S * scale)),
                _worked(client, url, number, rounds, scale),
            ]


def _paint(url: str, number: int, rounds: int) -> list[Measured]:
    def first(argv: list[str], words: str) -> float:
        with contextlib.closing(Terminal(argv)) as terminal:
            return terminal.until(words) - terminal.started

    found = in_turn(
        {
            "all that is known": lambda: first(_tui(url), f"{number:,} tasks"),
            "the frame": lambda: first(_tui(url), "overview"),
            "a bare screen of Textual's": lambda: first(_plain(), "overview"),
        },
        rounds,
    )
    series = tuple(Series(name, "s", tuple(values)) for name, values in found.items())
    return [
        Measured(
            f"screen: from the command to the data of {number:,} tasks", series[0].median, "s", 1.0, series=series,
            note="over SSH; the interpreter's start and the login are within",
        )
    ]  # fmt: skip


def _keys(url: str, number: int, rounds: int) -> list[Measured]:
    found: dict[str, list[float]] = {}

    def pressed(terminal: Terminal, whose: str, name: str, key: str, words: str) -> None:
        found.setdefault(f"{name}{whose}", []).append(terminal.milliseconds(key, words))

    with contextlib.closing(Terminal(_tui(url))) as ours, contextlib.closing(Terminal(_plain())) as theirs:
        ours.until(f"{number:,} tasks")
        theirs.until("overview")
        for _ in range(rounds * _TIMES):
            for terminal, whose in ((ours, ""), (theirs, ", a bare screen of Textual's")):
                pressed(terminal, whose, "t: a table", "t", "/bin/true 1 ")
                pressed(terminal, whose, "down", "\x1b[B", "/bin/true 2 ")
                if terminal is ours:
                    pressed(terminal, whose, f"G: to task {number:,}", "G", f"/bin/true {number} ")
                    pressed(terminal, whose, "G: to task 1", "G", "/bin/true 1 ")
                    pressed(terminal, whose, "Enter: the task from near", "\r", "1 Why")
                    pressed(terminal, whose, "Escape: back", "\x1b", "/bin/true 1 ")
                    ours.milliseconds("\x1b", "overview")
                else:
                    pressed(terminal, whose, "Escape: back", "\x1b", "overview")
    series = tuple(Series(name, "ms", tuple(values)) for name, values in sorted(found.items()))
    worst = max(one.median for one in series if "bare" not in one.name and "Escape" not in one.name)
    return [
        Measured(
            "screen: a key to its effect, the slowest of these", worst, "ms", 100.0, series=series,
            note="without Escape: Textual waits 100 ms for what may follow it",
        )
    ]  # fmt: skip


def _watched(url: str, number: int, crew: Crew, proxy: Proxy, rounds: int, for_s: float) -> list[Measured]:
    """Let it stand, while agents beat only and while they finish tasks."""
    passed: dict[str, list[float]] = {}
    drawn: dict[str, list[float]] = {}

    def watched(name: str, terminal: Terminal, rate: int) -> float:
        crew.rate = rate
        terminal.rest(3.0)
        pid = terminal.process.pid
        before = cpu_s(pid), proxy.passed_bytes, terminal.drawn_bytes, time.perf_counter()
        terminal.rest(for_s)
        elapsed = time.perf_counter() - before[3]
        passed.setdefault(name, []).append(60 * (proxy.passed_bytes - before[1]) / elapsed / 1000)
        drawn.setdefault(name, []).append(60 * (terminal.drawn_bytes - before[2]) / elapsed / 1000)
        crew.rate = 0
        return 100 * (cpu_s(pid) - before[0]) / elapsed

    idle, busy, plain = "pilots idle", f"{_RATE} tasks/s", "a bare screen of Textual's"
    with contextlib.closing(Terminal(_tui(url))) as ours, contextlib.closing(Terminal(_plain())) as theirs:
        ours.until(f"{number:,} tasks")
        theirs.until("overview")
        found = in_turn(
            {
                idle: lambda: watched(idle, ours, 0),
                plain: lambda: watched(plain, theirs, 0),
                busy: lambda: watched(busy, ours, _RATE),
            },
            rounds,
        )
        memory = memory_mb(ours.process.pid)[0]
    del passed[plain]
    cpu = tuple(Series(name, "%", tuple(values)) for name, values in found.items())
    return [
        Measured("screen: CPU while it shows idle pilots", cpu[0].median, "% of a core", 3.0, series=cpu),
        *(
            Measured(f"screen: bytes {where} a minute, idle", series[0].median, "kB", series=series)
            for where, values in (("through SSH", passed), ("to the terminal", drawn))
            for series in [tuple(Series(name, "kB", tuple(each)) for name, each in values.items())]
        ),
        Measured("screen: memory", memory, "MB"),
    ]


def _worked(client: StoreClient, url: str, number: int, rounds: int, scale: float) -> Measured:
    """An agent that claims and finishes as fast as it can, watched or not."""
    agent = Agent(client, secrets.token_hex(8))
    share = min(int(_CLAIMED * scale), number // (3 * rounds + 3))
    agent.work(BATCH)

    def watched() -> float:
        with contextlib.closing(Terminal(_tui(url))) as terminal, _read_by_another(terminal):
            return agent.work(share)

    found = in_turn({"watched": watched, "not watched": lambda: agent.work(share)}, rounds)
    series = tuple(Series(name, "tasks/s", tuple(values)) for name, values in found.items())
    return Measured(
        "screen: speed of claim + finish that watching leaves", series[0].median / series[1].median, "", series=series,
        note="screen, client, sshd, server and agent share this machine's cores",
    )  # fmt: skip


@contextlib.contextmanager
def _read_by_another(terminal: Terminal) -> Iterator[None]:
    """Read what a terminal draws meanwhile."""
    terminal.until(" tasks")
    over = threading.Event()

    def read() -> None:
        while not over.is_set():
            terminal.rest(0.1)

    thread = threading.Thread(target=read, name="reader")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _tui(url: str) -> list[str]:
    return [str(Path(sys.executable).with_name("pilotmtc")), "--store", url, "tui"]


def _plain() -> list[str]:
    return [sys.executable, "-c", _PLAIN]
