"""The files ``spool.N`` in a pilot's directory: results that the store has not acknowledged yet.

Each record is a 4-byte length, a 4-byte CRC-32, and a list of results as msgpack.
"""

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from pilotmtc.model import Result
from pilotmtc.protocol.frames import MAX_FRAME_BYTES
from pilotmtc.system import private_files

_HEAD = struct.Struct(">II")


def pack(payload: bytes) -> bytes:
    """Return a record with `payload`."""
    return _HEAD.pack(len(payload), zlib.crc32(payload)) + payload


def read_spool(directory: Path) -> Iterator[list[Result]]:
    """Yield the records of all files in order; an incomplete or damaged record ends its file."""
    for path in spool_files(directory):
        yield from read_file(path)


def read_file(path: Path) -> Iterator[list[Result]]:
    """Yield the records of a file up to the first incomplete or damaged one; a file that has gone has none."""
    decoder = msgspec.msgpack.Decoder(list[Result])
    try:
        file = os.fdopen(private_files.open_file(path, os.O_RDONLY), "rb")
    except FileNotFoundError:
        return
    with file:
        while len(head := file.read(_HEAD.size)) == _HEAD.size:
            length, crc = _HEAD.unpack(head)
            if length > MAX_FRAME_BYTES:
                return
            payload = file.read(length)
            if len(payload) < length or zlib.crc32(payload) != crc:
                return
            try:
                yield decoder.decode(payload)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # written by another version
                return


def spool_files(directory: Path) -> list[Path]:
    """Return the files in the order of their creation."""
    found = [path for path in directory.glob("spool.*") if path.suffix[1:].isdecimal()]
    return sorted(found, key=lambda path: int(path.suffix[1:]))
