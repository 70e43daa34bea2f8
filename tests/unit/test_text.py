"""Text that is made to fit a terminal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotmtc.text.tables import shorten, shorten_middle, width_of

TEXTS = st.text(st.characters(categories=("L", "N", "P", "Zs")), max_size=60)


@given(TEXTS, st.integers(0, 70))
def test_shortened_text_fits_and_is_whole_if_it_can_be(text: str, width: int) -> None:
    for short in (shorten(text, width), shorten_middle(text, width)):
        assert width_of(short) <= width
        assert (short == text) or width_of(text) > width


@pytest.mark.parametrize(
    ("text", "width", "short"),
    [
        ("./scan --mass 1 --seed 17", 16, "./scan --m…ed 17"),
        ("./scan", 6, "./scan"),
        ("./scan", 5, "./s…n"),
        ("./scan", 2, ".…"),
        ("./scan", 0, ""),
        ("東京東京東京", 9, "東京東…京"),
    ],
)
def test_end_of_a_long_text_is_kept_with_its_beginning(text: str, width: int, short: str) -> None:
    assert shorten_middle(text, width) == short
