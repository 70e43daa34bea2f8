"""Calls of functions on their way through the store: submitted, claimed with what they need, returned."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace
from sqlite_utils import Database

from pilotmtc.errors import UsageError
from pilotmtc.model import (
    INLINE_BYTES,
    Call,
    CampaignId,
    Claimed,
    Function,
    Resources,
    Result,
    TaskId,
    TaskRow,
    Template,
    Value,
)
from pilotmtc.protocol.agent import EndPilot, Finish, Finished
from pilotmtc.protocol.client.campaigns import Submit
from pilotmtc.protocol.client.maintenance import CheckStore
from pilotmtc.protocol.client.tasks import (
    MAX_RETURNED,
    GetCalls,
    GetReturned,
    GetTask,
    GetTasks,
    KnownCall,
    KnownCalls,
    ReturnedCall,
)
from pilotmtc.protocol.client.watch import GetChanges
from pilotmtc.protocol.values import GetValue
from pilotmtc.states import CRASH_LIMIT, TASK_FINAL, Cause, PilotState, TaskState
from pilotmtc.store.file.opening import SCHEMA
from pilotmtc.store.interface import Store
from pilotmtc.store.requests.calls import MAX_INPUTS, TEXT_CHARS
from pilotmtc.store.sqlite import SqliteStore
from tests.contract.storekit import ECHO, Kit, call_row, digest_of, result, row
from tests.contract.test_store_values import LARGE, SMALL, get, put

S = TaskState
CODE = b"the pickled function"


def template(store: Store, *, max_retries: int = 0) -> Template:
    """Return a function's template, of which the code is in the store."""
    return Template(("work()",), function=Function("work", put(store, CODE)), max_retries=max_retries)


def submit(kit: Kit, *rows: TaskRow, max_retries: int = 0) -> list[int]:
    """Submit calls and return their ids."""
    first = kit.submit(*rows, template=template(kit.store, max_retries=max_retries)).first
    return list(range(first, first + len(rows)))


def ended(task: Claimed, value: Value | None, *, code: int = 0, text: str = "a value") -> Result:
    """Return how a call ended."""
    return replace(result(task, code=code), value=value, value_text=text)


def returned(kit: Kit, *tasks: int) -> tuple[ReturnedCall, ...]:
    """Return what these calls returned."""
    return kit.store.call(GetReturned(tuple(map(TaskId, tasks)))).rows


# -- submit ------------------------------------------------------------------------------------------------------


def test_call_comes_to_the_agent_as_it_was_submitted(kit: Kit) -> None:
    data = put(kit.store, SMALL)
    submit(kit, call_row(data=b"\x80\x05\xff"), call_row(args=digest_of(CODE), size=len(CODE), values=[data]))
    batch = kit.claim_batch(kit.pilot())
    assert [task.call for task in batch.tasks] == [
        Call(Value(b"\x80\x05\xff")),
        Call(Value(digest=digest_of(CODE), size=len(CODE)), (), (data,)),
    ]
    assert batch.templates[batch.tasks[0].template].function == Function("work", digest_of(CODE))


def test_commands_and_calls_are_claimed_side_by_side(kit: Kit) -> None:
    function = template(kit.store)
    rows = (TaskRow(1, 0, ("x",)), call_row(data=b"1"), TaskRow(1, 0, ("y",)), call_row(data=b"2"))
    kit.store.call(Submit("k", 0, "c", (function, ECHO), (Resources(),), rows, True))
    tasks = kit.claim(kit.pilot())
    assert [task.call and task.call.args.data for task in tasks] == [None, b"1", None, b"2"]


def test_ids_of_rows_are_told_also_when_they_come_twice(kit: Kit) -> None:
    one = kit.submit(row(1), row(2), key="a", last=False)
    kit.submit(row(3), key="b", last=False)
    two = kit.submit(row(4), row(5), key="a", offset=2, last=False)
    three = kit.submit(row(6), key="a", offset=4)
    first = one.first
    assert (one.first, two.first, three.first) == (first, first + 3, first + 5)
    assert kit.submit(row(1), row(2), key="a") == replace(three, first=first)
    assert kit.submit(row(4), row(5), key="a", offset=2).first == first + 3
    assert kit.submit(row(5), row(6), key="a", offset=3).first == first + 4
    assert kit.submit(row(2), row(4), key="a", offset=1).first == 0  # other ids lie between them
    assert kit.submit(key="a", offset=5).first == 0
    assert kit.submit(row(7), key="b", offset=1, last=False).first == first + 6
    assert kit.submit(row(3), row(7), key="b").first == 0


