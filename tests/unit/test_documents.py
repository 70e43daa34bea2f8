"""The documents and the program say the same."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
import pytest

from pilotmtc import errors
from pilotmtc.cli import app, command
from pilotmtc.cli.output import shapes
from pilotmtc.errors import PilotMTCError
from pilotmtc.model import Attempt, Campaign, CampaignId, Pilot, PilotDescription, PilotId, Resources, Task, TaskId
from pilotmtc.protocol.client.tasks import TaskDetail
from pilotmtc.report import records
from pilotmtc.report.plan import Plan, Row
from pilotmtc.session import Session, TaskOptions, TaskResult
from pilotmtc.session.look.select import NewValues, Selection
from pilotmtc.session.pilots import Pilots
from pilotmtc.states import Cause, PilotState, TaskState

DOCS = Path(__file__).resolve().parents[2] / "docs"
CLI = (DOCS / "cli.md").read_text()
PYTHON = (DOCS / "python.md").read_text()
EVERYWHERE = {"--store", "--site", "--help", "-h", "--json"}


def commands() -> Iterator[tuple[str, click.Command]]:
    """Yield all commands that help shows, ``pilot submit`` and its like too."""
    root = app.app
    assert isinstance(root, click.Group)
    todo: list[tuple[str, click.Command]] = [("", root)]
    while todo:
        name, found = todo.pop()
        yield name, found
        if isinstance(found, click.Group):
            ctx = click.Context(found)
            for word in found.list_commands(ctx):
                below = found.get_command(ctx, word)
                assert below is not None
                todo.append((f"{name} {word}".strip(), below))


COMMANDS = dict(commands())


def section(name: str) -> str:
    """Return what docs/cli.md has under the heading of the command; of the group's, if it has none of its own."""
    first, _, rest = name.partition(" ")
    (found,) = re.findall(rf"^## `pilotmtc {first}`\n(.*?)(?=^## |\Z)", CLI, re.DOTALL | re.MULTILINE)
    if rest:
        own: list[str] = re.findall(rf"^### `pilotmtc {name}`.*?\n(.*?)(?=^##|\Z)", found, re.DOTALL | re.MULTILINE)
        return own[0] if own else str(found)
    return str(found)


def test_help_speaks_of_all_commands_that_there_are() -> None:
    assert {"run", "submit", "pilot submit", "pilot drain", "status", "store export", "completion"} <= COMMANDS.keys()


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_command_and_its_options_are_documented(name: str) -> None:
    text = section(name) if name else CLI
    if "(#pilotmtc-tasks)" in text:  # whose conditions it has
        text += section("tasks")
    first, _, rest = name.partition(" ")
    assert not rest or f"pilotmtc {name}" in section(first) or f"`{rest}`" in CLI
    options = {word for param in COMMANDS[name].params if isinstance(param, click.Option) for word in param.opts}
    missing = {word for word in options - EVERYWHERE if not re.search(rf"`(?:[^`\n]* )?{word}(?![-\w])", text)}
    assert missing == set(), f"say in docs/cli.md what these options of pilotmtc {name} do"


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_option_and_command_has_help(name: str) -> None:
    found = COMMANDS[name]
    assert found.help
    assert [param.name for param in found.params if isinstance(param, click.Option) and not param.help] == []
    assert found.get_short_help_str() in " ".join(found.help.split()), "a line of a list of commands is cut short"


@pytest.mark.parametrize("name", sorted(name for name in COMMANDS if name and not name.startswith(("comp", "serve"))))
def test_command_that_prints_records_has_json(name: str) -> None:
    if isinstance(COMMANDS[name], click.Group) or name in ("map", "store export", "tui"):  # JSON Lines; a screen
        return
    assert "--json" in {word for param in COMMANDS[name].params for word in param.opts}


def documented_codes() -> set[int]:
    table = CLI.split("### Exit codes")[1].split("\n## ")[0]
    return {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}


