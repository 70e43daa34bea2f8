"""Tasks that are known: they take the results of earlier ones."""

from typing import Any
from uuid import uuid4

import pytest
from msgspec.structs import replace

from pilotmtc.model import After, CampaignId, Function, Program, Resources, TaskId, TaskRow, Template, Value
from pilotmtc.protocol.agent import Finish
from pilotmtc.protocol.client.campaigns import DeleteCampaign, GetCampaigns, Submit
from pilotmtc.protocol.client.history import GetHistory
from pilotmtc.protocol.client.maintenance import CheckStore
from pilotmtc.protocol.client.tasks import GetOutput, GetReturned, GetTask, Retry
from pilotmtc.protocol.records import Filter
from pilotmtc.states import TaskState

from .storekit import Kit, call_row, digest_of, result, row
from .test_store_values import put

SIM = Template(("/code/sim", "{x}"), fields=("x",))
SEEN = Program("/code", "host", "ann", "1.0", "c0ffee", False, {"/code/sim": "aa"})

CODE, CODE_2 = digest_of(b"c0de"), digest_of(b"c0de 2")


def submit(
    kit: Kit, *rows: TaskRow, template: Template = SIM, program: Program | None = SEEN, memo: bool = True
) -> CampaignId:
    needs = (Resources(), Resources(cores=2))
    message = Submit(uuid4().hex, 0, "c", (template,), needs, rows, last=True, program=program, memo=memo)
    return kit.store.call(message).campaign


def run_all(kit: Kit, code: int = 0) -> None:
    pilot = kit.pilot()
    results = [result(task, code=code, out=f"{task.params}".encode()) for task in kit.claim(pilot)]
    kit.store.call(Finish(pilot, tuple(results)))


def states(kit: Kit, *tasks: int) -> list[TaskState]:
    return [kit.state(task) for task in tasks]


@pytest.fixture
def past(kit: Kit) -> Kit:
    """A store in which the points 1 and 2 are DONE."""
    submit(kit, row(1), row(2), memo=False)
    run_all(kit)
    return kit


def test_known_task_has_the_result_of_the_earlier_one(past: Kit) -> None:
    campaign = submit(past, row(2), row(3), row(1))
    assert states(past, 3, 4, 5) == [TaskState.DONE, TaskState.READY, TaskState.DONE]
    (found,) = past.store.call(GetCampaigns(id=campaign)).campaigns
    assert (found.known, found.counts) == (2, {TaskState.DONE: 2, TaskState.READY: 1})
    task = past.task(3)
    before = past.task(2).last
    assert task.last is not None
    assert before is not None
    assert task.last == replace(before, task=TaskId(3), known_from=2)
    assert past.store.call(GetOutput(TaskId(3))).stdout == b"('2',)"
    assert past.store.call(CheckStore()).problems == ()


def test_what_only_governs_the_run_makes_no_difference(past: Kit) -> None:
    submit(past, row(1, res=1), template=replace(SIM, max_retries=3, backoff_s=1.0, max_output_bytes=5))
    assert states(past, 3) == [TaskState.DONE]


@pytest.mark.parametrize(
    ("template", "program"),
    [
        (replace(SIM, command=("/code/sim", "-v", "{x}")), SEEN),
        (replace(SIM, env={"A": "1"}), SEEN),
        (replace(SIM, cwd="/elsewhere"), SEEN),
        (replace(SIM, setup=("module load x",)), SEEN),
        (replace(SIM, stdin="other"), SEEN),
        (SIM, replace(SEEN, files={"/code/sim": "bb"})),
        (SIM, replace(SEEN, files={})),
        (SIM, None),
        (replace(SIM, watch=("/code/other",)), SEEN),
    ],
)
def test_another_command_or_program_is_not_known(past: Kit, template: Template, program: Program | None) -> None:
    submit(past, row(1), template=template, program=program)
    assert states(past, 3) == [TaskState.READY]


def test_another_revision_with_the_same_files_is_known(past: Kit) -> None:
    submit(past, row(1), program=replace(SEEN, revision="beef", dirty=True, host="other"))
    assert states(past, 3) == [TaskState.DONE]


def test_only_what_is_done_is_known(kit: Kit) -> None:
    submit(kit, row(1), memo=False)
    submit(kit, row(1))
    run_all(kit, code=1)
    submit(kit, row(1))
    assert states(kit, 1, 2, 3) == [TaskState.FAILED, TaskState.FAILED, TaskState.READY]


def test_dependents_of_known_tasks_run_and_are_not_known(past: Kit) -> None:
    submit(past, row(1, name="one"), row(2, after=[After("one")]), row(9, after=[After("one")]))
    assert states(past, 3, 4, 5) == [TaskState.DONE, TaskState.READY, TaskState.READY]


def test_task_without_values_is_known(kit: Kit) -> None:
    alone = Template(("/code/sim",))
    submit(kit, TaskRow(0, 0), template=alone, memo=False)
    run_all(kit)
    submit(kit, TaskRow(0, 0), template=alone)
    assert states(kit, 2) == [TaskState.DONE]


