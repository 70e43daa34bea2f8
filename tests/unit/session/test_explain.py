"""Why a task is where it is, in words."""

import pytest
from msgspec.structs import replace

from pilotmtc.model import Attempt, Campaign, CampaignId, Pilot, PilotDescription, PilotId, Resources, Task, TaskId
from pilotmtc.protocol.client.tasks import AHEAD_MAX, Explanation
from pilotmtc.protocol.records import Limit
from pilotmtc.session.look.explain import explain
from pilotmtc.states import Cause, PilotState, TaskState

NOW = 1_000_000.0
S = TaskState


def task(state: TaskState = S.READY, **more: object) -> Task:
    one = Task(TaskId(7), CampaignId(3), state, 0, 0, ("sim",), False, {}, Resources(cores=4))
    return replace(one, **more)


def pilot(state: PilotState = PilotState.ACTIVE, id_: int = 2, **asked: object) -> Pilot:
    description = PilotDescription(site="big", cores=8, scheduler="slurm://localhost/")
    return Pilot(
        PilotId(id_), replace(description, **asked), state, NOW - 600,
        started_at=NOW - 60 if state is PilotState.ACTIVE else None, nodes=1 if state is PilotState.ACTIVE else 0,
        cores=8 if state is PilotState.ACTIVE else 0, busy=6 if state is PilotState.ACTIVE else 0,
    )  # fmt: skip


def end(cause: Cause, exit_code: int | None = None, attempt: int = 1, **more: object) -> Attempt:
    return replace(Attempt(TaskId(7), attempt, cause, PilotId(2), exit_code), **more)


def text(one: Task, *pilots: Pilot, ahead: int = 0, blockers: tuple[Task, ...] = ()) -> str:
    return "\n".join(explain(Explanation(NOW, one, pilots=pilots, ahead=ahead, blockers=blockers)))


@pytest.mark.parametrize(
    ("pilots", "words"),
    [
        ((), ["no pilot is active", "$ pilotmtc pilot submit --cores 4"]),
        ((pilot(),), ["it comes next", "pilot 2", "6 of its 8 cores are busy"]),
        ((replace(pilot(), cores=4, busy=4), pilot(id_=3)), ["10 of their 12 cores are busy"]),
        ((replace(pilot(), cores=2),), ["no active pilot can run it", "needs 4"]),
        ((pilot(campaign=CampaignId(9)),), ["takes tasks of campaign 9 only"]),
        ((pilot(PilotState.DRAINING),), ["is draining"]),
        (
            (replace(pilot(PilotState.PENDING), native_state="PENDING", reason="QOSMaxJobsLimit"),),
            ["have not started", "waits in the queue of big for 10m00s", "QOSMaxJobsLimit"],
        ),
        ((pilot(PilotState.NEW),), ["was made 10m00s ago and has not been submitted yet"]),
        ((pilot(PilotState.NEW, scheduler=""),), ["was made 10m00s ago and has not started yet"]),
    ],
)
def test_ready_tasks_say_which_pilots_could_and_why_the_others_cannot(
    pilots: tuple[Pilot, ...], words: list[str]
) -> None:
    assert [word for word in words if word not in text(task(), *pilots)] == []


def test_pilot_that_is_to_be_submitted_has_what_was_missing() -> None:
    need = Resources(gpus=2, named={"licence": 2, "my lic": 0.5}, time_limit_s=7200)
    words = "$ pilotmtc pilot submit --gpus 2 --resource licence=2 --resource 'my lic=0.5'"
    assert text(task(resources=need)).endswith(words)
    assert f"{words} --walltime 7200s" in text(task(resources=need), pilot(walltime_s=3600.0))


