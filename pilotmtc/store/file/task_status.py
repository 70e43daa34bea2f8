"""What fencing needs to know of tasks: who holds them, and for which attempt."""

from collections.abc import Iterable

from msgspec import Struct

from pilotmtc.model import CampaignId, PilotId, TaskId
from pilotmtc.states import TASK_HELD, TaskState
from pilotmtc.store.file.sql import id_list, in_states
from pilotmtc.store.file.transaction import Transaction

CLAIMED, RUNNING = int(TaskState.CLAIMED), int(TaskState.RUNNING)
HELD = f"state {in_states(TASK_HELD)}"  # as the index task_held says it
ON_HOLD = 1e18  # a task's `not_before` that never comes: it waits until it is released
_COLUMNS = """t.id, t.state, t.attempt, t.pilot_id, t.campaign_id, t.template_id, t.cancel, t.failures, t.crashes,
    t.started_at, t.version_id"""
# CROSS JOIN keeps the order: the list, then each of its tasks.
_BY_ID = f"SELECT {_COLUMNS} FROM json_each(?) AS wanted CROSS JOIN task AS t ON t.id = wanted.value"
_BY_PILOT = f"SELECT {_COLUMNS} FROM task AS t INDEXED BY task_held WHERE t.pilot_id = ? AND t.{HELD} ORDER BY t.id"


class TaskStatus(Struct, frozen=True, gc=False):
    """How a task stands.

    Attributes
    ----------
    pilot
        The pilot that holds it, or that held the attempt last and was lost.
    version
        What its newest attempt runs or ran.
    """

    id: TaskId
    state: int
    attempt: int
    pilot: PilotId | None
    campaign: CampaignId
    template: int
    cancel: int
    failures: int
    crashes: int
    started_at: float | None
    version: int | None

    def is_held(self, pilot: int, attempt: int) -> bool:
        """Return whether `pilot` holds the task, for this attempt."""
        return self.attempt == attempt and self.pilot == pilot and self.state in TASK_HELD


def tasks_by_id(tx: Transaction, tasks: Iterable[int]) -> dict[int, TaskStatus]:
    """Return how these tasks stand."""
    return {row[0]: TaskStatus(*row) for row in tx.execute(_BY_ID, (id_list(tasks),))}


def tasks_of_pilot(tx: Transaction, pilot: PilotId) -> dict[int, TaskStatus]:
    """Return how the tasks stand that the pilot holds, in order of their ids."""
    return {row[0]: TaskStatus(*row) for row in tx.execute(_BY_PILOT, (pilot,))}
