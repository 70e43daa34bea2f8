"""What a site may say, and what no scheduler could be told."""

import pytest

from pilotmtc.errors import ConfigError
from pilotmtc.sites import make_site


@pytest.mark.parametrize(
    ("key", "value"), [("constraint", 'lab & "x y"'), ("reservation", "no such"), ("queue", "-"), ("account", "a\nb")]
)
def test_words_that_the_scheduler_would_never_be_told_are_refused(key: str, value: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{key}: "):
        make_site("lab", {"host": "h", key: value})


def test_lines_are_left_to_schedulers_that_take_them() -> None:
    assert make_site("lab", {"scheduler": "condor", "constraint": "Memory > 10 && x"}).constraint
    assert make_site("lab", {"login": "-"}).login == "-"
