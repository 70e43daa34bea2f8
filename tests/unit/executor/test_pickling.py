"""How functions and their arguments are pickled."""

import functools
import gc
import importlib
import inspect
import io
import os
import pickle
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotmtc import worker
from pilotmtc.errors import UsageError
from pilotmtc.executor.engine.values import _pieces
from pilotmtc.executor.future import PilotFuture, StoredValue
from pilotmtc.executor.pickling.loading import _loads
from pilotmtc.executor.pickling.modules import ShippedModules
from pilotmtc.executor.pickling.pickling import Blob, PickledCall, Pickler, identity
from pilotmtc.model import INLINE_BYTES
from pilotmtc.pickled import load_value


class Nobody:
    """A pool of no calls."""

    def forget(self, future: PilotFuture[Any]) -> None:
        raise AssertionError("nothing is canceled here")


POOL = Nobody()


@pytest.fixture
def pickler() -> Pickler:
    return Pickler(POOL, ShippedModules(True))


def load(call: PickledCall, inputs: dict[int, object] | None = None, values: dict[str, object] | None = None) -> Any:
    """Return the arguments of a call as a worker sees them."""

    class Reader(pickle.Unpickler):
        def persistent_load(self, key: Any) -> object:
            kind, which = key
            return {"input": inputs, "value": values}[kind][which]  # type: ignore[index]

    data = call.args.data or b"".join(call.blob.parts)  # type: ignore[union-attr]
    return load_value(data, lambda data, buffers=None: Reader(io.BytesIO(data), buffers=buffers).load())


def run_elsewhere(blob: Blob, *words: str) -> str:
    """Call a pickled function in a Python that has none of our modules but cloudpickle; return what it prints."""
    script = "import pickle, sys; print(pickle.loads(sys.stdin.buffer.read())(*sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-I", "-c", script, *words], input=b"".join(blob.parts), capture_output=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


SIMPLE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=30,
)


@settings(max_examples=50)
@given(st.lists(SIMPLE, max_size=5), st.dictionaries(st.text(min_size=1), SIMPLE, max_size=3))
def test_plain_arguments_arrive(args: list[object], kwargs: dict[str, object]) -> None:
    call = Pickler(POOL, ShippedModules(True)).call(tuple(args), kwargs)
    assert load(call) == (tuple(args), kwargs)
    assert (call.inputs, call.values) == ((), ())


@pytest.mark.parametrize("size", [3, 1000, 100_000])
def test_arrays_arrive(pickler: Pickler, size: int) -> None:
    (args, _) = load(pickler.call(([np.arange(size)], {"a": np.array([None, "x"])}), {}))
    assert (args[0][0] == np.arange(size)).all()
    assert list(args[1]["a"]) == [None, "x"]


def test_long_arguments_are_kept_by_themselves(pickler: Pickler) -> None:
    call = pickler.call((b"x" * INLINE_BYTES,), {})
    assert call.args.data == b""
    assert call.blob is not None
    assert (call.args.digest, call.args.size) == (call.blob.digest, call.blob.size)
    assert call.args.size > INLINE_BYTES


def test_what_a_caller_changes_afterwards_is_sent_as_it_was(pickler: Pickler) -> None:
    array = np.zeros(100_000)
    call = pickler.call((array,), {})
    array[:] = 1
    assert load(call)[0][0].sum() == 0


def test_futures_and_stored_values_become_references(pickler: Pickler) -> None:
    first: PilotFuture[Any] = PilotFuture(POOL, "f", "1")
    second: PilotFuture[Any] = PilotFuture(POOL, "g", "2")
    stored = StoredValue(POOL, "d" * 64, 3, "int")
    call = pickler.call((first, [second, first]), {"big": {"x": stored}})
    assert call.inputs == (first, second)
    assert call.values == (stored.digest,)
    found = load(call, {0: "one", 1: "two"}, {stored.digest: "big"})
    assert found == (("one", ["two", "one"]), {"big": {"x": "big"}})


def test_references_deep_inside_objects_are_found(pickler: Pickler) -> None:
    future: PilotFuture[Any] = PilotFuture(POOL, "f", "1")
    call = pickler.call((functools.partial(print, [[future]]),), {})
    assert call.inputs == (future,)
    assert load(call, {0: 7})[0][0].args == ([[7]],)


