"""States of tasks and pilots, causes of an attempt's end, and the only transitions there are.

The numbers are what the store keeps on disk: never renumber them.
"""

from enum import IntEnum

from pilotmtc.errors import InvalidTransition


class TaskState(IntEnum):
    """Where a task is on its road."""

    WAITING = 0  # for dependencies
    READY = 1
    CLAIMED = 2  # an agent holds it, not started yet
    RUNNING = 3
    DONE = 4
    FAILED = 5
    CANCELED = 6
    SKIPPED = 7  # a dependency did not finish well


class PilotState(IntEnum):
    """Where a pilot is on its road."""

    NEW = 0
    PENDING = 1
    ACTIVE = 2
    DRAINING = 3
    DONE = 4
    FAILED = 5
    CANCELED = 6


class Cause(IntEnum):
    """Why an attempt ended."""

    EXIT = 0  # by itself; the exit code says how well
    SIGNAL = 1
    TIMEOUT = 2  # over its own time limit
    OOM = 3  # over its memory limit, or the kernel's
    WALLTIME = 4  # the pilot's walltime ran out under it
    PREEMPTED = 5
    NODE_LOST = 6
    PILOT_LOST = 7
    CANCELED = 8
    LAUNCH_ERROR = 9  # it could not be started


class JobState(IntEnum):
    """What a scheduler says of a pilot's job."""

    PENDING = 0
    RUNNING = 1  # or suspended, or about to begin or end
    DONE = 2
    FAILED = 3
    CANCELED = 4
    GONE = 5  # it was asked, and does not know the job
    REJECTED = 6  # it did not take the job in the first place


T = TaskState
TASK_TRANSITIONS: frozenset[tuple[TaskState, TaskState]] = frozenset(
    {
        (T.WAITING, T.READY),  # the last dependency finished
        (T.WAITING, T.SKIPPED),  # one did not finish well
        (T.WAITING, T.CANCELED),
        (T.READY, T.CLAIMED),
        (T.READY, T.CANCELED),
        (T.READY, T.WAITING),  # a dependency was retried
        (T.READY, T.RUNNING),  # its pilot was given up, and is back with it
        (T.CLAIMED, T.RUNNING),
        (T.CLAIMED, T.READY),  # released, or its pilot was lost
        (T.CLAIMED, T.DONE),  # over before its start was reported
        (T.CLAIMED, T.FAILED),
        (T.CLAIMED, T.CANCELED),
        (T.RUNNING, T.READY),  # failed or lost with tries left
        (T.RUNNING, T.DONE),
        (T.RUNNING, T.FAILED),
        (T.RUNNING, T.CANCELED),
        (T.FAILED, T.READY),  # a user's retry
        (T.FAILED, T.WAITING),
        (T.CANCELED, T.READY),
        (T.CANCELED, T.WAITING),
        (T.SKIPPED, T.WAITING),
        (T.SKIPPED, T.READY),
        (T.SKIPPED, T.CANCELED),
    }
)
P = PilotState
PILOT_TRANSITIONS: frozenset[tuple[PilotState, PilotState]] = frozenset(
    {
        (P.NEW, P.PENDING),
        (P.NEW, P.ACTIVE),
        (P.NEW, P.FAILED),
        (P.NEW, P.CANCELED),
        (P.PENDING, P.ACTIVE),
        (P.PENDING, P.DONE),
        (P.PENDING, P.FAILED),
        (P.PENDING, P.CANCELED),
        (P.ACTIVE, P.DRAINING),
        (P.ACTIVE, P.DONE),
        (P.ACTIVE, P.FAILED),
        (P.ACTIVE, P.CANCELED),
        (P.DRAINING, P.DONE),
        (P.DRAINING, P.FAILED),
        (P.DRAINING, P.CANCELED),
        (P.FAILED, P.ACTIVE),  # it was not heard of for too long, and is back
    }
)

TASK_FINAL = frozenset({T.DONE, T.FAILED, T.CANCELED, T.SKIPPED})
TASK_HELD = frozenset({T.CLAIMED, T.RUNNING})
PILOT_FINAL = frozenset({P.DONE, P.FAILED, P.CANCELED})

# What the infrastructure did is not charged to the user's max_retries.
NOT_CHARGED = frozenset({Cause.WALLTIME, Cause.PREEMPTED, Cause.NODE_LOST, Cause.PILOT_LOST})
# Of those, the ones a task may itself have brought about: they count against the crash limit.
CRASHES = frozenset({Cause.NODE_LOST, Cause.PILOT_LOST})
CRASH_LIMIT = 5


def check_task(old: TaskState, new: TaskState) -> None:
    """Raise `InvalidTransition` unless a task may go from `old` to `new`."""
    if (old, new) not in TASK_TRANSITIONS:
        raise InvalidTransition(f"a task cannot go from {old.name} to {new.name}")


def check_pilot(old: PilotState, new: PilotState) -> None:
    """Raise `InvalidTransition` unless a pilot may go from `old` to `new`."""
    if (old, new) not in PILOT_TRANSITIONS:
        raise InvalidTransition(f"a pilot cannot go from {old.name} to {new.name}")


def after_attempt(
    cause: Cause, exit_code: int | None, *, cancel: bool, failures: int, max_retries: int, crashes: int
) -> TaskState:
    """Return where a task goes when an attempt of it has ended.

    Parameters
    ----------
    cause, exit_code
        How the attempt ended.
    cancel
        Whether the user has asked for the task's cancellation.
    failures, crashes
        How many attempts ended badly so far, this one included, by the task's own doing
        and together with its node or pilot.
    max_retries
        How many failures the user allows before the task is FAILED.
    """
    if cause is Cause.EXIT and exit_code == 0:
        return TaskState.DONE
    if cancel or cause is Cause.CANCELED:
        return TaskState.CANCELED
    if cause in NOT_CHARGED:
        return TaskState.FAILED if crashes >= CRASH_LIMIT else TaskState.READY
    return TaskState.READY if failures <= max_retries else TaskState.FAILED
