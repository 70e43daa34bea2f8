"""Options in general: what commands do with repeated and empty ones, and with selections of several campaigns."""

from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from pilotmtc.cli.app import HIDDEN, SECTIONS, app
from pilotmtc.cli.command import Clearable, GlobalOptions
from tests.user import User


def commands() -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield all commands, each with the words that name it."""
    todo: list[tuple[tuple[str, ...], click.Command]] = [((), app)]
    while todo:
        words, command = todo.pop()
        yield words, command
        if command is app:
            names = [*(name for section in SECTIONS.values() for name in section), *HIDDEN]
            todo += [((name,), found) for name in names if (found := app.get_command(click.Context(app), name))]
        elif isinstance(command, click.Group):
            todo += [((*words, name), found) for name, found in command.commands.items()]


SINGLE = [
    (words, option)
    for words, command in commands()
    for option in command.params
    if isinstance(option, click.Option) and not option.multiple and not option.is_flag
]


@pytest.mark.parametrize(("words", "option"), SINGLE, ids=[" ".join((*w, o.opts[0])) for w, o in SINGLE])
def test_option_of_one_value_is_refused_twice_and_empty(words: tuple[str, ...], option: click.Option) -> None:
    name = option.opts[-1]
    wrong = [([name, "1", name, "2"], "is given twice")]
    if not isinstance(option, Clearable):
        wrong.append(([name, ""], "is empty"))
    for given, answer in wrong:
        done = CliRunner().invoke(app, [*words, *given], obj=GlobalOptions())
        assert done.exit_code == 2, done.output
        assert answer in done.output


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("run ", "file,"),
        ("run --from d", "file,d"),
        ("run -- cat d", "file,d"),
        ("run --cwd d", "file,d"),
        ("run --stdout ", "file,"),
        ("submit c", "file,c"),
        ("--store s", "file,s"),
        ("tasks --store s", "file,s"),
        ("store snapshot b", "file,b"),
        ("store export -o b", "file,b"),
        ("tasks --state runn", "plain,running"),
        ("tas", "plain,tasks\nplain,task"),
    ],
)
def test_completion_offers_files_where_they_belong(user: User, words: str, expected: str) -> None:
    typed = f"pilotmtc {words}"
    count = len(typed.split()) - (not typed.endswith(" "))
    done = user.cli(_PILOTMTC_COMPLETE="bash_complete", COMP_WORDS=typed, COMP_CWORD=str(count))
    assert done.out == f"{expected}\n"


def test_campaigns_may_be_several(user: User) -> None:
    for values in ("1", "1 2", "1 2 3"):
        user.cli("submit", "true {}", ":::", *values.split())
    assert len(user.cli("tasks", "-c", "1", "-c", "3", "--json").records) == 4
    assert {row["campaign"] for row in user.cli("tasks", "--filter", "campaign:2,3", "--json").records} == {2, 3}
    assert user.cli("cancel", "-c", "1", "-c", "2").out == "3 tasks canceled\n"
    user.cli("store", "export", "-c", "1", "-c", "2", "-o", "two.csv")
    assert [line.split(",")[1] for line in (user.here / "two.csv").read_text().splitlines()] == ["campaign", *"122"]
    assert "no campaign 9" in user.cli("cancel", "-c", "3", "-c", "9", code=2).err
    assert user.counts(3) == {"READY": 3}
    assert user.cli("cancel", "--all").out == "3 tasks canceled; 3 had finished already\n"
