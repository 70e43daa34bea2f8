"""Pickling functions and their arguments on the client."""

import collections
import enum
import functools
import hashlib
import io
import pickle
import sys
import threading
import types
import uuid
import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from msgspec import Struct, structs

from pilotmtc.errors import UsageError
from pilotmtc.executor.future import NotByItself, PilotFuture, Pool, StoredValue
from pilotmtc.executor.pickling.loading import Bytes
from pilotmtc.executor.pickling.modules import ShippedModules
from pilotmtc.executor.pickling.namespaces import Namespaces
from pilotmtc.executor.pickling.reductions import ALWAYS, OF_FUNCTIONS, Cache, Locks, reduce_cache
from pilotmtc.executor.pickling.snapshots import Snapshot
from pilotmtc.executor.pickling.sources import NeededSources, WithSources
from pilotmtc.executor.texts import name_of
from pilotmtc.model import INLINE_BYTES, Value
from pilotmtc.pickled import digest_of, dump_value, size_of

_SCALARS = frozenset({int, float, complex, bool, str, bytes, type(None)})
_LISTS = frozenset({tuple, list, set, frozenset})
_STAND_IN = print  # where something of its kind must be in a pickle that is only compared
_NO_FILE = ("<dynamic-code>",)  # what cloudpickle has instead of a file's name
_NOTES = frozenset({"__slotnames__", "__firstlineno__", "__static_attributes__"})  # that Python makes in classes
_MADE = 6  # parts of how cloudpickle reduces a function by value
_PROGRAM = uuid.uuid4().hex  # tells this program from others
_LOOKED_AT = 100  # values among arguments; more are left to cloudpickle, which is as fast with many
_LARGE_BYTES = 64 * 1024  # a function that needs longer to pickle than its call takes
_KEPT = (types.FunctionType, types.BuiltinFunctionType, type)  # what other callables hold may change between calls


class Blob(Struct, frozen=True):
    """A value that is kept by itself: its name, its parts, and how many bytes these have."""

    digest: str
    parts: Sequence[Bytes]
    size: int


class PickledCall(Struct, frozen=True):
    """The arguments of a call: as they are sent, and what they refer to.

    Attributes
    ----------
    blob
        Them, if they are too long for the row of their task.
    identity
        See `pilotmtc.model.Call`.
    """

    args: Value
    blob: Blob | None = None
    inputs: tuple[PilotFuture[Any], ...] = ()
    values: tuple[str, ...] = ()
    identity: bytes = b""


class PickledFunction(Struct, frozen=True):
    """A function.

    Attributes
    ----------
    name
        What to call it.
    fixed
        Whether the name tells it from others: it is not made anew while the program runs, and holds nothing.
    identity
        By what another program knows it again, if that is wanted.
    """

    name: str
    blob: Blob
    fixed: bool
    identity: str = ""


class _Known(NamedTuple):
    of: weakref.ref[Any]
    pickled: PickledFunction
    snapshot: Snapshot


