"""From the words of a command line to tasks."""

import pytest

from pilotmtc.errors import UsageError
from pilotmtc.session.words import tasks_of


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
