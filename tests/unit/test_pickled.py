"""Values as client and workers write and read them."""

import ast
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotmtc import pickled
from pilotmtc.pickled import (
    ALIGNED_BYTES,
    OUT_OF_BAND_BYTES,
    RemoteError,
    RemoteTraceback,
    digest_of,
    dump_exception,
    dump_value,
    load_exception,
    load_value,
    map_file,
    size_of,
)

ATOMS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
PLAIN = st.recursive(ATOMS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


class Table:
    """Something like an array: its content may lie outside of its pickle."""

    def __init__(self, content: Any) -> None:
        self.content = content

    def __reduce_ex__(self, protocol: Any) -> Any:
        return Table, (pickle.PickleBuffer(self.content),)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Table) and bytes(self.content) == bytes(other.content)

    __hash__ = None  # type: ignore[assignment]


class NotPickled(Exception):
    def __reduce__(self) -> Any:
        raise TypeError("never")


class NotUnpickled(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


class Two(Exception):
    """Its arguments are not those of its base."""

    def __init__(self, one: int, two: int, *, more: str = "") -> None:
        super().__init__(f"{one} and {two}")
        self.two = two
        self.more = more


class Doubled(Exception):
    """Made again from its arguments, it would have another text."""

    def __init__(self, text: str) -> None:
        super().__init__(f"doubled: {text}")


class Evil(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def whole(value: object) -> bytearray:
    return bytearray(b"".join(dump_value(value)))


@given(PLAIN)
def test_plain_values_are_mere_pickles(value: object) -> None:
    parts = dump_value(value)
    assert len(parts) == 1
    assert pickle.loads(parts[0]) == value == load_value(parts[0])


@given(st.lists(st.integers(0, 3 * OUT_OF_BAND_BYTES), max_size=5), PLAIN)
def test_large_buffers_lie_aligned_and_are_not_copied(sizes: list[int], more: object) -> None:
    value = [more, *(Table(bytearray([number + 1] * size)) for number, size in enumerate(sizes))]
    data = whole(value)
    assert len(data) == size_of(dump_value(value))
    found = load_value(data)
    assert found == value
    for table, size in zip(found[1:], sizes, strict=True):
        if size < OUT_OF_BAND_BYTES:
            continue
        at = data.find(bytes(table.content))
        assert at % ALIGNED_BYTES == 0
        table.content[0] ^= 255
        assert data[at] == table.content[0]  # it is the same memory


@given(st.integers(0, 10_000))
def test_value_that_is_cut_short_is_an_error(count: int) -> None:
    data = whole(Table(bytearray(9000)))
    if count >= len(data):
        return
    with pytest.raises((ValueError, EOFError, pickle.UnpicklingError)):
        load_value(data[:count])


def test_file_is_mapped_and_changed_only_if_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "value"
    path.write_bytes(whole(Table(bytearray(9000))))
    shared = load_value(map_file(str(path)))
    with pytest.raises(TypeError, match="read-only"):
        shared.content[0] = 1
    own = load_value(map_file(str(path), writable=True))
    own.content[0] = 1
    assert shared == load_value(path.read_bytes()) == Table(bytearray(9000))
    (tmp_path / "empty").touch()
    assert map_file(str(tmp_path / "empty")) == b""


def test_digest_does_not_depend_on_the_parts() -> None:
    assert digest_of([b"ab", b"", memoryview(b"c")]) == digest_of([b"abc"])
    assert digest_of([b"abc"]).startswith("ba7816bf")


def test_exception_comes_back_with_the_traceback_as_its_cause() -> None:
    try:
        dict[str, int]()["key"]
    except KeyError as caught:
        error = load_exception(dump_exception(caught))
    assert type(error) is KeyError
    assert error.args == ("key",)
    assert isinstance(error.__cause__, RemoteTraceback)
    assert 'in test_exception_comes_back_with_the_traceback_as_its_cause\n    dict[str, int]()["key"]' in str(
        error.__cause__
    )


@pytest.mark.parametrize("error", [Two(1, 2, more="x"), Doubled("once"), ExceptionGroup("g", [ValueError("3")])])
def test_exception_comes_back_whatever_its_class_is_made_of(error: Exception) -> None:
    error.add_note("noted")
    found = load_exception(dump_exception(error))
    assert type(found) is type(error)
    assert (str(found), vars(found)) == (str(error), vars(error))


@pytest.mark.parametrize(
    ("error", "text"), [(NotPickled("here"), "here"), (NotUnpickled("held"), "held"), (Evil(), "cannot be shown")]
)
def test_exception_that_cannot_travel_is_told_as_text(error: Exception, text: str) -> None:
    data = dump_exception(error)
    found = load_exception(data)
    if not isinstance(error, Evil):
        assert isinstance(found, RemoteError)
        assert str(found) == f"{__name__}.{type(error).__qualname__}: {text}"
        assert str(pickle.loads(pickle.dumps(found))) == str(found)
    assert type(error).__name__ in str(found.__cause__)


def test_exception_of_a_class_that_is_not_here() -> None:
    data = pickle.dumps((b"cno_such_module\nError\n.", "no_such_module.Error", "it broke", "Traceback ...\n"))
    found = load_exception(data)
    assert str(found) == "no_such_module.Error: it broke"
    assert "Traceback ..." in str(found.__cause__)


def test_workers_of_old_pythons_can_read_it() -> None:
    source = Path(pickled.__file__).read_text()
    ast.parse(source, feature_version=(3, 9))
    # typing and its like would make each idle worker larger.
    program = "import sys; before = set(sys.modules); import pilotmtc.pickled; print(*(set(sys.modules) - before))"
    root = Path(pickled.__file__).parents[1]
    out = subprocess.check_output(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(root)!r}); {program}"]
    )
    assert not {"typing", "traceback", "hashlib", "ctypes"} & set(out.decode().split())
