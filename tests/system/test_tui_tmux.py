"""The screen in tmux, with a real pilot, by keys alone: what a person does on a login node."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.lab.tmux import Tmux, a_tmux
from tests.support import processes_with, wait_until
from tests.user import User

_COLOUR = re.compile(r"\x1b\[[0-9;]*?[34]8;5;(\d+)")
_GREYS = {0, 7, 8, 15, 16, 59, 102, 145, 188, *range(231, 256)}
_MODES = ("alternate_on", "cursor_flag", "mouse_any_flag", "keypad_flag")

Sit = Callable[..., Tmux]


@pytest.fixture
def sit(user: User, surroundings: Path) -> Iterator[Sit]:
    """Sit down at a terminal of some size."""
    with ExitStack() as stack:

        def sit(width: int, height: int, **env: str) -> Tmux:
            own = {name: value for name, value in user.env.items() if name not in ("COLUMNS", "TMUX", "TMUX_PANE")}
            return stack.enter_context(a_tmux(surroundings / "tmux", own | env, (width, height), user.here))

        yield sit


def start(tmux: Tmux, user: User) -> list[str]:
    """Start the screen from the shell, and return the modes that the terminal had."""
    program = user.file("pilotmtc", f'#!/bin/sh\nexec {" ".join(user.argv())} "$@"\n')
    program.chmod(0o755)
    before = tmux.flags(*_MODES)
    tmux.type("stty -a > before; ./pilotmtc tui; echo left with $?; stty -a > after")
    tmux.press("Enter")
    tmux.see("● live")
    assert tmux.flags("alternate_on") == ["1"]
    return before


def leave(tmux: Tmux, user: User, before: list[str]) -> None:
    """Quit, and see the shell as it was."""
    tmux.press("q")
    tmux.see("left with 0")
    wait_until((user.here / "after").exists)
    assert tmux.flags(*_MODES) == before
    assert (user.here / "after").read_text() == (user.here / "before").read_text()
    assert "● live" not in tmux.text()
    assert "Traceback" not in tmux.text()


@pytest.mark.parametrize(("size", "env"), [((120, 40), {}), ((80, 24), {"NO_COLOR": "1"})])
def test_a_study_is_run_and_looked_at_by_keys_alone(
    user: User, sit: Sit, size: tuple[int, int], env: dict[str, str]
) -> None:
    tmux = sit(*size, **env)
    before = start(tmux, user)
    tmux.see("0 tasks")
    user.cli("submit", "--name", "night", "echo said {}; exit {}", ":::", "0", "0", "3")
    tmux.see("○ 3", "3 tasks could run, and no pilot is active", "night")
    # Typed faster than drawn, as on a slow link. The site and nodes stay; then cores, walltime, idle.
    tmux.press("p")
    tmux.see("Submit a pilot.")
    tmux.press("Tab", "Tab", "2", "Tab", *"10m", "Tab", "1", "s", "C-s")
    tmux.see("✓ 2", "✗ 1", "1 task of campaign 1 (night) failed with exit code 3")
    (pilot,) = user.cli("pilot", "list", "--all", "--json").records
    assert (pilot["cores"], pilot["walltime_s"]) == (2, 600.0)
    tmux.press("t")
    tmux.see("said 0", "said 3")
    tmux.press("/", *"state:failed", "Enter")
    wait_until(lambda: "said 0" not in tmux.text(), 20.0, tmux.text)
    tmux.see("✗ FAILED", "said 3", "exit 3")
    tmux.press("Enter")
    tmux.see("task 3", "1 Why")
    tmux.press("2")
    wait_until(lambda: re.search(r"(?m)^[ │]*1 said 3\b", tmux.text()), 20.0, tmux.text)
    colours = {int(number) for number in _COLOUR.findall(tmux.raw())} - _GREYS
    assert bool(colours) is not bool(env)
    tmux.press("q", "q")  # back to the overview
    tmux.see("Pilots", "Campaigns")
    leave(tmux, user, before)
    user.wait_alone()


def test_screen_that_loses_its_terminal_ends(user: User, sit: Sit, surroundings: Path) -> None:
    tmux = sit(100, 30)
    start(tmux, user)
    mark = f"XDG_RUNTIME_DIR={surroundings}"

    def screens() -> list[int]:
        return [pid for pid, command in processes_with(mark).items() if command.split()[-1:] == ["tui"]]

    assert screens()
    tmux.close()
    wait_until(lambda: not screens(), 20.0, lambda: processes_with(mark))
