"""Real tasks through a local pilot and a real store server."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs

from pilotmtc.errors import ConfigError
from pilotmtc.model import PilotDescription, Resources, TaskId, Template
from pilotmtc.protocol.client.pilots import CancelPilot, DrainPilot
from pilotmtc.protocol.client.tasks import Cancel
from pilotmtc.protocol.records import TAIL_BYTES, Filter
from pilotmtc.states import Cause, PilotState, TaskState
from tests.integration.agent_support import Site, running_site, shell, until
from tests.support import alive, nap, wait_until


@pytest.fixture
def site(tmp_path: Path, surroundings: Path) -> Iterator[Site]:
    with running_site(tmp_path) as made:
        yield made


def test_tasks_run_and_their_output_is_in_the_store(site: Site) -> None:
    well = site.submit(Template(("echo", "hello")), copies=200)
    badly = site.submit(shell("echo no >&2; exit 3"), shell("kill -11 $$"))
    site.start()
    assert site.wait() == {TaskState.DONE: 200, TaskState.FAILED: 2}
    assert {site.output(task).stdout for task in well} == {b"hello\n"}
    failed = site.last(badly[0])
    assert (failed.cause, failed.exit_code, failed.signal) == (Cause.EXIT, 3, None)
    assert site.output(badly[0]).stderr == b"no\n"
    killed = site.last(badly[1])
    assert (killed.cause, killed.exit_code, killed.signal) == (Cause.SIGNAL, None, 11)


def test_pilot_that_waits_starts_new_work_at_once(site: Site) -> None:
    pilot = site.start()
    site.submit(Template(("true",)))
    assert site.wait() == {TaskState.DONE: 1}
    site.submit(Template(("true",)), copies=3)
    assert site.wait() == {TaskState.DONE: 4}
    assert site.pilot(pilot.id).state is PilotState.ACTIVE


def test_task_knows_who_and_where_it_is(site: Site, tmp_path: Path) -> None:
    task = site.submit(shell("env; pwd", cwd=str(tmp_path), env={"MINE": "{task_id}"}), resources=Resources(cores=2))[0]
    pilot = site.start(PilotDescription(cores=4, gpus=2))
    site.wait()
    lines = site.output(task).stdout.decode().splitlines()
    assert lines[-1] == str(tmp_path)
    env = dict(line.partition("=")[::2] for line in lines)
    assert env["PILOTMTC_TASK_ID"] == env["MINE"] == str(task)
    assert env["PILOTMTC_ATTEMPT"] == "1"
    assert env["PILOTMTC_PILOT_ID"] == str(pilot.id)
    assert (env["PILOTMTC_CORES"], env["PILOTMTC_CORE_LIST"], env["OMP_NUM_THREADS"]) == ("2", "0-1", "2")
    assert env["CUDA_VISIBLE_DEVICES"] == ""
    assert env["PILOTMTC_STORE"] == site.url
    assert "MTC_GUARD" not in env


def test_gpus_come_from_the_list_that_the_job_has(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-aaaa,GPU-bbbb")
    monkeypatch.delenv("ROCR_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PILOTMTC_LAUNCHER", "ranks")
    line = "echo $CUDA_VISIBLE_DEVICES ${ROCR_VISIBLE_DEVICES-unset}"
    one, both = site.submit(shell(line), resources=Resources(gpus=1)) + site.submit(
        shell(line), resources=Resources(gpus=2)
    )
    (wide,) = site.submit(shell('printf "$CUDA_VISIBLE_DEVICES\\n"'), resources=Resources(gpus=1, ranks=2))
    with pytest.raises(ConfigError, match=r"CUDA_VISIBLE_DEVICES=GPU-aaaa,GPU-bbbb lists 2"):
        site.start(PilotDescription(cores=2, gpus=3))
    site.start(PilotDescription(cores=2, gpus=2))
    site.wait()
    assert site.output(one).stdout in (b"GPU-aaaa unset\n", b"GPU-bbbb unset\n")
    assert site.output(both).stdout == b"GPU-aaaa,GPU-bbbb unset\n"
    assert sorted(site.output(wide).stdout.split()) == [b"GPU-aaaa", b"GPU-bbbb"]


def test_launcher_may_be_wished_for_in_the_pilots_environment(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILOTMTC_LAUNCHER", "nonsense")
    monkeypatch.setenv("PILOTMTC_TASK_ID", "7")  # of the task that starts this pilot
    (wide,) = site.submit(shell("true"), resources=Resources(ranks=2))
    (task,) = site.submit(shell("echo $PILOTMTC_TASK_ID"))
    site.start(PilotDescription(cores=2))
    site.wait()
    assert site.last(wide).cause is Cause.LAUNCH_ERROR
    assert "PILOTMTC_LAUNCHER=nonsense" in (site.last(wide).message or "")
    assert site.output(task).stdout.decode() == f"{task}\n"


def test_tasks_are_bound_to_their_cores(site: Site) -> None:
    there = sorted(os.sched_getaffinity(0))
    if len(there) < 2:
        pytest.skip("needs two cores")
    line = f"{sys.executable} -I -S -c 'import os; print(os.sched_getaffinity(0), os.environ[\"PILOTMTC_CORE_LIST\"])'"
    tasks = site.submit(shell(line), copies=4)
    site.start(PilotDescription(cores=2))
    site.wait()
    for task in tasks:
        mask, _, core = site.output(task).stdout.decode().strip().rpartition(" ")
        assert mask == f"{{{core}}}"


def test_large_output_is_kept_in_a_file_with_head_and_tail_in_the_store(site: Site) -> None:
    big, middle, small = site.submit(
        shell("seq 1 100000"), shell("head -c 65536 /dev/zero"), shell("head -c 65537 /dev/zero >&2")
    )
    pilot = site.start()
    site.wait()
    whole = "".join(f"{number}\n" for number in range(1, 100001)).encode()
    output = site.output(big)
    assert output.stdout_bytes == len(whole)
    assert output.stdout_path == f"{pilot.directory}/outputs/{big}.1.out"
    assert Path(output.stdout_path).read_bytes() == whole
    assert output.stdout.startswith(whole[:32768])
    assert output.stdout.endswith(whole[-32768:])
    assert f"{len(whole) - 65536} bytes left out".encode() in output.stdout
    assert (site.output(middle).stdout, site.output(middle).stdout_path) == (b"\0" * 65536, None)
    assert site.output(small).stderr_bytes == 65537
    assert site.output(small).stderr_path is not None


def test_outputs_of_many_tasks_are_never_mixed(site: Site) -> None:
    templates = [shell(f"printf '%0{1 + i % 50}d' {i}; (sleep 0.2; echo late) & [ {i % 7} != 0 ]") for i in range(300)]
    tasks = site.submit(*templates)
    site.start()
    site.wait()
    for i, task in enumerate(tasks):
        assert int(site.output(task).stdout) == i, site.output(task)


def test_output_that_the_store_has_is_not_kept_in_memory(site: Site) -> None:
    pilot = site.start()

    def after(count: int) -> int:
        site.submit(shell("head -c 60000 /dev/zero"), copies=count)
        site.wait()
        status = Path(f"/proc/{site.agent(pilot.id)}/status").read_text()
        return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))

    before = after(1000)  # by then it has what it needs for those that the store has not taken yet
    assert after(1000) - before < 20_000_000  # they are 60 MB


def test_files_that_the_user_names(site: Site, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("what comes in")
    task = site.submit(
        shell("cat; echo oops >&2", cwd=str(tmp_path), stdin="in", stdout="new/{task_id}.out", stderr="new/err")
    )[0]
    both = site.submit(shell("echo one; echo two >&2", cwd=str(tmp_path), stdout="both", stderr="both"))[0]
    site.start()
    assert site.wait() == {TaskState.DONE: 2}
    assert (tmp_path / "new" / f"{task}.out").read_text() == "what comes in"
    assert (tmp_path / "new" / "err").read_text() == "oops\n"
    assert (tmp_path / "both").read_text() == "one\ntwo\n"
    output = site.output(task)
    assert (output.stdout, output.stdout_bytes, output.stdout_path) == (b"", 13, str(tmp_path / f"new/{task}.out"))
    assert site.output(both).stdout_bytes == 8


def test_what_cannot_be_started_says_why(site: Site, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    plain = tmp_path / "plain"
    plain.write_text("echo a script without a first line: $1\n")
    plain.chmod(0o755)
    link = tmp_path / "link"
    link.symlink_to(site.url)
    tasks = site.submit(
        Template(("no-such-program",)),
        Template(("./no-such-file",)),
        Template(("true",), cwd="/no/such/directory"),
        Template((str(script),)),
        Template(("true",), stdin="/no/such/input"),
        Template((str(tmp_path),)),
        Template(("true", *["x" * 100_000] * 60)),
        shell("echo x", stdout=f"{site.url}-wal"),
        shell("echo x >&2", stderr=str(link)),
        Template((str(plain), "x")),
    )
    site.start()
    site.wait()
    for task, words in zip(
        tasks,
        ("no-such-program: no such program", "./no-such-file: No such", "cannot enter the directory /no/such/directory",
         "the interpreter", "cannot open /no/such/input", "Permission denied", "argument 1 has 100000",
         "-wal, for stdout, is a file of the store: name another one", "link, for stderr, is a file of the store"),
        strict=False,
    ):  # fmt: skip
        last = site.last(task)
        assert last.cause is Cause.LAUNCH_ERROR
        assert words in (last.message or "")
    assert site.output(tasks[-1]).stdout == b"a script without a first line: x\n"


def test_shell_lines_that_need_no_shell_end_as_with_one(site: Site, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("echo $0: $1\n")
    plain.chmod(0o755)
    (tmp_path / "closed").touch(0o644)
    asked = [
        shell("/bin/echo 'a  b' --x=1"),
        shell("./plain {task_id}", cwd=str(tmp_path)),
        shell("seq 1 2", stdout=str(tmp_path / "seq")),
        shell("ls /dev/null", env={"PATH": "/no/where:/usr/bin:/bin"}),
        shell("ls /dev/null", env={"BASH_FUNC_ls%%": "() { echo $@; }"}),
        shell("./no-such-file"),
        shell("no-such-program a"),
        shell("./closed", cwd=str(tmp_path)),
    ]
    tasks = site.submit(*asked)
    shells = site.submit(*[structs.replace(each, command=(f"{each.command[0]} ;",)) for each in asked])
    site.start()
    site.wait()
    for task, other in zip(tasks, shells, strict=True):
        one, two = site.last(task), site.last(other)
        assert (one.cause, one.exit_code) == (two.cause, two.exit_code)
        output = [site.output(each) for each in (task, other)]
        assert output[0].stdout == output[1].stdout.replace(f"{other}\n".encode(), f"{task}\n".encode())
        assert output[0].stderr == output[1].stderr
    assert [site.last(task).exit_code for task in tasks] == [0, 0, 0, 0, 0, 127, 127, 126]
    assert site.output(tasks[0]).stdout == b"a  b --x=1\n"
    assert (tmp_path / "seq").read_text() == "1\n2\n"


def test_time_limit_ends_the_whole_group(site: Site) -> None:
    mark = nap()
    task = site.submit(shell(f"sleep {mark} & trap '' TERM; sleep {mark}"), resources=Resources(time_limit_s=0.3))[0]
    polite = site.submit(shell(f"exec sleep {mark}"), resources=Resources(time_limit_s=0.3))[0]
    site.start()
    site.wait()
    assert site.last(task).cause is Cause.TIMEOUT
    assert site.last(polite).cause is Cause.TIMEOUT
    assert site.last(polite).signal == 15
    wait_until(lambda: not alive(mark), 5.0)


def test_memory_limit_counts_the_whole_session(site: Site) -> None:
    eat = f"{sys.executable} -I -S -c 'import time; x = bytearray(150 << 20); time.sleep(60)'"
    task = site.submit(shell(f"{eat} & {eat} & wait"), resources=Resources(memory_bytes=200 << 20))[0]
    site.start()
    site.wait()
    assert site.last(task).cause is Cause.OOM


def test_peak_memory_and_cpu_time_are_measured(site: Site) -> None:
    line = f"{sys.executable} -I -S -c 'x = bytearray(200 << 20); sum(range(3000000))'"
    task = site.submit(shell(line))[0]
    site.start()
    site.wait()
    last = site.last(task)
    assert 200 << 20 < last.memory_bytes < 300 << 20
    assert last.elapsed_s >= last.cpu_s > 0


def test_cancel_reaches_running_and_queued_tasks(site: Site) -> None:
    mark = nap()
    tasks = site.submit(shell(f"exec sleep {mark}"), copies=6)
    site.start()
    site.wait_running(tasks[0])
    site.client.call(Cancel("c1", Filter(ids=tuple(tasks))))
    assert site.wait() == {TaskState.CANCELED: 6}
    assert site.last(tasks[0]).cause is Cause.CANCELED
    wait_until(lambda: not alive(mark), 5.0)


def test_drain_finishes_what_runs_and_gives_back_the_rest(site: Site, tmp_path: Path) -> None:
    go = tmp_path / "go"
    running = site.submit(shell(until(go)), copies=2)
    queued = site.submit(shell("true"), copies=4)
    pilot = site.start()
    for task in running:
        site.wait_running(task)
    site.client.call(DrainPilot(pilot.id))
    wait_until(lambda: TaskState.CLAIMED not in site.counts())  # what had not begun is given back
    go.touch()
    assert site.wait_over(pilot.id).state is PilotState.DONE
    assert site.counts() == {TaskState.DONE: 2, TaskState.READY: 4}
    assert not site.attempts(queued[0])


def test_canceled_pilot_kills_its_tasks_and_gives_them_back(site: Site) -> None:
    mark = nap()
    task = site.submit(shell(f"exec sleep {mark}"))[0]
    pilot = site.start()
    site.wait_running(task)
    site.client.call(CancelPilot(pilot.id))
    assert site.wait_over(pilot.id).state is PilotState.CANCELED
    wait_until(lambda: not alive(mark), 10.0)
    wait_until(lambda: site.state(task) is TaskState.READY, 10.0)


def test_what_a_running_task_writes_is_seen(site: Site, tmp_path: Path) -> None:
    more = tmp_path / "more"
    line = f"echo one; {until(more)}; seq 100000; echo alas >&2; exec sleep 600"
    task = site.submit(shell(line))[0]
    mine, both = site.submit(
        shell("echo mine; exec sleep 600", stdout=str(tmp_path / "mine")),
        shell("echo both >&2; exec sleep 600", stdout=str(tmp_path / "both"), stderr=str(tmp_path / "both")),
    )
    pilot = site.start(PilotDescription(cores=3, pin=False))
    seen = site.wait_written(task, lambda written: bool(written.stdout))
    assert (seen.attempt, seen.stdout, seen.stdout_bytes, seen.stderr) == (1, b"one\n", 4, b"")
    more.touch()
    seen = site.wait_written(task, lambda written: bool(written.stderr))
    assert seen.stdout == "".join(f"{number}\n" for number in range(1, 100_001)).encode()[-TAIL_BYTES:]
    assert (seen.stdout_bytes, seen.stderr) == (588_899, b"alas\n")
    seen = site.wait_written(mine, lambda written: bool(written.stdout))
    assert (seen.stdout, seen.stdout_path, seen.stderr_path) == (b"mine\n", str(tmp_path / "mine"), None)
    seen = site.wait_written(both, lambda written: bool(written.stderr))
    assert (seen.stdout, seen.stderr, seen.stdout_path) == (b"both\n", b"both\n", seen.stderr_path)
    site.client.call(CancelPilot(pilot.id))
    site.wait_over(pilot.id)
    assert site.output(task).stdout_bytes == 588_899  # that it was looked at harms nothing


def test_sigterm_drains(site: Site, tmp_path: Path) -> None:
    go = tmp_path / "go"
    task = site.submit(shell(until(go)))[0]
    pilot = site.start()
    site.wait_running(task)
    os.kill(site.guard(pilot.id), 15)
    go.touch()
    assert site.wait_over(pilot.id).state is PilotState.DONE
    assert site.state(task) is TaskState.DONE


def test_walltime_ends_tasks_and_they_go_back(site: Site) -> None:
    task = site.submit(shell("exec sleep 600"))[0]
    pilot = site.start(PilotDescription(cores=1, walltime_s=3.0, pin=False))
    over = site.wait_over(pilot.id)
    assert (over.state, over.reason) == (PilotState.DONE, "walltime")
    assert site.state(task) is TaskState.READY
    assert site.attempts(task)[0].cause is Cause.WALLTIME


def test_idle_pilot_leaves_nothing_in_its_spool(site: Site) -> None:
    site.submit(Template(("true",)), copies=50)
    pilot = site.start(PilotDescription(cores=2, idle_s=0.3, pin=False))
    assert site.wait_over(pilot.id).reason == "idle"
    assert site.counts() == {TaskState.DONE: 50}
    wait_until(lambda: not list(Path(pilot.directory).glob("spool.*")))


def test_retries_have_their_own_attempts(site: Site) -> None:
    task = site.submit(shell("[ $PILOTMTC_ATTEMPT = 3 ]", max_retries=4))[0]
    site.start()
    site.wait()
    assert [attempt.exit_code for attempt in site.attempts(TaskId(task))] == [1, 1, 0]


def test_daemon_of_a_task_that_is_over_is_swept(site: Site) -> None:
    mark = nap()
    site.submit(shell(f"setsid sleep {mark} & exit 0"))
    site.start()
    assert site.wait() == {TaskState.DONE: 1}
    wait_until(lambda: not alive(mark), 5.0)
