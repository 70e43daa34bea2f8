"""Finding an allocation, and what starts workers and ranks there."""

import shlex
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotmtc.agent.crews.contact import Contact
from pilotmtc.agent.crews.pool import LOST_S
from pilotmtc.agent.crews.start_workers import Allocation, commands, find, joined, worker_command
from pilotmtc.agent.multi_node import LOST, node_timeout_s
from pilotmtc.agent.node import mpi
from pilotmtc.agent.node.interface import LaunchError
from pilotmtc.errors import ConfigError
from pilotmtc.host_lists import counts, expand, fold
from pilotmtc.model import Result, TaskId
from pilotmtc.resources.slots import Slot
from pilotmtc.states import Cause
from tests.lab.replay import recorded

CONTACT = Path("/p/contact")


def contact(cores: dict[str, int]) -> Contact:
    return Contact("tcp://n1:4", b"", b"", b"", 30.0, 1, "/s", "/p", cores, 0, 0, True, {})


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("n1", ["n1"]),
        ("n[1-3,7],login", ["n1", "n2", "n3", "n7", "login"]),
        ("a[08-11]", ["a08", "a09", "a10", "a11"]),
        ("r[1-2]n[1-2]-ib", ["r1n1-ib", "r1n2-ib", "r2n1-ib", "r2n2-ib"]),
        (" x1.site , x2.site ", ["x1.site", "x2.site"]),
        ("", []),
    ],
)
def test_lists_of_nodes_are_read(text: str, names: list[str]) -> None:
    assert expand(text) == names


@pytest.mark.parametrize("text", ["n[1-", "n[a-b]", "n[1-2-3]", "n]", "n[1-99999999]"])
def test_lists_that_cannot_be_read_are_refused_with_their_text(text: str) -> None:
    with pytest.raises(ConfigError, match=r"range of hosts|list of hosts"):
        expand(text)


@given(st.lists(st.from_regex(r"[a-z]{1,3}[0-9]{0,3}", fullmatch=True), max_size=12))
def test_names_folded_and_unfolded_are_the_same(names: list[str]) -> None:
    assert expand(fold(names)) == names


def test_names_are_folded_short() -> None:
    assert fold(f"n{number}" for number in range(1, 1025)) == "n[1-1024]"
    assert fold(["n1", "n2", "n5", "x"]) == "n[1-2,5],x"


def test_counts_are_read() -> None:
    assert counts("12(x3),8") == [12, 12, 12, 8]


def test_slurm_is_found_with_nodes_cores_and_end() -> None:
    env = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n[1-3]", "SLURM_JOB_CPUS_PER_NODE": "12(x2),8"}
    found = find(env | {"SLURM_JOB_END_TIME": "1000"})
    assert found == Allocation("srun", ("n1", "n2", "n3"), {"n1": 12, "n2": 12, "n3": 8}, "7", 1000.0)
    (command,) = commands(found, CONTACT, env)
    assert command[0] == "srun"
    for option in ("--jobid=7", "--overlap", "--nodes=3", "--ntasks=3", "--cpu-bind=none", "--kill-on-bad-exit=0"):
        assert option in command


def pbs_job(tmp_path: Path, *lines: str) -> dict[str, str]:
    nodes = tmp_path / "nodes"
    nodes.write_text("".join(f"{line}\n" for line in lines))
    pbsdsh = tmp_path / "bin" / "pbsdsh"
    pbsdsh.parent.mkdir()
    pbsdsh.write_text("#!/bin/sh\n")
    pbsdsh.chmod(0o755)
    return {"PBS_NODEFILE": str(nodes), "PBS_JOBID": "3.server", "PBS_EXEC": str(tmp_path), "PATH": "/usr/bin"}


def test_torque_is_found_and_its_pbsdsh_is_told_to_start_one_a_node(tmp_path: Path) -> None:
    env = pbs_job(tmp_path, "n2", "n2", "n1", "n1") | {"PBS_NUM_NODES": "2"}
    found = find(env)
    assert found == Allocation("pbsdsh", ("n2", "n1"), {"n2": 2, "n1": 2}, "3.server")
    assert commands(found, CONTACT, env) == [[f"{tmp_path}/bin/pbsdsh", "-u", "--", *worker_command(CONTACT)]]


