"""Shell lines that need no shell: one command with its arguments.

What such a line does is then done by the program alone, for half of the CPU time. In doubt a line needs a shell.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

from pilotmtc.template.parse import DOUBLE, PLAIN, SINGLE, Hole

_MARK = "\1"  # stands for a placeholder
_BLANKS = " \t"
_PROGRAM = re.compile(r"[A-Za-z0-9_./][A-Za-z0-9_./+-]*")
_TOKEN = re.compile(
    r"(?P<blank>[ \t]+)"
    r"|(?P<plain>[A-Za-z0-9_@%+=:,./\1-]+)"  # what no shell takes for anything else
    r"|'(?P<single>[^']*)'"
    r'|"(?P<double>[^"$`\\!]*)"'
)
# Commands and reserved words of dash, bash, BusyBox, ksh, mksh, yash and zsh.
_WORDS = """
. : [ [[ alias autoload bg bind bindkey break builtin bye caller case cd chdir command compgen complete compopt
continue coproc declare dirs disable disown do done echo elif else emulate enable end esac eval exec exit export
false fc fg fi for foreach function functions getopts global hash help hist history if in jobs kill let local
logout mapfile nameref newgrp nocorrect noglob popd print printf pushd pushln pwd read readarray readonly redirect
rehash rename repeat return select set setopt shift shopt source stop suspend test then time times trap true type
typeset ulimit umask unalias unfunction unhash unset unsetopt until vared wait whence where which while zmodload
"""
_OF_SHELLS = frozenset(_WORDS.split())


def simple_command(pieces: Sequence[str | Hole]) -> list[list[str | Hole]] | None:
    """Return the words of a shell line, each in parts, if it is one simple command; None if it needs a shell.

    Parameters
    ----------
    pieces
        Of the line, as `pilotmtc.template.shell.read_shell` returns them.
    """
    holes = [piece for piece in pieces if isinstance(piece, Hole)]
    line = "".join([piece if isinstance(piece, str) else _MARK for piece in pieces]).strip(_BLANKS + "\n")
    if line.count(_MARK) != len(holes) or any(hole.quoting not in (PLAIN, DOUBLE, SINGLE) for hole in holes):
        return None
    words: list[str | None] = [None]  # the last is being read; None has not begun
    at = 0
    while at < len(line):
        match = _TOKEN.match(line, at)
        if match is None or ((match["plain"] or "").startswith("=") and words[-1] is None):
            return None
        at = match.end()
        if match["blank"]:
            words.append(None)
        else:
            words[-1] = (words[-1] or "") + next(text for text in match.groups() if text is not None)
    program = re.split(rf"[{_BLANKS}]", line, maxsplit=1)[0]
    if not _PROGRAM.fullmatch(program) or program in _OF_SHELLS:
        return None
    left = iter(holes)
    return [_parts(word or "", left) for word in words]


def functions(environ: Mapping[str, str]) -> frozenset[str]:
    """Return the names of functions that bash finds in its environment, and calls rather than programs."""
    return frozenset(name[10:].rstrip("%()") for name in environ if name.startswith("BASH_FUNC_"))


def _parts(word: str, holes: Iterator[Hole]) -> list[str | Hole]:
    parts: list[str | Hole] = []
    for number, text in enumerate(word.split(_MARK)):
        if number:
            parts.append(next(holes))
        if text:
            parts.append(text)
    return parts
