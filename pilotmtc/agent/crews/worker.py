"""A node worker: runs tasks on its node for an agent elsewhere.

``python -m pilotmtc.agent.crews.worker CONTACT [--name NAME]``, under a guard of its own. It reports to the agent,
starts and stops what it is told, and sends results until the agent has confirmed them. Without a sign of life from the
agent it ends its tasks and leaves. It imports msgspec, zmq and little else: thousands may start from one file system.
"""

import logging
import os
import select
import signal
import socket
import struct
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import zmq
from msgspec import Struct

from pilotmtc.agent import guard
from pilotmtc.agent.core import events as c
from pilotmtc.agent.crews.contact import OVER, Contact, descriptor, readable
from pilotmtc.agent.crews.distant_values import DistantValues
from pilotmtc.agent.crews.protocol import (
    Accepted,
    Dismissed,
    Message,
    NumberedLine,
    StartAttempt,
    ToAgent,
    ToWorker,
    WorkerLeaves,
    WorkerReady,
    decode,
    encode,
)
from pilotmtc.agent.functions.pool import FunctionPool
from pilotmtc.agent.node import allowance, core_claims, gpus
from pilotmtc.agent.node.capture import Captures
from pilotmtc.agent.node.outputs import Outputs
from pilotmtc.agent.node.process import ProcessLauncher
from pilotmtc.agent.node.supervisor import Supervisor
from pilotmtc.agent.value_files import ValueFiles, memory_directory
from pilotmtc.errors import PilotMTCError, ProtocolError
from pilotmtc.model import PilotId, Resources, Result, TaskId, Template
from pilotmtc.protocol.records import OutputTail
from pilotmtc.states import Cause
from pilotmtc.system import open_files, processes
from pilotmtc.system.command_words import read_words
from pilotmtc.system.locale import speak_utf8
from pilotmtc.system.streams import keep_exit_code

BEAT_S = 5.0
HELLO_S = 1.0
_CONTACT_WAIT_S = 600.0
_WINDOW = 16  # messages that the agent has not confirmed
_RESULTS = 256  # in a message
_RESULTS_BYTES = 1 << 20
_BEGUN_S = 0.1  # most calls are over before anybody could see them run
_REFUSED_S = 1.0
_REFUSALS = 2
_FOREIGN = 4  # how often the port may be open without a handshake meanwhile
_SILENT_S = 9.0  # if a link breaks sooner after the agent's last message, the other end closed it; silence takes 10 s
_LAST_WORDS_S = 2.0
# A scheduler that ends a job step signals all of its processes at once, and tasks may be killed before this process is.
# So the results of tasks that others have killed are held back for a moment, and dropped if this process ends, too.
_DOUBT_S = 0.3
_KILLED = (signal.SIGTERM, signal.SIGKILL)
_log = logging.getLogger("pilotmtc.agent")


class _Asked(Struct, frozen=True):
    """The words of a node worker: where its agent is, its node's name, and what its guard passes to it."""

    contact: Path
    name: str = ""
    guard_fd: int | None = None
    alive_fd: int | None = None


def main(argv: Sequence[str]) -> int:
    """Run a node worker; return the exit code."""
    speak_utf8()
    keep_exit_code()
    asked = read_words(argv, _Asked, "contact")
    guard.keep(asked.guard_fd, asked.alive_fd)
    name = asked.name or os.environ.get("SLURMD_NODENAME") or socket.gethostname()
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format=f"%(asctime)s %(levelname)s {name}: %(message)s", datefmt="%FT%T"
    )
    open_files.raise_limit()
    try:
        return Worker(_contact(asked.contact), name, asked.guard_fd).run()
    except PilotMTCError as error:
        _log.error("%s", error)
        return error.exit_code


def _contact(path: Path) -> Contact:
    """Return the contact as soon as the agent has written it."""
    until = time.monotonic() + _CONTACT_WAIT_S
    while not path.exists() and time.monotonic() < until:
        if path.with_name(OVER).exists():
            raise PilotMTCError("the pilot has ended: this node has come too late")
        time.sleep(0.2)
    return Contact.read(path)