@pytest.mark.parametrize(
    ("function", "rows", "words"),
    [
        (True, [row(1)], "1 values for the 0 fields"),
        (True, [TaskRow(0, 0)], "of the function work\\(\\) comes without its call"),
        (False, [replace(call_row(), params=("x",))], "of the command echo {x} cannot be a call"),
        (True, [call_row(args="e" * 64, size=3)], "has no value eeee"),
        (True, [call_row(values=["nonsense"])], "'nonsense' is no digest"),
        (True, [call_row(args=digest_of(CODE), size=3)], f"has {len(CODE)} bytes, not 3"),
        (True, [call_row(data=b"x" * (INLINE_BYTES + 1))], "put them as a value"),
        (True, [replace(call_row(1), after=())], "result of task 1 must run after it"),
        (True, [call_row(1)], "task 1 is a command, which returns no value"),
        (True, [call_row(*range(1, MAX_INPUTS + 2))], f"{MAX_INPUTS} is the most"),
        (True, [call_row(99)], "no task 99"),
    ],
)
def test_calls_that_make_no_sense_are_refused(
    local: SqliteStore, function: bool, rows: Sequence[TaskRow], words: str
) -> None:
    kit = Kit(local)
    kit.submit(row(1))
    with pytest.raises(UsageError, match=words):
        kit.submit(*rows, template=template(local) if function else ECHO, key="k")
    assert kit.submit(key="k", last=False).received == 0


def test_function_that_is_not_in_the_store_is_refused(local: SqliteStore) -> None:
    kit = Kit(local)
    code = put(local, CODE)
    for function in (Function("f", "d" * 64), Function("f", code, setup="d" * 64)):
        with pytest.raises(UsageError, match="has no value dddd"):
            kit.submit(call_row(), template=Template(("f",), function=function))


# -- finish ------------------------------------------------------------------------------------------------------


def test_what_was_returned_is_recorded_once(kit: Kit) -> None:
    (id_,) = submit(kit, call_row())
    pilot = kit.pilot()
    (task,) = kit.claim(pilot)
    finish = Finish(pilot, (ended(task, Value(b"42"), text="forty-two"),))
    assert kit.store.call(finish) == Finished(1)
    other = Finish(pilot, (ended(task, Value(b"43"), text="another"),))
    assert [kit.store.call(again) for again in (finish, other)] == [Finished(0, 1), Finished(0, 1)]
    assert returned(kit, id_) == (
        ReturnedCall(TaskId(id_), 1, S.DONE, Cause.EXIT, 0, None, "n1", None, Value(b"42", size=2), "forty-two"),
    )
    last = kit.task(id_).last
    assert last is not None
    assert last.value_text == "forty-two"
    (attempt,) = kit.store.call(GetTask(TaskId(id_))).attempts
    assert attempt.value_text == "forty-two"
    assert [task.last and task.last.value_text for task in kit.store.call(GetTasks()).tasks] == ["forty-two"]


def test_nobody_else_finishes_a_call(kit: Kit) -> None:
    (id_,) = submit(kit, call_row())
    one, other = kit.pilot(), kit.pilot()
    (task,) = kit.claim(one)
    assert kit.store.call(Finish(other, (ended(task, Value(b"wrong")),))) == Finished(0, 0, 1)
    assert returned(kit, id_) == ()
    kit.release(one, task)
    (again,) = kit.claim(other)
    assert kit.store.call(Finish(one, (ended(task, Value(b"late")),))) == Finished(0, 0, 1)
    assert kit.store.call(Finish(other, (ended(again, Value(b"right")),))) == Finished(1)
    assert [call.value for call in returned(kit, id_)] == [Value(b"right", size=5)]


def test_every_attempt_keeps_what_it_raised(kit: Kit) -> None:
    (id_,) = submit(kit, call_row(), max_retries=1)
    pilot = kit.pilot()
    for number in (1, 2):
        (task,) = kit.claim(pilot)
        failed = replace(
            ended(task, Value(b"error %d" % number), code=1, text=f"ValueError: {number}"), stderr=b"Traceback"
        )
        kit.store.call(Finish(pilot, (failed,)))
    (call,) = returned(kit, id_)
    assert (call.state, call.attempt, call.value, call.stderr) == (
        S.FAILED, 2, Value(b"error 2", size=7), b"Traceback"
    )  # fmt: skip
    assert [one.value_text for one in kit.store.call(GetTask(TaskId(id_))).attempts] == [
        "ValueError: 1",
        "ValueError: 2",
    ]
    kit.retry(id_)
    (task,) = kit.claim(pilot)
    assert task.call == Call(Value(b"args"))
    kit.store.call(Finish(pilot, (ended(task, Value(b"fine")),)))
    assert [(one.state, one.value) for one in returned(kit, id_)] == [(S.DONE, Value(b"fine", size=4))]


