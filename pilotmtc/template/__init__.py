"""Commands with placeholders: made once for many tasks, expanded for each attempt.

``{}`` all values of the task, ``{name}`` one of them by name, ``{1}`` by position, and what pilotmtc knows itself:
``{task_id}``, ``{attempt}``, ``{campaign_id}``. ``{{name}}`` is the literal text ``{name}``. ``${X}`` is the shell's
own, and braces around anything else (``awk '{print $1}'``) are left alone.

In an argument vector values go in as they are. In a shell line they are quoted for the place where they stand, so that
no value is ever read as shell: see `pilotmtc.template` in ``docs/tasks.md`` for the few places where that cannot be
done, which are errors.
"""

import difflib
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter

from msgspec import Struct

from pilotmtc.errors import UsageError
from pilotmtc.model import MAX_OUTPUT_BYTES, Template
from pilotmtc.template.parse import BUILTINS, PLAIN, QUOTES, Hole, holes, literal, names, split

__all__ = ["Expanded", "check_text", "expand", "holes", "literal", "make_template", "names", "render"]

SHELL = "/bin/sh"

_CACHE_SIZE = 512
_Run = Callable[[Sequence[str], int, int, int], "Expanded"]


class Expanded(Struct, frozen=True):
    """What an agent starts: every placeholder replaced. ``env`` is to be added to the agent's own.

    Files are as seen from ``cwd``: relative only if there is none, or it is relative itself.
    """

    argv: list[str]
    env: dict[str, str]
    cwd: str | None = None
    stdin: str | None = None
    stdout: str | None = None
    stderr: str | None = None


def make_template(
    command: str | Sequence[str],
    fields: Sequence[str] = (),
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    stdin: str | None = None,
    stdout: str | None = None,
    stderr: str | None = None,
    max_retries: int = 0,
    backoff_s: float = 0.0,
    max_output_bytes: int = MAX_OUTPUT_BYTES,
) -> Template:
    """Return the template of tasks that run `command`, after looking at all of it.

    Parameters
    ----------
    command
        A shell line, or an argument vector when it is a sequence of strings.
    fields
        Names of the values that each task brings. When some are unnamed (``"1"``, ``"2"``, as ``:::`` and stdin
        name them) and neither command, env, cwd nor stdin mentions one of these, they become the last arguments.
    env, cwd, stdin, stdout, stderr, max_retries, backoff_s, max_output_bytes
        As in `pilotmtc.model.Template`.

    Raises
    ------
    UsageError
        If a placeholder names no field, or anything else in it cannot be.
    """
    shell = isinstance(command, str)
    words = (command,) if isinstance(command, str) else tuple(command)
    names = tuple(fields)
    variables = dict(env or {})
    _check_plain(words, names, variables, (cwd, stdin, stdout, stderr))
    if max_retries < 0:
        raise UsageError(f"max_retries is {max_retries}: give 0 or more")
    if not math.isfinite(backoff_s) or backoff_s < 0:
        raise UsageError(f"backoff_s is {backoff_s}: give 0 or more seconds")
    if max_output_bytes < 1:
        raise UsageError(f"the limit of a task's output is {max_output_bytes}: give at least 1 byte")
    bare = [name for name in names if name.isdecimal()]
    if bare:
        places = [*words, *variables.values(), *(text for text in (cwd, stdin) if text is not None)]
        used = {piece.name for text in places for piece in split(text, names, shell=False) if isinstance(piece, Hole)}
        if used.isdisjoint({*bare, ""}):
            ends = [f"{{{name}}}" for name in bare]
            words = (" ".join([words[0].rstrip(), *ends]),) if shell else (*words, *ends)
    template = Template(
        command=words,
        shell=shell,
        fields=names,
        env=variables,
        cwd=cwd,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        max_retries=max_retries,
        backoff_s=float(backoff_s),
        max_output_bytes=max_output_bytes,
    )
    _compile(template)
    return template


def expand(template: Template, params: Sequence[str], *, task: int, attempt: int, campaign: int) -> Expanded:
    """Return what to start for one attempt of one task.

    Raises
    ------
    UsageError
        If the template is wrong (`make_template` makes none that is) or has another number of fields than `params`.
    """
    known = _cache.get(id(template))
    if known is None or known[0] is not template:
        if len(_cache) >= _CACHE_SIZE:
            _cache.clear()
        known = _cache[id(template)] = (template, _compile(template))
    return known[1](params, task, attempt, campaign)


