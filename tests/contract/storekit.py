"""Short words for what store tests say again and again."""

import hashlib
from collections.abc import Sequence
from uuid import uuid4

from pilotmtc.model import (
    After,
    Call,
    CampaignId,
    Claimed,
    PilotDescription,
    PilotId,
    Resources,
    Result,
    Task,
    TaskId,
    TaskRow,
    Template,
    Value,
)
from pilotmtc.protocol.agent import AttachPilot, Batch, Claim, Finish, Finished, Heartbeat, Orders, Release, Started
from pilotmtc.protocol.base import Changed
from pilotmtc.protocol.client.campaigns import GetCampaigns, Submit, Submitted
from pilotmtc.protocol.client.pilots import CreatePilot
from pilotmtc.protocol.client.tasks import Cancel, GetTask, Retry
from pilotmtc.protocol.records import Filter
from pilotmtc.states import Cause, TaskState
from pilotmtc.store.interface import Store

ECHO = Template(("echo", "{x}"), fields=("x",))
LARGE = Resources(cores=64)


def row(
    x: object = 0, *, name: str | None = None, after: Sequence[After] = (), priority: int = 0, res: int = 0
) -> TaskRow:
    """Return a task of the first template."""
    return TaskRow(0, res, (str(x),), priority, name, (), tuple(after))


def digest_of(data: bytes) -> str:
    """Return the name under which the store keeps a value."""
    return hashlib.sha256(data).hexdigest()


def call_row(
    *inputs: int, data: bytes = b"args", args: str = "", size: int = 0, values: Sequence[str] = (), priority: int = 0
) -> TaskRow:
    """Return a call of the first template's function; `args` is a digest, `inputs` are those whose results it needs."""
    needs = tuple(map(TaskId, inputs))
    call = Call(Value(b"" if args else data, args, size), needs, tuple(values))
    return TaskRow(0, 0, (), priority, None, (), tuple(After(need) for need in needs), call)


class Kit:
    """A store with one campaign's worth of words."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._claims: dict[PilotId, int] = {}

    def submit(
        self,
        *rows: TaskRow,
        template: Template = ECHO,
        resources: Sequence[Resources] = (Resources(),),
        key: str = "",
        offset: int = 0,
        last: bool = True,
        own: bool = False,
        name: str = "c",
    ) -> Submitted:
        return self.store.call(Submit(key or uuid4().hex, offset, name, (template,), tuple(resources), rows, last, own))

    def pilot(self, campaign: CampaignId | None = None, attach: bool = True) -> PilotId:
        pilot = self.store.call(CreatePilot(uuid4().hex, PilotDescription(campaign=campaign))).pilots[0].id
        if attach:
            self.store.call(AttachPilot(pilot, "host", 1, 1, 64))
        return pilot

    def attach(self, pilot: PilotId, *held: Claimed) -> Orders:
        return self.store.call(AttachPilot(pilot, "host", 1, 1, 64, tuple((task.task, task.attempt) for task in held)))

    def claim_batch(
        self,
        pilot: PilotId,
        limit: int = 100,
        *,
        number: int = 0,
        total: Resources = LARGE,
        want: Resources = LARGE,
        time_left_s: float = 0.0,
        backfill: bool = False,
    ) -> Batch:
        self._claims[pilot] = number or self._claims.get(pilot, 0) + 1
        return self.store.call(Claim(pilot, self._claims[pilot], total, want, limit, time_left_s, backfill))

    def claim(self, pilot: PilotId, limit: int = 100, *, want: Resources = LARGE) -> tuple[Claimed, ...]:
        return self.claim_batch(pilot, limit, want=want).tasks

    def start(self, pilot: PilotId, *tasks: Claimed) -> None:
        self.store.call(Started(pilot, tuple((task.task, task.attempt, 5.0, "n1", "0") for task in tasks)))

    def finish(self, pilot: PilotId, *tasks: Claimed, code: int = 0, cause: Cause = Cause.EXIT) -> Finished:
        results = tuple(result(task, code=code, cause=cause) for task in tasks)
        return self.store.call(Finish(pilot, results))

    def release(self, pilot: PilotId, *tasks: Claimed) -> None:
        self.store.call(Release(pilot, tuple((task.task, task.attempt) for task in tasks)))

    def beat(self, pilot: PilotId) -> Orders:
        return self.store.call(Heartbeat(pilot))

    def cancel(self, *ids: int, key: str = "") -> Changed:
        return self.store.call(Cancel(key or uuid4().hex, Filter(ids=tuple(map(TaskId, ids)))))

    def retry(self, *ids: int, key: str = "") -> Changed:
        return self.store.call(Retry(key or uuid4().hex, Filter(ids=tuple(map(TaskId, ids)))))

    def task(self, id_: int) -> Task:
        found = self.store.call(GetTask(TaskId(id_))).task
        assert found is not None
        return found

    def state(self, id_: int) -> TaskState:
        return self.task(id_).state

    def counts(self, campaign: CampaignId) -> dict[TaskState, int]:
        return self.store.call(GetCampaigns(campaign)).campaigns[0].counts


def result(task: Claimed, *, code: int = 0, cause: Cause = Cause.EXIT, out: bytes = b"") -> Result:
    """Return how `task` ended."""
    exit_code = code if cause is Cause.EXIT else None
    return Result(
        task.task, task.attempt, cause, exit_code, None, "n1", "0", 5.0, 1.5, 0.5, 1 << 20, out, b"", len(out)
    )
