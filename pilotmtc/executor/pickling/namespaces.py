"""The globals of functions that travel by value, as far as functions set them.

cloudpickle gives each pickle globals of its own. Then what an initializer sets with ``global model`` is not seen by the
functions that are called later. So those functions of a module that set such a name, or use it, share their globals in
a worker, as they do here.
"""

import dis
import functools
import types
from collections.abc import Iterator, Mapping
from typing import Any

from pilotmtc import worker

_OF_MODULES = ("__package__", "__name__", "__path__", "__file__")  # by which relative imports are found


class Namespace:
    """Stands in a pickle for the globals of a module."""

    def __init__(self, key: str, there: Mapping[str, Any]) -> None:
        self._key = key
        self._initial = {name: there[name] for name in _OF_MODULES if name in there}

    def __reduce__(self) -> tuple[Any, ...]:
        return worker.namespace, (self._key, self._initial)


class Namespaces:
    """Those of one pickle.

    Parameters
    ----------
    key
        Tells modules of this program from those of another one of the same names.
    """

    def __init__(self, key: str) -> None:
        self._key = key
        self._found: dict[int, Namespace] = {}

    def reduced(self, function: types.FunctionType, made: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return how to pickle a function by value, from how cloudpickle does it."""
        there = function.__globals__
        own = _set_by(function.__code__)
        shared = own | (_set_names(there) & _used_by(function.__code__))
        if not shared:
            return made
        make, (code, _, *rest), state, *_ = made
        space = self._found.get(id(there))
        if space is None:
            space = self._found[id(there)] = Namespace(f"{self._key}:{there.get('__name__', '')}", there)
        return make, (code, space, *rest), (state, tuple(sorted(shared))), None, None, worker.restore


def _set_names(there: Mapping[str, Any]) -> frozenset[str]:
    """Return the globals that functions of a module set."""
    return frozenset(
        name
        for value in list(there.values())
        if isinstance(value, types.FunctionType) and value.__globals__ is there
        for name in _set_by(value.__code__)
    )


@functools.lru_cache(maxsize=10_000)
def _set_by(code: types.CodeType) -> frozenset[str]:
    return frozenset(_walk(code, "STORE_GLOBAL", "DELETE_GLOBAL"))


@functools.lru_cache(maxsize=10_000)
def _used_by(code: types.CodeType) -> frozenset[str]:
    return frozenset(_walk(code, "LOAD_GLOBAL"))


def _walk(code: types.CodeType, *operations: str) -> Iterator[str]:
    for instruction in dis.get_instructions(code):
        if instruction.opname in operations:
            yield str(instruction.argval)
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            yield from _walk(const, *operations)