def render(text: str, fields: Sequence[str], where: str) -> Callable[[Sequence[str]], str]:
    """Return what puts a task's values into `text`, which stands `where`, before the task has an id.

    Raises
    ------
    UsageError
        If a placeholder names no field.
    """
    names = tuple(fields)
    for hole in split(text, names, shell=False):
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


# Keyed by identity, since templates hold dicts and so cannot be hashed; the reference keeps the identity valid.
_cache: dict[int, tuple[Template, _Run]] = {}


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
    """Raise `UsageError` if `text` cannot be handed to a program: a NUL in it, or bytes that are not UTF-8."""
    if "\0" in text:
        raise UsageError(f"{text!r} in {what} holds a NUL character, which no program can be given: leave it out")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UsageError(f"{text!r} in {what} is not UTF-8 text: convert it, or rename the file") from None


def _unknown(name: str, fields: tuple[str, ...], where: str) -> UsageError:
    literal = f"for the literal text {{{name}}} write {{{{{name}}}}}"
    if not fields:
        return UsageError(f"{{{name}}} in the {where}, but the tasks have no parameters: give some, or, {literal}")
    if len(fields) == 1:
        there = f"there is only {{{fields[0]}}}"
    else:
        there = f"there are {len(fields)}: " + ", ".join(fields[:20]) + (" ..." if len(fields) > 20 else "")
    close = difflib.get_close_matches(name, [*fields, *BUILTINS], 1)
    meant = f"; did you mean {{{close[0]}}}?" if close else ";"
    return UsageError(f"{{{name}}} in the {where} is no parameter ({there}){meant} {literal}")


# -- compiling --------------------------------------------------------------------------------------------------


class _Compiler:
    """Turns the texts of one template into formats over one list of values.

    The list is: the task's values, task, attempt, campaign, and then what `extras` make of those before them.
    """

    def __init__(self, fields: tuple[str, ...]) -> None:
        self.fields = fields
        self.extras: list[Callable[[list[str]], str]] = []
        self._known: dict[tuple[int, str | None], int] = {}

    def index(self, hole: Hole, where: str) -> int:
        """Return where in the list the value for `hole` will be."""
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
        if at >= 0 and hole.quoting is None:
            return at
        key = (at, hole.quoting)
        if key not in self._known:
            self._known[key] = count + len(BUILTINS) + len(self.extras)
            self.extras.append(_extra(at, count, QUOTES.get(hole.quoting or ""), hole.quoting == PLAIN))
        return self._known[key]

    def text(self, text: str | None, where: str, *, shell: bool = False) -> Callable[[list[str]], str | None]:
        """Return what makes the expanded text out of the list of values."""
        if text is None:
            return _nothing
        pieces = list(split(text, self.fields, shell=shell))
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


def _extra(at: int, count: int, quote: Callable[[str], str] | None, apart: bool) -> Callable[[list[str]], str]:
    """Return what makes a further value: number `at` quoted, or (-1) all of them joined, quoted `apart` or as one."""
    if at < 0:
        if quote is None:
            return lambda values: " ".join(values[:count])
        if apart:
            return lambda values: " ".join([quote(value) for value in values[:count]])
        return lambda values: quote(" ".join(values[:count]))
    assert quote is not None
    return lambda values: quote(values[at])


def _compile(template: Template) -> _Run:
    fields = template.fields
    count = len(fields)
    compiler = _Compiler(fields)
    shell = template.shell
    words: list[Callable[[list[str]], str | None]] = []
    for word in template.command:
        if word == "{}" and count > 1 and not shell:  # alone, it is as many arguments, as it is in a shell line
            words.extend(itemgetter(at) for at in range(count))
        else:
            words.append(compiler.text(word, "command", shell=shell))
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
    start = [SHELL, "-c"] if shell else []

    def run(params: Sequence[str], task: int, attempt: int, campaign: int) -> Expanded:
        if len(params) != count:
            raise UsageError(f"task {task} brings {len(params)} values for the {count} parameters {', '.join(fields)}")
        values = [*params, str(task), str(attempt), str(campaign)]
        for extra in extras:
            values.append(extra(values))
        argv = [*start, *[word(values) for word in words]]
        variables = {name: make(values) for name, make in env.items()} if env else {}
        if bare:
            return Expanded(argv, variables)  # type: ignore[arg-type]  # command and env hold no None
        cwd, *files = [place(values) for place in places]
        if cwd is not None:
            files = [None if name is None else os.path.join(cwd, name) for name in files]
        return Expanded(argv, variables, cwd, *files)  # type: ignore[arg-type]

    return run