def test_call_that_came_back_with_its_lost_pilot_is_recorded_once(kit: Kit) -> None:
    (id_,) = submit(kit, call_row())
    pilot = kit.pilot()
    (task,) = kit.claim(pilot)
    kit.start(pilot, task)
    kit.store.call(EndPilot(pilot, PilotState.FAILED, "lost"))
    assert kit.state(id_) is S.READY
    assert kit.store.call(Finish(pilot, (ended(task, Value(b"after all")),))) == Finished(1)
    assert [(one.attempt, one.value) for one in returned(kit, id_)] == [(1, Value(b"after all", size=9))]


def test_large_result_is_kept_by_its_digest(kit: Kit) -> None:
    (id_,) = submit(kit, call_row())
    pilot = kit.pilot()
    (task,) = kit.claim(pilot)
    value = Value(digest=put(kit.store, LARGE), size=len(LARGE))
    assert kit.store.call(Finish(pilot, (ended(task, value),))) == Finished(1)
    assert [one.value for one in returned(kit, id_)] == [value]
    assert get(kit.store, value.digest) == LARGE


@pytest.mark.parametrize("digest", ["e" * 64, "nonsense"])
def test_call_of_which_the_result_never_came_runs_again(kit: Kit, digest: str) -> None:
    (id_,) = submit(kit, call_row())
    pilot = kit.pilot()
    for number in range(1, CRASH_LIMIT + 1):
        (task,) = kit.claim(pilot)
        lost = Finish(pilot, (ended(task, Value(digest=digest, size=9)),))
        assert kit.store.call(lost) == Finished(1)
        assert kit.store.call(lost) == Finished(0, 1)
        assert kit.state(id_) is (S.READY if number < CRASH_LIMIT else S.FAILED)
    (call,) = returned(kit, id_)
    assert (call.cause, call.exit_code, call.value, call.value_text) == (Cause.PILOT_LOST, None, None, "")
    assert call.message == "its result of 9 bytes was lost on the way to the store"


def test_text_of_a_result_is_bounded(kit: Kit) -> None:
    (id_,) = submit(kit, call_row())
    pilot = kit.pilot()
    (task,) = kit.claim(pilot)
    kit.store.call(Finish(pilot, (ended(task, None, code=1, text="x" * 10_000),)))
    (call,) = returned(kit, id_)
    assert (call.value_text, call.value) == ("x" * TEXT_CHARS, None)


# -- results as arguments ----------------------------------------------------------------------------------------


def test_call_is_given_the_results_that_it_needs(kit: Kit) -> None:
    pilot = kit.pilot()
    one, two, three = submit(kit, call_row(), call_row(), call_row())
    (four,) = submit(kit, call_row(three, one, two, three))
    assert kit.state(four) is S.WAITING
    large = Value(digest=put(kit.store, LARGE), size=len(LARGE))
    values = {one: Value(b"1", size=1), two: large, three: Value(b"3", size=1)}
    for task in kit.claim(pilot):
        kit.store.call(Finish(pilot, (ended(task, values[task.task]),)))
    batch = kit.claim_batch(pilot)
    (task,) = batch.tasks
    assert task.call is not None
    assert task.call.given == (values[three], values[one], large, values[three])
    assert kit.claim_batch(pilot, number=batch.number) == batch


def test_call_without_the_result_that_it_needs_is_skipped_and_runs_after_a_retry(kit: Kit) -> None:
    pilot = kit.pilot()
    (one,) = submit(kit, call_row())
    (two,) = submit(kit, call_row(one))
    (task,) = kit.claim(pilot)
    kit.store.call(Finish(pilot, (ended(task, Value(b"error"), code=1),)))
    assert kit.state(two) is S.SKIPPED
    assert [(call.attempt, call.cause, call.value) for call in returned(kit, two)] == [(0, None, None)]
    kit.retry(one)
    (task,) = kit.claim(pilot)
    kit.store.call(Finish(pilot, (ended(task, Value(b"fine")),)))
    (task,) = kit.claim(pilot)
    assert task.call == Call(Value(b"args"), (TaskId(one),), (), (Value(b"fine", size=4),))


