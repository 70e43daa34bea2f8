"""Loading what calls have returned: only ever from a store of the user's own, since a pickle can run any program."""

import io
import mmap
import pickle
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from pilotmtc import pickled

Bytes: TypeAlias = bytes | bytearray | memoryview | mmap.mmap
_CLOUDPICKLE = "cloudpickle.cloudpickle"
_find_cloudpickle = re.compile(re.escape(_CLOUDPICKLE.encode())).search  # which copies nothing, whatever it looks at


def load(data: Bytes) -> Any:
    """Return the value that a worker has pickled."""
    return pickled.load_value(data, _loads)


def load_exception(data: Bytes) -> BaseException:
    """Return the exception that a worker has pickled; its cause shows the traceback."""
    return pickled.load_exception(data, _loads)


def _loads(data: Bytes, buffers: Iterable[object] | None = None) -> Any:
    if _find_cloudpickle(data) is None:
        return pickle.loads(data, buffers=buffers)
    return _Reader(io.BytesIO(data), buffers=buffers).load()


class _Reader(pickle.Unpickler):
    """Takes the classes of this program for those of the same names that come by value.

    A worker knows a class by value if it could not import its module. Here it is the one that the user has: else an
    object of it would be no instance of it.
    """

    def __init__(self, file: io.BytesIO, buffers: Iterable[object] | None) -> None:
        super().__init__(file, buffers=buffers)
        self._here: set[type] = set()

    def find_class(self, module: str, name: str) -> Any:
        """Return what a pickle names."""
        found = super().find_class(module, name)
        if module == _CLOUDPICKLE:
            if name == "_make_skeleton_class":
                return lambda kind, name, bases, more, *rest: self._class(
                    more.get("__module__"), name, lambda: found(kind, name, bases, more, *rest)
                )
            if name == "_make_skeleton_enum":
                return lambda bases, name, qualname, members, module, *rest: self._class(
                    module, name, lambda: found(bases, name, qualname, members, module, *rest)
                )
            if name == "_class_setstate":
                return lambda made, state: made if made in self._here else found(made, state)
        return found

    def _class(self, module: object, name: str, make: Callable[[], type]) -> type:
        found = getattr(sys.modules.get(str(module)), name, None)
        if not isinstance(found, type) or (found.__module__, found.__name__) != (module, name):
            return make()
        self._here.add(found)
        return found
