"""A function worker: runs calls in the user's Python, one after the other, until it is told to quit.

``python worker.py NUMBER VALUES SETUP VERSION CLOUDPICKLE``, started by the node with a socket for calls and results, a
pipe on which all workers ring for the node, and a counter. It needs the standard library of Python 3.9 and loads
little of it: there may be one on each core, and each starts where the user waits for the first call.

The socket brings a call a datagram, which nobody else has: what is not taken out of it yet, the node may take back. A
result is sent before the next call is taken. So the node always knows which call it is that runs. To be woken for each
result would cost the node more than the result does: it is rung for when no call waits, or when some time has passed.
"""

from __future__ import annotations  # for Python 3.9

import sys

if __name__ == "__main__":  # what lies beside this file is not for the user's imports
    sys.path.pop(0)

import faulthandler
import fcntl
import os
import pickle
import select
import time

TYPE_CHECKING = False  # importing typing would cost an idle worker a megabyte
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

    from pilotmtc.pickled import Bytes

CALLS, BELL, HARVESTED = 3, 4, 5  # descriptors that the node hands over
RING_S = 0.001
INLINE_BYTES = 32 * 1024  # as `model.INLINE_BYTES` has it
_OUTPUT_BYTES = 8 * 1024  # of a stream, in a result's frame
_TEXT = 200  # characters of a result
_KEPT_VALUES = 32  # put values that are kept unpickled, those that were used last
_FUNCTIONS = 256
_LOOK_S = 0.05  # how old the peak of memory may be
_CANNOT = 1
_PLAIN = frozenset((bool, float, type(None)))


def say_python() -> str:
    """Return what runs this, for messages."""
    return f"{sys.executable} (Python {sys.version_info[0]}.{sys.version_info[1]})"


class Carried:
    """Finds modules that this worker brings along."""

    def __init__(self, finder: Any, places: dict[str, str]) -> None:
        self._finder = finder
        self._places = places

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return where the module is; None if it is not one of these."""
        place = self._places.get(name)
        return self._finder.find_spec(name, [place]) if place else None


def carry(cloudpickle: str) -> None:
    """Let the pilot's own pilotmtc be imported whatever this Python has, and cloudpickle if it has none."""
    here = os.path.abspath(__file__)
    for _ in range(4):
        here = os.path.dirname(here)
    finder = next(each for each in sys.meta_path if getattr(each, "__name__", "") == "PathFinder")
    sys.meta_path.insert(0, Carried(finder, {"pilotmtc": here}))
    sys.meta_path.append(Carried(finder, {"cloudpickle": cloudpickle}))


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
        from pilotmtc import pickled

        self._directory = directory
        self._pickled = pickled
        self._loaded: dict[str, object] = {}

    def data(self, digest: str, *, writable: bool = False) -> Bytes:
        """Return a value as it is kept, mapped."""
        try:
            return self._pickled.map_file(os.path.join(self._directory, digest), writable=writable)
        except FileNotFoundError as error:
            raise NotHere(f"the value {digest} is not on this node") from error
        except OSError as error:
            raise NotHere(f"the value {digest} cannot be read: {error.strerror}") from error

    def shared(self, digest: str) -> object:
        """Return a value that was put: the same object for each call, as long as others are not used more."""
        if digest in self._loaded:
            found = self._loaded.pop(digest)
        else:
            found = self._pickled.load_value(self.data(digest))
            while len(self._loaded) >= _KEPT_VALUES:
                del self._loaded[next(iter(self._loaded))]
        self._loaded[digest] = found
        return found

    def read(self, data: Bytes, loads: Callable[..., Any] = pickle.loads) -> Any:
        """Return what a value holds, which may be changed."""
        return self._pickled.load_value(data, loads)

    def keep(self, parts: list[Bytes]) -> tuple[str, int]:
        """Write a value to its file; return digest and size."""
        digest = self._pickled.digest_of(parts)
        path = os.path.join(self._directory, digest)
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
        except OSError as error:
            if os.path.exists(new):
                os.unlink(new)
            raise NotHere(f"the result cannot be kept in {self._directory}: {error.strerror}") from error
        return digest, self._pickled.size_of(parts)


