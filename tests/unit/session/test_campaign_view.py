"""A campaign from near: which tasks are read of it, and when it will end."""

from pilotmtc.report.measure.distribution import distribution
from pilotmtc.session.look.campaign import eta_between


def test_end_is_the_more_certain_the_more_was_measured_and_the_more_alike_tasks_are() -> None:
    few, many = (distribution([5.0, 10.0, 15.0] * n) for n in (2, 200))
    assert eta_between(100.0, 50, distribution([])) is None
    low, high = eta_between(100.0, 50, few) or (0.0, 0.0)
    closer_low, closer_high = eta_between(100.0, 50, many) or (0.0, 0.0)
    assert low < closer_low < 100.0 < closer_high < high
    assert eta_between(100.0, 50, distribution([10.0] * 9)) == (100.0, 110.0)
