"""A report's attempts as a trace for Perfetto (https://ui.perfetto.dev): its TrackEvent format, a track for each core.

The format is protobuf: a field is a number that says which one it is and how it is laid out, then its value. What is
needed of it is little enough to be written here.
"""

import struct
from collections.abc import Iterator

from pilotmtc.report.measure.make import Past
from pilotmtc.report.show.lanes import Lanes

# Numbers of fields, as in Perfetto's protos/perfetto/trace.
_PACKET = 1  # of Trace
_TIMESTAMP, _SEQUENCE, _TRACK_EVENT, _INTERNED, _SEQUENCE_FLAGS, _TRACK = 8, 10, 11, 12, 13, 60  # of TracePacket
_UUID, _NAME, _PARENT, _CHILD_ORDER, _RANK = 1, 2, 5, 11, 12  # of TrackDescriptor
_CATEGORY, _ANNOTATION, _TYPE, _NAME_ID, _TRACK_UUID = 3, 4, 9, 10, 11  # of TrackEvent
_CATEGORIES, _EVENT_NAMES, _ANNOTATION_NAMES = 1, 2, 3  # of InternedData
_ID, _TEXT = 1, 2  # of what is interned
_A_NAME_ID, _A_UINT, _A_INT, _A_DOUBLE, _A_TEXT = 1, 3, 4, 5, 6  # of DebugAnnotation
_BEGIN, _END = 1, 2
_CLEARED, _NEEDED = 1, 2  # flags: what is interned begins anew, and is needed
_EXPLICIT = 3  # order of tracks: by rank
_FACTS = ("task", "attempt", "campaign", "code", "cause", "name", "tags", "cpu_s", "memory_bytes")
_BLOCK = 1 << 16


def trace(past: Past) -> Iterator[bytes]:
    """Yield the trace in blocks."""
    block = bytearray()
    for packet in _packets(past):
        block += _part(_PACKET, packet)
        if len(block) >= _BLOCK:
            yield bytes(block)
            block.clear()
    yield bytes(block)


def _packets(past: Past) -> Iterator[bytes]:
    lanes = Lanes(past)
    known: dict[tuple[object, ...], int] = {}

    def track(*name: object) -> tuple[int, bool]:
        new = name not in known
        return known.setdefault(name, len(known) + 1), new

    ids = []
    for lane in lanes.lanes:
        pilot, new = track(lane.pilot)
        if new:
            yield _track(pilot, f"pilot {lane.pilot}", rank=lane.pilot)
        node, new = track(lane.pilot, lane.node)
        if new:
            yield _track(node, lane.node, parent=pilot, rank=node)
        core, _ = track(*lane)
        yield _track(core, f"core {lane.core}", parent=node, rank=lane.core)
        ids.append(core)
    yield from _events(past, lanes, ids)


def _track(uuid: int, name: str, *, rank: int, parent: int = 0) -> bytes:
    body = _number(_UUID, uuid) + _part(_NAME, name.encode())
    if parent:
        body += _number(_PARENT, parent)
    body += _number(_CHILD_ORDER, _EXPLICIT) + _number(_RANK, rank)
    return _part(_TRACK, body) + _number(_SEQUENCE, 1)


def _events(past: Past, lanes: Lanes, ids: list[int]) -> Iterator[bytes]:
    some = past.attempts
    facts = {name: number for number, name in enumerate(_FACTS, 1)}
    names: dict[str, int] = {}
    categories: dict[str, int] = {}
    interned = b"".join(_part(_ANNOTATION_NAMES, _entry(number, name)) for name, number in facts.items())
    flags = _CLEARED | _NEEDED
    for at, lane, start, end in lanes.spans():
        name = some.texts[some.name[at]] or some.commands.get(some.template[at]) or f"task {some.task[at]}"
        cause = some.cause_name(at)
        category = "DONE" if some.succeeded(at) else cause
        for text, table, field in ((name, names, _EVENT_NAMES), (category, categories, _CATEGORIES)):
            if text not in table:
                table[text] = len(table) + 1
                interned += _part(field, _entry(table[text], text))
        body = _number(_TYPE, _BEGIN) + _number(_TRACK_UUID, ids[lane])
        body += _number(_NAME_ID, names[name]) + _number(_CATEGORY, categories[category])
        for fact, number in (
            ("task", some.task[at]), ("attempt", some.attempt[at]), ("campaign", some.campaign[at]),
            ("memory_bytes", some.memory_bytes[at]),
        ):  # fmt: skip
            body += _part(_ANNOTATION, _number(_A_NAME_ID, facts[fact]) + _number(_A_UINT, number))
        for fact, text in (("cause", cause), ("name", some.texts[some.name[at]]), ("tags", some.texts[some.tags[at]])):
            if text:
                body += _part(_ANNOTATION, _number(_A_NAME_ID, facts[fact]) + _part(_A_TEXT, text.encode()))
        body += _part(_ANNOTATION, _number(_A_NAME_ID, facts["code"]) + _number(_A_INT, some.code[at]))
        body += _part(_ANNOTATION, _number(_A_NAME_ID, facts["cpu_s"]) + _double(_A_DOUBLE, some.cpu_s[at]))
        packet = _number(_TIMESTAMP, round(start * 1e9)) + _part(_TRACK_EVENT, body) + _number(_SEQUENCE, 1)
        if interned:
            packet += _part(_INTERNED, interned)
            interned = b""
        yield packet + _number(_SEQUENCE_FLAGS, flags)
        flags = _NEEDED
        yield (
            _number(_TIMESTAMP, round(end * 1e9))
            + _part(_TRACK_EVENT, _number(_TYPE, _END) + _number(_TRACK_UUID, ids[lane]))
            + _number(_SEQUENCE, 1)
            + _number(_SEQUENCE_FLAGS, flags)
        )


def _entry(number: int, text: str) -> bytes:
    return _number(_ID, number) + _part(_TEXT, text.encode())


def _varint(number: int) -> bytes:
    number &= (1 << 64) - 1  # negative numbers are their two's complement
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _double(field: int, value: float) -> bytes:
    return _varint(field << 3 | 1) + struct.pack("<d", value)


def _part(field: int, body: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(body)) + body
