"""What tasks may do with their standard streams, and what that does to others: nothing."""

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilotmtc.model import PilotDescription, Resources, Template
from pilotmtc.protocol.client.pilots import CancelPilot
from pilotmtc.states import CRASH_LIMIT, Cause, PilotState, TaskState
from tests.integration.agent_support import Site, running_site, shell
from tests.support import wait_until


@pytest.fixture
def site(tmp_path: Path, surroundings: Path) -> Iterator[Site]:
    with running_site(tmp_path) as made:
        yield made


def test_streams_that_are_opened_anew_keep_what_was_there(site: Site) -> None:
    plain = "echo 1 >&2; echo 2 > /dev/stderr; echo 3 >&2; echo a; echo b > /dev/stdout; echo c | tee /dev/stderr"
    large = "head -c 100000 /dev/zero; echo 1; head -c 100000 /dev/zero > /dev/stdout; echo 2"
    small, big = site.submit(shell(plain), shell(large))
    site.start()
    assert site.wait() == {TaskState.DONE: 2}
    output = site.output(small)
    assert (output.stderr, output.stdout) == (b"1\n2\n3\nc\n", b"a\nb\nc\n")
    assert site.output(big).stdout_bytes == 200_004


def test_who_was_given_a_stream_of_a_task_reaches_no_other_task(site: Site, tmp_path: Path) -> None:
    path = str(tmp_path / "sock")
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(path)
        door.listen()
        door.settimeout(30.0)
        give = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({path!r}); socket.send_fds(s, [b'x'], [1])"
        site.submit(Template((sys.executable, "-c", f"{give}; print('given')")))
        site.start()
        with door.accept()[0] as caller:
            (kept,) = socket.recv_fds(caller, 1, 1)[1]
        with open(kept, "wb", buffering=0) as stream:
            site.wait()
            tasks = site.submit(*[shell(f"echo {number}") for number in range(100)])
            with pytest.raises(BrokenPipeError):
                stream.write(b"not yours\n")
            site.wait()
    assert [site.output(task).stdout for task in tasks] == [f"{number}\n".encode() for number in range(100)]


def test_fifos_are_opened_by_the_task_alone(site: Site, tmp_path: Path) -> None:
    for name in ("in", "out", "never"):
        os.mkfifo(tmp_path / name)
    reads, writes, waits = site.submit(
        shell("cat; echo read >&2", cwd=str(tmp_path), stdin="in"),
        shell("echo one; echo two >&2", cwd=str(tmp_path), stdout="out", stderr="out"),
        shell("cat", cwd=str(tmp_path), stdin="never"),
    )
    others = site.submit(shell("echo other"), copies=4)
    pilot = site.start(PilotDescription(cores=4, pin=False))
    site.wait_done(4)
    (tmp_path / "in").write_text("what comes in\n")
    assert (tmp_path / "out").read_text() == "one\ntwo\n"
    site.wait_done(6)
    assert site.output(reads).stdout == b"what comes in\n"
    assert site.output(reads).stderr == b"read\n"
    assert site.last(writes).stdout_path == str(tmp_path / "out")
    assert {site.output(task).stdout for task in others} == {b"other\n"}
    site.wait_running(waits)
    site.client.call(CancelPilot(pilot.id))
    wait_until(lambda: site.pilot(pilot.id).state is PilotState.CANCELED, 30.0)
    assert site.state(waits) is TaskState.READY


def test_fifo_that_nobody_opens_does_not_outlive_a_time_limit(site: Site, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "never")
    task = site.submit(Template(("echo", "x"), stdout=str(tmp_path / "never")), resources=Resources(time_limit_s=0.3))[
        0
    ]
    site.start()
    assert site.wait() == {TaskState.FAILED: 1}
    assert site.last(task).cause is Cause.TIMEOUT


def test_no_more_output_is_kept_than_wanted(site: Site) -> None:
    limit = 200_000
    endless = Template(("timeout", "2", "yes"), max_output_bytes=limit)
    small = Template(("seq", "1000"), max_output_bytes=100)
    task, other = site.submit(endless, small)
    site.start()
    site.wait()
    output = site.output(task)
    assert output.stdout_bytes > 10 * limit
    assert output.stdout_path is not None
    kept = Path(output.stdout_path).read_bytes()
    assert limit < len(kept) < 2 * limit
    assert kept.endswith(b"y\n")
    output = site.output(other)
    assert output.stdout.startswith(b"1\n2\n")
    assert output.stdout.endswith(b"999\n1000\n")
    assert (output.stdout_bytes, output.stdout_path) == (3893, None)


def test_output_that_the_node_cannot_keep_is_no_fault_of_the_task(site: Site, tmp_path: Path) -> None:
    pilot = site.start()
    (Path(pilot.directory) / "outputs").write_text("in the way")
    task = site.submit(shell("head -c 100000 /dev/zero", cwd=str(tmp_path)))[0]
    small = site.submit(shell("echo small", cwd=str(tmp_path)))[0]
    assert site.wait() == {TaskState.DONE: 1, TaskState.FAILED: 1}
    assert site.output(small).stdout == b"small\n"
    last = site.last(task)
    assert (last.cause, last.message) == (Cause.NODE_LOST, "its output could not be kept: Not a directory")
    assert len(site.attempts(task)) == CRASH_LIMIT
    assert b"it could not be kept: Not a directory" in site.output(task).stdout


def test_pilot_whose_directory_is_gone_leaves_and_charges_nobody(site: Site, tmp_path: Path) -> None:
    go = tmp_path / "go"
    waits = f"while [ ! -e {go} ]; do sleep 0.02; done; exit 3"
    pilot = site.start()
    inside = site.submit(shell(waits))[0]
    site.wait_running(inside)
    site.submit(shell("echo {task_id}; head -c 70000 /dev/zero", cwd=str(tmp_path)), copies=50)
    Path(pilot.directory).rename(tmp_path / "away")
    go.touch()
    wait_until(lambda: site.pilot(pilot.id).state is PilotState.FAILED, 30.0)
    assert f"the pilot's directory {pilot.directory}: No such file or directory" in site.pilot(pilot.id).reason
    assert TaskState.FAILED not in site.counts()
    assert site.last(inside).cause is Cause.NODE_LOST
    site.start()
    assert site.wait() == {TaskState.DONE: 50, TaskState.FAILED: 1}
    assert site.last(inside).exit_code == 3
