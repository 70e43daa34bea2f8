"""Random histories, with messages repeated and late, against a model that is a dict."""

from dataclasses import dataclass, field
from tempfile import TemporaryDirectory
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import replace

from pilotmtc.clock import FakeClock
from pilotmtc.model import After, Call, Claimed, Function, PilotId, Resources, TaskId, Template, Value
from pilotmtc.protocol.agent import EndPilot, Finish, Finished
from pilotmtc.protocol.client.campaigns import GetCampaigns
from pilotmtc.protocol.client.maintenance import CheckStore, GetLimits, SetLimits
from pilotmtc.protocol.client.tasks import Edit, GetReturned, GetTask, GetTasks
from pilotmtc.protocol.client.watch import GetChanges
from pilotmtc.protocol.records import Filter, Limit
from pilotmtc.protocol.values import PutValue
from pilotmtc.states import (
    CRASHES,
    NOT_CHARGED,
    TASK_FINAL,
    TASK_HELD,
    TASK_TRANSITIONS,
    Cause,
    PilotState,
    TaskState,
    after_attempt,
)
from pilotmtc.store.requests.steer import steer
from pilotmtc.store.sqlite import SqliteStore
from tests.contract.storekit import Kit, digest_of, result, row

S = TaskState
BAD = {S.FAILED, S.CANCELED, S.SKIPPED}
RETRIES = 1
LEASE_S = 60.0
CODE = b"a function"


@dataclass
class Model:
    """A task as it ought to be."""

    needs: dict[int, bool]
    priority: int = 0
    state: TaskState = S.READY
    attempt: int = 0
    pilot: int | None = None
    failures: int = 0
    crashes: int = 0
    cancel: bool = False
    recorded: set[int] = field(default_factory=set)
    limited: bool = False  # it asks for a unit of what may be limited
    call: bool = False
    inputs: tuple[int, ...] = ()  # calls whose values it is given
    values: dict[int, Value] = field(default_factory=dict)  # what its attempts returned
    lost: int | None = None  # the pilot with which the attempt was lost, while nobody has claimed it again


class StoreMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = TemporaryDirectory()
        self.clock = FakeClock()
        self.few = pytest.MonkeyPatch()
        self.few.setattr(steer, "SLICE", 2)  # so that changes take several
        self.store = SqliteStore(f"{self.directory.name}/s.db", self.clock, LEASE_S)
        self.kit = Kit(self.store)
        self.tasks: dict[int, Model] = {}
        self.pilots = [self.kit.pilot(), self.kit.pilot()]
        self.over: set[PilotId] = set()  # given up, but they may come back
        self.given: list[tuple[PilotId, Claimed]] = []
        self.seq = self.store.call(GetChanges()).seq
        self.told: dict[int, TaskState] = {}
        self.limit: int | None = None
        self.results = 0
        self.store.call(PutValue(digest_of(CODE), 0, len(CODE), CODE))

    def teardown(self) -> None:
        problems = self.store.call(CheckStore()).problems
        self.few.undo()
        self.store.close()
        self.directory.cleanup()
        assert problems == ()

    # -- the model's rules, written as plainly as can be --

    def bad(self, task: Model) -> bool:
        return any(well and self.tasks[need].state in BAD for need, well in task.needs.items())

    def left(self, task: Model) -> int:
        return sum(self.tasks[need].state not in TASK_FINAL for need in task.needs)

    def follow(self) -> None:
        """Let waiting tasks go on; ids are in topological order, so once is enough."""
        for _, task in sorted(self.tasks.items()):
            if task.state is S.WAITING:
                task.lost = None
                task.state = S.SKIPPED if self.bad(task) else S.WAITING if self.left(task) else S.READY

    def end(self, task: Model, cause: Cause, code: int | None) -> None:
        if cause is Cause.CANCELED and not task.cancel:
            cause = Cause.PREEMPTED
        failures, crashes = task.failures + (cause not in NOT_CHARGED), task.crashes + (cause in CRASHES)
        task.recorded.add(task.attempt)
        task.state = after_attempt(
            cause, code, cancel=task.cancel, failures=failures, max_retries=RETRIES, crashes=crashes
        )
        if task.state in (S.READY, S.FAILED):
            task.failures, task.crashes = failures, crashes
        task.cancel = False

    def units_free(self) -> int:
        """Return how many units may be given; less than 0 if the limit was lowered while more were in use."""
        assert self.limit is not None
        return self.limit - self.units()

    def units(self) -> int:
        return sum(task.limited and task.state in TASK_HELD for task in self.tasks.values())

    def comes_next(self, limit: int) -> list[int]:
        """Return the tasks that a claim is to be given: those that ask for a unit only if one is left."""
        chosen: list[int] = []
        free = 0 if self.limit is None else self.units_free()
        for _, id_ in sorted((-task.priority, id_) for id_, task in self.tasks.items() if task.state is S.READY):
            if self.tasks[id_].limited:
                if free < 1:
                    continue
                free -= 1
            chosen.append(id_)
        return chosen[:limit]

    # -- what happens --

    @rule(amount=st.one_of(st.none(), st.integers(0, 3)))
    def set_limit(self, amount: int | None) -> None:
        self.store.call(SetLimits({"lic": amount}))
        self.limit = amount

    @rule()
    def restart(self) -> None:
        self.store.close()
        self.store = self.kit.store = SqliteStore(f"{self.directory.name}/s.db", self.clock, LEASE_S)
        self.seq = self.store.call(GetChanges()).seq

    @rule(
        data=st.data(),
        priorities=st.lists(st.integers(-1, 1), min_size=1, max_size=4),
        limited=st.booleans(),
        calls=st.booleans(),
    )
    def submit(self, data: st.DataObject, priorities: list[int], limited: bool, calls: bool) -> None:
        rows = []
        first = len(self.tasks) + 1
        for id_, priority in enumerate(priorities, first):
            earlier = st.tuples(st.integers(1, max(1, id_ - 1)), st.booleans())
            picks = data.draw(st.lists(earlier, max_size=2)) if id_ > 1 else []
            needs: dict[int, bool] = {}
            for need, well in picks:
                needs[need] = needs.get(need, False) or well
            inputs = tuple(need for need, well in needs.items() if calls and well and self.tasks[need].call)
            call = Call(Value(b"args"), tuple(map(TaskId, inputs))) if calls else None
            one = row(id_, priority=priority, after=[After(TaskId(need), well) for need, well in picks])
            rows.append(replace(one, call=call))
            self.tasks[id_] = Model(needs, priority, limited=limited, call=calls, inputs=inputs)
            if needs:
                self.tasks[id_].state = S.WAITING
        needs_unit = Resources(named={"lic": 1.0} if limited else {})
        function = Function("f", digest_of(CODE)) if calls else None
        template = Template(("x",), fields=("x",), max_retries=RETRIES, function=function)
        assert self.kit.submit(*rows, template=template, resources=(needs_unit,)).first == first
        self.follow()

    @rule(which=st.integers(0, 1), limit=st.integers(1, 4), again=st.booleans())
    def claim(self, which: int, limit: int, again: bool) -> None:
        pilot = self.pilots[which]
        if pilot in self.over:
            return
        ready, before = self.comes_next(limit), self.units()
        batch = self.kit.claim_batch(pilot, limit)
        if again and batch.tasks:
            assert self.kit.claim_batch(pilot, limit, number=batch.number) == batch
        assert [task.task for task in batch.tasks] == ready
        for given in batch.tasks:
            task = self.tasks[given.task]
            task.state, task.attempt, task.pilot, task.lost = S.CLAIMED, task.attempt + 1, pilot, None
            assert given.attempt == task.attempt
            assert given.call == self.call_of(task)
            self.given.append((pilot, given))
        assert self.limit is None or self.units() <= max(self.limit, before)

    def call_of(self, task: Model) -> Call | None:
        """Return what an agent is given of a call."""
        if not task.call:
            return None
        needed = [self.tasks[need] for need in task.inputs]
        given = tuple(need.values[need.attempt] for need in needed)
        return Call(Value(b"args"), tuple(map(TaskId, task.inputs)), (), given)

    def holds(self, pilot: PilotId, given: Claimed) -> bool:
        task = self.tasks[given.task]
        return task.state in TASK_HELD and (task.pilot, task.attempt) == (pilot, given.attempt)

    @precondition(lambda self: self.given)
    @rule(data=st.data())
    def started(self, data: st.DataObject) -> None:
        pilot, given = data.draw(st.sampled_from(self.given))
        self.kit.start(pilot, given)
        if self.holds(pilot, given):
            self.tasks[given.task].state = S.RUNNING

    @precondition(lambda self: self.given)
    @rule(data=st.data(), cause=st.sampled_from([Cause.EXIT, Cause.EXIT, *Cause]), code=st.integers(0, 1))
    def finish(self, data: st.DataObject, cause: Cause, code: int) -> None:
        pilot, given = data.draw(st.sampled_from(self.given))
        task = self.tasks[given.task]
        if cause not in NOT_CHARGED and cause is not Cause.CANCELED:
            self.find_again(pilot, given)
        held = self.holds(pilot, given)
        again = given.attempt in task.recorded
        self.results += 1
        value = None
        if task.call and cause is Cause.EXIT:
            value = Value(b"%d" % self.results, size=len(str(self.results)))
        told = replace(result(given, cause=cause, code=code), value=value, value_text=str(self.results))
        answer = self.store.call(Finish(pilot, (told,)))
        assert answer == Finished(int(held), int(again), int(not held and not again))
        if held:
            if value is not None:
                task.values[given.attempt] = value
            self.end(task, cause, code if cause is Cause.EXIT else None)
            self.follow()

    def find_again(self, pilot: PilotId, given: Claimed) -> None:
        """Let the pilot have an attempt back that was lost with it, unless somebody has claimed the task since."""
        task = self.tasks[given.task]
        if task.state is S.READY and (task.lost, task.attempt) == (pilot, given.attempt):
            task.state, task.pilot, task.lost = S.RUNNING, pilot, None
            if given.attempt in task.recorded:
                task.recorded.remove(given.attempt)
                task.crashes -= 1

    @precondition(lambda self: self.given)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        pilot, given = data.draw(st.sampled_from(self.given))
        self.kit.release(pilot, given)
        if self.holds(pilot, given):
            task = self.tasks[given.task]
            task.state, task.cancel = S.CANCELED if task.cancel else S.READY, False
            self.follow()

    @rule(which=st.integers(0, 1), silently=st.booleans())
    def lose(self, which: int, silently: bool) -> None:
        pilot = self.pilots[which]
        if silently:
            other = self.pilots[1 - which]
            self.clock.advance(LEASE_S - 1)
            if other not in self.over:
                self.kit.beat(other)
            self.clock.advance(2)
            self.store.due()
        else:
            self.store.call(EndPilot(pilot, PilotState.FAILED, "lost"))
        if pilot in self.over:
            return
        for task in self.tasks.values():
            if task.pilot == pilot and task.state in TASK_HELD:
                if task.state is S.RUNNING:
                    self.end(task, Cause.PILOT_LOST, None)
                else:
                    task.state, task.cancel = S.CANCELED if task.cancel else S.READY, False
                task.lost = pilot if task.state is S.READY else None
        self.follow()
        if silently:
            self.over.add(pilot)
        else:
            self.pilots[which] = self.kit.pilot()

    @precondition(lambda self: self.over)
    @rule(data=st.data(), back=st.booleans())
    def come_back(self, data: st.DataObject, back: bool) -> None:
        """A pilot that was given up comes back with what it runs, or another takes its place."""
        pilot = data.draw(st.sampled_from(sorted(self.over)))
        self.over.remove(pilot)
        if not back:
            self.pilots[self.pilots.index(pilot)] = self.kit.pilot()
            return
        mine = [given for owner, given in self.given if owner == pilot]
        held = data.draw(st.lists(st.sampled_from(mine), unique_by=lambda given: given.task)) if mine else []
        before = self.units()
        for given in sorted(held, key=lambda given: given.task):
            task = self.tasks[given.task]
            if self.limit is None or not task.limited or self.units_free() > 0:
                self.find_again(pilot, given)
        assert self.limit is None or self.units() <= max(self.limit, before)
        orders = self.kit.attach(pilot, *held)
        cancels = [
            (TaskId(id_), task.attempt) for id_, task in self.tasks.items() if task.cancel and task.pilot == pilot
        ]
        gone = [(given.task, given.attempt) for given in held if not self.holds(pilot, given)]
        assert sorted(orders.cancel) == sorted(cancels + gone)

    @precondition(lambda self: self.tasks)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        ids = data.draw(st.sets(st.sampled_from(sorted(self.tasks)), min_size=1, max_size=3))
        fit = 0
        for id_ in ids:
            task = self.tasks[id_]
            if task.state in (S.WAITING, S.READY, S.SKIPPED):
                task.state = S.CANCELED
                fit += 1
            elif task.state in TASK_HELD:
                task.cancel = True
                fit += 1
        self.follow()
        assert self.kit.cancel(*ids).changed == fit

    @precondition(lambda self: self.tasks)
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        ids = data.draw(st.sets(st.sampled_from(sorted(self.tasks)), min_size=1, max_size=3))
        revived: set[int] = set()
        for id_, task in sorted(self.tasks.items()):
            touched = bool(revived & task.needs.keys())
            if (id_ in ids and task.state in BAD) or (touched and task.state is S.SKIPPED):
                if not self.bad(task):
                    task.state = S.WAITING if self.left(task) else S.READY
                    task.failures = task.crashes = 0
                    revived.add(id_)
            elif touched and task.state in (S.WAITING, S.READY):
                task.state = S.WAITING if self.left(task) else S.READY
        assert self.kit.retry(*ids).changed == len(revived)

    @precondition(lambda self: self.tasks)
    @rule(data=st.data(), priority=st.integers(-2, 2))
    def edit(self, data: st.DataObject, priority: int) -> None:
        id_ = data.draw(st.sampled_from(sorted(self.tasks)))
        task = self.tasks[id_]
        fit = task.state not in TASK_HELD and task.state is not S.DONE
        changed = self.store.call(Edit(uuid4().hex, Filter(ids=(TaskId(id_),)), priority=priority)).changed
        assert changed == int(fit)
        if fit:
            task.priority = priority

    # -- what must hold --

    @invariant()
    def store_and_model_agree(self) -> None:
        tasks = self.store.call(GetTasks(limit=1000)).tasks
        found = {t.id: (t.state, t.attempt, t.priority, t.failures, t.crashes, t.cancel, t.unmet) for t in tasks}
        expected = {
            id_: (t.state, t.attempt, t.priority, t.failures, t.crashes, t.cancel,
                  self.left(t) if t.state is S.WAITING else 0)
            for id_, t in self.tasks.items()
        }  # fmt: skip
        assert found == expected

    @invariant()
    def units_in_use_are_those_of_held_tasks(self) -> None:
        expected = () if self.limit is None else (Limit("lic", self.limit, self.units()),)
        assert self.store.call(GetLimits()).limits == expected

    @invariant()
    def counts_agree(self) -> None:
        counts: dict[TaskState, int] = {}
        for campaign in self.store.call(GetCampaigns()).campaigns:
            for state, n in campaign.counts.items():
                counts[state] = counts.get(state, 0) + n
        states = [task.state for task in self.tasks.values()]
        expected = {state: states.count(state) for state in set(states)}
        assert counts == expected, (counts, expected)

    @invariant()
    def watchers_are_told_legal_transitions_to_the_present_states(self) -> None:
        changes = self.store.call(GetChanges(self.seq))
        assert not changes.reset
        self.seq = changes.seq
        for task, state, _ in changes.changes:
            assert task not in self.told or (self.told[task], state) in TASK_TRANSITIONS
            self.told[task] = state
        assert self.told == {id_: task.state for id_, task in self.tasks.items()}

    @invariant()
    def attempts_are_recorded_once(self) -> None:
        for id_, task in self.tasks.items():
            attempts = [a.attempt for a in self.store.call(GetTask(TaskId(id_))).attempts]
            assert attempts == sorted(task.recorded)

    @invariant()
    def what_was_returned_is_there(self) -> None:
        rows = self.store.call(GetReturned(tuple(map(TaskId, self.tasks)))).rows
        expected = {}
        for id_, task in self.tasks.items():
            if task.state in TASK_FINAL:
                newest = max(task.recorded, default=0)
                expected[id_] = (task.state, newest, task.values.get(newest))
        assert {one.task: (one.state, one.attempt, one.value) for one in rows} == expected


StoreMachine.TestCase.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
TestStoreMachine = StoreMachine.TestCase
