"""Dialects are found by entry points, those of other packages like ours."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilotmtc.errors import ConfigError
from pilotmtc_adaptors import _registry
from pilotmtc_adaptors.condor import dialect as condor
from pilotmtc_adaptors.pbs import dialect as pbs

OURS = ("condor", "condor-parallel", "fork", "htcondor", "local", "moab", "pbs", "pbspro", "slurm", "torque")
WHOLE = """
schemes = ("lab",)
maps = frozenset({"executable"})
def submit(request): ...
def status(ids): ...
def cancel(ids): ...
def find(name): ...
def jobs(): ...
"""


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a directory on the path of modules, and forget what was imported from it."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def install(packages: Path, name: str, source: str | None, scheme: str = "lab") -> None:
    """Put a package there as pip would: a module, and metadata with an entry point."""
    if source is not None:
        (packages / f"{name}.py").write_text(source)
    metadata = packages / f"{name}-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(f"[{_registry.GROUP}]\n{scheme} = {name}\n")


def test_own_dialects_are_entry_points() -> None:
    assert set(OURS) <= set(_registry.schemes())
    for scheme in OURS:
        assert scheme in _registry.dialect(scheme).schemes
    assert _registry.dialect("torque") is pbs
    assert _registry.dialect("condor-parallel") is condor.parallel


def test_dialect_of_another_package_is_found_and_not_imported_before_it_is_used(packages: Path) -> None:
    install(packages, "their_dialect", WHOLE)
    assert "lab" in _registry.schemes()
    assert "their_dialect" not in sys.modules
    assert _registry.dialect("lab") is sys.modules["their_dialect"]


def test_unknown_scheme_is_told_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"no dialect for lab:// is installed: there are .*slurm"):
        _registry.dialect("lab")


def test_two_packages_for_one_scheme_are_named(packages: Path) -> None:
    install(packages, "one_dialect", WHOLE)
    install(packages, "other_dialect", WHOLE)
    with pytest.raises(ConfigError, match=r"several .*lab://: .*one_dialect.* and .*other_dialect"):
        _registry.dialect("lab")
    assert _registry.dialect("slurm")


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (None, "cannot be loaded: No module named"),
        ("import no_such_module_anywhere", "cannot be loaded: No module named"),
        ("def", "cannot be loaded: invalid syntax"),
        ("schemes = ('lab',)", "has no submit, status, cancel, find, jobs"),
        (WHOLE.replace("def jobs", "def other"), "has no jobs"),
        (WHOLE.replace("executable", "elixir"), "frozenset of names of JobRequest's fields"),
        (WHOLE.replace("frozenset({", "list({"), "frozenset of names of JobRequest's fields"),
        (WHOLE.replace('"lab"', '"bal"'), "schemes must hold 'lab'"),
    ],
)
def test_dialect_that_cannot_be_used_is_named_with_its_package(packages: Path, source: str | None, text: str) -> None:
    install(packages, "their_dialect", source)
    with pytest.raises(ConfigError, match=f"their_dialect of their_dialect .*{text}"):
        _registry.dialect("lab")
    assert _registry.dialect("slurm")
