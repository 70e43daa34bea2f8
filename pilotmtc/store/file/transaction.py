"""What every request handler works on: the connection, and the book-keeping that one transaction gathers.

Every change of a task's state goes through `Ledger.moved`: it holds the table of transitions, the counts by campaign
and state, and what watchers are told.
"""

import sqlite3
from bisect import bisect_left
from collections import Counter, defaultdict, deque
from collections.abc import Iterable
from hashlib import blake2b
from itertools import islice
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from pilotmtc.clock import Clock
from pilotmtc.errors import PilotMTCError, UsageError
from pilotmtc.model import PilotId, Resources, TaskId, Template
from pilotmtc.protocol.records import FailureGroup
from pilotmtc.states import PILOT_FINAL, TASK_TRANSITIONS, JobState, PilotState, TaskState, check_pilot, check_task
from pilotmtc.store.file.views import ATTEMPT_BITS, ATTEMPT_MASK
from pilotmtc.store.live.activity import Activity
from pilotmtc.store.live.peeks import Peeks

TASK_STATES = tuple(TaskState)
RING = 100_000  # transitions kept for watchers
_CACHED = 2_000  # templates and resources kept in memory
_LEGAL = frozenset((int(old), int(new)) for old, new in TASK_TRANSITIONS)
_NOWHERE = -1  # where new tasks come from
_encoder = msgspec.msgpack.Encoder(order="deterministic")
_decode_template = msgspec.json.Decoder(Template).decode
_decode_resources = msgspec.json.Decoder(Resources).decode


class News(Struct, frozen=True):
    """What commits have brought.

    `ready` tasks to claim, `orders` for these pilots, `changed` things to watch; `jobs`: something has happened to
    pilots of schedulers, which have to be asked soon or, if True, at once.
    """

    ready: bool = False
    orders: frozenset[PilotId] = frozenset()
    changed: bool = False
    jobs: dict[str, bool] = {}


class Mark(NamedTuple):
    """A place to come back to when a request in the middle of a transaction fails."""

    moves: int
    ready: bool
    orders: frozenset[int]
    staged: int


class Shown:
    """What the last overview said, so that the next one needs to say only what is new.

    Attributes
    ----------
    seq
        Its number. Those of an earlier server are lower.
    pilots, campaigns
        Rows by id, and the number of the overview that was the first to say so.
    """

    def __init__(self, seq: int) -> None:
        self.seq = seq
        self.first_seq = seq
        self.pilots: dict[int, tuple[tuple[Any, ...], int]] = {}
        self.campaigns: dict[int, tuple[tuple[Any, ...], int]] = {}
        self.failures: tuple[FailureGroup, ...] = ()
        self.failures_seq = seq
        self.looked_at = 0
        self.silent: frozenset[int] = frozenset()
        self.failed = 0  # FAILED tasks when `failures` were looked at
        self.look_again_at = 0.0


class Seat(NamedTuple):
    """What handlers ask about a pilot."""

    state: PilotState
    campaign: int | None
    claim_no: int
    orders: int
    drain: bool
    kill: bool
    scheduler: str  # empty once it has nothing to do with the pilot any more
    submits: int
    job: JobState | None  # as its scheduler said last
    native_state: str
    reason: str


