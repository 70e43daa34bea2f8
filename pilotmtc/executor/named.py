"""Functions that a command line names, as ``module:function``: found, and compared with what they will be given."""

import contextlib
import difflib
import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from pilotmtc.errors import UsageError
from pilotmtc.executor.texts import shown
from pilotmtc.system.locale import current_directory

_LISTED = 10
_TRACEBACK_LINES = 10
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_IMPORTLIB = os.path.dirname(importlib.__file__) + os.sep
_P = inspect.Parameter


def find_function(words: str) -> Callable[..., Any]:
    """Return the function that ``MODULE:FUNCTION`` names, also in the current directory, which stays on the path.

    Raises
    ------
    UsageError
        If there is none, or if its module cannot be imported; with the end of the traceback.
    """
    name, _, path = words.partition(":")
    if not name or not path:
        raise UsageError(f"{words!r} names no function: write MODULE:FUNCTION, as in work:simulate")
    if name.endswith(".py") or os.sep in name:
        base = os.path.basename(name).removesuffix(".py")
        where = os.path.dirname(name)
        go = f"cd {where}, and " if where else ""
        raise UsageError(f"{name!r} is a file: {go}name its module, as in {base}:{path}")
    if name.startswith("."):
        raise UsageError(f"{name!r} is relative: name the module from the current directory on")
    found: Any = _module(name)
    at = name
    for part in path.split("."):
        if not hasattr(found, part):
            raise UsageError(f"{at} has no {part!r}: {_meant(part, _callables(found))}")
        found, at = getattr(found, part), f"{at}:{part}" if at == name else f"{at}.{part}"
    if not callable(found):
        raise UsageError(f"{words} is {shown(found)}, which cannot be called: {_meant('', _callables(_module(name)))}")
    if inspect.iscoroutinefunction(found):
        raise UsageError(f"{words} is a coroutine function (async def): give a function that calls asyncio.run with it")
    return found  # type: ignore[no-any-return]  # it can be called


