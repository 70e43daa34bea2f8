"""Values: pickled Python data, as function workers and the user's own client write and read them.

A value is a pickle; or, if parts of it can lie outside of the pickle and are large, as the contents of numpy arrays,
a header, the pickle, and those *buffers*, each at a multiple of 64 bytes. In a file that is mapped they are used where
they lie, without a copy.

Workers run this in the user's Python: it needs the standard library of Python 3.9, and nothing else.
"""

from __future__ import annotations  # for Python 3.9

import mmap
import pickle
import struct

TYPE_CHECKING = False  # importing typing would cost an idle worker a megabyte
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    Bytes = bytes | bytearray | memoryview | mmap.mmap

MAGIC = b"\0PMTCval"  # no pickle begins so
ALIGNED_BYTES = 64
OUT_OF_BAND_BYTES = 4096  # smaller buffers are copied into the pickle
_HEAD = struct.Struct("<8sQQ")  # magic, number of buffers, size of the pickle
_BUFFER = struct.Struct("<QQ")  # where it begins in the value, and its size


class RemoteError(Exception):
    """Stands for an exception whose class, or data, could not be brought here; its text is the same.

    Attributes
    ----------
    kind
        The name of the exception's class, as ``module.Name``.
    """

    def __init__(self, text: str, kind: str = "") -> None:
        super().__init__(text, kind)
        self.kind = kind

    def __str__(self) -> str:
        text, kind = self.args
        return f"{kind}: {text}" if kind else str(text)


class RemoteTraceback(Exception):
    """The cause of an exception that was raised elsewhere: its text is the traceback there."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return self.text


def dump_value(value: object, dumps: Callable[..., bytes] = pickle.dumps) -> list[Bytes]:
    """Pickle a value; return its parts, which are to be written one after the other.

    Parameters
    ----------
    dumps
        Called as ``pickle.dumps(value, protocol=5, buffer_callback=...)``.
    """
    views: list[memoryview] = []

    def is_in_band(buffer: pickle.PickleBuffer) -> bool:
        view = buffer.raw()
        if view.nbytes < OUT_OF_BAND_BYTES:
            return True
        views.append(view)
        return False

    data = dumps(value, protocol=5, buffer_callback=is_in_band)
    if not views:
        return [data]
    begin = _HEAD.size + len(views) * _BUFFER.size
    parts: list[Bytes] = [_HEAD.pack(MAGIC, len(views), len(data))]
    behind: list[Bytes] = [data]
    end = begin + len(data)
    for view in views:
        gap = -end % ALIGNED_BYTES
        parts.append(_BUFFER.pack(end + gap, view.nbytes))
        behind += (b"\0" * gap, view)
        end += gap + view.nbytes
    return parts + behind


def load_value(data: Bytes, loads: Callable[..., Any] = pickle.loads) -> Any:
    """Return what `dump_value` has pickled.

    Only data of the user's own may be loaded: a pickle can run any program. Buffers are used where they are in `data`:
    what holds them, such as arrays, can be changed if `data` can be.

    Parameters
    ----------
    loads
        Called as ``pickle.loads(data, buffers=...)``.

    Raises
    ------
    ValueError
        If the data is cut short. Loading may raise anything else, too.
    """
    view = memoryview(data)
    if view[: len(MAGIC)] != MAGIC:
        return loads(view)
    if len(view) < _HEAD.size:
        raise ValueError(f"a value of {len(view)} bytes is cut short")
    _, count, size = _HEAD.unpack_from(view)
    begin = _HEAD.size + count * _BUFFER.size
    if begin + size > len(view):
        raise ValueError(f"a value of {len(view)} bytes is cut short")
    buffers = []
    for number in range(count):
        at, length = _BUFFER.unpack_from(view, _HEAD.size + number * _BUFFER.size)
        if at + length > len(view):
            raise ValueError(f"a value of {len(view)} bytes is cut short")
        buffers.append(view[at : at + length])
    return loads(view[begin : begin + size], buffers=buffers)


def map_file(path: str, *, writable: bool = False) -> Bytes:
    """Return the content of a file without reading it.

    Parameters
    ----------
    writable
        What is loaded from it can be changed, which copies the pages in question, and never changes the file.
    """
    with open(path, "rb") as file:
        if not file.seek(0, 2):
            return b""
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY if writable else mmap.ACCESS_READ)


def size_of(parts: Sequence[Bytes]) -> int:
    """Return how many bytes a value has."""
    return sum(memoryview(part).nbytes for part in parts)


def digest_of(parts: Sequence[Bytes]) -> str:
    """Return the name under which a value is kept: the SHA-256 of its bytes, in hexadecimal."""
    import hashlib

    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    return found.hexdigest()


def dump_exception(
    error: BaseException, dumps: Callable[..., bytes] = pickle.dumps, traceback_text: str | None = None
) -> bytes:
    """Pickle an exception with the text of its traceback, so that `load_exception` can always say what happened.

    Parameters
    ----------
    dumps
        Pickles the exception, as ``pickle.dumps(error, 5)`` does.
    traceback_text
        The text, if it is known already.
    """
    if traceback_text is None:
        traceback_text = text_of_traceback(error)
    data = b""
    for candidate in (error, _Parts(error)):
        found, same = _try(candidate, error, dumps)
        data = found if same else data or found
        if same:
            break
    return pickle.dumps((data, _name(type(error)), _text(error), traceback_text), 5)


class _Parts:
    """Pickled as what an exception consists of, whatever its ``__init__`` would take."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __reduce__(self) -> Any:
        error = self._error
        if type(error).__reduce__ is not BaseException.__reduce__:
            raise pickle.PicklingError("the class says itself how it is pickled")
        return _from_parts, (type(error), error.args, vars(error))


