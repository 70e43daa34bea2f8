"""What the file says, kept at hand."""

import sqlite3
from bisect import bisect_left
from collections.abc import Callable
from typing import Final, Generic, TypeVar

import msgspec

from pilotmtc.model import Program, Resources, Template
from pilotmtc.system.digests import blake2b

KEPT = 2_000  # records of each kind
# Ids are not used again: agents may still have tasks of a campaign that was deleted.
_NEXT_TASK = "SELECT max((SELECT coalesce(max(id), 0) FROM task), (SELECT coalesce(max(last_id), 0) FROM campaign)) + 1"
_ANY_DEPENDENCY = "SELECT EXISTS (SELECT 1 FROM dependency)"
_COUNT_PENDING_CHANGES = "SELECT count(*) FROM wish"
_ON_HOLD = "SELECT id FROM campaign WHERE on_hold != 0"
_HALTS = "SELECT id FROM campaign WHERE halt_failed > 0 OR halt_share > 0"
_MAX_RUNNING = "SELECT id, max_running FROM campaign WHERE max_running > 0 AND deleted_at IS NULL"
_START_RATES = "SELECT id, start_rate FROM campaign WHERE start_rate > 0 AND deleted_at IS NULL"
_WAITS = "SELECT campaign_id, needs_id FROM campaign_after WHERE met = 0"
_ANY_WAIT = "SELECT EXISTS (SELECT 1 FROM campaign_after)"
_GROWING = "SELECT DISTINCT campaign_id FROM growth"
_RAISING = "SELECT DISTINCT campaign_id FROM growth WHERE raised_to IS NOT NULL"
_SHARED_CAMPAIGNS = "SELECT id FROM campaign WHERE own_pilots = 0 AND deleted_at IS NULL ORDER BY id"

_PROGRAMS = "SELECT id, program_id FROM campaign WHERE program_id != 0 AND deleted_at IS NULL"
_VERSION = "SELECT id FROM version WHERE template_id = ? AND program_id = ?"
_NEW_VERSION = "INSERT INTO version(template_id, program_id) VALUES (?, ?) RETURNING id"
_VERSION_PARTS = "SELECT template_id, program_id FROM version WHERE id = ?"

T = TypeVar("T", Template, Resources, Program)
_encoder = msgspec.msgpack.Encoder(order="deterministic")


class Records(Generic[T]):
    """Templates or resources: each is in the file once, found by a hash of its content."""

    def __init__(self, connection: sqlite3.Connection, table: str, kind: type[T]) -> None:
        self._execute = connection.execute
        self._table: Final = table
        self._decode: Callable[[str], T] = msgspec.json.Decoder(kind).decode
        self._records: dict[int, T] = {}
        self._ids: dict[bytes, int] = {}

    def get(self, id_: int) -> T:
        """Return the record with this id."""
        if (found := self._records.get(id_)) is None:
            (body,) = self._execute(f"SELECT body FROM {self._table} WHERE id = ?", (id_,)).fetchone()
            found = self._decode(body)
            if len(self._records) >= KEPT:
                self._records.clear()
            self._records[id_] = found
        return found

    def intern(self, record: T) -> int:
        """Return the id of `record`, which is inserted if it is new."""
        digest = blake2b(_encoder.encode(record), digest_size=16, person=self._table.encode()).digest()
        if (known := self._ids.get(digest)) is not None:
            return known
        row = self._execute(f"SELECT id FROM {self._table} WHERE hash = ?", (digest,)).fetchone()
        if row is None:
            row = self._execute(
                f"INSERT INTO {self._table}(hash, body) VALUES (?, ?) RETURNING id",
                (digest, msgspec.json.encode(record).decode()),
            ).fetchone()
        if len(self._ids) >= KEPT:
            self._ids.clear()
        id_: int = row[0]
        self._ids[digest] = id_
        return id_

    def clear(self) -> None:
        """Forget everything."""
        self._records.clear()
        self._ids.clear()