@pytest.mark.parametrize(
    ("need", "asked", "words"),
    [
        (Resources(gpus=2), {"gpus": 1}, "has 1 GPU a node, and the task needs 2"),
        (Resources(memory_bytes=2 << 30), {"memory_bytes": 1 << 30}, "has 1G of memory a node"),
        (Resources(named={"licence": 2}), {"named": {"licence": 1.0}}, "has 1 of licence a node, and the task needs 2"),
        (Resources(time_limit_s=7200), {"walltime_s": 3600.0}, "has 59m00s left, and the task's limit is 2h00m"),
        (Resources(expected_s=7200), {"walltime_s": 3600.0}, "the task's expected time is 2h00m"),
        (Resources(cores=4, ranks=3), {}, "has room for 2 ranks on 1 node, and the task has 3"),
        (Resources(cores=5, ranks=3), {}, "has room for 1 rank on 1 node, and the task has 3"),
        (Resources(cores=1, ranks=8), {}, "it comes next"),
        (Resources(ranks=3, memory_bytes=1 << 30), {"memory_bytes": 2 << 30}, "has room for 2 ranks on 1 node"),
    ],
)
def test_each_resource_that_is_short_is_named(need: Resources, asked: dict[str, object], words: str) -> None:
    assert words in text(task(resources=need), pilot(PilotState.ACTIVE, 2, **asked))


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ((Limit("lic", 4, 4),), "it waits for lic: 4 of 4 in use"),
        ((Limit("lic", 4, 3),), "it waits for lic: 3 of 4 in use"),
        ((Limit("lic", 4, 2),), "it comes next: nothing goes before it on pilot 2\n6 of its 8 cores are busy"),
        (
            (Limit("lic", 1.5),),
            "it needs 2 of lic, and no more than 1.5 may be in use at a time\n$ pilotmtc store limit lic=2",
        ),
        ((Limit("other", 0),), "no active pilot can run it\npilot 2: has 0 of lic a node, and the task needs 2\n"
         "$ pilotmtc pilot submit --resource lic=2\n$ pilotmtc edit 7 --help"),
    ],
)  # fmt: skip
def test_task_that_waits_for_units_of_a_limit_says_how_many_are_in_use(limits: tuple[Limit, ...], words: str) -> None:
    one = task(resources=Resources(named={"lic": 2.0}))
    assert "\n".join(explain(Explanation(NOW, one, pilots=(pilot(),), limits=limits))) == words


def test_pilot_for_a_task_that_waits_for_a_limit_need_not_have_what_is_limited() -> None:
    one = task(resources=Resources(named={"lic": 1.0, "disk": 1.0}))
    words = explain(Explanation(NOW, one, limits=(Limit("lic", 1),)))
    assert words == ["no pilot is active to run it", "$ pilotmtc pilot submit --resource disk=1"]
    found = Explanation(NOW, task(resources=Resources(named={"lic": 1.0})), pilots=(pilot(),), ahead=3)
    words = explain(replace(found, limits=(Limit("lic", 1, 1),)))
    assert words == ["it waits for lic: 1 of 1 in use", "3 ready tasks go before it on pilot 2"]


def test_task_that_is_kept_for_pilots_of_its_own_waits_for_one_of_them() -> None:
    campaign = Campaign(CampaignId(3), "k", "", NOW, 9, True, own_pilots=True)
    stranger, own = pilot(), pilot(PilotState.DRAINING, 5, campaign=CampaignId(3))

    def words(*pilots: Pilot) -> str:
        return "\n".join(explain(Explanation(NOW, task(), campaign=campaign, pilots=pilots)))

    for gone in (words(), words(stranger)):
        assert "kept for pilots of its own, as its run started them: none is active" in gone
        assert "$ pilotmtc run --resume 3\n$ pilotmtc pilot submit --campaign 3 --cores 4" in gone
    both = words(stranger, own)
    assert "pilot 2: takes no tasks of campaign 3, which is kept for pilots of its own" in both
    assert "pilot 5: is draining" in both
    assert "$ pilotmtc pilot submit --campaign 3 --cores 4" in both
    assert "it comes next" in words(pilot(campaign=CampaignId(3)))


def test_one_of_something_is_not_said_to_be_several() -> None:
    assert "its only core is busy" in text(task(resources=Resources()), replace(pilot(), cores=1, busy=1))
    assert "its only core is free" in text(task(resources=Resources()), replace(pilot(), cores=1, busy=0))
    others = [pilot(PilotState.DRAINING, id_) for id_ in range(10)]
    assert "and 1 more pilot that cannot run it" in text(task(), *others)