class Pickler:
    """Pickles what the calls of one pool need. Threads may share it.

    Parameters
    ----------
    name
        The pool's, if it has one: calls are then known again by another program.
    memo
        They are by one of another name as well, if their functions do the same.
    """

    def __init__(self, pool: Pool, modules: ShippedModules, *, name: str = "", memo: bool = False) -> None:
        self._pool = pool
        self._known_again = bool(name) or memo
        self._memo = memo
        self._key = name or _PROGRAM
        self._modules = modules
        self._known: dict[int, _Known] = {}
        self._lock = threading.Lock()

    def function(self, function: Callable[..., object], *, looked_into: bool = False) -> PickledFunction:
        """Return a function pickled with its code, and with what it refers to as that is now.

        Parameters
        ----------
        looked_into
            Do not take it for unchanged because what it refers to is large: this is for many calls.
        """
        known = self._known.get(id(function))
        if (
            known is not None
            and known.of() is function
            and (known.snapshot.steady or (known.pickled.blob.size > _LARGE_BYTES and not looked_into))
            and known.snapshot.holds()
        ):
            return known.pickled
        snapshot = Snapshot(function, self._modules.travels)  # before it is pickled: a change meanwhile is seen later
        same = self.meaning(function) if self._memo else ""
        pickled = PickledFunction(name_of(function), self.alone(function), _is_fixed(function), same)
        if isinstance(function, _KEPT):
            key, table = id(function), self._known
            with self._lock:
                table[key] = _Known(weakref.ref(function, lambda _: table.pop(key, None)), pickled, snapshot)
        return pickled

    def alone(self, value: object) -> Blob:
        """Return a pickled function, or things that hold functions, which are to be made as if they were imported."""
        needed = NeededSources(self._modules)
        dumps = functools.partial(self._dumps, kind=_Kind.FUNCTIONS, needed=needed)
        parts = dump_value(value, dumps)
        sources = needed.read()
        return _blob(dump_value(WithSources(sources, value), dumps) if sources else parts)

    def meaning(self, value: object) -> str:
        """Return by what another program knows functions again that do the same; see `alone`."""
        return digest_of(dump_value(value, functools.partial(self._dumps, kind=_Kind.MEANING)))

    def call(self, args: Sequence[object], kwargs: dict[str, object]) -> PickledCall:
        """Return the arguments of a call."""
        plain = _is_plain(args, kwargs)
        if plain is _Plain.SCALARS:
            data = pickle.dumps((args, kwargs), 5)
            size = len(data)
            return PickledCall(Value(data, "", size)) if size <= INLINE_BYTES else _with_blob([data])
        if plain is _Plain.ARRAYS:
            return _with_blob(dump_value((args, kwargs)))
        found = self._call(args, kwargs)
        return structs.replace(found, identity=identity((args, kwargs))) if self._known_again else found

    def _call(self, args: Sequence[object], kwargs: dict[str, object]) -> PickledCall:
        if not any(isinstance(value, PilotFuture | StoredValue) for value in (*args, *kwargs.values())):
            try:
                return _with_blob(dump_value((args, kwargs), self._dump_value))
            except NotByItself:  # there is one further inside
                pass
        return self._with_references((args, kwargs))

    def value(self, value: object) -> Blob:
        """Return a value for `put`: fast if it is plain."""
        if _is_plain((value,), {}) is not _Plain.NO:
            return _blob(dump_value(value))
        return _blob(dump_value(value, self._dump_value))

    def _dump_value(self, value: object, **more: Any) -> bytes:
        return self._dumps(value, kind=_Kind.VALUES, **more)

    def _dumps(self, value: object, *, kind: "_Kind", **more: Any) -> bytes:
        with self._modules.by_value():
            file = io.BytesIO()
            _kinds()[kind](file, "" if kind is _Kind.MEANING else self._key, self._modules, **more).dump(value)
        return file.getvalue()

    def _with_references(self, value: object) -> PickledCall:
        """Pickle what holds futures or stored values: as persistent ids ``("input", 0)`` and ``("value", DIGEST)``."""
        references = _References(self._pool)

        def dumps(value: object, **more: Any) -> bytes:
            with self._modules.by_value():
                file = io.BytesIO()
                _kinds()[_Kind.WITH_REFERENCES](file, self._key, self._modules, references, **more).dump(value)
            return file.getvalue()

        found = _with_blob(dump_value(value, dumps))
        return structs.replace(found, inputs=tuple(references.inputs), values=tuple(references.values))


def identity(arguments: object) -> bytes:
    """Return by what to know arguments again, in another program too; empty if only their pickle tells.

    Classes and functions count by their names: their pickles have lines of source in them, and random numbers.
    """
    file = io.BytesIO()
    try:
        _IdentityPickler(file, 5).dump(arguments)
    except Exception:  # noqa: BLE001 -- whatever pickle cannot do, cloudpickle has done
        return b""
    return hashlib.sha256(file.getvalue()).digest()


class _IdentityPickler(pickle.Pickler):
    def reducer_override(self, found: object) -> Any:
        if isinstance(found, types.FunctionType) and not _is_fixed(found):
            held = [cell.cell_contents for cell in found.__closure__ or ()]
            return _STAND_IN, (_text_of(found.__code__), held, found.__defaults__, found.__kwdefaults__)
        if isinstance(found, type | types.FunctionType):
            return _STAND_IN, (f"{found.__module__}.{found.__qualname__}",)
        if isinstance(found, types.ModuleType):
            return _STAND_IN, (found.__name__,)
        if isinstance(found, PilotFuture):  # which one it is, is compared apart from this
            return _STAND_IN, ("input",)
        if isinstance(found, StoredValue):
            return _STAND_IN, (found.digest,)
        return NotImplemented


