"""How a pilot stands, and how that changes."""

from collections.abc import Iterable
from typing import Any, NamedTuple, Self

from pilotmtc.errors import UsageError
from pilotmtc.model import CampaignId, PilotId
from pilotmtc.states import PILOT_FINAL, JobState, PilotState, check_pilot
from pilotmtc.store.file.transaction import Transaction

LIVES = f"state < {PilotState.DONE:d}"  # of pilots: NEW, PENDING, ACTIVE or DRAINING
_STATUS = """SELECT state, campaign_id, claim_no, orders, drain, kill, iif(watched, scheduler, ''), submits, job,
    native_state, reason, on_hold FROM pilot WHERE id = ?"""
_WAIT = "UPDATE pilot SET state = ? WHERE id = ?"
_WORK = """UPDATE pilot SET state = ?, started_at = coalesce(started_at, ?), ended_at = NULL, reason = ''
    WHERE id = ?"""
_END = "UPDATE pilot SET state = ?, ended_at = ?, reason = ?, busy = 0 WHERE id = ?"
_ADD_ORDER = "UPDATE pilot SET orders = orders + 1 WHERE id = ?"


class PilotStatus(NamedTuple):
    """What most requests need to know of a pilot.

    Attributes
    ----------
    claim_no
        The number of the last claim that was given something.
    orders
        Grows with each order.
    scheduler
        The URL of the scheduler to ask about the pilot; empty once there is nothing left to ask.
    job
        The state of its job as the scheduler said last, with `native_state` and `reason`.
    """

    state: PilotState
    campaign: CampaignId | None
    claim_no: int
    orders: int
    drain: bool
    kill: bool
    scheduler: str
    submits: int
    job: JobState | None
    native_state: str
    reason: str
    on_hold: bool

    @classmethod
    def from_row(cls, row: tuple[Any, ...]) -> Self:
        """Return the record of a row of `_STATUS`."""
        state, campaign, claim_no, orders, drain, kill, scheduler, submits, job, native_state, reason, hold = row
        return cls(
            PilotState(state), campaign, claim_no, orders, bool(drain), bool(kill), scheduler, submits,
            None if job is None else JobState(job), native_state, reason, bool(hold),
        )  # fmt: skip


def pilot_status(tx: Transaction, pilot: int) -> PilotStatus:
    """Return how the pilot stands.

    Raises
    ------
    UsageError
        If there is no such pilot.
    """
    row = tx.execute(_STATUS, (pilot,)).fetchone()
    if row is None:
        raise UsageError(f"there is no pilot {pilot} in this store")
    return PilotStatus.from_row(row)


def move_pilot(tx: Transaction, pilot: PilotId, old: PilotState, new: PilotState, reason: str = "") -> None:
    """Take a pilot from one state to another; raise `InvalidTransition` if it may not go there."""
    check_pilot(old, new)
    now = tx.clock.now()
    tx.wakeups.changed()
    tx.activity.event(pilot, f"{old.name} to {new.name}{f': {reason}' if reason else ''}")
    if new in PILOT_FINAL:
        tx.activity.pilot_ended(pilot)
        tx.execute(_END, (new, now, reason, pilot))
    elif new is PilotState.PENDING:
        tx.execute(_WAIT, (new, pilot))
    else:
        tx.execute(_WORK, (new, now, pilot))


def give_order(tx: Transaction, pilots: Iterable[PilotId]) -> None:
    """Note that there is a new order for pilots."""
    pilots = list(pilots)
    tx.executemany(_ADD_ORDER, [(pilot,) for pilot in pilots])
    tx.wakeups.call(pilots)
