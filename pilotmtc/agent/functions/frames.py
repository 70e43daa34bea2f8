"""What a node and its function workers send each other: one frame a datagram, laid out by hand.

The node must not unpickle or unmarshal what users' programs write, and a worker's Python may lack msgspec and be as old
as 3.9: so this needs the standard library of 3.9, and nothing else. All numbers are little-endian. A frame that does
not fit into a datagram lies in a file, whose name is sent.
"""

from __future__ import annotations  # for Python 3.9

import os
import struct

TYPE_CHECKING = False  # importing typing would cost an idle worker a megabyte
if TYPE_CHECKING:
    from collections.abc import Sequence

VALUES = "values"  # the directory, in that of the pilot, where workers find values, and leave large results
FRAME_BYTES = 64 * 1024  # a socket's buffer has room for some of these

IN_SETUP = ".setup."  # in the name of the mark of a rank that runs the initializer; its number follows
SETUP_FAILED = "the initializer failed"  # so begins why a worker will never be ready

# To a worker. The first byte says what a frame is.
CALL, IN_FILE, QUIT, CORES = 1, 2, 3, 4
# From a worker.
ENDED, READY, FAILED = 1, 2, 3
INITIALIZING = 4  # it begins to run the initializer

# How a call ended.
RETURNED, RAISED = 0, 1
UNLOADED = 2  # the function cannot be called in this Python: the text says why
FAULT = 3  # the node is to blame

# Flags of a call.
_ARGS_KEPT = 1  # the arguments are kept under a digest
_REFERS = 2  # they refer to other values
# Flags of an end.
_VALUE_KEPT = 1
OUTPUT_WAITS = 2  # more was written than a frame takes: it is still in the worker's files

# What, flags, Python's version, attempt, task, code, sizes: of the arguments, number of given values
_CALL = struct.Struct("<BBBBIQ64sII")
_GIVEN = struct.Struct("<BI")  # whether it is a digest, size
# What, outcome, flags, attempt, task, began (monotonic), elapsed, CPU, memory, sizes: value, text, stdout, stderr
_ENDED = struct.Struct("<BBBxIQdddQIIII")
_KEPT = struct.Struct("<64sQ")  # digest and size of a value
_FAILED = struct.Struct("<BxxxII")
_pack_call, _pack_ended, _unpack_ended = _CALL.pack, _ENDED.pack, _ENDED.unpack_from
_ENDED_SIZE = _ENDED.size


class Call:
    """A call as a worker gets it.

    Attributes
    ----------
    version
        Of the Python that pickled it; (0, 0) if that does not matter.
    code
        Digest of the function.
    args
        The pickled arguments, or their digest if `args_kept`.
    refers
        Whether they refer to other values.
    given
        Results of other calls: whether each is a digest, and the digest or the pickle.
    """

    __slots__ = ("args", "args_kept", "attempt", "code", "given", "refers", "task", "version")

    def __init__(self, frame: bytes) -> None:
        _, flags, major, minor, self.attempt, self.task, self.code, size, count = _CALL.unpack_from(frame)
        end = _CALL.size + size
        self.version = major, minor
        self.args = frame[_CALL.size : end]
        self.args_kept = flags & _ARGS_KEPT
        self.refers = flags & _REFERS
        self.given: Sequence[tuple[int, bytes]] = ()
        if count:
            given = []
            for _ in range(count):
                kept, size = _GIVEN.unpack_from(frame, end)
                end += _GIVEN.size + size
                given.append((kept, frame[end - size : end]))
            self.given = given
        if end != len(frame):
            raise ValueError(f"a frame of {len(frame)} bytes should have {end}")


def call_frame(
    task: int,
    attempt: int,
    version: tuple[int, int],
    code: bytes,
    args: bytes,
    *,
    args_kept: bool = False,
    refers: bool = False,
    given: Sequence[tuple[int, bytes]] = (),
) -> bytes:
    """Return the frame of a `Call`."""
    flags = (_ARGS_KEPT if args_kept else 0) | (_REFERS if refers else 0)
    head = _pack_call(CALL, flags, *version, attempt, task, code, len(args), len(given))
    if not given:
        return head + args
    parts = [head, args]
    for kept, data in given:
        parts += (_GIVEN.pack(kept, len(data)), data)
    return b"".join(parts)


