"""One row in `pilotmtc/resources/kinds.py` makes a new kind of resource: its options, checks, packing and words follow.

The row is there in the command line only: agents and store servers, which are other processes, do without it.
"""

import sys

import pytest

from tests.user import User

_MAIN = """\
from pilotmtc.resources import kinds
kinds.COUNTED["scratch"] = kinds.sized("scratch", "Scratch space per task: 20G.", "Scratch space per node: 500G.")
from pilotmtc.cli import main
main()
"""


class Extended(User):
    """A user whose pilotmtc has that row."""

    def argv(self, *words: str) -> list[str]:
        """Return the command line of ``pilotmtc WORDS``."""
        return [sys.executable, str(self.file("extended.py", _MAIN)), *words]


@pytest.fixture
def extended(user: User) -> Extended:
    """The same user with that row."""
    return Extended(user.here)


def test_nodes_run_no_more_at_a_time_than_fits(extended: Extended) -> None:
    command = "mkdir running.{}; ls -d running.* | wc -l; sleep 0.1; rmdir running.{}"
    words = ["run", "-j", "4", "--pilot-scratch", "10G", "--scratch", "4G", command, ":::", *"abcdefgh"]
    assert max(map(int, extended.cli(*words).out.split())) <= 2


def test_task_that_never_fits_is_refused_with_a_remedy(extended: Extended) -> None:
    run = ["run", "--scratch", "20G", "--pilot-scratch", "10G", "true"]
    assert (
        "a task needs 20G of scratch, and the pilot has 10G: give it --pilot-scratch 20G"
        in extended.cli(*run, code=2).err
    )
    assert "'2X' is not an amount" in extended.cli("run", "--scratch", "2X", "true", code=2).err
    twice = extended.cli("run", "--scratch", "2G", "--resource", "scratch=1", "true", code=2).err
    assert "resource scratch is given twice" in twice


def test_tasks_wait_for_a_pilot_with_enough_and_say_so(extended: Extended) -> None:
    extended.cli("submit", "--scratch", "20G", "echo {}", ":::", "1")
    extended.file("campaign.toml", '[[task]]\ncommand = "echo 2"\nresources = { scratch = "3G" }\n')
    extended.cli("submit", "campaign.toml")
    pilot = extended.cli("pilot", "submit", "--scratch", "10G").out.strip()
    assert "scratch=10G" in extended.cli("pilot", "show", pilot).out
    extended.cli("wait", "2")
    said = extended.cli("explain", "1").out
    assert f"pilot {pilot}: has 10G of scratch a node, and the task needs 20G" in said
    assert "$ pilotmtc pilot submit --scratch 20G" in said
    assert "1 core, 20G of scratch" in extended.cli("task", "1").out
    extended.cli("edit", "1", "--scratch", "1.5G")
    extended.cli("wait", "1")


def test_store_may_limit_it(extended: Extended) -> None:
    extended.cli("store", "limit", f"scratch={5 << 30}")
    said = extended.cli("run", "--scratch", "20G", "true", code=2).err
    assert "a task needs 20G of scratch, and no more than 5G may be in use at a time" in said