def test_references_to_other_pools_are_refused(pickler: Pickler) -> None:
    other = Nobody()
    with pytest.raises(UsageError, match="of another pool"):
        pickler.call((PilotFuture(other, "f", "1"),), {})
    with pytest.raises(UsageError, match="of another pool"):
        pickler.call(([StoredValue(other, "d" * 64, 1, "int")],), {})


def test_references_cannot_be_pickled_otherwise(pickler: Pickler) -> None:
    future: PilotFuture[Any] = PilotFuture(POOL, "f", "1")
    with pytest.raises(TypeError, match="as an argument of a call of its own pool only"):
        pickle.dumps(future)
    with pytest.raises(TypeError, match="as an argument of a call of its own pool only"):
        pickler.function(lambda: StoredValue(POOL, "d", 1, "int") and future)


def test_arguments_that_cannot_be_pickled(pickler: Pickler) -> None:
    with pytest.raises(TypeError, match="lock"):
        pickler.call((threading.Lock(),), {})


def work(x: str) -> str:
    return x * 2


def test_function_is_pickled_once(pickler: Pickler) -> None:
    assert pickler.function(work) is pickler.function(work)
    assert pickler.function(work).name == "work"


def test_functions_are_not_kept_alive(pickler: Pickler) -> None:
    def local() -> None:
        pass

    pickler.function(local)
    assert id(local) in pickler._known
    key = id(local)
    del local
    gc.collect()
    assert key not in pickler._known


def test_what_a_callable_holds_may_change(pickler: Pickler) -> None:
    class Counter:
        n = 0

        def __call__(self) -> int:
            return self.n

    counter = Counter()
    before = pickler.function(counter).blob.digest
    counter.n = 5
    assert pickler.function(counter).blob.digest != before


def test_function_of_a_module_that_is_not_installed_travels_by_value(pickler: Pickler) -> None:
    assert run_elsewhere(pickler.function(work).blob, "ab") == "abab"


