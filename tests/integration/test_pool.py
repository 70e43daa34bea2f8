"""A pilot of four node workers on this machine, over real ZeroMQ with CURVE."""

import json
import os
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from pilotmtc.agent.crews.contact import Contact
from pilotmtc.agent.crews.protocol import WorkerReady, encode
from pilotmtc.agent.crews.start_workers import worker_command
from pilotmtc.model import Resources
from pilotmtc.protocol.client.pilots import CancelPilot, DrainPilot
from pilotmtc.protocol.client.tasks import Cancel
from pilotmtc.protocol.records import Filter
from pilotmtc.states import Cause, PilotState, TaskState
from tests.integration.agent_support import Site, running_site, shell, until
from tests.integration.pool_support import running_pool
from tests.lab.nodes import environment, write_srun
from tests.support import command_lines, wait_until

RANKS = {"PILOTMTC_LAUNCHER": "ranks"}
WHO = 'echo "$PILOTMTC_RANK/$PILOTMTC_RANKS $PILOTMTC_NODELIST $PILOTMTC_CORE_LIST"'


@pytest.fixture
def site(tmp_path: Path, surroundings: Path) -> Iterator[Site]:
    with running_site(tmp_path) as made:
        yield made


def test_tasks_run_on_all_nodes_and_the_pilot_knows_them(site: Site, tmp_path: Path) -> None:
    with running_pool(site) as pool:
        pool.wait_nodes(4)
        tasks = site.submit(shell(f"{until(tmp_path / 'go')}; echo $PILOTMTC_TASK_ID"), copies=24)
        wait_until(lambda: site.counts().get(TaskState.RUNNING) == 12, 60.0, on_timeout=pool.log)
        (tmp_path / "go").touch()
        pool.wait_tasks({TaskState.DONE: 24})
        assert [site.output(task).stdout for task in tasks] == [f"{task}\n".encode() for task in tasks]
        assert {site.last(task).node for task in tasks} == {"n1", "n2", "n3", "n4"}
        pilot = site.pilot(pool.pilot.id)
        assert (pilot.nodes, pilot.cores) == (4, 12)
        site.client.call(DrainPilot(pilot.id))
        assert site.wait_over(pilot.id).state is PilotState.DONE
        assert pool.job.wait(10.0) == 0
        assert not (pool.directory / "contact").exists()


def test_a_task_has_the_variables_of_the_job_on_each_node(site: Site) -> None:
    with running_pool(site, 2, 1, env={"MINE": "of the job"}):
        tasks = site.submit(shell('echo "$MINE $PILOTMTC_CORE_LIST $PILOTMTC_STORE"; pwd; sleep 0.3'), copies=4)
        site.wait()
        directory = site.pilots[-1].directory
        assert {site.output(task).stdout.decode() for task in tasks} == {f"of the job 0 {site.url}\n{directory}\n"}


def test_large_output_of_a_node_is_kept_in_the_pilots_directory(site: Site) -> None:
    with running_pool(site, 2) as pool:
        task = site.submit(shell("seq 1 100000"))[0]
        site.wait()
        path = site.output(task).stdout_path
        assert path is not None
        assert Path(path).parent == pool.directory / "outputs"
        assert Path(path).read_text() == "".join(f"{number}\n" for number in range(1, 100_001))


def test_what_running_tasks_on_nodes_write_is_seen(site: Site) -> None:
    with running_pool(site, 2, 1) as pool:
        one, other = site.submit(shell("echo it is $PILOTMTC_TASK_ID; echo alas >&2; sleep 600"), copies=2)
        for task in (one, other):
            seen = site.wait_written(task, lambda written: bool(written.stdout and written.stderr))
            assert (seen.stdout, seen.stderr) == (f"it is {task}\n".encode(), b"alas\n")
        site.client.call(CancelPilot(pool.pilot.id))
        site.wait_over(pool.pilot.id)


def test_of_a_task_on_several_nodes_what_its_first_writes_is_seen(site: Site) -> None:
    with running_pool(site, 2, 1, env=RANKS) as pool:
        task = site.submit(shell(f"{WHO}; sleep 600"), resources=Resources(ranks=2))[0]
        seen = site.wait_written(task, lambda written: bool(written.stdout))
        assert seen.stdout.startswith(b"0/2 ")
        site.client.call(CancelPilot(pool.pilot.id))
        site.wait_over(pool.pilot.id)


