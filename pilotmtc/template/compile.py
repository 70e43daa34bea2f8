"""Compiles templates: what expands them is made once, and then called for each attempt of each task."""

import os
import re
from collections.abc import Callable, Sequence
from operator import itemgetter

from msgspec import Struct

from pilotmtc.errors import UsageError
from pilotmtc.model import Template
from pilotmtc.template import arguments
from pilotmtc.template.arguments import SHELL, Words, split_shell
from pilotmtc.template.changes import changer
from pilotmtc.template.parse import BUILTINS, NUMBER_OF_ROW, Hole, is_name, own, split
from pilotmtc.template.reevaluated import Guard
from pilotmtc.template.shell import read_shell
from pilotmtc.template.simple import simple_command

WHOLE_COMMAND = (SHELL, "-c", "{command}")  # of tasks whose value is a shell line of its own
Run = Callable[[Sequence[str], int, int, int], "Expanded"]
Check = Callable[[Sequence[str]], None]


class Expanded(Struct, frozen=True):
    """A command with all placeholders replaced. ``env`` is added to the agent's environment.

    Files are relative only if ``cwd`` is None or relative. ``alone`` is the command of a shell line that needs no
    shell: it does the same as long as its program can be started.
    """

    argv: list[str]
    env: dict[str, str]
    cwd: str | None = None
    stdin: str | None = None
    stdout: str | None = None
    stderr: str | None = None
    alone: list[str] | None = None


def _unknown(hole: Hole, fields: list[str], where: str) -> UsageError:
    name = hole.name
    literal = f"for the literal text {{{hole}}} write {{{{{hole}}}}}"
    if name == NUMBER_OF_ROW:
        return UsageError(
            f"{{#}} in the {where} is the number of a row of parameters, and there are no rows; {literal}"
        )
    if name == "%":
        return UsageError(
            f"{{%}} in the {where} is no placeholder: tasks have no slots with numbers; which cores a task has is in "
            f"$PILOTMTC_CORE_LIST; {literal}"
        )
    if not is_name(name):
        return UsageError(
            f"{{{name}}} in the {where} is no placeholder: behind a name there may be a part of a path ({{.}}, {{/}}, "
            f"{{//}}, {{/.}}) or a format ({{x:03d}}); {literal}"
        )
    if not fields:
        return UsageError(f"{{{hole}}} in the {where}, but the tasks have no parameters: give some, or, {literal}")
    if len(fields) == 1:
        there = f"there is only {{{fields[0]}}}"
    else:
        there = f"there are {len(fields)}: " + ", ".join(fields[:20]) + (" ..." if len(fields) > 20 else "")
    import difflib  # for faults only

    close = difflib.get_close_matches(name, [*fields, *BUILTINS], 1)
    meant = f"; did you mean {{{close[0]}{hole.change}}}?" if close else ";"
    if not close and all(field.isdecimal() for field in fields):
        values = "{1} for its value" if len(fields) == 1 else f"{{1}} to {{{len(fields)}}} for their values"
        meant = f"; what has no name goes by number: write {values};"
    return UsageError(f"{{{hole}}} in the {where} is no parameter ({there}){meant} {literal}")


