"""Results on the pilot's disk until the store has acknowledged them.

Records of 4-byte length, 4-byte CRC-32 and the msgpack of a list of results, in files ``spool.N``. A file is
emptied when all in it is acknowledged, or removed when a newer one is in use.
"""

import logging
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from pilotmtc.model import Result

SEGMENT_BYTES = 4 << 20
_HEAD = struct.Struct(">II")
_log = logging.getLogger("pilotmtc.agent")


class Segment:
    """One file of the spool. `open_records`: those not acknowledged."""

    __slots__ = ("fd", "open_records", "path", "size")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self.size = 0
        self.open_records = 0


class Spool:
    """The writing side."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._encoder = msgspec.msgpack.Encoder()
        taken = [int(path.suffix[1:]) for path in _files(directory)]
        self._number = max(taken, default=0) + 1
        self._segment = Segment(directory / f"spool.{self._number}")
        self._broken = False

    def write(self, results: list[Result]) -> Segment:
        """Append `results` with one write; return what `acked` wants to know.

        A full disk is not the end: the results are still on their way, only a kill of the agent would cost a rerun.
        """
        if self._segment.size > SEGMENT_BYTES:
            self._next()
        segment = self._segment
        payload = self._encoder.encode(results)
        record = _HEAD.pack(len(payload), zlib.crc32(payload)) + payload
        segment.open_records += 1
        try:
            written = os.write(segment.fd, record)
            if written < len(record):
                os.ftruncate(segment.fd, segment.size)
            else:
                segment.size += written
                self._broken = False
        except OSError as error:
            if not self._broken:
                _log.warning("cannot spool results: %s; going on without", error)
            self._broken = True
        return segment

    def acked(self, segment: Segment) -> None:
        """One record of `segment` is safe in the store."""
        segment.open_records -= 1
        if segment.open_records:
            return
        if segment is self._segment:
            os.ftruncate(segment.fd, 0)
            segment.size = 0
        else:
            os.close(segment.fd)
            segment.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close; what is acknowledged altogether leaves no file."""
        os.close(self._segment.fd)
        if not self._segment.open_records:
            self._segment.path.unlink(missing_ok=True)

    def _next(self) -> None:
        old = self._segment
        self._number += 1
        self._segment = Segment(self._directory / f"spool.{self._number}")
        if not old.open_records:
            os.close(old.fd)
            old.path.unlink(missing_ok=True)


def read_spool(directory: Path) -> Iterator[list[Result]]:
    """Yield the records of all files in order; a torn or damaged record ends its file."""
    decoder = msgspec.msgpack.Decoder(list[Result])
    for path in _files(directory):
        data = path.read_bytes()
        at = 0
        while at + _HEAD.size <= len(data):
            length, crc = _HEAD.unpack_from(data, at)
            at += _HEAD.size
            payload = data[at : at + length]
            at += length
            if len(payload) < length or zlib.crc32(payload) != crc:
                break
            yield decoder.decode(payload)


def _files(directory: Path) -> list[Path]:
    found = [path for path in directory.glob("spool.*") if path.suffix[1:].isdigit()]
    return sorted(found, key=lambda path: int(path.suffix[1:]))
