"""``pilotmtc show``: what makes a campaign again is made again."""

import contextlib
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pilotmtc import Session
from pilotmtc.cli.output import shapes
from pilotmtc.errors import UsageError
from tests.user import User

_KEPT = (
    "command", "shell", "params", "name", "tags", "priority", "cores", "gpus", "memory_bytes", "resources",
    "time_limit_s", "expected_s", "grace_s", "signal_first", "ranks", "ranks_per_node", "max_retries", "env", "cwd",
    "stdin", "stdout", "stderr", "append", "setup", "shell_program", "backoff_s", "max_output_bytes",
)  # fmt: skip


def made(user: User) -> tuple[str, list[dict[str, Any]]]:
    """Return the name and the tasks of the first campaign, with what they wait for counted from its first task."""
    with Session(user.store) as session:  # a command for each task would take long
        tasks: list[dict[str, Any]] = [shapes.detail(session.task(task.id)) for task in session.tasks(campaign=1)]
        name = session.campaign(1).name
    waits = [[(need["id"] - tasks[0]["id"], need["well"]) for need in task["needs"]] for task in tasks]
    return name, [{key: task[key] for key in _KEPT} | {"needs": wait} for task, wait in zip(tasks, waits, strict=True)]


def again(user: User, form: str, number: int = 1) -> None:
    """Check that what is shown makes an equal campaign in a fresh store."""
    text = user.cli("show", "1", "--as", form).out
    other = User(user.here)
    other.store = user.here / f"fresh-{number}.db"
    other.env = user.env | {"PILOTMTC_STORE": str(other.store)}
    if form == "toml":
        other.cli("submit", str(user.file("again.toml", text)))
    else:
        program, *words = shlex.split(text)
        assert program == "pilotmtc"
        other.cli(*words)
    (name, tasks), (other_name, other_tasks) = made(user), made(other)
    assert tasks == other_tasks
    assert name in (other_name, "")


EVERYTHING = [
    "--name", "all of it", "--cores", "2", "--ranks", "2", "--ranks-per-node", "1", "--gpus", "1", "--memory", "1500M",
    "--resource", "licence=2", "--resource", "odd name=0.5", "--time-limit", "90s", "--expected", "1.5", "--grace", "0",
    "--signal-first", "USR1", "--priority", "-3", "--retries", "4", "--backoff", "2.5", "--max-output", "3k",
    "--env", "A={x} 'quoted' \"double\" $HOME", "--env", "B=", "--setup", "true", "--setup", "X='1'",
    "--shell", "bash -e", "--cwd", "some {{x}} dir", "--stdin", "in put", "--stdout", "out/{x}-{y}.txt",
    "--stderr", "e{task_id}", "--append", "--task-name", "sim-{x}/{y}", "--tag", "t{y}", "--tag", "plain",
    "--grid", "x=1..2", "--grid", "y=a,b b",
]  # fmt: skip


@pytest.mark.parametrize("form", ["command", "toml"])
@pytest.mark.parametrize(
    "words",
    [
        [*EVERYTHING, "--", "echo", "{x}", "it's", "{{y}}", "${y}", "\n", "ü"],
        ["echo {} | awk '{print $1}'", ":::", "1", "it's", "$HOME", "a b", "-x", ""],
        ["--", "-c", "{1}{2}", ":::", "1", "2", ":::", "3", "4"],
        ["echo {a}{b}", ":::", "1", "2", ":::", "3"],
        ["echo {#}-{1}", ":::", "x", "y"],
        ["--grid", "mass=1:2:0.5", "echo {mass} {1}", ":::", "x", "y"],
        ["--capture-env", "true"],
        ["true"],
    ],
    ids=["everything", "line", "vector", "named", "number", "mixed", "environment", "one"],
)
def test_what_is_shown_makes_an_equal_campaign(user: User, form: str, words: list[str]) -> None:
    user.cli("submit", *words)
    again(user, form)


