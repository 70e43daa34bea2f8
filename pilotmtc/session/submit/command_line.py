"""Tasks from a command line such as that of ``pilotmtc run``."""

import io
import itertools
import os
import re
import shutil
import stat
from collections.abc import Callable, Mapping, Sequence
from typing import BinaryIO, cast

from pilotmtc.errors import UsageError
from pilotmtc.parameters import Source, combine, file, grid, lines, split_lists
from pilotmtc.parameters.files import ENDS
from pilotmtc.resources.retry import is_cause
from pilotmtc.session.submit.tasks import TaskOptions, TaskStream, make_commands, make_tasks, read_campaign
from pilotmtc.template import names, wants_values

STDIN = 0


def toml_of(words: Sequence[str]) -> tuple[TaskStream, str] | None:
    """Return the tasks and the name of a campaign file, if `words` are the path of one."""
    if len(words) == 1 and words[0].endswith(".toml") and " " not in words[0].strip():
        return read_campaign(os.path.expanduser(words[0]))
    return None


def tasks_of(
    words: Sequence[str],
    files: Sequence[str],
    form: str | None,
    axes: Sequence[str],
    options: TaskOptions,
    *,
    tell: Callable[[str], None] = lambda _words: None,
) -> TaskStream:
    """Return the tasks of ``COMMAND... [::: VALUES...]...``.

    One word is a shell line; several words are an argument vector. If a placeholder needs values and there is no other
    source of them, they are the lines of standard input. Otherwise standard input is not read: it may belong to a loop
    or script around this command.

    Parameters
    ----------
    tell
        Called with a message if standard input is not read although it may have data.

    Raises
    ------
    UsageError
        If a task is invalid.
    """
    command, listed = split_lists(words)
    if not command:
        raise UsageError("there is no command before the first ':::'")
    if listed is not None and not files and not axes:
        listed = _named_by(command, listed)
    sources = _sources(listed, files, form, axes)
    if not sources and _stdin_may_hold_values():
        if _wants_values(command, options):
            sources.append(_named_by(command, _stdin(form)))
        else:
            tell("standard input is not read: to run a task for each of its lines, write {} where the line belongs")
    return make_tasks(command[0] if len(command) == 1 else command, combine(sources) if sources else None, options)


def _sources(listed: Source | None, files: Sequence[str], form: str | None, axes: Sequence[str]) -> list[Source]:
    sources = [] if listed is None else [listed]
    if list(files).count("-") > 1:
        raise UsageError("--from - is given twice: standard input can be read once")
    sources += [_values_of(name, form) for name in files]
    if axes:
        sources.append(grid(axes))
    return sources


def _values_of(name: str, form: str | None) -> Source:
    return _stdin(form) if name == "-" and form in (None, *ENDS) else file(name, form)


def commands_of(path: str, form: str | None, options: TaskOptions) -> TaskStream:
    """Return the tasks of a file of whole commands, each a shell line; ``-`` is standard input.

    Raises
    ------
    UsageError
        If a task is invalid.
    """
    return make_commands(_values_of(path, form or "lines"), options)


def rows_of(lists: Sequence[str], files: Sequence[str], form: str | None, axes: Sequence[str]) -> Source:
    """Return the rows of ``::: VALUES``, files and grids; of the lines of standard input if there are none of these.

    Raises
    ------
    UsageError
        If there are no rows, or one is invalid.
    """
    before, listed = split_lists(lists)
    if before:
        raise UsageError(f"{before[0]!r} is neither an option nor behind ':::': values come behind ':::'")
    sources = _sources(listed, files, form, axes)
    if not sources and _stdin_may_hold_values():
        sources.append(_stdin(form))
    if not sources:
        raise UsageError("there are no values: give --from FILE, --grid NAME=VALUES, ::: VALUES, or lines of input")
    return combine(sources)


def _named_by(command: Sequence[str], listed: Source) -> Source:
    """Return the lists with the names in the command, if it has a name for each list and no positions."""
    found = names(command, shell=len(command) == 1)
    if len(found) != len(listed.fields) or any(not name or name.isdecimal() for name in found):
        return listed
    return Source(found, lambda: iter(listed), size=listed.size, again=listed.again)


def _stdin(form: str | None) -> Source:
    # Unbuffered: a thread that waits for it at the end of the program must not hold a lock of Python's.
    return lines(cast("BinaryIO", io.FileIO(STDIN, closefd=False)), end=ENDS.get(form or "", b"\n"))


def _stdin_may_hold_values() -> bool:
    """Return whether standard input is open, and neither a terminal nor /dev/null."""
    try:
        return not stat.S_ISCHR(os.fstat(STDIN).st_mode)
    except OSError:  # closed
        return False


def _wants_values(command: Sequence[str], options: TaskOptions) -> bool:
    """Return whether the command or another option has a placeholder for a value."""
    fields = ("cwd", "stdin", "stdout", "stderr", "task_name")
    texts = [*options.get("env", {}).values(), *options.get("tags", ()), *(options.get(field, "") for field in fields)]
    return wants_values([*command, *map(str, texts)])


def check_causes(words: Sequence[str], given: Mapping[str, Sequence[str]]) -> None:
    """Raise `UsageError` for ``--retry-on exit:75 oom COMMAND``, where ``oom`` would be taken for the command.

    Parameters
    ----------
    given
        What was given to the options ``retry_on`` and ``no_retry_on``.
    """
    names = [name for name, causes in given.items() if causes]
    if not names or not words:
        return
    following = words[1] if len(words) > 1 else ""
    if words[0] == "timeout":  # a program, too, which takes options or a time
        is_command = re.fullmatch(r"-.*|[\d.]+[smhd]?", following) is not None
    else:
        is_command = not is_cause(words[0]) or shutil.which(words[0]) is not None
    if is_command:
        return
    before = given[names[0]] if len(names) == 1 else ()
    meant = " ".join([*before, *itertools.takewhile(is_cause, words)])
    option = f"--{names[-1].replace('_', '-')}"
    raise UsageError(f"{words[0]!r} would be the command: for several causes write {option} '{meant}'")
