"""States of tasks and pilots, causes of an attempt's end, and the table of all allowed transitions.

The store keeps the numbers on disk: never change them.
"""

from enum import IntEnum

from pilotmtc.errors import InvalidTransition


class TaskState(IntEnum):
    """The state of a task."""

    WAITING = 0  # for dependencies
    READY = 1
    CLAIMED = 2  # held by an agent, not started yet
    RUNNING = 3
    DONE = 4
    FAILED = 5
    CANCELED = 6
    SKIPPED = 7  # a dependency did not succeed


class PilotState(IntEnum):
    """The state of a pilot."""

    NEW = 0
    PENDING = 1
    ACTIVE = 2
    DRAINING = 3
    DONE = 4
    FAILED = 5
    CANCELED = 6


class Cause(IntEnum):
    """Why an attempt ended."""

    EXIT = 0  # the task exited by itself, with any exit code
    SIGNAL = 1
    TIMEOUT = 2  # it exceeded its time limit
    OOM = 3  # it exceeded its memory limit, or the kernel's
    WALLTIME = 4  # the pilot's walltime ended
    PREEMPTED = 5
    NODE_LOST = 6
    PILOT_LOST = 7
    CANCELED = 8
    LAUNCH_ERROR = 9  # it could not be started


class JobState(IntEnum):
    """The state of a pilot's job, from its scheduler."""

    PENDING = 0
    RUNNING = 1  # or suspended, starting or ending
    DONE = 2
    FAILED = 3
    CANCELED = 4
    GONE = 5  # the scheduler does not know the job
    REJECTED = 6  # the scheduler refused the job


T = TaskState
TASK_TRANSITIONS: frozenset[tuple[TaskState, TaskState]] = frozenset(
    {
        (T.WAITING, T.READY),  # the last dependency finished
        (T.WAITING, T.SKIPPED),  # a dependency did not succeed
        (T.WAITING, T.CANCELED),
        (T.READY, T.CLAIMED),
        (T.READY, T.CANCELED),
        (T.READY, T.WAITING),  # a dependency was retried
        (T.READY, T.RUNNING),  # its pilot was given up, and has come back with it
        (T.CLAIMED, T.RUNNING),
        (T.CLAIMED, T.READY),  # released, or its pilot was lost
        (T.CLAIMED, T.DONE),  # it ended before its start was reported
        (T.CLAIMED, T.FAILED),
        (T.CLAIMED, T.CANCELED),
        (T.RUNNING, T.READY),  # failed or lost, with retries left
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
        (T.DONE, T.READY),  # a user's rerun
        (T.DONE, T.WAITING),
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
        (P.FAILED, P.ACTIVE),  # it was silent for too long, and has come back
    }
)

TASK_FINAL = frozenset({T.DONE, T.FAILED, T.CANCELED, T.SKIPPED})
TASK_HELD = frozenset({T.CLAIMED, T.RUNNING})
PILOT_FINAL = frozenset({P.DONE, P.FAILED, P.CANCELED})

# Caused by the infrastructure, and so not counted against max_retries.
NOT_CHARGED = frozenset({Cause.WALLTIME, Cause.PREEMPTED, Cause.NODE_LOST, Cause.PILOT_LOST})
# Of these, the ones that the task itself may have caused: they count against the crash limit.
CRASHES = frozenset({Cause.NODE_LOST, Cause.PILOT_LOST})
CRASH_LIMIT = 5


def check_task(old: TaskState, new: TaskState) -> None:
    """Raise `InvalidTransition` if a task may not go from `old` to `new`."""
    if (old, new) not in TASK_TRANSITIONS:
        raise InvalidTransition(f"a task cannot go from {old.name} to {new.name}")


def check_pilot(old: PilotState, new: PilotState) -> None:
    """Raise `InvalidTransition` if a pilot may not go from `old` to `new`."""
    if (old, new) not in PILOT_TRANSITIONS:
        raise InvalidTransition(f"a pilot cannot go from {old.name} to {new.name}")


def after_attempt(
    cause: Cause, exit_code: int | None, *, cancel: bool, failures: int, max_retries: int, crashes: int
) -> TaskState:
    """Return the state of a task after the end of an attempt.

    Parameters
    ----------
    cause, exit_code
        How the attempt ended.
    cancel
        Whether the user has canceled the task.
    failures, crashes
        How many attempts, this one included, have failed by themselves, and how many ended together with their node or
        pilot.
    max_retries
        How many failures are followed by another attempt.
    """
    if cause is Cause.EXIT and exit_code == 0:
        return TaskState.DONE
    if cancel or cause is Cause.CANCELED:
        return TaskState.CANCELED
    if cause in NOT_CHARGED:
        return TaskState.FAILED if crashes >= CRASH_LIMIT else TaskState.READY
    return TaskState.READY if failures <= max_retries else TaskState.FAILED
