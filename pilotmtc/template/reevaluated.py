"""What a shell reads once more though it is quoted: some of its own commands take arguments for shell, or calculate.

A value must not get there, or only if it is so plain that reading it again changes nothing: a `Guard` says so.
"""

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

from msgspec import Struct

from pilotmtc.template.parse import Hole

# Of a word: its text without quotes, a placeholder, or None for what the shell itself puts in.
Part: TypeAlias = "str | Hole | None"

WHOLE = r"[-+]?(?:0[xX][0-9a-fA-F]+|[0-9]+)"
_PLAIN = r"[\w@%+=:,./-]*"
_PREFIXES = frozenset({"command", "builtin", "exec"})
_READS = frozenset({"eval", "trap", "alias", "let", "bind", "complete", "compgen", "fc"})
_DECLARES = frozenset({"export", "readonly", "declare", "typeset", "local"})
_NAMES = frozenset({"read", "unset", "getopts", "mapfile", "readarray", "wait"})
_TESTS = frozenset({"test", "["})
_OWN = _PREFIXES | _READS | _DECLARES | _NAMES | _TESTS | {"printf"}
_SHELLS = frozenset({"sh", "bash", "dash", "ash", "ksh", "ksh93", "mksh", "zsh"})


class Guard(Struct, frozen=True):
    """What `word` must be (or must not be) with its values for the shell to take it as data; None: no value will do."""

    word: tuple[Part, ...]
    form: str | None
    why: str
    forbidden: bool = False


def text_of(word: Sequence[Part]) -> str | None:
    """Return what a word is, None if that depends on values or on what the shell puts in."""
    return "".join([part for part in word if isinstance(part, str)]) if all(isinstance(p, str) for p in word) else None


def has_hole(word: Iterable[Part]) -> bool:
    """Return whether there is a placeholder in a word."""
    return any(isinstance(part, Hole) for part in word)


def guards(words: Sequence[Sequence[Part]]) -> Iterator[Guard]:
    """Yield what must hold of the words of one simple command."""
    if not any(map(has_hole, words)):
        return
    yield from _behind_shells(words)
    at = 0
    while at < len(words) and (text_of(words[at]) in _PREFIXES or set(words[at]) == {None}):
        at += 1
        while at < len(words) and (text_of(words[at]) or "").startswith("-"):
            at += 1
    if at == len(words):
        return
    name, rest = text_of(words[at]), words[at + 1 :]
    holed = [tuple(word) for word in rest if has_hole(word)]
    if has_hole(words[at]):
        why = "that is a command of the shell itself, which may read other values as shell: write it into the line"
        yield Guard(tuple(words[at]), "|".join(map(re.escape, sorted(_OWN))), why, forbidden=True)
    elif name in _READS:
        why = f'{name} reads it as shell: put it into a variable before (V={{}}), and write "$V" in single quotes'
        yield from (Guard(word, None, why) for word in holed)
    elif name in _DECLARES:
        options = [word for word in rest if (text_of(word) or "").startswith(("-", "+"))]
        form = None if options else r"[A-Za-z_][A-Za-z0-9_]*(?:\+?=.*)?"
        yield from (Guard(word, form, f"{name} takes NAME=VALUE, without options") for word in holed)
    elif name in _NAMES:
        yield from (Guard(word, r"\w*", f"{name} takes the name of a variable") for word in holed)
    elif name in _TESTS:
        yield from _test(rest)
    elif name == "printf" and rest:
        if has_hole(rest[0]):
            yield Guard(
                tuple(rest[0]), r"-.*", "printf takes it for an option: write printf -- before it", forbidden=True
            )
        elif (text_of(rest[0]) or "").startswith("-v"):
            yield from (Guard(word, r"\w*", "printf -v takes the name of a variable") for word in holed)


def _test(words: Sequence[Sequence[Part]]) -> Iterator[Guard]:
    """``test -v`` calculates the index in its argument."""
    for first, second in itertools.pairwise(words):
        if has_hole(second) and text_of(first) in ("-v", "-R"):
            yield Guard(tuple(second), r"\w*", "test -v takes the name of a variable")
        elif has_hole(second) and has_hole(first):
            yield Guard(tuple(first), "-[vR]", "test takes it for an operator", forbidden=True)


def _behind_shells(words: Sequence[Sequence[Part]]) -> Iterator[Guard]:
    """Another shell reads its line again, wherever in the command it is started: ``srun bash -c '...'``."""
    why = "a shell reads its line again, so it must be letters, digits and @%+=:,./- only: give it as an argument, "
    why += """as in sh -c 'echo "$1"' - {}"""
    shell = code = False
    before: str | None = ""
    for word in words:
        text = text_of(word)
        option = text is not None and text.startswith(("-", "+"))
        if code and not option:
            yield from (Guard((part,), _PLAIN, why) for part in word if isinstance(part, Hole))
            code = shell = False
        elif shell and text is not None and re.fullmatch(r"-[A-Za-z]*c", text):
            code = True
        elif text is not None and text.rpartition("/")[2] in _SHELLS:
            shell = True
        elif not option and before not in ("-o", "+o", "-O", "+O", "--rcfile", "--init-file"):
            shell = False  # a script, whose options these are
        before = text