def test_results_that_are_too_much_for_an_answer_are_given_by_their_digests(kit: Kit) -> None:
    pilot = kit.pilot()
    ids = submit(kit, *[call_row() for _ in range(40)])
    results = {}
    for task in kit.claim(pilot):
        results[task.task] = bytes([task.task]) * INLINE_BYTES
        kit.store.call(Finish(pilot, (ended(task, Value(results[task.task])),)))
    submit(kit, call_row(*ids))
    batch = kit.claim_batch(pilot)
    assert kit.claim_batch(pilot, number=batch.number) == batch
    assert batch.tasks[0].call is not None
    given = batch.tasks[0].call.given
    assert {len(value.data) for value in given} == {0, INLINE_BYTES}
    found = [value.data or kit.store.call(GetValue(value.digest)).data for value in given]
    assert found == [results[TaskId(id_)] for id_ in ids]


def test_calls_that_are_too_much_for_an_answer_stay_for_the_next(kit: Kit) -> None:
    pilot = kit.pilot()
    ids = submit(kit, *[call_row(data=bytes([n]) * INLINE_BYTES) for n in range(200)])
    sizes = []
    claimed = []
    while tasks := kit.claim(pilot, 1000, want=Resources(cores=1000)):
        sizes.append(len(tasks))
        claimed += [task.task for task in tasks]
    assert claimed == ids
    assert sizes == [127, 73]


# -- what was returned -------------------------------------------------------------------------------------------


def test_only_tasks_that_are_over_have_returned(kit: Kit) -> None:
    pilot = kit.pilot()
    one, two, three, four = submit(kit, *[call_row() for _ in range(4)])
    first, second = kit.claim(pilot, 2)
    kit.store.call(Finish(pilot, (ended(first, Value(b"1")), result(second, cause=Cause.TIMEOUT))))
    kit.cancel(three)
    answer = kit.store.call(GetReturned(tuple(map(TaskId, (four, three, 999, two, one)))))
    assert [(call.task, call.state, call.cause) for call in answer.rows] == [
        (three, S.CANCELED, None), (two, S.FAILED, Cause.TIMEOUT), (one, S.DONE, Cause.EXIT),
    ]  # fmt: skip
    assert answer.asked == 5
    kit.submit(row(1), key="command")
    kit.claim(pilot)
    (command,) = kit.store.call(GetReturned((TaskId(one),))).rows
    assert command.stderr == b""


def test_changes_come_with_what_was_returned(kit: Kit) -> None:
    pilot = kit.pilot()
    seq = kit.store.call(GetChanges()).seq
    one, two, _ = submit(kit, *[call_row() for _ in range(3)])
    first, second = kit.claim(pilot, 2)
    over = tuple(sorted(TASK_FINAL))
    parked = GetChanges(seq, states=over, returned=True)
    assert not parked.worth_sending(kit.store.call(parked))
    kit.store.call(Finish(pilot, (ended(first, Value(b"1")), result(second, cause=Cause.TIMEOUT))))
    answer = kit.store.call(parked)
    assert answer.changes == ((one, S.DONE, 1), (two, S.FAILED, 1))
    assert answer.returned == returned(kit, one, two)
    assert kit.store.call(GetChanges(seq, states=over)).returned == ()


