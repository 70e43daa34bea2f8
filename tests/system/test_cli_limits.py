"""``pilotmtc store limit``: what all pilots together may use."""

import pytest

from tests.user import User


def test_limits_are_set_listed_and_removed(user: User) -> None:
    assert "there is no store" in user.cli("store", "limit", code=2).err
    assert user.cli("store", "limit", "licence=4", "db=0.5").out == (
        "NAME     IN USE  LIMIT\ndb            0    0.5\nlicence       0      4\n"
    )
    assert user.cli("store", "limit", "--json").records == [
        {"name": "db", "limit": 0.5, "in_use": 0.0},
        {"name": "licence", "limit": 4.0, "in_use": 0.0},
    ]
    user.cli("store", "limit", "licence=5", "db=-1", code=2)  # all of it or nothing
    assert [one["limit"] for one in user.cli("store", "limit", "--json").records] == [0.5, 4.0]
    said = user.cli("store", "limit", "--remove", "db", "--remove", "license", code=2).err
    assert "there is no limit 'license': there are db, licence" in said
    assert len(user.cli("store", "limit", "--json").records) == 2
    done = user.cli("store", "limit", "--remove", "db", "--remove", "licence")
    assert (done.out, "there are no limits" in done.err) == ("", True)
    assert "there is no limit 'db': there are none" in user.cli("store", "limit", "--remove", "db", code=2).err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["licence"], "NAME=NUMBER"),
        (["licence=x"], "NAME=NUMBER"),
        (["licence=-1"], "give a number from 0 to"),
        (["licence=nan"], "give a number from 0 to"),
        (["licence=1", "licence=2"], "licence is given twice"),
        (["licence=1", "--remove", "licence"], "cannot be set and removed at once"),
    ],
)
def test_limits_that_make_no_sense_are_refused(user: User, words: list[str], said: str) -> None:
    assert said in user.cli("store", "limit", *words, code=2).err


def test_tasks_of_a_run_keep_to_a_limit(user: User) -> None:
    user.cli("store", "limit", "lock=1")
    command = "mkdir lock && sleep 0.05 && rmdir lock && echo {}"  # fails if another one is at it
    done = user.cli("run", "-j", "4", "--keep-order", "--resource", "lock=1", command, ":::", *"abcdefgh")
    assert done.out.split() == list("abcdefgh")
    assert (
        "needs 2 of lock, and no more than 1 may be in use at a time"
        in user.cli("run", "--resource", "lock=2", "true", code=2).err
    )


def test_explain_says_what_a_task_waits_for(user: User) -> None:
    user.cli("store", "limit", "lock=1")
    wait = "while [ ! -e gate ]; do sleep 0.05; done; echo {}"
    user.cli("submit", "--resource", "lock=1", wait, ":::", "1", "2")
    user.cli("pilot", "submit", "--cores", "2")
    user.wait_counts(RUNNING=1, READY=1)
    assert "task 2 is READY: it waits for lock: 1 of 1 in use" in user.cli("explain", "2").out
    user.file("gate", "")
    user.wait_counts(DONE=2)
