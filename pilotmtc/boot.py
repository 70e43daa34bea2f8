"""Starting pilotmtc's programs where no file of the user's can be taken for a module: ``boot.py MODULE WORDS``.

A directory on the path, the current one or one of ``PYTHONPATH``, may hold a ``random.py`` or a ``queue.py``, which
would be imported, and run, in the place of Python's own. So Python is told to look at neither (``-P``, ``-E``).
``PYTHONPATH`` stays in the environment, for tasks. Its directories come last on the path here, for at some sites it is
the only way to the libraries.
"""

import os
import sys  # nothing else before the path is settled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec, PathFinder
    from types import ModuleType

_STANDARD = os.path.dirname(os.path.realpath(os.__file__))
_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def program(module: str, *words: str) -> list[str]:
    """Return the command that runs `module`, as ``python -m`` would, with `words`."""
    return [sys.executable, "-E", "-P", os.path.abspath(__file__), module, *words]


def settle_path() -> None:
    """Put Python's own modules before all others, this pilotmtc before other libraries, and what the user adds last."""
    words = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    added = [os.path.abspath(word) for word in words if os.path.isabs(word)]
    here = [] if sys.flags.safe_path else ["", _directory()]
    first: list[str] = []
    between = [_ROOT]
    last: list[str] = []
    for entry in [*sys.path, *added]:
        if _is_standard(entry):
            group = first
        elif entry in added or entry in here:
            group = last
        else:
            group = between
        if entry not in (*first, *between, *last):
            group.append(entry)
    sys.path[:] = [*first, *between, *last]
    for number, finder in enumerate(sys.meta_path):
        if getattr(finder, "__name__", "") == "PathFinder":
            sys.meta_path.insert(number, _Ours(finder, first, [*first, *between]))  # type: ignore[arg-type]
            break


def _directory() -> str:
    try:
        return os.getcwd()
    except OSError:  # it has been removed: nothing can come from there, and commands say so
        return ""


def _is_standard(entry: str) -> bool:
    name = os.path.basename(entry)
    return name == "lib-dynload" or (name.startswith("python") and name.endswith(".zip")) or _is_library(entry)


def _is_library(entry: str) -> bool:
    return bool(entry) and os.path.realpath(entry) == _STANDARD


class _Ours:
    """Finds Python's own modules where they are, those that it lacks nowhere, and libraries where we have them.

    The order on the path alone does not do that: a package without ``__init__.py`` gives way to any file of its name.
    """

    def __init__(self, finder: "type[PathFinder]", standard: list[str], ours: list[str]) -> None:
        self._finder = finder
        self._standard = standard
        self._ours = ours

    def find_spec(
        self, name: str, path: "Sequence[str] | None" = None, target: "ModuleType | None" = None
    ) -> "ModuleSpec | None":
        """Return where the module is; None if it is not here."""
        if path is not None:
            return None
        if name == "typing_extensions" and _msgspec_asks():
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        standard = name in sys.stdlib_module_names
        spec = self._finder.find_spec(name, self._standard if standard else self._ours)
        if spec is None and standard:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return spec


def _msgspec_asks() -> bool:
    """Return whether msgspec is being imported, for which Python's own typing does as well.

    With typing_extensions come inspect, ast and dis: a twelfth of the start of each program, and 2 MB.
    """
    asking = sys.modules.get("msgspec._utils")
    return asking is not None and not hasattr(asking, "get_type_hints")


if __name__ == "__main__":
    settle_path()
    del sys.argv[0]
    import runpy

    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
