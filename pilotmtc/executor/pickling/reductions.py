"""How to pickle what functions hold and cloudpickle cannot: it is made anew, as where their module is imported."""

import contextvars
import functools
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any, TypeAlias

from pilotmtc import pickled

Reduced: TypeAlias = tuple[Any, ...]

Cache = functools._lru_cache_wrapper  # of functions under lru_cache or cache


def reduce_cache(found: Any) -> Reduced:
    """Reduce a function that remembers results: there it begins to anew."""
    rules = found.cache_parameters()
    info = functools._CacheInfo  # its constructor wants it
    return Cache, (found.__wrapped__, rules["maxsize"], rules["typed"], info), vars(found)


def _reduce_variable(found: "contextvars.ContextVar[Any]") -> Reduced:
    try:
        default = {"default": contextvars.Context().run(found.get)}
    except LookupError:
        default = {}
    return functools.partial(contextvars.ContextVar, found.name, **default), ()


def _new(make: Callable[[], object]) -> Callable[[object], Reduced]:
    return lambda _: (make, ())


# Whoever sends these as arguments means them; of a function they belong to it.
OF_FUNCTIONS: dict[type, Callable[[Any], Reduced]] = {
    contextvars.ContextVar: _reduce_variable,
    threading.local: _new(threading.local),
    weakref.WeakKeyDictionary: _new(weakref.WeakKeyDictionary),
    weakref.WeakValueDictionary: _new(weakref.WeakValueDictionary),
}
ALWAYS: dict[type, Callable[[Any], Reduced]] = (
    {functools.cached_property: pickled.reduce_cached_property} if sys.version_info < (3, 12) else {}
)
_LOCKS: dict[type, Callable[[], object]] = {
    type(threading.Lock()): threading.Lock,
    type(threading.RLock()): threading.RLock,
    threading.Event: threading.Event,
}


class _Anew:
    """Stands in a pickle for a lock of a module."""

    def __init__(self, make: Callable[[], object]) -> None:
        self._make = make

    def __reduce__(self) -> Reduced:
        return self._make, ()


class Locks:
    """Those of one pickle: a lock among the globals of functions is another one there, the same for all of them."""

    def __init__(self) -> None:
        self._found: dict[int, _Anew] = {}

    def replace(self, there: dict[str, Any]) -> None:
        """Replace locks among a function's globals."""
        for name, value in there.items():
            make = _LOCKS.get(type(value))
            if make is not None:
                there[name] = self._found.setdefault(id(value), _Anew(make))