def attempt_of(frame: bytes) -> tuple[int, int]:
    """Return task and attempt of a call, whether its frame is this one or lies in a file."""
    if frame[0] == IN_FILE:
        _, task, attempt = frame.rsplit(b"-", 2)
        return int(task), int(attempt)
    fields = _CALL.unpack_from(frame)
    return fields[5], fields[4]


def ended_frame(  # noqa: PLR0917 -- called for each call: keywords would take longer
    outcome: int,
    task: int,
    attempt: int,
    times: tuple[float, float, float],
    memory: int,
    value: bytes,
    text: bytes,
    out: bytes = b"",
    err: bytes = b"",
    *,
    kept: tuple[str, int] | None = None,
    waits: bool = False,
) -> bytes:
    """Return the frame that says how a call ended.

    Parameters
    ----------
    times
        When it began, by the monotonic clock, how long it took, and how long it used a CPU.
    kept
        Digest and size of a value that is kept by itself.
    waits
        Its output is in the worker's files.
    """
    flags = OUTPUT_WAITS if waits else 0
    if kept is not None:
        flags |= _VALUE_KEPT
        value = _KEPT.pack(kept[0].encode(), kept[1])
    head = _pack_ended(
        ENDED, outcome, flags, attempt, task, *times, memory, len(value), len(text), len(out), len(err)
    )  # fmt: skip
    return head + value + text if not out and not err else b"".join((head, value, text, out, err))


class End:
    """How a call ended, as the node gets it.

    Attributes
    ----------
    value, digest, size
        The pickle; or the digest under which it is kept, and how many bytes it has.
    text
        Of the value for people, or of what went wrong.
    waits
        Whether its output is still in the worker's files.
    """

    __slots__ = (
        "attempt", "began", "cpu_s", "digest", "elapsed_s", "err", "memory", "out", "outcome", "size", "task", "text",
        "value", "waits",
    )  # fmt: skip

    def __init__(self, frame: bytes) -> None:
        (
            _, self.outcome, flags, self.attempt, self.task, self.began, self.elapsed_s, self.cpu_s, self.memory,
            value, text, out, err,
        ) = _unpack_ended(frame)  # fmt: skip
        begin = _ENDED_SIZE + value
        end = begin + text
        if end + out + err != len(frame):
            raise ValueError(f"a frame of {len(frame)} bytes should have {end + out + err}")
        self.value = frame[_ENDED_SIZE:begin]
        self.digest, self.size = "", value
        self.text = frame[begin:end].decode("utf-8", "replace")
        self.out = frame[end : end + out]
        self.err = frame[end + out :]
        self.waits = flags & OUTPUT_WAITS
        if flags & _VALUE_KEPT:
            digest, self.size = _KEPT.unpack(self.value)
            self.digest, self.value = digest.decode("ascii"), b""


def failed_frame(text: bytes, value: bytes) -> bytes:
    """Return the frame of a worker that will never be ready: what to tell the user, and the pickled exception."""
    return _FAILED.pack(FAILED, len(text), len(value)) + text + value


def read_failed(frame: bytes) -> tuple[str, bytes]:
    """Return text and exception of `failed_frame`."""
    _, text, value = _FAILED.unpack_from(frame)
    if _FAILED.size + text + value != len(frame):
        raise ValueError(f"a frame of {len(frame)} bytes should have {_FAILED.size + text + value}")
    return frame[_FAILED.size : _FAILED.size + text].decode("utf-8", "replace"), frame[_FAILED.size + text :]


def cores_frame(names: str) -> bytes:
    """Return the frame that tells a worker which cores it has from now on, as ``0-3,8``."""
    return bytes([CORES]) + names.encode()


def file_frame(path: str) -> bytes:
    """Return the frame that stands for one that lies in a file."""
    return bytes([IN_FILE]) + path.encode("utf-8", "surrogateescape")


def read_file_frame(frame: bytes) -> str:
    """Return the path of `file_frame`."""
    return frame[1:].decode("utf-8", "surrogateescape")


def write_new(path: str, frame: bytes) -> None:
    """Write a frame to a new file, in place of what may be there. Raises `OSError`, and leaves nothing."""
    if os.path.lexists(path):
        os.unlink(path)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        left = memoryview(frame)
        while left:
            left = left[os.write(fd, left) :]
    except OSError:
        os.unlink(path)
        raise
    finally:
        os.close(fd)
