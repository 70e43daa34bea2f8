"""Parameters from lines of text, CSV and JSON Lines."""

import codecs
import csv
import io
import itertools
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from pilotmtc.errors import ConfigError, UsageError
from pilotmtc.parameters.source import Row, Source, check_fields
from pilotmtc.template import check_text

LINE_BYTES = 1 << 20
_QUOTED = re.compile(r'"(?:[^"]|"")*(?:"|\Z)')


def _lines(stream: BinaryIO, name: str, end: bytes, *, is_file: bool = False) -> Iterator[Row]:
    """Yield the lines of a binary stream as they come."""
    number = 0
    rest = b""
    more = True
    while more:
        block = _read(stream, name)
        more = bool(block)
        pieces = (rest + block).split(end)
        rest = pieces.pop() if more else b""
        if len(rest) > LINE_BYTES:
            raise UsageError(f"{name}:{number + len(pieces) + 1}: the line is longer than 1 MiB: is it text?")
        for line in pieces:
            number += 1
            text = _decode(line, name, number)
            if end == b"\n":
                text = text.removesuffix("\r")
            if number == 1:
                text = text.removeprefix("\ufeff")
                if not more and is_file and end == b"\n":
                    check_ends(line, name)
            if text:
                if "\0" in text:
                    if number == 1:
                        check_utf16(line, name)
                    check_text(text, f"{name}:{number}")
                yield (text,)


def lines(stream: BinaryIO | None = None, *, name: str = "standard input", end: bytes = b"\n") -> Source:
    r"""Return a source of the lines of a binary `stream` such as standard input; empty lines are skipped.

    ``end=b"\0"`` reads what ``find -print0`` writes.
    """
    found = _lines(stream if stream is not None else sys.stdin.buffer, name, end)
    return Source(("1",), lambda: found, again=False)


def _read(stream: BinaryIO, name: str) -> bytes:
    """Return what can be read now, from one byte to 64 KiB; nothing at the end."""
    try:
        if isinstance(stream, io.BufferedReader):
            return stream.read1(1 << 16)
        return stream.read(1 << 16)
    except OSError as error:
        raise ConfigError(f"{name} cannot be read: {error.strerror or error}") from error


def _decode(line: bytes, name: str, number: int) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        if number == 1:
            check_utf16(line, name)
        raise UsageError(
            f"{name}:{number}: byte {error.start + 1} of the line, 0x{line[error.start]:02x}, is not UTF-8: "
            "convert it, for example with iconv -f latin1 -t utf-8"
        ) from error


def check_utf16(data: bytes, name: str) -> None:
    """Raise `UsageError` if a file starts like UTF-16, which some programs call Unicode."""
    code = ""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        code = "utf-16"
    elif len(data) > 3:  # without a byte order mark, but with ASCII at the start
        even, odd = data[:8:2], data[1:8:2]
        code = "utf-16le" if all(even) and not any(odd) else "utf-16be" if all(odd) and not any(even) else ""
    if code:
        raise UsageError(
            f"{name} is not UTF-8 but UTF-16: save it as UTF-8, or convert it with iconv -f {code} -t utf-8"
        )


def check_ends(data: bytes, name: str) -> None:
    """Raise `UsageError` if a file has only carriage returns as line ends, as on old Macs."""
    if b"\r" in data.rstrip(b"\r\n") and b"\n" not in data:
        raise UsageError(
            f"the lines of {name} end with CR alone: save it with Unix line ends, or convert it with tr '\\r' '\\n'"
        )


ENDS = {"lines": b"\n", "null": b"\0"}
FORMATS = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".txt": "lines", ".list": "lines"}


def file(path: str | Path, form: str | None = None) -> Source:
    """Return a source of the rows of a file: ``csv``, ``tsv``, ``jsonl`` or ``lines``, by `form` or else by its suffix.

    With the form ``null``, values end with NUL, as ``find -print0`` writes them.

    A regular file is read once now, so that an error in its last line shows before the first task is submitted,
    and again when the rows are wanted. ``-`` is standard input, and needs `form`.

    Raises
    ------
    UsageError
        If something in it is wrong; the text names file, line and remedy.
    ConfigError
        If it cannot be read.
    """
    name = str(path)
    form = form or FORMATS.get(Path(name).suffix.lower())
    if form not in {*FORMATS.values(), *ENDS}:
        raise UsageError(
            f"the format of {'standard input' if name == '-' else name} is not known: end its name "
            "with .csv, .tsv, .jsonl or .txt, or say --format csv, tsv, jsonl or lines"
        )
    regular = name != "-" and Path(name).is_file()
    shown = "standard input" if name == "-" else name

    def read() -> Iterator[Row]:
        with _open(name) as stream:
            if form in ENDS:
                yield ("1",)
                yield from _lines(stream, shown, ENDS[form], is_file=True)
                return
            text = _text(stream, shown)
            yield from _objects(text, shown) if form == "jsonl" else _table(text, shown, tabs=form == "tsv")

    first = read()
    fields = next(first)
    if not regular:
        return Source(fields, lambda: first, again=False)
    size = sum(1 for _ in first)

    def rows() -> Iterator[Row]:
        found = read()
        if next(found) != fields:
            raise UsageError(f"{shown} has changed while it was in use: submit again")
        return found

    return Source(fields, rows, size=size)