def _from_parts(kind: type[BaseException], args: tuple[object, ...], attributes: dict[str, object]) -> BaseException:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(attributes)
    return error


def _try(candidate: object, error: BaseException, dumps: Callable[..., bytes]) -> tuple[bytes, bool]:
    """Return a pickle of what stands for an exception, if its class comes back, and whether its text does, too."""
    try:
        data = dumps(candidate, 5)
        found = pickle.loads(data)
        if type(found) is not type(error):
            return b"", False
        return data, _text(found) == _text(error)
    except Exception:  # noqa: BLE001 -- whatever the user's classes do, the text says what happened
        return b"", False


def load_exception(data: Bytes, loads: Callable[[bytes], Any] = pickle.loads) -> BaseException:
    """Return the exception of `dump_exception`, or a `RemoteError` for it; its cause is a `RemoteTraceback`.

    Parameters
    ----------
    loads
        Loads the exception itself.
    """
    pickled, kind, text, traceback_text = pickle.loads(data)
    error: object = None
    if pickled:
        try:
            error = loads(pickled)
        except Exception:  # noqa: BLE001 -- its class may not be here; the text says what happened
            error = None
    if not isinstance(error, BaseException):
        error = RemoteError(text, kind)
    error.__cause__ = RemoteTraceback(f'\n"""\n{traceback_text}"""')
    return error


def reduce_cached_property(found: Any) -> tuple[Any, ...]:
    """Reduce a `functools.cached_property` of a class that travels by value: before Python 3.12 it holds a lock."""
    return type(found), (found.func,), {"attrname": found.attrname, "__doc__": found.__doc__}


def text_of_traceback(error: BaseException) -> str:
    """Return the traceback of an exception, and of those that it came from, as Python prints it."""
    import traceback

    try:
        return "".join(traceback.format_exception(type(error), error, error.__traceback__))
    except Exception as failure:  # noqa: BLE001 -- a class of the user's may not even have a text
        return f"{_name(type(error))}: its traceback cannot be shown: {_name(type(failure))}\n"


def _name(kind: type) -> str:
    module = kind.__module__
    return kind.__qualname__ if module in ("builtins", "__main__") else f"{module}.{kind.__qualname__}"


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as failure:  # noqa: BLE001 -- as above
        return f"(its text cannot be shown: {_name(type(failure))})"
