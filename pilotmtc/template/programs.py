"""Which files the tasks of a template run: those that are named, or else the programs that its command names."""

import os
import shlex

from pilotmtc.model import Program, Template
from pilotmtc.template.parse import holes

_MOST_WORDS = 64  # of a command that are looked at


def directory_of(template: Template) -> str:
    """Return the directory of the tasks, as far as it is the same for all of them."""
    pieces = holes(template.cwd or "", template.fields)
    if not pieces or pieces[0] is None:
        return ""
    return pieces[0] if len(pieces) == 1 else os.path.dirname(pieces[0])


def candidates(template: Template) -> tuple[str, ...]:
    """Return the absolute paths of words of the command that have no placeholders: some may be programs."""
    if template.watch or template.function is not None:
        return ()
    words = _words(template.command[0]) if template.shell else list(template.command)
    directory = directory_of(template)
    found: dict[str, None] = {}
    for word in words[:_MOST_WORDS]:
        pieces = holes(word, template.fields)
        if len(pieces) != 1 or pieces[0] is None or pieces[0].startswith("-"):
            continue
        path = os.path.normpath(os.path.join(directory, pieces[0]))
        if os.path.isabs(path):
            found[path] = None
    return tuple(found)


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:  # quotes that do not end, as in a comment
        return line.split()


def files_of(template: Template, program: Program) -> dict[str, str]:
    """Return the content of the files that count for tasks of `template`, as `program` has it; see `Program.files`."""
    if template.watch:
        return {path: program.files.get(path, "") for path in template.watch}
    return {path: program.files[path] for path in candidates(template) if path in program.files}
