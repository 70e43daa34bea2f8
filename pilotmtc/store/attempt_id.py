"""Ids of attempts: the task's id and, in the low bits, the number of the attempt."""

from pilotmtc.model import TaskId

ATTEMPT_BITS = 20
LAST_ATTEMPT = (1 << ATTEMPT_BITS) - 1  # the largest number of an attempt


def attempt_id(task: int, attempt: int) -> int:
    """Return the id of an attempt; that of attempt 0 is less than those of all attempts of the task."""
    return task << ATTEMPT_BITS | attempt


def split_attempt_id(id_: int) -> tuple[TaskId, int]:
    """Return the task and the number of an attempt, from its id."""
    return TaskId(id_ >> ATTEMPT_BITS), id_ & LAST_ATTEMPT


def attempt_id_sql(task: str, attempt: str) -> str:
    """Return SQL for the id of an attempt; `task` and `attempt` are columns or numbers."""
    return f"({task} << {ATTEMPT_BITS}) + {attempt}"


def task_sql(id_: str) -> str:
    """Return SQL for the task of an attempt, from its id."""
    return f"{id_} >> {ATTEMPT_BITS}"


def attempt_sql(id_: str) -> str:
    """Return SQL for the number of an attempt, from its id."""
    return f"{id_} & {LAST_ATTEMPT}"
