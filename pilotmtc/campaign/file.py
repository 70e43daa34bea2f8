"""Campaign files: TOML with tasks, their parameters, and their dependencies."""

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import msgspec

from pilotmtc.campaign import readers
from pilotmtc.campaign.lines import find_lines
from pilotmtc.campaign.order import Cycle, TableNames, UnknownName, in_order
from pilotmtc.campaign.outputs import check_shared
from pilotmtc.campaign.submit import CampaignOptions, TaskSpec
from pilotmtc.errors import ConfigError, PilotMTCError, UsageError, near
from pilotmtc.model import GRACE_S, MAX_OUTPUT_BYTES, After, Resources, Template
from pilotmtc.parameters import Row, Source, axis, combine, file, numbered
from pilotmtc.parameters.files import check_ends, check_utf16
from pilotmtc.parameters.source import ONE_ROW, check_fields
from pilotmtc.resources.retry import check_growth, parse_causes, parse_factor
from pilotmtc.system.environment import captured_here
from pilotmtc.system.locale import current_directory
from pilotmtc.template import holes, literal, make_template, render, wants_number

T = TypeVar("T")
S = TypeVar("S", Resources, Template)
Reader = Callable[[object], object]

# The keys of a [[task]]; [defaults] may have all of them but the last group.
SHARED: dict[str, Reader] = {
    "command": readers.command,
    "cores": readers.positive,
    "ranks": readers.positive,
    "ranks_per_node": readers.natural,
    "gpus": readers.gpus,
    "memory": readers.memory,
    "resources": readers.amounts,
    "time_limit": readers.duration,
    "expected": readers.duration,
    "grace": readers.duration,
    "signal_first": readers.first_signal,
    "priority": readers.whole,
    "retries": readers.natural,
    "backoff": readers.duration,
    "retry_on": parse_causes,
    "no_retry_on": parse_causes,
    "retry_memory": parse_factor,
    "max_memory": readers.memory,
    "retry_time": parse_factor,
    "max_output": readers.memory,
    "env": readers.variables,
    "cwd": readers.text,
    "stdin": readers.text,
    "stdout": readers.text,
    "stderr": readers.text,
    "append": readers.flag,
    "setup": readers.words,
    "shell": readers.text,
    "capture_env": readers.flag,
    "tags": readers.words,
    "watch": readers.words,
}
OWN: dict[str, Reader] = {
    "name": readers.text,
    "after": readers.words,
    "after_any": readers.words,
    "grid": readers.axes,
    "params": readers.records,
    "from": readers.words,
}
_WHOLE: dict[str, Reader] = {  # of the whole campaign
    "max_running": readers.natural,
    "start_rate": readers.rate,
    "after_campaign": readers.campaigns,
}
TOP = ("name", *_WHOLE, "defaults", "task")
_ONE: tuple[Row, ...] = ((),)


class CampaignFile:
    """A campaign file that has been read and checked.

    Attributes
    ----------
    name
        Its own, or the file's without the suffix.
    options
        Those of the campaign.
    size
        Number of tasks; None if that depends on an input that can be read only once.
    """

    def __init__(self, name: str, tables: Sequence["_Table"], options: CampaignOptions) -> None:
        self.name = name
        self.options = options
        self._tables = tuple(tables)
        sizes = [1 if table.source is None else table.source.size for table in tables]
        self.size = None if None in sizes else sum(size for size in sizes if size is not None)

    def tasks(self) -> Iterator[TaskSpec]:
        """Yield the tasks; each one comes after those that it depends on."""
        for table in self._tables:
            yield from table.tasks()


