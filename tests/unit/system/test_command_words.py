"""Words of the programs that pilotmtc starts itself."""

from pathlib import Path

import pytest
from msgspec import Struct

from pilotmtc.system.command_words import read_words


class Asked(Struct, frozen=True):
    """Some words."""

    store: str
    place: Path = Path("/")
    some_fd: int | None = None
    linger: float = 1.5
    foreground: bool = False


def test_words_make_a_record() -> None:
    assert read_words(["s.db"], Asked, "store") == Asked("s.db")
    words = ["--some-fd=3", "--place", "/x", "--foreground", "s.db", "--linger", "-2"]
    assert read_words(words, Asked, "store") == Asked("s.db", Path("/x"), 3, -2.0, True)


@pytest.mark.parametrize(
    "words",
    [
        [], ["a", "b"], ["a", "--some-fd"], ["a", "--some-fd", "x"], ["a", "--nonsense", "1"], ["a", "-x"],
        ["--store", "a"], ["--place", "/x"],
    ],
)  # fmt: skip
def test_words_that_make_none_are_refused(words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        read_words(words, Asked, "store")
    assert ended.value.code == 2
    assert capfd.readouterr().err.startswith("pilotmtc: error: ")