def test_torque_says_how_long_its_job_may_be(tmp_path: Path) -> None:
    said = dict(each.split("=", 1) for each in recorded("torque-pilots")["environment"].stdout.splitlines())
    env = said | pbs_job(tmp_path, "n2", "n2", "n1", "n1")
    assert find(env | {"MTC_JOB_BEGAN": "1000"}).ends_at == 1300
    assert find(env).ends_at == 0
    assert find(env | {"MTC_JOB_BEGAN": "1000", "PBS_WALLTIME": "0"}).ends_at == 0


def test_lines_of_openpbs_are_processes_of_mpi_and_no_cores(tmp_path: Path) -> None:
    found = find(pbs_job(tmp_path, "n1", "n1", "n2", "n2"))
    assert (found.nodes, found.cores) == (("n1", "n2"), {})


def test_pbsdsh_of_openpbs_is_called_once_or_for_the_first_line_of_each_node(tmp_path: Path) -> None:
    env = pbs_job(tmp_path, "n1", "n2", "n3")
    assert commands(find(env), CONTACT, env) == [[f"{tmp_path}/bin/pbsdsh", "--", *worker_command(CONTACT)]]
    (tmp_path / "nodes").write_text("n2\nn2\nn1\nn1\nn1\n")
    found = [command[1:4] for command in commands(find(env), CONTACT, env)]
    assert found == [["-n", "0", "--"], ["-n", "2", "--"]]


@pytest.mark.parametrize("hosts", ["", "n1"])
def test_what_starts_processes_in_other_surroundings_is_told_where_the_libraries_are(
    tmp_path: Path, hosts: str
) -> None:
    env = pbs_job(tmp_path, "n1")
    for more, wanted in ({"LD_LIBRARY_PATH": "/a b:/c"}, ["/usr/bin/env", "LD_LIBRARY_PATH=/a b:/c"]), ({}, []):
        (command,) = commands(find(env, hosts), CONTACT, env | more)
        words = shlex.split(command[-1]) if hosts else command[command.index("--") + 1 :]
        assert words == [*wanted, *worker_command(CONTACT, hosts)]


@pytest.mark.parametrize(("said", "node"), [("n1.site", "n1"), ("n1", "n1.site"), ("n1", "n1")])
def test_node_has_its_cores_by_its_name_with_domain_and_without(said: str, node: str) -> None:
    assert contact({said: 12, "x": 3}).cores_of(node) == 12


def test_node_that_is_not_named_has_what_all_have() -> None:
    assert contact({"": 12}).cores_of("n7") == 12
    assert contact({"n1": 12}).cores_of("n7") == 0


def test_named_hosts_are_reached_by_ssh_with_everything_quoted(tmp_path: Path) -> None:
    file = tmp_path / "hosts"
    file.write_text("a\nb slots=3\n\n")
    assert find({"SLURM_JOB_ID": "7"}, str(file)).nodes == ("a", "b")
    found = find({}, "a,b")
    assert found == Allocation("ssh", ("a", "b"))
    odd = Path("/p q/contact")
    first, second = commands(found, odd, {})
    assert (first[0], first[-2], second[-2]) == ("ssh", "a", "b")
    assert shlex.split(first[-1]) == worker_command(odd, "a")


def test_first_job_of_a_cluster_of_htcondor_has_the_agent_and_the_others_join(tmp_path: Path) -> None:
    ad = tmp_path / "machine.ad"
    ad.write_text('Machine = "n1"\nMyAddress = "<10.1.2.3:9618?addrs=10.1.2.3-9618&sock=startd>"\n')
    env = {"_CONDOR_SCRATCH_DIR": "/s", "_CONDOR_PROCNO": "0", "_CONDOR_NPROCS": "3", "_CONDOR_MACHINE_AD": str(ad)}
    found = find(env)
    assert (found.way, len(found.nodes), len(set(found.nodes)), found.address) == ("condor", 3, 3, "10.1.2.3")
    assert commands(found, CONTACT, env) == [worker_command(CONTACT, found.nodes[0])]
    assert joined(env) == ""
    assert joined(env | {"_CONDOR_PROCNO": "2"}) == found.nodes[2]
    assert find({"_CONDOR_SCRATCH_DIR": "/s"}).address == ""


