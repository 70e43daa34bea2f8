"""Submit: inserts each task once, with its dependencies."""

from collections.abc import Iterable
from typing import Any, NamedTuple, Self

import msgspec

from pilotmtc.errors import UsageError
from pilotmtc.model import CampaignId, TaskId, TaskRow
from pilotmtc.protocol.client.campaigns import ReopenCampaign, Submit, Submitted
from pilotmtc.states import TaskState
from pilotmtc.store.attempt_id import attempt_id
from pilotmtc.store.file.bounds import check_numbers
from pilotmtc.store.file.transaction import Transaction
from pilotmtc.store.requests.calls import check_calls, insert_calls
from pilotmtc.store.requests.campaigns import DELETED, check_name
from pilotmtc.store.requests.gates import limit_running, limit_starts, meet_if_done, wait_for
from pilotmtc.store.requests.growth import learned
from pilotmtc.store.requests.handlers import handles
from pilotmtc.store.requests.programs import note_program
from pilotmtc.store.requests.tasks.memo import end_known, take_known

_json = msgspec.json.Encoder().encode
_INSERT_TASK = """INSERT INTO task(id, campaign_id, template_id, resources_id, state, attempt, priority, params,
    failures, crashes, unmet, cancel, name, tags) VALUES (?, ?, ?, ?, ?, 0, ?, ?, 0, 0, ?, 0, ?, ?)"""
_INSERT_DEPENDENCY = "INSERT INTO dependency(needs_id, task_id, well) VALUES (?, ?, ?)"
_CAMPAIGN = "SELECT id, received, sealed, first_id, last_id FROM campaign WHERE key = ? AND deleted_at IS NULL"
_INSERT_CAMPAIGN = """INSERT INTO campaign(key, name, created_at, received, sealed, first_id, last_id, own_pilots)
    VALUES (?, ?, ?, 0, 0, 0, 0, ?) RETURNING id"""
# Note what has come of a campaign, and between which ids its tasks are.
_RECEIVE = "UPDATE campaign SET received = ?, sealed = ?, first_id = ?, last_id = ? WHERE id = ?"
_BEGIN_RUN = "INSERT INTO campaign_run VALUES (?, ?, ?)"
_HAS_RUN = "SELECT 1 FROM campaign_run WHERE campaign_id = ? LIMIT 1"
# Where the run begins that a row is in, and the next one.
_RUN = (
    "SELECT position, first_id FROM campaign_run WHERE campaign_id = ? AND position <= ? ORDER BY position DESC LIMIT 1"
)
_NEXT_RUN = "SELECT min(position) FROM campaign_run WHERE campaign_id = ? AND position > ?"
_SEAL = "UPDATE campaign SET sealed = 1 WHERE id = ?"
_BEFORE = "SELECT key, received, sealed FROM campaign WHERE id = ? AND deleted_at IS NULL"
_REOPEN = "UPDATE campaign SET key = ?, sealed = 0 WHERE id = ?"
_TASKS_BY_NAME = "SELECT id, state FROM task WHERE campaign_id = ? AND name = ?"
_TASK_STATE = "SELECT state FROM task WHERE id = ?"
_SOME_NAMES = "SELECT DISTINCT name FROM task WHERE campaign_id = ? AND name IS NOT NULL LIMIT ?"
_NAMES = 1000  # that are searched for one that the user may have meant
_READY = int(TaskState.READY)
_BAD = (TaskState.FAILED, TaskState.CANCELED, TaskState.SKIPPED)


class _Campaign(NamedTuple):
    """What has come of a campaign so far: how many rows, whether these are all, and first and last id of its tasks."""

    id: CampaignId
    received: int
    sealed: bool
    first: int
    last: int

    @classmethod
    def from_row(cls, row: tuple[Any, ...]) -> Self:
        """Return the record of a row of `_CAMPAIGN`."""
        id_, received, sealed, first, last = row
        return cls(id_, received, bool(sealed), first, last)


