"""The lines of campaign files on which keys are, for messages."""

import re

_HEADER = re.compile(r"\s*(\[\[?)\s*([\w.\-\s\"']+?)\s*\]\]?\s*(?:#.*)?")
_KEY = re.compile(r"\s*([\"']?)([\w-]+)\1\s*[.=]")


def find_lines(text: str) -> dict[tuple[str, str], int]:
    """Return the line of each ``(table, key)``. Tables are "", "defaults", "task1", "task2"...; key "" is the header.

    tomllib gives no positions. This reads lines rather than TOML: it is good enough for messages, not for decisions.
    """
    result: dict[tuple[str, str], int] = {}
    tasks = 0
    at = inner = ""
    closing = ""  # the end of the current multi-line string
    for number, line in enumerate(text.splitlines(), 1):
        if not closing:
            if match := _HEADER.fullmatch(line):
                path = match[2].split(".")
                if path[0] == "task":
                    tasks += match[1] == "[[" and len(path) == 1
                    result.setdefault(("", "task"), number)
                    at = f"task{tasks}"
                else:
                    at = path[0]
                inner = path[1].strip() if len(path) > 1 else ""
                result.setdefault((at, inner), number)
            elif (match := _KEY.match(line)) and not inner:
                result.setdefault((at, match[2]), number)
        for quotes in ('"""', "'''"):
            if line.count(quotes) % 2 and closing in ("", quotes):
                closing = "" if closing else quotes
    return result
