"""What is seen of the changes of a function."""

import functools
import gc
import weakref
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any

import pytest

from pilotmtc.executor.future import PilotFuture
from pilotmtc.executor.pickling.modules import ShippedModules
from pilotmtc.executor.pickling.pickling import Pickler
from pilotmtc.executor.pickling.snapshots import Snapshot
from pilotmtc.pickled import load_value

NOTEBOOK = """
import functools, math

FACTOR = 3
PARAMETERS = {"a": 1}
LARGE = [0.5] * 100_000

def double(x):
    return 2 * x

class Point:
    unit = 1
    def __init__(self, x):
        self.x = x
    def __add__(self, other):
        return Point(self.x + other.x)
    @staticmethod
    def origin():
        return 0
    @property
    def size(self):
        return self.x

def work(x, more=0):
    return helper(x) * FACTOR

def helper(x):
    return [double(each) for each in (x, math.pi)][0]

def look(x):
    return PARAMETERS["a"] * x

def sum_large(x):
    return len(LARGE) + x

def build(x):
    return (Point(x) + Point(1)).size

def alone(x):
    return math.sqrt(x)

def hold(k):
    def held(x):
        return k * double(x)
    return held
"""


class Nobody:
    def forget(self, future: PilotFuture[Any]) -> None:
        raise AssertionError("nothing is canceled here")


class Notebook:
    """A program whose text comes bit by bit."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {"__name__": "__main__"}
        self.run(NOTEBOOK)

    def run(self, cell: str) -> None:
        exec(cell, self.names)

    def __getitem__(self, name: str) -> Any:
        return self.names[name]


@pytest.fixture
def notebook() -> Notebook:
    return Notebook()


@pytest.fixture
def pickler() -> Pickler:
    return Pickler(Nobody(), ShippedModules(True))


def snapshot(found: object) -> Snapshot:
    return Snapshot(found, ShippedModules(True).travels)


def called(pickler: Pickler, function: Callable[..., object], x: object) -> object:
    """Return what a worker gets from the function as it is sent now."""
    return load_value(b"".join(pickler.function(function).blob.parts))(x)


@pytest.mark.parametrize("name", ["work", "build", "alone", "look", "sum_large", "Point", "hold"])
def test_unchanged_functions_hold(notebook: Notebook, name: str) -> None:
    kept = snapshot(notebook[name])
    assert kept.holds()
    notebook.run("other = 1")
    assert kept.holds()


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("work", "FACTOR = 4"),
        ("work", "del FACTOR"),
        ("work", "def double(x): return 3 * x"),
        ("work", "def helper(x): return x"),
        ("work", "sum = 3; double.__code__ = (lambda x: x).__code__"),
        ("work", "work.__defaults__ = (1,)"),
        ("work", "import cmath as math"),
        ("build", "class Point(int): pass"),
        ("build", "Point.unit = 2"),
        ("build", "Point.__add__ = lambda self, other: self"),
        ("build", "Point.origin = staticmethod(lambda: 1)"),
        ("alone", "def sqrt(x): return x\nalone.__code__ = sqrt.__code__"),
        ("look", "PARAMETERS = {}"),
        ("sum_large", "LARGE = []"),
    ],
)
def test_change_is_seen(notebook: Notebook, name: str, cell: str) -> None:
    kept = snapshot(notebook[name])
    notebook.run(cell)
    assert not kept.holds()


def test_name_that_was_not_there_is_seen(notebook: Notebook) -> None:
    notebook.run("def late(x): return abs(x) + unknown")
    kept = snapshot(notebook["late"])
    assert kept.holds()
    notebook.run("def abs(x): return x")
    assert not kept.holds()


def test_nothing_can_take_the_place_of_what_has_gone(notebook: Notebook) -> None:
    """What is only known by a weak reference must not be taken for None."""
    kept = snapshot(notebook["work"])
    notebook.run("helper = None")
    gc.collect()
    assert not kept.holds()


def test_what_a_function_holds_is_seen() -> None:
    count = 1

    def outer() -> Callable[[], int]:
        def inner() -> int:
            return count

        return inner

    kept = snapshot(outer)
    assert kept.holds()
    count = 2
    assert not kept.holds()


@pytest.mark.parametrize(("name", "steady"), [("work", True), ("build", True), ("alone", True), ("look", False)])
def test_what_may_change_in_its_place_is_known(notebook: Notebook, name: str, steady: bool) -> None:
    assert snapshot(notebook[name]).steady is steady


def test_what_is_installed_is_not_looked_into() -> None:
    assert snapshot(functools.wraps).steady
    assert snapshot(pytest.approx).holds()


def test_module_that_travels_is_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("beside_the_script")
    module.__file__ = "/home/someone/beside_the_script.py"
    module.factor = 1  # type: ignore[attr-defined]
    monkeypatch.setitem(__import__("sys").modules, module.__name__, module)
    kept = snapshot(module)
    assert kept.steady
    assert kept.holds()
    module.factor = 2  # type: ignore[attr-defined]
    assert not kept.holds()


def test_functions_are_sent_as_they_are_now(notebook: Notebook, pickler: Pickler) -> None:
    work = notebook["work"]
    assert called(pickler, work, 5) == 30
    assert pickler.function(work) is pickler.function(work)
    notebook.run("FACTOR = 10")
    assert called(pickler, work, 5) == 100
    notebook.run("def double(x): return x")
    assert called(pickler, work, 5) == 50
    look = notebook["look"]
    assert called(pickler, look, 5) == 5
    notebook.run("PARAMETERS['a'] = 2")
    assert called(pickler, look, 5) == 10


def test_large_things_are_looked_into_once_for_many_calls(notebook: Notebook, pickler: Pickler) -> None:
    function = notebook["sum_large"]
    first = pickler.function(function)
    assert pickler.function(function) is first
    notebook.run("LARGE.append(1)")
    assert pickler.function(function, looked_into=True).blob.digest != first.blob.digest


def test_functions_are_not_kept_alive(notebook: Notebook, pickler: Pickler) -> None:
    held = notebook["hold"](3)
    pickler.function(held)
    gone = weakref.ref(held)
    notebook.names["helper"], helper = None, weakref.ref(notebook["helper"])
    del held
    gc.collect()
    assert gone() is None
    assert helper() is None
    assert isinstance(notebook["work"], FunctionType)
