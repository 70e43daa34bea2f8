"""From the words of a command line to tasks."""

import subprocess
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pilotmtc.errors import UsageError
from pilotmtc.session import as_source
from pilotmtc.session.submit.again import joined
from pilotmtc.session.submit.command_line import commands_of, tasks_of
from pilotmtc.session.submit.tasks import make_commands
from pilotmtc.template import expand, shown


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        (["./sim", "{x}"], ("x",)),
        (["./sim {x} {task_id}"], ("x",)),
        (["./sim", "--y={y}", "{x}", "{y}"], ("y", "x")),
        (["./sim", "{}"], ("1",)),
        (["./sim"], ("1",)),
        (["./sim", "{1}"], ("1",)),
        (["awk '{{print}}'"], ("1",)),
    ],
)
def test_lists_have_the_names_that_the_command_has_for_them(words: list[str], fields: tuple[str, ...]) -> None:
    tasks = list(tasks_of([*words, *[":::", "a", "b"] * len(fields)], [], None, [], {}))
    assert {task.template.fields for task in tasks} == {fields}
    assert [task.params for task in tasks][:2] == [("a",) * len(fields), ("a",) * (len(fields) - 1) + ("b",)]


@pytest.mark.parametrize(
    "words",
    [["./sim", "{x}", "{y}"], ["./sim", "{x}", "{1}"], ["./sim", "{x}", "{}"], ["awk '{print}'"], ['awk "{print}"']],
)
def test_names_that_are_not_one_for_each_list_are_errors(words: list[str]) -> None:
    with pytest.raises(UsageError, match="is no parameter"):
        list(tasks_of([*words, ":::", "a"], [], None, [], {}))


def test_names_of_other_sources_are_not_taken_for_those_of_lists() -> None:
    with pytest.raises(UsageError, match=r"\{y\} in the command is no parameter"):
        list(tasks_of(["./sim", "{x}", "{y}", ":::", "a", ":::", "b"], [], None, ["x=1,2"], {}))


@pytest.mark.parametrize(
    ("params", "said"),
    [
        (5, r"params=5 is one value: give a list, as in params=\[5\]"),
        ({"x": 5}, r"params\['x'\] is 5: give a list of values"),
        ([None], "row 1 of params holds None, which is not one value"),
        (iter([1, b"x"]), "row 2 of params holds b'x', which is not one value"),
        ([1, (2, 3)], r"row 2 of params holds \(2, 3\), which is not one value"),
        ([{"x": 1}, {"x": None}], "'x' in row 2 of params holds None, which is not one value"),
        ([[*range(1000)]], r"holds \[0, 1, 2.{80,95}\.\.\., which is not one value"),
        ({"x": [1, [2]]}, r"params\['x'\] holds \[2\], which is not one value"),
    ],
)
def test_parameters_that_are_not_single_values_are_errors(params: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        list(as_source(params))


def test_single_values_of_any_kind_are_texts() -> None:
    values: list[Any] = [1, 2.5, True, Path("/a"), Decimal("1.50"), "x"]
    assert list(as_source(values)) == [
        ("1",), ("2.5",), ("True",), ("/a",), ("1.50",), ("x",),
    ]  # fmt: skip
    assert list(as_source([])) == []


def test_rows_are_numbered_where_any_text_asks_for_it() -> None:
    for options in ({"task_name": "t{#}"}, {"tags": ["{#:02d}"]}, {"env": {"N": "{#}"}}, {"stdout": "{#}"}):
        tasks = list(tasks_of(["echo", "{}", ":::", "a", "b"], [], None, [], options))  # type: ignore[arg-type]
        assert [task.params for task in tasks] == [("a", "1"), ("b", "2")]
    tasks = list(tasks_of(["./sim", "{x.}", "{#}", ":::", "a.b", "c"], [], None, [], {}))
    assert [dict(zip(task.template.fields, task.params, strict=True)) for task in tasks] == [
        {"x": "a.b", "#": "1"},
        {"x": "c", "#": "2"},
    ]


def test_whole_commands_are_taken_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "jobs.txt"
    path.write_text("echo {x} | cat\n\n  sort '2'\r\n-x\n")
    tasks = list(commands_of(str(path), None, {"stdout": "{#}.log"}))
    assert [task.params for task in tasks] == [("echo {x} | cat", "1"), ("  sort '2'", "2"), (" -x", "3")]
    made = [expand(task.template, task.params, task=1, attempt=1, campaign=1) for task in tasks]
    assert [one.argv for one in made] == [["/bin/sh", "-c", task.params[0]] for task in tasks]
    assert [one.alone for one in made] == [None, ["sort", "2"], None]
    assert shown(tasks[0].template, tasks[0].params, task=1, attempt=1, campaign=1) == "echo {x} | cat"
    path.write_bytes(b"echo a\necho b\0true\0")
    assert [task.params for task in commands_of(str(path), "null", {})] == [("echo a\necho b",), ("true",)]
    with pytest.raises(UsageError, match="whole commands are single texts, and these have the names a, b"):
        make_commands(as_source([{"a": 1, "b": 2}]), {})


def test_values_end_with_nul_where_that_is_said(tmp_path: Path) -> None:
    path = tmp_path / "names"
    path.write_bytes(b"a\nb\0c\r\0\0d")
    assert [task.params for task in tasks_of(["echo"], [str(path)], "null", [], {})] == [("a\nb",), ("c\r",), ("d",)]


def test_captured_environment_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRACES", "{x} {nobody} {.}")
    monkeypatch.setenv("OURS", "environment")
    options: Any = {"capture_env": True, "env": {"OURS": "{x}"}}
    (task,) = tasks_of(["true", ":::", "1"], [], None, [], {"env": {"OURS": "a"}})
    assert task.template.env == {"OURS": "a"}
    (task,) = tasks_of(["--", "echo", "{x}", ":::", "1"][1:], [], None, [], options)
    made = expand(task.template, task.params, task=1, attempt=1, campaign=1)
    assert (made.env["BRACES"], made.env["OURS"]) == ("{x} {nobody} {.}", "1")


@pytest.mark.parametrize(
    ("word", "quoted"),
    [
        ("a b", "'a b'"),
        ("line\nline", "'line\nline'"),
        ("\x1b[31m it's", r"$'\x1b[31m it\'s'"),
        ("back\\slash\x07", r"$'back\\slash\x07'"),
        ("\x9b \udcff", r"$'\xc2\x9b \xff'"),
    ],
)
def test_pasted_command_line_has_nothing_that_a_terminal_obeys(word: str, quoted: str) -> None:
    assert joined(["echo", word, ":::", "1"]) == f"echo {quoted} ::: 1"
    said = subprocess.run(["bash", "-c", f"printf %s {quoted}"], stdout=subprocess.PIPE, check=True)
    assert said.stdout == word.encode("utf-8", "surrogateescape")


@pytest.mark.parametrize("name", ["1X", "", "a-b", "a b", "ä"])
def test_variable_that_no_shell_could_use_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="cannot name a variable: use letters, digits and underscores"):
        tasks_of(["true"], (), None, (), {"env": {name: "3"}})
