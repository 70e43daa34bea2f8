"""For functions that run in workers: what lives as long as the worker does, from call to call.

::

    from pilotmtc import worker

    def work(x):
        model = worker.cached(load_model, "m.npz")  # loaded by the first call in each worker
        return model.predict(x)

It needs the standard library of Python 3.9, and works anywhere: outside of a worker, what it keeps lives as long as the
process.
"""

from __future__ import annotations  # for Python 3.9

TYPE_CHECKING = False  # importing typing would cost an idle worker a megabyte
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from types import FunctionType
    from typing import Any, ParamSpec, TypeVar

    P = ParamSpec("P")
    T = TypeVar("T")

__all__ = ["cached", "state"]


class State:
    """A namespace: set and read any attribute."""

    def __repr__(self) -> str:
        return f"<state of this worker: {', '.join(sorted(vars(self))) or 'empty'}>"

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...
        def __setattr__(self, name: str, value: Any) -> None: ...


state = State()
_found: dict[Hashable, object] = {}
_namespaces: dict[str, dict[str, Any]] = {}
_sources: dict[str, tuple[str, str, bool]] = {}


def cached(loader: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return ``loader(*args, **kwargs)``, which is called once in each worker for the same arguments.

    Raises
    ------
    TypeError
        If an argument cannot be a key of a dictionary, as a list cannot.
    """
    key = (_identity(loader), args, tuple(sorted(kwargs.items())))
    try:
        if key not in _found:
            _found[key] = loader(*args, **kwargs)
    except TypeError as error:
        if _is_hashable(key):
            raise
        raise TypeError(
            f"the arguments of cached() must be hashable, to tell whether they are the same: {error}"
        ) from None
    return _found[key]  # type: ignore[return-value]


def _identity(loader: Callable[..., object]) -> Hashable:
    """Return what tells loaders apart: of a function what it does, as each call may bring a copy of it."""
    code = getattr(loader, "__code__", None)
    if code is None or getattr(loader, "__self__", None) is not None:
        return loader
    cells = getattr(loader, "__closure__", None) or ()
    try:
        whole = (code, loader.__module__, tuple([cell.cell_contents for cell in cells]), loader.__defaults__)
    except ValueError:  # a cell that is empty
        return loader
    return whole if _is_hashable(whole) else loader


def _is_hashable(key: Hashable) -> bool:
    try:
        hash(key)
    except TypeError:
        return False
    return True


def namespace(key: str, initial: dict[str, Any]) -> dict[str, Any]:
    """Return the globals of a module of the user's, whose functions come by value: they share them as they do there."""
    return _namespaces.setdefault(key, initial)


def restore(function: FunctionType, state: tuple[tuple[Any, dict[str, Any]], tuple[str, ...]]) -> None:
    """Give a function that has come by value its state.

    Parameters
    ----------
    state
        That of cloudpickle, and globals that functions set: these are left as they are here.
    """
    from cloudpickle.cloudpickle import _function_setstate  # type: ignore[import-untyped]

    found, set_here = state
    there, slots = function.__globals__, found[1]
    brought = slots["__globals__"]
    slots["__globals__"] = {name: brought[name] for name in brought if name not in set_here or name not in there}
    _function_setstate(function, found)


def with_modules(sources: dict[str, tuple[str, str, bool]], found: T) -> T:
    """Let `found` import these modules, as far as this Python has no others of their names, and return it.

    Parameters
    ----------
    sources
        By the name of a module: its file where it comes from, what is in that, and whether it is a package.
    """
    import sys

    if not any(isinstance(finder, _Brought) for finder in sys.meta_path):
        sys.meta_path.append(_Brought())
    for name, source in sources.items():
        if _sources.get(name, source) != source:  # it was edited, or another program has another one
            there = sys.modules.get(name)
            if isinstance(getattr(there, "__loader__", None), _Brought):
                del sys.modules[name]
        _sources[name] = source
    return found


class _Brought:
    """Finds and loads modules whose source has come with functions."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> Any:
        if name not in _sources:
            return None
        from importlib.machinery import ModuleSpec

        file, _, is_package = _sources[name]
        spec = ModuleSpec(name, self, origin=file or None, is_package=is_package)  # type: ignore[arg-type]
        spec.has_location = bool(file)
        return spec

    def create_module(self, spec: object) -> None:
        """Let Python make it."""

    def exec_module(self, module: Any) -> None:
        file, text, _ = _sources[module.__name__]
        exec(compile(text, file or f"<{module.__name__}>", "exec", dont_inherit=True), module.__dict__)

    def get_source(self, name: str) -> str:
        """Return the source, for the lines of tracebacks."""
        return _sources[name][1]
