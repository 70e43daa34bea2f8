"""Check that no two tasks write their stdout or stderr to the same file."""

import os
import stat
from collections.abc import Iterable, Iterator

from pilotmtc.campaign.submit import TaskSpec
from pilotmtc.errors import UsageError
from pilotmtc.model import Template
from pilotmtc.template import expand, placeholders

_ADVICE = "put a placeholder such as {task_id} into its name, or append to it (--append)"
_SAME_FOR_ALL = ("attempt", "campaign_id")


def is_device(path: str) -> bool:
    """Return whether `path` is a device, a FIFO or the like, which tasks may share."""
    if path.startswith(("/dev/", "/proc/")) and not path.startswith("/dev/shm/"):  # whatever it is for whom
        return True
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def check_shared(template: Template, size: int | None) -> None:
    """Raise `UsageError` if all of `size` tasks would write to the same file."""
    if size is None or size < 2 or template.append:
        return
    for path in (template.stdout, template.stderr):
        if path is None or is_device(os.path.join(template.cwd or "", path)):
            continue
        if all(name in _SAME_FOR_ALL for name in placeholders(path, template.fields)):
            raise UsageError(f"{size} tasks would write to {path!r}: {_ADVICE}")


def apart(tasks: Iterable[TaskSpec]) -> Iterator[TaskSpec]:
    """Yield `tasks` unchanged.

    Raises
    ------
    UsageError
        At a task that would write to the file of an earlier one.
    """
    seen: set[int] = set()  # hashes: a tenth of the memory of a million paths
    for number, spec in enumerate(tasks, 1):
        template = spec.template
        if (template.stdout is not None or template.stderr is not None) and not template.append:
            todo = expand(template, spec.params, task=number, attempt=1, campaign=0)
            for path in {todo.stdout, todo.stderr} - {None}:
                assert path is not None
                mark = hash(os.path.normpath(path))
                if mark in seen and not is_device(path):
                    raise UsageError(f"task {number} would write to {path}, as one before it does: {_ADVICE}")
                seen.add(mark)
        yield spec
