"""GPUs that a job says it has, and what tasks are told of theirs."""

import pytest

from pilotmtc.agent.node.gpus import chosen, count, elsewhere, lists, visible
from pilotmtc.errors import ConfigError

CUDA, ROCR, ZE = "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "ZE_AFFINITY_MASK"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("2,3", ("2", "3")),
        (" 2 , 3,", ("2", "3")),
        ("GPU-aaaa,MIG-GPU-1/2/0", ("GPU-aaaa", "MIG-GPU-1/2/0")),
        ("", ()),
        ("0,-1,1", ("0",)),
        ("NoDevFiles", ()),
    ],
)
def test_list_of_a_job_is_read(text: str, names: tuple[str, ...]) -> None:
    assert visible({CUDA: text}) == {CUDA: names}
    assert count({CUDA: text}) == len(names)


@pytest.mark.parametrize("text", ["0;1", "a b", "$(x)", "*"])
def test_what_is_no_name_of_a_gpu_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=CUDA):
        visible({CUDA: text})


def test_tasks_get_from_the_lists_of_their_job_and_in_no_other_variable() -> None:
    names = lists({CUDA: "2,3", ZE: "0.1,1.0"}, 2)
    assert chosen(names, [1]) == {CUDA: "3", ZE: "1.0"}
    assert chosen(names, [0, 1]) == {CUDA: "2,3", ZE: "0.1,1.0"}
    assert chosen(names, []) == {CUDA: "", ZE: ""}
    assert chosen(lists({CUDA: "", ROCR: "5,7"}, 2), [0]) == {ROCR: "5"}


def test_without_lists_gpus_are_numbers_from_0() -> None:
    assert chosen(lists({}, 2), [1]) == {CUDA: "1", ROCR: "1"}
    assert lists({CUDA: "2,3"}, 0) == {}


@pytest.mark.parametrize("text", ["2", "", "NoDevFiles"])
def test_more_gpus_than_the_job_has_are_refused_by_the_variable(text: str) -> None:
    with pytest.raises(ConfigError, match=f"{CUDA}={text} lists"):
        lists({CUDA: text}, 2)


def test_another_nodes_uuids_are_not_taken_for_ones_own() -> None:
    assert elsewhere({CUDA: "GPU-a", ROCR: "1", "A": "b"}, {}) == {ROCR: "1", "A": "b"}
    assert elsewhere({CUDA: "2,3", "A": "b"}, {}) == {CUDA: "2,3", "A": "b"}
    assert elsewhere({CUDA: "2,3", "A": "b"}, {ROCR: "0"}) == {"A": "b"}
