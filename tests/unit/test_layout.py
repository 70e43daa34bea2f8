"""The repository itself: what the README promises, what a wheel would hold, where a file may lie."""

import re
import stat
import tomllib
from pathlib import Path

import pilotmtc

ROOT = Path(__file__).resolve().parents[2]
TOP = {
    "pilotmtc", "adaptors", "tests", "examples", "docs", "pyproject.toml", "README.md", "CONTRIBUTING.md", "LICENSE",
    "CHANGELOG.md", "Makefile",
}  # fmt: skip
BUILT = {"dist", "build"}


def test_ci_runs_the_test_command_of_the_readme() -> None:
    commands = [line for line in (ROOT / ".ci" / "run").read_text().splitlines() if line and not line.startswith("#")]
    assert commands[-1] == "make check"
    readme = (ROOT / "README.md").read_text().splitlines()
    assert any(line.split("#")[0].strip() == "make check" for line in readme)
    assert any(line.split("#")[0].strip() == "make demo" for line in readme)


def test_ci_script_may_be_executed() -> None:
    assert (ROOT / ".ci" / "run").stat().st_mode & stat.S_IXUSR


def test_check_skips_nothing() -> None:
    recipe = (ROOT / "Makefile").read_text().split("\ncheck:")[1].split("\n\n")[0]
    for tool in ("ruff check .", "ruff format --check .", "mypy", "lint-imports", "pytest"):
        assert tool in recipe
    for excuse in ("||", "- ", "--ignore", "--deselect", " -k ", " -m 'not"):
        assert excuse not in recipe.replace("-m pytest -n", "")


def test_top_level_holds_only_what_it_should() -> None:
    there = {entry.name for entry in ROOT.iterdir() if not entry.name.startswith(".")}
    assert there - TOP - BUILT == set()
    assert TOP - there == set()


def test_examples_hold_only_what_their_readme_speaks_of() -> None:
    words = (ROOT / "examples" / "README.md").read_text()
    there = {entry.name for entry in (ROOT / "examples").iterdir() if entry.is_dir()} - {"__pycache__", "out"}
    assert {name for name in there if f"]({name})" not in words} == set()


def test_every_module_has_a_floor() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = next(contract for contract in config["contracts"] if contract["type"] == "layers")
    assert layers["exhaustive"] is True
    floors = {room.strip(" ()") for layer in layers["layers"] for room in layer.replace("|", ":").split(":")}
    rooms = {
        entry.stem
        for entry in (ROOT / "pilotmtc").iterdir()
        if entry.suffix == ".py" or (entry.is_dir() and any(entry.glob("*.py")))
    }
    assert rooms - {"__init__"} <= floors


def test_picture_of_the_floors_is_that_of_the_linter() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    held = {
        container: [{name.strip(" ()") for name in re.split("[:|]", layer)} for layer in contract["layers"]]
        for contract in config["contracts"]
        if contract["type"] == "layers"
        for container in contract["containers"]
    }
    drawn, planned = _drawn_floors((ROOT / "docs" / "design.md").read_text())
    assert drawn.keys() == held.keys()
    for room, floors in held.items():
        assert drawn[room] == floors, f"draw the floors of {room} in docs/design.md as pyproject.toml has them"
    assert [name for name in planned if (ROOT / name.replace(".", "/")).exists()] == [], "this is not only planned"


def test_contributors_are_told_where_twelve_changes_go() -> None:
    """Each line names a file; `test_documents` holds that all files which are named are there."""
    table = (ROOT / "CONTRIBUTING.md").read_text().split("\n|---|---|\n")[1].split("\n\n")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines()]
    assert len(rows) == 12
    assert [change for change, place in rows if not re.search(r"`(pilotmtc|adaptors)/[\w/.]+`", place)] == []
    # What is named beside a file is in it.
    named = [found for _, place in rows for found in re.findall(r"`(\w+)`[^|;`]* in `([\w/.]+\.py)`", place)]
    assert len(named) > 2
    assert [name for name, file in named if not re.search(rf"\b{name}\b", (ROOT / file).read_text())] == []


def _drawn_floors(page: str) -> tuple[dict[str, list[set[str]]], list[str]]:
    """Return the floors by package that the page draws, and the modules that it has in parentheses."""
    planned, floors = [], {"pilotmtc": [set[str]()]}
    for picture in re.findall(r"```floors\n(.*?)```", page, re.DOTALL):
        above = ""
        for line in picture.splitlines():
            if line.startswith("--"):
                floors["pilotmtc"].append(set())
            elif line.startswith(" "):
                drawn = [re.split(r",\s*", layer.strip()) for layer in line.split(" > ")]
                floors[above] = [{name.strip("()") for name in layer} for layer in drawn]
                planned += [f"{above}.{name.strip('()')}" for layer in drawn for name in layer if name.startswith("(")]
            else:
                name = line.split()[0]
                above = name if name.startswith("pilotmtc") else f"pilotmtc.{name.strip('()')}"
                if above != name:
                    floors["pilotmtc"][-1].add(name.strip("()"))
                planned += [above] if name.startswith("(") else []
    return floors, planned


def test_no_file_of_the_package_is_too_long_to_read() -> None:
    long = {
        str(file.relative_to(ROOT)): lines
        for file in [*(ROOT / "pilotmtc").rglob("*.py"), *(ROOT / "adaptors").rglob("*.py")]
        if (lines := len(file.read_text().splitlines())) > 600
    }
    assert long == {}


def test_changelog_speaks_of_this_version() -> None:
    assert f"## [{pilotmtc.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_links_in_the_documents_lead_somewhere() -> None:
    documents = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
    dead = []
    for document in documents:
        for piece in document.read_text().split("](")[1:]:
            target = piece.split(")")[0].split("#")[0]
            if target and "://" not in target and not (document.parent / target).exists():
                dead.append(f"{document.name}: {target}")
    assert dead == []


def test_every_dependency_says_what_it_is_for() -> None:
    lines = (ROOT / "pyproject.toml").read_text().split("dependencies = [")[1].split("\n]")[0].splitlines()
    assert [line for line in lines if line.strip() and "#" not in line] == []
