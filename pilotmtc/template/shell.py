"""Find placeholders in a shell line, and how each is quoted there.

Values never become part of the line: the shell gets them in variables, and the line gets quoted expansions of these. So
even if a quote is misread here, no value can run as shell; at worst it is split into words. `reevaluated` deals with
arguments that shells evaluate in spite of quotes. Where only a complete parser could tell how a line continues, or
where shells differ, placeholders are refused from there on.
"""

import functools
import re
from collections.abc import Sequence

from msgspec import Struct

from pilotmtc.template.parse import (
    BUILTINS,
    DOUBLE,
    NUMBER,
    PLAIN,
    REFUSED,
    SINGLE,
    Hole,
    hole_of,
    is_name,
    own,
    pattern,
    placeholders,
)
from pilotmtc.template.reevaluated import WHOLE, Guard, Part, guards, has_hole, text_of

_DEPTH = 30
_REMEDY = 'give the value as a variable (--env V={}, env = { V = "{}" }) and write "$V" there'
_META = " \t\n;&|<>()"
_PLAIN_RUN = re.compile(r"[^ \t\n;&|<>()'\"\\`${]+")
_DOUBLE_RUN = re.compile(r"[^\"\\`${]+")
_BACKQUOTED = re.compile(r"`(?:[^`\\]|\\.)*`", re.DOTALL)
_VARIABLE = re.compile(r"\$(?:[A-Za-z_][A-Za-z0-9_]*|[0-9@*#?$!-])")
_BRACED = re.compile(r"\$\{[#!]?(?:[A-Za-z_][A-Za-z0-9_]*|[0-9]+|[@*#?$!-])")
_BRACED_RUN = re.compile(r"[^'\"\\`${}()<>\n]+")
_ARITHMETIC_RUN = re.compile(r"[A-Za-z0-9_ \t\n+\-*/%<>=!&|^~?:,\[\]#]+")
_DOCUMENT = re.compile(
    r"<<(?P<strip>-?)[ \t]*(?P<end>\\?[A-Za-z_]\w*|'[^'\\\n]+'|\"[^\"\\$`\n]+\")(?=[ \t\n;&|<>()]|\Z)"
)
_REDIRECTION = re.compile(r"<<<|[<>]&|<>|>>|>\||[<>]")
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?P<index>\[[^\]]*\]?)?(?P<equals>\+?=)?")

_OPENS = frozenset({"if", "then", "elif", "else", "while", "until", "do", "!", "{", "time", "-p"})  # a command follows
_CLOSES = frozenset({"fi", "done", "esac", "}"})
_QUOTED = frozenset({SINGLE, DOUBLE})
_HEADS = frozenset({"for", "select", "case"})
_ONLY_SOME = frozenset({"[[", "function", "coproc"})


class ShellLine(Struct, frozen=True):
    """A shell line with its placeholders; `behind`: why no argument can be appended to it (empty if it can)."""

    pieces: tuple[str | Hole, ...]
    guards: tuple[Guard, ...]
    behind: str


class _Unsure(Exception):
    """It is not certain how the line continues from here."""


@functools.lru_cache(maxsize=512)
def read_shell(line: str, fields: tuple[str, ...]) -> ShellLine:
    """Parse the shell line `line` for tasks with the parameters `fields`."""
    reader = _Reader(line, fields)
    reader.read()
    return ShellLine(tuple(reader.pieces), tuple(reader.guards), reader.behind)


def names(words: Sequence[str], *, shell: bool) -> list[str]:
    """Return the names in the placeholders of a command, without duplicates and built-in names.

    In a shell line, quoted text is ignored: its braces may belong to another language.
    """
    found: list[str] = []
    for word in words:
        if shell:
            pieces = read_shell(word, ()).pieces
            found += [piece.name for piece in pieces if isinstance(piece, Hole) and piece.quoting not in _QUOTED]
        else:
            found += placeholders(word)
    return [name for name in dict.fromkeys(found) if is_name(name) and name not in BUILTINS]


class _Command:
    """The simple command that is being read, word by word."""

    def __init__(self) -> None:
        self.words: list[list[Part]] = []  # its name and arguments
        self.word: list[Part] = []  # the present word
        self.head = False  # the present word belongs to a loop or a case
        self.redirected = False  # the next word is a file name

    def add(self, word: list[Part]) -> None:
        if self.redirected:
            self.redirected = False
            return
        text = text_of(word)
        if self.words:
            self.words.append(word)
        elif self.head:
            self.head = text != "do"
        elif text in _HEADS:
            self.head = True
        elif text in _ONLY_SOME:
            raise _Unsure(f"not every shell knows {text}")
        elif text not in _OPENS | _CLOSES and not _assigns(word):
            self.words.append(word)


