"""A crew on many nodes: node workers, reached over ZeroMQ with CURVE.

All messages are numbered and repeated until they are confirmed (`protocol`), so that a link that breaks for a moment
loses nothing. A worker that is silent for too long is lost, with all that it ran; what it says afterwards is ignored.
"""

import itertools
import logging
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from pilotmtc.agent.core import events as c
from pilotmtc.agent.core.cluster import Cluster
from pilotmtc.agent.crews.contact import OVER, Contact
from pilotmtc.agent.crews.interface import Agent
from pilotmtc.agent.crews.listener import WorkerListener
from pilotmtc.agent.crews.member import Member
from pilotmtc.agent.crews.protocol import (
    Accepted,
    Dismissed,
    Message,
    Numbered,
    StartAttempt,
    StopAttempt,
    ToAgent,
    WorkerLeaves,
    WorkerReady,
    decode,
    encode,
)
from pilotmtc.agent.crews.start_workers import WorkerStarter
from pilotmtc.agent.crews.value_desk import ValueDesk
from pilotmtc.agent.functions.frames import VALUES
from pilotmtc.agent.node import mpi
from pilotmtc.agent.node.interface import LaunchError
from pilotmtc.errors import ProtocolError
from pilotmtc.host_lists import fold
from pilotmtc.model import Result, TaskId
from pilotmtc.protocol.records import NodeState
from pilotmtc.resources.slots import Node, core_list
from pilotmtc.states import Cause

BEAT_S = 5.0
LOST_S = 30.0
_CHECK_S = 0.5
_TOLD_TO_END = (Cause.CANCELED, Cause.OOM, Cause.PREEMPTED, Cause.TIMEOUT, Cause.WALLTIME)
_LEAVE_S = 5.0
_log = logging.getLogger("pilotmtc.agent")


class WideRun:
    """A wide task that runs. `parts`: the results of its nodes, None until they come; lost nodes are left out."""

    __slots__ = ("lost", "no_room", "node", "parts", "slot", "start")

    def __init__(self, start: c.Start, names: list[str], node: str, slot: str) -> None:
        self.start = start
        self.parts: dict[str, Result | None] = dict.fromkeys(names)
        self.node = node
        self.slot = slot
        self.no_room = False
        self.lost = ""  # why the result of a node will never come