@handles(Submit)
def submit(tx: Transaction, request: Submit) -> Submitted:
    """Insert the rows that have not been received yet."""
    campaign, received, sealed, first, last = _find_campaign(tx, request)
    if request.program is not None and not sealed:
        note_program(tx, campaign, request.program)
    rows = request.rows[max(0, received - request.offset) :]
    if request.offset > received:
        raise UsageError(f"campaign {campaign} has {received} rows, not {request.offset}: send from {received}")
    if sealed:
        if rows:
            raise UsageError(f"campaign {campaign} is complete with {received} tasks: start another for more")
        return Submitted(campaign, received, True, _first_of(tx, campaign, request))
    if rows:
        _check_rows(request, rows)
        calls = check_calls(request.templates, rows)
        new = tx.caches.next_task
        if last + 1 != new or not tx.execute(_HAS_RUN, (campaign,)).fetchone():
            tx.execute(_BEGIN_RUN, (campaign, received, new))
        _insert(tx, request, rows, campaign)
        if calls:
            insert_calls(tx, request.templates, rows, new, campaign)
        received += len(rows)
        tx.execute(_RECEIVE, (received, request.last, first or new, tx.caches.next_task - 1, campaign))
    elif request.last:
        tx.execute(_SEAL, (campaign,))
    if request.last:
        meet_if_done(tx, campaign)
    return Submitted(campaign, received, request.last, _first_of(tx, campaign, request))


def _first_of(tx: Transaction, campaign: CampaignId, request: Submit) -> TaskId:
    """Return the id of the request's first row if the ids of its rows follow one another, else 0."""
    if not request.rows:
        return TaskId(0)
    run = tx.execute(_RUN, (campaign, request.offset)).fetchone()
    if run is None:  # of a store that did not note it yet
        return TaskId(0)
    position, first = run
    (following,) = tx.execute(_NEXT_RUN, (campaign, request.offset)).fetchone()
    if following is not None and following < request.offset + len(request.rows):
        return TaskId(0)
    return TaskId(first + request.offset - position)


@handles(ReopenCampaign)
def reopen(tx: Transaction, request: ReopenCampaign) -> Submitted:
    """Give the campaign another key, and let more tasks come."""
    if not request.key:
        raise UsageError("a campaign needs a key: make one with uuid4")
    row = tx.execute(_CAMPAIGN, (request.key,)).fetchone()
    if row is None:
        _check_reopening(tx, request)
        tx.execute(_REOPEN, (request.key, request.campaign))
        row = tx.execute(_CAMPAIGN, (request.key,)).fetchone()
        tx.wakeups.changed()
    found = _Campaign.from_row(row)
    return Submitted(found.id, found.received, found.sealed)


def _check_reopening(tx: Transaction, request: ReopenCampaign) -> None:
    id_ = request.campaign
    before = tx.execute(_BEFORE, (id_,)).fetchone()
    if before is None:
        raise UsageError(f"there is no campaign {id_} in this store")
    key, received, sealed = before
    if key.startswith(DELETED):
        raise UsageError(f"campaign {id_} is being deleted: submit another, or if the deletion failed, repeat it")
    if request.complete_with is not None and not sealed:
        raise UsageError(f"another program is adding to campaign {id_}: add to it when that is done")
    if request.complete_with not in (None, received):
        raise UsageError(f"another program has added to campaign {id_}, which has {received:,} tasks by now: add again")


def _find_campaign(tx: Transaction, request: Submit) -> _Campaign:
    """Return the campaign, which is made if it is new."""
    row = tx.execute(_CAMPAIGN, (request.key,)).fetchone()
    if row is not None:
        return _Campaign.from_row(row)
    if not request.key:
        raise UsageError("a campaign needs a key: make one with uuid4")
    if request.offset:
        raise UsageError(
            "no campaign has this key any more: it was removed, or another program goes on with it; "
            "what it has is shown by pilotmtc status"
        )
    check_name(request.name)
    values = (request.key, request.name, tx.clock.now(), request.own_pilots)
    (id_,) = tx.execute(_INSERT_CAMPAIGN, values).fetchone()
    if not request.own_pilots:
        tx.caches.share(id_)
    if request.max_running:
        limit_running(tx, id_, request.max_running)
    if request.start_rate:
        limit_starts(tx, id_, request.start_rate)
    if request.after:
        wait_for(tx, id_, request.after)
    return _Campaign(id_, received=0, sealed=False, first=0, last=0)


def _check_rows(request: Submit, rows: tuple[TaskRow, ...]) -> None:
    fields = [len(template.fields) for template in request.templates]
    templates, resources = len(fields), len(request.resources)
    for row in rows:
        if not (0 <= row.template < templates and 0 <= row.resources < resources):
            raise UsageError(f"a task names template {row.template} and resources {row.resources}, which are not there")
        if len(row.params) != fields[row.template]:
            names = ", ".join(request.templates[row.template].fields) or "none"
            raise UsageError(f"a task has {len(row.params)} values for the {fields[row.template]} fields ({names})")
    for template in request.templates:
        check_numbers(template, "a task")
    for need in request.resources:
        check_numbers(need, "a task")
        if need.ranks < 1 or need.ranks_per_node < 0:
            raise UsageError(f"a task has 1 rank or more: {need}")


