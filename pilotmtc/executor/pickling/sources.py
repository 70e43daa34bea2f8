"""The modules that functions import only when they run: their source travels, if workers have no other.

What a function uses of the modules that its own module has imported travels by value. An ``import`` within a function
has not happened yet, and wants a module.
"""

import ast
import contextlib
import dis
import functools
import importlib.machinery
import sys
import tokenize
import types
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias

from pilotmtc import worker
from pilotmtc.executor.pickling.modules import ShippedModules

Sources: TypeAlias = dict[str, tuple[str, str, bool]]  # by name: the file, what is in it, whether it is a package
_Imports: TypeAlias = tuple[tuple[str, int, tuple[str, ...]], ...]  # names, how far up, what of them


class WithSources:
    """Stands in a pickle for what needs these modules."""

    def __init__(self, sources: Sources, found: object) -> None:
        self._sources = sources
        self._found = found

    def __reduce__(self) -> tuple[Any, ...]:
        return worker.with_modules, (self._sources, self._found)


class NeededSources:
    """Collects the modules that the functions of one pickle may import."""

    def __init__(self, modules: ShippedModules) -> None:
        self._modules = modules
        self._names: set[str] = set()

    def add(self, function: types.FunctionType) -> None:
        """Add those of a function that travels by value."""
        imports = _imports_of(function.__code__)
        if imports:
            self._names.update(_absolute(imports, function.__globals__.get("__package__") or ""))

    def read(self) -> Sources:
        """Return them, and those that they import in turn, as far as they travel."""
        found: Sources = {}
        todo = sorted(self._names)
        seen = set(todo)
        while todo:
            name = todo.pop()
            spec = _spec(name)
            if spec is None or not self._modules.travel_from(name, _places(spec)):
                continue
            file = spec.origin if spec.has_location and spec.origin else ""
            is_package = spec.submodule_search_locations is not None
            text = ""
            if file:
                with contextlib.suppress(OSError, SyntaxError, UnicodeDecodeError), tokenize.open(file) as stream:
                    text = stream.read()
            found[name] = file, text, is_package
            package = name if is_package else name.rpartition(".")[0]
            new = set(_absolute(_imports_in(text), package)) - seen
            seen |= new
            todo += sorted(new)
        return dict(sorted(found.items()))


def _absolute(imports: _Imports, package: str) -> Iterator[str]:
    """Yield the full names of what may be modules, with the packages that they are in."""
    for name, level, of_it in imports:
        parts = package.split(".")
        if level > len(parts) or (level and not package):
            continue
        begin = parts[: len(parts) - level + 1] if level else []
        whole = [*begin, *name.split(".")] if name else begin
        if not level and whole[0] in sys.stdlib_module_names:
            continue
        for count in range(1, len(whole) + 1):
            yield ".".join(whole[:count])
        for one in of_it:
            if one != "*":
                yield ".".join([*whole, one])


@functools.lru_cache(maxsize=10_000)
def _imports_of(code: types.CodeType) -> _Imports:
    """Return what code imports when it runs."""
    found: list[tuple[str, int, tuple[str, ...]]] = []
    steps = [step for step in dis.get_instructions(code) if step.opname != "EXTENDED_ARG"]
    for at, step in enumerate(steps):
        if step.opname == "IMPORT_NAME":
            level, of_it = steps[at - 2].argval, steps[at - 1].argval
            found.append((str(step.argval), level if isinstance(level, int) else 0, tuple(of_it or ())))
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            found += _imports_of(const)
    return tuple(found)


def _imports_in(text: str) -> _Imports:
    """Return what a module imports, at any time."""
    try:
        nodes: Iterable[ast.AST] = ast.walk(ast.parse(text))
    except (SyntaxError, ValueError):  # whoever imports it will be told
        return ()
    found: list[tuple[str, int, tuple[str, ...]]] = []
    for node in nodes:
        if isinstance(node, ast.Import):
            found += [(name.name, 0, ()) for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.module or "", node.level, tuple([name.name for name in node.names])))
    return tuple(found)


def _spec(name: str) -> importlib.machinery.ModuleSpec | None:
    """Return where a module is, without importing any."""
    module = sys.modules.get(name)
    if module is not None:
        return getattr(module, "__spec__", None)
    path: Sequence[str] | None = None
    spec = None
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        spec = importlib.machinery.PathFinder.find_spec(".".join(parts[:count]), path)
        if spec is None:
            return None
        path = spec.submodule_search_locations or ()
    return spec


def _places(spec: importlib.machinery.ModuleSpec) -> list[str]:
    if spec.has_location and spec.origin:
        return [spec.origin]
    return list(spec.submodule_search_locations or ())