def test_no_job_at_all_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match="--hosts"):
        find({})


def test_what_starts_the_ranks_is_found_and_may_be_wished_for(tmp_path: Path) -> None:
    env = {"PATH": str(tmp_path)}
    assert mpi.way(env) == "ranks"
    for name in ("srun", "mpiexec"):
        (tmp_path / name).write_text("#!/bin/sh\necho 'HYDRA build details:'\n")
        (tmp_path / name).chmod(0o755)
        if name == "srun":
            assert mpi.way(env) == "ranks"
            assert mpi.way(env | {"SLURM_JOB_ID": "7"}) == "srun"
    assert mpi.way(env | {"SLURM_JOB_ID": "7"}) == "mpiexec"
    assert mpi.way(env | {"PILOTMTC_LAUNCHER": "ranks"}) == "ranks"
    with pytest.raises(LaunchError, match="none of"):
        mpi.way(env | {"PILOTMTC_LAUNCHER": "aprun"})
    with pytest.raises(LaunchError, match="no srun in PATH"):
        mpi.way({"PATH": "/nowhere", "PILOTMTC_LAUNCHER": "srun"})


def test_mpiexec_of_no_mpi_is_passed_over(tmp_path: Path) -> None:
    for name, says in (("pbs", "mpiexec: cannot find mpirun of MPT"), ("mpich", "HYDRA build details:")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mpiexec").write_text(f"#!/bin/sh\necho '{says}'; exit 1\n")
        (tmp_path / name / "mpiexec").chmod(0o755)
    alone, both = f"{tmp_path}/pbs", f"{tmp_path}/pbs:{tmp_path}/mpich"
    assert mpi.way({"PATH": alone}) == "ranks"
    assert mpi.way({"PATH": both}) == "mpiexec"
    with pytest.raises(LaunchError, match=r"pbs/mpiexec belongs to no MPI"):
        mpi.way({"PATH": alone, "PILOTMTC_LAUNCHER": "mpiexec"})
    argv, _ = mpi.command(
        "mpiexec", ["./sim"], SLOTS, here="n1", first=0, bind=False, file=tmp_path / "r" / "1", env={"PATH": both}
    )
    assert argv[0] == f"{tmp_path}/mpich/mpiexec"


SLOTS = (Slot((0, 1), node="n1"), Slot((2, 3), ((1, 1_000_000),), node="n1"), Slot((0, 1), node="n2"))


@pytest.mark.parametrize(
    ("says", "wanted"), [("mpiexec (OpenRTE) 4.1", "--host n1:2,n2:1"), ("HYDRA", "-hosts n1:2,n2:1")]
)
def test_both_kinds_of_mpiexec_are_told_where_the_ranks_go(tmp_path: Path, says: str, wanted: str) -> None:
    program = tmp_path / "mpiexec"
    program.write_text(f"#!/bin/sh\necho '{says}'\n")
    program.chmod(0o755)
    file = tmp_path / "ranks" / "1.1"
    argv, env = mpi.command(
        "mpiexec", ["./sim", "x y"], SLOTS, here="n0", first=0, bind=True, file=file, env={"PATH": str(tmp_path)},
        gpus={"CUDA_VISIBLE_DEVICES": ("2", "3"), "ZE_AFFINITY_MASK": ("0.0", "0.1")},
    )  # fmt: skip
    assert wanted in " ".join(argv)
    assert argv[-2:] == ["./sim", "x y"]
    assert (env["PILOTMTC_RANK_FILE"], env["PILOTMTC_BIND"]) == (str(file), "1")
    assert file.read_text() == "0-1 -\n2-3 CUDA_VISIBLE_DEVICES=3 ZE_AFFINITY_MASK=1\n0-1 -\n"
    mpi.remove_files(tmp_path, 1, 1)
    assert not file.exists()


@pytest.mark.parametrize(
    ("says", "slots", "hosts"),
    [
        ("HYDRA", SLOTS[:2], "localhost:2"),
        ("HYDRA", SLOTS, "n1:2,n2:1"),  # whose n2 would call back to localhost
        ("mpiexec (OpenRTE) 4.1", SLOTS, "localhost:2,n2:1"),
    ],
)
def test_other_nodes_of_mpich_are_told_this_ones_name(
    tmp_path: Path, says: str, slots: tuple[Slot, ...], hosts: str
) -> None:
    program = tmp_path / "mpiexec"
    program.write_text(f"#!/bin/sh\necho '{says}'\n")
    program.chmod(0o755)
    argv, _ = mpi.command(
        "mpiexec", ["./sim"], slots, here="n1", first=0, bind=False, file=tmp_path / "r" / "1",
        env={"PATH": str(tmp_path)},
    )  # fmt: skip
    assert hosts in argv


def test_srun_is_told_the_host_of_each_rank(tmp_path: Path) -> None:
    for name in ("srun", "scontrol"):
        (tmp_path / name).write_text("#!/bin/sh\necho 'MpiDefault = none'; echo pmix\n")
        (tmp_path / name).chmod(0o755)
    argv, env = mpi.command(
        "srun", ["./sim"], SLOTS, here="n1", first=0, bind=False, file=tmp_path / "ranks" / "2.1",
        env={"PATH": str(tmp_path), "SLURM_JOB_ID": "7"},
    )  # fmt: skip
    assert {"--overlap", "--jobid=7", "--ntasks=3", "--distribution=arbitrary", "--mpi=pmix"} <= set(argv)
    assert not any(word.startswith("--nodes") for word in argv)
    assert Path(env["SLURM_HOSTFILE"]).read_text() == "n1\nn1\nn2\n"


def test_node_starts_its_own_ranks_without_either(tmp_path: Path) -> None:
    argv, _ = mpi.command(
        "ranks", ["./sim"], SLOTS[:2], here="n1", first=4, bind=False, file=tmp_path / "3.1", env={},
        gpus={"CUDA_VISIBLE_DEVICES": ("GPU-a", "GPU-b"), "ROCR_VISIBLE_DEVICES": ("0", "1")},
    )  # fmt: skip
    assert argv[0] == sys.executable
    own = "CUDA_VISIBLE_DEVICES=GPU-b ROCR_VISIBLE_DEVICES=1"
    assert argv[-4:] == ["4", f"0-1:;2-3:{own}", "", "./sim"]


def part(
    node: str, cause: Cause = Cause.EXIT, code: int | None = 0, signal: int | None = None, at: float = 1.0
) -> Result:
    return Result(TaskId(1), 1, cause, code, signal, node, "0", at, 1.0, 0.5, 100, node.encode(), b"", len(node))


def test_parts_make_one_result() -> None:
    merged = mpi.merge([part("n1"), part("n2")], "n[1-2]", "0-3")
    assert (merged.cause, merged.exit_code, merged.node, merged.slot) == (Cause.EXIT, 0, "n[1-2]", "0-3")
    assert (merged.cpu_s, merged.stdout, merged.stdout_bytes) == (1.0, b"n1n2", 4)


def test_the_part_that_ended_badly_by_itself_is_to_blame() -> None:
    stopped = part("n1", Cause.EXIT, None, 9, at=2.0)
    assert mpi.merge([stopped, part("n2", code=7)], "", "").exit_code == 7
    first, later = part("n1", Cause.SIGNAL, None, 11), part("n2", Cause.SIGNAL, None, 9, at=2.0)
    assert mpi.merge([later, first], "", "").signal == 11
    assert mpi.merge([part("n1", code=1), part("n2", Cause.NODE_LOST, None)], "", "").cause is Cause.NODE_LOST


def test_slots_are_written_once_when_they_are_the_same() -> None:
    assert mpi.slot_text([SLOTS[:1], SLOTS[2:]]) == "0-1"
    assert mpi.slot_text([SLOTS[:2], SLOTS[2:]]) == "0-3;0-1"


@pytest.mark.parametrize("text", ["soon", "-1", "0", "inf", "nan"])
def test_node_timeout_that_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"PILOTMTC_NODE_TIMEOUT_S=.* is not a time: give at least 1, in seconds"):
        node_timeout_s({LOST: text})


def test_node_timeout() -> None:
    assert (node_timeout_s({}), node_timeout_s({LOST: "2.5"})) == (LOST_S, 2.5)