def _insert(tx: Transaction, request: Submit, rows: tuple[TaskRow, ...], campaign: CampaignId) -> None:
    templates = [tx.caches.templates.intern(template) for template in request.templates]
    resources = [tx.caches.resources.intern(need) for need in request.resources]
    first = tx.caches.next_task
    more = learned(tx, campaign)
    known = take_known(tx, campaign, request.templates, rows, first) if request.memo else {}
    states: dict[int, int] = dict.fromkeys(known, int(TaskState.DONE))
    unmet: dict[int, int] = {}
    edges = _tie(tx, rows, campaign, states, unmet) if any(row.after for row in rows) else []
    tx.executemany(
        _INSERT_TASK,
        [
            (
                id_,
                campaign,
                templates[row.template],
                more.get((templates[row.template], resources[row.resources]), resources[row.resources])
                if more
                else resources[row.resources],
                states.get(id_, _READY),
                row.priority,
                _json(row.params).decode() if row.params else None,
                unmet.get(id_, 0),
                row.name,
                _json(row.tags).decode() if row.tags else None,
            )
            for id_, row in enumerate(rows, first)
        ],
    )
    if edges:
        tx.executemany(_INSERT_DEPENDENCY, edges)
        tx.caches.has_dependencies = True
    if known:
        end_known(tx, campaign, known.items())
    tx.caches.next_task = first + len(rows)
    entered: dict[int, list[int]] = {}
    for id_ in range(first, tx.caches.next_task):
        entered.setdefault(states.get(id_, _READY), []).append(attempt_id(id_, int(id_ in known)))
    for state, attempts in entered.items():
        tx.enter_tasks(campaign, state, attempts)


def _tie(
    tx: Transaction, rows: tuple[TaskRow, ...], campaign: int, states: dict[int, int], unmet: dict[int, int]
) -> list[tuple[int, int, bool]]:
    """Return the rows' dependencies; fill `states` and `unmet` for tasks that cannot start at once."""
    first = tx.caches.next_task
    names: dict[str, list[int]] = {}  # of this chunk; the others' are in the store
    known: dict[str, list[int]] = {}
    over: dict[int, int] = {}  # states of tasks in the store
    edges: list[tuple[int, int, bool]] = []
    for id_, row in enumerate(rows, first):
        needs: dict[int, bool] = {}
        for after in row.after:
            if isinstance(after.task, str):
                if after.task not in known:
                    known[after.task] = _named(tx, campaign, after.task, over)
                found = known[after.task] + names.get(after.task, [])
                if not found:
                    raise UsageError(_no_name(tx, campaign, after.task, names))
            else:
                found = [int(after.task)]
                if not first <= after.task < id_:
                    _look_up(tx, after.task, over)
            for need in found:
                needs[need] = needs.get(need, False) or after.well
        left, bad = 0, False
        for need, well in needs.items():
            state = over[need] if need < first else states.get(need, _READY)
            left += state < TaskState.DONE
            bad = bad or (well and state in _BAD)
        edges.extend((need, id_, well) for need, well in needs.items())
        if bad:
            states[id_] = int(TaskState.SKIPPED)
        elif left:
            states[id_], unmet[id_] = int(TaskState.WAITING), left
        if row.name is not None:
            names.setdefault(row.name, []).append(id_)
    return edges


def _no_name(tx: Transaction, campaign: int, name: str, fresh: Iterable[str]) -> str:
    """Return the message for a dependency on a name that no earlier task has."""
    known = [*fresh, *(name for (name,) in tx.execute(_SOME_NAMES, (campaign, _NAMES)))]
    import difflib  # for faults only

    close = difflib.get_close_matches(name, known, 1)
    there = f"the names before it are {', '.join(known[:20])}" if known else "no task before it has a name"
    hint = f"did you mean {close[0]!r}?" if close else there
    return f"no task before the one that waits for it is called {name!r}: {hint}"


def _named(tx: Transaction, campaign: int, name: str, over: dict[int, int]) -> list[int]:
    found: list[tuple[int, int]] = tx.execute(_TASKS_BY_NAME, (campaign, name)).fetchall()
    over.update(found)
    return [id_ for id_, _ in found]


def _look_up(tx: Transaction, task: int, over: dict[int, int]) -> None:
    if task not in over:
        row: tuple[int] | None = tx.execute(_TASK_STATE, (task,)).fetchone()
        if row is None:
            raise UsageError(f"there is no task {task} to depend on")
        (over[task],) = row