def connect(dealer: "zmq.Socket[bytes]", contact: Contact, hello: WorkerReady) -> None:
    """Connect a worker's socket to its agent."""
    dealer.setsockopt(zmq.IDENTITY, f"{hello.name}.{hello.birth}".encode()[:250])
    dealer.curve_serverkey = contact.server_key
    dealer.curve_publickey = contact.public_key
    dealer.curve_secretkey = contact.secret_key
    for option, value in (
        (zmq.RECONNECT_IVL, 100), (zmq.RECONNECT_IVL_MAX, 2000), (zmq.SNDHWM, 0), (zmq.RCVHWM, 0),
        (zmq.HEARTBEAT_IVL, 2000), (zmq.HEARTBEAT_TIMEOUT, 10_000),
    ):  # fmt: skip
        dealer.setsockopt(option, value)
    dealer.connect(contact.address)


class Worker:
    """Runs a node's tasks."""

    def __init__(self, contact: Contact, name: str, guard_fd: int | None) -> None:
        self._contact = contact
        self._guard_fd = guard_fd
        asked = contact.cores_of(name)
        # The agent knows what the scheduler says of cores; the variables here are those of a step, or of a daemon.
        own = core_claims.own_cores(
            asked, allowance.cores(len(os.sched_getaffinity(0)), {}), pin=contact.pin, part=False
        )  # fmt: skip
        if own.note:
            _log.warning("%s", own.note)
        gpu_count = contact.gpus or gpus.count(os.environ)
        memory = contact.memory_bytes or allowance.memory(processes.machine_memory(), os.environ, asked)
        self._hello = WorkerReady(int.from_bytes(os.urandom(8)) >> 2, name, own.cores, gpu_count, memory)
        self._line = NumberedLine(self._hello.birth, ToWorker)
        self._welcome = False
        self._told = False  # that this node is unfit
        directory = Path(contact.directory)
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        if not directory.is_dir():  # nothing is shared
            self._scratch = tempfile.TemporaryDirectory(prefix="pilotmtc-", ignore_cleanup_errors=True)
            directory = Path(self._scratch.name)
        os.chdir(directory)
        names = (*gpus.VARIABLES, "HOSTNAME", "SLURMD_NODENAME", "TMPDIR")
        here = {key: value for key, value in os.environ.items() if key in names or key.startswith("_CONDOR_")}
        environ = gpus.elsewhere(contact.environ, here) | here
        captures = Captures(directory / "outputs")
        launcher = ProcessLauncher(
            PilotId(contact.pilot), contact.store, directory, captures, gpu_count=gpu_count, pin=own.pin,
            environ=environ, node=name,
        )  # fmt: skip
        self._node = Supervisor(name, directory, launcher, Outputs(captures))
        self._functions = FunctionPool(name, directory, launcher, self._node, captures, cores=len(own.cores))
        self._functions.open(self._watch, self._unwatch)
        self._distant: DistantValues | None = None
        if self._scratch is not None:
            in_memory = memory_directory(contact.pilot) if guard_fd is not None else None
            files = ValueFiles(directory, memory=in_memory, memory_bytes=memory)
            self._distant = DistantValues(PilotId(contact.pilot), files, self._start_calls, self._not_started)
        self._running: dict[TaskId, int] = {}
        self._templates: dict[int, Template] = {}
        self._resources: dict[int, Resources] = {}
        self._results: list[Result] = []
        self._doubtful: deque[tuple[float, Result]] = deque()
        self._no_room: list[tuple[TaskId, int]] = []
        self._unbegun: list[tuple[TaskId, int]] = []
        self._begun: dict[TaskId, tuple[int, str, float]] = {}  # calls that run, and since when, until that is told
        self._written: list[OutputTail] = []
        self._heard_at = self._beat_at = time.monotonic()
        self._beat_s = min(BEAT_S, contact.lost_s / 4)
        self._hello_at = 0.0
        self._cut_at = 0.0  # when the link broke; 0 while it holds
        self._closed = False  # by the agent's machine, which does so when the agent dies
        self._look_at = 0.0
        self._refused = self._foreign = 0
        self._leaving = ""
        self._leave_by = 0.0
        self._signals = 0
        self._epoll = select.epoll()

    def run(self) -> int:
        """Work until there is a reason to leave; return 0 if the agent has said so."""
        processes.become_subreaper()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        wake, signal_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(signal_fd, warn_on_full_buffer=False)
        context = zmq.Context()
        self._dealer = context.socket(zmq.DEALER)
        self._monitor = self._dealer.get_monitor_socket(zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_SUCCEEDED)
        try:
            connect(self._dealer, self._contact, self._hello)
            self._epoll.register(wake, select.EPOLLIN)
            for socket_ in (self._dealer, self._monitor):
                self._epoll.register(descriptor(socket_), select.EPOLLIN)
            if self._guard_fd is not None:
                self._epoll.register(self._guard_fd, select.EPOLLIN)
            return self._turn(wake)
        finally:
            self._functions.close()
            self._node.close()
            if self._distant is not None:
                self._distant.close()
            self._dealer.disable_monitor()
            self._monitor.close(0)
            self._dealer.close(500)
            context.term()
            signal.set_wakeup_fd(-1)
            self._epoll.close()
            os.chdir("/")
            if self._scratch is not None:
                self._scratch.cleanup()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signals += 1

    def _turn(self, wake: int) -> int:
        node, functions, epoll = self._node, self._functions, self._epoll
        own = {wake, descriptor(self._dealer), descriptor(self._monitor)}
        while True:
            now = time.monotonic()
            if self._leaving and not self._running and (now >= self._leave_by or self._all_said()):
                return 0 if self._leaving == "told" else 1
            due = min(node.due(), functions.due(), now + 0.25)
            for fd, _ in epoll.poll(max(due - now, 0.0)):
                if fd == self._guard_fd:
                    epoll.unregister(fd)
                    self._leave("the guard is gone", Cause.NODE_LOST)
                elif fd not in own and not functions.ready(fd, time.monotonic()):
                    epoll.unregister(fd)
                    result = node.reap(node.ended(fd), time.monotonic())
                    if result is not None:
                        self._ended(functions.wide.result(result))
            now = time.monotonic()
            if self._signals:
                os.read(wake, 512)
                self._signals = 0
                self._leave("terminated", Cause.PREEMPTED)
            if node.due() <= now:
                for result in node.poll(now):
                    self._ended(functions.wide.result(result))
            functions.poll(now)
            if self._distant is not None:
                self._distant.poll(now)
            self._take_in_calls()
            self._look_at_link(now)
            self._hear(now)
            self._say(now)
            self._hear(now)  # what comes while this sends does not wake the poll

    # -- the agent --------------------------------------------------------------------------------------------

    def _hear(self, now: float) -> None:
        while readable(self._dealer):
            try:
                self._hear_one(decode(self._dealer.recv_multipart(zmq.NOBLOCK)), now)
            except ProtocolError as error:
                _log.warning("from the agent: %s", error)

    def _hear_one(self, message: Message, now: float) -> None:
        if isinstance(message, WorkerReady | WorkerLeaves) or message.birth != self._hello.birth:
            return
        self._heard_at = now
        if isinstance(message, Accepted):
            self._welcome = True
        elif isinstance(message, Dismissed):
            self._leave(message.reason or "told", Cause.NODE_LOST)
        else:
            body = self._line.hear(message, now)
            if body is not None:
                self._obey(body, now)

    def _obey(self, down: ToWorker, now: float) -> None:
        self._templates.update(down.templates)
        self._resources.update(down.resources)
        for begin in down.begins:
            self._start(begin, now)
        for halt in down.halts:
            stop = c.Stop(halt.task, halt.attempt, halt.cause, halt.grace_s)
            self._node.stop(stop, now)
            self._functions.stop(stop, now)
            if self._distant is not None:
                self._distant.stop(stop, now)
        if self._distant is not None:
            self._distant.hear(down.parts, down.taken, now)
        self._written += [*self._node.peek(down.peek), *self._functions.peek(down.peek)]
        self._take_in_calls()

    def _start(self, begin: StartAttempt, now: float) -> None:
        claimed = begin.claimed
        if self._leaving:
            return
        wide = c.Wide(begin.way, begin.first, begin.ranks, begin.nodes) if begin.way else None
        template, resources = self._templates[claimed.template], self._resources[claimed.resources]
        start = c.Start(claimed, template, resources, begin.slots, wide, begin.mates)
        if template.function is not None and wide is None:
            if self._distant is not None:
                self._distant.start(start, now)
            else:
                self._start_calls(start, now)
            return
        if template.function is not None and self._scratch is not None:
            text = f"ranks of a call need the pilot's directory, {self._contact.directory}, which this node has not"
            self._not_started(claimed.task, claimed.attempt, Cause.LAUNCH_ERROR, text)
            return
        if template.function is not None:
            try:
                start = self._functions.wide.as_command(start)
            except OSError as error:
                _log.warning("cannot start task %d now: %s", claimed.task, error)
                self._no_room.append((claimed.task, claimed.attempt))
                return
        started = self._node.start(start, stay=False)
        if started is None:
            self._functions.wide.drop(claimed.task, claimed.attempt)
            self._no_room.append((claimed.task, claimed.attempt))
        elif isinstance(started, Result):
            self._results.append(self._functions.wide.result(started))
        elif self._node.watch(started, self._watch):
            self._running[claimed.task] = claimed.attempt
        else:
            self._functions.wide.drop(claimed.task, claimed.attempt)
            self._no_room.append((claimed.task, claimed.attempt))

    def _start_calls(self, start: c.Start, now: float) -> None:
        calls = [(each.task, each.attempt) for each in (start.claimed, *start.mates)]
        if self._functions.start(start, now):
            self._running.update(calls)
        else:
            self._no_room += calls
            self._let_go([task for task, _ in calls])

    def _not_started(self, task: TaskId, attempt: int, cause: Cause, message: str) -> None:
        self._results.append(self._node.report(c.Report(task, attempt, cause, message)))

    def _let_go(self, tasks: Sequence[TaskId]) -> None:
        """Note that these calls need their values no more."""
        if self._distant is not None:
            self._distant.over(tasks)

    def _watch(self, fd: int) -> None:
        self._epoll.register(fd, select.EPOLLIN)

    def _unwatch(self, fd: int) -> None:
        self._epoll.unregister(fd)

    def _take_in_calls(self) -> None:
        """Take in what has come of calls."""
        outcome = self._functions.take()
        if outcome is None:
            return
        now = time.monotonic()
        self._begun.update({task: (attempt, slot, now) for task, attempt, slot in outcome.begun})
        for result in outcome.results:
            self._begun.pop(result.task, None)
            self._ended(result)
        for task, _ in outcome.unbegun:
            self._begun.pop(task, None)
            self._running.pop(task, None)
        self._unbegun += outcome.unbegun
        self._let_go([task for task, _ in outcome.unbegun])

    def _ended(self, result: Result) -> None:
        self._running.pop(result.task, None)
        self._let_go((result.task,))
        killed = result.signal in _KILLED or (result.exit_code or 0) - 128 in _KILLED
        if killed and result.cause in (Cause.SIGNAL, Cause.EXIT):
            self._doubtful.append((time.monotonic() + _DOUBT_S, result))
        elif self._distant is not None and result.value is not None and result.value.digest:
            self._distant.bring(result, self._results.append)
        else:
            self._results.append(result)

    def _say(self, now: float) -> None:
        while self._doubtful and self._doubtful[0][0] <= now and not self._leaving:
            self._results.append(self._doubtful.popleft()[1])
        if not self._welcome:
            if now >= self._hello_at and not self._leaving:
                self._hello_at = now + HELLO_S
                self._dealer.send(encode(self._hello), zmq.NOBLOCK)
            return
        for again in self._line.again(now):
            self._dealer.send(encode(again), zmq.NOBLOCK)
        begun = self._long_begun(now)
        asks, puts = ([], []) if self._distant is None else (self._distant.asks, self._distant.puts)
        while (
            self._results or self._no_room or self._unbegun or begun or self._written or asks or puts or self._unfit()
        ) and self._line.unheard < _WINDOW:
            count = size = 0
            for result in self._results[:_RESULTS]:
                count += 1
                size += len(result.stdout) + len(result.stderr)
                size += len(result.value.data) if result.value is not None else 0
                if size > _RESULTS_BYTES:
                    break
            unfit = self._node.unfit if self._unfit() else ""
            self._told = self._told or bool(unfit)
            up = ToAgent(
                tuple(self._results[:count]), tuple(self._no_room), tuple(self._written), unfit, tuple(self._unbegun),
                begun, tuple(asks), tuple(puts[:1]),
            )  # fmt: skip
            asks.clear()
            del puts[:1]
            del self._results[:count]
            self._no_room.clear()
            self._unbegun.clear()
            begun = ()
            self._written.clear()
            self._dealer.send(encode(self._line.say(up, now)), zmq.NOBLOCK)
            self._beat_at = now + self._beat_s
        if now >= self._beat_at:
            self._beat_at = now + self._beat_s
            self._dealer.send(encode(self._line.beat(os.getloadavg()[0], processes.machine_use()[1])), zmq.NOBLOCK)

    def _long_begun(self, now: float) -> tuple[tuple[TaskId, int, str], ...]:
        """Return the calls that have run for long enough to be worth telling, once each."""
        if not self._begun:
            return ()
        found = [(task, attempt, slot) for task, (attempt, slot, at) in self._begun.items() if now >= at + _BEGUN_S]
        for task, _, _ in found:
            del self._begun[task]
        return tuple(found)

    def _unfit(self) -> bool:
        """Whether the agent has to be told that this node cannot run tasks as it should."""
        return bool(self._node.unfit) and not self._told

    def _all_said(self) -> bool:
        if self._distant is not None and self._distant.owes:
            return not self._welcome
        return not self._welcome or not (self._results or self._no_room or self._unbegun or self._line.unheard)

    def _look_at_link(self, now: float) -> None:
        """Leave when the agent is gone: its port refuses, or there is no sign of life for too long."""
        while readable(self._monitor):
            (event,) = struct.unpack_from("=H", self._monitor.recv_multipart(zmq.NOBLOCK)[0])
            if event != zmq.EVENT_DISCONNECTED:
                self._cut_at = 0.0
                self._beat_at = now  # a worker that has connected is a stranger until it sends something
            elif not self._cut_at:
                self._cut_at = now
                self._closed = now - self._heard_at < _SILENT_S
                self._refused = self._foreign = 0
        if self._leaving:
            return
        if self._cut_at and now >= self._look_at:
            self._look_at = now + _REFUSED_S
            is_open = self._is_open()
            self._refused = self._refused + 1 if is_open is False else 0
            self._foreign = self._foreign + 1 if is_open and self._closed else 0
            if self._refused >= _REFUSALS:
                self._leave("the agent is gone", Cause.NODE_LOST)
            elif self._foreign >= _FOREIGN:
                self._leave("the agent is gone, and somebody else has its port", Cause.NODE_LOST)
        if now - self._heard_at > self._contact.lost_s:
            self._leave(f"no sign of life of the agent for {self._contact.lost_s:g} s", Cause.NODE_LOST)

    def _is_open(self) -> bool | None:
        """Whether the agent's port is open, None if there is no way to it just now."""
        host, _, port = self._contact.address.removeprefix("tcp://").rpartition(":")
        try:
            socket.create_connection((host, int(port)), 0.5).close()
        except ConnectionRefusedError:
            return False
        except OSError:  # the network: it may come back
            return None
        return True

    def _leave(self, reason: str, cause: Cause) -> None:
        """Kill what runs, send what can be sent, and leave."""
        if self._leaving:
            return
        _log.info("leaving: %s", reason)
        self._leaving = reason
        now = time.monotonic()
        self._leave_by = now + _LAST_WORDS_S
        self._say(now)
        if self._welcome:
            self._dealer.send(encode(WorkerLeaves(self._hello.birth, reason)), zmq.NOBLOCK)
        for task, attempt in list(self._running.items()):
            stop = c.Stop(task, attempt, cause, 0.0)
            self._node.stop(stop, now)
            self._functions.stop(stop, now)
        self._take_in_calls()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
