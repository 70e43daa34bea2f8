"""The language of filters: ``state:failed tag:night exit:137 mass>3 elapsed>10m``. Pure.

A filter consists of words separated by blanks, and a task must satisfy all of them. A word is ``KEY:VALUE`` (several
values are separated by commas), a comparison such as ``memory>1G``, or a part of a task's name. A key that is not known
is a parameter. Quotation marks around a key or a value let it contain blanks and special characters.
"""

import difflib
import re
import signal
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from pilotmtc.errors import UsageError
from pilotmtc.model import CampaignId, PilotId, TaskId
from pilotmtc.protocol.records import Comparison, Filter
from pilotmtc.states import Cause, TaskState
from pilotmtc.units import parse_duration, parse_memory

_TERM = re.compile(r'(?P<key>(?:"[^"]*"|[^\s"<>=!:])+)(?P<op><=|>=|!=|[:=<>])(?P<value>(?:"[^"]*"|[^\s"])*)')
_WORD = re.compile(r'(?:"[^"]*"|[^\s"])+')
_LAST = re.compile(r'(?:"[^"]*"|"[^"]*\Z|[^\s"])*\Z')  # a quoted word; the closing mark may be missing
_RANGE = re.compile(r"(\d+)(?:-(\d+))?")
_MANY = 100_000
_MOST = 1 << 62
_PARAM = "params."
STATES = tuple(state.name.lower() for state in TaskState)
CAUSES = tuple(cause.name.lower().replace("_", "-") for cause in Cause)
HOLDS = ("yes", "no")
# The keys, and the form of their values.
KEYS = {
    "state": f"state:failed,canceled (of {', '.join(STATES)})",
    "campaign": "campaign:3, campaign:scan (or several, as in campaign:3,scan-*)",
    "pilot": "pilot:2",
    "tag": "tag:night",
    "name": "name:fit-* (* and ? are wildcards)",
    "exit": "exit:137",
    "signal": "signal:SEGV, signal:11",
    "cause": f"cause:oom (of {', '.join(CAUSES)})",
    "hold": "hold:yes, hold:no",
    "id": "id:10-20, id>1000",
    "priority": "priority>0",
    "attempt": "attempt>1",
    "elapsed": "elapsed>10m",
    "cpu": "cpu>1h",
    "memory": "memory>1G",
}
_COMPARED = {
    "id": "id", "priority": "priority", "attempt": "attempt",
    "elapsed": "elapsed_s", "cpu": "cpu_s", "memory": "memory_bytes",
}  # fmt: skip


class FilterError(UsageError):
    """An invalid filter; the error is between `start` and `end` of its text."""

    def __init__(self, words: str, start: int = 0, end: int = 0) -> None:
        super().__init__(words)
        self.start = start
        self.end = end


class Vocabulary(Struct, frozen=True):
    """Words for completion besides keys, states and causes."""

    params: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    campaigns: tuple[int, ...] = ()
    pilots: tuple[int, ...] = ()


def parse_filter(text: str) -> Filter:
    """Parse a filter; an empty one selects all tasks.

    Raises
    ------
    FilterError
        If it is invalid; the text says what is allowed there.
    """
    found = Filter()
    given: set[str] = set()
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        term = _TERM.match(text, at)
        word = _WORD.match(text, at) if term is None else None
        if term is None and word is None:
            raise FilterError('a quotation mark is open: close it with "', at, len(text))
        end = (term or word).end()  # type: ignore[union-attr]  # one of them is there
        if end < len(text) and not text[end].isspace():
            raise FilterError('a quotation mark is open: close it with "', end, len(text))
        try:
            if term is not None:
                found = _with(found, given, term["key"].replace('"', ""), term["op"], term["value"].replace('"', ""))
            elif text[at:end] == '""':
                raise UsageError("the part of a name is empty: write some of it, or leave it out")
            else:
                found = _named(found, given, f"*{text[at:end].replace(chr(34), '')}*")
        except FilterError:
            raise
        except UsageError as error:
            raise FilterError(str(error), at, end) from error
        at = end
    return found