def _text_of(code: types.CodeType) -> str:
    """Return what code does, without the place in which it was written."""
    consts = [_text_of(const) if isinstance(const, types.CodeType) else const for const in code.co_consts]
    return repr((code.co_code, code.co_names, consts))


def _anywhere(code: types.CodeType) -> types.CodeType:
    """Return code without the place in which it was written; it is only to be compared."""
    consts = tuple([_in_order(const) for const in code.co_consts])
    return code.replace(co_filename="", co_firstlineno=1, co_linetable=b"", co_consts=consts)


def _in_order(value: Any) -> Any:
    """Return what stands for a set, whose order is another in each program; or the value."""
    return ("set", *sorted(map(repr, value))) if type(value) in {set, frozenset} else value


def _is_fixed(function: object) -> bool:
    if isinstance(function, Cache):
        return _is_fixed(function.__wrapped__)
    if isinstance(function, types.FunctionType):
        inner = getattr(function, "__wrapped__", None)
        if inner is not None:  # as that of `map` with chunks
            return _is_fixed(inner)
        return function.__closure__ is None and not {"<locals>", "<lambda>"} & set(function.__qualname__.split("."))
    return isinstance(function, types.BuiltinFunctionType) and isinstance(function.__self__, types.ModuleType | None)


class _References:
    """What arguments refer to: futures, by their places, and stored values."""

    def __init__(self, pool: Pool) -> None:
        self.inputs: dict[PilotFuture[Any], int] = {}
        self.values: dict[str, None] = {}
        self._pool = pool

    def id_of(self, found: object) -> tuple[str, int | str] | None:
        """Return the persistent id of a future or a stored value; None for anything else."""
        if not isinstance(found, PilotFuture | StoredValue):
            return None
        if found.pool is not self._pool:
            raise UsageError(f"{found!r} is of another pool: give its result, or put the value into this pool")
        if isinstance(found, StoredValue):
            self.values[found.digest] = None
            return "value", found.digest
        return "input", self.inputs.setdefault(found, len(self.inputs))


class _Kind(enum.Enum):
    VALUES = 0
    WITH_REFERENCES = 1
    FUNCTIONS = 2
    MEANING = 3