def test_answer_is_bounded(kit: Kit) -> None:
    pilot = kit.pilot()
    ids = submit(kit, *[call_row() for _ in range(400)])
    for start in range(0, 400, 100):
        tasks = kit.claim(pilot, 100, want=Resources(cores=100))
        kit.store.call(Finish(pilot, tuple(ended(task, Value(bytes([start // 100]) * INLINE_BYTES)) for task in tasks)))
    left = tuple(map(TaskId, ids))
    sizes = []
    found: list[int] = []
    while left:
        answer = kit.store.call(GetReturned(left))
        sizes.append(len(answer.rows))
        found += [call.task for call in answer.rows]
        left = left[answer.asked :]
    assert found == ids
    assert sizes == [256, 144]
    assert kit.store.call(GetReturned(tuple(map(TaskId, range(10_000, 12_000))))).asked == MAX_RETURNED


# -- the file ----------------------------------------------------------------------------------------------------


def test_views_show_the_texts_of_values(local: SqliteStore) -> None:
    kit = Kit(local)
    submit(kit, call_row())
    pilot = kit.pilot()
    (task,) = kit.claim(pilot)
    local.call(Finish(pilot, (ended(task, Value(b"1"), text="array([1, 2])"),)))
    kit.submit(row(1))
    kit.finish(pilot, *kit.claim(pilot))
    with closing(Database(local.path).conn) as other:
        for view in ("attempts", "results"):
            found = other.execute(f"SELECT value FROM {view} ORDER BY task_id").fetchall()
            assert found == [("array([1, 2])",), (None,)]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("DELETE FROM call", "1 tasks of functions without a call, or of commands with one: 1"),
        ("INSERT INTO call VALUES (2, x'00')", "1 tasks of functions without a call, or of commands with one: 2"),
        ("DELETE FROM value_use", "1 returned values that their task's campaign does not keep: 1"),
        ("INSERT INTO returned VALUES (77 << 20, x'', NULL, '')", "returned values without an attempt"),
    ],
)
def test_check_finds_what_does_not_belong_together(tmp_path: Path, damage: str, words: str) -> None:
    store = SqliteStore(tmp_path / "store.db")
    kit = Kit(store)
    submit(kit, call_row())
    kit.submit(row(1))
    pilot = kit.pilot()
    (task, _) = kit.claim(pilot)
    value = Value(digest=put(store, SMALL), size=len(SMALL))
    store.call(Finish(pilot, (ended(task, value),)))
    assert store.call(CheckStore()).problems == ()
    store._connection.execute(damage)
    assert [found for found in store.call(CheckStore()).problems if words in found]
    store.close()


def test_store_of_schema_5_is_migrated_and_tells_ids_where_they_follow_one_another(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = SqliteStore(path)
    kit = Kit(store)
    whole = kit.submit(row(1), row(2), key="whole", last=False)
    kit.submit(row(3), key="parted", last=False)
    kit.submit(row(4), key="other")
    kit.submit(row(5), key="parted", offset=1, last=False)
    store.close()
    database = Database(path)
    for table in ("call", "value_use", "returned", "value", "campaign_run"):
        database[table].drop()
    database.execute("DELETE FROM _sqlite_migrations WHERE name = 'm006_calls'")
    database.execute("PRAGMA user_version = 5")
    database.conn.commit()
    database.conn.close()
    store = SqliteStore(path)
    kit = Kit(store)
    assert store._connection.execute("PRAGMA user_version").fetchone() == (SCHEMA,)
    assert kit.submit(row(1), row(2), key="whole", last=False) == whole
    assert kit.submit(row(3), row(5), key="parted", last=False).first == 0
    assert kit.submit(row(6), key="parted", offset=2).first == 6
    (id_,) = submit(kit, call_row())
    pilot = kit.pilot()
    assert [task.call is not None for task in kit.claim(pilot)] == [False] * 6 + [True]
    assert (id_, store.call(CheckStore()).problems) == (7, ())
    store.close()


def test_calls_are_known_again(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pilotmtc.store.requests.calls._KNOWN_PAGE", 2)
    large = put(kit.store, LARGE)
    submit(kit, call_row(data=b"of others"))
    work = template(kit.store)
    rows = call_row(data=b"a"), call_row(args=large, size=len(LARGE))
    first = kit.submit(*rows, template=work, key="k", last=False)
    submit(kit, call_row(data=b"of others"))
    needs = call_row(first.first, data=b"c")
    assert needs.call is not None
    needs = replace(needs, call=replace(needs.call, identity=b"itself"))
    kit.submit(needs, template=work, key="k", offset=2)
    pilot = kit.pilot()
    kit.claim(pilot, 2)  # the first of others, and of these
    found: list[KnownCall] = []
    after = 0
    while True:
        page = kit.store.call(GetCalls(first.campaign, after))
        found += page.calls
        if not page.next:
            break
        after = page.next
    code, one, two = digest_of(CODE), first.first, TaskId(first.first + 1)
    assert found == [
        KnownCall(one, S.CLAIMED, "work", code, bytes.fromhex(digest_of(b"a"))),
        KnownCall(two, S.READY, "work", code, bytes.fromhex(large)),
        KnownCall(TaskId(two + 2), S.WAITING, "work", code, b"itself", (one,)),
    ]


def test_commands_and_unknown_campaigns_have_no_calls(kit: Kit) -> None:
    campaign = kit.submit(row(1)).campaign
    assert kit.store.call(GetCalls(campaign)).calls == ()
    assert kit.store.call(GetCalls(CampaignId(99))) == KnownCalls(())
