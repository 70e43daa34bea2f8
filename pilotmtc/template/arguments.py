"""The arguments that start a task's shell: the text that it runs, and beside it the values, which it reads as data.

An argument of a shell is a text, or the index of a value.
"""

import re
import shlex
from collections.abc import Callable, Sequence

from pilotmtc.errors import UsageError
from pilotmtc.template.parse import DOUBLE, NUMBER, PLAIN, SINGLE, Hole
from pilotmtc.template.shell import read_shell
from pilotmtc.template.simple import simple_command

SHELL = "/bin/sh"
SETUP_SHELL = "bash"  # what setups of venv, conda and modules are written for
SHELLS = ("sh", "bash", "dash", "ash")
_OPTION = re.compile(r"[-+][abefhlmpuvxCEHPT]*o?|--(?:login|noprofile|norc|posix)")
_EXPANSIONS = {PLAIN: '"${}"', DOUBLE: "${{{}}}", NUMBER: "${{{}}}", SINGLE: "'\"${}\"'"}  # of a variable
Words = list[str | int]
Index = Callable[[Hole], int]


def split_shell(shell: str) -> list[str]:
    """Return program and options of a shell such as ``bash -l``.

    Raises
    ------
    UsageError
        If it is none of those that values are safe in.
    """
    try:
        words = shlex.split(shell)
    except ValueError:
        words = []
    if not words or words[0].rpartition("/")[2] not in SHELLS:
        raise UsageError(
            f"{shell!r} is not a shell that tasks can have: give {', '.join(SHELLS[:-1])} or {SHELLS[-1]}, with its "
            "directory if it is not in the tasks' PATH"
        )
    before = ""
    for word in words[1:]:
        if not (before.endswith("o") and re.fullmatch(r"[a-z]+", word)) and not _OPTION.fullmatch(word):
            raise UsageError(f"{word!r} in the shell {shell!r} is not an option that it can have: as in 'bash -l -e'")
        before = word if word.startswith(("-", "+")) and not word.startswith("--") else ""
    if before.endswith("o"):
        raise UsageError(f"{shell!r} ends with {before!r}, which needs a name, as in 'bash -o pipefail'")
    return words


def of_line(line: str, fields: tuple[str, ...], index: Index, shell: str, setup: Sequence[str]) -> Words:
    """Return the arguments for a shell line."""
    prefix = _prefix([line, *setup])
    numbers: dict[int, int] = {}
    text = []
    for piece in read_shell(line, fields).pieces:
        if isinstance(piece, Hole):
            number = numbers.setdefault(index(piece), len(numbers) + 1)
            piece = _EXPANSIONS.get(piece.quoting or "", "").format(f"{prefix}{number}")  # noqa: PLW2901
        text.append(piece)
    whole = _setup(setup, prefix) + "".join(text)
    if whole.startswith(("-", "+")) and not numbers:  # it would be taken for an option
        whole = f" {whole}"
    return _with_values(split_shell(shell), whole, list(numbers), prefix)


def of_whole_command(command: int, shell: str, setup: Sequence[str]) -> Words:
    """Return the arguments for a value that is a shell line of its own."""
    program = split_shell(shell)
    if not setup:
        return [*program, "-c", command]
    prefix = _prefix(setup)
    return _with_values(program, f'{_setup(setup, prefix)}eval "${prefix}1"', [command], prefix)


def of_vector(words: Words, shell: str, setup: Sequence[str]) -> Words:
    """Return the arguments for an argument vector that takes the place of the shell after `setup`.

    So it is a program even if it is called like a command of the shell, which might read its arguments again.
    """
    prefix = _prefix(setup)
    names = " ".join(f'"${prefix}{number}"' for number in range(1, len(words) + 1))
    return _with_values(split_shell(shell), f"{_setup(setup, prefix)}exec {names}", words, prefix)


def alone(line: str, fields: tuple[str, ...], index: Index) -> list[Words] | None:
    """Return the words of a shell line that needs no shell, each in parts; None if it needs one."""
    words = simple_command(read_shell(line, fields).pieces)
    if words is None:
        return None
    return [[part if isinstance(part, str) else index(part) for part in word] for word in words]


def _prefix(texts: Sequence[str]) -> str:
    """Return how variables may begin that none of `texts` has."""
    prefix = "pilotmtc_"
    while any(prefix in text for text in texts):
        prefix += "_"
    return prefix


def _setup(lines: Sequence[str], prefix: str) -> str:
    """Return what runs `lines`, and ends with the first that fails."""
    code = f"{prefix}0"
    text = []
    for line in lines:
        said = f"printf 'pilotmtc: setup failed with exit code %s: %s\\n' ${code} {shlex.quote(line)} >&2"
        text.append(f"{line}\n{code}=$?; test ${code} = 0 || {{ {said}; exit ${code}; }}\n")
    return "".join(text)


def _with_values(program: list[str], text: str, values: Sequence[str | int], prefix: str) -> Words:
    """Return the arguments of a shell that runs `text`, in which values are variables.

    They come as arguments, and are assigned, because functions and what is sourced have arguments of their own.
    """
    if values:
        numbers = range(1, len(values) + 1)
        text = f"{' '.join(f'{prefix}{number}=${{{number}}}' for number in numbers)}; set --; {text}"
    return [*program, "-c", text, *([program[0], *values] if values else [])]