class Compiler:
    """Turns the texts of a template into functions of a list of values.

    The list has the task's values, task, attempt and campaign, and then values that `extras` compute from these.
    """

    def __init__(self, fields: tuple[str, ...]) -> None:
        self.fields = fields
        self.extras: list[Callable[[list[str]], str]] = []
        self._own = own(fields)
        self._indexes: dict[tuple[int, str], int] = {}  # of what extras compute, by value and change; -1 is all values

    def index(self, hole: Hole, where: str) -> int:
        """Return the index of the value for `hole`."""
        name, count = hole.name, len(self._own)
        if name in self.fields:
            if name in BUILTINS:
                raise UsageError(f"{{{name}}} in the {where} is pilotmtc's own: rename the parameter of that name")
            at = self.fields.index(name)
        elif name in BUILTINS:
            at = len(self.fields) + BUILTINS.index(name)
        elif not name and count:
            at = 0 if count == 1 else -1
        elif name.isdecimal() and 0 < int(name) <= count:
            at = int(name) - 1
        else:
            raise _unknown(hole, self._own, where)
        if at >= 0 and not hole.change:
            return at
        key = (at, hole.change)
        if key not in self._indexes:
            extra = self._changed(at, hole, where) if at >= 0 else self._joined(hole, where)
            self._indexes[key] = len(self.fields) + len(BUILTINS) + len(self.extras)
            self.extras.append(extra)
        return self._indexes[key]

    def _changed(self, at: int, hole: Hole, where: str) -> Callable[[list[str]], str]:
        """Return a function from the list of values to the one at `at`, changed as `hole` says."""
        try:
            change = changer(hole.name, hole.change)
        except UsageError as error:
            raise UsageError(f"{error} (in the {where})") from None
        return lambda values: change(values[at])

    def _joined(self, hole: Hole, where: str) -> Callable[[list[str]], str]:
        """Return a function from the list of values to the user's, each changed as `hole` says, in one text."""
        each = [self.index(Hole(name, change=hole.change), where) for name in self._own]
        return lambda values: " ".join([values[at] for at in each])

    def complete(self, values: list[str]) -> list[str]:
        """Return `values` with what is computed from them."""
        for extra in self.extras:
            values.append(extra(values))
        return values

    def text(self, text: str | None, where: str) -> Callable[[list[str]], str | None]:
        """Return a function from the list of values to the expanded text."""
        if text is None:
            return _nothing
        pieces = list(split(text, self.fields))
        holes = [self.index(piece, where) for piece in pieces if isinstance(piece, Hole)]
        if not holes:
            whole = "".join(piece for piece in pieces if isinstance(piece, str))
            return lambda _values: whole
        form = "".join("%s" if isinstance(piece, Hole) else piece.replace("%", "%%") for piece in pieces)
        if form == "%s":
            return itemgetter(holes[0])
        pick = itemgetter(*holes)
        return lambda values: form % pick(values)

    def indexes(self, words: "Sequence[Callable[[list[str]], str | None]]") -> list[str | int]:
        """Return the indexes of what functions like those of `words` make of the list of values."""
        first = len(self.fields) + len(BUILTINS) + len(self.extras)
        self.extras += words  # type: ignore[arg-type]  # words of a command are not None
        return list(range(first, first + len(words)))

    def words(self, word: str) -> list[Callable[[list[str]], str | None]]:
        """Return the functions for one word of an argument vector: ``{}`` alone becomes several, as in a shell line."""
        pieces = [piece for piece in split(word, self.fields) if piece]
        hole = pieces[0] if len(pieces) == 1 else ""
        if isinstance(hole, Hole) and not hole.name and len(self._own) > 1:
            each = [self.index(Hole(name, change=hole.change), "command") for name in self._own]
            return [itemgetter(at) for at in each]
        return [self.text(word, "command")]


def _nothing(_values: list[str]) -> None:
    return None


def _guard(guard: Guard, compiler: Compiler) -> Callable[[list[str]], None]:
    """Return a function that raises `UsageError` if a list of values does not satisfy `guard`."""
    parts = [compiler.index(part, "command") if isinstance(part, Hole) else part or "" for part in guard.word]
    hole = next(str(part) for part in guard.word if isinstance(part, Hole))
    if guard.form is None:
        raise UsageError(f"{{{hole}}} cannot be where it is in the command: {guard.why}")
    match, forbidden, why = re.compile(guard.form, re.DOTALL).fullmatch, guard.forbidden, guard.why

    def check(values: list[str]) -> None:
        word = "".join([part if isinstance(part, str) else values[part] for part in parts])
        if (match(word) is None) != forbidden:
            raise UsageError(f"{word[:60]!r} cannot be the value of {{{hole}}} in the command: {why}")

    return check


