"""Node workers that are emulated: ``python -m tests.lab.nodes CONTACT FIRST LAST`` is the nodes n<FIRST> to n<LAST>.

Each has a socket, keys' handshake, hello and numbered line of its own, as a real worker has, and packs its messages as
one does. What is emulated is the process: many of them share one, and a task is not run, but over after as many
seconds as its first parameter says (at once without one), with nothing written.

It fails when a core is given to two tasks at once.
"""

import heapq
import itertools
import os
import secrets
import select
import shlex
import sys
import time
from pathlib import Path

import zmq

from pilotmtc.agent.crews.contact import NAME, Contact, descriptor, readable
from pilotmtc.agent.crews.protocol import (
    Accepted,
    Dismissed,
    Numbered,
    NumberedLine,
    StartAttempt,
    ToAgent,
    ToWorker,
    WorkerReady,
    decode,
    encode,
)
from pilotmtc.agent.crews.worker import BEAT_S, HELLO_S, connect
from pilotmtc.model import Result, TaskId
from pilotmtc.resources.slots import core_list
from pilotmtc.states import Cause

_TICK_S = 0.25
_MEMORY_BYTES = 64 << 30


class EmulatedWorker:
    """The worker of one node."""

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", contact: Contact, name: str) -> None:
        cores = contact.cores_of(name)
        self.hello = WorkerReady(secrets.randbits(62), name, tuple(range(cores)), contact.gpus, _MEMORY_BYTES)
        self.socket = context.socket(zmq.DEALER)
        self.gone = False
        self.heard_at = time.monotonic()
        self._line = NumberedLine(self.hello.birth, ToWorker)
        self._welcome = False
        self._free = set(self.hello.cores)
        self._running: dict[TaskId, tuple[StartAttempt, float, float]] = {}  # with both clocks at its start
        self._results: list[Result] = []
        self._hello_at = self._beat_at = 0.0
        connect(self.socket, contact, self.hello)

    def hear(self, now: float) -> list[tuple[float, TaskId]]:
        """Read what has come; return the tasks that it starts and when they will be over."""
        ends: list[tuple[float, TaskId]] = []
        while readable(self.socket):
            message = decode(self.socket.recv_multipart(zmq.NOBLOCK))
            self.heard_at = now
            if isinstance(message, Accepted):
                self._welcome = True
            elif isinstance(message, Dismissed):
                self.gone = True
                if message.reason != "told":
                    raise RuntimeError(f"{self.hello.name} was sent away: {message.reason}")
            elif isinstance(message, Numbered):
                down = self._line.hear(message, now)
                if down is not None:
                    ends += [self._start(begin, now) for begin in down.begins]
                    for halt in down.halts:
                        self.end(halt.task, now, halt.cause)
        return ends

    def _start(self, begin: StartAttempt, now: float) -> tuple[float, TaskId]:
        cores = {core for slot in begin.slots for core in slot.cores}
        if not cores <= self._free:
            raise RuntimeError(f"{self.hello.name}: task {begin.claimed.task} is to have cores that are not free")
        self._free -= cores
        claimed = begin.claimed
        self._running[claimed.task] = (begin, now, time.time())
        return now + float(claimed.params[0] if claimed.params else 0.0), claimed.task

    def end(self, task: TaskId, now: float, cause: Cause = Cause.EXIT) -> None:
        """Let a task be over, if it is not yet."""
        begin, began, started_at = self._running.pop(task, (None, 0.0, 0.0))
        if begin is None:
            return
        self._free.update(core for slot in begin.slots for core in slot.cores)
        code, signal = (0, None) if cause is Cause.EXIT else (None, 9)
        slot = core_list(begin.slots[0].cores)
        self._results.append(Result(
            task, begin.claimed.attempt, cause, code, signal, self.hello.name, slot, started_at, now - began, 0.001,
            1 << 20,
        ))  # fmt: skip

    def say(self, now: float) -> None:
        """Send what is to be said."""
        if not self._welcome:
            if now >= self._hello_at:
                self._hello_at = now + HELLO_S
                self.socket.send(encode(self.hello), zmq.NOBLOCK)
            return
        for again in self._line.again(now):
            self.socket.send(encode(again), zmq.NOBLOCK)
        if self._results:
            self.socket.send(encode(self._line.say(ToAgent(tuple(self._results)), now)), zmq.NOBLOCK)
            self._results.clear()
            self._beat_at = now + BEAT_S
        if now >= self._beat_at:
            self._beat_at = now + BEAT_S
            self.socket.send(encode(self._line.beat(0.0, 1 << 30)), zmq.NOBLOCK)


