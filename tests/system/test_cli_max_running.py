"""``--max-running``: a campaign goes gently."""

from typing import Any

import pytest

from pilotmtc import Session
from pilotmtc.errors import UsageError
from tests.user import User

WAIT = "while ! test -e go; do sleep 0.1; done #{}"


def campaign(user: User) -> dict[str, Any]:
    """Return the newest campaign."""
    found: dict[str, Any] = user.cli("status", "--json").record["campaigns"][0]
    return found


def test_no_more_tasks_run_at_once_until_it_is_edited(user: User) -> None:
    user.cli("submit", "--max-running", "1", "--name", "gentle", WAIT, ":::", "1", "2", "3", "4")
    user.cli("pilot", "submit", "--cores", "2")
    user.cli("pilot", "submit", "--cores", "2")
    user.wait_counts(RUNNING=1, READY=3)
    (waiting, *_) = user.cli("tasks", "--state", "ready", "--json").records
    assert "has 1 task with pilots, and may have 1 at once" in user.cli("explain", str(waiting["id"])).out
    assert "at most 1 task" in user.cli("show", "gentle").out
    said = user.cli("edit", "-c", "gentle", "--max-running", "3").out
    assert said == "campaign 1 runs at most 3 tasks at once\n"
    user.wait_counts(RUNNING=3, READY=1)
    user.cli("edit", "-c", "1", "--max-running", "0", "--json")
    user.wait_counts(RUNNING=4)
    assert campaign(user)["max_running"] is None
    (user.here / "go").touch()
    user.wait_counts(DONE=4)


def test_run_keeps_to_it(user: User) -> None:
    user.cli("run", "-q", "-j", "4", "--max-running", "2", "sleep 0.2; echo {}", ":::", *"12345678")
    assert user.counts() == {"DONE": 8}
    with Session(user.store) as session:
        ended = [task.last for task in session.tasks(all=True)]
    times = [(last.started_at, last.started_at + last.elapsed_s) for last in ended if last is not None]
    assert max(sum(begin <= at < end for begin, end in times) for at, _ in times) <= 2


def test_file_and_python_say_it_and_wrong_numbers_are_refused(user: User) -> None:
    user.file("scan.toml", 'max_running = 3\n[[task]]\ncommand = "echo {}"\nparams = [1, 2]\n')
    user.cli("submit", "scan.toml")
    assert campaign(user)["max_running"] == 3
    assert "max_running = 3" in user.cli("show", "1", "--as", "toml").out
    assert " --max-running 3 " in user.cli("show", "1", "--as", "command").out
    assert "write it into scan.toml" in user.cli("submit", "--max-running", "2", "scan.toml", code=2).err
    assert "choose by --campaign alone" in user.cli("edit", "1", "--max-running", "2", code=2).err
    user.file("wrong.toml", 'max_running = "many"\n[[task]]\ncommand = "true"\n')
    assert "max_running: 'many' is not a whole number" in user.cli("submit", "wrong.toml", code=2).err
    with Session(user.store) as session:
        made = session.submit("true", max_running=7)
        assert session.campaign(made).max_running == 7
        session.set_max_running(made, 0)
        assert session.campaign(made).max_running == 0
        for wrong in (-1, 2**40):
            with pytest.raises(UsageError, match="give the number of tasks"):
                session.set_max_running(made, wrong)
