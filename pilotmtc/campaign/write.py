"""Writing campaign files: the TOML that makes given tasks again."""

import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

import msgspec
from msgspec import Struct

from pilotmtc.campaign.file import OWN, SHARED, loads
from pilotmtc.campaign.submit import NO_OPTIONS, CampaignOptions, TaskSpec
from pilotmtc.errors import UsageError, shown
from pilotmtc.model import MAX_OUTPUT_BYTES, Resources, Template
from pilotmtc.parameters import Row
from pilotmtc.template import NUMBER_OF_ROW, literal, own, render
from pilotmtc.units import format_rate

Plain: TypeAlias = str | int | float | bool
Item: TypeAlias = Plain | Sequence["Item"] | Mapping[str, "Item"]
_UNITS = ((1 << 40, "T"), (1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K"))
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_LINE = 120
_TRIED = 3  # rows from which a text with placeholders is guessed


class Texts(Struct, frozen=True):
    """The texts of a run of tasks that may hold placeholders: name, tags, and names of tasks to wait for."""

    name: str | None
    tags: tuple[str, ...]
    after: tuple[str, ...]
    after_any: tuple[str, ...]


def write(name: str, specs: Iterable[TaskSpec], options: CampaignOptions = NO_OPTIONS) -> str:
    """Return the campaign file that makes `specs` again; in these, tasks wait for others by name.

    Raises
    ------
    UsageError
        If it cannot say one of them; the text names what.
    """
    tasks = list(specs)
    tables = [_table(texts, run) for texts, run in runs(tasks)]
    common = _common(tables) if len(tables) > 1 else {}
    top = {"name": name, **whole_of(options)} if name else whole_of(options)
    lines = [*_lines(top), ""] if top else []
    if common:
        lines += ["[defaults]", *_lines(common), ""]
    for table in tables:
        lines += ["[[task]]", *_lines({key: item for key, item in table.items() if key not in common}), ""]
    text = "\n".join(lines)
    _check(text, tasks)
    return text


def runs(specs: Sequence[TaskSpec]) -> Iterator[tuple[Texts, Sequence[TaskSpec]]]:
    """Yield tasks that follow one another and differ in their values alone, with their common texts."""
    encode = msgspec.msgpack.encode
    known: dict[int, bytes] = {}  # by identity: tasks share their templates and resources

    def kind(spec: TaskSpec) -> object:
        for record in (spec.template, spec.resources):
            if id(record) not in known:
                known[id(record)] = encode(record)
        count = (spec.name is None, len(spec.tags), tuple([after.well for after in spec.after]))
        return known[id(spec.template)], known[id(spec.resources)], spec.priority, count

    for _, some in itertools.groupby(specs, kind):
        run = list(some)
        if not own(run[0].template.fields):  # without values, there is one task
            yield from [(_literal(spec), [spec]) for spec in run]
            continue
        if (texts := _texts(run)) is not None:
            yield texts, run
            continue
        for _, few in itertools.groupby(run, lambda spec: (spec.name, spec.tags, spec.after)):
            part = list(few)
            yield _literal(part[0]), part


def _literal(spec: TaskSpec) -> Texts:
    texts = _texts([spec])
    assert texts is not None  # what one task has, it has literally
    return texts


def _texts(run: Sequence[TaskSpec]) -> Texts | None:
    """Return the texts with placeholders that are right for all tasks of `run`; None if none are found."""
    fields = run[0].template.fields
    rows = [spec.params for spec in run]
    found: list[str] = []
    columns = zip(*[_words(spec) for spec in run], strict=True)
    for column in columns:
        text = _pattern(column, fields, rows)
        if text is None:
            return None
        found.append(text)
    first = run[0]
    named = first.name is not None
    tags = len(first.tags)
    after = list(zip(found[named + tags :], [one.well for one in first.after], strict=True))
    return Texts(
        found[0] if named else None,
        tuple(found[named : named + tags]),
        tuple([text for text, well in after if well]),
        tuple([text for text, well in after if not well]),
    )


def _words(spec: TaskSpec) -> list[str]:
    name = [] if spec.name is None else [spec.name]
    return [*name, *spec.tags, *[str(after.task) for after in spec.after]]


def _pattern(texts: Sequence[str], fields: tuple[str, ...], rows: Sequence[Row]) -> str | None:
    """Return a text with placeholders that becomes each of `texts` with its row."""
    if len(set(texts)) == 1:
        candidates = [literal(texts[0], fields)]
    else:
        tried = sorted({0, len(rows) // 2, len(rows) - 1})[:_TRIED]
        candidates = [_guess(texts[at], fields, rows[at]) for at in tried]
    for candidate in candidates:
        try:
            make = render(candidate, fields, "text")
        except UsageError:
            continue
        if all(make(row) == text for row, text in zip(rows, texts, strict=True)):
            return candidate
    return None


def _guess(text: str, fields: Sequence[str], row: Row) -> str:
    """Return `text` with a placeholder in place of each value of the row, longer values first."""
    values = {value: field for field, value in zip(reversed(fields), reversed(row), strict=True) if value}
    if not values:
        return literal(text, fields)
    pieces = re.split(f"({'|'.join(map(re.escape, sorted(values, key=len, reverse=True)))})", text)
    return "".join([f"{{{values[piece]}}}" if at % 2 else literal(piece, fields) for at, piece in enumerate(pieces)])


# -- values ------------------------------------------------------------------------------------------------------


def lists_of(fields: Sequence[str], rows: Sequence[Row]) -> list[list[str]] | None:
    """Return a list of values for each field, if `rows` are their product in order; else None."""
    lists = [list(dict.fromkeys(column)) for column in zip(*rows, strict=True)]
    if len(lists) != len(fields) or math.prod(map(len, lists)) != len(rows):
        return None
    return lists if all(map(tuple.__eq__, itertools.product(*lists), rows)) else None


def _values(template: Template, rows: Sequence[Row]) -> dict[str, Item]:
    """Return the keys that say the values of a table's tasks."""
    fields = own(template.fields)
    if not fields:
        return {}
    if NUMBER_OF_ROW in template.fields:
        rows = [row[:-1] for row in rows]
    bare = sum(field.isdecimal() for field in fields)
    lists = lists_of(fields, rows)
    if lists is not None and bare < len(fields):
        keys: dict[str, Item] = {"grid": dict(zip(fields[bare:], lists[bare:], strict=True))}
        if bare:
            keys = {"params": _bare(list(itertools.product(*lists[:bare])))} | keys
        return keys
    if bare == len(fields):
        return {"params": _bare(rows)}
    if bare:
        raise UsageError(
            f"values for {', '.join(fields)}, some with names and some without, go into no campaign file unless they "
            "are all combinations of some: name all of them"
        )
    return {"params": [dict(zip(fields, row, strict=True)) for row in rows]}


def _bare(rows: Sequence[Row]) -> Item:
    return [row[0] for row in rows] if len(rows[0]) == 1 else rows


# -- tables ------------------------------------------------------------------------------------------------------


def size(amount_bytes: int) -> str:
    """Return an amount of memory without rounding, as users type it."""
    for factor, unit in _UNITS:
        if amount_bytes and amount_bytes % factor == 0:
            return f"{amount_bytes // factor}{unit}"
    return str(amount_bytes)


def _number(value: float) -> int | float:
    return int(value) if value.is_integer() else value


def needs_of(resources: Resources) -> dict[str, Item]:
    """Return the options and keys that say what a task needs, without defaults."""
    usual = Resources()
    found: dict[str, Item] = {
        "cores": resources.cores,
        "ranks": resources.ranks,
        "ranks_per_node": resources.ranks_per_node,
        "gpus": _number(resources.gpus),
        "memory": size(resources.memory_bytes),
        "resources": {name: _number(amount) for name, amount in resources.named.items()},
        "time_limit": _number(resources.time_limit_s),
        "expected": _number(resources.expected_s),
        "grace": _number(resources.grace_s),
        "signal_first": resources.signal_first,
    }
    fields = {"memory": "memory_bytes", "resources": "named", "time_limit": "time_limit_s", "expected": "expected_s"}
    fields["grace"] = "grace_s"
    return {
        key: item
        for key, item in found.items()
        if getattr(resources, fields.get(key, key)) != getattr(usual, fields.get(key, key))
    }


def whole_of(options: CampaignOptions) -> dict[str, Item]:
    """Return the options and keys that say what a campaign has as a whole, without defaults."""
    found: dict[str, Item] = {
        "max_running": options.max_running,
        "start_rate": format_rate(options.start_rate) if options.start_rate else "",
        "after_campaign": options.after,
    }
    return {key: item for key, item in found.items() if item}


def limits_of(template: Template) -> dict[str, Item]:
    """Return the options and keys that say what a template has beside its command, without defaults."""
    found: dict[str, Item | None] = {
        "retries": template.max_retries or None,
        "backoff": _number(template.backoff_s) or None,
        "retry_on": template.retry_on or None,
        "no_retry_on": template.no_retry_on or None,
        "retry_memory": f"x{_number(template.retry_memory)}" if template.retry_memory > 1 else None,
        "max_memory": size(template.max_memory_bytes) if template.max_memory_bytes else None,
        "retry_time": f"x{_number(template.retry_time)}" if template.retry_time > 1 else None,
        "max_output": size(template.max_output_bytes) if template.max_output_bytes != MAX_OUTPUT_BYTES else None,
        "cwd": template.cwd,
        "stdin": template.stdin,
        "stdout": template.stdout,
        "stderr": template.stderr,
        "append": template.append or None,
        "watch": template.watch or None,
        "setup": template.setup or None,
        "shell": template.shell_program or None,
        "env": template.env or None,
    }
    return {key: item for key, item in found.items() if item is not None}


def _table(texts: Texts, run: Sequence[TaskSpec]) -> dict[str, Item]:
    first = run[0]
    template = first.template
    table: dict[str, Item] = {}
    if texts.name is not None:
        table["name"] = texts.name
    table["command"] = template.command[0] if template.shell else template.command
    table |= _values(template, [spec.params for spec in run])
    for key, words in (("after", texts.after), ("after_any", texts.after_any)):
        if words:
            table[key] = words
    table |= needs_of(first.resources)
    if first.priority:
        table["priority"] = first.priority
    table |= limits_of(template)
    if texts.tags:
        table["tags"] = texts.tags
    return table


def _common(tables: Sequence[Mapping[str, Item]]) -> dict[str, Item]:
    """Return what all `tables` have, as far as it may be a default."""
    return {
        key: item
        for key, item in tables[0].items()
        if key in SHARED and key not in OWN and all(table.get(key) == item for table in tables)
    }


def _lines(table: Mapping[str, Item]) -> list[str]:
    return [f"{key} = {_long(item)}" for key, item in table.items()]


def _long(item: Item) -> str:
    """Return an item of a table, on several lines if it is a long array."""
    text = _item(item)
    if len(text) <= _LINE or isinstance(item, str | Mapping) or not isinstance(item, Sequence):
        return text
    return "\n".join(["[", *[f"  {_item(one)}," for one in item], "]"])


def _item(item: Item) -> str:
    if isinstance(item, str):
        return _text(item)
    if isinstance(item, bool):
        return "true" if item else "false"
    if isinstance(item, Mapping):
        return f"{{ {', '.join([f'{_key(key)} = {_item(one)}' for key, one in item.items()])} }}"
    if isinstance(item, Sequence):
        return f"[{', '.join(map(_item, item))}]"
    return repr(item)


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _text(name)


def _text(text: str) -> str:
    """Return a TOML string, in which no sign means something to a terminal."""
    return re.sub(r"[\x7f-\x9f]", lambda match: f"\\u{ord(match[0]):04x}", json.dumps(text, ensure_ascii=False))


# -- the proof ---------------------------------------------------------------------------------------------------


def _check(text: str, specs: Sequence[TaskSpec]) -> None:
    """Read the file again: it must say all."""
    try:
        found = loads(text).tasks()
    except UsageError as error:
        raise UsageError(f"no campaign file can say this campaign: {error}") from error
    check_same(found, specs, "a campaign file")


def check_same(found: Iterable[TaskSpec], specs: Sequence[TaskSpec], what: str) -> None:
    """Raise `UsageError` if the tasks that `what` says are not `specs`; the text names the first difference."""
    same: set[tuple[int, int]] = set()
    for number, (one, wanted) in enumerate(itertools.zip_longest(found, specs), 1):
        if one is None or wanted is None:
            raise UsageError(f"{what} cannot say that there are {len(specs):,} tasks")
        pair = (id(one.template), id(wanted.template))
        parts = []
        if pair not in same:
            parts = [(field, one.template, wanted.template) for field in Template.__struct_fields__]
            parts += [(field, one.resources, wanted.resources) for field in Resources.__struct_fields__]
        parts += [(field, one, wanted) for field in ("params", "priority", "name", "tags")]
        for field, ours, theirs in parts:
            if getattr(ours, field) != getattr(theirs, field):
                value = shown(getattr(theirs, field))
                raise UsageError(f"{what} cannot say that {field.replace('_', ' ')} of task {number} is {value}")
        if sorted(map(repr, one.after)) != sorted(map(repr, wanted.after)):
            raise UsageError(f"{what} cannot say what task {number} waits for")
        same.add(pair)