class Ledger:
    """A connection, its caches, and what the open transaction has done so far."""

    def __init__(self, connection: sqlite3.Connection, clock: Clock, lease_s: float, seq: int) -> None:
        self.connection = connection
        self.execute = connection.execute
        self.executemany = connection.executemany
        self.clock = clock
        self.lease_s = lease_s
        self.leases: dict[int, float] = {}  # pilot -> when it expires, monotonic: a jumping clock loses nobody
        self.silent: frozenset[int] = frozenset()  # those of which watchers were told that their lease runs out
        # pilot -> its newest claim. A server that was killed forgets it, and with it the ways that copies come on.
        self.claims: dict[int, int] = {}
        self.seq = seq
        self.first_seq = seq  # of the ring's oldest entry
        self._ring: deque[tuple[int, int]] = deque()
        self._moves: list[tuple[int, int]] = []  # (task and attempt, campaign and state), packed
        self._lost_moves = 0  # that were more than the ring can hold
        self._olds: list[int] = []  # where the moves not yet settled came from
        self._ready = False
        self._orders: set[int] = set()
        self._touched = False
        self._jobs: dict[str, bool] = {}
        self._news = News()
        self.activity = Activity(clock.monotonic())
        self.peeks = Peeks()
        self.failed_wishes: dict[str, PilotMTCError] = {}
        self.shown = Shown(seq)
        self.reload()
        self._recall()

    # -- what the file says, kept at hand ----------------------------------------------------------------------

    def reload(self) -> None:
        """Read anew what is kept in memory: at the start, and when a transaction was undone."""
        self.next_task: int = self.execute("SELECT coalesce(max(id), 0) + 1 FROM task").fetchone()[0]
        self.has_dependencies = self.execute("SELECT 1 FROM dependency LIMIT 1").fetchone() is not None
        self.wishes: int = self.execute("SELECT count(*) FROM wish").fetchone()[0]  # not fulfilled yet
        # Campaigns that any pilot may have, in order: claims go from one to the next, past what is kept for others.
        self._shared = [id_ for (id_,) in self.execute("SELECT id FROM campaign WHERE own_pilots = 0 ORDER BY id")]
        self._templates: dict[int, Template] = {}
        self._resources: dict[int, Resources] = {}
        self._ids: dict[bytes, int] = {}
        for (pilot,) in self.execute("SELECT id FROM pilot WHERE state IN (2, 3)"):
            if pilot not in self.leases:
                self.renew(pilot)

    def _recall(self) -> None:
        """Tell the new memory what was going on when the server began, which nobody will report anew."""
        now = self.clock.monotonic()
        for pilot, busy, cores in self.execute("SELECT id, busy, cores FROM pilot WHERE state IN (2, 3)"):
            self.activity.level(pilot, busy, cores, now)
        for (campaign,) in self.execute("SELECT campaign_id FROM tally WHERE state = 3 AND n > 0"):
            self.activity.working(campaign, now)

    def renew(self, pilot: int, ago_s: float = 0.0) -> None:
        """Let the pilot's lease run anew, from when it was heard of."""
        expiry = self.clock.monotonic() - ago_s + self.lease_s
        self.leases[pilot] = max(self.leases.get(pilot, expiry), expiry)
        if pilot in self.silent and not ago_s:
            self.silent -= {pilot}
            self.touch()

    def share(self, campaign: int) -> None:
        """Note that any pilot may have the campaign's tasks."""
        at = bisect_left(self._shared, campaign)
        if self._shared[at : at + 1] != [campaign]:
            self._shared.insert(at, campaign)

    def shared_from(self, campaign: int) -> int | None:
        """Return the first campaign that any pilot may have: this one, or one after it."""
        at = bisect_left(self._shared, campaign)
        return self._shared[at] if at < len(self._shared) else None

    def template(self, id_: int) -> Template:
        """Return the template `id_`."""
        if (found := self._templates.get(id_)) is None:
            (body,) = self.execute("SELECT body FROM template WHERE id = ?", (id_,)).fetchone()
            found = _decode_template(body)
            if len(self._templates) >= _CACHED:
                self._templates.clear()
            self._templates[id_] = found
        return found

    def resources(self, id_: int) -> Resources:
        """Return the resources `id_`."""
        if (found := self._resources.get(id_)) is None:
            (body,) = self.execute("SELECT body FROM resources WHERE id = ?", (id_,)).fetchone()
            found = _decode_resources(body)
            if len(self._resources) >= _CACHED:
                self._resources.clear()
            self._resources[id_] = found
        return found

    def intern(self, thing: Template | Resources) -> int:
        """Return the id of `thing`, entered if it is new."""
        table = "template" if isinstance(thing, Template) else "resources"
        digest = blake2b(_encoder.encode(thing), digest_size=16, person=table.encode()).digest()
        if (known := self._ids.get(digest)) is not None:
            return known
        row = self.execute(f"SELECT id FROM {table} WHERE hash = ?", (digest,)).fetchone()
        if row is None:
            body = msgspec.json.encode(thing).decode()
            row = self.execute(f"INSERT INTO {table}(hash, body) VALUES (?, ?) RETURNING id", (digest, body)).fetchone()
        if len(self._ids) >= _CACHED:
            self._ids.clear()
        id_: int = row[0]
        self._ids[digest] = id_
        return id_

    def seat(self, pilot: int) -> Seat:
        """Return how the pilot stands.

        Raises
        ------
        UsageError
            If there is none.
        """
        row = self.execute(
            "SELECT state, campaign_id, claim_no, orders, drain, kill, iif(watched, scheduler, ''), submits, "
            "job, native_state, reason FROM pilot WHERE id = ?",
            (pilot,),
        ).fetchone()
        if row is None:
            raise UsageError(f"there is no pilot {pilot} in this store")
        return Seat(
            PilotState(row[0]), row[1], row[2], row[3], bool(row[4]), bool(row[5]), row[6], row[7],
            None if row[8] is None else JobState(row[8]), row[9], row[10],
        )  # fmt: skip

    # -- changes -----------------------------------------------------------------------------------------------

    def moved(self, task: int, attempt: int, campaign: int, old: int, new: int) -> None:
        """Note that a task goes from `old` to `new`; `settle` raises `InvalidTransition` if it may not."""
        self._moves.append((task << ATTEMPT_BITS | attempt, campaign << 3 | new))
        self._olds.append(campaign << 3 | old)

    def moved_all(self, moves: list[tuple[int, int]], olds: list[int]) -> None:
        """Note many: ``(task << ATTEMPT_BITS | attempt, campaign << 3 | new)`` and ``campaign << 3 | old`` of each."""
        self._moves += moves
        self._olds += olds

    def entered(self, campaign: int, states: Iterable[tuple[int, int]]) -> None:
        """Note new tasks: ``(task, state)``."""
        moves = [(task << ATTEMPT_BITS, campaign << 3 | state) for task, state in states]
        self.moved_all(moves, [_NOWHERE] * len(moves))

    def trim(self) -> None:
        """Settle, and drop noted moves that are more than watchers can be told, for the memory's sake."""
        self.settle()
        if len(self._moves) > RING:
            self._lost_moves += len(self._moves)
            self._moves.clear()

    def pilot_moved(self, pilot: int, old: PilotState, new: PilotState, reason: str = "") -> None:
        """Take a pilot from `old` to `new`; raise `InvalidTransition` if it may not go there."""
        check_pilot(old, new)
        now = self.clock.now()
        self.touch()
        self.activity.event(pilot, now, f"{old.name} to {new.name}{f': {reason}' if reason else ''}")
        if new in PILOT_FINAL:
            self.activity.gone(pilot, self.clock.monotonic())
        if new is PilotState.PENDING:
            self.execute("UPDATE pilot SET state = ? WHERE id = ?", (int(new), pilot))
        elif new in (PilotState.ACTIVE, PilotState.DRAINING):
            self.execute(
                "UPDATE pilot SET state = ?, started_at = coalesce(started_at, ?), ended_at = NULL, reason = '' "
                "WHERE id = ?",
                (int(new), now, pilot),
            )
        else:
            self.execute(
                "UPDATE pilot SET state = ?, ended_at = ?, reason = ?, busy = 0 WHERE id = ?",
                (int(new), now, reason, pilot),
            )

    def order(self, pilots: Iterable[int]) -> None:
        """Note new orders for pilots."""
        pilots = list(pilots)
        self.executemany("UPDATE pilot SET orders = orders + 1 WHERE id = ?", [(pilot,) for pilot in pilots])
        self._orders.update(pilots)

    def call(self, pilot: PilotId) -> None:
        """Have a pilot answered that waits for orders, though there are no new ones."""
        self._orders.add(pilot)

    def touch(self) -> None:
        """Note that something has changed about a pilot."""
        self._touched = True

    def claimable(self) -> None:
        """Note that claims may find something that they did not before."""
        self._ready = True

    def ask_scheduler(self, url: str, *, at_once: bool) -> None:
        """Note that the scheduler has to be asked; nothing if `url` is empty."""
        if url:
            self._jobs[url] = at_once or self._jobs.get(url, False)

    # -- transactions ------------------------------------------------------------------------------------------

    def mark(self) -> Mark:
        """Return the place that `rewind` comes back to."""
        return Mark(len(self._moves) + self._lost_moves, self._ready, frozenset(self._orders), self.activity.mark())

    def settle(self) -> None:
        """Check what the request has noted against the table of transitions and write the counts.

        Raises
        ------
        InvalidTransition
            If a task went where it may not go; the caller undoes the request.
        """
        if not self._olds:
            return
        tally: defaultdict[int, int] = defaultdict(int)
        news = [code for _, code in self._moves[-len(self._olds) :]]
        for (old, new), n in Counter(zip(self._olds, news, strict=True)).items():
            if old != _NOWHERE:
                if (old & 7, new & 7) not in _LEGAL:
                    check_task(TASK_STATES[old & 7], TASK_STATES[new & 7])
                tally[old] -= n
            tally[new] += n
            if 4 <= new & 7 <= 5 and old != _NOWHERE:
                self.activity.over(new >> 3, n, n if new & 7 == 5 else 0)
            self._ready = self._ready or new & 7 == TaskState.READY
        self._olds.clear()
        self.executemany(
            "INSERT INTO tally(campaign_id, state, n) VALUES (?, ?, ?) "
            "ON CONFLICT(campaign_id, state) DO UPDATE SET n = n + excluded.n",
            [(key >> 3, key & 7, n) for key, n in tally.items()],
        )

    def rewind(self, mark: Mark) -> None:
        """Forget what the request since `mark` has noted; its savepoint was rolled back."""
        self._olds.clear()
        keep = mark.moves - self._lost_moves
        if keep >= 0:
            del self._moves[keep:]
        self._ready, self._orders = mark.ready, set(mark.orders)
        self.activity.rewind(mark.staged)
        self.reload()

    def committed(self) -> None:
        """Tell watchers."""
        moves = self._moves
        lost = self._lost_moves + max(0, len(moves) - RING)
        n = self._lost_moves + len(moves)
        if lost:
            self._ring.clear()
            self._ring.extend(moves[-RING:])
        else:
            self._ring.extend(moves)
            for _ in range(len(self._ring) - RING):
                self._ring.popleft()
        self.seq += n
        self.first_seq = self.seq - len(self._ring)
        if n or self._ready or self._orders or self._touched or self._jobs:
            news = self._news
            orders = news.orders.union(map(PilotId, self._orders))
            jobs = {url: soon or news.jobs.get(url, False) for url, soon in self._jobs.items()}
            self._news = News(
                news.ready or self._ready, orders, news.changed or n > 0 or self._touched, news.jobs | jobs
            )
        self.activity.committed(self.clock.monotonic())
        self._forget()

    def rolled_back(self) -> None:
        """Forget all that the transaction has noted."""
        self._forget()
        self.reload()

    def _forget(self) -> None:
        self._moves.clear()
        self._olds.clear()
        self._orders.clear()
        self._jobs.clear()
        self._lost_moves = 0
        self._ready = self._touched = False
        self.activity.rewind(0)

    def take_news(self) -> News:
        """Return what commits have brought since the last call."""
        news, self._news = self._news, News()
        return news

    def changes(self, since: int, campaign: int | None, limit: int) -> tuple[int, list[tuple[TaskId, TaskState, int]]]:
        """Return up to `limit` transitions after `since`, and the number to go on from."""
        start = since - self.first_seq
        found: list[tuple[TaskId, TaskState, int]] = []
        seq = since
        for key, code in islice(self._ring, start, None):
            seq += 1
            if campaign is None or code >> 3 == campaign:
                found.append((TaskId(key >> ATTEMPT_BITS), TASK_STATES[code & 7], key & ATTEMPT_MASK))
                if len(found) >= limit:
                    break
        return seq, found


def id_list(ids: Iterable[Any]) -> str:
    """Return ids as the JSON array that ``json_each(?)`` reads."""
    return "[" + ",".join(map(str, ids)) + "]"