class Versions:
    """What is run: pairs of a template and a program, each with a number."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute
        self._ids: dict[tuple[int, int], int] = {}
        self._parts: dict[int, tuple[int, int]] = {}

    def intern(self, template: int, program: int) -> int:
        """Return the number of a pair, which is inserted if it is new; program 0: nothing is known of it."""
        pair = template, program
        if (known := self._ids.get(pair)) is not None:
            return known
        row = self._execute(_VERSION, pair).fetchone() or self._execute(_NEW_VERSION, pair).fetchone()
        if len(self._ids) >= KEPT:
            self._ids.clear()
        id_: int = row[0]
        self._ids[pair] = id_
        return id_

    def parts(self, version: int) -> tuple[int, int]:
        """Return template and program of a number."""
        if (found := self._parts.get(version)) is None:
            found = self._execute(_VERSION_PARTS, (version,)).fetchone()
            if len(self._parts) >= KEPT:
                self._parts.clear()
            self._parts[version] = found
        return found

    def clear(self) -> None:
        """Forget everything."""
        self._ids.clear()
        self._parts.clear()


class Caches:
    """A participant of transactions that reads the file again when something was undone.

    Attributes
    ----------
    next_task
        The id of the next task to be inserted.
    has_dependencies
        Whether any task depends on another.
    pending_changes
        How many changes that users asked for are not complete.
    on_hold
        Campaigns of which no pilot takes tasks.
    halts
        Campaigns that are put on hold when enough of their tasks have failed.
    max_running
        How many tasks of these campaigns may be claimed or running at once.
    program_of
        What was seen last of the programs of campaigns, by its id; those without are left out.
    start_rates
        How many tasks of these campaigns pilots may be given a second.
    starts_at
        When the next task of these campaigns, for which pilots wait, may be given. Not of the file.
    waits
        For which campaigns others wait, of those that wait.
    any_wait
        Whether any campaign waits for another, or has waited.
    growing
        Campaigns with tasks that came to have more after an attempt had lacked it.
    raising
        Those of which tasks that have not begun are still given more, slice by slice.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute
        self.templates = Records(connection, "template", Template)
        self.resources = Records(connection, "resources", Resources)
        self.programs = Records(connection, "program", Program)
        self.versions = Versions(connection)
        self.starts_at: dict[int, float] = {}
        self._read()

    def _read(self) -> None:
        self.next_task: int = self._execute(_NEXT_TASK).fetchone()[0]
        self.has_dependencies = bool(self._execute(_ANY_DEPENDENCY).fetchone()[0])
        self.pending_changes: int = self._execute(_COUNT_PENDING_CHANGES).fetchone()[0]
        self.on_hold: set[int] = {id_ for (id_,) in self._execute(_ON_HOLD)}
        self.halts: set[int] = {id_ for (id_,) in self._execute(_HALTS)}
        self.max_running: dict[int, int] = dict(self._execute(_MAX_RUNNING).fetchall())
        self.program_of: dict[int, int] = dict(self._execute(_PROGRAMS).fetchall())
        self.start_rates: dict[int, float] = dict(self._execute(_START_RATES).fetchall())
        self.waits: dict[int, set[int]] = {}
        for campaign, needs in self._execute(_WAITS):
            self.waits.setdefault(campaign, set()).add(needs)
        self.any_wait = bool(self._execute(_ANY_WAIT).fetchone()[0])
        self.growing: set[int] = {id_ for (id_,) in self._execute(_GROWING)}
        self.raising: set[int] = {id_ for (id_,) in self._execute(_RAISING)}
        # Campaigns that any pilot may work on, in order.
        self._shared: list[int] = [id_ for (id_,) in self._execute(_SHARED_CAMPAIGNS)]

    def share(self, campaign: int) -> None:
        """Note that any pilot may work on the campaign."""
        at = bisect_left(self._shared, campaign)
        if self._shared[at : at + 1] != [campaign]:
            self._shared.insert(at, campaign)

    def forget_campaign(self, campaign: int) -> None:
        """Note that the campaign is deleted."""
        self.max_running.pop(campaign, None)
        self.program_of.pop(campaign, None)
        self.start_rates.pop(campaign, None)
        self.waits.pop(campaign, None)
        self.growing.discard(campaign)
        self.raising.discard(campaign)
        at = bisect_left(self._shared, campaign)
        if self._shared[at : at + 1] == [campaign]:
            del self._shared[at]

    def is_open(self, campaign: int) -> bool:
        """Return whether pilots may take tasks of the campaign: it is not on hold, and waits for no other."""
        return campaign not in self.on_hold and campaign not in self.waits

    def shared_from(self, campaign: int) -> int | None:
        """Return the first campaign that any pilot may work on: this one, or one after it."""
        at = bisect_left(self._shared, campaign)
        return self._shared[at] if at < len(self._shared) else None

    def mark(self) -> None:
        """Do nothing: what is undone is read from the file again."""

    def rewind(self, mark: None) -> None:
        """Read the file again."""
        self.templates.clear()
        self.resources.clear()
        self.programs.clear()
        self.versions.clear()
        self._read()

    def commit(self) -> None:
        """Do nothing: the caches are as the file is."""
