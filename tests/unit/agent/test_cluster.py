"""Packing over nodes, and the agent's decisions about many of them."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pilotmtc.agent.core.cluster import Cluster
from pilotmtc.agent.core.core import Core
from pilotmtc.agent.core.events import (
    AskForTasks,
    Attached,
    BatchReceived,
    Command,
    Ended,
    GiveBack,
    Leave,
    NodeJoined,
    NodeLost,
    NoMoreNodes,
    NoRoom,
    Report,
    Start,
    Stop,
    Tick,
)
from pilotmtc.model import CampaignId, Claimed, Resources, TaskId, Template
from pilotmtc.protocol.agent import Batch
from pilotmtc.resources.amounts import Need
from pilotmtc.resources.slots import Node, Slot
from pilotmtc.states import Cause, PilotState

TEMPLATE = Template(("true",))


def node(number: int, cores: int = 4, gpus: int = 0, memory: int = 0) -> Node:
    return Node(range(cores), gpus, memory, name=f"n{number}")


def need(cores: int = 1, ranks: int = 1, per_node: int = 0, gpus: float = 0.0, memory: int = 0) -> Need:
    return Need.of(Resources(cores=cores, ranks=ranks, ranks_per_node=per_node, gpus=gpus, memory_bytes=memory))


def where(slots: tuple[Slot, ...] | None) -> list[str]:
    assert slots is not None
    return [slot.node for slot in slots]


def test_small_tasks_fill_the_first_nodes_and_leave_the_last_free() -> None:
    cluster = Cluster(node(number) for number in range(3))
    assert [where(cluster.take(need()))[0] for _ in range(5)] == ["n0"] * 4 + ["n1"]
    assert where(cluster.take(need(4))) == ["n2"]
    assert cluster.take(need(4)) is None
    assert (cluster.free_cores, cluster.busy) == (3, 9)


def test_a_node_is_looked_at_again_when_something_on_it_is_given_back() -> None:
    cluster = Cluster([node(0, memory=10), node(1, memory=10)])
    large = need(memory=8)
    first, second = cluster.take(large), cluster.take(large)
    assert cluster.take(large) is None
    assert first is not None
    assert second is not None
    cluster.give(second, large)
    assert where(cluster.take(large)) == ["n1"]


def test_a_wide_task_takes_few_nodes_and_for_its_rest_the_one_that_fits_best() -> None:
    cluster = Cluster([node(0, 8), node(1, 4), node(2, 2), node(3, 8)])
    assert where(cluster.take(need(ranks=10))) == ["n0"] * 8 + ["n2"] * 2
    assert where(cluster.take(need(ranks=9))) == ["n1"] + ["n3"] * 8


def test_ranks_are_in_the_order_of_their_nodes_names_whatever_the_order_in_which_these_joined() -> None:
    cluster = Cluster(node(number, 2) for number in (10, 9, 2))
    assert where(cluster.take(need(ranks=5))) == ["n2", "n2", "n9", "n9", "n10"]


def test_ranks_per_node_are_kept() -> None:
    cluster = Cluster(node(number) for number in range(3))
    assert where(cluster.take(need(ranks=5, per_node=2))) == ["n0", "n0", "n1", "n1", "n2"]
    assert cluster.take(need(ranks=5, per_node=2)) is not None
    assert cluster.take(need(ranks=3, per_node=2)) is None
    assert not cluster.holds(need(ranks=7, per_node=2))
    assert not cluster.holds(need(cores=2, ranks=3, per_node=3))


def test_ranks_share_gpus_and_memory_of_their_nodes() -> None:
    cluster = Cluster([node(0, 8, gpus=2, memory=100), node(1, 8, gpus=1, memory=100)])
    slots = cluster.take(need(ranks=3, gpus=1, memory=40))
    assert where(slots) == ["n0", "n0", "n1"]
    assert slots is not None
    assert [slot.gpus[0][0] for slot in slots] == [0, 1, 0]
    assert cluster.take(need(ranks=2, gpus=0.5)) is None
    cluster.give(slots, need(ranks=3, gpus=1, memory=40))
    assert where(cluster.take(need(ranks=5, gpus=0.5))) == ["n0"] * 4 + ["n1"]


def test_what_is_kept_is_left_and_the_rest_is_not() -> None:
    cluster = Cluster([node(0), node(1), node(2)])
    slots = [cluster.take(need()) for _ in range(5)]
    assert None not in slots
    wide = need(4, ranks=2)
    hold = cluster.hold(wide)
    assert set(hold.kept) == {"n2", "n1"}
    assert [cluster.take_beside(need(), False) for _ in range(2)] == [None, None]
    in_time = cluster.take_beside(need(), True)
    assert where(in_time) == ["n1"]
    assert cluster.take(wide) is None
    assert slots[0] is not None
    cluster.give(slots[0], need())
    assert where(cluster.take_beside(need(), False)) == ["n0"]


def test_a_node_that_is_set_aside_counts_no_more_and_gives_back_what_it_had() -> None:
    cluster = Cluster([node(0), node(1)])
    slots = cluster.take(need(2))
    cluster.set_aside("n0", "bad")
    assert (cluster.cores, cluster.free_cores, cluster.busy) == (4, 4, 2)
    assert where(cluster.take(need(2))) == ["n1"]
    assert slots is not None
    cluster.give(slots, need(2))
    cluster.wake("n0")
    assert cluster.take(need(3)) is None


def claimed(task: int, resources: int = 1) -> Claimed:
    return Claimed(TaskId(task), 1, 1, resources, (), 0, None, CampaignId(1))


def batch(number: int, tasks: list[Claimed], resources: dict[int, Resources] | None = None) -> BatchReceived:
    return BatchReceived(Batch(number, tuple(tasks), {1: TEMPLATE}, resources or {1: Resources()}))


def starts(commands: list[Command]) -> dict[int, list[str]]:
    return {c.claimed.task: where(c.slots) for c in commands if isinstance(c, Start)}


def asked(commands: list[Command]) -> AskForTasks:
    (ask,) = [command for command in commands if isinstance(command, AskForTasks)]
    return ask


def many(nodes: int, cores: int = 4, expected: int = 0) -> tuple[Core, AskForTasks]:
    core = Core(Cluster(), 0.0, expected=expected or nodes)
    assert core.react(Attached(), 0.0) == []
    out: list[Command] = []
    for number in range(nodes):
        out += core.react(NodeJoined(node(number, cores)), 0.0)
    ask = asked(out)
    core.react(batch(ask.number, []), 0.0)
    return core, asked(core.react(Tick(), 1.0))


def test_it_begins_with_the_nodes_that_are_there_and_asks_again_soon_while_others_are_to_come() -> None:
    _, ask = many(2, expected=3)
    assert (ask.want.cores, ask.nodes, ask.wait_s) == (8, ((2, Resources(cores=4)),), 2.0)
    _, ask = many(3)
    assert ask.wait_s == 20.0


def test_lost_node_ends_its_tasks_and_stops_wide_ones_everywhere() -> None:
    core, ask = many(2)
    resources = {1: Resources(), 2: Resources(ranks=5)}
    out = core.react(batch(ask.number, [claimed(1), claimed(2, 2), claimed(3)], resources), 1.0)
    assert starts(out) == {1: ["n0"], 2: ["n0"] + ["n1"] * 4, 3: ["n0"]}
    out = core.react(NodeLost("n0", "gone"), 2.0)
    assert [c for c in out if isinstance(c, Report)] == [
        Report(TaskId(1), 1, Cause.NODE_LOST, "gone", "n0"),
        Report(TaskId(3), 1, Cause.NODE_LOST, "gone", "n0"),
    ]
    assert Stop(TaskId(2), 1, Cause.NODE_LOST, 0.0) in out
    assert core.busy == 4
    core.react(NodeJoined(node(0)), 3.0)
    core.react(Ended(TaskId(2), 1), 4.0)
    assert (core.busy, core.cluster.free_cores) == (0, 8)


def test_what_fits_no_more_after_a_loss_goes_back() -> None:
    core, ask = many(2)
    resources = {1: Resources(cores=4), 2: Resources(cores=4, ranks=2)}
    core.react(batch(ask.number, [claimed(1), claimed(2, 2)], resources), 1.0)
    assert GiveBack(((TaskId(2), 1),)) in core.react(NodeLost("n1", "gone"), 2.0)


def test_pilot_whose_last_node_is_lost_leaves_when_none_will_come() -> None:
    core, _ = many(1)
    assert not [c for c in core.react(NodeLost("n0", "gone"), 2.0) if isinstance(c, Leave)]
    assert core.react(NoMoreNodes("all workers have left"), 3.0) == [Leave(PilotState.FAILED, "all workers have left")]


def test_wide_task_is_not_starved_and_small_ones_go_on_beside_it() -> None:
    core, ask = many(3)
    resources = {1: Resources(), 2: Resources(cores=4, ranks=2)}
    out = core.react(batch(ask.number, [claimed(i) for i in range(1, 10)], resources), 1.0)
    assert len(starts(out)) == 9
    ask = asked(out)
    out = core.react(batch(ask.number, [claimed(20, 2), *(claimed(i) for i in range(21, 30))], resources), 1.0)
    assert starts(out) == {}  # n1 and n2 are kept for it, n0 is full
    assert starts(core.react(Ended(TaskId(1), 1), 2.0)) == {21: ["n0"]}
    for task in (5, 6, 7, 8):
        assert starts(core.react(Ended(TaskId(task), 1), 3.0)) == {}
    assert starts(core.react(Ended(TaskId(9), 1), 4.0)) == {20: ["n1", "n2"]}


def test_task_with_a_limit_uses_what_is_kept_as_long_as_the_others_last() -> None:
    core, ask = many(2)
    resources = {1: Resources(time_limit_s=100), 2: Resources(cores=4, ranks=2), 3: Resources(time_limit_s=50)}
    resources[4] = Resources(time_limit_s=200)
    out = core.react(batch(ask.number, [claimed(1), claimed(2, 2)], resources), 1.0)
    assert starts(out) == {1: ["n0"]}
    ask = asked(out)
    assert (ask.backfill, ask.within_s, ask.want.cores) == (True, 100.0, 7)
    out = core.react(batch(ask.number, [claimed(3, 3), claimed(4, 4)], resources), 2.0)
    assert starts(out) == {3: ["n0"]}
    core.react(Ended(TaskId(1), 1), 3.0)
    assert starts(core.react(Ended(TaskId(3), 1), 4.0)) == {2: ["n0", "n1"]}


def test_node_that_kills_tasks_is_set_aside_only_when_others_are_well() -> None:
    core, ask = many(2)
    task = 0
    out: list[Command] = []
    for crashes, well in ((12, 0), (0, 12)):
        for _ in range(max(crashes, well)):
            task += 2
            both = [claimed(task), claimed(task + 1, 2)]
            out = core.react(batch(ask.number, both, {1: Resources(), 2: Resources(cores=4)}), 1.0)
            out += core.react(Ended(TaskId(task), 1, crashed=True), 1.0)
            out += core.react(Ended(TaskId(task + 1), 1, crashed=bool(crashes)), 1.0)
            ask = asked(out)
            if core.cluster.aside:
                break
    assert set(core.cluster.aside) == {"n0"}
    assert core.cluster.kinds == ()


def test_rooms_are_as_many_as_the_scarcest_allows() -> None:
    cluster = Cluster([node(number, gpus=1, memory=100) for number in range(2)])
    assert cluster.rooms(Need.of(Resources())) == 8
    assert cluster.rooms(Need.of(Resources(cores=3))) == 2
    assert cluster.rooms(Need.of(Resources(gpus=0.5))) == 4
    assert cluster.rooms(Need.of(Resources(memory_bytes=60))) == 3
    assert cluster.rooms(Need.of(Resources(named={"licence": 1.0}))) == 0
    cluster.take(Need.of(Resources(cores=3)))
    assert cluster.rooms(Need.of(Resources())) == 5


class ManyNodes(RuleBasedStateMachine):
    """Nodes come and go, tasks of all widths run; the books are compared with what was said."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.core = Core(Cluster(), 0.0, expected=4)
        self.resources = {
            1: Resources(),
            2: Resources(cores=4),
            3: Resources(ranks=6),
            4: Resources(cores=2, ranks=4, ranks_per_node=1),
            5: Resources(gpus=0.5, memory_bytes=40),
            6: Resources(gpus=1.0, ranks=3),
            7: Resources(time_limit_s=30.0),
            8: Resources(memory_bytes=60, ranks=2),
        }
        self.next_task = 1
        self.held: set[TaskId] = set()
        self.started: dict[TaskId, Start] = {}
        self.lost: dict[TaskId, set[str]] = {}
        self.stopped: set[TaskId] = set()
        self.asked: AskForTasks | None = None
        self.born: dict[str, int] = {}
        self.do(self.core.react(Attached(), 0.0))

    def do(self, commands: list[Command]) -> None:
        for command in commands:
            if isinstance(command, Start):
                task = command.claimed.task
                assert task in self.held
                assert task not in self.started, "started twice"
                want = self.resources[command.claimed.resources]
                assert len(command.slots) == want.ranks
                assert all(
                    len(slot.cores) == want.cores and slot.node in self.core.cluster.nodes for slot in command.slots
                )
                if want.ranks_per_node:
                    names = [slot.node for slot in command.slots]
                    assert max(names.count(name) for name in names) <= want.ranks_per_node
                self.started[task] = command
                self.lost[task] = set()
            elif isinstance(command, GiveBack):
                for task, _ in command.tasks:
                    self.held.remove(task)
                    self.started.pop(task, None)
            elif isinstance(command, Report):
                assert command.cause is Cause.NODE_LOST
                self.held.remove(command.task)
                assert len(self.started.pop(command.task).slots) == 1
            elif isinstance(command, Stop):
                assert len(self.started[command.task].slots) > 1
                self.stopped.add(command.task)
            elif isinstance(command, AskForTasks):
                assert self.asked is None
                self.asked = command
            else:
                raise AssertionError(command)

    @rule(number=st.integers(0, 3), cores=st.sampled_from([4, 4, 6]))
    def join(self, number: int, cores: int) -> None:
        if f"n{number}" not in self.core.cluster.nodes:
            self.do(self.core.react(NodeJoined(node(number, cores, gpus=1, memory=100)), self.now))

    @rule(number=st.integers(0, 3))
    def lose(self, number: int) -> None:
        name = f"n{number}"
        on = {
            task
            for task, start in self.started.items()
            if name in {slot.node for slot in start.slots} - self.lost[task]
        }
        there = name in self.core.cluster.nodes
        for task in on:
            self.lost[task].add(name)
        self.do(self.core.react(NodeLost(name, "gone"), self.now))
        if there:
            assert all(task not in self.started or task in self.stopped for task in on)

    @rule(number=st.integers(0, 3))
    def blame(self, number: int) -> None:
        name = f"n{number}"
        if name in self.core.cluster.nodes and name not in self.core.cluster.aside and number == 3:
            self.core.cluster.set_aside(name, "bad")
            self.core.starter.blocked = None
            self.core.queue.refit()

    @precondition(lambda self: self.asked is not None)
    @rule(kinds=st.lists(st.integers(1, 8), max_size=8))
    def answer(self, kinds: list[int]) -> None:
        assert self.asked is not None
        tasks = []
        for kind in kinds[: self.asked.limit]:
            tasks.append(claimed(self.next_task, kind))
            self.held.add(TaskId(self.next_task))
            self.next_task += 1
        number, self.asked = self.asked.number, None
        self.do(self.core.react(batch(number, tasks, self.resources), self.now))

    @precondition(lambda self: self.started)
    @rule(data=st.data(), how=st.sampled_from(["well", "well", "crashed", "no room"]))
    def end(self, data: st.DataObject, how: str) -> None:
        task = data.draw(st.sampled_from(sorted(self.started)))
        if how == "no room":
            self.do(self.core.react(NoRoom(task, 1), self.now))
            return
        del self.started[task]
        self.held.remove(task)
        self.do(self.core.react(Ended(task, 1, how == "crashed"), self.now))

    @rule(seconds=st.sampled_from([0.0, 0.06, 1.0, 30.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.do(self.core.react(Tick(), self.now))

    @invariant()
    def nothing_is_given_twice_and_sums_are_right(self) -> None:
        cluster = self.core.cluster
        taken: dict[str, list[int]] = {name: [] for name in cluster.nodes}
        memory = dict.fromkeys(cluster.nodes, 0)
        gpus = dict.fromkeys(cluster.nodes, 0)
        for task, start in self.started.items():
            for slot in start.slots:
                if slot.node not in self.lost[task]:
                    taken[slot.node] += slot.cores
                    memory[slot.node] += slot.memory
                    gpus[slot.node] += sum(share for _, share in slot.gpus)
        for name, one in cluster.nodes.items():
            assert len(taken[name]) == len(set(taken[name]))
            assert one.free_cores == one.cores - len(taken[name])
            assert one.free_memory == one.memory - memory[name]
            assert one.free_gpus == one.gpus * 1_000_000 - gpus[name]
        usable = [place.node for place in cluster._places.values() if place.open]
        assert cluster.busy == sum(map(len, taken.values()))
        assert cluster.free_cores == sum(one.free_cores for one in usable)
        assert cluster.free_memory == sum(one.free_memory for one in usable)
        assert cluster.free_gpus == sum(one.free_gpus for one in usable)

    @invariant()
    def what_is_held_is_queued_or_running(self) -> None:
        assert set(self.core.running) == set(self.started)
        assert set(self.core.queue.tasks) == self.held - set(self.started)

    @invariant()
    def the_best_task_waits_only_for_room(self) -> None:
        fitting = [queued for queued in self.core.queue.tasks.values() if queued.group.fits]
        assert len(fitting) == len(self.core.queue.tasks) or self.core.cluster.aside
        if fitting and len(fitting) == len(self.core.queue.tasks) and self.now >= self.core._hold_until:
            best = min(fitting, key=lambda queued: (-queued.claimed.priority, queued.claimed.task))
            wanted, cluster = best.group.need, self.core.cluster
            slots = cluster._take_wide(wanted, None) if wanted.ranks > 1 else cluster.take(wanted)
            assert slots is None, "the best task fits and does not run"

    @invariant()
    def the_claim_says_what_there_is(self) -> None:
        kinds = self.core.cluster.kinds or ((1, self.core.cluster.total),)
        assert sum(count * shape.cores for count, shape in kinds) == self.core.cluster.cores
        assert not math.isnan(self.core.cluster.total.gpus)


ManyNodes.TestCase.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
TestManyNodes = ManyNodes.TestCase


@given(st.lists(st.tuples(st.sampled_from("+++-x"), st.integers(0, 5), st.integers(1, 2)), max_size=30))
def test_nodes_together_are_counted_as_if_all_were_looked_at(steps: list[tuple[str, int, int]]) -> None:
    """It takes one step for each node that joins, and so must not go wrong over thousands of them."""
    cluster = Cluster()
    for step, number, cores in steps:
        name = f"n{number}"
        if step == "+" and name not in cluster.nodes:
            cluster.add(node(number, cores, gpus=cores - 1))
        elif step == "-" and name in cluster.nodes:
            cluster.remove(name)
        elif step == "x" and name in cluster.nodes and name not in cluster.aside:
            cluster.set_aside(name, "it is slow")
    there = [one for name, one in cluster.nodes.items() if name not in cluster.aside]
    fresh = Cluster(there)
    assert sorted(cluster.kinds, key=repr) == sorted(fresh.kinds, key=repr)
    assert (cluster.cores, cluster.gpus) == (fresh.cores, fresh.gpus)
    assert all(cluster.holds(Need.of(need)) == fresh.holds(Need.of(need)) for need in NEEDS)
    if there:
        assert cluster.total == fresh.total


NEEDS = [Resources(), Resources(cores=2), Resources(gpus=1), Resources(ranks=3), Resources(cores=2, ranks=4)]