def test_running_task_on_a_node_is_canceled(site: Site) -> None:
    with running_pool(site, 2):
        task = site.submit(shell("sleep 600"))[0]
        site.wait_running(task)
        site.client.call(Cancel("k", Filter(ids=(task,))))
        assert site.wait() == {TaskState.CANCELED: 1}


def test_stranger_with_another_key_is_not_heard(site: Site) -> None:
    with running_pool(site, 1) as pool:
        pool.wait_nodes(1)
        path = pool.directory / "contact"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        contact = Contact.read(path)
        context = zmq.Context()
        dealer = context.socket(zmq.DEALER)
        try:
            dealer.curve_serverkey = contact.server_key
            dealer.curve_publickey, dealer.curve_secretkey = zmq.curve_keypair()
            dealer.connect(contact.address)
            dealer.send(encode(WorkerReady(7, "intruder", (0, 1), 0, 1 << 30)))
            wait_until(lambda: "was turned away" in pool.log(), 20.0, on_timeout=pool.log)
            plain = context.socket(zmq.DEALER)
            plain.connect(contact.address)
            plain.send(encode(WorkerReady(8, "intruder", (0, 1), 0, 1 << 30)))
            task = site.submit(shell("sleep 1"))[0]
            site.wait()
            assert site.last(task).node == "n1"
            assert "intruder" not in pool.log()
            plain.close(0)
        finally:
            dealer.close(0)
            context.term()


@pytest.mark.parametrize(
    "parts", [[b""], [b"\xc1"], [b"nonsense", b"more"], [b"\x92\xa8numbered\x01"], [b"\x91" * 100_000]]
)
def test_nonsense_from_who_has_the_key_is_passed_over(site: Site, parts: list[bytes]) -> None:
    with running_pool(site, 1) as pool:
        pool.wait_nodes(1)
        contact = Contact.read(pool.directory / "contact")
        context = zmq.Context()
        dealer = context.socket(zmq.DEALER)
        try:
            dealer.curve_serverkey = contact.server_key
            dealer.curve_publickey, dealer.curve_secretkey = contact.public_key, contact.secret_key
            dealer.connect(contact.address)
            dealer.send_multipart(parts)
            wait_until(lambda: "is ignored" in pool.log(), 20.0, on_timeout=pool.log)
            task = site.submit(shell("echo fine"))[0]
            site.wait()
            assert site.output(task).stdout == b"fine\n"
        finally:
            dealer.close(0)
            context.term()


def test_keys_are_on_no_command_line(site: Site) -> None:
    with running_pool(site, 2) as pool:
        pool.wait_nodes(2)
        raw = json.loads((pool.directory / "contact").read_text())
        lines = "".join(command_lines().values())
        for key in ("secret_key", "server_key", "public_key"):
            assert raw[key] not in lines


def test_worker_that_is_killed_loses_its_tasks_and_comes_back(site: Site) -> None:
    with running_pool(site, 2, 2) as pool:
        pool.wait_nodes(2)
        first = site.submit(shell("test $PILOTMTC_ATTEMPT != 1 || sleep 600"), copies=4)
        for task in first:
            site.wait_running(task)
        os.kill(pool.workers()["n1"], signal.SIGKILL)
        wait_until(lambda: sum(site.state(task) is TaskState.DONE for task in first) == 2, 20.0, on_timeout=pool.log)
        lost = [task for task in first if site.state(task) is TaskState.DONE]
        assert {attempt.cause for task in lost for attempt in site.attempts(task)} == {Cause.NODE_LOST, Cause.EXIT}
        assert {site.attempts(task)[0].node for task in lost} == {"n1"}
        pool.wait_nodes(2)
        site.client.call(Cancel("k", Filter(ids=tuple(first))))
        site.wait()


