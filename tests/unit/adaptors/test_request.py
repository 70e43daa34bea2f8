"""What SAGA's description becomes: each attribute has its place, or is refused by name."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotmtc.errors import UsageError
from pilotmtc_adaptors._dialect import JobRequest
from pilotmtc_adaptors._request import EXTRAS, as_request
from pilotmtc_adaptors._script import refuse_nonsense, refuse_unmapped


def test_every_attribute_with_a_place_gets_there() -> None:
    assert as_request(
        {
            "Executable": "/bin/x", "Arguments": ["a", "b c"], "Environment": {"A": 1}, "PreExec": ["true"],
            "Name": "n", "WorkingDirectory": "/w", "Input": "i", "Output": "o", "Error": "e", "Queue": "q",
            "Project": "p", "CandidateHosts": ["n1", "n2"], "FileTransfer": ["a > b"], "WallTimeLimit": 3,
            "TotalCPUCount": 24, "TotalGPUCount": 4, "TotalPhysicalMemory": 3,
            "SystemArchitecture": {
                "nodes": 2, "qos": "high", "constraint": "c", "reservation": "r", "exclusive": True, "signal_s": 9,
            },
        }
    ) == JobRequest(
        executable="/bin/x", arguments=("a", "b c"), environment={"A": "1"}, pre_exec=("true",), name="n",
        working_directory="/w", input="i", output="o", error="e", queue="q", account="p", candidate_hosts=("n1", "n2"),
        file_transfer=("a > b",), walltime_s=180, cores_per_node=12, gpus_per_node=2,
        memory_per_node_bytes=(3 << 20) // 2, nodes=2, qos="high", constraint="c", reservation="r", exclusive=True,
        signal_s=9,
    )  # fmt: skip


def test_what_is_empty_is_not_given() -> None:
    attributes = {"Executable": "x", "TotalCPUCount": 0, "Cleanup": False, "PostExec": [], "JobContact": None}
    assert as_request(attributes) == JobRequest(executable="x")


def test_one_process_is_what_is_started_anyway() -> None:
    assert as_request({"Executable": "x", "NumberOfProcesses": 1}) == JobRequest(executable="x")


@pytest.mark.parametrize(
    ("attributes", "named"),
    [
        ({"NumberOfProcesses": 2}, r"number_of_processes \(2\).*give nodes"),
        ({"ProcessesPerHost": 2}, r"processes_per_host \(2\)"),
        ({"ThreadsPerProcess": 2}, r"threads_per_process \(2\)"),
        ({"SPMDVariation": "MPI"}, r"spmd_variation \('MPI'\)"),
        ({"PostExec": ["x"]}, r"post_exec \(\['x'\]\)"),
        ({"Interactive": True}, r"interactive \(True\)"),
        ({"Cleanup": True}, r"cleanup \(True\)"),
        ({"JobStartTime": "12:00"}, r"job_start_time \('12:00'\)"),
        ({"JobContact": ["a@b"]}, r"job_contact"),
        ({"OperatingSystemType": "LINUX"}, r"operating_system_type"),
        ({"foo": 3}, r"foo \(3\)"),
        ({"TotalCPUCount": 5, "SystemArchitecture": {"nodes": 2}}, r"total_cpu_count 5 is not a multiple of 2 nodes"),
        ({"TotalGPUCount": 5, "SystemArchitecture": {"nodes": 2}}, r"total_gpu_count 5 is not a multiple of 2 nodes"),
        ({"TotalGPUCount": 2, "SystemArchitecture": {"gpus_per_node": 2}}, r"total_gpu_count and gpus_per_node"),
        ({"TotalCPUCount": "many"}, r"total_cpu_count 'many': give a whole number"),
        ({"WallTimeLimit": 1.5}, r"wall_time_limit 1.5: give a whole number"),
        ({"SystemArchitecture": {"node": 2, "nodes": 1}}, r"system_architecture has no node: there are .*nodes"),
        ({"SystemArchitecture": {"nodes": "two"}}, r"nodes 'two'"),
        ({"SystemArchitecture": {"exclusive": "maybe"}}, r"exclusive"),
        ({"SystemArchitecture": "x86"}, r"system_architecture 'x86': give a dict"),
        ({"Executable": ["a"]}, r"executable"),
        ({"Arguments": [["a"]]}, r"arguments"),
        ({"Environment": ["a"]}, r"environment"),
    ],
)
def test_what_has_no_place_is_refused_by_name(attributes: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        as_request({"Executable": "x", **attributes})


values = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.text()),
    st.dictionaries(st.sampled_from([*EXTRAS, "x"]), st.one_of(st.none(), st.integers(), st.text(), st.booleans())),
)  # fmt: skip
names = st.sampled_from(
    ["Executable", "Arguments", "Environment", "TotalCPUCount", "TotalGPUCount", "TotalPhysicalMemory", "WallTimeLimit",
     "SystemArchitecture", "CandidateHosts", "NumberOfProcesses", "Name", "foo"]
)  # fmt: skip


@given(st.dictionaries(names, values))
def test_any_value_is_a_request_or_refused(attributes: dict[str, Any]) -> None:
    try:
        request = as_request({"Executable": "x", **attributes})
        refuse_nonsense(request)
        refuse_unmapped(request, frozenset(), "lab")
    except UsageError:
        return
    assert request.executable


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"nodes": 0}, "nodes 0: give 1"),
        ({"walltime_s": -60}, "walltime_s -60"),
        ({"cores_per_node": -1}, "cores_per_node -1"),
        ({"signal_s": 60}, "signal_s 60 .* give a longer walltime"),
        ({"signal_s": 60, "walltime_s": 60}, "signal_s 60 .* walltime of 60 s"),
    ],
)
def test_numbers_without_sense_are_refused_for_every_scheduler(fields: dict[str, int], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        refuse_nonsense(JobRequest(executable="x", **fields))  # type: ignore[arg-type]  # all of them are numbers
