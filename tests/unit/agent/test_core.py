"""The agent's decisions."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec import structs

from pilotmtc.agent.core.cluster import Cluster
from pilotmtc.agent.core.core import CLAIM_WAIT_BLOCKED_S, Core
from pilotmtc.agent.core.events import (
    Answered,
    AskForTasks,
    Attached,
    BatchReceived,
    Command,
    Drain,
    Ended,
    Event,
    GiveBack,
    GivenUp,
    Leave,
    NodeJoined,
    NodeLost,
    NodeUnfit,
    NoRoom,
    OrdersReceived,
    Quit,
    Report,
    ResultsOwed,
    Start,
    Stop,
    TermReceived,
    Tick,
    Unbegun,
    ValuesCame,
    ValuesMissing,
)
from pilotmtc.agent.core.paces import BATCH_BYTES, BATCH_MAX
from pilotmtc.model import Call, CampaignId, Claimed, Function, Resources, TaskId, Template, Value
from pilotmtc.protocol.agent import Batch, Orders
from pilotmtc.resources.slots import Node
from pilotmtc.states import Cause, PilotState

TEMPLATE = Template(("true",))
CALLS = {n: Template(("work({args})",), fields=("args",), function=Function("work", "c0de")) for n in (2, 3)}
QUICK_S = 1e-5


def claimed(task: int, resources: int = 1, priority: int = 0, attempt: int = 1, template: int = 1) -> Claimed:
    return Claimed(TaskId(task), attempt, template, resources, (), priority, None, CampaignId(1))


def call(task: int, resources: int = 1, priority: int = 0, *, template: int = 2, args: bytes = b"x") -> Claimed:
    return structs.replace(claimed(task, resources, priority, template=template), call=Call(Value(args)))


def batch(number: int, tasks: list[Claimed], resources: dict[int, Resources] | None = None) -> BatchReceived:
    return BatchReceived(Batch(number, tuple(tasks), {1: TEMPLATE, **CALLS}, resources or {1: Resources()}))


def attached(cores: int = 2, walltime_s: float = 0.0, idle_s: float = 0.0) -> tuple[Core, AskForTasks]:
    core = Core(Cluster([Node(range(cores))]), 0.0, walltime_s, idle_s)
    (ask,) = core.react(Attached(), 0.0)
    assert isinstance(ask, AskForTasks)
    return core, ask


def starts(commands: list[Command]) -> list[int]:
    return [command.claimed.task for command in commands if isinstance(command, Start)]


AMOUNTS = st.floats() | st.sampled_from([0.0, 5e-324, 1e-7, 4.9e-7, 1e-6, 0.1, 1 / 3, 1.0, 1.5, 1e300])


@given(
    st.builds(
        Resources,
        cores=st.integers(0, 2**63),
        gpus=AMOUNTS,
        memory_bytes=st.integers(0, 2**63),
        named=st.dictionaries(st.sampled_from(["lic", "other"]), AMOUNTS),
        time_limit_s=AMOUNTS,
        expected_s=AMOUNTS,
        ranks=st.integers(1, 2**63),
        ranks_per_node=st.integers(0, 2**63),
    )
)
def test_what_a_task_asks_for_hinders_no_other_task(odd: Resources) -> None:
    nodes = [Node(range(4), gpus=2, memory=100, named={"lic": 2.0}, name=name) for name in "ab"]
    core = Core(Cluster(nodes), 0.0)
    (ask,) = core.react(Attached(), 0.0)
    assert isinstance(ask, AskForTasks)
    given_ = batch(ask.number, [claimed(1, 2), claimed(2), claimed(3)], {1: Resources(), 2: odd})
    first = core.react(given_, 1.0)
    out = [*first, *core.react(Ended(TaskId(1), 1), 2.0), *core.react(Tick(), 3.0)]
    assert {2, 3} <= set(starts(out))
    core.react(Quit(PilotState.DONE, "over"), 4.0)


def test_needs_that_cannot_be_counted_end_their_task() -> None:
    core, ask = attached()
    out = core.react(
        batch(ask.number, [claimed(1, 2), claimed(2)], {1: Resources(), 2: Resources(gpus=float("nan"))}), 1
    )
    (report,) = [command for command in out if isinstance(command, Report)]
    assert (report.task, report.cause) == (1, Cause.LAUNCH_ERROR)
    assert report.message.startswith("what it needs cannot be counted: ")
    assert starts(out) == [2]


def test_a_node_that_is_unfit_is_set_aside_and_a_pilot_of_such_nodes_drains() -> None:
    core = Core(Cluster([Node(range(2), name=name) for name in "ab"]), 0.0, expected=2)
    (ask,) = core.react(Attached(), 0.0)
    assert isinstance(ask, AskForTasks)
    core.react(NodeUnfit("a", "its disk is gone"), 1.0)
    core.react(NodeUnfit("nobody", "left meanwhile"), 1.0)
    out = core.react(batch(ask.number, [claimed(1), claimed(2), claimed(3)]), 2.0)
    assert [command.slots[0].node for command in out if isinstance(command, Start)] == ["b", "b"]
    (back,) = core.react(NodeUnfit("b", "its disk is gone"), 3.0)
    assert isinstance(back, GiveBack)
    assert core.draining
    core.react(Ended(TaskId(1), 1), 4.0)
    (leave,) = core.react(Ended(TaskId(2), 1), 4.0)
    assert leave == Leave(PilotState.FAILED, "node b cannot run tasks: its disk is gone")


def test_a_pilot_whose_other_nodes_are_still_to_come_waits_for_them() -> None:
    core = Core(Cluster([Node(range(2), name="a")]), 0.0, expected=2)
    core.react(Attached(), 0.0)
    core.react(NodeUnfit("a", "its disk is gone"), 1.0)
    assert not core.draining
    core.react(NodeJoined(Node(range(2), name="b")), 2.0)
    assert not core.draining
    core.react(NodeUnfit("b", "its disk is gone"), 3.0)
    assert core.draining


def test_nothing_is_claimed_before_the_store_knows_the_pilot() -> None:
    core = Core(Cluster([Node(range(2))]), 0.0)
    assert core.react(Tick(), 0.0) == []


def test_first_claim_asks_for_what_is_free() -> None:
    _, ask = attached(3)
    assert (ask.number, ask.want.cores, ask.limit, ask.backfill) == (1, 3, 3, False)


def test_given_up_pilot_keeps_what_runs_and_asks_anew_when_it_is_back() -> None:
    core, ask = attached(1)
    out = core.react(batch(ask.number, [claimed(1), claimed(2)]), 0.0)
    assert starts(out) == [1]
    assert core.react(GivenUp(), 1.0) == []
    assert core.react(Ended(TaskId(1), 1), 2.0) == []  # task 2 is the store's again
    (again,) = core.react(Attached(), 3.0)
    assert isinstance(again, AskForTasks)
    assert again.number > ask.number


def test_nothing_is_started_or_claimed_while_the_store_has_to_take_results() -> None:
    core, ask = attached(1)
    core.react(ResultsOwed(True), 0.0)
    assert core.react(batch(ask.number, [claimed(1)]), 0.0) == []
    assert core.react(Tick(), 1.0) == []
    assert starts(core.react(ResultsOwed(False), 2.0)) == [1]


def test_tasks_start_by_priority_then_order() -> None:
    core, ask = attached(2)
    out = core.react(batch(ask.number, [claimed(1), claimed(2), claimed(3, priority=5)]), 0.0)
    assert starts(out) == [3, 1]
    assert starts(core.react(Ended(TaskId(3), 1), 1.0)) == [2]


def test_one_claim_is_under_way_at_a_time() -> None:
    core, ask = attached(2)
    assert core.react(Tick(), 1.0) == []
    (again,) = core.react(batch(ask.number, []), 2.0)
    assert isinstance(again, AskForTasks)
    assert again.number == 2


def test_a_server_that_answers_at_once_with_nothing_is_not_asked_without_a_pause() -> None:
    core, ask = attached(2)
    assert core.react(batch(ask.number, []), 0.01) == []
    (again,) = core.react(Tick(), 0.1)
    assert isinstance(again, AskForTasks)


def test_an_answer_that_comes_twice_starts_nothing_twice() -> None:
    core, ask = attached(2)
    assert starts(core.react(batch(ask.number, [claimed(1)]), 0.0)) == [1]
    assert starts(core.react(batch(ask.number, [claimed(1)]), 0.0)) == []


def test_quick_tasks_are_claimed_ahead_and_slow_ones_are_not() -> None:
    core, ask = attached(1)
    now, most = 0.0, 0
    for task in range(1, 201):
        core.react(batch(ask.number, [claimed(task)]), now)
        now += 0.001
        for command in core.react(Ended(TaskId(task), 1), now):
            if isinstance(command, AskForTasks):
                ask = command
                most = max(most, command.limit)
    assert 50 <= most <= 400
    assert core.rates.backlog(now + 100) == 0


def test_a_task_without_room_goes_back_uncharged_and_nothing_starts_for_a_moment() -> None:
    core, ask = attached(2)
    assert starts(core.react(batch(ask.number, [claimed(1), claimed(2), claimed(3)]), 0.0)) == [1, 2]
    assert core.react(NoRoom(TaskId(2), 1), 0.0) == [GiveBack(((TaskId(2), 1),))]
    assert starts(core.react(Tick(), 0.5)) == []
    assert starts(core.react(Tick(), 1.0)) == [3]


def test_cancel_stops_a_running_task_once_and_reports_a_queued_one() -> None:
    core, ask = attached(1)
    core.react(batch(ask.number, [claimed(1), claimed(2)]), 0.0)
    orders = OrdersReceived(Orders(1, 60.0, cancel=((TaskId(1), 1), (TaskId(2), 1), (TaskId(9), 1))))
    stop, report = core.react(orders, 1.0)[:2]
    assert stop == Stop(TaskId(1), 1, Cause.CANCELED, 5.0)
    assert isinstance(report, Report)
    assert (report.task, report.cause) == (2, Cause.CANCELED)
    assert core.react(orders, 2.0) == []


def test_cancel_of_an_older_attempt_is_ignored() -> None:
    core, ask = attached(1)
    core.react(batch(ask.number, [claimed(1, attempt=2)]), 0.0)
    assert not [
        c for c in core.react(OrdersReceived(Orders(1, 60.0, cancel=((TaskId(1), 1),))), 1.0) if isinstance(c, Stop)
    ]


def test_drain_gives_back_the_queue_and_leaves_when_the_rest_has_ended() -> None:
    core, ask = attached(1)
    core.react(batch(ask.number, [claimed(1), claimed(2)]), 0.0)
    assert core.react(Drain("asked"), 1.0) == [GiveBack(((TaskId(2), 1),))]
    assert core.react(Ended(TaskId(1), 1), 2.0) == [Leave(PilotState.DONE, "asked")]
    assert core.react(Tick(), 3.0) == []


def test_tasks_that_come_after_the_drain_go_back() -> None:
    core, ask = attached(1)
    assert core.react(Drain("asked"), 0.0) == [Leave(PilotState.DONE, "asked")]
    assert core.react(batch(ask.number, [claimed(1)]), 1.0) == [GiveBack(((TaskId(1), 1),))]


def test_kill_stops_all_and_gives_back() -> None:
    core, ask = attached(1)
    core.react(batch(ask.number, [claimed(1), claimed(2)]), 0.0)
    back, stop = core.react(Quit(PilotState.CANCELED, "x"), 1.0)
    assert back == GiveBack(((TaskId(2), 1),))
    assert stop == Stop(TaskId(1), 1, Cause.PREEMPTED, 0.0)
    assert core.react(Ended(TaskId(1), 1), 2.0) == [Leave(PilotState.CANCELED, "x")]


def test_idle_pilot_leaves() -> None:
    core, ask = attached(1, idle_s=10.0)
    core.react(batch(ask.number, [claimed(1)]), 8.0)
    core.react(Ended(TaskId(1), 1), 15.0)
    (again,) = core.react(batch(2, []), 24.0) or core.react(Tick(), 24.1)
    assert isinstance(again, AskForTasks)
    assert again.wait_s <= 10.0
    assert not [c for c in core.react(Tick(), 24.9) if isinstance(c, Leave)]
    core.react(batch(again.number, []), 25.0)
    assert core.react(Tick(), 25.0) == [Leave(PilotState.DONE, "idle")]


def test_pilot_whose_tasks_wait_for_units_of_a_limit_is_not_idle() -> None:
    core, ask = attached(1, idle_s=10.0)
    for at in (5.0, 15.0, 25.0):
        (ask,) = [
            c for c in core.react(BatchReceived(Batch(ask.number, limited=True)), at) if isinstance(c, AskForTasks)
        ]
    core.react(batch(ask.number, []), 30.0)
    assert not [c for c in core.react(Tick(), 30.1) if isinstance(c, Leave)]
    core.react(batch(ask.number + 1, []), 35.0)
    assert core.react(Tick(), 35.0) == [Leave(PilotState.DONE, "idle")]


def test_pilot_that_hears_nothing_from_the_store_is_not_idle() -> None:
    core, ask = attached(1, idle_s=10.0)
    assert core.react(Tick(), 600.0) == []
    core.react(batch(ask.number, [claimed(1)]), 601.0)
    core.react(Ended(TaskId(1), 1), 602.0)
    assert core.react(Tick(), 700.0) == []


def test_walltime_stops_what_runs_and_starts_nothing_too_long() -> None:
    core, ask = attached(1, walltime_s=100.0)
    assert ask.time_left_s == 90.0
    limited = {1: Resources(time_limit_s=50.0)}
    out = core.react(batch(ask.number, [claimed(1)], limited), 60.0)
    assert GiveBack(((TaskId(1), 1),)) in out
    (ask,) = [c for c in out if isinstance(c, AskForTasks)]
    core.react(batch(ask.number, [claimed(2)], {2: Resources()} | limited), 61.0)
    core = Core(Cluster([Node(range(1))]), 0.0, 100.0)
    core.react(Attached(), 0.0)
    core.react(batch(1, [claimed(2)]), 61.0)
    assert Stop(TaskId(2), 1, Cause.WALLTIME, 5.0) in core.react(Tick(), 90.0)
    assert core.react(Ended(TaskId(2), 1), 91.0) == [Leave(PilotState.DONE, "walltime")]


def test_task_with_a_longer_grace_is_told_earlier_that_the_walltime_ends() -> None:
    core, ask = attached(3, walltime_s=100.0)
    resources = {1: Resources(), 2: Resources(grace_s=35.0), 3: Resources(grace_s=35.0, time_limit_s=60.0)}
    out = core.react(batch(ask.number, [claimed(1), claimed(2, 2), claimed(3, 3)], resources), 30.0)
    assert starts(out) == [1, 2]  # the third would have no time for its grace
    assert not [c for c in core.react(Tick(), 59.0) if isinstance(c, Stop)]
    assert [c for c in core.react(Tick(), 60.0) if isinstance(c, Stop)] == [Stop(TaskId(2), 1, Cause.WALLTIME, 35.0)]
    assert [c for c in core.react(Tick(), 90.0) if isinstance(c, Stop)] == [Stop(TaskId(1), 1, Cause.WALLTIME, 5.0)]


@pytest.mark.parametrize(("event", "graces"), [
    (OrdersReceived(Orders(1, 60.0, kill=True)), [5.0, 35.0, 0.0]),
    (OrdersReceived(Orders(1, 60.0, cancel=((TaskId(1), 1), (TaskId(2), 1), (TaskId(3), 1)))), [5.0, 35.0, 0.0]),
    (Quit(PilotState.FAILED, "its guard was killed"), [0.0, 0.0, 0.0]),
])  # fmt: skip
def test_tasks_have_their_own_grace_unless_there_is_no_time(event: Event, graces: list[float]) -> None:
    core, ask = attached(3)
    resources = {1: Resources(), 2: Resources(grace_s=35.0), 3: Resources(grace_s=0.0)}
    core.react(batch(ask.number, [claimed(n, n) for n in (1, 2, 3)], resources), 0.0)
    assert [c.grace_s for c in core.react(event, 1.0) if isinstance(c, Stop)] == graces


def test_pilot_that_was_warned_of_its_end_still_says_that_it_was_the_walltime() -> None:
    core = Core(Cluster([Node(range(1))]), 0.0, 100.0)
    core.react(Attached(), 0.0)
    core.react(batch(1, [claimed(2)]), 61.0)
    core.react(Drain("terminated"), 80.0)
    assert Stop(TaskId(2), 1, Cause.WALLTIME, 5.0) in core.react(Tick(), 90.0)
    assert core.react(Ended(TaskId(2), 1), 91.0) == [Leave(PilotState.DONE, "walltime")]


def test_warning_that_comes_early_waits_for_its_time() -> None:
    """SLURM warns up to a minute early: a pilot of a minute would not last a half."""
    core = Core(Cluster([Node(range(1))]), 0.0, 100.0, warning_s=20.0)
    (ask,) = core.react(Attached(), 0.0)
    assert isinstance(ask, AskForTasks)
    assert core.react(TermReceived(), 25.0) == []
    assert core.warned
    assert not core.draining
    core.react(batch(1, [claimed(2)]), 61.0)
    core.react(Ended(TaskId(2), 1), 62.0)
    assert core.react(Tick(), 79.9) == []
    assert core.react(Tick(), 80.0) == [Leave(PilotState.DONE, "walltime")]


@pytest.mark.parametrize(
    ("warning_s", "at", "reason"),
    [(20.0, 1900.0, "terminated"), (20.0, 1981.0, "walltime"), (0.0, 1981.0, "terminated")],
)
def test_term_is_taken_for_the_warning_only_where_one_may_come(warning_s: float, at: float, reason: str) -> None:
    core = Core(Cluster([Node(range(1))]), 0.0, 2000.0, warning_s=warning_s)
    core.react(Attached(), 0.0)
    assert core.react(TermReceived(), at) == [Leave(PilotState.DONE, reason)]


def test_wide_task_is_not_starved_by_small_ones() -> None:
    core, ask = attached(4)
    resources = {1: Resources(), 3: Resources(cores=3)}
    out = core.react(batch(ask.number, [claimed(i) for i in range(1, 5)], resources), 0.0)
    assert len(starts(out)) == 4
    out = core.react(Ended(TaskId(1), 1), 100.0)
    (ask,) = [c for c in out if isinstance(c, AskForTasks)]
    out = core.react(batch(ask.number, [claimed(5, 3), *(claimed(i) for i in range(6, 12))], resources), 100.0)
    assert starts(out) == [6]  # beside the wide task there is room for one
    assert starts(core.react(Ended(TaskId(2), 1), 101.0)) == []
    assert starts(core.react(Ended(TaskId(6), 1), 102.0)) == [7]
    assert starts(core.react(Ended(TaskId(3), 1), 103.0)) == []
    assert starts(core.react(Ended(TaskId(4), 1), 104.0)) == [5]


def test_blocked_task_lets_more_small_ones_be_claimed_behind_it() -> None:
    core, ask = attached(4)
    resources = {1: Resources(), 3: Resources(cores=3)}
    out = core.react(batch(ask.number, [claimed(1), claimed(2)], resources), 0.0)
    (ask,) = [c for c in out if isinstance(c, AskForTasks)]
    out = core.react(batch(ask.number, [claimed(5, 3)], resources), 1.0)
    (ask,) = [c for c in out if isinstance(c, AskForTasks)]
    assert ask.backfill
    assert ask.wait_s == CLAIM_WAIT_BLOCKED_S  # it must not stand in the way of one for the room that comes
    assert ask.want.cores == 1


def batches(commands: list[Command]) -> list[list[int]]:
    """Return the tasks of each start."""
    return [
        [command.claimed.task, *(mate.task for mate in command.mates)]
        for command in commands
        if isinstance(command, Start)
    ]


def with_known_pace(cores: int = 1, walltime_s: float = 0.0, resources: dict[int, Resources] | None = None) -> Core:
    """Return a core that knows that the calls of both functions are quick, with nothing running."""
    core, _ = attached(cores, walltime_s)
    for number in range(1, 3 + BATCH_MAX):
        task = 10_000 * number
        core.react(batch(number, [call(task), call(task + 1, template=3)], resources), 0.0)
        core.react_to_ends([Ended(TaskId(task), 1, took_s=QUICK_S), Ended(TaskId(task + 1), 1, took_s=QUICK_S)], 0.0)
        core.react_to_ends([Ended(TaskId(task + 1), 1, took_s=QUICK_S)], 0.0)
    assert not core.running
    return core


def give(
    core: Core, tasks: list[Claimed], resources: dict[int, Resources] | None = None, at: float = 0.0
) -> list[Command]:
    return core.react(batch(core._number, tasks, resources), at)


def test_calls_run_one_by_one_until_it_is_known_how_long_they_take() -> None:
    core, ask = attached(2)
    calls = [call(n) for n in range(1, 101)]
    assert batches(core.react(batch(ask.number, calls), 0.0)) == [[1], [2]]
    assert batches(core.react(Ended(TaskId(1), 1), 0.1)) == [[3]]  # which says nothing of how long it took
    assert batches(core.react(Ended(TaskId(2), 1, took_s=QUICK_S), 0.1)) == [[4, 5, 6, 7]]
    ((*first,),) = batches(core.react(Ended(TaskId(3), 1, took_s=QUICK_S), 0.1))
    assert first == list(range(8, 16))


def test_a_batch_is_five_milliseconds_of_work() -> None:
    core, ask = attached(1)
    core.react(batch(ask.number, [call(n) for n in range(1, 101)]), 0.0)
    assert batches(core.react(Ended(TaskId(1), 1, took_s=0.001), 0.1)) == [[2, 3, 4, 5]]


def test_long_calls_run_one_by_one() -> None:
    core, ask = attached(1)
    core.react(batch(ask.number, [call(n) for n in range(1, 101)]), 0.0)
    for task in range(1, 20):
        assert batches(core.react(Ended(TaskId(task), 1, took_s=0.006), 0.1)) == [[task + 1]]


def test_commands_have_no_mates_however_quick_they_are() -> None:
    core, ask = attached(1)
    core.react(batch(ask.number, [claimed(n) for n in range(1, 101)]), 0.0)
    for task in range(1, 20):
        assert batches(core.react(Ended(TaskId(task), 1, took_s=QUICK_S), 0.1)) == [[task + 1]]


def test_free_slots_share_what_is_queued() -> None:
    core = with_known_pace(4)
    assert batches(give(core, [call(n) for n in range(1, 11)])) == [[1, 2, 3], [4, 5, 6], [7, 8], [9, 10]]


def test_a_batch_has_calls_of_one_function_and_priority_and_one_kind_of_resources() -> None:
    core = with_known_pace()
    tasks = [
        call(1), call(2, template=3), call(3), claimed(4), call(5, priority=1), call(6, 2), call(7),
        call(8, priority=-1),
    ]  # fmt: skip
    resources = {1: Resources(), 2: Resources(memory_bytes=1)}
    assert batches(give(core, tasks, resources)) == [[5]]
    assert batches(core.react(Ended(TaskId(5), 1), 0.0)) == [[1, 3, 7]]
    ends = [Ended(TaskId(n), 1) for n in (1, 3)]
    assert batches(core.react_to_ends(ends, 0.0)) == []  # the slot is not free yet
    assert batches(core.react(Ended(TaskId(7), 1), 0.0)) == [[2]]


def test_arguments_limit_a_batch() -> None:
    core = with_known_pace()
    tasks = [call(n, args=bytes(BATCH_BYTES // 2)) for n in range(1, 6)]
    assert batches(give(core, tasks)) == [[1, 2, 3]]


def test_calls_are_started_together_only_if_there_is_time_for_each() -> None:
    resources = {1: Resources(), 2: Resources(expected_s=30.0)}
    core = with_known_pace(walltime_s=100.0)
    give(core, [call(n, 2) for n in range(1, 10)], resources)
    assert batches(core.react(Ended(TaskId(1), 1, took_s=QUICK_S), 1.0)) == [[2, 3]]


def test_calls_that_come_back_start_elsewhere_before_all_others() -> None:
    core = with_known_pace(2)
    first, second = batches(give(core, [call(n) for n in range(1, 21)]))
    assert (first, second) == ([*range(1, 11)], [*range(11, 21)])
    assert batches(core.react(Unbegun(((TaskId(3), 1), (TaskId(9), 2))), 1.0)) == []  # 9 is another attempt
    assert set(core.running) == {TaskId(n) for n in range(1, 21)} - {3}
    ends = [Ended(TaskId(n), 1, took_s=QUICK_S) for n in second]
    assert batches(core.react_to_ends(ends, 1.0)) == [[3]]
    core.react_to_ends([Ended(TaskId(n), 1) for n in first if n != 3], 2.0)
    core.react(Ended(TaskId(3), 1), 2.0)
    assert not core.running
    assert core.cluster.free_cores == 2


def test_a_call_that_holds_others_up_has_the_next_ones_run_one_by_one() -> None:
    core = with_known_pace()
    ((*first,),) = batches(give(core, [call(n) for n in range(1, 11)]))
    core.react(Unbegun(tuple((TaskId(n), 1) for n in first[1:])), 1.0)
    assert batches(core.react(Ended(TaskId(1), 1, took_s=1.0), 2.0)) == [[2]]
    for task in range(2, 8):
        assert batches(core.react(Ended(TaskId(task), 1, took_s=QUICK_S), 2.0)) == [[task + 1]]


def test_a_call_waits_for_its_values_and_others_do_not_wait_for_it() -> None:
    core, ask = attached(1)
    given_ = structs.replace(batch(ask.number, [call(1), call(2)]), lacking=frozenset((TaskId(1),)))
    assert starts(core.react(given_, 0.0)) == [2]
    core.react(Ended(TaskId(2), 1), 1.0)
    assert starts(core.react(ValuesCame((TaskId(1), TaskId(77))), 2.0)) == [1]


def test_slots_do_not_stay_free_for_calls_without_values_but_few_of_these_are_taken() -> None:
    core, ask = attached(2)
    tasks = [call(n) for n in range(1, 3)]
    for number in range(1, 4):
        given_ = structs.replace(batch(ask.number, tasks), lacking=frozenset(one.task for one in tasks))
        asks = [command for command in core.react(given_, 0.0) if isinstance(command, AskForTasks)]
        assert len(asks) == (number < 2)
        if asks:
            (ask,) = asks
            assert ask.limit == 2
            tasks = [call(number * 10 + n) for n in range(2)]


def test_a_call_whose_value_is_missing_fails() -> None:
    core, ask = attached(1)
    core.react(structs.replace(batch(ask.number, [call(1)]), lacking=frozenset((TaskId(1),))), 0.0)
    out = core.react(ValuesMissing((TaskId(1), TaskId(77)), Cause.LAUNCH_ERROR, "gone"), 1.0)
    assert Report(TaskId(1), 1, Cause.LAUNCH_ERROR, "gone") in out
    assert not core.queue.tasks


def test_calls_that_wait_for_values_are_canceled_and_given_back_like_others() -> None:
    core, ask = attached(1)
    core.react(structs.replace(batch(ask.number, [call(1), call(2)]), lacking=frozenset(map(TaskId, (1, 2)))), 0.0)
    core.react(OrdersReceived(Orders(1, 60.0, cancel=((TaskId(1), 1),))), 1.0)
    assert GiveBack(((TaskId(2), 1),)) in core.react(Drain("asked"), 2.0)
    assert core.queue.lacking.count == 0
    assert starts(core.react(ValuesCame((TaskId(1), TaskId(2))), 3.0)) == []


def test_batch_without_room_goes_back_as_a_whole() -> None:
    core = with_known_pace()
    ((*first,),) = batches(give(core, [call(n) for n in range(1, 4)]))
    assert core.react(NoRoom(TaskId(1), 1), 1.0) == [GiveBack(tuple((TaskId(n), 1) for n in first))]
    assert not core.running
    assert core.cluster.free_cores == 1


def test_mates_are_canceled_one_by_one() -> None:
    core = with_known_pace()
    give(core, [call(n) for n in range(1, 5)])
    orders = OrdersReceived(Orders(1, 60.0, cancel=((TaskId(2), 1), (TaskId(3), 1))))
    stops = [command for command in core.react(orders, 1.0) if isinstance(command, Stop)]
    assert stops == [Stop(TaskId(n), 1, Cause.CANCELED, 5.0) for n in (2, 3)]
    out = core.react(Unbegun(tuple((TaskId(n), 1) for n in (2, 3, 4))), 1.0)  # sent before it was told
    assert [command for command in out if isinstance(command, Report)] == [
        Report(TaskId(n), 1, Cause.CANCELED, "canceled before it was started") for n in (2, 3)
    ]
    assert set(core.queue.tasks) == {4}


def test_calls_of_a_lost_node_are_lost() -> None:
    core = Core(Cluster([Node(range(1), name="a")]), 0.0, expected=2)
    core.react(Attached(), 0.0)
    give(core, [call(n) for n in range(1, 30)])
    ((*mates,),) = batches(core.react(Ended(TaskId(1), 1, took_s=QUICK_S), 0.0))
    assert len(mates) == 4
    out = core.react(NodeLost("a", "gone"), 1.0)
    assert [command.task for command in out if isinstance(command, Report)] == mates
    assert not core.running


def test_calls_that_come_back_while_the_pilot_drains_are_given_back() -> None:
    core = with_known_pace()
    ((*first,),) = batches(give(core, [call(n) for n in range(1, 4)]))
    assert core.react(Drain("asked"), 1.0) == []
    back = tuple((TaskId(n), 1) for n in first[1:])
    assert core.react(Unbegun(back), 1.0) == [GiveBack(back)]
    assert core.react(Ended(TaskId(1), 1), 2.0) == [Leave(PilotState.DONE, "asked")]


class CoreMachine(RuleBasedStateMachine):
    """Random event orders; a model of what the store gave and what the core did with it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.node = Node(range(4), gpus=1, memory=100)
        self.core = Core(Cluster([self.node]), 0.0, walltime_s=1000.0, idle_s=200.0)
        self.resources = {
            1: Resources(),
            2: Resources(cores=3),
            3: Resources(cores=1, gpus=0.5),
            4: Resources(cores=1, memory_bytes=60),
            5: Resources(cores=9),
            6: Resources(time_limit_s=300.0),
            7: Resources(cores=4, gpus=1.0),
        }
        self.next_task = 1
        self.held: dict[TaskId, int] = {}  # given and not dealt with
        self.started: dict[TaskId, Start] = {}
        self.slots: dict[TaskId, Start] = {}  # the start that has brought each there
        self.canceled: set[TaskId] = set()
        self.lacking: set[TaskId] = set()
        self.stopped: set[TaskId] = set()
        self.asked: AskForTasks | None = None
        self.last: BatchReceived | None = None
        self.left = False
        self.leaving = False
        self.owing = False
        for kind in self.resources:
            for _ in range(3):
                self.core.starter.paces.of(claimed(1, kind, template=2)).took(QUICK_S)
        self.do(self.core.react(Attached(), 0.0))

    def do(self, commands: list[Command]) -> None:
        for command in commands:
            if isinstance(command, Start):
                self.start(command)
            elif isinstance(command, GiveBack):
                for task, attempt in command.tasks:
                    assert task not in self.started
                    assert self.held.pop(task) == attempt
            elif isinstance(command, Report):
                assert command.task not in self.started
                assert self.held.pop(command.task) == command.attempt
            elif isinstance(command, Stop):
                assert self.started[command.task].claimed.attempt == command.attempt
                self.stopped.add(command.task)
            elif isinstance(command, AskForTasks):
                assert self.asked is None, "two claims at a time"
                assert not self.leaving
                assert command.limit > 0
                assert command.want.cores > 0
                self.asked = command
            else:
                assert not self.left, "left twice"
                assert not self.started
                assert not self.held
                self.left = True
        if self.core.draining:
            self.leaving = True

    def start(self, start: Start) -> None:
        assert not self.leaving, "started while leaving"
        assert not self.owing, "started while the store has to take results first"
        resources = self.resources[start.claimed.resources]
        assert len(start.slots[0].cores) == resources.cores
        calls = (start.claimed, *start.mates)
        assert self.now + len(calls) * resources.time_limit_s <= self.core.stop_at
        for one in calls:
            assert self.held[one.task] == one.attempt
            assert one.task not in self.started, "started twice"
            assert one.task not in self.lacking, "started without its values"
            assert (one.template, one.resources, one.priority) == (
                start.claimed.template, start.claimed.resources, start.claimed.priority,
            )  # fmt: skip
            self.started[one.task] = structs.replace(start, claimed=one)
            self.slots[one.task] = start

    @precondition(lambda self: self.asked is not None)
    @rule(
        kinds=st.lists(
            st.tuples(
                st.integers(1, 7),
                st.integers(-1, 1),
                st.integers(1, 3),
                st.sampled_from([1, 2, 2, 3]),
                st.integers(1, 9),
            ),
            max_size=6,
        )
    )
    def answer(self, kinds: list[tuple[int, int, int, int, int]]) -> None:
        """Give tasks, each of them with some others like it."""
        assert self.asked is not None
        tasks: list[Claimed] = []
        for kind, priority, attempt, template, number in kinds:
            for _ in range(number):
                tasks.append(claimed(self.next_task, kind, priority, attempt, template))
                self.held[TaskId(self.next_task)] = attempt
                self.next_task += 1
        number = self.asked.number
        self.asked = None
        lacking = frozenset(one.task for one in tasks if one.template == 3 and one.task % 2)
        self.lacking |= lacking
        self.last = structs.replace(batch(number, tasks, self.resources), lacking=lacking)
        self.do(self.core.react(self.last, self.now))

    @rule(data=st.data(), come=st.booleans())
    def hear_of_values(self, data: st.DataObject, come: bool) -> None:
        tasks = tuple(data.draw(st.lists(st.sampled_from(sorted(self.lacking)), unique=True)) if self.lacking else [])
        self.lacking -= set(tasks)
        if come:
            self.do(self.core.react(ValuesCame(tasks), self.now))
        else:
            self.do(self.core.react(ValuesMissing(tasks, Cause.LAUNCH_ERROR, "gone"), self.now))
            assert not self.held.keys() & set(tasks)

    @precondition(lambda self: self.last is not None)
    @rule()
    def answer_again(self) -> None:
        assert self.last is not None
        self.do(self.core.react(self.last, self.now))

    @precondition(lambda self: self.started)
    @rule(data=st.data(), took_s=st.sampled_from([0.0, QUICK_S, QUICK_S, QUICK_S, 1.0]))
    def end(self, data: st.DataObject, took_s: float) -> None:
        """End some tasks at once: on each slot the first ones."""
        ends = []
        for task in data.draw(st.lists(st.sampled_from(sorted(self.started)), min_size=1, max_size=4)):
            first = next(one for one in self.together(task) if one in self.started or one == task)
            if first in self.started:
                ends.append(Ended(first, self.forget(first), took_s=took_s))
                assert self.held.pop(first) == ends[-1].attempt
        self.do(self.core.react_to_ends(ends, self.now))

    @precondition(lambda self: any(len(self.together(task)) > 1 for task in self.started))
    @rule(data=st.data(), running=st.booleans())
    def come_back(self, data: st.DataObject, running: bool) -> None:
        """Let the last calls on some slots come back; the first one of them may have begun."""
        several = [task for task in sorted(self.started) if len(self.together(task)) > 1]
        calls = [task for task in self.together(data.draw(st.sampled_from(several))) if task in self.started]
        back = calls[data.draw(st.integers(min(running, len(calls)), len(calls))) :]
        tasks = tuple((task, self.forget(task)) for task in back)
        canceled = {task for task, _ in tasks if task in self.canceled}
        self.do(self.core.react(Unbegun(tasks), self.now))
        assert not canceled & self.held.keys()

    @precondition(lambda self: self.started)
    @rule(data=st.data())
    def have_no_room(self, data: st.DataObject) -> None:
        task = data.draw(st.sampled_from(sorted(self.started)))
        together = self.together(task)
        if task == self.slots[task].claimed.task and all(one in self.started for one in together):
            attempts = [(one, self.forget(one)) for one in together]
            self.do(self.core.react(NoRoom(*attempts[0]), self.now))
            assert not self.held.keys() & set(together)

    def together(self, task: TaskId) -> list[TaskId]:
        """Return what was started together with `task`, in order, and has not been started anew."""
        start = self.slots[task]
        return [one.task for one in (start.claimed, *start.mates) if self.slots[one.task] is start]

    def forget(self, task: TaskId) -> int:
        """Note that a task runs no more; return its attempt."""
        self.stopped.discard(task)
        return self.started.pop(task).claimed.attempt

    @rule(task=st.integers(1, 40), attempt=st.integers(1, 3))
    def end_of_something_unknown(self, task: int, attempt: int) -> None:
        start = self.started.get(TaskId(task))
        if start is None or start.claimed.attempt != attempt:
            self.do(self.core.react(Ended(TaskId(task), attempt), self.now))

    @rule(tasks=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 3)), max_size=5))
    def cancel(self, tasks: list[tuple[int, int]]) -> None:
        cancel = tuple((TaskId(task), attempt) for task, attempt in tasks)
        self.do(self.core.react(OrdersReceived(Orders(1, 60.0, cancel=cancel)), self.now))
        for task, attempt in cancel:
            if task in self.started and self.started[task].claimed.attempt == attempt:
                assert task in self.stopped
                if not self.leaving:
                    self.canceled.add(task)
            else:
                assert self.held.get(task) != attempt, "a canceled task is still queued"

    @rule(seconds=st.sampled_from([0.0, 0.001, 0.06, 1.0, 30.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.do(self.core.react(Tick(), self.now))

    @rule(seconds=st.sampled_from([0.0, 0.01, 2.0]))
    def acked(self, seconds: float) -> None:
        self.do(self.core.react(Answered(seconds), self.now))

    @rule()
    def be_given_up_and_come_back(self) -> None:
        self.asked = None
        self.held = {task: self.held[task] for task in self.started}
        self.do(self.core.react(GivenUp(), self.now))
        self.do(self.core.react(Attached(), self.now))

    @rule(full=st.booleans())
    def owe(self, full: bool) -> None:
        self.owing = full
        self.do(self.core.react(ResultsOwed(full), self.now))

    @precondition(lambda self: self.next_task > 20)
    @rule(how=st.sampled_from(["drain", "kill", "order-drain", "order-kill"]))
    def go(self, how: str) -> None:
        events: dict[str, Event] = {
            "drain": Drain("asked"),
            "kill": Quit(PilotState.CANCELED, "asked"),
            "order-drain": OrdersReceived(Orders(2, 60.0, drain=True)),
            "order-kill": OrdersReceived(Orders(2, 60.0, kill=True)),
        }
        self.do(self.core.react(events[how], self.now))
        if how.endswith("kill"):
            assert self.stopped == set(self.started)

    @invariant()
    def every_core_is_free_or_in_one_slot(self) -> None:
        slots = {id(self.slots[task]): self.slots[task].slots[0] for task in self.started}.values()
        taken = [core for slot in slots for core in slot.cores]
        assert len(taken) == len(set(taken))
        assert len(taken) + self.node.free_cores == 4
        assert self.node.free_memory == 100 - sum(slot.memory for slot in slots)

    @invariant()
    def what_is_held_is_queued_or_running(self) -> None:
        assert set(self.core.running) == set(self.started)
        assert set(self.core.queue.tasks) == set(self.held) - set(self.started)
        queue = self.core.queue
        for total, lacking in ((queue.waiting, False), (queue.lacking, True)):
            some = [queued for queued in queue.tasks.values() if queued.lacking is lacking]
            assert total.count == len(some)
            assert total.cores == sum(queued.group.need.cores for queued in some)
        for group in queue.groups():
            assert group.count == len([q for q in queue.tasks.values() if q.group is group and not q.lacking])

    @invariant()
    def no_slot_waits_without_a_reason(self) -> None:
        queued = [queued for queued in self.core.queue.tasks.values() if not queued.lacking]
        if self.leaving or self.owing or not queued or self.now < self.core._hold_until:
            return
        best = min(queued, key=lambda one: (-one.claimed.priority, one.claimed.task))
        slot = self.node.take(best.group.need)
        assert slot is None, "the best task fits and does not run"

    @invariant()
    def it_leaves_when_nothing_is_left(self) -> None:
        if self.leaving:
            assert self.left == (not self.started) or self.left


CoreMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
TestCore = CoreMachine.TestCase