def test_pool_whose_directory_is_gone_leaves_and_charges_nobody(site: Site, tmp_path: Path) -> None:
    with running_pool(site, 2, 2) as pool:
        pool.wait_nodes(2)
        tasks = site.submit(shell(f"while test -e {pool.directory}; do sleep 0.05; done; exit 3"), copies=4)
        for task in tasks:
            site.wait_running(task)
        pool.directory.rename(tmp_path / "away")
        over = site.wait_over(pool.pilot.id)
        assert over.state is PilotState.FAILED
        assert f"the pilot's directory {pool.directory}: No such file" in over.reason
        assert [site.last(task).cause for task in tasks] == [Cause.NODE_LOST] * 4
        assert site.counts() == {TaskState.READY: 4}
        (tmp_path / "away").rename(pool.directory)


def test_hung_node_is_given_up_and_what_it_says_later_is_not_heard(site: Site, tmp_path: Path) -> None:
    with running_pool(site, 2, 1, env={"PILOTMTC_NODE_TIMEOUT_S": "3"}) as pool:
        pool.wait_nodes(2)
        tasks = site.submit(shell(f"{until(tmp_path / 'go')}; echo $PILOTMTC_ATTEMPT"), copies=2)
        for task in tasks:
            site.wait_running(task)
        worker = pool.workers()["n1"]
        os.kill(worker, signal.SIGSTOP)
        (tmp_path / "go").touch()
        pool.wait_tasks({TaskState.DONE: 2})
        os.kill(worker, signal.SIGCONT)
        wait_until(lambda: worker not in pool.workers().values(), 20.0, on_timeout=pool.log)
        ends = [[(attempt.cause, attempt.node) for attempt in site.attempts(task)] for task in tasks]
        assert sorted(ends) == [[(Cause.EXIT, "n2")], [(Cause.NODE_LOST, "n1"), (Cause.EXIT, "n2")]]


def test_link_that_drops_for_a_moment_loses_nothing(site: Site, tmp_path: Path) -> None:
    """A stopped agent is a dead link for its workers: they go on, and repeat what was not confirmed."""
    with running_pool(site, 2, 2) as pool:
        pool.wait_nodes(2)
        tasks = site.submit(shell(f"{until(tmp_path / 'go')}; echo $PILOTMTC_TASK_ID"), copies=8)
        wait_until(lambda: site.counts().get(TaskState.RUNNING) == 4, 60.0, on_timeout=pool.log)
        agent = pool.agent()
        os.kill(agent, signal.SIGSTOP)
        (tmp_path / "go").touch()
        wait_until(lambda: not any(True for _ in _tasks(pool.directory)), 20.0)
        os.kill(agent, signal.SIGCONT)
        pool.wait_tasks({TaskState.DONE: 8})
        assert {len(site.attempts(task)) for task in tasks} == {1}


def _tasks(directory: Path) -> Iterator[int]:
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if (path / "cwd").readlink() == directory and (path / "comm").read_text() in ("sh\n", "sleep\n"):
                yield int(path.name)
        except OSError:
            continue


def test_node_that_comes_late_is_used(site: Site) -> None:
    with running_pool(site, 1, 1) as pool:
        pool.wait_nodes(1)
        first = site.submit(shell("sleep 600"))[0]
        site.wait_running(first)
        second = site.submit(shell("true"))[0]
        command = worker_command(pool.directory / "contact", "late")
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as late:
            wait_until(lambda: site.state(second) is TaskState.DONE, 20.0, on_timeout=pool.log)
            assert site.last(second).node == "late"
            site.client.call(Cancel("k", Filter(ids=(first,))))
            site.client.call(DrainPilot(pool.pilot.id))
            assert late.wait(20.0) == 0


def test_wide_task_runs_on_the_slots_of_several_nodes_beside_small_ones(site: Site) -> None:
    with running_pool(site, 4, 3, env=RANKS) as pool:
        pool.wait_nodes(4)
        small = site.submit(shell("sleep 0.3"), copies=24)
        wide = site.submit(shell(WHO), resources=Resources(ranks=8), copies=2)
        pool.wait_tasks({TaskState.DONE: 26})
        for task in wide:
            lines = site.output(task).stdout.decode().splitlines()
            assert sorted(line.split()[0] for line in lines) == [f"{rank}/8" for rank in range(8)]
            last = site.last(task)
            assert {line.split()[1] for line in lines} == {last.node}
            assert last.node.startswith("n[")
        assert {site.last(task).cause for task in small} == {Cause.EXIT}