def with_states(text: str, states: Iterable[TaskState]) -> str:
    """Return the text of a filter with these states in place of its own; with none, it is for all states."""
    words = [match[0] for match in _WORD.finditer(text) if not _is_of_states(match[0])]
    names = ",".join(state.name.lower() for state in states)
    return " ".join([*words, *([f"state:{names}"] if names else [])])


def _is_of_states(word: str) -> bool:
    term = _TERM.fullmatch(word)
    return term is not None and (term["key"].replace('"', ""), term["op"]) == ("state", ":")


def quoted_key(name: str) -> str:
    """Return a parameter's name, quoted for a filter if necessary."""
    return name if re.fullmatch(r'[^\s"<>=!:]+', name) else f'"{name}"'


def pointed(text: str, error: FilterError) -> str:
    """Return an error with the filter's text, and a line that points at the error."""
    return f"{error}\n  {text}\n  {' ' * error.start}{'^' * max(error.end - error.start, 1)}"


def _with(found: Filter, given: set[str], key: str, op: str, value: str) -> Filter:
    if not value:
        raise UsageError(f"a value is missing: {KEYS.get(key, f'{key}>3')}")
    if key in _PARTS and op in (":", "="):
        if key in given and key != "tag":
            raise UsageError(
                f"{key} is given twice: write {key}:ONE,OTHER" if key in _LISTS else f"{key} is given twice"
            )
        given.add(key)
        return _PARTS[key](found, value)
    sign = "=" if op == ":" else op
    if key in _COMPARED:
        return _compared(found, Comparison(_COMPARED[key], sign, _number(key, value)))
    if key in _PARTS:
        raise UsageError(f"{key} cannot be compared with {op}: write {KEYS[key]}")
    if not key.startswith(_PARAM):
        close = difflib.get_close_matches(key.lower(), KEYS, 1, 0.75)
        if key.lower() in KEYS or (close and len(key) > 3):
            raise UsageError(f"{key!r} is not a key: did you mean {close[0]}? A parameter of that name is params.{key}")
    name = key.removeprefix(_PARAM)
    if not name:
        raise UsageError("the parameter's name is missing: write params.NAME")
    return _compared(found, Comparison(_PARAM + name, sign, _param_value(value, sign)))


def _compared(found: Filter, *more: Comparison) -> Filter:
    return replace(found, compare=(*found.compare, *more))


def _param_value(value: str, sign: str) -> float | str:
    try:
        return float(value) if re.fullmatch(r"[-+.\d][-+.\deE]*", value) else value
    except ValueError:
        return value


def _number(key: str, value: str) -> float:
    if key in ("elapsed", "cpu"):
        return parse_duration(value)
    if key == "memory":
        return float(parse_memory(value))
    if re.fullmatch(r"-?\d{1,18}", value) is None:
        raise UsageError(f"{value!r} is not a whole number: write {KEYS[key]}")
    return float(value)


def _one(value: str, key: str) -> int:
    if not value.isdecimal() or not value.isascii() or int(value) >= _MOST:
        raise UsageError(f"{value!r} is not a {key} number: write {KEYS[key]}")
    return int(value)


def _campaigns(value: str) -> CampaignId | str | tuple[CampaignId | str, ...]:
    found = tuple([CampaignId(_one(word, "campaign")) if word.isdecimal() else word for word in _words(value)])
    return found if len(found) > 1 else found[0]


def _hold(value: str) -> float:
    """Return 1 for tasks that are on hold, 0 for the others."""
    if value.lower() not in HOLDS:
        raise UsageError(f"{value!r} is neither yes nor no: write {KEYS['hold']}")
    return float(value.lower() == "yes")


def _signal(value: str) -> int:
    """Return the number of a signal, which may be given by name."""
    if value.isdecimal():
        return _one(value, "signal")
    name = f"SIG{value.upper().removeprefix('SIG')}"
    if name not in signal.Signals.__members__:
        raise UsageError(f"{value!r} is not a signal: write {KEYS['signal']}")
    return int(signal.Signals[name])


