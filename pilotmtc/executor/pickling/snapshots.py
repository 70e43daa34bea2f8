"""What a function refers to, so that it is seen when that has changed.

In a notebook a helper is defined anew, or a parameter is set to another value, and the function that uses it is the
same object as before. What workers are sent must be what the user sees.
"""

import dis
import functools
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, MethodDescriptorType, ModuleType
from typing import Any, TypeAlias

Travels: TypeAlias = Callable[[object], bool]
_NONE = object()  # in the place of what is not there
_GONE = object()  # in the place of what was there
_FIXED = (int, float, complex, bool, str, bytes, type(None), BuiltinFunctionType, MethodDescriptorType, range)
_WRAPPERS = (staticmethod, classmethod)


class Snapshot:
    """What a function, a class or a module holds that travels with it by value, and what that holds in turn.

    Parameters
    ----------
    travels
        Whether a function, a class or a module travels by value.

    Attributes
    ----------
    steady
        Whether `holds` sees all changes. It does not see those in the place of an object, such as a list.
    """

    def __init__(self, root: object, travels: Travels) -> None:
        self.steady = True
        self._travels = travels
        self._functions: list[tuple[weakref.ref[FunctionType], CodeType, object, object]] = []
        self._names: list[tuple[Mapping[str, object], str, Callable[[], object]]] = []
        self._cells: list[tuple[CellType, Callable[[], object]]] = []
        seen: set[int] = set()
        todo: list[Any] = [root]
        while todo:
            found = todo.pop()
            if id(found) not in seen:
                seen.add(id(found))
                todo += self._look(found)

    def holds(self) -> bool:
        """Return whether all is as it was, as far as can be seen."""
        for of, code, defaults, kwdefaults in self._functions:
            function = of()
            if (
                function is None
                or function.__code__ is not code
                or function.__defaults__ is not defaults
                or function.__kwdefaults__ is not kwdefaults
            ):
                return False
        return all(names.get(name, _NONE) is was() for names, name, was in self._names) and all(
            _content(cell) is was() for cell, was in self._cells
        )

    def _look(self, found: object) -> Iterator[object]:
        """Take down what `found` holds, and yield it."""
        if isinstance(found, _WRAPPERS):
            yield found.__func__
        elif isinstance(found, property):
            yield from (found.fget, found.fset, found.fdel)
        elif isinstance(found, tuple | frozenset):
            yield from found
        elif isinstance(found, FunctionType):
            if self._travels(found):
                yield from self._look_into(found)
        elif isinstance(found, type):
            if self._travels(found):
                yield from found.__bases__
                yield from self._note(vars(found), _own_names(vars(found)))
        elif isinstance(found, ModuleType):
            if self._travels(found):
                yield from self._note(vars(found), _own_names(vars(found)))
        elif found is not _NONE and not isinstance(found, _FIXED):
            self.steady = False

    def _look_into(self, function: FunctionType) -> Iterator[object]:
        defaults, kwdefaults = function.__defaults__, function.__kwdefaults__
        self._functions.append((weakref.ref(function), function.__code__, defaults, kwdefaults))
        yield from defaults or ()
        yield from (kwdefaults or {}).values()
        for cell in function.__closure__ or ():
            content = _content(cell)
            self._cells.append((cell, _keeper(content)))
            yield content
        yield from self._note(function.__globals__, _globals_of(function.__code__))

    def _note(self, names: Mapping[str, object], which: Iterable[str]) -> Iterator[object]:
        for name in which:
            value = names.get(name, _NONE)
            self._names.append((names, name, _keeper(value)))
            yield value


def _keeper(value: object) -> Callable[[], object]:
    """Return what returns the value, without keeping it alive where that is possible."""
    if isinstance(value, _FIXED):
        return lambda: value
    try:
        kept = weakref.ref(value)
    except TypeError:
        return lambda: value

    def was() -> object:
        found = kept()
        return _GONE if found is None else found

    return was


def _content(cell: CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # it is still empty
        return _NONE


def _own_names(names: Mapping[str, object]) -> list[str]:
    """Return the names in a class or a module that its author has given it."""
    return [
        name
        for name, value in list(names.items())
        if not (name.startswith("__") and name.endswith("__")) or isinstance(value, FunctionType | staticmethod)
    ]


@functools.lru_cache(1000)
def _globals_of(code: CodeType) -> tuple[str, ...]:
    """Return the names of the global variables that code uses, and those of functions in it."""
    found = {each.argval for each in dis.get_instructions(code) if each.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    for const in code.co_consts:
        if isinstance(const, CodeType):
            found.update(_globals_of(const))
    return tuple(sorted(found))
