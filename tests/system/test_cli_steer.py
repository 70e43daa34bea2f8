"""``submit``, ``pilot``, ``wait``, ``cancel``, ``retry`` and ``edit``, and what they change."""

import os
import signal
from collections.abc import Iterator

import pytest

from pilotmtc.cli.commands.steer.wait import _wait_for
from pilotmtc.model import Campaign, CampaignId
from pilotmtc.states import TaskState
from tests.support import wait_until
from tests.user import User


def state(user: User, task: int) -> str:
    return str(user.cli("task", str(task), "--json").record["state"])


def test_submit_prints_the_id_and_nothing_else(user: User) -> None:
    assert user.cli("submit", "echo {}", ":::", "1", "2") == ("1\n", "", 0)
    found = user.cli("submit", "--name", "two", "--json", "true").record
    assert (found["id"], found["name"], found["tasks"], found["sealed"]) == (2, "two", 1, True)
    assert found["counts"]["READY"] == 1


def test_campaign_file_goes_its_way(user: User) -> None:
    user.file("c.toml", """\
        name = "stages"
        [defaults]
        env = { WHO = "all" }
        [[task]]
        name = "make-{n}"
        command = "echo $((2 * {n})) > {n}.txt"
        grid = { n = "1..3" }
        tags = "first"
        [[task]]
        name = "flaky"
        command = "test {attempt} = 2"
        retries = 1
        [[task]]
        name = "sum"
        command = "cat 1.txt 2.txt 3.txt | paste -sd+ | tee sum.txt; echo $WHO"
        after = ["make-*", "flaky"]
        [[task]]
        name = "broken"
        command = "exit 9"
        [[task]]
        name = "skipped"
        command = "true"
        after = "broken"
        [[task]]
        name = "always"
        command = "echo {campaign_id}"
        after_any = "broken"
    """.replace('"make-*"', '"make-1", "make-2", "make-3"'))  # fmt: skip
    campaign = user.cli("submit", "c.toml").out.strip()
    user.cli("pilot", "submit", "--cores", "2", "--idle", "5s")
    done = user.cli("wait", campaign, code=1)
    assert done.err.splitlines()[-1] == "campaign 1: 6 done, 1 failed, 1 skipped"
    assert (user.here / "sum.txt").read_text() == "2+4+6\n"
    (outcome,) = user.cli("tasks", "--name", "sum", "--json").records
    assert user.cli("logs", str(outcome["id"])).out == "2+4+6\nall\n"
    names = {record["name"]: record["state"] for record in user.cli("results", "--json").records}
    assert names == {
        "make-1": "DONE", "make-2": "DONE", "make-3": "DONE", "flaky": "DONE", "sum": "DONE", "broken": "FAILED",
        "skipped": "SKIPPED", "always": "DONE",
    }  # fmt: skip


def test_pilot_lives_on_and_drains(user: User) -> None:
    started = user.cli("pilot", "submit", "--cores", "1", "--resource", "licence=2", "--walltime", "1h")
    assert started == ("1\n", "", 0)
    found = user.cli("pilot", "show", "1", "--json").record
    assert (found["state"], found["cores"], found["resources"], found["walltime_s"]) == (
        "ACTIVE",
        1,
        {"licence": 2.0},
        3600,
    )
    assert "1 at local" in user.cli("pilot", "show", "1").out
    assert "ACTIVE" in user.cli("pilot", "list").out
    go = user.here / "go"
    user.cli(
        "submit", "--resource", "licence=1", f"until test -e {go}; do sleep 0.05; done; echo {{}}", ":::", "1", "2"
    )
    wait_until(lambda: user.cli("tasks", "-s", "running", "--json").out)
    assert user.cli("pilot", "drain", "1").out == "1 pilot will end when its running tasks finish\n"
    wait_until(lambda: not user.counts().get("CLAIMED"))  # it has given back what it had not begun
    go.touch()
    wait_until(lambda: not user.cli("pilot", "list", "--json").out, 20.0)
    # What ran has ended well, what had not begun is still there.
    assert user.counts() == {"DONE": 1, "READY": 1}
    over = user.cli("pilot", "list", "--all", "--json").record
    assert (over["state"], over["reason"]) == ("DONE", "drained")
    assert (
        user.cli("pilot", "drain", "1").out
        == "0 pilots will end when their running tasks finish; 1 had ended already\n"
    )


def test_canceled_pilot_gives_its_tasks_back(user: User) -> None:
    user.cli("submit", "sleep 60")
    user.cli("pilot", "submit", "--cores", "1", "--json")
    wait_until(lambda: state(user, 1) == "RUNNING")
    assert user.cli("pilot", "cancel", "--all", "--json").record == {"changed": 1, "unfit": 0}
    wait_until(lambda: state(user, 1) == "READY")
    wait_until(lambda: user.cli("pilot", "show", "1", "--json").record["state"] == "CANCELED", 20.0)


def test_pilot_of_a_campaign_takes_nothing_else(user: User) -> None:
    user.cli("submit", "true")
    user.cli("submit", "true")
    user.cli("pilot", "submit", "--campaign", "2", "--idle", "0.5s", "--no-pin")
    user.wait_alone()
    assert (state(user, 1), state(user, 2)) == ("READY", "DONE")


def test_pilot_inherits_the_environment(user: User) -> None:
    user.cli("submit", "echo $COLOUR")
    user.cli("pilot", "submit", "--idle", "1s", COLOUR="green")
    user.cli("wait")
    assert user.cli("logs", "1").out == "green\n"


def test_wait_tells_what_came_out(user: User) -> None:
    user.cli("submit", "true")
    user.cli("submit", "exit 1")
    user.cli("pilot", "submit", "--idle", "2s")
    assert user.cli("wait", "1").err == "campaign 1: 1 done\n"
    assert user.cli("wait", "1", "--quiet") == ("", "", 0)
    found = user.cli("wait", "1", "2", "--json", code=1).records
    assert [(record["id"], record["counts"]["DONE"], record["counts"]["FAILED"]) for record in found] == [
        (1, 1, 0), (2, 0, 1),
    ]  # fmt: skip


def test_wait_gives_up_when_it_is_told_to(user: User) -> None:
    user.cli("submit", "true")
    done = user.cli("wait", "--timeout", "0.2s", code=124)
    assert "no pilot is active to run what is left: pilotmtc pilot submit" in done.err
    assert "campaign 1: 0 done, 1 to run" in done.err


def test_wait_that_gives_up_says_what_runs(user: User) -> None:
    user.cli("submit", "exec sleep {}", ":::", "61.5", "62.5")
    user.cli("pilot", "submit", "--cores", "1")
    wait_until(lambda: state(user, 1) == "RUNNING")
    done = user.cli("wait", "--timeout", "0.2s", code=124)
    assert "campaign 1: 0 done, 1 running, 1 to run\n" in done.err


def test_cancel_ends_what_waits_and_what_runs(user: User) -> None:
    user.cli("submit", "--tag", "a", "exec sleep {}", ":::", "61.5", "62.5")
    user.cli("submit", "--tag", "b", "true")
    assert user.cli("cancel", "--tag", "b").out == "1 task canceled\n"
    assert user.cli("cancel", "--tag", "b").out == "0 tasks canceled; 1 had finished already\n"
    user.cli("pilot", "submit", "--cores", "1")
    wait_until(lambda: state(user, 1) == "RUNNING")
    assert user.cli("cancel", "--campaign", "1", "--json").record == {"changed": 2, "unfit": 0}
    assert "2 canceled" in user.cli("wait", "1", code=1).err
    assert user.cli("task", "1", "--json").record["last"]["cause"] == "CANCELED"


def test_retry_runs_what_failed_and_what_was_skipped(user: User) -> None:
    flag = user.here / "flag"
    user.file("c.toml", f'[[task]]\nname = "a"\ncommand = "test -e {flag}"\n[[task]]\ncommand = "true"\nafter = "a"\n')
    user.cli("run", "-q", "c.toml", code=1)
    assert user.counts() == {"FAILED": 1, "SKIPPED": 1}
    flag.touch()
    assert user.cli("retry", "--state", "failed").out == "2 tasks will run again\n"
    assert user.counts() == {"READY": 1, "WAITING": 1}
    user.cli("run", "--resume")
    assert user.counts() == {"DONE": 2}
    assert (
        user.cli("retry", "--all").out
        == "0 tasks will run again; 2 skipped: only failed, canceled or skipped tasks can be retried\n"
    )


def test_edit_changes_what_has_not_started(user: User) -> None:
    user.cli("submit", "echo {}", ":::", "1", "2", "3")
    new = [
        "--priority", "5", "--cores", "2", "--memory", "1G", "--time-limit", "90", "--expected", "1m", "--gpus", "0.5",
        "--resource", "licence=2",
    ]  # fmt: skip
    assert user.cli("edit", "2-3", *new).out == "2 tasks changed\n"
    found = user.cli("tasks", "3", "--json").record
    expected = {
        "priority": 5, "cores": 2, "memory_bytes": 1 << 30, "time_limit_s": 90.0, "expected_s": 60.0, "gpus": 0.5,
        "resources": {"licence": 2.0},
    }  # fmt: skip
    assert {key: found[key] for key in expected} == expected
    assert user.cli("tasks", "1", "--json").record["priority"] == 0


def test_more_memory_for_what_had_too_little(user: User) -> None:
    # As the help has it: edit --cause oom --memory ... && retry --cause oom.
    line = "x = b'x' * (150 << 20); import os, time; time.sleep(60 if os.environ['PILOTMTC_ATTEMPT'] == '1' else 0)"
    hungry = ["python3", "-c", line]
    user.cli("run", "-q", "--memory", "100M", "--", *hungry, code=1)
    user.cli("edit", "--state", "failed", "--cause", "oom", "--memory", "400M")
    user.cli("retry", "--cause", "oom")
    user.cli("run", "-q", "--resume")
    assert state(user, 1) == "DONE"


def test_higher_priority_goes_first(user: User) -> None:
    user.cli("submit", f"echo {{}} >> {user.here}/log", ":::", *"12345")
    user.cli("edit", "4", "--priority", "1")
    user.cli("edit", "5", "--priority", "2")
    user.cli("pilot", "submit", "--cores", "1", "--idle", "0.5s")
    user.cli("wait")
    assert (user.here / "log").read_text().split() == ["5", "4", "1", "2", "3"]


@pytest.mark.parametrize("whom", ["agent", "server"])
def test_killed_part_costs_no_task(user: User, whom: str) -> None:
    user.cli("submit", "sleep 0.1; echo {}", ":::", *[str(n) for n in range(30)])
    pilot = user.cli("pilot", "submit", "--cores", "2", "--idle", "2s", "--json").record
    wait_until(lambda: user.counts().get("DONE", 0) >= 5, 20.0)
    if whom == "server":
        os.kill(int((user.here / "store.db.lock").read_text().split()[0]), signal.SIGKILL)
    else:
        os.kill(pilot["pid"], signal.SIGKILL)
        wait_until(lambda: user.cli("pilot", "show", "1", "--json").record["state"] == "FAILED", 20.0)
        assert "killed by signal 9" in user.cli("pilot", "list", "--all").out
        user.cli("pilot", "submit", "--cores", "2", "--idle", "2s")
    user.cli("wait")
    found = [record["stdout"] for record in user.cli("results", "--json").records]
    assert found == [str(n) for n in range(30)]
    assert user.cli("store", "check", "--json").record["ok"] is True


def test_wait_that_is_interrupted_says_how_things_stand(user: User) -> None:
    user.cli("submit", "true {}", ":::", "1", "2", "3")
    waiting = user.start("wait")
    assert waiting.stderr is not None
    assert b"no pilot is active" in waiting.stderr.readline()
    waiting.send_signal(signal.SIGINT)
    _, said = waiting.communicate(timeout=30)
    assert (waiting.returncode, said.strip()) == (130, b"campaign 1: 0 done, 3 to run")


def test_quiet_wait_that_is_interrupted_says_it_too(capsys: pytest.CaptureFixture[str]) -> None:
    class Interrupted:
        def campaign(self, _: int) -> Campaign:
            return Campaign(CampaignId(1), "key", "", 0.0, 3, True, {TaskState.READY: 3})

        def follow(self, _: int) -> Iterator[object]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _wait_for(Interrupted(), 1, None, quiet=True)  # type: ignore[arg-type]  # as much of a session as it needs
    assert capsys.readouterr().err == "campaign 1: 0 done, 3 to run\n"


def test_help_of_edit_speaks_of_what_stays(user: User) -> None:
    text = " ".join(user.cli("edit", "--help").out.split())
    assert "Cores per task." in text
    assert "Everything else stays as it is." in text
    assert "Cores per task [default: 1]" in " ".join(user.cli("submit", "--help").out.split())


def test_names_of_parameters_are_no_number(user: User) -> None:
    user.cli("submit", "echo {}", ":::", "a")
    error = user.cli("cancel", "--filter", "bad:x", code=2).err
    assert "no task has a parameter 'bad': the parameters are '1'" in error
