"""The files that tasks write their stdout and stderr to: each is one task's own."""

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
    """Return whether nothing in `path` can be overwritten, or read again: it is a device, a FIFO or the like."""
    if path.startswith(("/dev/", "/proc/")) and not path.startswith("/dev/shm/"):  # whatever it is for whom
        return True
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def check_shared(template: Template, size: int | None) -> None:
    """Raise `UsageError` if all of `size` tasks would write to one file."""
    if size is None or size < 2 or template.append:
        return
    for path in (template.stdout, template.stderr):
        if path is None or is_device(os.path.join(template.cwd or "", path)):
            continue
        if all(name in _SAME_FOR_ALL for name in placeholders(path, template.fields)):
            raise UsageError(f"{size} tasks would write to {path!r}: {_ADVICE}")


def apart(tasks: Iterable[TaskSpec]) -> Iterator[TaskSpec]:
    """Yield `tasks` as they come.

    Raises
    ------
    UsageError
        At one that would write to the file of one before it.
    """
    seen: set[int] = set()  # hashes: of a million tasks with files of their own, a tenth of what the files need
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
