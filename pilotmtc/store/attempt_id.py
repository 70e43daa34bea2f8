"""Attempts have one number each: the task's id and, in the low bits, the number of the attempt."""

from pilotmtc.model import TaskId

ATTEMPT_BITS = 20
LAST_ATTEMPT = (1 << ATTEMPT_BITS) - 1  # the largest number that an attempt of a task can have


def attempt_id(task: int, attempt: int) -> int:
    """Return the id of an attempt; that of a task's attempt 0 lies before all of its attempts."""
    return task << ATTEMPT_BITS | attempt


def split_attempt_id(id_: int) -> tuple[TaskId, int]:
    """Return the task and the number of an attempt."""
    return TaskId(id_ >> ATTEMPT_BITS), id_ & LAST_ATTEMPT


def attempt_id_sql(task: str, attempt: str) -> str:
    """Return the SQL of the id of an attempt; `task` and `attempt` are columns or numbers."""
    return f"({task} << {ATTEMPT_BITS}) + {attempt}"


def task_sql(id_: str) -> str:
    """Return the SQL of the task of an attempt, from its id."""
    return f"{id_} >> {ATTEMPT_BITS}"


def attempt_sql(id_: str) -> str:
    """Return the SQL of the number of an attempt, from its id."""
    return f"{id_} & {LAST_ATTEMPT}"