class Worker:
    """Runs calls.

    Parameters
    ----------
    number
        What it rings with.
    values
        Values by digest.
    """

    def __init__(self, number: int, values: Values) -> None:
        from pilotmtc import pickled
        from pilotmtc.agent.functions import frames

        self._pickled = pickled
        self._frames = frames
        self._values = values
        self._name = number.to_bytes(4, "little")
        self._functions: dict[bytes, Callable[..., object]] = {}
        self._out = _own_copy(1)  # the user may close or redirect the others
        self._err = _own_copy(2)
        self._status = os.open("/proc/self/status", os.O_RDONLY | os.O_CLOEXEC)
        self._reset = _open_reset()
        self._memory = 0
        self._looked_at = 0.0
        self._cpu = 0.0  # used until the last call ended
        self.forked = False
        os.register_at_fork(after_in_child=self._leave_to_parent)
        faulthandler.enable(self._err)

    def _leave_to_parent(self) -> None:
        """Keep a copy of this process from taking calls."""
        self.forked = True
        for fd in (CALLS, BELL, HARVESTED):
            os.close(fd)

    # -- before the first call ----------------------------------------------------------------------------------

    def set_up(self, digest: str, version: tuple[int, int]) -> None:
        """Run the initializer; if it fails, say so and exit."""
        text, error = "", None
        try:
            check_version(version, "the initializer")
            initializer, args = self._values.read(self._values.data(digest, writable=True))
        except BaseException as caught:  # noqa: BLE001 -- whatever it is, the user must know
            error = caught
            text = str(caught) if isinstance(caught, (Unloaded, NotHere)) else _cannot_load("the initializer", caught)
        else:
            try:
                initializer(*args)
            except BaseException as caught:  # noqa: BLE001 -- the same
                error = caught.with_traceback(caught.__traceback__ and caught.__traceback__.tb_next)
                text = f"the initializer failed: {self._shown_error(error)}"
        if error is not None:
            value = self._pickled.dump_exception(error, _dumps)
            if isinstance(error, (Unloaded, NotHere)):
                value = b""
            else:
                _complain(self._pickled.text_of_traceback(error))
            self._send(self._frames.failed_frame(_bounded(text), value if len(value) <= INLINE_BYTES else b""))
            self._ring()
            _flush()
            os._exit(_CANNOT)

    # -- calls --------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Run calls until there is nobody who sends them."""
        read, monotonic = os.read, time.monotonic
        take, call = self._take, self._frames.CALL
        size = self._frames.FRAME_BYTES
        self._send(bytes([self._frames.READY]))
        self._cpu = time.process_time()
        unrung_at = 0.0  # when the first result was sent that was not rung for
        waiting = select.poll()
        waiting.register(CALLS, select.POLLIN)
        self._ring()
        while True:
            try:
                frame = read(CALLS, size)
            except BlockingIOError:
                if unrung_at:
                    unrung_at = 0.0
                    self._ring()
                waiting.poll()
                continue
            if frame and frame[0] == self._frames.IN_FILE:
                frame = self._from_file(frame)
            if not frame or frame[0] == self._frames.QUIT:
                return
            if frame[0] != call:
                os.environ["PILOTMTC_CORE_LIST"] = frame[1:].decode()
                continue
            began = monotonic()
            waits = take(frame, began)
            if self.forked:  # a copy of this process has come back from the function: it is not the worker
                _flush()
                os._exit(0)
            ended = monotonic()
            if not unrung_at:
                unrung_at = ended
            if waits or ended - began > RING_S or ended - unrung_at > RING_S:
                unrung_at = 0.0
                self._ring()
            if waits:
                os.read(HARVESTED, 8)

    def _take(self, frame: bytes, began: float) -> bool:
        """Run a call and send what came of it; return whether its output waits in the files."""
        frames = self._frames
        call = frames.Call(frame)
        kept = None
        value = b""
        try:
            function = self._functions.get(call.code)
            if function is None:
                function = self._load(call)
            args, kwargs = self._arguments(call)
            found = function(*args, **kwargs)
            if self.forked:
                return False
            value, kept = self._dump(found)
            text = _shown(found)
            outcome = frames.RETURNED
            del args, kwargs, found
        except (NotHere, Unloaded) as error:
            outcome = frames.FAULT if isinstance(error, NotHere) else frames.UNLOADED
            text = str(error)
            if error.__cause__ is not None and outcome == frames.UNLOADED:
                value = self._dumped(error.__cause__)
        except BaseException as error:  # a call's exception, SystemExit too, is its result
            if self.forked:
                raise
            outcome = frames.RAISED
            value, kept, text = self._raised(error)
        try:
            sys.stdout.flush()
            sys.stderr.flush()
            fault = ""
        except Exception:  # noqa: BLE001 -- the user may have closed or replaced them
            fault = _flush()
        if fault and outcome == frames.RETURNED:
            outcome, text = frames.FAULT, f"its output could not be kept: {fault}"
        out, err, waits = self._output()
        ended = time.monotonic()
        cpu = time.process_time()
        cpu_s, self._cpu = cpu - self._cpu, cpu  # what it took to get the call is its, too
        if ended - began > RING_S or ended - self._looked_at > _LOOK_S:
            self._look(ended)
        self._send(
            frames.ended_frame(
                outcome, call.task, call.attempt, (began, ended - began, cpu_s), self._memory, value, _bounded(text),
                out, err, kept=kept, waits=waits,
            )
        )  # fmt: skip
        return waits

    def _load(self, call: Any) -> Callable[..., object]:
        check_version(call.version, "the function")
        try:
            function = self._values.read(self._values.data(call.code.decode("ascii"), writable=True))
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
        values = self._values
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
            parts = self._pickled.dump_value(found)
        except Exception:  # noqa: BLE001 -- whatever the user's classes raise, cloudpickle may know a way
            parts = self._dump_any(found)
        if self._pickled.size_of(parts) <= INLINE_BYTES:
            return b"".join(parts), None
        return b"", self._values.keep(parts)

    def _dump_any(self, found: object) -> list[Bytes]:
        import cloudpickle  # type: ignore[import-untyped]

        try:
            return self._pickled.dump_value(found, cloudpickle.dumps)
        except Exception as error:
            raise pickle.PicklingError(
                f"the result, a {type(found).__name__}, cannot be pickled: {type(error).__name__}: {error}"
            ) from error

    def _raised(self, error: BaseException) -> tuple[bytes, tuple[str, int] | None, str]:
        trace = error.__traceback__
        error.__traceback__ = trace and trace.tb_next  # what is above the function is not the user's
        text = self._pickled.text_of_traceback(error)
        _complain(text)
        value = self._pickled.dump_exception(error, _dumps, text)
        shown = self._shown_error(error)
        error.__traceback__ = None  # what its frames hold is not needed any more
        if len(value) <= INLINE_BYTES:
            return value, None, shown
        try:
            return b"", self._values.keep([value]), shown
        except NotHere:
            return self._pickled.dump_exception(self._pickled.RemoteError(shown), _dumps, text[-4096:]), None, shown

    def _dumped(self, error: BaseException) -> bytes:
        value = self._pickled.dump_exception(error, _dumps)
        return value if len(value) <= INLINE_BYTES else b""

    def _shown_error(self, error: BaseException) -> str:
        kind = type(error).__name__
        try:
            text = str(error)
        except Exception:  # noqa: BLE001 -- the user's
            text = "(its text cannot be shown)"
        return f"{kind}: {text}" if text else kind

    # -- the node -----------------------------------------------------------------------------------------------

    def _send(self, frame: bytes) -> None:
        try:
            os.write(CALLS, frame)
        except BlockingIOError:
            self._ring()
            room = select.poll()
            room.register(CALLS, select.POLLOUT)
            while True:
                room.poll()
                try:
                    os.write(CALLS, frame)
                except BlockingIOError:
                    continue
                return

    def _ring(self) -> None:
        os.write(BELL, self._name)

    def _from_file(self, frame: bytes) -> bytes:
        path = self._frames.read_file_frame(frame)
        with open(path, "rb") as file:
            data = file.read()
        os.unlink(path)
        return data

    def _output(self) -> tuple[bytes, bytes, bool]:
        """Return what was written to each stream, and whether it is too much for a frame."""
        out_bytes, err_bytes = os.lseek(self._out, 0, 2), os.lseek(self._err, 0, 2)
        if not out_bytes and not err_bytes:
            return b"", b"", False
        if out_bytes > _OUTPUT_BYTES or err_bytes > _OUTPUT_BYTES:
            return b"", b"", True
        out, err = os.pread(self._out, out_bytes, 0), os.pread(self._err, err_bytes, 0)
        if out_bytes:
            os.ftruncate(self._out, 0)
        if err_bytes:
            os.ftruncate(self._err, 0)
        return out, err, False

    def _look(self, now: float) -> None:
        """Find out the peak of memory since the last look, and begin a new one."""
        self._looked_at = now
        status = os.pread(self._status, 8192, 0)
        begin = status.find(b"VmHWM:")
        if begin >= 0:
            self._memory = int(status[begin + 6 : status.index(b"kB", begin)]) * 1024
        if self._reset >= 0:
            os.write(self._reset, b"5")


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