def test_rank_that_fails_ends_the_others_and_says_so(site: Site) -> None:
    with running_pool(site, 2, 2, env=RANKS) as pool:
        pool.wait_nodes(2)
        task = site.submit(shell("test $PILOTMTC_RANK = 3 && exit 7; sleep 600"), resources=Resources(ranks=4))[0]
        pool.wait_tasks({TaskState.FAILED: 1})
        assert (site.last(task).cause, site.last(task).exit_code) == (Cause.EXIT, 7)


def test_ranks_on_all_nodes_have_the_grace(site: Site, tmp_path: Path) -> None:
    """The first to end does not end the others."""
    line = (
        f"trap 'test $PILOTMTC_RANK = 0 || ({until(tmp_path / 'go')}; echo saved); exit 3' TERM; "
        f"echo $$ > {tmp_path}/pid.$PILOTMTC_RANK; while true; do sleep 0.05; done"
    )
    with running_pool(site, 3, 1, env=RANKS) as pool:
        pool.wait_nodes(3)
        task = site.submit(shell(line), resources=Resources(ranks=2, grace_s=1000.0))[0]
        first, second = tmp_path / "pid.0", tmp_path / "pid.1"
        wait_until(lambda: all(path.exists() and path.read_text() for path in (first, second)), on_timeout=pool.log)
        site.client.call(Cancel("k", Filter(ids=(task,))))
        wait_until(lambda: not Path("/proc", first.read_text().strip()).exists(), on_timeout=pool.log)
        small = site.submit(shell("true"))[0]  # on the third node: the agent has heard of the first by then
        wait_until(lambda: site.state(small) is TaskState.DONE, on_timeout=pool.log)
        (tmp_path / "go").touch()
        wait_until(lambda: site.state(task) is TaskState.CANCELED, on_timeout=pool.log)
        assert site.output(task).stdout == b"saved\n"


def test_wide_task_that_loses_a_node_ends_everywhere_and_runs_again(site: Site) -> None:
    with running_pool(site, 2, 2, env=RANKS) as pool:
        pool.wait_nodes(2)
        line = "test $PILOTMTC_ATTEMPT != 1 || sleep 600; echo $PILOTMTC_RANK"
        task = site.submit(shell(line), resources=Resources(ranks=4))[0]
        site.wait_running(task)
        os.kill(pool.workers()["n2"], signal.SIGKILL)
        pool.wait_tasks({TaskState.DONE: 1})
        assert [attempt.cause for attempt in site.attempts(task)] == [Cause.NODE_LOST, Cause.EXIT]
        assert sorted(site.output(task).stdout.split()) == [b"0", b"1", b"2", b"3"]


def test_wide_task_that_fits_nowhere_yet_waits_for_the_nodes(site: Site) -> None:
    with running_pool(site, 2, 2, env=RANKS) as pool:
        task = site.submit(shell(WHO), resources=Resources(ranks=2, ranks_per_node=1))[0]
        pool.wait_tasks({TaskState.DONE: 1})
        assert site.last(task).node in ("n[1-2]", "n[2,1]")


def test_node_that_comes_when_the_pilot_is_over_leaves_at_once(site: Site) -> None:
    with running_pool(site, 1) as pool:
        pool.wait_nodes(1)
        site.client.call(DrainPilot(pool.pilot.id))
        assert pool.job.wait(20.0) == 0
        command = worker_command(pool.directory / "contact", "late")
        late = subprocess.run(command, capture_output=True, text=True, timeout=20.0, check=False)
        assert late.returncode == 1
        assert "this node has come too late" in late.stderr


def test_thousand_nodes_need_no_other_limit_of_open_files_than_usual(site: Site, tmp_path: Path) -> None:
    nodes = 1024
    write_srun(tmp_path / "srun", nodes, 4)
    env = environment(tmp_path, nodes, 2)
    with running_pool(site, nodes, 2, env=env, hosts=None, before=["prlimit", "--nofile=1024:"]) as pool:
        pool.wait_nodes(nodes)
        tasks = site.submit(shell("true"), copies=2 * nodes)
        pool.wait_tasks({TaskState.DONE: len(tasks)})