def _argument(word: str | int) -> Callable[[list[str]], str]:
    """Return a function from the list of values to an argument: a text, or the value at an index."""
    return itemgetter(word) if isinstance(word, int) else lambda _values: word


def _alone(words: list[Words]) -> Callable[[list[str]], list[str] | None]:
    """Return what makes the argument vector of a shell line that needs no shell."""
    return lambda values: [
        "".join([part if isinstance(part, str) else values[part] for part in word]) for word in words
    ]


def _alone_of(at: int) -> Callable[[list[str]], list[str] | None]:
    """Return the same for a whole command, which is the value at `at`; it gives None if that needs a shell."""

    def make(values: list[str]) -> list[str] | None:
        words = simple_command((values[at],))
        return None if words is None else ["".join(map(str, word)) for word in words]

    return make


def compile_template(template: Template) -> tuple[Run, Check | None]:
    """Return what expands a template, and what checks the values of a task; None if all values are valid."""
    fields = template.fields
    count = len(fields)
    compiler = Compiler(fields)
    guards: list[Callable[[list[str]], None]] = []
    alone: Callable[[list[str]], list[str] | None] | None = None
    shell, setup = template.shell_program or SHELL, template.setup
    # Options may make the shell another one: a login shell knows more commands.
    needs_shell = bool(setup) or len(split_shell(shell)) > 1

    def index(hole: Hole) -> int:
        return compiler.index(hole, "command")

    words: list[Callable[[list[str]], str | None]]
    if template.shell:
        line = template.command[0]
        words = list(map(_argument, arguments.of_line(line, fields, index, shell, setup)))
        guards = [_guard(guard, compiler) for guard in read_shell(line, fields).guards]
        parts = None if needs_shell else arguments.alone(line, fields, index)
        alone = None if parts is None else _alone(parts)
    elif template.command == WHOLE_COMMAND and "command" in fields:
        command = fields.index("command")
        words = list(map(_argument, arguments.of_whole_command(command, shell, setup)))
        alone = None if needs_shell else _alone_of(command)
    else:
        words = [made for word in template.command for made in compiler.words(word)]
        if setup:
            words = list(map(_argument, arguments.of_vector(compiler.indexes(words), shell, setup)))
    env = {name: compiler.text(value, f"variable {name}") for name, value in template.env.items()}
    places = [
        compiler.text(text, where)
        for where, text in (
            ("cwd", template.cwd),
            ("stdin", template.stdin),
            ("stdout", template.stdout),
            ("stderr", template.stderr),
        )
    ]
    bare = all(place is _nothing for place in places)
    complete = compiler.complete

    def run(params: Sequence[str], task: int, attempt: int, campaign: int) -> Expanded:
        if len(params) != count:
            raise UsageError(f"task {task} brings {len(params)} values for the {count} parameters {', '.join(fields)}")
        values = complete([*params, str(task), str(attempt), str(campaign)])
        for guard in guards:
            guard(values)
        argv = [word(values) for word in words]
        variables = {name: make(values) for name, make in env.items()} if env else {}
        by_itself = None if alone is None else alone(values)
        if bare:
            return Expanded(argv, variables, alone=by_itself)  # type: ignore[arg-type]  # command and env hold no None
        cwd, stdin, stdout, stderr = [place(values) for place in places]
        if cwd is not None:
            stdin, stdout, stderr = [
                None if name is None else os.path.join(cwd, name) for name in (stdin, stdout, stderr)
            ]
        return Expanded(argv, variables, cwd, stdin, stdout, stderr, by_itself)  # type: ignore[arg-type]

    def check(params: Sequence[str]) -> None:
        values = complete([*params, "1", "1", "1"])
        for guard in guards:
            guard(values)

    return run, check if guards or compiler.extras else None
