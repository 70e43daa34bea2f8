"""Commands with placeholders: a template is made once for many tasks, and expanded for each attempt.

``{}`` stands for all values of the task, ``{name}`` for one by name, ``{1}`` for one by position, ``{#}`` for the
number of its row, and ``{task_id}``, ``{attempt}`` and ``{campaign_id}`` for what pilotmtc knows. Behind a name there
may be a part of a path or a format: ``{x.}``, ``{x:03d}``. ``{{name}}`` is the literal text ``{name}``. ``${X}``
belongs to the shell, and braces around anything else (``awk '{print $1}'``) are left alone.

In an argument vector, values are inserted unchanged. In a shell line, each place gets a shell variable with suitable
quotes, and the values are passed separately, so that no value is ever run as shell. Where this is not possible, a
placeholder is an error: see ``docs/tasks.md``.
"""

import math
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence

from pilotmtc.errors import UsageError
from pilotmtc.model import MAX_OUTPUT_BYTES, Template
from pilotmtc.template.arguments import SETUP_SHELL
from pilotmtc.template.compile import WHOLE_COMMAND, Check, Compiler, Expanded, Run, compile_template
from pilotmtc.template.parse import (
    BUILTINS,
    DOUBLE,
    NUMBER_OF_ROW,
    PLAIN,
    SINGLE,
    Hole,
    holes,
    literal,
    own,
    placeholders,
    split,
    wants_number,
    wants_values,
)
from pilotmtc.template.shell import names, read_shell
from pilotmtc.template.simple import functions

__all__ = [
    "NUMBER_OF_ROW", "WHOLE_COMMAND", "Expanded", "check_text", "checker", "expand", "functions", "holes", "literal",
    "make_template", "names", "own", "own_numbers", "placeholders", "render", "shown", "wants_number", "wants_values",
]  # fmt: skip

_OWN = ("/dev/std", "/dev/fd/", "/proc/self/", "/proc/thread-self/")
_CACHE_SIZE = 512


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
    setup: Sequence[str] = (),
    shell_program: str = "",
    retry_on: Sequence[str] = (),
    no_retry_on: Sequence[str] = (),
    retry_memory: float = 1.0,
    max_memory_bytes: int = 0,
    retry_time: float = 1.0,
    watch: Sequence[str] = (),
) -> Template:
    """Return a checked template of tasks that run `command`.

    Parameters
    ----------
    command
        A shell line, or an argument vector when it is a sequence of strings.
    fields
        Names of each task's values. Unnamed ones (``"1"``, ``"2"``, from ``:::`` or stdin) are appended as arguments if
        neither command, env, cwd nor stdin mentions one of them.
    env, cwd, stdin, stdout, stderr, append, max_retries, backoff_s, max_output_bytes, setup, shell_program, \
    retry_on, no_retry_on, retry_memory, max_memory_bytes, retry_time, watch
        As in `pilotmtc.model.Template`. The shell is bash if there is a setup and no shell is said.

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
    for line in setup:
        check_text(line, "the setup")
        if not line.strip():
            raise UsageError(f"{line!r} in the setup is empty: leave it out")
    bare = [name for name in names if name.isdecimal()]
    if bare:
        texts = [*([] if shell else words), *variables.values(), *(text for text in (cwd, stdin) if text is not None)]
        pieces = [piece for text in texts for piece in split(text, names)]
        if shell:
            pieces += read_shell(words[0], names).pieces
        mentions = ("", NUMBER_OF_ROW, *bare)
        if not any(isinstance(piece, Hole) and piece.name in mentions for piece in pieces):
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
        setup=tuple(setup),
        shell_program=shell_program or (SETUP_SHELL if setup else ""),
        retry_on=tuple(retry_on),
        no_retry_on=tuple(no_retry_on),
        retry_memory=float(retry_memory),
        max_memory_bytes=max_memory_bytes,
        retry_time=float(retry_time),
        watch=tuple(watch),
    )
    compile_template(template)
    return template


def expand(template: Template, params: Sequence[str], *, task: int, attempt: int, campaign: int) -> Expanded:
    """Return the command for one attempt of a task.

    Raises
    ------
    UsageError
        If the template is invalid (`make_template` never returns such a one), or if the number of `params` is wrong.
    """
    return _compiled(template)[0](params, task, attempt, campaign)


def own_numbers(template: Template) -> bool:
    """Return whether tasks are given their own number, or that of their attempt or campaign."""
    places = (template.cwd, template.stdin, template.stdout, template.stderr)
    texts = [*template.env.values(), *(text for text in places if text is not None), *template.command]
    pieces = (piece for text in texts for piece in split(text, template.fields))
    return any(
        isinstance(piece, Hole) and piece.name in BUILTINS and piece.name not in template.fields for piece in pieces
    )


def checker(template: Template) -> Check | None:
    """Return a function that raises `UsageError` for invalid values; None if all values are valid."""
    return _compiled(template)[1]


def shown(template: Template, params: Sequence[str], *, task: int, attempt: int, campaign: int) -> str:
    """Return the command with values in it, as a line for users."""
    if template.command == WHOLE_COMMAND and "command" in template.fields:
        return params[template.fields.index("command")]
    if not template.shell:
        return shlex.join(expand(template, params, task=task, attempt=attempt, campaign=campaign).argv)
    compiler = Compiler(template.fields)
    pieces = read_shell(template.command[0], template.fields).pieces
    parts = [
        (compiler.index(piece, "command"), piece.quoting) if isinstance(piece, Hole) else piece for piece in pieces
    ]
    values = compiler.complete([*params, str(task), str(attempt), str(campaign)])
    return "".join([part if isinstance(part, str) else _quoted(values[part[0]], part[1]) for part in parts])


def _quoted(value: str, quoting: str | None) -> str:
    if quoting == PLAIN:
        return shlex.quote(value)
    if quoting == DOUBLE:
        return re.sub(r'([\\$"`])', r"\\\1", value)
    return value.replace("'", "'\\''") if quoting == SINGLE else value


def _compiled(template: Template) -> "tuple[Run, Check | None]":
    known = _cache.get(id(template))
    if known is None or known[0] is not template:
        if len(_cache) >= _CACHE_SIZE:
            _cache.clear()
        known = _cache[id(template)] = (template, *compile_template(template))
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
    compiler = Compiler(names)
    make = compiler.text(text, where)

    def run(params: Sequence[str]) -> str:
        return make(compiler.complete([*params, "", "", ""])) or ""

    return run


# By identity, because templates contain dicts and cannot be hashed; the kept reference keeps the identity valid.
_cache: dict[int, tuple[Template, Run, Check | None]] = {}


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


def check_variable(name: str) -> str:
    """Return `name`, which must be one that a shell can use.

    Raises
    ------
    UsageError
        If a variable cannot be called so.
    """
    if name.isascii() and name.isidentifier():
        return name
    raise UsageError(f"{name!r} cannot name a variable: use letters, digits and underscores, and a letter first")


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
    if behind.startswith("the comment") and len(list(split(line.rpartition("#")[2], fields))) > 1:
        return line  # a value that is mentioned there only is one that the command is not to have
    if behind:
        raise UsageError(
            f"the command mentions no value, so {' '.join(ends)} would be added at its end, and behind {behind} "
            "that would not be an argument: write {} where the value belongs"
        )
    return " ".join([line, *ends])
