"""Packing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotmtc.model import Resources
from pilotmtc.resources.amounts import SHARE, Need, Sum
from pilotmtc.resources.slots import Node, Slot, core_list


def need(cores: int = 1, gpus: float = 0.0, memory: int = 0, **named: float) -> Need:
    return Need.of(Resources(cores=cores, gpus=gpus, memory_bytes=memory, named=dict(named)))


def test_low_cores_are_used_first_and_come_back() -> None:
    node = Node(range(4))
    first, second = node.take(need()), node.take(need(2))
    assert first == Slot((0,))
    assert second == Slot((1, 2))
    assert node.take(need(2)) is None
    assert first is not None
    node.give(first)
    assert node.take(need(2)) == Slot((0, 3))


def test_shares_of_a_gpu_leave_whole_ones_whole() -> None:
    node = Node(range(8), gpus=2)
    half = node.take(need(gpus=0.5))
    assert half is not None
    assert half.gpus == ((0, SHARE // 2),)
    whole = node.take(need(gpus=1))
    assert whole is not None
    assert whole.gpus == ((1, SHARE),)
    other = node.take(need(gpus=0.5))
    assert other is not None
    assert other.gpus == ((0, SHARE // 2),)
    assert node.take(need(gpus=0.1)) is None


def test_ten_tenths_of_a_gpu_are_one() -> None:
    node = Node(range(16), gpus=1)
    slots = [node.take(need(gpus=0.1)) for _ in range(10)]
    assert None not in slots
    assert node.take(need(gpus=0.1)) is None
    for slot in slots:
        assert slot is not None
        node.give(slot)
    assert node.take(need(gpus=1)) is not None


@given(st.floats(0, 1e9, allow_subnormal=True))
def test_what_is_not_nothing_counts_as_something(amount: float) -> None:
    least = need(gpus=min(amount, 1.0), lic=amount)
    assert bool(least.gpus) == bool(dict(least.named)) == (amount > 0)
    node = Node(range(8), gpus=1, named={"lic": 2.0})
    assert node.capacity(least) == node.room(least) == (1 if amount <= 2 else 0)


def test_memory_and_named_resources_are_counted() -> None:
    node = Node(range(8), memory=100, named={"licence": 1.5})
    assert node.take(need(memory=60)) is not None
    assert node.take(need(memory=60)) is None
    assert node.take(need(licence=1)) is not None
    assert node.take(need(licence=1)) is None
    assert node.take(need(licence=0.5)) is not None


def test_what_never_fits_is_known() -> None:
    node = Node(range(2), gpus=1, memory=10, named={"a": 1})
    assert node.capacity(need(2, 1, 10, a=1))
    assert not node.capacity(need(3))
    assert not node.capacity(need(gpus=1.5))
    assert not node.capacity(need(memory=11))
    assert not node.capacity(need(b=1))


def test_a_blocked_task_keeps_its_share_of_the_node() -> None:
    node = Node(range(8), gpus=1)
    others = Sum()
    assert node.spare(need(6), others, need(2))
    others.add(need(2))
    assert not node.spare(need(6), others, need(1))
    assert not node.spare(need(1, gpus=1), Sum(), need(1, gpus=0.1))


@pytest.mark.parametrize(
    ("cores", "text"), [((), ""), ((0,), "0"), ((0, 1, 2, 3, 8), "0-3,8"), ((5, 1, 3, 2), "1-3,5"), ((9, 11), "9,11")]
)
def test_cores_are_written_as_ranges(cores: tuple[int, ...], text: str) -> None:
    assert core_list(cores) == text


@given(
    st.lists(
        st.tuples(st.integers(1, 5), st.sampled_from([0.0, 0.1, 0.3, 0.5, 1.0, 2.0]), st.integers(0, 50), st.booleans())
    )
)
def test_nothing_is_given_twice_and_all_comes_back(steps: list[tuple[int, float, int, bool]]) -> None:
    node = Node(range(6), gpus=2, memory=100)
    held: list[Slot] = []
    for cores, gpus, memory, give in steps:
        if give and held:
            node.give(held.pop(0))
            continue
        slot = node.take(need(cores, gpus, memory))
        if slot is not None:
            held.append(slot)
        taken = [core for one in held for core in one.cores]
        assert len(taken) == len(set(taken)) <= 6
        assert sum(one.memory for one in held) + node.free_memory == 100
        shares = [0, 0]
        for one in held:
            for index, share in one.gpus:
                shares[index] += share
        assert max(shares) <= SHARE
    for slot in held:
        node.give(slot)
    assert node.free_cores == 6
    assert node.free_gpus == 2 * SHARE
    assert node.free_memory == 100