def load(path: str | Path) -> CampaignFile:
    """Read the campaign file at `path`.

    Raises
    ------
    UsageError
        If something in it is wrong; the text names file, line, table, value and remedy.
    ConfigError
        If it cannot be read.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from error
    check_utf16(data, str(path))
    check_ends(data, str(path))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: byte {error.start + 1} is not UTF-8: a campaign file is TOML, in UTF-8") from error
    return loads(text, place=str(path), base=Path(current_directory(), path).parent)


def loads(text: str, *, place: str = "campaign", base: Path | None = None) -> CampaignFile:
    """Read a campaign from `text`. Its paths start at `base` (default: the current directory); errors name `place`."""
    try:
        document = tomllib.loads(text, parse_float=readers.Written)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        raise UsageError(f"{place}: not TOML: {error}") from error
    try:
        return _Reader(text, document, place, base or Path(current_directory())).read()
    except RecursionError as error:  # in dotted keys, which TOML's reader accepts
        raise UsageError(f"{place}: a value is nested too deeply: {error}") from error


class _Table(msgspec.Struct):
    """A ``[[task]]`` that has been read."""

    template: Template
    resources: Resources
    priority: int
    source: Source | None
    name: Callable[[Row], str] | None
    tags: tuple[Callable[[Row], str], ...]
    after: tuple[tuple[Callable[[Row], str], bool], ...]

    def tasks(self) -> Iterator[TaskSpec]:
        for row in self.source if self.source is not None else _ONE:
            yield TaskSpec(
                self.template,
                self.resources,
                row,
                self.priority,
                self.name(row) if self.name is not None else None,
                tuple([tag(row) for tag in self.tags]),
                tuple([After(other(row), well) for other, well in self.after]),
            )


class _Reader:
    """Reads a document, and remembers the position for errors."""

    def __init__(self, text: str, document: Mapping[str, object], place: str, base: Path) -> None:
        self._document = document
        self._place = place
        self._base = base
        self._lines = find_lines(text)
        self._shared: dict[bytes, Any] = {}
        self._captured: dict[str, str] | None = None

    def read(self) -> CampaignFile:
        document = self._document
        self._check_keys(document, TOP, "", "")
        name = self._value(document, "name", readers.text, "", "")
        whole = self._values(document, _WHOLE, "", "")
        options = CampaignOptions(
            whole.get("max_running", 0), whole.get("start_rate", 0.0), whole.get("after_campaign", ())
        )
        defaults = document.get("defaults", {})
        if not isinstance(defaults, dict):
            self._fail("", "defaults", "", "defaults must be a table: write [defaults] on a line by itself")
        self._check_keys(defaults, tuple(SHARED), "defaults", "[defaults]")
        base = self._values(defaults, SHARED, "defaults", "[defaults]")
        found = document.get("task", [])
        if not isinstance(found, list) or not all(isinstance(table, dict) for table in found):
            self._fail("", "task", "", "task must be an array of tables: write [[task]], with two brackets")
        if not found:
            raise UsageError(f'{self._place}: there are no tasks: write [[task]] and, below it, command = "..."')
        tables, nodes, labels = [], [], []
        for number, table in enumerate(found, 1):
            own_name = table.get("name")
            label = f"[[task]] {own_name!r}" if isinstance(own_name, str) else f"[[task]] number {number}"
            at = f"task{number}"
            self._check_keys(table, (*SHARED, *OWN), at, label)
            made, node = self._table(_merged(base, self._values(table, SHARED | OWN, at, label)), at, label)
            tables.append(made)
            nodes.append(node)
            labels.append(label)
        self._check_wildcards(found, labels)
        try:
            order = in_order(nodes)
        except UnknownName as error:
            self._unknown_name(found, error, labels[error.table])
        except Cycle as error:
            first = error.tables[0]
            circle = " after ".join(labels[table].removeprefix("[[task]] ") for table in error.tables)
            self._fail(f"task{first + 1}", "after", labels[first], f"waits for itself: {circle}: break the circle")
        return CampaignFile(name or Path(self._place).stem, [tables[at] for at in order], options)

    def _fail(self, at: str, key: str, label: str, words: str, kind: type[PilotMTCError] = UsageError) -> NoReturn:
        line = self._lines.get((at, key)) or self._lines.get((at, ""))
        raise kind(": ".join(filter(None, [f"{self._place}:{line}" if line else self._place, label, words])))

    def _check_keys(self, table: Mapping[str, object], known: Sequence[str], at: str, label: str) -> None:
        for key in table:
            if key in known:
                continue
            hint = f"did you mean {meant!r}?" if (meant := near(key, known)) else f"it may be {', '.join(known)}"
            if at == "defaults" and key in OWN:
                hint = "it belongs to a [[task]]"
            elif not at and (key in SHARED or key in OWN):
                hint = "it belongs to a [[task]] or to [defaults]" if key in SHARED else "it belongs to a [[task]]"
            self._fail(at, key, label, f"unknown key {key!r}: {hint}")

    def _value(
        self, table: Mapping[str, object], key: str, read: Callable[[object], T], at: str, label: str
    ) -> T | None:
        if key not in table:
            return None
        try:
            return read(table[key])
        except UsageError as error:
            self._fail(at, key, label, f"{key}: {error}")

    def _values(
        self, table: Mapping[str, object], readers: Mapping[str, Reader], at: str, label: str
    ) -> dict[str, Any]:
        return {key: self._value(table, key, read, at, label) for key, read in readers.items() if key in table}

    def _check_wildcards(self, found: Sequence[Mapping[str, object]], labels: Sequence[str]) -> None:
        """Refuse to wait for ``sim-*``: in ``after``, ``*`` is not a wildcard."""
        known = {other["name"] for other in found if isinstance(other.get("name"), str)}
        for number, table in enumerate(found):
            for key in ("after", "after_any"):
                for name in readers.words(table.get(key, [])):
                    if set("*?") & set(name) and name not in known:
                        advice = "write each name, or a placeholder as in 'sim-{n}', or give all of them one name"
                        self._fail(
                            f"task{number + 1}", key, labels[number],
                            f"{key}: no task is called {name!r}, and there are no wildcards here: {advice}",
                        )  # fmt: skip

    def _unknown_name(self, found: Sequence[Mapping[str, object]], error: UnknownName, label: str) -> NoReturn:
        table = found[error.table]
        asked = [(key, name) for key in ("after", "after_any") if key in table for name in readers.words(table[key])]
        key, name = asked[error.which]
        names = [str(other["name"]) for other in found if "name" in other]
        close = difflib.get_close_matches(name, names, 1)
        hint = (
            f"did you mean {close[0]!r}?" if close else f"names are {', '.join(names[:20]) or 'given with name = ...'}"
        )
        self._fail(f"task{error.table + 1}", key, label, f"{key}: no task is called {name!r}: {hint}")

    def _table(self, has: Mapping[str, Any], at: str, label: str) -> tuple[_Table, TableNames]:
        if "command" not in has:
            self._fail(at, "", label, 'there is no command: write command = "...", a shell line or an array')
        key = "grid" if "grid" in has else "from" if "from" in has else "params" if "params" in has else "command"
        try:
            source = _numbered(has, self._source(has))
            fields = source.fields if source is not None else ()
            key = "command"
            template = self._template(has, fields)
            key = "stdout" if "stdout" in has else "stderr"
            check_shared(template, None if source is None else source.size)
            key = "name"
            name = render(has["name"], fields, key) if "name" in has else None
            key = "tags"
            tags = tuple(render(tag, fields, key) for tag in has.get("tags", ()))
            waits = []
            for key, well in (("after", True), ("after_any", False)):
                waits += [(other, render(other, fields, key), well) for other in has.get(key, ())]
        except PilotMTCError as error:
            named = re.search(r" in the (cwd|stdin|stdout|stderr)\b", str(error))  # its text names the part
            self._fail(at, named[1] if named and key == "command" else key, label, str(error), type(error))
        resources = Resources(
            cores=has.get("cores", 1),
            gpus=has.get("gpus", 0.0),
            memory_bytes=has.get("memory", 0),
            named=has.get("resources", {}),
            time_limit_s=has.get("time_limit", 0.0),
            expected_s=has.get("expected", 0.0),
            ranks=has.get("ranks", 1),
            ranks_per_node=has.get("ranks_per_node", 0),
            grace_s=has.get("grace", GRACE_S),
            signal_first=has.get("signal_first", ""),
        )
        try:
            check_growth(template, resources)
        except UsageError as error:
            self._fail(at, str(error).split(" ", 1)[0], label, str(error))
        table = _Table(
            self._once(template),
            self._once(resources),
            has.get("priority", 0),
            source,
            name,
            tags,
            tuple((make, well) for _, make, well in waits),
        )
        pattern = tuple(holes(has["name"], fields)) if "name" in has else None
        return table, TableNames(pattern, tuple(tuple(holes(other, fields)) for other, _, _ in waits))

    def _once(self, record: S) -> S:
        """Return an equal earlier record if there is one: messages tell records apart by identity."""
        found: S = self._shared.setdefault(msgspec.msgpack.encode((type(record).__name__, record)), record)
        return found

    def _source(self, has: Mapping[str, Any]) -> Source | None:
        sources = []
        for name in has.get("from", ()):
            if name == "-":
                raise UsageError("from: standard input cannot be read here: name a file")
            sources.append(file(self._base / os.path.expanduser(name)))
        if "params" in has:
            rows = has["params"]
            if isinstance(rows[0], tuple):
                fields, kept = tuple([str(number) for number in range(1, len(rows[0]) + 1)]), rows
            else:
                fields = tuple(rows[0])
                check_fields(fields, "params")
                kept = tuple([tuple([row[field] for field in fields]) for row in rows])
            sources.append(Source(fields, lambda: iter(kept), size=len(kept)))
        for name, values in has.get("grid", {}).items():
            if isinstance(values, str):
                sources.append(axis(f"{name}={values}"))
            else:
                check_fields([name], "grid")
                sources.append(_listed(name, values))
        return combine(sources) if sources else None

    def _template(self, has: Mapping[str, Any], fields: Sequence[str]) -> Template:
        """Return the template. Its directory becomes absolute; the default is that of the campaign file."""
        cwd = _joined(literal(str(self._base), fields), has.get("cwd", "."))
        return make_template(
            has["command"],
            fields,
            env=self._environment(has, fields),
            cwd=cwd,
            setup=has.get("setup", ()),
            shell_program=has.get("shell", ""),
            max_retries=has.get("retries", 0),
            backoff_s=has.get("backoff", 0.0),
            retry_on=has.get("retry_on", ()),
            no_retry_on=has.get("no_retry_on", ()),
            retry_memory=has.get("retry_memory", 1.0),
            max_memory_bytes=has.get("max_memory", 0),
            retry_time=has.get("retry_time", 1.0),
            max_output_bytes=has.get("max_output", MAX_OUTPUT_BYTES),
            append=has.get("append", False),
            watch=[os.path.normpath(self._base / os.path.expanduser(name)) for name in has.get("watch", ())],
            **{key: os.path.expanduser(has[key]) for key in ("stdin", "stdout", "stderr") if key in has},
        )

    def _environment(self, has: Mapping[str, Any], fields: Sequence[str]) -> dict[str, str]:
        own: dict[str, str] = has.get("env", {})
        if not has.get("capture_env"):
            return own
        if self._captured is None:
            self._captured = captured_here()
        return {name: literal(value, fields) for name, value in self._captured.items() if name not in own} | own


def _merged(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` updated with `own`; env and resources are merged name by name."""
    result = {**base, **own}
    for key in ("env", "resources"):
        if key in base and key in own:
            result[key] = {**base[key], **own[key]}
    return result


def _numbered(has: Mapping[str, Any], source: Source | None) -> Source | None:
    """Return `source` with numbers of rows, if a placeholder asks for them."""
    command = has["command"]
    texts = [has.get(key, "") for key in ("name", "cwd", "stdin", "stdout", "stderr")]
    texts += [*([command] if isinstance(command, str) else command), *has.get("env", {}).values()]
    texts += [text for key in ("tags", "after", "after_any") for text in has.get(key, ())]
    if not wants_number(texts, () if source is None else source.fields):
        return source
    return numbered(ONE_ROW if source is None else source)


def _joined(directory: str, path: str) -> str:
    """Return `path` as seen from `directory`; both may hold placeholders."""
    return directory if path in (".", "") else os.path.join(directory, os.path.expanduser(path))


def _listed(name: str, values: Sequence[str]) -> Source:
    return Source((name,), lambda: ((value,) for value in values), size=len(values))