def emulate(contact: Contact, names: list[str]) -> None:
    """Be these nodes until all are sent home, or the agent is silent for too long."""
    context = zmq.Context()
    context.set(zmq.MAX_SOCKETS, len(names) + 100)
    epoll = select.epoll()
    workers: dict[int, EmulatedWorker] = {}
    for name in names:
        worker = EmulatedWorker(context, contact, name)
        workers[descriptor(worker.socket)] = worker
        epoll.register(descriptor(worker.socket), select.EPOLLIN)
    ends: list[tuple[float, int, TaskId, EmulatedWorker]] = []
    order = itertools.count()
    tick_at = 0.0
    while workers:
        due = min(tick_at, ends[0][0] if ends else tick_at)
        ready = epoll.poll(max(due - time.monotonic(), 0.0))
        now = time.monotonic()
        touched = {workers[fd] for fd, _ in ready}
        while ends and ends[0][0] <= now:
            _, _, task, worker = heapq.heappop(ends)
            worker.end(task, now)
            touched.add(worker)
        if now >= tick_at:
            tick_at = now + _TICK_S
            touched.update(workers.values())
        for worker in touched:
            for _ in range(2):  # what came while something was said does not wake the poll
                for end_at, task in worker.hear(now):
                    heapq.heappush(ends, (end_at, next(order), task, worker))
                worker.say(now)
            if now - worker.heard_at > contact.lost_s:
                raise RuntimeError(f"{worker.hello.name}: no sign of life of the agent for {contact.lost_s:g} s")
            if worker.gone:
                fd = descriptor(worker.socket)
                epoll.unregister(fd)
                del workers[fd]
                worker.socket.close(0)
    epoll.close()
    context.term()


def write_srun(path: Path, nodes: int, processes: int) -> None:
    """Write an ``srun`` that emulates the workers that it should start, in so many processes.

    The contact is in the directory where it is started, as it is with an agent.
    """
    share = -(-nodes // processes)
    command = f'{shlex.quote(sys.executable)} -m tests.lab.nodes "$PWD/{NAME}"'
    lines = [f"{command} {first} {min(first + share - 1, nodes)} &" for first in range(1, nodes + 1, share)]
    root = shlex.quote(str(Path(__file__).resolve().parents[2]))
    path.write_text("\n".join(["#!/bin/sh", f"export PYTHONPATH={root}", *lines, "wait", ""]))
    path.chmod(0o755)


def environment(directory: Path, nodes: int, cores: int) -> dict[str, str]:
    """Return what an agent must find to be in an allocation of emulated nodes; the ``srun`` is in `directory`."""
    return os.environ | {
        "PATH": f"{directory}:{os.environ['PATH']}",
        "PILOTMTC_NETWORK": "127.0.0.1",
        "SLURM_JOB_ID": "1",
        "SLURM_JOB_NODELIST": f"n[1-{nodes}]",
        "SLURM_JOB_CPUS_PER_NODE": f"{cores}(x{nodes})",
    }


if __name__ == "__main__":
    emulate(Contact.read(Path(sys.argv[1])), [f"n{number}" for number in range(int(sys.argv[2]), int(sys.argv[3]) + 1)])
