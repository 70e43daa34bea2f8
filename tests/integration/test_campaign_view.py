"""A campaign from near, read from a real store."""

from pilotmtc.session import Session
from tests.serving import Place


def test_large_campaign_is_read_in_parts_that_are_spread_over_it(place: Place) -> None:
    with Session(place.path) as session:
        session.submit("true {a} {b} {n}", ({"a": n // 600, "b": n % 10, "n": n} for n in range(12_000)))
        grid = session.campaign_view(1, grid=True).grid
        assert grid is not None
        assert (grid.across, grid.down, len(grid.rows)) == ("a", "b", 10)
        assert (grid.columns[0], grid.columns[-1]) == ("0", "19")
        assert 4_900 < grid.read <= 5_000
        assert session.campaign_view(1).grid is None
