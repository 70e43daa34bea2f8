"""Labels of tasks before their lines."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotmtc.cli.output.labels import label_of, labelled


@pytest.mark.parametrize(
    ("name", "params", "label"),
    [
        (None, {"1": "a b", "2": "c"}, "a b c"),
        (None, {"mass": "1.5", "#": "3"}, "mass=1.5"),
        ("fit-3", {"mass": "1.5"}, "fit-3"),
        (None, {"command": "echo a", "#": "1"}, "echo a"),
        (None, {}, "task 7"),
        (None, {"1": ""}, "task 7"),
        (None, {"1": "a\n\x1b[2J"}, "a\\n\\x1b[2J"),
    ],
)
def test_label_is_what_a_task_is_known_by(name: str | None, params: dict[str, str], label: str) -> None:
    assert label_of(7, name, params) == label


@given(st.lists(st.binary(max_size=6).map(lambda data: data.replace(b"\0", b"\n")), max_size=6))
def test_every_line_has_the_label_however_it_comes(blocks: list[bytes]) -> None:
    whole = b"".join(blocks)
    lines = whole.split(b"\n")
    lines = lines if lines[-1] else lines[:-1]
    assert b"".join(labelled(blocks, "x=1")) == b"".join(b"x=1\t" + line + b"\n" for line in lines)