def test_task_that_is_given_its_number_is_not_known(kit: Kit) -> None:
    numbered = Template(("/code/sim", "{x}", "{task_id}"), fields=("x",))
    submit(kit, row(1), template=numbered, memo=False)
    run_all(kit)
    submit(kit, row(1), template=numbered)
    assert states(kit, 2) == [TaskState.READY]


def test_what_is_known_can_run_again_and_counts_no_more(past: Kit) -> None:
    campaign = submit(past, row(1))
    past.store.call(Retry(uuid4().hex, Filter(campaign=campaign), done=True))
    run_all(past)
    assert [one.known_from for one in past.store.call(GetTask(TaskId(3))).attempts] == [1, 0]
    assert past.store.call(GetCampaigns(id=campaign)).campaigns[0].known == 0
    assert past.store.call(CheckStore()).problems == ()


def test_result_stays_when_the_earlier_campaign_is_deleted(past: Kit) -> None:
    submit(past, row(1))
    past.store.call(DeleteCampaign(uuid4().hex, CampaignId(1)))
    assert past.store.call(GetOutput(TaskId(3))).stdout == b"('1',)"
    submit(past, row(1))
    assert states(past, 4) == [TaskState.DONE]
    assert past.store.call(CheckStore()).problems == ()


def test_output_that_is_gone_is_not_taken(past: Kit) -> None:
    past.store.call(DeleteCampaign(uuid4().hex, CampaignId(1), keep_results=True))
    submit(past, row(1))
    assert states(past, 3) == [TaskState.READY]


def test_time_of_what_is_known_is_not_counted_again(past: Kit) -> None:
    campaign = submit(past, row(1))
    found = past.store.call(GetHistory((CampaignId(1), campaign)))
    assert len(found.columns[0]) == 2 * 8  # the two that ran


def calls(kit: Kit, *rows: TaskRow, memo: bool = True, **function: Any) -> list[int]:
    """Submit calls and return their ids."""
    put(kit.store, b"c0de")
    work = Template(("work({args})",), fields=("args",), function=Function("work", **{"code": CODE, **function}))
    message = Submit(uuid4().hex, 0, "c", (work,), (Resources(),), rows, last=True, memo=memo)
    first = kit.store.call(message).first
    return list(range(first, first + len(rows)))


def call(data: bytes, text: str = "3") -> TaskRow:
    return replace(call_row(data=data), params=(text,))


def return_all(kit: Kit, *values: Value) -> None:
    pilot = kit.pilot()
    claimed = kit.claim(pilot)
    results = [replace(result(task), value=value) for task, value in zip(claimed, values, strict=True)]
    kit.store.call(Finish(pilot, tuple(results)))


def test_known_call_has_the_value_of_the_earlier_one(kit: Kit) -> None:
    calls(kit, call(b"a"), call(b"b"), memo=False)
    return_all(kit, Value(b"A"), Value(b"B"))
    new = calls(kit, call(b"c"), call(b"b"), call(b"a"))  # which look the same
    assert states(kit, *new) == [TaskState.READY, TaskState.DONE, TaskState.DONE]
    returned = kit.store.call(GetReturned(tuple(map(TaskId, new)))).rows
    assert [(row.task, row.value and row.value.data) for row in returned] == [(new[1], b"B"), (new[2], b"A")]
    assert kit.store.call(GetCampaigns(id=CampaignId(2))).campaigns[0].known == 2
    assert kit.store.call(CheckStore()).problems == ()


@pytest.mark.parametrize("other", [{"code": CODE_2}, {"setup": CODE_2}, {"python": "/other/python"}])
def test_call_of_another_function_is_not_known(kit: Kit, other: dict[str, Any]) -> None:
    put(kit.store, b"c0de 2")
    calls(kit, call(b"a"), memo=False)
    return_all(kit, Value(b"A"))
    assert states(kit, *calls(kit, call(b"a"), **other)) == [TaskState.READY]


def test_function_is_known_by_what_it_does_rather_than_by_its_pickle(kit: Kit) -> None:
    put(kit.store, b"c0de 2")
    calls(kit, call(b"a"), memo=False, identity="does this")
    return_all(kit, Value(b"A"))
    assert states(kit, *calls(kit, call(b"a"), identity="does this", code=CODE_2)) == [TaskState.DONE]
    assert states(kit, *calls(kit, call(b"a"), identity="does that")) == [TaskState.READY]


def test_large_value_stays_when_the_earlier_campaign_is_deleted(kit: Kit) -> None:
    calls(kit, call(b"a"), memo=False)
    value = Value(digest=put(kit.store, b"large"), size=5)
    return_all(kit, value)
    (new,) = calls(kit, call(b"a"))
    kit.store.call(DeleteCampaign(uuid4().hex, CampaignId(1)))
    assert kit.store.call(CheckStore()).problems == ()
    assert kit.store.call(GetReturned((TaskId(new),))).rows[0].value == value


def test_call_whose_value_is_gone_is_not_known(kit: Kit) -> None:
    calls(kit, call(b"a"), memo=False)
    return_all(kit, Value(b"A"))
    kit.store.call(DeleteCampaign(uuid4().hex, CampaignId(1), keep_results=True))
    assert states(kit, *calls(kit, call(b"a"))) == [TaskState.READY]
