"""Commands with placeholders: a template is made once for many tasks, and expanded for each attempt.

``{}`` stands for all values of the task, ``{name}`` for one by name, ``{1}`` for one by position, and ``{task_id}``,
``{attempt}`` and ``{campaign_id}`` for what pilotmtc knows. ``{{name}}`` is the literal text ``{name}``. ``${X}``
belongs to the shell, and braces around anything else (``awk '{print $1}'``) are left alone.

In an argument vector, values are inserted unchanged. In a shell line, each place gets a shell variable with suitable
quotes, and the values are passed separately, so that no value is ever run as shell. Where this is not possible, a
placeholder is an error: see ``docs/tasks.md``.
"""

import difflib
import math
import os
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter

from msgspec import Struct

from pilotmtc.errors import UsageError
from pilotmtc.model import MAX_OUTPUT_BYTES, Template
from pilotmtc.template.parse import (
    BUILTINS,
    DOUBLE,
    NUMBER,
    PLAIN,
    SINGLE,
    Hole,
    holes,
    is_name,
    literal,
    placeholders,
    split,
    wants_values,
)
from pilotmtc.template.reevaluated import Guard
from pilotmtc.template.shell import names, read_shell
from pilotmtc.template.simple import functions, simple_command

__all__ = [
    "Expanded", "check_text", "checker", "expand", "functions", "holes", "literal", "make_template", "names",
    "placeholders", "render", "shown", "wants_values",
]  # fmt: skip

SHELL = "/bin/sh"
_OWN = ("/dev/std", "/dev/fd/", "/proc/self/", "/proc/thread-self/")

_CACHE_SIZE = 512
_EXPANSIONS = {PLAIN: '"${}"', DOUBLE: "${{{}}}", NUMBER: "${{{}}}", SINGLE: "'\"${}\"'"}  # of a variable
_Run = Callable[[Sequence[str], int, int, int], "Expanded"]
_Check = Callable[[Sequence[str]], None]


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


def make_template(
    command: str | Sequence[str],
    fields: Sequence[str] = (),
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    stdin: str | None = None,
    stdout: str | None = None,
    stderr: str | None = None,
    append: bool = False,
    max_retries: int = 0,
    backoff_s: float = 0.0,
    max_output_bytes: int = MAX_OUTPUT_BYTES,
) -> Template:
    """Return a checked template of tasks that run `command`.

    Parameters
    ----------
    command
        A shell line, or an argument vector when it is a sequence of strings.
    fields
        Names of each task's values. Unnamed ones (``"1"``, ``"2"``, from ``:::`` or stdin) are appended as arguments if
        neither command, env, cwd nor stdin mentions one of them.
    env, cwd, stdin, stdout, stderr, append, max_retries, backoff_s, max_output_bytes
        As in `pilotmtc.model.Template`.

    Raises
    ------
    UsageError
        If a placeholder does not name a field, or anything else in it is invalid.
    """
    shell = isinstance(command, str)
    words = (command,) if isinstance(command, str) else tuple(command)
    names = tuple(fields)
    variables = dict(env or {})
    _check_plain(words, names, variables, (cwd, stdin, stdout, stderr))
    for what, file in (("stdin", stdin), ("stdout", stdout), ("stderr", stderr)):
        if file is not None and file.startswith(_OWN):
            helps = "what a task prints is shown and kept; a shell line joins its streams with 2>&1"
            if what == "stdin":
                helps = "a task reads a file; lines of this standard input become values with {}, or with --from -"
            raise UsageError(f"{what} is {file}, which is the pilot's own when the task runs: leave it out; {helps}")
    if max_retries < 0:
        raise UsageError(f"max_retries is {max_retries}: give 0 or more")
    if not math.isfinite(backoff_s) or backoff_s < 0:
        raise UsageError(f"backoff_s is {backoff_s}: give 0 or more seconds")
    if max_output_bytes < 1:
        raise UsageError(f"the limit of a task's output is {max_output_bytes}: give at least 1 byte")
    bare = [name for name in names if name.isdecimal()]
    if bare:
        texts = [*([] if shell else words), *variables.values(), *(text for text in (cwd, stdin) if text is not None)]
        pieces = [piece for text in texts for piece in split(text, names)]
        if shell:
            pieces += read_shell(words[0], names).pieces
        if not any(isinstance(piece, Hole) and piece.name in ("", *bare) for piece in pieces):
            ends = [f"{{{name}}}" for name in bare]
            words = (_longer(words[0], names, ends),) if shell else (*words, *ends)
    template = Template(
        command=words,
        shell=shell,
        fields=names,
        env=variables,
        cwd=cwd,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        append=append,
        max_retries=max_retries,
        backoff_s=float(backoff_s),
        max_output_bytes=max_output_bytes,
    )
    _compile(template)
    return template


