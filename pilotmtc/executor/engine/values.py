"""Values on their way between the client and the store."""

import collections
import concurrent.futures
import contextlib
import logging
import os
import threading
from collections.abc import Iterable, Iterator, Sequence

from pilotmtc.errors import ConfigError, StoreError, UsageError
from pilotmtc.executor.pickling.loading import Bytes
from pilotmtc.executor.pickling.pickling import Blob
from pilotmtc.model import CampaignId, Value
from pilotmtc.pickled import map_file
from pilotmtc.protocol.base import R, Request
from pilotmtc.protocol.values import MAX_VALUE_BYTES, PART_BYTES, GetValue, PutValue
from pilotmtc.session.link import StoreLink

log = logging.getLogger(__name__)
_PICKLE = b"\x80"  # so a pickle begins that no buffers follow
_AHEAD = 8  # messages under way
_TRIES = 3
_REMEMBERED = 100_000  # values that the store has


class Values:
    """Puts values into the store, each once, and gets them from there.

    Parameters
    ----------
    here
        The store is on this host: large values are read where it keeps them.
    """

    def __init__(self, link: StoreLink, *, here: bool) -> None:
        self._link = link
        self._here = here
        self._there: dict[str, None] = {}
        self._lock = threading.Lock()

    def put(self, blobs: Sequence[Blob], campaign: CampaignId | None) -> None:
        """Return once the store has all of `blobs`, for as long as `campaign` is there."""
        with self._lock:
            missing = {blob.digest: blob for blob in blobs if blob.digest not in self._there}
        small = [blob for blob in missing.values() if blob.size <= PART_BYTES]
        for _ in self._answers(PutValue(blob.digest, 0, blob.size, b"".join(blob.parts), campaign) for blob in small):
            pass
        for blob in missing.values():
            if blob.size > PART_BYTES:
                self._put_large(blob, campaign)
        with self._lock:
            self._there.update(dict.fromkeys(missing))
            while len(self._there) > _REMEMBERED:
                del self._there[next(iter(self._there))]

    def _put_large(self, blob: Blob, campaign: CampaignId | None) -> None:
        if blob.size > MAX_VALUE_BYTES:
            raise UsageError(
                f"a value of {blob.size:,} bytes is too large, as {MAX_VALUE_BYTES:,} bytes is most: "
                "write it to a file that all nodes see, and give the file's name"
            )
        ask = PutValue(blob.digest, 0, blob.size, b"", campaign)
        for number in range(_TRIES):
            status = self._link.call(ask)
            received = status.received
            if not number and not received and self._here and status.parts:
                received = self._put_file(blob, status.parts, campaign)
            pieces = _pieces(blob.parts, received)
            for status in self._answers(PutValue(blob.digest, at, blob.size, data, campaign) for at, data in pieces):
                received = status.received
            if received == blob.size:
                return
        raise StoreError(f"the store took {received} of the {blob.size} bytes of value {blob.digest}: try again")

    def _put_file(self, blob: Blob, parts: str, campaign: CampaignId | None) -> int:
        """Give the store on this host a value as a file; return how many bytes it has then: none if that cannot be."""
        from pilotmtc.store.file.value_files import SYNC_BYTES, make_part, part_name  # few programs put what is large

        name = part_name(blob.digest)
        path = os.path.join(parts, name)
        try:
            _write(make_part(parts, path, blob.size), blob, SYNC_BYTES)
            return self._link.call(PutValue(blob.digest, 0, blob.size, b"", campaign, file=name)).received
        except (OSError, ConfigError) as error:  # the store itself says it better, if it cannot either
            log.debug("value %s is not put as a file: %s", blob.digest, error)
            return 0
        finally:
            with contextlib.suppress(OSError):  # the store has taken it, or will remove it
                os.unlink(path)

    def get(self, value: Value) -> Bytes:
        """Return the bytes of a value; what is loaded from buffers in them may be changed.

        Raises
        ------
        StoreError
            If the store has it no longer.
        """
        if not value.digest:
            return value.data if value.data[:1] == _PICKLE else bytearray(value.data)
        first = self._link.call(GetValue(value.digest))
        if not first.found:
            raise StoreError(f"the store has no longer the value {value.digest}, of {value.size} bytes")
        if self._here and first.path and first.size > len(first.data):
            try:
                return map_file(first.path, writable=True)
            except OSError:  # the store's host is another one after all, or the file may not be read
                pass
        data = bytearray(first.data)
        offsets = range(len(data), first.size, PART_BYTES)
        for part in self._answers(GetValue(value.digest, offset) for offset in offsets):
            data += part.data
        if len(data) != first.size:
            raise StoreError(f"the store gave {len(data)} of the {first.size} bytes of value {value.digest}")
        return data

    def _answers(self, requests: Iterable[Request[R]]) -> Iterator[R]:
        """Yield the answers to `requests`, some of which are sent ahead."""
        under_way: collections.deque[concurrent.futures.Future[R]] = collections.deque()
        for request in requests:
            if len(under_way) >= _AHEAD:
                yield under_way.popleft().result()
            under_way.append(self._link.send(request))
        while under_way:
            yield under_way.popleft().result()


def _write(descriptor: int, blob: Blob, sync_bytes: int) -> None:
    with open(descriptor, "wb", buffering=0) as file:
        unsynced = 0
        for part in blob.parts:
            view = memoryview(part).cast("B")
            while view:
                written = file.write(view[:sync_bytes]) or 0
                view = view[written:]
                unsynced += written
                if unsynced >= sync_bytes:
                    os.fdatasync(descriptor)
                    unsynced = 0


def _pieces(parts: Sequence[Bytes], offset: int) -> Iterator[tuple[int, bytes]]:
    """Yield what `parts` hold together from `offset` on, in pieces of a message's size, each with its own offset."""
    piece = bytearray()
    begin = 0  # of the part
    for part in parts:
        view = memoryview(part).cast("B")
        at = min(max(0, offset + len(piece) - begin), len(view))
        while at < len(view):
            taken = view[at : at + PART_BYTES - len(piece)]
            piece += taken
            at += len(taken)
            if len(piece) == PART_BYTES:
                yield offset, bytes(piece)
                offset += PART_BYTES
                piece.clear()
        begin += len(view)
    if piece:
        yield offset, bytes(piece)
