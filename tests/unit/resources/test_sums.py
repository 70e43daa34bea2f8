"""What is left of a total, counted at once and one by one."""

from hypothesis import given
from hypothesis import strategies as st

from pilotmtc.model import Resources
from pilotmtc.resources.amounts import Need, Sum, shares

AMOUNTS = st.integers(0, 40)


@given(
    st.tuples(AMOUNTS, AMOUNTS, AMOUNTS, AMOUNTS),
    st.builds(
        Resources, cores=st.integers(1, 5), gpus=st.sampled_from([0.0, 0.25, 1.0, 3.0]),
        memory_bytes=st.integers(0, 9), named=st.dictionaries(st.just("x"), st.sampled_from([0.5, 2.0])),
        ranks=st.integers(1, 3),
    ),
)  # fmt: skip
def test_as_many_needs_are_covered_as_can_be_taken_one_by_one(
    have: tuple[int, int, int, int], asked: Resources
) -> None:
    left, need = Sum(), Need.of(asked)
    left.cores, left.gpus, left.memory, left.named = have[0], shares(have[1]), have[2], {"x": shares(have[3])}
    expected, count = left.times(need), 0
    while left.covers(need):
        left.add(need, -1)
        count += 1
    assert count == expected