def test_what_nodes_really_have_counts_more_than_what_was_asked() -> None:
    found = replace(pilot(cores=1), cores=1, node_cores=1, node_memory_bytes=24105 << 20)
    need = Resources(memory_bytes=100 << 30)
    assert "pilot 2: has 23.54G of memory a node, and the task needs 100G" in text(task(resources=need), found)


def test_node_of_a_pilot_is_not_smaller_as_long_as_others_are_missing() -> None:
    found = replace(pilot(nodes=2), nodes=1, cores=8, node_cores=8)
    assert "it comes next" in text(task(resources=Resources(cores=8)), found)


def whole(nodes: int = 2) -> Pilot:
    asked = pilot(cores=0, nodes=nodes, scheduler="slurm://localhost/")
    return replace(asked, nodes=nodes, cores=12 * nodes, node_cores=12, node_memory_bytes=24 << 30)


@pytest.mark.parametrize(
    ("need", "words"),
    [
        (Resources(ranks=30), "$ pilotmtc pilot submit --nodes 3\n"),
        (Resources(ranks=30, cores=5), "$ pilotmtc pilot submit --nodes 15\n"),
        (Resources(ranks=8, ranks_per_node=2), "$ pilotmtc pilot submit --nodes 4\n"),
        (Resources(cores=50), "no node seen here has so many cores: the largest has 12\n$ pilotmtc edit"),
        (Resources(memory_bytes=99 << 30), "no node seen here has so much memory: the largest has 24G\n$ pil"),
    ],
)
def test_pilot_that_is_advised_has_room_and_can_be(need: Resources, words: str) -> None:
    assert words in text(task(resources=need), whole())


def test_advice_keeps_to_the_part_of_a_node_that_pilots_had() -> None:
    part = replace(whole(), description=replace(whole().description, cores=4), node_cores=4, cores=8)
    assert "$ pilotmtc pilot submit --nodes 8 --cores 4\n" in text(task(resources=Resources(ranks=30)), part)


def test_pilot_that_will_never_start_says_so_and_what_to_do() -> None:
    reason = "Can Never Run: Insufficient amount of resource: ncpus (R: 99 A: 48 T: 48)"
    found = replace(pilot(PilotState.PENDING), native_state="Q", reason=reason)
    assert "never start: Insufficient amount of resource: ncpus (R: 99" in text(task(), found)
    found = replace(pilot(PilotState.PENDING), native_state="PENDING", reason="PartitionNodeLimit")
    assert "never start: it asks for more nodes than its queue" in text(task(), found)
    assert "pilotmtc pilot cancel 2" in text(task(), found)
    assert "never" not in text(task(), replace(found, reason="Priority"))


def test_position_in_the_order_is_told_as_far_as_it_was_counted() -> None:
    assert "1 ready task goes before it" in text(task(), pilot(), ahead=1)
    assert "250 ready tasks go before it" in text(task(), pilot(), ahead=250)
    assert "more than 10,000 ready tasks" in text(task(), pilot(), ahead=AHEAD_MAX)


def test_waiting_tasks_name_those_they_wait_for_and_how_they_are() -> None:
    blockers = (
        task(S.RUNNING, id=TaskId(1), name="prep", pilot=PilotId(2), started_at=NOW - 30),
        task(S.WAITING, id=TaskId(2), unmet=2),
        task(S.READY, id=TaskId(3)),
    )
    found = text(task(S.WAITING, unmet=8), blockers=blockers)
    assert "8 tasks must end before it" in found
    assert "task 1 (prep) has run for 30s on pilot 2" in found
    assert "task 2 waits itself for 2 tasks" in found
    assert "task 3 has not started" in found
    assert "and 3 more" in found
    assert "$ pilotmtc explain 1" in found


def test_a_pause_after_a_failure_is_told() -> None:
    found = text(task(not_before=NOW + 90, attempt=1, failures=1, max_retries=3), pilot())
    assert "is retried in 1m30s" in found
    assert "retries used: 1 of 3" in found