def _dumps(value: object, protocol: int) -> bytes:
    try:
        return pickle.dumps(value, protocol)
    except Exception:  # noqa: BLE001 -- as in `Worker._dump`
        import cloudpickle

        return cloudpickle.dumps(value, protocol)  # type: ignore[no-any-return]


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


def _short_repr(value: object) -> str:
    import reprlib

    short = reprlib.Repr()
    short.maxlevel, short.maxother, short.maxlong = 4, _TEXT, _TEXT
    short.maxlist = short.maxtuple = short.maxset = short.maxfrozenset = short.maxdict = 10
    short.maxstring = _TEXT // 2
    return short.repr(value)


def _bounded(text: str) -> bytes:
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
        _renew("stderr")


def _flush() -> str:
    """Write out what the call has printed; return why that is impossible, if it is."""
    fault = ""
    for name in ("stdout", "stderr"):
        try:
            getattr(sys, name).flush()
        except OSError as error:
            fault = error.strerror or type(error).__name__
            _renew(name)
        except Exception:  # noqa: BLE001 -- the user has closed or replaced it
            _renew(name)
    return fault


def _renew(name: str) -> None:
    """Give the next call a stream that works."""
    fd = 1 if name == "stdout" else 2
    try:
        stream = open(fd, "w", buffering=1, closefd=False, errors="backslashreplace")  # noqa: SIM115 -- it is to stay
        setattr(sys, name, stream)
    except OSError:  # the user has closed even the descriptor
        setattr(sys, name, None)


def _own_copy(fd: int) -> int:
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10)


def _open_reset() -> int:
    """Return a descriptor that resets the peak of memory; -1 where the system has none."""
    try:
        return os.open("/proc/self/clear_refs", os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return -1


def main() -> None:
    """Run a worker."""
    number, directory, setup, version, cloudpickle = sys.argv[1:]
    for fd in (CALLS, BELL, HARVESTED):
        os.set_inheritable(fd, False)
    carry(cloudpickle)
    sys.path.insert(0, "")  # as in an interactive Python: modules of the directory in which the calls run
    sys.argv[:] = [""]
    _renew("stdout")  # line by line, so that what a call prints can be seen
    own = sys.modules["__main__"]
    sys.modules["pilotmtc.agent.functions.worker"] = own
    sys.modules["__main__"] = type(sys)("__main__")  # what users' programs find there is theirs
    worker = Worker(int(number), Values(directory))
    if setup:
        major, _, minor = version.partition(".")
        worker.set_up(setup, (int(major), int(minor)))
    worker.run()


if __name__ == "__main__":
    main()