def expand(template: Template, params: Sequence[str], *, task: int, attempt: int, campaign: int) -> Expanded:
    """Return the command for one attempt of a task.

    Raises
    ------
    UsageError
        If the template is invalid (`make_template` never returns such a one), or if the number of `params` is wrong.
    """
    return _compiled(template)[0](params, task, attempt, campaign)


def checker(template: Template) -> _Check | None:
    """Return a function that raises `UsageError` for invalid values; None if all values are valid."""
    return _compiled(template)[1]


def shown(template: Template, params: Sequence[str], *, task: int, attempt: int, campaign: int) -> str:
    """Return the command with values in it, as a line for users."""
    if not template.shell:
        return shlex.join(expand(template, params, task=task, attempt=attempt, campaign=campaign).argv)
    values = [*params, str(task), str(attempt), str(campaign)]
    compiler = _Compiler(template.fields)
    return "".join(
        [
            piece if isinstance(piece, str) else _quoted(values[compiler.index(piece, "command")], piece.quoting)
            for piece in read_shell(template.command[0], template.fields).pieces
        ]
    )


def _quoted(value: str, quoting: str | None) -> str:
    if quoting == PLAIN:
        return shlex.quote(value)
    if quoting == DOUBLE:
        return re.sub(r'([\\$"`])', r"\\\1", value)
    return value.replace("'", "'\\''") if quoting == SINGLE else value


def _compiled(template: Template) -> "tuple[_Run, _Check | None]":
    known = _cache.get(id(template))
    if known is None or known[0] is not template:
        if len(_cache) >= _CACHE_SIZE:
            _cache.clear()
        known = _cache[id(template)] = (template, *_compile(template))
    return known[1:]


def render(text: str, fields: Sequence[str], where: str) -> Callable[[Sequence[str]], str]:
    """Return a function that inserts a task's values into `text`, before the task has an id; `where` is for errors.

    Raises
    ------
    UsageError
        If a placeholder does not name a field.
    """
    names = tuple(fields)
    for hole in split(text, names):
        if isinstance(hole, Hole) and hole.name in BUILTINS and hole.name not in names:
            raise UsageError(f"{{{hole.name}}} in the {where} is not known before the task is submitted: leave it out")
    compiler = _Compiler(names)
    make = compiler.text(text, where)

    def run(params: Sequence[str]) -> str:
        values = [*params, "", "", ""]
        for extra in compiler.extras:
            values.append(extra(values))
        return make(values) or ""

    return run


# By identity, because templates contain dicts and cannot be hashed; the kept reference keeps the identity valid.
_cache: dict[int, tuple[Template, _Run, _Check | None]] = {}


# -- looking at the parts ---------------------------------------------------------------------------------------