class WorkerPool:
    """Runs tasks through node workers.

    Parameters
    ----------
    cluster
        The core's nodes: which are set aside, and how busy they are.
    contact
        What workers must know; address and keys are filled in here.
    path
        The file to write it to.
    starter
        Starts the workers.
    address
        Of this host, on the network of the nodes.
    named
        Named resources of a node.
    expected
        How many workers there may be.
    one_host
        Whether all nodes are this machine, under names that only this pool knows.
    """

    def __init__(
        self,
        cluster: Cluster,
        contact: Contact,
        path: Path,
        starter: WorkerStarter,
        *,
        address: str,
        named: dict[str, float],
        expected: int,
        one_host: bool = False,
    ) -> None:
        self._cluster = cluster
        self._contact = contact
        self._path = path
        self._desk = ValueDesk(path.parent / VALUES)
        self._starter = starter
        self._address = address
        self._named = named
        self._expected = expected
        self._one_host = one_host
        self._members: dict[str, Member] = {}
        self._by_identity: dict[bytes, Member] = {}
        self._gone: set[int] = set()  # births of lost workers
        self._lost: dict[str, str] = {}
        self._at: dict[TaskId, str] = {}  # where tasks of one rank run
        self._wide: dict[TaskId, WideRun] = {}
        self._over: list[TaskId] = []  # wide tasks of which all parts have ended
        self._dirty: dict[str, Member] = {}
        self._check_at = 0.0
        self._awake = True
        self._none_left = False
        self._beat_s = min(BEAT_S, contact.lost_s / 4)

    # -- the loop's side --------------------------------------------------------------------------------------

    def open(self, agent: Agent) -> None:
        """Listen, and have the workers started."""
        self._agent = agent
        self._door = WorkerListener(self._address, self._expected)
        contact = msgspec.structs.replace(
            self._contact, address=self._door.address, server_key=self._door.server_key,
            public_key=self._door.public_key, secret_key=self._door.secret_key,
        )  # fmt: skip
        self._path.with_name(OVER).unlink(missing_ok=True)
        contact.write(self._path)
        self._starter.start(self._path)
        for fd in self._door.descriptors:
            agent.watch(fd)

    def start(self, start: c.Start, now: float) -> None:
        """Have a task started on its nodes."""
        claimed, slots = start.claimed, start.slots
        if len(slots) == 1:
            name = slots[0].node
            for each in (claimed, *start.mates):
                self._at[each.task] = name
            self._begin(name, start, StartAttempt(claimed, slots, mates=start.mates))
            self._agent.started(claimed.task, claimed.attempt, name, core_list(slots[0].cores), now)
            return
        by_node = {name: tuple(own) for name, own in itertools.groupby(slots, lambda slot: slot.node)}
        nodes = fold(by_node)
        try:
            way = mpi.way(self._contact.environ | start.template.env)
        except LaunchError as error:
            self._agent.ended(_failed(start, nodes, str(error)), now)
            return
        names = list(by_node) if way == mpi.RANKS else [slots[0].node]
        run = self._wide[claimed.task] = WideRun(start, names, nodes, mpi.slot_text(by_node.values()))
        if self._one_host and way != mpi.RANKS:  # which could not find the others
            slots = tuple([slot._replace(node=names[0]) for slot in slots])
        first = 0
        for name in names:
            own = by_node[name] if way == mpi.RANKS else slots
            self._begin(name, start, StartAttempt(claimed, own, way, first, len(slots), nodes))
            first += len(own)
        self._agent.started(claimed.task, claimed.attempt, nodes, run.slot, now)

    def _begin(self, name: str, start: c.Start, begin: StartAttempt) -> None:
        member = self._dirty[name] = self._members[name]
        member.begin(start, begin)

    def stop(self, stop: c.Stop, now: float) -> None:
        """Have a task stopped."""
        run = self._wide.get(stop.task)
        names = [name for name, part in run.parts.items() if part is None] if run else [self._at.get(stop.task, "")]
        for name in names:
            member = self._members.get(name)
            if member is not None:
                member.halts.append(StopAttempt(stop.task, stop.attempt, stop.cause, stop.grace_s))
                self._dirty[name] = member
        if run and not names:
            self._over.append(stop.task)

    def report(self, report: c.Report) -> Result:
        """Return the result of an attempt that was never started, or was lost."""
        self._at.pop(report.task, None)
        return Result(
            report.task, report.attempt, report.cause, node=report.node, started_at=time.time(), message=report.message
        )

    def ready(self, fd: int, now: float) -> None:
        """Look at what has come when the loop polls next, which is now."""
        self._awake = True

    def due(self) -> float:
        """Return when `poll` wants to be called."""
        return 0.0 if self._awake or self._dirty or self._over else self._check_at

    def poll(self, now: float) -> None:
        """Receive, send, and look for silent workers."""
        self._awake = False
        self._hear(now)
        while self._over:
            self._close_wide(self._over.pop(), now)
        if now >= self._check_at:
            self._check_at = now + _CHECK_S
            self._check(now)
        self._say(now)
        self._hear(now)  # what comes while this sends does not wake the poll

    def states(self, busy: int) -> tuple[NodeState, ...]:
        """Return the states of the nodes, of those that are lost, too."""
        states = []
        for name, member in self._members.items():
            node, hello = self._cluster.nodes[name], member.hello
            note = self._cluster.aside.get(name, "")
            states.append(NodeState(
                name, node.cores, node.cores - node.free_cores, node.gpus, member.load, hello.memory_bytes,
                member.used_bytes, note,
            ))  # fmt: skip
        return (*states, *(NodeState(name, 0, note=reason) for name, reason in self._lost.items()))

    def peek(self, tasks: Sequence[tuple[TaskId, int]]) -> None:
        """Ask the workers what tasks have written so far; of a task in parts, ask the first."""
        for task, attempt in tasks:
            run = self._wide.get(task)
            left = [name for name, part in run.parts.items() if part is None] if run else []
            name = left[0] if left else self._at.get(task, "")
            if name in self._members:
                member = self._dirty[name] = self._members[name]
                member.peek.append((task, attempt))

    def leave(self) -> None:
        """Dismiss the workers."""
        for member in self._members.values():
            self._send(member.identity, Dismissed(member.hello.birth, "told"))
        self._starter.wait(_LEAVE_S)

    def close(self) -> None:
        """Stop listening, and end the workers that are left."""
        try:
            self._path.with_name(OVER).touch()
            self._path.unlink(missing_ok=True)
        except OSError as error:  # workers that start late will look for the agent in vain
            _log.warning("cannot note in %s that the pilot has ended: %s", self._path.parent, error.strerror)
        self._starter.stop()
        self._door.close()
        self._desk.close()

    # -- the workers' side ------------------------------------------------------------------------------------

    def _hear(self, now: float) -> None:
        self._door.look()
        while heard := self._door.receive():
            identity, parts = heard
            try:
                self._hear_one(identity, decode(parts), now)
            except ProtocolError as error:
                _log.warning("from a worker: %s", error)

    def _hear_one(self, identity: bytes, message: Message, now: float) -> None:
        if isinstance(message, WorkerReady):
            self._welcome(identity, message, now)
            return
        member = self._by_identity.get(identity)
        if member is None or message.birth != member.hello.birth:
            self._send(identity, Dismissed(message.birth, "it was given up"))
        elif isinstance(message, WorkerLeaves):
            self._lose(member.hello.name, f"its worker has left: {message.reason}", now)
        elif isinstance(message, Numbered):
            member.heard_at = now
            if message.number:
                member.owes = True
                self._dirty[member.hello.name] = member
            else:
                member.load, member.used_bytes = message.load, message.memory_used_bytes
            up = member.line.hear(message, now)
            if up is not None:
                self._take(member, up, now)

    def _welcome(self, identity: bytes, hello: WorkerReady, now: float) -> None:
        there = self._members.get(hello.name)
        if hello.birth in self._gone:
            self._send(identity, Dismissed(hello.birth, "it was given up"))
            return
        if there is None or there.hello.birth != hello.birth:
            if there is not None:
                self._lose(hello.name, "its worker died and was started again", now)
            member = self._members[hello.name] = self._by_identity[identity] = Member(
                identity, hello, now, self._beat_s
            )
            self._lost.pop(hello.name, None)
            _log.info("node %s has joined: %d cores, %d GPUs", hello.name, len(hello.cores), hello.gpus)
            node = Node(hello.cores, hello.gpus, hello.memory_bytes, self._named, hello.name)
            self._send(member.identity, Accepted(hello.birth))
            self._agent.tell(c.NodeJoined(node), now)
        else:
            self._send(identity, Accepted(hello.birth))

    def _take(self, member: Member, up: ToAgent, now: float) -> None:
        name = member.hello.name
        over = []
        for ask in up.asks:
            member.parts.append(self._desk.part(ask))
        for put in up.puts:
            member.taken.append(self._desk.take(member.hello.birth, put))
        for result in up.results:
            run = self._wide.get(result.task)
            if run is not None and run.start.claimed.attempt == result.attempt:
                self._take_part(run, name, result, now)
            elif self._at.get(result.task) == name:
                del self._at[result.task]
                over.append(result)
        if over:
            self._agent.ended_many(over, now)
        for task, attempt, slot in up.begun:
            if self._at.get(task) == name:
                self._agent.started(task, attempt, name, slot, now)
        unbegun = tuple([(task, attempt) for task, attempt in up.unbegun if self._at.get(task) == name])
        if unbegun:
            for task, _ in unbegun:
                del self._at[task]
            self._agent.tell(c.Unbegun(unbegun), now)
        for task, attempt in up.no_room:
            run = self._wide.get(task)
            if run is not None:
                run.no_room = True
                self._take_part(run, name, _failed(run.start, name, "no room"), now)
            elif self._at.get(task) == name:
                del self._at[task]
                self._agent.tell(c.NoRoom(task, attempt), now)
        if up.unfit:
            _log.error("node %s: %s", name, up.unfit)
            self._agent.tell(c.NodeUnfit(name, up.unfit), now)
        self._agent.written(up.written)

    def _take_part(self, run: WideRun, name: str, part: Result, now: float) -> None:
        if name not in run.parts:
            return
        run.parts[name] = part
        claimed = run.start.claimed
        if part.cause is not Cause.EXIT or part.exit_code:  # its other parts are of no use any more
            grace_s = run.start.resources.grace_s if part.cause in _TOLD_TO_END else 0.0
            self.stop(c.Stop(claimed.task, claimed.attempt, part.cause, grace_s), now)
        if None not in run.parts.values() and claimed.task not in self._over:
            self._over.append(claimed.task)

    def _close_wide(self, task: TaskId, now: float) -> None:
        run = self._wide.pop(task, None)
        if run is None:
            return
        claimed = run.start.claimed
        if run.no_room:
            self._agent.tell(c.NoRoom(task, claimed.attempt), now)
            return
        parts = [part for part in run.parts.values() if part is not None]
        if run.lost:
            parts.append(Result(
                task, claimed.attempt, Cause.NODE_LOST, started_at=time.time(), message=run.lost
            ))  # fmt: skip
        self._agent.ended(mpi.merge(parts, run.node, run.slot), now)

    def _lose(self, name: str, reason: str, now: float) -> None:
        member = self._members.pop(name)
        del self._by_identity[member.identity]
        self._dirty.pop(name, None)
        self._gone.add(member.hello.birth)
        self._desk.forget(member.hello.birth)
        self._lost[name] = reason
        _log.warning("node %s is lost: %s", name, reason)
        for run in self._wide.values():
            if run.parts.get(name, run) is None:
                del run.parts[name]
                run.lost = reason
        self._send(member.identity, Dismissed(member.hello.birth, reason))
        self._agent.tell(c.NodeLost(name, reason), now)

    def _say(self, now: float) -> None:
        dirty, self._dirty = self._dirty, {}
        for member in dirty.values():
            message = member.to_say(now)
            if message is not None:
                self._send(member.identity, message)

    def _check(self, now: float) -> None:
        lost_s = self._contact.lost_s
        for name, member in list(self._members.items()):
            if now - member.heard_at > lost_s:
                self._lose(name, f"no sign of life for {lost_s:g} s", now)
                continue
            for said in member.line.again(now):
                self._send(member.identity, said)
            beat = member.sign_of_life(now)
            if beat is not None:
                self._send(member.identity, beat)
        ended = self._starter.poll(now)
        if ended and not self._members and not self._none_left:
            self._none_left = True
            _log.error("no node is left: %s", ended)
            self._agent.tell(c.NoMoreNodes(ended), now)

    def _send(self, identity: bytes, message: Accepted | Dismissed | Numbered) -> None:
        self._door.send(identity, encode(message))


def _failed(start: c.Start, node: str, text: str) -> Result:
    claimed = start.claimed
    return Result(claimed.task, claimed.attempt, Cause.LAUNCH_ERROR, node=node, started_at=time.time(), message=text)
