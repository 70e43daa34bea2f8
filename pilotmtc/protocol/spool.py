"""The files ``spool.N`` in a pilot's directory: results that the store has not acknowledged yet.

Records of 4-byte length, 4-byte CRC-32 and the msgpack of a list of results.
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
    """Return the record that holds `payload`."""
    return _HEAD.pack(len(payload), zlib.crc32(payload)) + payload


def read_spool(directory: Path) -> Iterator[list[Result]]:
    """Yield the records of all files in order; a torn or damaged record ends its file."""
    for path in spool_files(directory):
        yield from read_file(path)


def read_file(path: Path) -> Iterator[list[Result]]:
    """Yield the records of one file up to the first torn or damaged one; a file that is gone by now has none."""
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
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # of another version
                return


def spool_files(directory: Path) -> list[Path]:
    """Return the files in the order in which they were begun."""
    found = [path for path in directory.glob("spool.*") if path.suffix[1:].isdecimal()]
    return sorted(found, key=lambda path: int(path.suffix[1:]))