def _open(name: str) -> BinaryIO:
    if name == "-":
        return open(sys.stdin.fileno(), "rb", closefd=False)
    try:
        return open(name, "rb")
    except OSError as error:
        raise ConfigError(f"{name} cannot be read: {error.strerror or error}") from error


def _text(stream: BinaryIO, name: str) -> Iterator[str]:
    """Yield the lines of `stream` with their ends, decoded one by one so that an error can name its line."""
    number = 0
    while True:
        number += 1
        try:
            line = stream.readline(LINE_BYTES + 1)
        except OSError as error:
            raise ConfigError(f"{name} cannot be read: {error.strerror or error}") from error
        if not line:
            return
        if number == 1:
            check_ends(line, name)
        if len(line) > LINE_BYTES:
            raise UsageError(f"{name}:{number}: the line is longer than 1 MiB: is it text?")
        text = _decode(line, name, number)
        if "\0" in text:
            if number == 1:
                check_utf16(line, name)
            check_text(text[:40], f"{name}:{number}")
            raise UsageError(f"{name}:{number} holds a NUL character, which no program can be given: leave it out")
        yield text.removeprefix("\ufeff") if number == 1 else text


def _table(text: Iterator[str], name: str, *, tabs: bool) -> Iterator[Row]:
    """Yield header and rows of a CSV file. The separator is a tab or semicolon if the header has no comma."""
    head = next(text, "")
    bare = _QUOTED.sub('""', head)
    delimiter = "\t" if tabs else next((mark for mark in ",\t;" if mark in bare), ",")
    # If the header is like "mass, seed", blanks after commas are not part of values. Otherwise they are (RFC 4180).
    loose = delimiter + " " in bare
    reader = csv.reader(itertools.chain([head], text), delimiter=delimiter, skipinitialspace=loose, strict=True)
    width = 0
    line = 1
    while True:
        try:
            row = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            raise UsageError(
                f"{name}:{line}: {error}: a quote inside a quoted value is written twice, and the last one closes it"
            ) from error
        if row and width:
            if len(row) != width:
                raise UsageError(
                    f"{name}:{line}: {len(row)} values ({', '.join(row)[:60]}) for the {width} columns of the header: "
                    "give every column a value; a value with a comma in it goes into double quotes"
                )
            yield tuple(row)
        elif row:
            row = [word.strip() for word in row]
            check_fields(row, f"{name}:{line}")
            width = len(row)
            yield tuple(row)
        line = reader.line_num + 1
    if not width:
        raise UsageError(f"{name} is empty: its first line must name the parameters, as in mass,seed")


def _objects(text: Iterator[str], name: str) -> Iterator[Row]:
    """Yield keys and rows of a JSON Lines file. Numbers stay as written; arrays and objects stay JSON."""
    decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
    fields: tuple[str, ...] = ()
    for number, line in enumerate(text, 1):
        if line.isspace():
            continue
        try:
            record = decoder.decode(line)
        except (msgspec.DecodeError, RecursionError) as error:
            raise UsageError(
                f'{name}:{number}: {error}: each line must be a JSON object, such as {{"mass": 1.5, "seed": 1}}'
            ) from error
        if not fields:
            fields = tuple(record)
            if not fields:
                raise UsageError(f"{name}:{number}: the object is empty: its keys must name the parameters")
            check_fields(fields, f"{name}:{number}")
            yield fields
        if record.keys() != set(fields):
            odd = sorted(record.keys() ^ set(fields))
            what = "is missing" if odd[0] in fields else "is not in the first object"
            raise UsageError(f"{name}:{number}: key {odd[0]!r} {what}: every object must have the same keys")
        yield tuple([_json_value(bytes(record[field]), field, f"{name}:{number}") for field in fields])
    if not fields:
        raise UsageError(f'{name} is empty: each line must be a JSON object, such as {{"mass": 1.5, "seed": 1}}')


def _json_value(raw: bytes, field: str, place: str) -> str:
    raw = raw.strip()
    try:
        if raw.startswith(b'"'):
            text = msgspec.json.decode(raw, type=str)
            check_text(text, f"{place}, {field}")
            return text
        if raw == b"null":
            raise UsageError(f"{place}: {field!r} is null: give every parameter a value")
        if raw.startswith((b"[", b"{")):
            msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise UsageError(f"{place}: {field!r}: {error}") from error
    return raw.decode()
