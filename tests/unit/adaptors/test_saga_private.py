"""radical.saga's private parts: where they are, what they are, and that one file alone uses them.

When a new radical.saga fails here, each line of the error names what has moved and what to do about it. All uses are in
``adaptors/pilotmtc_adaptors/_saga.py``.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

ROOT = Path(__file__).parents[3]
THE_FILE = "adaptors/pilotmtc_adaptors/_saga.py"
INSIDES = ("radical.saga.engine", "radical.saga.adaptors", "radical.saga.base", "radical.utils")
BASES = "import radical.saga.adaptors.cpi.job as cpi; s, j = cpi.Service(set, 7), cpi.Job(set, 7)"

# What `_saga.py` relies on, as a program that ends well while it holds, and what to do when it does not.
PARTS = {
    "from radical.saga.adaptors.base import Base; Base({'name': 'x', 'schemas': ()}, expand_env=False).get_info()": (
        "the base class of adaptors has moved: `_Adaptor` must derive from what the engine takes now"
    ),
    "from radical.saga.adaptors.cpi.decorators import SYNC_CALL; assert SYNC_CALL(lambda s: 7)(0, ttype=None) == 7": (
        "the decorator of methods has moved: let `call` drop the argument `ttype` itself"
    ),
    f"{BASES}; assert s.get_api() is set; s.session = j.session = 1": (
        "the base classes of services and jobs have moved: import them from their new place"
    ),
    f"{BASES}; assert s._adaptor == 7": "a service's adaptor has another name: change `new_job`",
    "import inspect; assert {'_adaptor', '_adaptor_state'} <= {*inspect.signature(saga.job.Job.__init__).parameters}": (
        "jobs are made of other arguments: change `new_job`"
    ),
    (
        "from radical.saga.engine.engine import Engine; found = Engine().loaded_adaptors()['radical.saga.job.Job']; "
        "assert set(found['fork'][0]) == {'cpi_cname', 'cpi_class', 'adaptor_name', 'adaptor_instance'}; "
        "assert Engine().loaded_adaptors()['radical.saga.job.Job'] is found"
    ): "the engine's table of adaptors has moved or looks otherwise: change `register`",
    (
        "from radical.saga.engine.engine import Engine; "
        "assert Engine().find_adaptors('radical.saga.job.Service', 'fork'); "
        "assert Engine().find_adaptors('radical.saga.job.Service', 'nosuch') == []"
    ): "the engine's question for adaptors has moved: change the check in `register`",
    "saga.version": "the version has another name: change the error of `register`",
    "Service = saga.job.Service; assert not hasattr(Service, 'bulk'); Service.__new__(Service).bulk = 7": (
        "services have a `bulk` of their own, or take no attributes: rename ours, in _job.py and pilots/scheduler.py"
    ),
    (
        "try: saga.job.Service('nosuch://localhost')\n"
        "except saga.NotImplemented as error: assert 'No adaptor found' in str(error)"
    ): "radical.saga tells of an unknown scheme in other words: change `_NO_ADAPTOR` in pilotmtc/pilots/scheduler.py",
}  # fmt: skip
PROGRAM = """
import json, sys
from radical import saga
def moved(part):
    try:
        exec(part, {"saga": saga})
    except Exception as error:
        return f"{type(error).__name__}: {error}"
names = {}
exec(sys.argv[2], names)
private = sorted({*dir(names["s"]), *dir(names["j"])} - {*dir(object)})
print(json.dumps([{part: moved(part) for part in json.loads(sys.argv[1])}, private]))
"""


@pytest.fixture(scope="module")
def saga(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str | None], list[str]]:
    """Return what has moved and why, by part, and the names that the base classes have."""
    base = str(tmp_path_factory.mktemp("saga"))
    environment = {"RADICAL_BASE": base, "RADICAL_LOG_LVL": "OFF", "RADICAL_LOG_TGT": "null", "HOME": base, "PWD": base}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, msgspec.json.encode(list(PARTS)).decode(), BASES],
        env=environment, cwd=base, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"radical.saga itself, or the base classes of services and jobs: {done.stderr}"
    return msgspec.json.decode(done.stdout, type=tuple[dict[str, str | None], list[str]])


def test_every_private_part_is_where_it_was(saga: tuple[dict[str, str | None], list[str]]) -> None:
    moved = [f"{PARTS[part]}\n    ({error}, from: {part})" for part, error in saga[0].items() if error]
    assert not moved, "\n".join([f"{THE_FILE} uses what radical.saga has moved:", *moved])


def test_methods_and_attributes_of_jobs_do_not_hide_those_of_the_base_classes(
    saga: tuple[dict[str, str | None], list[str]],
) -> None:
    ours = set(_private_names(ROOT / "adaptors/pilotmtc_adaptors/_job.py"))
    assert not ours & {*saga[1]}, "radical.saga's base classes use these names themselves: choose others in _job.py"


def test_only_one_file_uses_private_parts() -> None:
    for file in sorted([*(ROOT / "pilotmtc").rglob("*.py"), *(ROOT / "adaptors/pilotmtc_adaptors").rglob("*.py")]):
        name = str(file.relative_to(ROOT))
        modules = [module for module in _imported(file) if module.partition(".")[0] == "radical"]
        if name == THE_FILE or not modules:
            continue
        assert not [module for module in modules if module.startswith(INSIDES)], f"{name}: this belongs in {THE_FILE}"
        foreign = set(_private_names(file, of_self=False))
        assert not foreign, f"{name}: {foreign} belong to others; what is radical.saga's belongs in {THE_FILE}"


def _imported(file: Path) -> Iterator[str]:
    """Yield the names of modules that a file imports, wherever it does."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{each.name}" for each in node.names)


def _private_names(file: Path, of_self: bool = True) -> Iterator[str]:
    """Yield the attributes with a leading underscore that a file uses of ``self``, or of anything else."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            is_self = isinstance(node.value, ast.Name) and node.value.id == "self"
            if is_self == of_self:
                yield node.attr
