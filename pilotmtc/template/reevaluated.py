"""Arguments that a shell evaluates again although they are quoted: those of ``eval``, ``test -v``, ``sh -c`` and so on.

A task's value must not be there, unless it is so simple that evaluating it changes nothing: a `Guard` checks that.
"""

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

from msgspec import Struct

from pilotmtc.template.parse import Hole

# A part of a word: unquoted text, a placeholder, or None for what the shell inserts.
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
    """A condition on a word with placeholders, so that the shell evaluates none of its values.

    Attributes
    ----------
    word
        The parts of the word.
    form
        A regular expression that the word with its values must match, or must not match if `forbidden`. None: no value
        is safe there.
    why
        The reason, and what to write instead.
    """

    word: tuple[Part, ...]
    form: str | None
    why: str
    forbidden: bool = False


def text_of(word: Sequence[Part]) -> str | None:
    """Return a word's text; None if it depends on values or on what the shell inserts."""
    return "".join([part for part in word if isinstance(part, str)]) if all(isinstance(p, str) for p in word) else None


def has_hole(word: Iterable[Part]) -> bool:
    """Return whether a word contains a placeholder."""
    return any(isinstance(part, Hole) for part in word)


def guards(words: Sequence[Sequence[Part]]) -> Iterator[Guard]:
    """Yield the conditions on the words of one simple command."""
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
    """Yield the conditions on arguments of ``test``: its option ``-v`` evaluates the index in the next argument."""
    for first, second in itertools.pairwise(words):
        if has_hole(second) and text_of(first) in ("-v", "-R"):
            yield Guard(tuple(second), r"\w*", "test -v takes the name of a variable")
        elif has_hole(second) and has_hole(first):
            yield Guard(tuple(first), "-[vR]", "test takes it for an operator", forbidden=True)


def _behind_shells(words: Sequence[Sequence[Part]]) -> Iterator[Guard]:
    """Yield the conditions on lines for another shell, which may be anywhere in a command: ``srun bash -c '...'``."""
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
        elif _may_be_shell(word):
            shell = True
        elif not option and before not in ("-o", "+o", "-O", "+O", "--rcfile", "--init-file"):
            shell = False  # it is a script, and what follows is for the script
        before = text


def _may_be_shell(word: Sequence[Part]) -> bool:
    """Return whether a word is the name of a shell, or could become one: ``sh``, ``/bin/sh``, ``$SHELL``, ``{}sh``."""
    form = "".join([re.escape(part) if isinstance(part, str) else ".*" for part in word]).rpartition("/")[2]
    return any(re.fullmatch(form, name) for name in _SHELLS)