@functools.cache
def _kinds() -> dict[_Kind, Any]:
    """Return cloudpickle's pickler as it is wanted here, in its kinds."""
    import cloudpickle  # type: ignore[import-untyped]

    reduce_code = cloudpickle.Pickler.dispatch_table[types.CodeType]
    reduce_module = cloudpickle.Pickler.dispatch_table[types.ModuleType]

    def reduce_code_with_file(code: types.CodeType) -> tuple[Any, tuple[object, ...]]:
        """Keep the name of the file, which cloudpickle leaves out: tracebacks then have lines of source where it is.

        As a copy: where a module was compiled, and not read from its .pyc, its `__file__` is the same object, which the
        pickle would say, so that the next program would take the function for a changed one.
        """
        make, args = reduce_code(code)
        return make, tuple([code.co_filename[:1] + code.co_filename[1:] if word in _NO_FILE else word for word in args])

    def with_slots(kind: type, made: Any) -> Any:
        """Let a class keep its slots: cloudpickle makes it without, and then its objects do not fit ours."""
        if not isinstance(made, tuple):
            return made
        make, args, *state = made
        if make is not cloudpickle.cloudpickle._make_skeleton_class:
            return made
        meta, name, bases, names, *rest = args
        return make, (meta, name, bases, names | {"__slots__": vars(kind)["__slots__"]}, *rest), *state

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # it has no types
        dispatch_table = collections.ChainMap(
            {types.CodeType: reduce_code_with_file, **ALWAYS}, cloudpickle.Pickler.dispatch_table
        )

        def __init__(self, file: io.BytesIO, key: str, modules: ShippedModules, **more: Any) -> None:
            super().__init__(file, **more)
            self._spaces = Namespaces(key)
            self._locks = Locks()
            self._modules = modules

        def by_value(self, found: types.FunctionType) -> None:
            """Take note that a function travels by value."""

        def reducer_override(self, found: object) -> Any:
            if isinstance(found, Cache) and self._modules.travels(found):
                return reduce_cache(found)
            if isinstance(found, types.ModuleType):
                made = reduce_module(found)
                if made[0] is cloudpickle.cloudpickle.dynamic_subimport:
                    self._locks.replace(made[1][1])
                return made
            made = super().reducer_override(found)
            if isinstance(found, types.FunctionType) and isinstance(made, tuple) and len(made) == _MADE:
                self._locks.replace(made[2][1]["__globals__"])
                self.by_value(found)
                return self._spaces.reduced(found, made)
            if isinstance(found, type) and "__slots__" in vars(found) and not issubclass(found, tuple):
                return with_slots(found, made)
            return made

    class ReferencePickler(Pickler):
        def __init__(
            self, file: io.BytesIO, key: str, modules: ShippedModules, references: _References, **more: Any
        ) -> None:
            super().__init__(file, key, modules, **more)
            self._references = references

        def persistent_id(self, found: object) -> tuple[str, int | str] | None:
            return self._references.id_of(found)

    class FunctionPickler(Pickler):
        dispatch_table = collections.ChainMap(OF_FUNCTIONS, *Pickler.dispatch_table.maps)

        def __init__(
            self, file: io.BytesIO, key: str, modules: ShippedModules, needed: NeededSources, **more: Any
        ) -> None:
            super().__init__(file, key, modules, **more)
            self._needed = needed

        def by_value(self, found: types.FunctionType) -> None:
            self._needed.add(found)

    class MeaningPickler(Pickler):
        """Leaves out where code is written, what Python notes in classes, and the numbers that tell these apart."""

        dispatch_table = collections.ChainMap(
            {types.CodeType: lambda code: reduce_code(_anywhere(code))},
            OF_FUNCTIONS,
            *Pickler.dispatch_table.maps,
        )

        def reducer_override(self, found: object) -> Any:
            made = super().reducer_override(found)
            number = (
                cloudpickle.cloudpickle._DYNAMIC_CLASS_TRACKER_BY_CLASS.get(found) if isinstance(found, type) else ""
            )
            if not number or not isinstance(made, tuple):
                return made
            make, args, (state, slots), *rest = made
            kept = {name: _in_order(value) for name, value in state.items() if name not in _NOTES}
            return make, tuple(["" if word is number else word for word in args]), (kept, slots), *rest

    return {
        _Kind.VALUES: Pickler,
        _Kind.WITH_REFERENCES: ReferencePickler,
        _Kind.FUNCTIONS: FunctionPickler,
        _Kind.MEANING: MeaningPickler,
    }


def _blob(parts: Sequence[Bytes]) -> Blob:
    return Blob(digest_of(parts), parts, size_of(parts))


def _with_blob(parts: Sequence[Bytes]) -> PickledCall:
    size = size_of(parts)
    if size <= INLINE_BYTES:
        return PickledCall(Value(b"".join(parts), "", size))
    # They are sent later: what the caller may change until then must be what it is now.
    blob = _blob([bytes(part) for part in parts])
    return PickledCall(Value(digest=blob.digest, size=size), blob)


class _Plain(enum.Enum):
    NO = 0
    SCALARS = 1  # and lists of them, and the like
    ARRAYS = 2  # among them


def _is_plain(args: Sequence[object], kwargs: dict[str, object]) -> _Plain:
    """Return whether `pickle` pickles arguments as cloudpickle would, without its costs."""
    todo: list[Any] = [*args, *kwargs.values()] if kwargs else list(args)
    found = _Plain.SCALARS
    seen = 0
    for value in todo:  # which grows
        kind = type(value)
        if kind in _SCALARS:
            continue
        if kind in _LISTS or kind is dict:
            seen += len(value)
            if seen > _LOOKED_AT:
                return _Plain.NO
            todo += value if kind is not dict else (*value, *value.values())
        elif kind.__name__ == "ndarray" and kind is sys.modules["numpy"].ndarray and not value.dtype.hasobject:
            found = _Plain.ARRAYS
        else:
            return _Plain.NO
    return found
