"""Text that is made to fit a terminal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from pilotmtc.model import (
    Attempt,
    Campaign,
    CampaignId,
    Function,
    PilotId,
    Resources,
    Task,
    TaskId,
    Template,
)
from pilotmtc.protocol.client.tasks import TaskDetail
from pilotmtc.states import Cause, TaskState
from pilotmtc.text.campaigns import campaign_title
from pilotmtc.text.endings import describe_end
from pilotmtc.text.tables import shorten, shorten_middle, width_of
from pilotmtc.text.tasks import attempt_row, command_line, detail_rows, last_lines

TEXTS = st.text(st.characters(categories=("L", "N", "P", "Zs")), max_size=60)


@given(TEXTS, st.integers(0, 70))
def test_shortened_text_fits_and_is_whole_if_it_can_be(text: str, width: int) -> None:
    for short in (shorten(text, width), shorten_middle(text, width)):
        assert width_of(short) <= width
        assert (short == text) or width_of(text) > width


@pytest.mark.parametrize(
    ("text", "width", "short"),
    [
        ("./scan --mass 1 --seed 17", 16, "./scan --m…ed 17"),
        ("./scan", 6, "./scan"),
        ("./scan", 5, "./s…n"),
        ("./scan", 2, ".…"),
        ("./scan", 0, ""),
        ("東京東京東京", 9, "東京東…京"),
    ],
)
def test_end_of_a_long_text_is_kept_with_its_beginning(text: str, width: int, short: str) -> None:
    assert shorten_middle(text, width) == short


# -- tasks, and how they ended


def task(command: tuple[str, ...], function: str = "", *, shell: bool = False, **params: str) -> Task:
    return Task(TaskId(7), CampaignId(3), TaskState.READY, 0, 0, command, shell, params, Resources(), function=function)


@pytest.mark.parametrize(
    ("one", "line"),
    [
        (task(("sim", "{x}"), x="a b"), "sim 'a b'"),
        (task(("sim {x} > out",), shell=True, x="a b"), "sim 'a b' > out"),
        (task(("work({args})",), "work", args="3.0"), "work(3.0)"),
        (task(("work({args})",), "work", args="'a b', {'x': 1}"), "work('a b', {'x': 1})"),
        (task(("f{{x}}({args})",), "f{x}", args=""), "f{x}()"),
    ],
)
def test_command_or_call_is_shown_with_its_values(one: Task, line: str) -> None:
    assert command_line(one) == line


@pytest.mark.parametrize(
    ("key", "name", "command", "title"),
    [
        ("calls-1", "", ("work({args})",), "work(...)"),
        ("calls-1", "scan", ("work({args})",), "scan"),
        ("1", "", ("echo {args}",), "echo {args}"),
        ("calls-1", "", (), ""),
    ],
)
def test_campaign_of_calls_is_titled_by_its_function(key: str, name: str, command: tuple[str, ...], title: str) -> None:
    assert campaign_title(Campaign(CampaignId(1), key, name, 0.0, 1, True, {}, command=command)) == title


@pytest.mark.parametrize(
    ("code", "value_text", "words"),
    [
        (0, "", "exit 0"), (3, "", "exit 3"), (0, "9.0", "returned"), (0, "'a: b'", "returned"),
        (1, "ValueError: bad: x", "raised ValueError"), (1, "KeyboardInterrupt", "raised KeyboardInterrupt"),
    ],
)  # fmt: skip
def test_how_a_call_ended(code: int, value_text: str, words: str) -> None:
    last = Attempt(TaskId(7), 1, Cause.EXIT, PilotId(2), code, value_text=value_text)
    assert describe_end(last) == words
    assert attempt_row(last, 0.0)[-1] == value_text


def test_details_of_a_call() -> None:
    last = Attempt(TaskId(7), 1, Cause.EXIT, PilotId(2), 1, value_text="ValueError: bad x")
    one = replace(task(("work({args})",), "work", args="3.0"), state=TaskState.FAILED, last=last)
    function = Function("work", "0" * 64, python="/opt/python", version=(3, 12))
    rows = dict(detail_rows(TaskDetail(one, Template(one.command, function=function)), 0.0))
    names = ("call", "raised", "value", "function", "python", "command", "params")
    assert {name: rows.get(name) for name in names} == {
        "call": "work(3.0)", "raised": "ValueError: bad x", "value": "", "function": "work",
        "python": "/opt/python, for functions of Python 3.12", "command": None, "params": None,
    }  # fmt: skip


def test_last_lines_of_what_was_written() -> None:
    assert last_lines(b"one\ntwo\xff\nthree\n\n", 2) == ["two\ufffd", "three"]
    assert last_lines(b"", 2) == []