def _ids(found: Filter, value: str) -> Filter:
    parts: list[range] = []
    for word in value.split(","):
        match = _RANGE.fullmatch(word)
        if match is None or not word.isascii() or len(word) > 40:
            raise UsageError(f"{word!r} is not a task id: write {KEYS['id']}")
        parts.append(range(int(match[1]), int(match[2] or match[1]) + 1))
        if not parts[-1]:
            raise UsageError(f"{word!r} is empty: the smaller id comes first")
        if parts[-1].stop >= _MOST:
            raise UsageError(f"{word!r}: there are no such ids")
    if len(parts) == 1 and len(parts[0]) > 1:
        return _compared(found, Comparison("id", ">=", parts[0].start), Comparison("id", "<=", parts[0].stop - 1))
    if sum(part.stop - part.start for part in parts) > _MANY:
        raise UsageError(f"{value!r} is too many ids: write one range")
    return replace(found, ids=tuple([TaskId(id_) for part in parts for id_ in part]))


def _named(found: Filter, given: set[str], name: str) -> Filter:
    if "name" in given:
        raise UsageError("one name can be asked for: write name:ONE,OTHER")
    given.add("name")
    return replace(found, names=(name,))


def _words(value: str) -> tuple[str, ...]:
    words = tuple(value.split(","))
    if not all(words):
        raise UsageError(f"{value!r} has a comma too many")
    return words


def _members(kind: type[TaskState] | type[Cause], value: str) -> list[Any]:
    found = []
    for word in _words(value):
        name = word.upper().replace("-", "_")
        if name not in kind.__members__:
            known = STATES if kind is TaskState else CAUSES
            close = difflib.get_close_matches(word.lower(), known, 1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
            raise UsageError(f"{word!r} is not a {'state' if kind is TaskState else 'cause'}: {hint}")
        found.append(kind[name])
    return found


_PARTS: dict[str, Callable[[Filter, str], Filter]] = {
    "state": lambda found, value: replace(found, states=tuple(_members(TaskState, value))),
    "cause": lambda found, value: replace(found, causes=tuple(map(int, _members(Cause, value)))),
    "campaign": lambda found, value: replace(found, campaign=_campaigns(value)),
    "pilot": lambda found, value: replace(found, pilot=PilotId(_one(value, "pilot"))),
    "tag": lambda found, value: replace(found, tags=(*(found.tags or ()), *_words(value))),
    "name": lambda found, value: replace(found, names=_words(value)),
    "exit": lambda found, value: replace(found, exit_codes=tuple([_one(word, "exit") for word in _words(value)])),
    "signal": lambda found, value: _compared(found, Comparison("signal", "=", float(_signal(value)))),
    "hold": lambda found, value: _compared(found, Comparison("hold", "=", _hold(value))),
    "id": _ids,
}
_LISTS = ("state", "campaign", "cause", "name", "exit", "id")


# -- completion -------------------------------------------------------------------------------------------------


def completions(text: str, vocabulary: Vocabulary | None = None) -> list[str]:
    """Return completions of `text`, which ends at the cursor; each is a whole text, the best one is first."""
    end = _LAST.search(text)
    assert end is not None  # perhaps empty
    before, word = text[: end.start()], end[0]
    vocabulary = vocabulary or Vocabulary()
    key, colon, value = word.partition(":")
    if colon:
        done, comma, last = value.rpartition(",")
        offered = _values(key, vocabulary)
        return [f"{before}{key}:{done}{comma}{one}" for one in offered if one.startswith(last.lower()) and one != last]
    keys = [f"{one}:" if one in _PARTS and one != "id" else f"{one}>" if one != "id" else "id:" for one in KEYS]
    keys += [f"{quoted_key(one)}:" if one not in KEYS else f"{_PARAM}{one}:" for one in vocabulary.params]
    return [f"{before}{one}" for one in keys if word and one.startswith(word) and one != word]


def _values(key: str, vocabulary: Vocabulary) -> Sequence[str]:
    numbers: dict[str, Iterable[int]] = {"campaign": vocabulary.campaigns, "pilot": vocabulary.pilots}
    words: dict[str, Sequence[str]] = {"state": STATES, "cause": CAUSES, "tag": vocabulary.tags, "hold": HOLDS}
    return [str(n) for n in numbers[key]] if key in numbers else words.get(key, ())
