"""Which modules travel with the functions that need them, because workers cannot import them."""

import contextlib
import importlib
import os
import site
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from types import ModuleType

from pilotmtc.errors import UsageError, shown

_MAIN = ("__main__", "__mp_main__")
_NEVER = frozenset({*_MAIN, "pilotmtc", "pilotmtc_adaptors", "cloudpickle"})
_SHARED = ("site-packages", "dist-packages")
_lock = threading.RLock()  # cloudpickle's list of such modules belongs to the process


class ShippedModules:
    """The modules that a pool sends by value.

    Parameters
    ----------
    ship
        True: those that are not installed, and so lie outside site-packages and the standard library. A list of
        modules or of their names: these, too. False: none but ``__main__``, which no worker could import.
    """

    def __init__(self, ship: bool | Sequence[ModuleType | str]) -> None:
        self._automatic = ship is not False
        self._named = () if isinstance(ship, bool) else tuple(map(_module_name, _listed(ship)))
        self._local: dict[str, bool] = {}
        self._seen = 0
        self._found: list[str] = []

    @contextlib.contextmanager
    def by_value(self) -> Iterator[None]:
        """Let cloudpickle pickle the modules by value meanwhile."""
        import cloudpickle  # type: ignore[import-untyped]

        with _lock:
            there = cloudpickle.list_registry_pickle_by_value()
            added = [sys.modules[name] for name in self._names() if name not in there]
            for module in added:
                cloudpickle.register_pickle_by_value(module)
            try:
                yield
            finally:
                for module in added:
                    cloudpickle.unregister_pickle_by_value(module)

    def travels(self, found: object) -> bool:
        """Return whether a module, a function or a class is sent by value."""
        if isinstance(found, ModuleType):
            return self._ships(found.__name__)
        module = getattr(found, "__module__", None)
        if not isinstance(module, str) or module in _MAIN or self._ships(module):
            return True
        there: object = sys.modules.get(module)
        for name in getattr(found, "__qualname__", "").split("."):
            there = getattr(there, name, None)
        return there is not found  # as of functions within functions

    def travel_from(self, module: str, places: Sequence[str]) -> bool:
        """Return whether a module that is in those places, and need not be imported yet, is sent."""
        top = module.partition(".")[0]
        if not self._automatic or top in _NEVER or not places:
            return False
        return any(module == name or module.startswith(f"{name}.") for name in self._named) or not any(
            _is_installed(place) for place in places
        )

    def _ships(self, module: str) -> bool:
        with _lock:
            names = self._names()
        parts = module.split(".")
        return any(".".join(parts[:count]) in names for count in range(1, len(parts) + 1))

    def _names(self) -> list[str]:
        """Return the names of the modules; that of a package stands for all that is in it."""
        if self._automatic and self._seen != len(sys.modules):
            there = dict(sys.modules)
            self._seen = len(there)
            tops = [name for name in there if "." not in name or name.partition(".")[0] not in there]
            for name in tops:
                if name not in self._local:
                    self._local[name] = name not in _NEVER and _is_local(there[name])
            self._found = [name for name in tops if self._local[name]]
        return [name for name in {*self._named, *self._found} if name in sys.modules]


def _listed(ship: Sequence[ModuleType | str]) -> Sequence[ModuleType | str]:
    if isinstance(ship, str | ModuleType) or not isinstance(ship, Iterable):
        raise UsageError(f"ship={shown(ship)} is one value: give a list, as in ship=[{shown(ship)}]; or True, or False")
    return ship


def _module_name(module: ModuleType | str) -> str:
    if isinstance(module, str):
        try:
            return importlib.import_module(module).__name__
        except ImportError as error:
            raise UsageError(f"ship names the module {module!r}, which cannot be imported here: {error}") from error
    if isinstance(module, ModuleType):
        return module.__name__
    raise UsageError(f"ship holds {shown(module)}, which is neither a module nor a module's name")


def _is_local(module: ModuleType) -> bool:
    """Return whether a worker's Python, where other things are installed, would not find a module."""
    file = getattr(module, "__file__", None)
    places = [file] if isinstance(file, str) else list(getattr(module, "__path__", []))
    if not places or not all(isinstance(place, str) for place in places):
        return False  # built in
    return not any(_is_installed(place) for place in places)


def _is_installed(place: str) -> bool:
    path = os.path.abspath(place)
    if path.endswith((".so", ".pyd")):  # no code that could travel
        return True
    return any(part in _SHARED for part in path.split(os.sep)) or path.startswith(_installed())


def _installed() -> tuple[str, ...]:
    """Return the directories of the standard library, and of packages, with a slash at the end."""
    found = [os.path.dirname(os.__file__), os.path.dirname(os.path.realpath(os.__file__))]
    if site.ENABLE_USER_SITE:
        found.append(site.getusersitepackages())
    return tuple([os.path.join(directory, "") for directory in found])
