"""Changing a template whose tasks keep their values."""

from typing import Any

from msgspec.structs import asdict

from pilotmtc.errors import UsageError
from pilotmtc.model import Template
from pilotmtc.template import make_template
from pilotmtc.template.parse import Hole, own, split
from pilotmtc.template.shell import read_shell


def edited(
    template: Template, *, command: tuple[str, ...] | None = None, shell: bool = False,
    env: dict[str, str] | None = None, **others: Any,
) -> Template:  # fmt: skip
    """Return a template with other values.

    Parameters
    ----------
    command, shell
        As in `Template`; None: that of before.
    env
        Variables that are added or replaced.
    **others
        Fields of `Template`.

    Raises
    ------
    UsageError
        If a placeholder names no parameter of the tasks, or if a value that they were given is given no more.
    """
    has = asdict(template) | others
    fields = has.pop("fields")
    function = has.pop("function")
    has["env"] = template.env | (env or {})
    if function is not None:
        if command is not None:
            raise UsageError(f"the tasks call the Python function {function.name}, and have no command to change")
        return Template(**(asdict(template) | others | {"env": has["env"], "function": function}))
    words, line = (template.command, template.shell) if command is None else (command, shell)
    has.pop("command")
    has.pop("shell")
    made = make_template(words[0] if line else words, fields, **has)
    for name in own(fields):
        if name in _mentioned(template) and name not in _mentioned(made):
            raise UsageError(
                f"the tasks have values for {{{name}}}, and {' '.join(words)!r} does not mention it: write {{{name}}} "
                "where the value belongs"
            )
    return made


def _mentioned(template: Template) -> set[str]:
    """Return the names of the parameters that tasks are given."""
    fields = template.fields
    places = [template.cwd, template.stdin, template.stdout, template.stderr]
    texts = [*template.env.values(), *(text for text in places if text is not None)]
    pieces: list[str | Hole] = []
    if template.shell:
        pieces += read_shell(template.command[0], fields).pieces
    else:
        texts += template.command
    pieces += [piece for text in texts for piece in split(text, fields)]
    found = {piece.name for piece in pieces if isinstance(piece, Hole)}
    return found | set(own(fields)) if "" in found else found
