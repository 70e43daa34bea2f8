"""Whether a task fits, or why not."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotmtc.agent.core.cluster import Cluster
from pilotmtc.model import Resources
from pilotmtc.resources.amounts import UNKNOWN, Amounts, Need
from pilotmtc.resources.fit import Capacity, Lack, Reason, TaskRequest, fit
from pilotmtc.resources.kinds import CORES, GPUS, MEMORY, named
from pilotmtc.resources.slots import Node

SMALL = Amounts.of(2, 0, 100, {})
LARGE = Amounts.of(8, 2, 1000, {"licence": 1.5})


@pytest.mark.parametrize(
    ("need", "lack"),
    [
        (Resources(cores=9), Lack(Reason.AMOUNT, 9, 8, CORES)),
        (Resources(gpus=3), Lack(Reason.AMOUNT, 3, 2, GPUS)),
        (Resources(memory_bytes=1001), Lack(Reason.AMOUNT, 1001, 1000, MEMORY)),
        (Resources(named={"licence": 2.0}), Lack(Reason.AMOUNT, 2, 1.5, named("licence"))),
        (Resources(named={"other": 1.0}), Lack(Reason.AMOUNT, 1, 0, named("other"))),
        (Resources(cores=2, ranks=6), Lack(Reason.RANKS, 6, 5)),
        (Resources(cores=2, ranks=6, ranks_per_node=5), Lack(Reason.RANKS_PER_NODE, 5, 4)),
        (Resources(time_limit_s=61.0), Lack(Reason.TIME, 61, 60)),
        (Resources(cores=8, gpus=0.5, memory_bytes=1000, named={"licence": 1.5}, expected_s=60.0), None),
        (Resources(cores=2, ranks=5), None),
    ],
)
def test_what_is_short_is_named_with_how_much_there_is(need: Resources, lack: Lack | None) -> None:
    assert fit(TaskRequest.of(need), Capacity(((1, SMALL), (1, LARGE)), 60.0)) == lack


def test_what_is_not_known_yet_is_enough() -> None:
    nodes = ((3, Amounts.of(UNKNOWN, 0, UNKNOWN, {})),)
    assert fit(TaskRequest.of(Resources(cores=10**6, memory_bytes=1 << 50, ranks=10**6)), Capacity(nodes)) is None


def test_nothing_fits_where_there_are_no_nodes() -> None:
    assert fit(TaskRequest.of(Resources()), Capacity(())) == Lack(Reason.RANKS, 1, 0)


_NODES = st.lists(
    st.tuples(st.integers(1, 4), st.integers(0, 2), st.integers(1, 50), st.sampled_from([0.0, 0.3, 1.0])), max_size=4
)
_NEEDS = st.builds(
    Resources,
    cores=st.integers(0, 4),
    gpus=st.sampled_from([0.0, 0.3, 0.5, 1.0, 2.0]),
    memory_bytes=st.integers(0, 60),
    named=st.dictionaries(st.just("lic"), st.sampled_from([0.0, 0.1, 1.0])),
    ranks=st.integers(1, 6),
    ranks_per_node=st.integers(0, 3),
)


@given(_NODES, _NEEDS)
def test_what_fits_is_what_an_agent_can_place_on_empty_nodes(
    nodes: list[tuple[int, int, int, float]], need: Resources
) -> None:
    amounts = tuple((1, Amounts.of(cores, gpus, memory, {"lic": lic})) for cores, gpus, memory, lic in nodes)
    cluster = Cluster(
        Node(range(cores), gpus, memory, {"lic": lic}, f"n{n}") for n, (cores, gpus, memory, lic) in enumerate(nodes)
    )
    lack = fit(TaskRequest.of(need), Capacity(amounts, math.inf))
    assert cluster.holds(Need.of(need)) == (lack is None)
    assert (cluster.take(Need.of(need)) is not None) == (lack is None)
    assert lack is None or lack.needs > lack.has or lack.of is GPUS