def _assigns(word: list[Part]) -> bool:
    match = _ASSIGNMENT.match(word[0]) if word and isinstance(word[0], str) else None
    if match is None:
        return False
    if match["index"] is not None and (has_hole(word) or None in word):
        raise _Unsure("shells calculate the index of an array")
    return match["equals"] is not None


class _Reader:
    """Reads a line once, from left to right; `at` is the present position."""

    def __init__(self, line: str, fields: tuple[str, ...]) -> None:
        self.line = line
        self.fields = fields
        self.holes = pattern(fields)
        self.pieces: list[str | Hole] = []
        self.guards: list[Guard] = []
        self.behind = ""
        self.at = 0
        self._put_to = 0
        self._open: list[_Command] = []  # the present command, and those in whose words it is
        self._documents: list[tuple[str, bool, bool]] = []  # from the next line on: end, tabs stripped, expanded

    def read(self) -> None:
        try:
            self._commands(nested=False)
        except _Unsure as unsure:
            self.behind = f"what is not read alike by all shells ({unsure})"
            why = f"the line is not surely understood there, for {unsure}: {_REMEDY}"
            for command in self._open:
                self.guards += guards([*command.words, command.word])
                self.guards += [Guard((part,), None, why) for part in command.word if isinstance(part, Hole)]
            for match in self.holes.finditer(self.line, max(self.at, self._put_to)):
                self._refuse(match, why)
        self._put(len(self.line), len(self.line))

    # -- what comes out -------------------------------------------------------------------------------------------

    def _put(self, start: int, end: int, *instead: str | Hole) -> None:
        """Copy the text up to `start`, and replace the text up to `end` with `instead`."""
        if start > self._put_to:
            self.pieces.append(self.line[self._put_to : start])
        self.pieces += instead
        self._put_to = end

    def _literal(self, match: re.Match[str]) -> str | None:
        if match["literal"] is None:
            return None
        text = f"{{{match['literal']}}}"
        self._put(match.start(), match.end(), text)
        return text

    def _refuse(self, match: re.Match[str], why: str) -> None:
        if self._literal(match) is None:
            hole = hole_of(match, self.fields, REFUSED)
            self._put(match.start(), match.end(), hole)
            self.guards.append(Guard((hole,), None, why))

    def _hole(self, match: re.Match[str], quoting: str, *, whole: bool = False) -> list[Part]:
        """Add a placeholder; `whole`: it is a word of its own, and several values become several words."""
        self.at = match.end()
        text = self._literal(match)
        if text is not None:
            return [text]
        hole = hole_of(match, self.fields, quoting)
        values = own(self.fields)
        if hole.name or len(values) < 2:
            self._put(match.start(), match.end(), hole)
            return [hole]
        blank = "' '" if quoting == PLAIN and not whole else " "
        parts: list[Part] = []
        for name in values:
            one = Hole(name, quoting, hole.change)
            self._put(match.start(), match.end(), *([blank] if parts else []), one)
            parts += [" ", one] if parts else [one]
        return parts

    # -- commands -------------------------------------------------------------------------------------------------

    def _commands(self, *, nested: bool) -> None:
        """Read commands up to the end of the line, or through the closing parenthesis."""
        if len(self._open) > _DEPTH:
            raise _Unsure("so much of it is in parentheses")
        line, behind, comment = self.line, "nothing", False
        self._open.append(_Command())
        while self.at < len(line):
            char = line[self.at]
            if char in " \t":
                self.at += 1
            elif line.startswith("\\\n", self.at):
                self._continue()
            elif char == "#":
                if nested:
                    raise _Unsure("there is a comment in parentheses")
                start, self.at = self.at, self._line_end(self.at)
                behind, comment = f"the comment {line[start : self.at]!r}", self.at == len(line)
            elif char in "\n;&|)":
                self.at += 1
                behind = repr(char)
                self._end_command()
                if char == "\n":
                    self._skip_documents(nested=nested)
                elif char == ")" and nested:
                    self._open.pop()
                    return
            elif char in "<>":
                behind = "a redirection"
                self._redirection(nested=nested)
            elif char == "(":
                behind = "')'"
                self._parenthesis()
            else:
                start = self.at
                self._next_word(nested=nested)
                behind = repr(line[start : self.at])
        if nested:
            raise _Unsure("a parenthesis is not closed")
        command = self._open[-1]
        self.behind = "" if command.words and not command.redirected and not comment else behind
        self._end_command()

    def _end_command(self) -> None:
        self.guards += guards(self._open[-1].words)
        self._open[-1] = _Command()

    def _line_end(self, at: int) -> int:
        stop = self.line.find("\n", at)
        return len(self.line) if stop < 0 else stop

    def _next_word(self, *, nested: bool) -> None:
        command, start = self._open[-1], self.at
        words = self._words(command)
        after = self.line[self.at : self.at + 1]
        if after in ("<", ">") and self.line[start : self.at].isdecimal():
            return  # the number before a redirection
        if after == "(" and not self.line.startswith("()", self.at):
            raise _Unsure("a parenthesis follows a word")
        if nested and text_of(words[-1]) == "case":
            raise _Unsure("there is a case in parentheses")
        for word in words:
            command.add(word)
        command.word = []

    def _parenthesis(self) -> None:
        command = self._open[-1]
        if self.line.startswith("()", self.at):  # of a function definition
            self.at += 2
            self._end_command()
            return
        if self.line.startswith("((", self.at):
            raise _Unsure("(( is arithmetic or not")
        if command.words and not command.redirected:
            raise _Unsure("a parenthesis follows a word")
        self.at += 1
        self._commands(nested=True)
        if command.redirected:  # <(...)
            command.redirected = False
        else:  # a group of commands, or the pattern of a case
            self._end_command()

    def _redirection(self, *, nested: bool) -> None:
        document = _DOCUMENT.match(self.line, self.at)
        if document is not None:
            if nested:
                raise _Unsure("there is a here-document in parentheses")
            end = document["end"]
            self._documents.append((end.strip("'\"\\"), document["strip"] == "-", end[0] not in "'\"\\"))
            self.at = document.end()
            return
        match = _REDIRECTION.match(self.line, self.at)
        if match is None or (match[0] == "<" and self.line.startswith("<<", self.at)):
            raise _Unsure("the end of a here-document is not a plain word")
        self.at = match.end()
        self._open[-1].redirected = True

    def _continue(self) -> None:
        """Skip backslashes at line ends, which may be inside an operator."""
        before, after = self.line[max(self.at - 1, 0) : self.at], self.line[self.at + 2 : self.at + 3]
        if before == "$" or (before and after and before in "<>&|;({`" and after in "<>&|;({-"):
            raise _Unsure("an operator is continued on the next line")
        self.at += 2

    def _skip_documents(self, *, nested: bool) -> None:
        if self._documents and nested:
            raise _Unsure("a here-document begins in parentheses")
        for end, strip, expanded in self._documents:
            start, found = self.at, False
            while self.at < len(self.line) and not found:
                stop = self._line_end(self.at)
                row = self.line[self.at : stop]
                self.at = min(stop + 1, len(self.line))
                found = (row.lstrip("\t") if strip else row) == end
                if expanded and re.search(r"\\\Z|`|\$\(|\$\{", row):
                    self._refuse_between(start, self.at, end)
                    raise _Unsure("a here-document holds more than text and $VARIABLES")
            self._refuse_between(start, self.at, end)
        self._documents.clear()

    def _refuse_between(self, start: int, stop: int, end: str) -> None:
        """Refuse what is certainly a placeholder in a here-document; other braces are part of its text."""
        for match in self.holes.finditer(self.line, start, stop):
            name = match["name"]
            if name is None and match["changed"] is not None:
                name = hole_of(match, self.fields).name
            if name is not None and (not name or name in self.fields or name in BUILTINS):
                self._refuse(match, f"it stands in the here-document <<{end}: {_REMEDY}")

    # -- words ----------------------------------------------------------------------------------------------------

    def _words(self, command: _Command) -> list[list[Part]]:
        """Read a word, which becomes several if it is ``{}`` with several values; a redirection takes one."""
        line = self.line
        word = command.word = []
        while self.at < len(line) and line[self.at] not in _META:
            char = line[self.at]
            match = self.holes.match(line, self.at) if char == "{" else None
            if match is not None:
                whole = not command.redirected and not word and (line[match.end() : match.end() + 1] or " ") in _META
                parts = self._hole(match, PLAIN, whole=whole)
                if whole:
                    return [[part] for part in parts if part != " "]
                word += parts
            elif char == "'":
                self._single(word)
            elif char == '"':
                self._double(word)
            elif not self._special(word, char, double=False):
                run = _PLAIN_RUN.match(line, self.at)
                text = char if run is None else run[0]
                word.append(text)
                self.at += len(text)
        return [word]

    def _special(self, word: list[Part], char: str, *, double: bool) -> bool:
        """Read a character that is special even within double quotes."""
        if char == "\\":
            if self.line.startswith("\\\n", self.at):
                self._continue()
            elif self.at + 1 == len(self.line):
                raise _Unsure("it ends with a backslash")
            else:
                word.append(self.line[self.at + 1])
                self.at += 2
        elif char == "`":
            self._backquotes(word)
        elif char == "$":
            self._dollar(word, double=double)
        else:
            return False
        return True

    def _single(self, word: list[Part]) -> None:
        stop = self.line.find("'", self.at + 1)
        if stop < 0:
            raise _Unsure("a quote is not closed")
        self._quoted(self.line[self.at : stop])
        self.at += 1
        for match in self.holes.finditer(self.line, self.at, stop):
            word.append(self.line[self.at : match.start()])
            word += self._hole(match, SINGLE)
        word.append(self.line[self.at : stop])
        self.at = stop + 1

    def _double(self, word: list[Part]) -> None:
        line = self.line
        self.at += 1
        while self.at < len(line):
            char = line[self.at]
            match = self.holes.match(line, self.at) if char == "{" else None
            if char == '"':
                word.append("")
                self.at += 1
                return
            if match is not None:
                word += self._hole(match, DOUBLE)
            elif not self._special(word, char, double=True):
                run = _DOUBLE_RUN.match(line, self.at)
                text = char if run is None else run[0]
                self._quoted(text)
                word.append(text)
                self.at += len(text)
        raise _Unsure("a quote is not closed")

    def _quoted(self, text: str) -> None:
        if self._documents and "\n" in text:
            raise _Unsure("a here-document begins behind a line's end in quotes")

    def _backquotes(self, word: list[Part]) -> None:
        whole = _BACKQUOTED.match(self.line, self.at)
        if whole is None:
            raise _Unsure("a backquote is not closed")
        self._quoted(whole[0])
        for match in self.holes.finditer(self.line, self.at, whole.end()):
            self._refuse(match, "it stands between backquotes: write $(...) instead")
        word.append(None)
        self.at = whole.end()

    def _dollar(self, word: list[Part], *, double: bool) -> None:
        line, at = self.line, self.at
        if line.startswith("$((", at):
            self._arithmetic()
            word.append(None)
        elif line.startswith("$(", at):
            if self._documents:
                raise _Unsure("there is a here-document before $(...)")
            self.at += 2
            self._commands(nested=True)
            word.append(None)
        elif line.startswith("${", at):
            self._braced()
            word.append(None)
        elif line.startswith(("$[", "$\\\n"), at) or (line.startswith(("$'", '$"'), at) and not double):
            raise _Unsure(f"shells differ about {line[at : at + 2]!r}")
        else:
            variable = _VARIABLE.match(line, at)
            word.append("$" if variable is None else None)
            self.at = at + 1 if variable is None else variable.end()

    def _braced(self) -> None:
        """Skip ``${...}`` in which nothing is quoted."""
        opened = _BRACED.match(self.line, self.at)
        if opened is None:
            raise _Unsure("shells differ about what is in ${...}")
        start, at = self.at, opened.end()
        while not self.line.startswith("}", at):
            run = _BRACED_RUN.match(self.line, at) or _VARIABLE.match(self.line, at)
            if run is not None:
                at = run.end()
            elif self.line.startswith("${", at) and _BRACED.match(self.line, at):
                self.at = at
                self._braced()
                at = self.at
            else:
                self.at = start
                raise _Unsure("shells differ about what is in ${...}")
        self.at = at + 1

    def _arithmetic(self) -> None:
        self.at += 3
        depth = 0
        while depth or not self.line.startswith("))", self.at):
            char = self.line[self.at : self.at + 1]
            run = _ARITHMETIC_RUN.match(self.line, self.at)
            match = self.holes.match(self.line, self.at)
            if run is not None:
                self._quoted(run[0])
                self.at = run.end()
            elif match is not None and match["literal"] is None:
                why = "the shell calculates with it, so it must be a whole number"
                self.guards += [Guard((part,), WHOLE, why) for part in self._hole(match, NUMBER) if part != " "]
            elif char == "$":
                self._dollar([], double=True)
            elif char == "(" or (char == ")" and depth):
                depth += 1 if char == "(" else -1
                self.at += 1
            else:
                raise _Unsure("$((...)) holds more than numbers, variables and operators")
        self.at += 2
