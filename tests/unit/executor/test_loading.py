"""Loading what calls have returned."""

import enum
import pickle
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
import numpy as np
import pytest

from pilotmtc.executor.pickling.loading import load, load_exception
from pilotmtc.pickled import dump_exception, dump_value


@dataclass
class Point:
    x: int


class Colour(enum.Enum):
    RED = 1


class Odd(Exception):
    pass


def from_a_worker(*values: object) -> Any:
    """Return `values` as they come back from a program that has been sent their classes and knows nothing else."""
    here = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(here)
    try:
        sent = cloudpickle.dumps(values)
    finally:
        cloudpickle.unregister_pickle_by_value(here)
    script = "import sys, cloudpickle; sys.stdout.buffer.write(cloudpickle.dumps(cloudpickle.load(sys.stdin.buffer)))"
    done = subprocess.run([sys.executable, "-I", "-c", script], input=sent, capture_output=True, timeout=60, check=True)
    # As if this were another program than the one that has sent them.
    tracked = cloudpickle.cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID
    there = dict(tracked)
    tracked.clear()
    try:
        return load(done.stdout)
    finally:
        tracked.update(there)


def test_classes_of_the_same_name_are_those_of_this_program() -> None:
    Point.seen = 5  # type: ignore[attr-defined]
    point, colour, error = from_a_worker(Point(3), Colour.RED, Odd("x"))
    assert type(point) is Point
    assert point == Point(3)
    assert Point.seen == 5  # type: ignore[attr-defined]  # nothing of it was overwritten
    assert colour is Colour.RED
    assert type(error) is Odd


def test_classes_that_are_not_here_come_as_they_are() -> None:
    @dataclass
    class Local:
        x: int

    (found,) = from_a_worker(Local(3))
    assert type(found).__name__ == "Local"
    assert found.x == 3


@pytest.mark.parametrize("size", [3, 100_000])
def test_arrays_can_be_changed(size: int) -> None:
    array = load(bytearray(b"".join(dump_value(np.zeros(size)))))
    array += 1
    assert array.sum() == size


def test_exceptions_come_with_their_traceback() -> None:
    try:
        raise Odd("bad")
    except Odd as error:
        found = load_exception(dump_exception(error, pickle.dumps))
    assert type(found) is Odd
    assert "raise Odd" in str(found.__cause__)
