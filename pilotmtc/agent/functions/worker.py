"""The program of function workers: settles what can be imported, and becomes a worker, or a rank of a call.

``python worker.py worker|rank CLOUDPICKLE ...`` in the user's Python, which needs the standard library of Python 3.9.
"""

from __future__ import annotations  # for Python 3.9

import os
import sys

TYPE_CHECKING = False  # importing typing would cost an idle worker a megabyte
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any


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
    """Let the pilot's own pilotmtc and cloudpickle be imported, whatever this Python has.

    An older cloudpickle lacks what pickles of a newer one refer to.
    """
    here = os.path.abspath(__file__)
    for _ in range(4):
        here = os.path.dirname(here)
    finder = next(each for each in sys.meta_path if getattr(each, "__name__", "") == "PathFinder")
    sys.meta_path.insert(0, Carried(finder, {"pilotmtc": here, "cloudpickle": cloudpickle}))


def put_library_first() -> None:
    """Let no file of the user's, in the directory of the calls or on PYTHONPATH, be taken for one of Python's modules.

    This program, cloudpickle and what functions use would import it, and run it.
    """
    library = os.path.dirname(os.__file__)
    theirs = [each for each in sys.path if each in (library, os.path.join(library, "lib-dynload"))]
    sys.path[:] = theirs + [each for each in sys.path if each not in theirs]
    for number, finder in enumerate(sys.meta_path):
        if getattr(finder, "__name__", "") == "PathFinder":
            sys.meta_path.insert(number, _Library(finder, theirs))
            break


class _Library:
    """Finds modules of Python's where they are, and those that this Python lacks, such as msvcrt, nowhere."""

    def __init__(self, finder: Any, places: list[str]) -> None:
        self._finder = finder
        self._places = places

    def find_spec(self, name: str, path: object = None, target: object = None) -> Any:
        """Return where the module is; None if it is not one of Python's."""
        if path is not None or name not in getattr(sys, "stdlib_module_names", ()):  # Python 3.9 does not know them
            return None
        spec = self._finder.find_spec(name, self._places)
        if spec is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return spec


def main() -> None:
    """Run a worker, or a rank of a call."""
    kind, cloudpickle, *words = sys.argv[1:]
    if os.path.realpath(sys.path[0]) == os.path.dirname(os.path.realpath(__file__)):
        sys.path[0] = ""  # as in an interactive Python: modules of the directory in which calls run
    put_library_first()
    sys.argv[:] = [""]
    carry(cloudpickle)
    sys.modules["__main__"] = type(sys)("__main__")  # what users' programs find there is theirs
    if kind == "rank":
        from pilotmtc.agent.functions import rank

        rank.run(*words)
    else:
        from pilotmtc.agent.functions import serve

        serve.run(*words)


if __name__ == "__main__":
    main()
