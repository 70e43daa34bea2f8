"""What errors say was probably meant."""

import pytest

from pilotmtc.errors import near

KNOWN = ("gpus", "memory", "campaign", "retries", "retry_on")


@pytest.mark.parametrize(
    ("word", "meant"),
    [("memroy", "memory"), ("gpu", "gpus"), ("GPUS", "gpus"), ("camp", "campaign"), ("bogus", ""), ("x", ""), ("", "")],
)
def test_only_a_near_word_is_suggested(word: str, meant: str) -> None:
    assert near(word, KNOWN) == meant
