"""Calls in a worker: what they need is loaded, the function is called, and what came of it is written down.

It runs in the user's Python, which needs the standard library of Python 3.9.
"""

from __future__ import annotations  # for Python 3.9

import errno
import os
import pickle
import sys
import time

from pilotmtc import pickled
from pilotmtc.agent.functions import frames

TYPE_CHECKING = False  # importing typing would cost an idle worker a megabyte
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pilotmtc.pickled import Bytes

INLINE_BYTES = 32 * 1024  # as `model.INLINE_BYTES` has it
_TEXT = 200  # characters of a result
_KEPT_VALUES = 32  # put values that are kept unpickled, those that were used last ...
_KEPT_BYTES = 1 << 30  # ... if they are no more than that together
_FUNCTIONS = 256
_ROOM_S = 300.0  # how long a result waits for a full disk: the call need not run again then
_LOOK_S = 0.5
_FULL = (errno.ENOSPC, errno.EDQUOT)
_PLAIN = frozenset((bool, float, type(None)))


class NotHere(Exception):
    """A value that the node should have brought is not on it."""


class Unloaded(Exception):
    """A function that cannot be called in this Python."""


class Values:
    """Values that are kept in files, by digest.

    Parameters
    ----------
    directory
        Where they are.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._loaded: dict[str, tuple[object, int]] = {}
        self._loaded_bytes = 0

    def data(self, digest: str, *, writable: bool = False) -> Bytes:
        """Return a value as it is kept, mapped."""
        try:
            return pickled.map_file(os.path.join(self._directory, digest), writable=writable)
        except FileNotFoundError as error:
            raise NotHere(f"the value {digest} is not on this node") from error
        except OSError as error:
            raise NotHere(f"the value {digest} cannot be read: {error.strerror}") from error

    def shared(self, digest: str) -> object:
        """Return a value that was put: the same object for each call, as long as others are not used more."""
        if digest in self._loaded:
            found, size = self._loaded.pop(digest)
        else:
            data = self.data(digest)
            found, size = pickled.load_value(data), len(data)
            self._loaded_bytes += size
            while self._loaded and (len(self._loaded) >= _KEPT_VALUES or self._loaded_bytes > _KEPT_BYTES):
                _, dropped = self._loaded.pop(next(iter(self._loaded)))
                self._loaded_bytes -= dropped
        self._loaded[digest] = found, size
        return found

    def read(self, data: Bytes, loads: Callable[..., Any] = pickle.loads) -> Any:
        """Return what a value holds, which may be changed."""
        return pickled.load_value(data, loads)

    def keep(self, parts: list[Bytes], room_s: float = 0.0) -> tuple[str, int]:
        """Write a value to its file, and wait up to `room_s` while its disk is full; return digest and size."""
        digest, size = pickled.digest_of(parts), pickled.size_of(parts)
        until = time.monotonic() + room_s
        said = False
        while True:
            try:
                self._write(os.path.join(self._directory, digest), parts)
                return digest, size
            except OSError as error:
                if error.errno not in _FULL or time.monotonic() >= until:
                    raise NotHere(
                        f"the result of {size} bytes cannot be kept in {self._directory}: {error.strerror}"
                    ) from error
                why = error.strerror
            if not said:
                said = True
                _complain(f"pilotmtc: the result of {size} bytes waits for room in {self._directory}: {why}\n")
            time.sleep(_LOOK_S)

    def _write(self, path: str, parts: list[Bytes]) -> None:
        new = f"{path}.{os.getpid()}"
        try:
            fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                for part in parts:
                    left = memoryview(part)
                    while left:
                        left = left[os.write(fd, left) :]
            finally:
                os.close(fd)
            os.rename(new, path)
        except OSError:
            if os.path.exists(new):
                os.unlink(new)
            raise


_INSTEAD = {  # of what functions of these kinds return
    "coroutine": "; let the function return asyncio.run(...) of it",
    "generator": "; let the function return list(...) of it",
}


class Calls:
    """Reads calls, makes them, and writes down what came of them.

    Parameters
    ----------
    values
        Values by digest.

    Attributes
    ----------
    forked
        Whether this is a copy of the process, which a call has made by ``fork``.
    """

    def __init__(self, values: Values) -> None:
        self.values = values
        self._functions: dict[bytes, Callable[..., object]] = {}
        self.forked = False

    def set_up(self, digest: str, version: tuple[int, int]) -> tuple[str, bytes] | None:
        """Run the initializer; return why that is impossible: a text, and the pickled exception if there is one."""
        try:
            check_version(version, "the initializer")
            initializer, args = self.values.read(self.values.data(digest, writable=True))
        except (Unloaded, NotHere) as error:
            return str(error), b""
        except BaseException as error:  # noqa: BLE001 -- whatever it is, the user must know
            return _cannot_load("the initializer", error), self._dumped(error)
        try:
            initializer(*args)
        except BaseException as error:  # noqa: BLE001 -- the same
            error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
            _complain(pickled.text_of_traceback(error))
            return f"{frames.SETUP_FAILED}: {_shown_error(error)}", self._dumped(error)
        return None

    def make(self, call: Any) -> tuple[int, bytes, tuple[str, int] | None, str]:
        """Make a call; return how it has ended, the value or digest and size of a large one, and a text."""
        try:
            function = self._functions.get(call.code)
            if function is None:
                function = self._load(call)
            args, kwargs = self._arguments(call)
            found = function(*args, **kwargs)
            if self.forked:
                return frames.RETURNED, b"", None, ""
            found = self.whole(found)
            return frames.RETURNED, *self._dump(found), _shown(found)
        except Unloaded as error:
            value = b"" if error.__cause__ is None else self._dumped(error.__cause__)
            return frames.UNLOADED, value, None, str(error)
        except NotHere as error:
            return frames.FAULT, b"", None, str(error)
        except BaseException as error:  # a call's exception, SystemExit too, is its result
            if self.forked:
                raise
            return frames.RAISED, *self._raised(error)

    def whole(self, found: object) -> object:
        """Return the result of a call of which this process has got `found`."""
        return found

    def _load(self, call: Any) -> Callable[..., object]:
        check_version(call.version, "the function")
        try:
            function = self.values.read(self.values.data(call.code.decode("ascii"), writable=True))
        except NotHere:
            raise
        except BaseException as error:
            raise Unloaded(_cannot_load("the function", error)) from error
        if len(self._functions) >= _FUNCTIONS:
            self._functions.clear()
        self._functions[call.code] = function
        return function  # type: ignore[no-any-return]

    def _arguments(self, call: Any) -> tuple[Sequence[object], dict[str, object]]:
        data = call.args
        if not call.refers and not call.args_kept and data[:1] == b"\x80":
            return pickle.loads(data)  # type: ignore[no-any-return]
        values = self.values
        if call.args_kept:
            data = values.data(data.decode("ascii"), writable=True)
        if not call.refers:
            return values.read(data)  # type: ignore[no-any-return]
        inputs: dict[int, object] = {}

        def refer(key: tuple[str, Any]) -> object:
            kind, which = key
            if kind == "value":
                return values.shared(which)
            if which not in inputs:
                kept, given = call.given[which]
                inputs[which] = values.read(
                    values.data(given.decode("ascii"), writable=True) if kept else bytearray(given)
                )
            return inputs[which]

        return values.read(data, _reader(refer))  # type: ignore[no-any-return]

    def _dump(self, found: object) -> tuple[bytes, tuple[str, int] | None]:
        """Return a result pickled, or digest and size if it is large."""
        if type(found) in _PLAIN:
            return pickle.dumps(found, 5), None
        try:
            parts = pickled.dump_value(found)
        except Exception:  # noqa: BLE001 -- whatever the user's classes raise, cloudpickle may know a way
            parts = self._dump_any(found)
        if pickled.size_of(parts) <= INLINE_BYTES:
            return b"".join(parts), None
        return b"", self.values.keep(parts, _ROOM_S)

    def _dump_any(self, found: object) -> list[Bytes]:
        try:
            return pickled.dump_value(found, _cloudpickle().dumps)
        except Exception as error:
            raise pickle.PicklingError(
                f"the result, a {type(found).__name__}, cannot be pickled: {type(error).__name__}: {error}"
                f"{_INSTEAD.get(type(found).__name__, '')}"
            ) from error

    def _raised(self, error: BaseException) -> tuple[bytes, tuple[str, int] | None, str]:
        trace = error.__traceback__
        error.__traceback__ = trace and trace.tb_next  # what is above the function is not the user's
        text = pickled.text_of_traceback(error)
        _complain(text)
        value = pickled.dump_exception(error, dumps, text)
        shown = _shown_error(error)
        error.__traceback__ = None  # what its frames hold is not needed any more
        if len(value) <= INLINE_BYTES:
            return value, None, shown
        try:
            return b"", self.values.keep([value]), shown
        except NotHere:
            return pickled.dump_exception(pickled.RemoteError(shown), dumps, text[-4096:]), None, shown

    def _dumped(self, error: BaseException) -> bytes:
        value = pickled.dump_exception(error, dumps)
        return value if len(value) <= INLINE_BYTES else b""


def say_python() -> str:
    """Return what runs this, for messages."""
    return f"{sys.executable} (Python {sys.version_info[0]}.{sys.version_info[1]})"


def check_version(version: tuple[int, int], what: str) -> None:
    """Raise `Unloaded` if `what` was pickled by a Python of another minor version: its code would not run."""
    here = tuple(sys.version_info[:2])
    if version[0] and here != tuple(version):
        name = "{}.{}".format(*version)
        raise Unloaded(
            f"{what} was pickled by Python {name} and cannot run in {say_python()}: let workers have a Python {name} "
            f"(python=), or call it from Python {here[0]}.{here[1]}"
        )


def _cannot_load(what: str, error: BaseException) -> str:
    text = f"{what} cannot be loaded in {say_python()}: {type(error).__name__}: {error}"
    if isinstance(error, ModuleNotFoundError):
        name = str(error.name).partition(".")[0]
        text += f"; install {name} there, send it along (ship=), or choose another Python (python=)"
    return text


def _reader(refer: Callable[[tuple[str, Any]], object]) -> Callable[..., Any]:
    """Return what loads a pickle whose persistent ids `refer` knows."""
    import io

    class Reader(pickle.Unpickler):
        def persistent_load(self, key: Any) -> object:
            return refer(key)

    def loads(data: Bytes, buffers: Sequence[Bytes] | None = None) -> Any:
        return Reader(io.BytesIO(data), buffers=buffers).load()

    return loads


def dumps(value: object, protocol: int) -> bytes:
    """Return a value pickled, by cloudpickle where pickle does not know a way."""
    try:
        return pickle.dumps(value, protocol)
    except Exception:  # noqa: BLE001 -- whatever the user's classes raise
        return _cloudpickle().dumps(value, protocol)  # type: ignore[no-any-return]


def _cloudpickle() -> Any:
    """Return cloudpickle; it is a heavy import."""
    import copyreg
    import functools

    import cloudpickle  # type: ignore[import-untyped]

    if sys.version_info < (3, 12):
        copyreg.pickle(functools.cached_property, pickled.reduce_cached_property)
    return cloudpickle


def _shown(value: object) -> str:
    """Return a value as people are shown it, of bounded length."""
    kind = type(value)
    if value is None or kind is float or kind is bool:
        return repr(value)
    try:
        if kind is str or kind is bytes:
            return repr(value if len(value) <= _TEXT else value[:_TEXT])  # type: ignore[index, arg-type]
        if kind is int:
            return repr(value) if value.bit_length() < 4 * _TEXT else f"<int of {value.bit_length()} bits>"  # type: ignore[attr-defined]
        text = _short_repr(value)
    except Exception as error:  # noqa: BLE001 -- the user's classes may raise anything
        return f"<{kind.__name__}, whose repr() fails: {type(error).__name__}>"
    return " ".join(text.split())


def _shown_error(error: BaseException) -> str:
    kind = type(error).__name__
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 -- the user's
        text = "(its text cannot be shown)"
    return f"{kind}: {text}" if text else kind


def _short_repr(value: object) -> str:
    import reprlib

    short = reprlib.Repr()
    short.maxlevel, short.maxother, short.maxlong = 4, _TEXT, _TEXT
    short.maxlist = short.maxtuple = short.maxset = short.maxfrozenset = short.maxdict = 10
    short.maxstring = _TEXT // 2
    return short.repr(value)


def bounded(text: str) -> bytes:
    """Return a text that can be printed, in UTF-8."""
    if len(text) > 4 * _TEXT:
        text = text[: 4 * _TEXT - 3] + "..."
    if not text.isprintable():
        text = "".join([each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text])
    return text.encode("utf-8", "backslashreplace")


def _complain(text: str) -> None:
    """Write to the user's stderr, if it is still one."""
    try:
        sys.stderr.write(text)
    except Exception:  # noqa: BLE001 -- the user may have closed or replaced it; the text travels with the value, too
        renew("stderr")


def flush() -> str:
    """Write out what the call has printed; return why that is impossible, if it is."""
    fault = ""
    for name in ("stdout", "stderr"):
        try:
            getattr(sys, name).flush()
        except OSError as error:
            fault = error.strerror or type(error).__name__
            renew(name)
        except Exception:  # noqa: BLE001 -- the user has closed or replaced it
            renew(name)
    return fault


def renew(name: str) -> None:
    """Give the next call a stream that works."""
    fd = 1 if name == "stdout" else 2
    try:
        stream = open(fd, "w", buffering=1, closefd=False, errors="backslashreplace")  # noqa: SIM115 -- it is to stay
        setattr(sys, name, stream)
    except OSError:  # the user has closed even the descriptor
        setattr(sys, name, None)


def version_of(text: str) -> tuple[int, int]:
    """Return a version such as ``3.11``."""
    major, _, minor = text.partition(".")
    return int(major), int(minor)