@pytest.mark.parametrize(
    ("cause", "code", "words"),
    [
        (Cause.EXIT, 137, "out of memory?"),
        (Cause.EXIT, 127, "no such command"),
        (Cause.OOM, None, "pilotmtc edit --memory"),
        (Cause.TIMEOUT, None, "pilotmtc edit --time-limit"),
        (Cause.LAUNCH_ERROR, None, "could not be started"),
    ],
)
def test_failures_say_how_and_what_may_help(cause: Cause, code: int | None, words: str) -> None:
    last = Attempt(TaskId(7), 1, cause, PilotId(2), code, message="said the node")
    found = text(task(S.FAILED, last=last, attempt=1))
    assert words in found
    assert "said the node" in found
    assert "$ pilotmtc logs 7" in found
    assert "$ pilotmtc retry 7" in found


@pytest.mark.parametrize(
    ("one", "lines"),
    [
        (task(S.WAITING, unmet=1), ["1 task must end before it"]),
        (
            task(S.RUNNING, pilot=PilotId(2), started_at=NOW - 30, attempt=1),
            ["it has run for 30s on pilot 2, attempt 1"],
        ),
        (task(S.DONE, last=end(Cause.EXIT, 0, elapsed_s=0.0025)), ["it took 2.5ms"]),
        (task(S.DONE, last=end(Cause.EXIT, 0, attempt=3, elapsed_s=90)), ["it took 1m30s, attempt 3"]),
        (
            task(S.DONE, function="work", last=end(Cause.EXIT, 0, elapsed_s=2, value_text="9.0")),
            ["it took 2s", "it returned 9.0"],
        ),
        (
            task(S.FAILED, function="work", last=end(Cause.EXIT, 1, value_text="ValueError: bad x")),
            ["it raised ValueError: bad x"],
        ),
        (task(S.FAILED, function="work", last=end(Cause.EXIT, 3)), ["it exited with code 3"]),
        (
            task(S.FAILED, function="work", last=end(Cause.LAUNCH_ERROR, message="no such Python")),
            ["it could not be started: no such Python"],
        ),
        (task(S.CANCELED), ["by a user"]),
        (
            task(S.CANCELED, attempt=1, last=end(Cause.CANCELED, elapsed_s=4)),
            ["by a user, when it had run for 4s"],
        ),
        (task(S.SKIPPED), ["a task that it needs did not succeed"]),
        (task(S.FAILED, last=end(Cause.EXIT, 3)), ["it exited with code 3"]),
        (task(S.FAILED, last=end(Cause.SIGNAL, signal=11)), ["it was killed by SIGSEGV"]),
        (
            task(
                S.FAILED,
                last=end(Cause.TIMEOUT, message="over its time limit"),
                resources=Resources(time_limit_s=2),
            ),
            ["it ran for longer than its time limit of 2s and was killed", "for more time: pilotmtc edit --time-limit"],
        ),
        (
            task(S.FAILED, last=end(Cause.OOM, message="over its memory limit")),
            ["it needed more than its memory and was killed", "for more memory: pilotmtc edit --memory"],
        ),
        (
            task(S.FAILED, last=end(Cause.LAUNCH_ERROR, message="no such file: sim")),
            ["it could not be started: no such file: sim", "check its command and directory"],
        ),
        (
            task(S.FAILED, last=end(Cause.NODE_LOST, message="c1 is silent"), crashes=5),
            ["its node was lost: c1 is silent", "its node or pilot was lost 5 times while it ran"],
        ),
    ],
)
def test_what_became_of_a_task_is_said_once_each(one: Task, lines: list[str]) -> None:
    assert [line for line in explain(Explanation(NOW, one)) if not line.startswith("$ ")] == lines


def test_every_state_has_an_answer() -> None:
    for state in TaskState:
        found = explain(Explanation(NOW, task(state, pilot=PilotId(2), cancel=state is S.RUNNING)))
        assert found[0]
        assert ("being canceled" in found[-1]) == (state is S.RUNNING)
    assert "no such task" in explain(Explanation(NOW))[0]


def test_skipped_tasks_name_what_went_wrong_before_them() -> None:
    found = text(task(S.SKIPPED), blockers=(task(S.FAILED, id=TaskId(1), name="prep"),))
    assert "task 1 (prep) is FAILED" in found
    assert "$ pilotmtc retry 1" in found
