"""The linter is the law: a broken door or floor fails the build."""

import ast
import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pilotmtc.protocol.base import Request
from pilotmtc.session import Session

ROOT = Path(__file__).resolve().parents[2]


def _lint(tree: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"],
        cwd=tree, env=os.environ | {"PYTHONPATH": f"{tree}:{tree / 'adaptors'}", "COLUMNS": "200"},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60.0, check=False,
    )  # fmt: skip


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("pilotmtc", "adaptors"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    return copy


def test_whole_tree_keeps_floors_and_doors(tree: Path) -> None:
    done = _lint(tree)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("pilotmtc/pilots/local.py", "import sqlite3", "sqlite3 and sqlite-utils only in the store"),
        ("pilotmtc/campaign/__init__.py", "import sqlite_utils.db", "sqlite3 and sqlite-utils only in the store"),
        ("pilotmtc/transport/process.py", "import paramiko.client", "paramiko only in transport.ssh"),
        ("pilotmtc/cli/__init__.py", "from textual.app import App", "textual only in tui"),
        ("pilotmtc/agent/core/core.py", "import radical.saga", "radical.saga only in pilots and the adaptors"),
        ("pilotmtc/agent/core/core.py", "import pilotmtc_adaptors", "The core never imports the adaptors"),
        ("pilotmtc/model.py", "import pilotmtc.store.client.client", "Imports go down only"),
        ("pilotmtc/cli/commands/look/status.py", "import pilotmtc.store.client.client", "Faces call the session only"),
        ("pilotmtc/tui/base.py", "from pilotmtc.transport.link import Ask", "Faces call the session only"),
        ("pilotmtc/newroom.py", "x = 1", "Imports go down only"),
    ],
)
def test_broken_door_fails_the_build(tree: Path, module: str, line: str, contract: str) -> None:
    with (tree / module).open("a") as file:
        # Inside a function too: that is where imports that were meant to be lazy hide.
        file.write(f"\n\ndef _hidden() -> None:\n    {line}\n")
    done = _lint(tree)
    assert done.returncode != 0
    assert f"{contract} BROKEN" in done.stdout


def test_faces_make_no_requests() -> None:
    made = []
    for file in [*(ROOT / "pilotmtc" / "cli").rglob("*.py"), *(ROOT / "pilotmtc" / "tui").rglob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pilotmtc.protocol"):
                module = importlib.import_module(node.module or "")
                names = [alias.name for alias in node.names]
                made += [(file.name, name) for name in names if _is_request(getattr(module, name))]
    assert made == []


def _is_request(found: object) -> bool:
    return isinstance(found, type) and issubclass(found, Request)


def test_session_takes_no_raw_requests() -> None:
    assert not hasattr(Session, "call")
    assert not hasattr(Session, "send")


def test_planned_rooms_may_use_their_libraries(tree: Path) -> None:
    (tree / "pilotmtc" / "tui").mkdir(exist_ok=True)
    (tree / "pilotmtc" / "tui" / "__init__.py").write_text('"""The screen."""\n\nimport textual.app\n')
    with (tree / "pilotmtc" / "transport" / "ssh" / "link.py").open("a") as file:
        file.write("import paramiko\n")
    with (tree / "pilotmtc" / "pilots" / "scheduler.py").open("a") as file:
        file.write("import radical.saga\n")
    done = _lint(tree)
    assert done.returncode == 0, done.stdout