def _check_plain(
    words: tuple[str, ...],
    fields: tuple[str, ...],
    env: Mapping[str, str],
    places: Iterable[str | None],
) -> None:
    if not words or not words[0].strip():
        raise UsageError("the command is empty: give a shell line, or a program and its arguments")
    for number, name in enumerate(fields, 1):
        if not name or name != name.strip() or set(name) & set("{}\n\r"):
            raise UsageError(f"{name!r} cannot name parameter {number}: use letters, digits and underscores")
        if name.isdecimal() and name != str(number):
            raise UsageError(f"{name!r} cannot name parameter {number}: {{{name}}} is the parameter at position {name}")
        if name in fields[: number - 1]:
            raise UsageError(f"two parameters are called {name!r}: rename one of them")
    for name in env:
        if not name or "=" in name:
            raise UsageError(f"{name!r} cannot name an environment variable: a name is not empty and has no '='")
    for text in (*words, *fields, *env, *env.values(), *(place for place in places if place is not None)):
        check_text(text, "a task")


def check_text(text: str, what: str) -> None:
    """Raise `UsageError` if `text` cannot be an argument: it contains a NUL, or is not UTF-8."""
    if "\0" in text:
        raise UsageError(f"{text!r} in {what} holds a NUL character, which no program can be given: leave it out")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UsageError(f"{text!r} in {what} is not UTF-8 text: convert it, or rename the file") from None


def _longer(line: str, fields: tuple[str, ...], ends: Sequence[str]) -> str:
    """Return a shell line with more arguments at the end."""
    line = line.rstrip(" \t\n")
    behind = read_shell(line, fields).behind
    if behind:
        raise UsageError(
            f"the command mentions no value, so {' '.join(ends)} would be added at its end, and behind {behind} "
            "that would not be an argument: write {} where the value belongs"
        )
    return " ".join([line, *ends])


def _unknown(name: str, fields: tuple[str, ...], where: str) -> UsageError:
    literal = f"for the literal text {{{name}}} write {{{{{name}}}}}"
    if not is_name(name):
        return UsageError(
            f"{{{name}}} in the {where} is no placeholder: there are none for parts of a value or formats; "
            'let the shell make them (V={}; echo "${V%.*}", or printf %03d {}), or write them into the parameters '
            f"(--grid x=001..100); {literal}"
        )
    if not fields:
        return UsageError(f"{{{name}}} in the {where}, but the tasks have no parameters: give some, or, {literal}")
    if len(fields) == 1:
        there = f"there is only {{{fields[0]}}}"
    else:
        there = f"there are {len(fields)}: " + ", ".join(fields[:20]) + (" ..." if len(fields) > 20 else "")
    close = difflib.get_close_matches(name, [*fields, *BUILTINS], 1)
    meant = f"; did you mean {{{close[0]}}}?" if close else ";"
    if not close and all(field.isdecimal() for field in fields):
        values = "{1} for its value" if len(fields) == 1 else f"{{1}} to {{{len(fields)}}} for their values"
        meant = f"; what has no name goes by number: write {values};"
    return UsageError(f"{{{name}}} in the {where} is no parameter ({there}){meant} {literal}")


# -- compiling --------------------------------------------------------------------------------------------------


class _Compiler:
    """Turns the texts of a template into functions of a list of values.

    The list has the task's values, task, attempt and campaign, and then values that `extras` compute from these.
    """

    def __init__(self, fields: tuple[str, ...]) -> None:
        self.fields = fields
        self.extras: list[Callable[[list[str]], str]] = []
        self._joined = -1  # index of all values joined

    def index(self, hole: Hole, where: str) -> int:
        """Return the index of the value for `hole`."""
        count = len(self.fields)
        if hole.name in self.fields:
            if hole.name in BUILTINS:
                raise UsageError(f"{{{hole.name}}} in the {where} is pilotmtc's own: rename the parameter of that name")
            at = self.fields.index(hole.name)
        elif hole.name in BUILTINS:
            at = count + BUILTINS.index(hole.name)
        elif not hole.name and count:
            at = 0 if count == 1 else -1
        elif hole.name.isdecimal() and 0 < int(hole.name) <= count:
            at = int(hole.name) - 1
        else:
            raise _unknown(hole.name, self.fields, where)
        if at >= 0:
            return at
        if self._joined < 0:
            self._joined = count + len(BUILTINS) + len(self.extras)
            self.extras.append(lambda values: " ".join(values[:count]))
        return self._joined

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


