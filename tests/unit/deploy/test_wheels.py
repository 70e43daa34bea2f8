"""What a site's Python is given."""

import zipfile
from importlib.metadata import distribution
from pathlib import Path

import msgspec
import pytest
from packaging.utils import parse_wheel_filename
from packaging.version import Version

from pilotmtc import __version__
from pilotmtc.deploy.python import Python, choose
from pilotmtc.deploy.wheels import libraries, pack, pack_netifaces, pack_pilotmtc, platforms
from pilotmtc.errors import ConfigError

PYTHON = Python("/usr/bin/python3", (3, 12, 1), True, False, "x86_64", "glibc", "2.17", {})
MARKERS = {"python_version": "3.12", "python_full_version": "3.12.1", "platform_python_implementation": "CPython"}


def test_wheels_for_no_newer_glibc_are_taken() -> None:
    tags = platforms(PYTHON)
    assert tags[0] == "manylinux_2_17_x86_64"
    assert "manylinux2014_x86_64" in tags
    assert "manylinux_2_18_x86_64" not in tags
    assert "manylinux2014_x86_64" not in platforms(msgspec.structs.replace(PYTHON, libc_version="2.12"))
    assert platforms(msgspec.structs.replace(PYTHON, libc=""))[0].startswith("musllinux")


def test_libraries_are_those_of_the_libraries_too_but_not_the_developers() -> None:
    found = {word.partition("==")[0] for word in libraries(distribution("pilotmtc"), MARKERS)}
    assert {"paramiko", "cryptography", "radical-saga", "radical-utils", "netifaces", "linkify-it-py"} <= found
    assert not {"pytest", "mypy", "ruff"} & found


def test_same_files_make_the_same_wheel(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    one, two = (pack_pilotmtc(distribution("pilotmtc"), tmp_path / name) for name in ("a", "b"))
    assert one.read_bytes() == two.read_bytes()
    names = zipfile.ZipFile(one).namelist()
    assert {"pilotmtc/store/file/schema/schema.sql", "pilotmtc_adaptors/slurm/dialect.py"} <= set(names)
    assert f"pilotmtc-{__version__}.dist-info/entry_points.txt" in names


def test_pure_libraries_are_packed_as_they_are_installed(tmp_path: Path) -> None:
    wheel = pack("radical.saga", tmp_path)  # there is only its source on PyPI
    assert wheel is not None
    version = distribution("radical.saga").version
    assert wheel.name == f"radical_saga-{version}-py3-none-any.whl"
    archive = zipfile.ZipFile(wheel)
    names = archive.namelist()
    assert "radical/saga/__init__.py" in names
    assert [name for name in names if name.startswith("..") or name.endswith(".pyc")] == []
    record = archive.read(f"radical_saga-{version}.dist-info/RECORD").decode()
    assert {line.split(",")[0] for line in record.splitlines()} == set(names)


@pytest.mark.parametrize("name", ["msgspec", "pilotmtc", "no-such-library"])
def test_what_is_compiled_or_elsewhere_or_absent_is_not_packed(name: str, tmp_path: Path) -> None:
    assert pack(name, tmp_path) is None
    assert list(tmp_path.glob("*.whl")) == []


def test_netifaces_that_is_sent_needs_no_compiler(tmp_path: Path) -> None:
    wheel = pack_netifaces(tmp_path)
    assert Version(parse_wheel_filename(wheel.name)[1].public) == Version("0.11.0")
    assert parse_wheel_filename(wheel.name)[1] > Version("0.11.0")  # a resolver takes it rather than PyPI's
    assert "netifaces.py" in zipfile.ZipFile(wheel).namelist()


@pytest.mark.parametrize(
    ("python", "words"),
    [
        (msgspec.structs.replace(PYTHON, version=(3, 9, 2)), "is too old"),
        (msgspec.structs.replace(PYTHON, venv=False), "without its module venv"),
        (msgspec.structs.replace(PYTHON, threads=True), "free-threaded"),
    ],
)
def test_python_that_will_not_do_is_told_with_why(python: Python, words: str) -> None:
    with pytest.raises(ConfigError, match=rf"login has no Python 3\.11 or later.*{words}.*--python"):
        choose([python], "login")
    assert choose([python, PYTHON], "login") is PYTHON