def _module(name: str) -> ModuleType:
    directory = current_directory()
    if directory not in sys.path:
        sys.path.append(directory)  # last: none of its files can be taken for a module of Python's, or of ours
    try:
        with contextlib.redirect_stdout(sys.stderr):
            found = importlib.import_module(name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 -- whatever a user's module does when it is imported
        missing = error.name or "" if isinstance(error, ModuleNotFoundError) else ""
        if missing and f"{name}.".startswith(f"{missing}."):
            where = f"there is no module {missing!r}, neither in {directory} nor installed"
            raise UsageError(f"{where}: {_meant(missing, _modules(directory))}") from None
        raise UsageError(f"{name} cannot be imported:\n{_last_lines(error)}") from None
    _check_shadowed(name.partition(".")[0], directory)
    return found


def _check_shadowed(name: str, directory: str) -> None:
    """Raise `UsageError` if a file of the current directory would be meant, but another one of its name was taken."""
    taken = getattr(sys.modules[name], "__file__", None)
    for own in (os.path.join(directory, f"{name}.py"), os.path.join(directory, name, "__init__.py")):
        if os.path.exists(own) and not (taken and os.path.exists(taken) and os.path.samefile(taken, own)):
            raise UsageError(f"the module {name!r} is {taken or 'one of Python itself'}, not {own}: rename that file")


def _modules(directory: str) -> list[str]:
    try:
        with os.scandir(directory) as entries:
            return sorted(
                entry.name.removesuffix(".py")
                for entry in entries
                if entry.name.removesuffix(".py").isidentifier()
                and (entry.name.endswith(".py") or os.path.exists(os.path.join(entry.path, "__init__.py")))
            )
    except OSError:
        return []


def _callables(found: object) -> list[str]:
    """Return the names of what can be called in a module or class; its own before those that it has imported."""
    names = [name for name in dir(found) if not name.startswith("_") and callable(getattr(found, name, None))]
    module = getattr(found, "__name__", "")
    return sorted(names, key=lambda name: getattr(getattr(found, name), "__module__", "") != module)


def _meant(word: str, there: Sequence[str]) -> str:
    if close := difflib.get_close_matches(word, there, 1):
        return f"did you mean {close[0]!r}?"
    if not there:
        return "there are none here"
    more = ", ..." if len(there) > _LISTED else ""
    return f"there {'is' if len(there) == 1 else 'are'} {', '.join(there[:_LISTED])}{more}"


def _last_lines(error: BaseException) -> str:
    """Return the end of a traceback, without what is pilotmtc's own."""
    found = traceback.extract_tb(error.__traceback__)
    frames = [frame for frame in found if not frame.filename.startswith((_PACKAGE, _IMPORTLIB, "<frozen importlib"))]
    text = "".join([*traceback.format_list(frames), *traceback.format_exception_only(error)])
    return "\n".join(f"    {line}" for line in text.rstrip().splitlines()[-_TRACEBACK_LINES:])


class Parameters:
    """What a function takes, compared with the fields of the rows that it will be given.

    Parameters
    ----------
    words
        What to call it in errors.
    fields
        Names; numbers are places.

    Raises
    ------
    UsageError
        If it does not take them, or needs more.
    """

    def __init__(self, function: Callable[..., object], words: str, fields: Sequence[str]) -> None:
        self.fields = tuple(fields)
        self.places = sum(field.isdecimal() for field in fields)
        self._words = words
        try:
            self._takes: dict[str, _P] | None = dict(inspect.signature(function).parameters)
        except (TypeError, ValueError):  # as of some that are written in C: the call itself will tell
            self._takes = None
        else:
            self._check(self._takes)

    @property
    def texts(self) -> frozenset[str]:
        """The fields for parameters that are annotated as ``str``."""
        if self._takes is None:
            return frozenset()
        by_place = [one for one in self._takes.values() if one.kind in (_P.POSITIONAL_ONLY, _P.POSITIONAL_OR_KEYWORD)]
        taken = dict(zip(map(str, range(1, self.places + 1)), by_place, strict=False)) | self._takes
        return frozenset(field for field in self.fields if field in taken and taken[field].annotation in (str, "str"))

    def _check(self, takes: dict[str, _P]) -> None:
        kinds = {name: one.kind for name, one in takes.items()}
        by_name = [name for name, kind in kinds.items() if kind in (_P.POSITIONAL_OR_KEYWORD, _P.KEYWORD_ONLY)]
        by_place = [name for name, kind in kinds.items() if kind in (_P.POSITIONAL_ONLY, _P.POSITIONAL_OR_KEYWORD)]
        names = self.fields[self.places :]
        if _P.VAR_KEYWORD not in kinds.values():
            for name in names:
                if name not in by_name:
                    self._refuse(name, kinds.get(name), by_name)
        if self.places > len(by_place) and _P.VAR_POSITIONAL not in kinds.values():
            has = f"{self.places} value{'s' * (self.places > 1)} without a name"
            raise UsageError(f"a row has {has}, and {self._words} takes {len(by_place) or 'none'} of these: {self}")
        filled = by_place[: self.places]
        if twice := [name for name in names if name in filled]:
            raise UsageError(f"{twice[0]!r} is given by name, and as a value without one: leave one of them out")
        needed = [
            name
            for name, one in takes.items()
            if one.default is _P.empty and one.kind not in (_P.VAR_POSITIONAL, _P.VAR_KEYWORD)
        ]
        if missing := [name for name in needed if name not in (*filled, *names)]:
            raise UsageError(f"{self._words} needs {', '.join(missing)}, which the rows do not have: {self}")

    def _refuse(self, name: str, kind: Any, by_name: Sequence[str]) -> None:
        if kind is _P.POSITIONAL_ONLY:
            raise UsageError(f"{self._words} takes {name!r} without its name only: give its values behind ':::'")
        close = difflib.get_close_matches(name, by_name, 1)
        hint = f"did you mean {close[0]!r}?" if close else str(self)
        raise UsageError(f"{self._words} takes no parameter {name!r}: {hint}")

    def __str__(self) -> str:
        rows = f"the rows have {', '.join(self.fields[self.places :]) or 'no names'}"
        if not self._takes:
            return f"it takes no parameters, and {rows}"
        return f"it takes {', '.join(map(_word, self._takes.values()))}, and {rows}"


def _word(one: _P) -> str:
    """Return a parameter as its function has it, without annotation."""
    stars = "**" if one.kind is _P.VAR_KEYWORD else "*" * (one.kind is _P.VAR_POSITIONAL)
    return f"{stars}{one.name}" if one.default is _P.empty else f"{stars}{one.name}={shown(one.default)}"