def _nothing(_values: list[str]) -> None:
    return None


def _guard(guard: Guard, compiler: _Compiler) -> Callable[[list[str]], None]:
    """Return a function that raises `UsageError` if a list of values does not satisfy `guard`."""
    parts = [compiler.index(part, "command") if isinstance(part, Hole) else part or "" for part in guard.word]
    hole = next(part.name for part in guard.word if isinstance(part, Hole))
    if guard.form is None:
        raise UsageError(f"{{{hole}}} cannot be where it is in the command: {guard.why}")
    match, forbidden, why = re.compile(guard.form, re.DOTALL).fullmatch, guard.forbidden, guard.why

    def check(values: list[str]) -> None:
        word = "".join([part if isinstance(part, str) else values[part] for part in parts])
        if (match(word) is None) != forbidden:
            raise UsageError(f"{word[:60]!r} cannot be the value of {{{hole}}} in the command: {why}")

    return check


def _shell_words(
    line: str, compiler: _Compiler
) -> tuple[list[Callable[[list[str]], str | None]], list[Callable[[list[str]], None]]]:
    """Return a function that makes the shell's arguments, and the checks of its values.

    Values are passed as arguments, and assigned to variables, because functions have arguments of their own.
    """
    read = read_shell(line, compiler.fields)
    prefix = "pilotmtc_"
    while prefix in line:
        prefix += "_"
    numbers: dict[int, int] = {}
    text = []
    for piece in read.pieces:
        if isinstance(piece, Hole):
            at = compiler.index(piece, "command")
            number = numbers.setdefault(at, len(numbers) + 1)
            piece = _EXPANSIONS.get(piece.quoting or "", "").format(f"{prefix}{number}")  # noqa: PLW2901
        text.append(piece)
    whole = "".join(text)
    if numbers:
        whole = " ".join(f"{prefix}{number}=${{{number}}}" for number in numbers.values()) + f"; set --; {whole}"
    elif whole.startswith(("-", "+")):  # it would be taken for an option
        whole = f" {whole}"
    words: list[Callable[[list[str]], str | None]] = [lambda _values, word=word: word for word in (SHELL, "-c", whole)]  # type: ignore[misc]
    if numbers:
        words += [lambda _values: SHELL, *(itemgetter(at) for at in numbers)]
    return words, [_guard(guard, compiler) for guard in read.guards]


def _alone(line: str, compiler: _Compiler) -> Callable[[list[str]], list[str]] | None:
    """Return what makes the argument vector of a shell line that needs no shell; None if it needs one."""
    words = simple_command(read_shell(line, compiler.fields).pieces)
    if words is None:
        return None
    numbered = [[part if isinstance(part, str) else compiler.index(part, "command") for part in word] for word in words]
    return lambda values: [
        "".join([part if isinstance(part, str) else values[part] for part in word]) for word in numbered
    ]


def _compile(template: Template) -> tuple[_Run, _Check | None]:
    fields = template.fields
    count = len(fields)
    compiler = _Compiler(fields)
    words: list[Callable[[list[str]], str | None]] = []
    guards: list[Callable[[list[str]], None]] = []
    alone = None
    if template.shell:
        words, guards = _shell_words(template.command[0], compiler)
        alone = _alone(template.command[0], compiler)
    for word in () if template.shell else template.command:
        if word == "{}" and count > 1:  # alone, it becomes several arguments, as in a shell line
            words.extend(itemgetter(at) for at in range(count))
        else:
            words.append(compiler.text(word, "command"))
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
    extras = compiler.extras

    def run(params: Sequence[str], task: int, attempt: int, campaign: int) -> Expanded:
        if len(params) != count:
            raise UsageError(f"task {task} brings {len(params)} values for the {count} parameters {', '.join(fields)}")
        values = [*params, str(task), str(attempt), str(campaign)]
        for extra in extras:
            values.append(extra(values))
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
        values = [*params, "1", "1", "1"]
        for guard in guards:
            guard(values)

    return run, check if guards else None
