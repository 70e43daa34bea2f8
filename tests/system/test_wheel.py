"""What is built, installed into an environment of its own and used from another directory."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_TIMEOUT_S = 100.0


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    # Without isolation nothing is fetched: the test runs without a network.
    _run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)], out)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel in a new virtual environment that borrows the dependencies of this one."""
    place = tmp_path_factory.mktemp("elsewhere") / "venv"
    venv.create(place, with_pip=False)
    python = place / "bin" / "python"
    _run(
        [
            sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check",
            "install", "--quiet", "--no-deps", "--no-index", str(wheel),
        ],
        place,
    )  # fmt: skip
    paths = sysconfig.get_paths()
    (site,) = place.glob("lib/python*/site-packages")
    # A path in a .pth file brings its modules but not its own .pth files: the checkout that is installed there for
    # editing stays out of sight.
    (site / "borrowed.pth").write_text("\n".join(sorted({paths["purelib"], paths["platlib"]})) + "\n")
    return place


def test_wheel_holds_the_packages_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    (metadata,) = (top for top in tops if top.endswith(".dist-info"))
    assert tops == {"pilotmtc", "pilotmtc_adaptors", metadata}
    source = {str(file.relative_to(ROOT)) for file in (ROOT / "pilotmtc").rglob("*") if file.suffix in {".py", ".sql"}}
    assert source <= set(names)
    assert {"pilotmtc/py.typed", "pilotmtc_adaptors/__init__.py", f"{metadata}/licenses/LICENSE"} <= set(names)
    assert [name for name in names if name.endswith((".pyc", ".c", ".so"))] == []


def test_installed_wheel_is_what_runs(environment: Path, tmp_path: Path) -> None:
    where = _run(
        [str(environment / "bin" / "python"), "-c", "import pilotmtc, pilotmtc_adaptors; print(pilotmtc.__file__)"],
        tmp_path,
    )
    assert Path(where.strip()).is_relative_to(environment)


def test_installed_wheel_runs_tasks_from_another_directory(environment: Path, tmp_path: Path) -> None:
    said = _run(
        [str(environment / "bin" / "pilotmtc"), "--store", "store.db", "run", "echo got {}", ":::", "1", "2", "3"],
        tmp_path,
    )
    assert sorted(said.splitlines()) == ["got 1", "got 2", "got 3"]
    assert (tmp_path / "store.db").exists()


def _run(argv: list[str], directory: Path) -> str:
    clean = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONHOME"}}
    done = subprocess.run(
        argv, cwd=directory, env=clean, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TIMEOUT_S,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{argv} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout
