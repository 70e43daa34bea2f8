"""The HTCondor dialect on a real pool, as an ordinary user of it."""

import time
from pathlib import Path

import pytest

from tests.lab.condor import Pool, condor, condor_alone, condor_pool
from tests.support import processes_with, wait_until

__all__ = ["condor", "condor_alone", "condor_pool"]

FINAL = {"Done", "Failed", "Canceled"}
_WITHIN_S = 60.0


def submit(pool: Pool, *command: str, scheme: str = "vanilla", **fields: object) -> str:
    asked = {"executable": command[0], "arguments": command[1:], "working_directory": str(pool.directory), **fields}
    taken = pool.ask("submit", asked, universe=scheme)
    assert isinstance(taken, str), taken
    return taken


def status(pool: Pool, batch_id: str) -> dict[str, object]:
    found = pool.ask("status", [batch_id])
    assert isinstance(found, dict), found
    each: dict[str, object] = found.get(batch_id, found)
    return each


def state(pool: Pool, batch_id: str) -> object:
    return status(pool, batch_id).get("state")


def until(pool: Pool, batch_id: str, *states: str) -> dict[str, object]:
    """Wait until a job is in one of these states; return its record."""

    def there() -> dict[str, object] | None:
        found = status(pool, batch_id)
        return found if found.get("state") in states else None

    record = wait_until(there, _WITHIN_S, lambda: f"{status(pool, batch_id)}\n{pool.run('condor_q', '-nobatch')}")
    assert record is not None
    return record


def ended(pool: Pool, batch_id: str) -> dict[str, object]:
    return until(pool, batch_id, *FINAL)


def test_cluster_runs_on_four_nodes_and_ends_as_its_first_job(condor: Pool) -> None:
    meet = "touch here.$_CONDOR_PROCNO; while [ $(ls here.* | wc -l) != 4 ]; do sleep 0.1; done"
    script = f'{meet}; echo "$_CONDOR_PROCNO of $_CONDOR_NPROCS as $(id -un) in $(pwd)"; exit 3'
    batch_id = submit(condor, "sh", "-c", script, name="pilotmtc-four", nodes=4, cores_per_node=12, output="out")
    record = ended(condor, batch_id)
    assert (record["state"], record["exit_code"], record["native_state"]) == ("Failed", 3, "Completed")
    nodes = record["nodes"]
    assert isinstance(nodes, list)
    assert {str(each).partition("@")[0] for each in nodes} == {"n1", "n2", "n3", "n4"}
    said = [(condor.directory / f"out.{number}").read_text() for number in range(4)]
    who = f"of 4 as {condor.account.name} in {condor.directory}\n"
    assert said == [f"{number} {who}" for number in range(4)]


def test_arguments_and_variables_arrive_as_they_are(condor: Pool) -> None:
    values = [
        'it\'s "quoted"',
        "$HOME $(id) `id` $$(Name) $$([1+1])",
        "two\nlines\r\n",
        "back\\slash \\n %s",
        "ü ñ €",
        "",
    ]
    environment = {f"V{number}": value for number, value in enumerate(values)}
    names = " ".join(f'"$V{number}"' for number in range(len(values)))
    script = f"printf '%s\\0' {names} \"$@\""
    batch_id = submit(condor, "sh", "-c", script, "x", *values, environment=environment, output="out", error="err")
    assert ended(condor, batch_id)["state"] == "Done", (condor.directory / "err").read_text()
    said = (condor.directory / "out").read_bytes().decode().split("\0")[:-1]
    assert said == values + values


def test_many_jobs_are_told_at_once_and_an_unknown_one_apart(condor: Pool) -> None:
    long, short = submit(condor, "sleep", "600"), submit(condor, "true")
    ended(condor, short)
    until(condor, long, "Running")
    found = condor.ask("status", [long, short, "99999999"])
    assert isinstance(found, dict)
    assert [found[each].get("state") for each in (long, short)] == ["Running", "Done"]
    assert found["99999999"]["error"] == "JobUnknown"


def test_job_is_found_by_name_and_reconnected_to_from_a_new_process(condor: Pool) -> None:
    name = f"pilotmtc-{condor.directory.name}"
    batch_id = submit(condor, "sh", "-c", "exit 4", name=name)
    assert condor.ask("find", name) == [batch_id]
    ended(condor, batch_id)
    assert condor.ask("find", name) == [batch_id]
    assert status(condor, batch_id)["exit_code"] == 4
    assert condor.ask("find", name + "x") == []


def test_jobs_are_those_that_are_not_over(condor: Pool) -> None:
    over, on = submit(condor, "true"), submit(condor, "sleep", "600")
    ended(condor, over)
    found = condor.ask("jobs", None)
    assert isinstance(found, list)
    assert on in found
    assert over not in found


def test_job_removed_from_outside_is_canceled_and_stays_so(condor: Pool) -> None:
    batch_id = submit(condor, "sleep", "600", nodes=2)
    until(condor, batch_id, "Running")
    condor.run("condor_rm", batch_id)
    record = ended(condor, batch_id)
    assert (record["state"], record["native_state"]) == ("Canceled", "Removed")
    assert "condor_rm" in str(record["reason"])
    wait_until(lambda: not condor.jobs(), _WITHIN_S)
    assert state(condor, batch_id) == "Canceled"


def test_cancel_ends_the_job_and_can_be_repeated(condor: Pool) -> None:
    batch_id = submit(condor, "sh", "-c", "trap 'echo TERM >said; exit 0' TERM; sleep 600 & wait")
    until(condor, batch_id, "Running")
    wait_until(lambda: "sleep" in _commands(condor), _WITHIN_S)
    assert condor.ask("cancel", [batch_id]) == {}
    assert ended(condor, batch_id)["state"] == "Canceled"
    wait_until(lambda: not condor.jobs(), _WITHIN_S)
    assert condor.ask("cancel", [batch_id]) == {}
    assert condor.ask("cancel", ["99999999"])["99999999"]["error"] == "JobUnknown"  # type: ignore[index]
    wait_until((condor.directory / "said").exists, _WITHIN_S)


def _commands(pool: Pool) -> str:
    return " ".join(processes_with(f"_CONDOR_JOB_IWD={pool.directory}").values())


def test_job_held_by_its_user_waits_and_goes_on_when_released(condor: Pool) -> None:
    batch_id = submit(condor, "sh", "-c", "while [ ! -e go ]; do sleep 0.1; done")
    until(condor, batch_id, "Running")
    condor.run("condor_hold", batch_id)
    record = until(condor, batch_id, "Pending")
    assert record["native_state"] == "Held"
    assert "condor_hold" in str(record["reason"])
    condor.run("condor_release", batch_id)
    until(condor, batch_id, "Running")
    (condor.directory / "go").touch()
    assert ended(condor, batch_id)["state"] == "Done"


def test_job_over_its_walltime_is_removed_and_says_so(condor: Pool) -> None:
    batch_id = submit(condor, "sleep", "600", walltime_s=2)
    record = ended(condor, batch_id)
    assert record["state"] == "Failed"
    assert "reached its walltime" in str(record["reason"])


def test_warning_comes_before_the_walltime_ends(condor: Pool) -> None:
    script = "trap 'echo warned; exit 0' TERM; sleep 600 & wait"
    batch_id = submit(condor, "sh", "-c", script, walltime_s=100, signal_s=98, output="out")
    assert ended(condor, batch_id)["state"] == "Done"
    assert (condor.directory / "out").read_text() == "warned\n"


def test_death_by_signal_is_told(condor: Pool) -> None:
    record = ended(condor, submit(condor, "sh", "-c", "kill -9 $$"))
    assert (record["state"], record["signal"], record["exit_code"]) == ("Failed", 9, None)


def test_job_that_cannot_start_fails_and_says_why(condor: Pool) -> None:
    # Its directory is there when it is submitted, and not when it starts.
    gone = condor.directory / "gone"
    condor.make_directory(gone)
    batch_id = submit(condor, "true", working_directory=str(gone), input="none", constraint="CurrentTime > 0")
    gone.rmdir()
    record = ended(condor, batch_id)
    assert record["state"] == "Failed"
    assert "gone" in str(record["reason"])


def test_request_that_no_host_fits_waits(condor: Pool) -> None:
    batch_id = submit(condor, "true", cores_per_node=4000)
    time.sleep(3)  # several rounds of the negotiator
    record = status(condor, batch_id)
    assert (record["state"], record["native_state"]) == ("Pending", "Idle")


def test_bad_request_is_refused_in_the_schedulers_words(condor: Pool) -> None:
    told = condor.ask("submit", {"executable": "true", "constraint": "((("})
    assert isinstance(told, dict)
    assert told["error"] == "SubmitRejected"
    told = condor.ask("submit", {"executable": "true", "qos": "high", "queue": "long"})
    assert isinstance(told, dict)
    assert told["error"] == "UsageError"
    assert "qos ('high')" in told["text"]
    assert "queue ('long')" in told["text"]


def test_files_go_and_come_back(condor: Pool) -> None:
    (condor.directory / "in.txt").write_text("brought")
    batch_id = submit(
        condor,
        "sh",
        "-c",
        "pwd; cat in.txt in.txt >out.txt",
        file_transfer=("in.txt > in.txt", "back.txt < out.txt"),
        output="out",
    )
    assert ended(condor, batch_id)["state"] == "Done"
    assert (condor.directory / "back.txt").read_text() == "broughtbrought"
    assert Path((condor.directory / "out").read_text().strip()) != condor.directory


def test_parallel_universe_runs_on_both_dedicated_hosts(condor_alone: Pool) -> None:
    # The first one's end is the end of all: it gives the other the time to say its word.
    script = 'echo "$_CONDOR_PROCNO of $_CONDOR_NPROCS"; [ "$_CONDOR_PROCNO" != 0 ] || sleep 10'
    batch_id = submit(condor_alone, "sh", "-c", script, scheme="parallel", nodes=2, cores_per_node=2, output="out")
    assert ended(condor_alone, batch_id)["state"] == "Done"
    said = [(condor_alone.directory / f"out.{number}").read_text() for number in range(2)]
    assert said == ["0 of 2\n", "1 of 2\n"]


def test_stopped_queue_could_not_be_asked_and_the_job_is_still_there_after(condor_alone: Pool) -> None:
    batch_id = submit(condor_alone, "sh", "-c", "while [ ! -e go ]; do sleep 0.1; done; exit 5")
    until(condor_alone, batch_id, "Running")
    condor_alone.turn(on=False)
    try:
        for verb, argument in (("status", [batch_id]), ("cancel", [batch_id]), ("submit", {"executable": "true"})):
            told = condor_alone.ask(verb, argument)
            assert isinstance(told, dict)
            assert told["error"] == "StatusUnavailable", told
    finally:
        condor_alone.turn(on=True)
    assert state(condor_alone, batch_id) in {"Running", "Pending"}
    (condor_alone.directory / "go").touch()
    record = ended(condor_alone, batch_id)
    assert record["exit_code"] == 5


@pytest.mark.timeout(300)
def test_queue_that_hangs_could_not_be_asked(condor_alone: Pool) -> None:
    batch_id = submit(condor_alone, "sleep", "600")
    with condor_alone.hanging():
        told = condor_alone.ask("status", [batch_id], timeout_s=250)
        assert isinstance(told, dict)
        assert told["error"] == "StatusUnavailable", told
    wait_until(condor_alone.answers, _WITHIN_S)
    assert state(condor_alone, batch_id) in {"Running", "Pending"}


def test_request_that_no_machine_of_the_pool_can_meet_is_told(condor: Pool) -> None:
    batch_id = submit(condor, "true", cores_per_node=99)

    def told() -> bool:
        return "Can Never Run: no machine of the pool has a slot with Cpus >= 99" in str(
            status(condor, batch_id)["reason"]
        )

    wait_until(told, _WITHIN_S, lambda: f"{status(condor, batch_id)}\n{condor.run('condor_q', '-better-analyze')}")
    assert condor.ask("cancel", [batch_id]) == {}