def test_file_is_made_again_with_its_dependencies_and_what_was_edited(user: User) -> None:
    user.file("values.csv", "n,m\n1,2\n2,4\n3,9\n")
    user.file("scan.toml", """
name = "chain"
[defaults]
retries = 2
env = { ALL = "1" }
[[task]]
name = "prep-{n}"
command = "echo {n} {m}"
from = "values.csv"
tags = ["n{n}"]
[[task]]
name = "fit-{k}"
command = ["fit", "{k}"]
grid = { k = "1..3" }
after = "prep-{k}"
[[task]]
command = "rm -r x"
after = ["fit-1", "fit-2"]
after_any = "prep-3"
[[task]]
command = "echo"
params = ["a", "b"]
[[task]]
command = ["echo", "{2}{1}"]
params = [["a", 1.50], ["b", true]]
""")  # fmt: skip
    user.cli("submit", "scan.toml")
    again(user, "toml")
    user.cli("edit", "2", "--memory", "3G", "--priority", "7")
    assert 'memory = "3G"' in user.cli("show", "chain", "--as", "toml").out
    again(user, "toml", 2)
    said = user.cli("show", "chain", "--as", "command", code=2).err
    assert "no command line makes campaign 1 again: its tasks differ in more than their values" in said
    assert "pilotmtc show 1 --as toml" in said


def test_what_cannot_be_said_is_named(user: User) -> None:
    user.cli("submit", "true")
    user.cli("submit", "--after", "1", "--", "echo")
    assert "task 1 of campaign 2 waits for task 1" in user.cli("show", "2", "--as", "toml", code=2).err
    assert user.cli("show", "2", "--as", "command", "--json").record["text"].endswith(" --after 1 -- echo")
    user.file("values.csv", "n,m\n1,2\n2,4\n")
    user.cli("submit", "--from", "values.csv", "--name", "table", "echo {n} {m}")
    assert "its values are not all combinations" in user.cli("show", "table", "--as", "command", code=2).err
    assert "--as" in user.cli("show", "table", "--as", "csv", code=2).err
    assert "no campaign is called 'nix'" in user.cli("show", "nix", "--as", "toml", code=2).err
    assert "echo {n} {m}" in user.cli("show", "table").out
    with Session(user.store) as session:
        session.submit(["true"])
        with pytest.raises(UsageError, match="cannot say that shell of task 1 is False"):
            session.show(4, form="command")
        assert 'command = ["true"]' in session.show(4)
        with pytest.raises(UsageError, match="'csv' is neither"):
            session.show(4, form="csv")  # type: ignore[arg-type]


_TEXT = st.text(st.sampled_from("ab{}{}$'\"\\ =,:.#-~\n\t\x7f\x9bü1"), min_size=1, max_size=6)
_PARAMS = st.lists(_TEXT, min_size=1, max_size=4) | st.fixed_dictionaries(
    {"a": st.lists(_TEXT, min_size=1, max_size=3), "b": st.lists(_TEXT, min_size=1, max_size=2)}
)


@pytest.fixture
def session(tmp_path: Path, surroundings: Path) -> Iterator[Session]:
    """A session for all examples of a test."""
    with Session(tmp_path / "store.db") as session:
        yield session


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    command=st.lists(_TEXT, min_size=1, max_size=3) | _TEXT,
    params=_PARAMS,
    env=st.dictionaries(st.sampled_from(["A", "B"]), _TEXT),
    tags=st.lists(_TEXT, max_size=2),
    retries=st.integers(0, 3),
    time_limit=st.sampled_from([0, 0.1, 90, 1e9]),
)
def test_any_campaign_is_made_again(session: Session, command: Any, params: Any, **options: Any) -> None:
    try:
        before = session.submit(command, params, **options)
    except UsageError:
        return
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".toml") as file:
        file.write(session.show(before))
        file.flush()
        after = session.submit_file(file.name)
    one, two = (
        [
            (task.command, task.shell, task.params, task.tags, task.resources, task.template)
            for task in session.tasks(campaign=campaign)
        ]
        for campaign in (before, after)
    )
    assert one == two
    with contextlib.suppress(UsageError):  # there need not be a command line
        assert session.show(before, form="command").startswith("pilotmtc submit ")