def test_exit_codes_are_documented() -> None:
    codes = {value for name, value in vars(command).items() if name.startswith("EXIT_")}
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, PilotMTCError)]
    assert documented_codes() == {0} | codes | {kind.exit_code for kind in kinds}


def test_errors_are_documented() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, PilotMTCError)]
    assert [kind.__name__ for kind in kinds if not re.search(rf"[`.]{kind.__name__}`", PYTHON)] == []


ATTEMPT = Attempt(TaskId(1), 1, Cause.EXIT, PilotId(1))
TASK = Task(TaskId(1), CampaignId(1), TaskState.DONE, 1, 0, ("true",), False, {}, Resources())
SHAPES = {
    "campaign": shapes.campaign(Campaign(CampaignId(1), "k", "", 0.0, 1, True)),
    "pilot": shapes.pilot(Pilot(PilotId(1), PilotDescription(), PilotState.NEW, 0.0)),
    "task": shapes.task(TASK),
    "task in full": {
        key: value for key, value in shapes.detail(TaskDetail(TASK)).items() if key not in shapes.task(TASK)
    },
    "attempt": shapes.attempt(ATTEMPT),
    "result": shapes.result(TaskResult(TaskId(1), CampaignId(1), None, (), {}, TaskState.DONE)),
}


@pytest.mark.parametrize("name", SHAPES)
def test_keys_of_json_are_documented(name: str) -> None:
    (row,) = re.findall(rf"^\| {name} \|.*$", CLI.split("\n## JSON")[1], re.MULTILINE)
    assert [key for key in SHAPES[name] if f"`{key}`" not in row] == []


def test_numbers_of_reports_are_documented() -> None:
    page = (DOCS / "report.md").read_text()
    kinds = [kind for kind in vars(records).values() if isinstance(kind, type) and issubclass(kind, msgspec.Struct)]
    fields = {field.name for kind in kinds if kind is not msgspec.Struct for field in msgspec.structs.fields(kind)}
    assert [name for name in sorted(fields) if f"`{name}`" not in page] == []
    (row,) = re.findall(r"^\| report \|.*$", CLI.split("\n## JSON")[1], re.MULTILINE)
    assert [field.name for field in msgspec.structs.fields(records.Summary) if f"`{field.name}`" not in row] == []


def test_numbers_of_plans_are_documented() -> None:
    (row,) = re.findall(r"^\| plan \|.*$", CLI.split("\n## JSON")[1], re.MULTILINE)
    fields = [field.name for kind in (Plan, Row) for field in msgspec.structs.fields(kind)]
    assert [name for name in fields if f"`{name}`" not in row] == []


def test_methods_of_the_session_are_documented() -> None:
    methods = [name for kind in (Session, Pilots) for name in vars(kind) if not name.startswith("_")]
    assert [name for name in methods if not re.search(rf"(`|\.|, `){name}[(`]|\.{name}\b", PYTHON)] == []


@pytest.mark.parametrize("kind", [TaskOptions, Selection, NewValues])
def test_keywords_of_the_session_are_documented(kind: type) -> None:
    assert [name for name in kind.__annotations__ if f"`{name}`" not in PYTHON] == []


def test_fields_of_results_are_documented() -> None:
    fields = [field.name for field in msgspec.structs.fields(TaskResult) if field.name[0] != "_"]
    assert [name for name in [*fields, "ok", "text", "error_text"] if f"`{name}`" not in PYTHON] == []


def test_files_that_documents_name_are_there() -> None:
    pages = [DOCS.parent / "README.md", DOCS.parent / "CONTRIBUTING.md", *DOCS.glob("*.md")]
    named = {
        word for page in pages for word in re.findall(r"`((?:tests|pilotmtc|adaptors)/[\w/.]+)`", page.read_text())
    }
    assert len(named) > 50
    assert [word for word in sorted(named) if not (DOCS.parent / word).exists()] == []