def run_all_elsewhere(*blobs: Blob) -> str:
    """Call pickled functions one after the other in the same Python; return what the last one returns."""
    script = """
        import pickle, sys
        size = sys.argv[1:]
        for n in size:
            last = pickle.loads(sys.stdin.buffer.read(int(n)))()
        print(last)
    """
    done = subprocess.run(
        [sys.executable, "-I", "-c", textwrap.dedent(script), *(str(blob.size) for blob in blobs)],
        input=b"".join(part for blob in blobs for part in blob.parts), capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


model = None
factor = 1


def set_up() -> None:
    global model  # noqa: PLW0603 -- as users write initializers
    model = "loaded"


def use() -> str:
    return f"{model} {factor}"


def test_functions_share_the_globals_of_their_module(pickler: Pickler, monkeypatch: pytest.MonkeyPatch) -> None:
    initializer, before = pickler.alone(set_up), pickler.alone(use)
    assert run_all_elsewhere(before) == "None 1"
    assert run_all_elsewhere(initializer, before) == "loaded 1"
    assert run_all_elsewhere(before, initializer, before) == "loaded 1"
    monkeypatch.setattr(sys.modules[__name__], "factor", 2)  # which no function sets: what it is here counts
    assert run_all_elsewhere(before, initializer, pickler.alone(use)) == "loaded 2"


def test_functions_that_nobody_sets_globals_for_share_none(pickler: Pickler, monkeypatch: pytest.MonkeyPatch) -> None:
    def tell() -> int:
        return factor

    before = pickler.alone(lambda: tell)
    monkeypatch.setattr(sys.modules[__name__], "factor", 2)
    after = pickler.alone(lambda: tell)
    script = """
        import pickle, sys
        first, second = (pickle.loads(sys.stdin.buffer.read(int(n)))() for n in sys.argv[1:])
        print(first(), second())
    """
    done = subprocess.run(
        [sys.executable, "-I", "-c", textwrap.dedent(script), str(before.size), str(after.size)],
        input=b"".join(before.parts) + b"".join(after.parts), capture_output=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout == b"1 2\n"


def test_programs_do_not_share_globals() -> None:
    one, two = (Pickler(POOL, ShippedModules(True), name=name) for name in ("one", "two"))
    assert run_all_elsewhere(one.alone(set_up), two.alone(use)) == "None 1"
    assert run_all_elsewhere(one.alone(set_up), one.alone(use)) == "loaded 1"


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A package and a module beside the user's notebook."""
    package = tmp_path / "mtc_helpers"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "inner.py").write_text("SUFFIX = '!'\n\ndef loud(x):\n    return x.upper() + SUFFIX\n")
    text = """
        import contextvars, functools, threading
        from typing import NamedTuple
        from mtc_helpers import inner

        class Odd(Exception):
            pass

        class Slim:
            __slots__ = ("__hidden", "x")
            def __init__(self, x):
                self.x = self.__hidden = x
            def hidden(self):
                return self.__hidden

        def slim(x):
            return Slim(x)

        class Pair(NamedTuple):
            first: int
            second: int = 2

        def pair(x):
            return Pair(x)

        def work(x):
            return inner.loud(x)

        def fail(x):
            raise Odd(x)

        lock, local, level = threading.RLock(), threading.local(), contextvars.ContextVar("level", default=3)
        plain, event = threading.Lock(), threading.Event()

        def guarded():
            with lock, plain:
                local.x = level.get()
                event.set()
                return local.x

        @functools.lru_cache(maxsize=7)
        def fib(n):
            return n if n < 2 else fib(n - 1) + fib(n - 2)

        class Table:
            @functools.cached_property
            def rows(self):
                return [1, 2]

            @functools.cache
            def row(self, n):
                return self.rows[n]

        def tables():
            return Table().rows, Table().row(1)

        @functools.singledispatch
        def shown(x):
            return "any"

        @shown.register
        def _(x: int):
            return "int"

        def caches():
            return fib(30), fib.cache_info().hits, fib.cache_parameters(), fib.__name__
    """
    (tmp_path / "mtc_notebook.py").write_text(textwrap.dedent(text))
    monkeypatch.syspath_prepend(str(tmp_path))
    import mtc_notebook  # type: ignore[import-not-found]

    yield mtc_notebook
    for name in [name for name in sys.modules if name.startswith(("mtc_notebook", "mtc_helpers"))]:
        del sys.modules[name]


def test_what_it_needs_of_other_such_modules_travels_too(pickler: Pickler, helper: Any) -> None:
    assert run_elsewhere(pickler.function(helper.work).blob, "ab") == "AB!"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A package that is not installed, whose function imports when it runs."""
    files = {
        "__init__": "",
        "work": """
            def late(x):
                import os.path, json
                import mtc_beside
                from . import near
                from .deep.far import Far
                return mtc_beside.Z, near.Y, Far(x).x, near.__file__.endswith("near.py")

            def broken():
                import mtc_broken

            def missing():
                import mtc_missing
        """,
        "near": "from .other import Y",
        "other": "Y = 5",
        "deep/__init__": "__all__ = []",
        "deep/far": "from ..other import *\nclass Far:\n    def __init__(self, x):\n        self.x = x + str(Y)",
        "../mtc_beside": "Z = 1000",
        "../mtc_broken": "Z = (",
    }
    for name, text in files.items():
        path = tmp_path / "mtc_pack" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    monkeypatch.syspath_prepend(str(tmp_path))
    import mtc_pack.work  # type: ignore[import-not-found]

    yield mtc_pack.work
    for name in [name for name in sys.modules if name.startswith("mtc_")]:
        del sys.modules[name]


def test_what_functions_import_when_they_run_travels(pickler: Pickler, package: Any) -> None:
    before = {name for name in sys.modules if name.startswith("mtc_")}
    blob = pickler.function(package.late).blob
    assert {name for name in sys.modules if name.startswith("mtc_")} == before, "they are not imported here for that"
    assert run_elsewhere(blob, "a") == "(1000, 5, 'a5', True)"


def test_sources_travel_as_other_modules_do(pickler: Pickler, package: Any) -> None:
    assert b"Z = 1000" in b"".join(pickler.function(package.late).blob.parts)
    not_wanted = Pickler(POOL, ShippedModules(False)).function(package.late)
    assert b"Z = 1000" not in b"".join(not_wanted.blob.parts)
    with pytest.raises(AssertionError, match="No module named 'mtc_missing'"):
        run_elsewhere(pickler.function(package.missing).blob)
    with pytest.raises(AssertionError, match=r'mtc_broken.py", line 1\n.*Z = \('):
        run_elsewhere(pickler.function(package.broken).blob)


def test_modules_that_have_come_are_replaced_by_newer_ones() -> None:
    source = {"mtc_came": ("/there/mtc_came.py", "X = 1", False)}
    assert worker.with_modules(source, 7) == 7
    import mtc_came  # type: ignore[import-not-found]

    worker.with_modules(source, 7)
    assert sys.modules["mtc_came"] is mtc_came
    worker.with_modules({"mtc_came": ("/there/mtc_came.py", "X = 2", False)}, 7)
    import mtc_came

    assert (mtc_came.X, mtc_came.__file__, inspect.getsource(mtc_came)) == (2, "/there/mtc_came.py", "X = 2\n")
    del sys.modules["mtc_came"]


def test_nothing_travels_if_that_is_not_wanted(helper: Any) -> None:
    pickler = Pickler(POOL, ShippedModules(False))
    blob = pickler.function(helper.work).blob
    assert b"mtc_notebook" in b"".join(blob.parts)
    assert b"loud" not in b"".join(blob.parts)


def test_installed_modules_travel_if_they_are_named() -> None:
    pickler = Pickler(POOL, ShippedModules(["textwrap"]))
    assert b"fill" in b"".join(pickler.function(textwrap.shorten).blob.parts)
    assert b"fill" not in b"".join(Pickler(POOL, ShippedModules(True)).function(textwrap.shorten).blob.parts)


def test_cloudpickle_is_left_as_it_was(pickler: Pickler, helper: Any) -> None:
    import cloudpickle  # type: ignore[import-untyped]

    before = cloudpickle.list_registry_pickle_by_value()
    pickler.function(helper.work)
    assert cloudpickle.list_registry_pickle_by_value() == before


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("guarded", "3"),
        ("caches", "(832040, 28, {'maxsize': 7, 'typed': False}, 'fib')"),
        ("tables", "([1, 2], 2)"),
    ],
)
def test_what_modules_make_is_made_anew(pickler: Pickler, helper: Any, name: str, printed: str) -> None:
    assert run_elsewhere(pickler.function(getattr(helper, name)).blob) == printed


def test_functions_that_remember_travel(pickler: Pickler, helper: Any) -> None:
    assert run_elsewhere(pickler.function(lambda n: helper.fib(int(n))).blob, "20") == "6765"
    assert run_elsewhere(pickler.function(functools.partial(helper.fib, 20)).blob) == "6765"
    found = pickler.function(helper.fib)
    assert (found.name, found.fixed) == ("fib", True)
    args, _ = load(pickler.call((helper.fib, helper.Table()), {}))
    assert args[0](20) == 6765


def test_locks_are_no_arguments(pickler: Pickler) -> None:
    with pytest.raises(TypeError, match="lock"):
        pickler.call((threading.Lock(),), {})
    with pytest.raises(TypeError, match="lock"):
        pickler.value({"lock": threading.Lock()})


@pytest.mark.parametrize("ship", ["work", 3, [3], ["no_such_module_here"]])
def test_ship_is_looked_at(ship: Any) -> None:
    with pytest.raises(UsageError, match="ship"):
        ShippedModules(ship)


def test_code_keeps_the_name_of_its_file(pickler: Pickler, helper: Any) -> None:
    blob = pickler.function(lambda: work.__code__.co_filename).blob
    assert run_elsewhere(blob) == __file__


@pytest.mark.parametrize(("name", "kind"), [("fail", "Odd"), ("slim", "Slim"), ("pair", "Pair")])
def test_classes_that_came_back_are_the_same(pickler: Pickler, helper: Any, name: str, kind: str) -> None:
    """What a worker sends of a class that travelled by value is of the very class that is here."""
    blob = pickler.function(getattr(helper, name)).blob
    script = """
        import pickle, sys, cloudpickle
        try:
            found = pickle.loads(sys.stdin.buffer.read())(3)
        except Exception as error:
            found = error
        sys.stdout.buffer.write(cloudpickle.dumps(found))
    """
    done = subprocess.run(
        [sys.executable, "-I", "-c", textwrap.dedent(script)], input=b"".join(blob.parts), capture_output=True,
        timeout=60, check=True,
    )  # fmt: skip
    found = load_value(done.stdout, _loads)
    assert isinstance(found, getattr(helper, kind))
    if name == "slim":
        assert (found.x, found.hidden()) == (3, 3)


IDENTITY = """
    import functools, sys
    from dataclasses import dataclass
    from pilotmtc.executor.pickling.pickling import identity

    {gap}
    @dataclass
    class Point:
        x: int

    def work(x):
        return {work}

    print(identity(((Point(3), [work, {callable}]), {{}})).hex())
"""


def identity_elsewhere(gap: str = "", work: str = "x", callable: str = "len") -> str:  # noqa: A002 -- as there
    script = textwrap.dedent(IDENTITY).format(gap=gap, work=work, callable=callable)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.strip()


def test_arguments_are_known_again_by_another_program() -> None:
    first = identity_elsewhere()
    assert len(first) == 64
    assert identity_elsewhere() == first
    assert identity_elsewhere(gap="a = 1") == first  # in other lines
    assert identity_elsewhere(work="x + 1") == first  # edited
    assert identity_elsewhere(callable="abs") != first
    assert identity_elsewhere(callable="lambda: 1") != identity_elsewhere(callable="lambda: 2")
    assert identity_elsewhere(callable="lambda: 1") == identity_elsewhere(callable="lambda: 1", gap="a = 1")


def test_what_functions_hold_counts() -> None:
    def adder(n: int) -> object:
        return lambda x: x + n

    assert identity(((adder(1),), {})) == identity(((adder(1),), {}))
    assert identity(((adder(1),), {})) != identity(((adder(2),), {}))


def test_what_cannot_be_known_again_has_no_identity() -> None:
    class Odd:
        def __reduce__(self) -> Any:
            raise TypeError("no")

    assert identity(((Odd(),), {})) == b""


def test_references_are_known_again() -> None:
    first, second = (PilotFuture[Any](POOL, "f", str(n)) for n in range(2))
    assert identity(((first,), {})) == identity(((second,), {}))  # their tasks are compared besides
    assert identity(((StoredValue(POOL, "a", 1, "int"),), {})) != identity(((StoredValue(POOL, "b", 1, "int"),), {}))


@given(st.lists(st.binary(max_size=50), max_size=8), st.integers(0, 100))
def test_pieces_are_the_whole(parts: list[bytes], offset: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pilotmtc.executor.engine.values.PART_BYTES", 7)
        whole = b"".join(parts)
        offset = min(offset, len(whole))
        found = list(_pieces(parts, offset))
    assert b"".join(data for _, data in found) == whole[offset:]
    at = offset
    for begin, data in found:
        assert begin == at
        at += len(data)
        assert len(data) == 7 or at == len(whole)


MEANING = """
import sys
from pathlib import Path
from pilotmtc.executor.pickling.modules import ShippedModules
from pilotmtc.executor.pickling.pickling import Pickler

sys.path.insert(0, sys.argv[1])
import known_again
print(Pickler(None, ShippedModules(True), name=sys.argv[2], memo=True).function(known_again.work).identity)
"""
SOURCE = """
class Point:
    names = {"alpha", "beta"}
    def __init__(self, x):
        self.x = x

def work(x):
    return Point(scale(x))

def scale(x):
    return 2 * x if x in {"a", "b", "c"} else x
"""


def test_function_is_known_again_by_other_programs_while_it_does_the_same(tmp_path: Path) -> None:
    def meaning(text: str, name: str, seed: str) -> str:
        (tmp_path / "known_again.py").write_text(text)
        words = [sys.executable, "-B", "-c", MEANING, str(tmp_path), name]
        return subprocess.check_output(words, text=True, env={**os.environ, "PYTHONHASHSEED": seed}, timeout=60)

    first = meaning(SOURCE, "a", "1")
    assert meaning(f"# moved{SOURCE}\nanother = 1\n", "b", "2") == first
    assert meaning(SOURCE.replace("2 * x", "3 * x"), "a", "1") != first
    assert meaning(SOURCE.replace("self.x = x", "self.y = x"), "a", "1") != first


def test_function_is_the_same_whether_its_module_was_compiled_or_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "read_or_compiled.py").write_text("import os\ndef f(x):\n    return lambda: (os.getpid(), x)\n")
    found = set()
    for compiled in (True, False):
        assert (tmp_path / "__pycache__").exists() != compiled
        module = importlib.import_module("read_or_compiled")
        pickler = Pickler(POOL, ShippedModules(True), name="scan")
        found.add((pickler.alone(module.f).digest, pickler.meaning(module.f)))
        monkeypatch.delitem(sys.modules, "read_or_compiled")
    assert len(found) == 1
