"""Lines of outputs: as they come, searched, coloured."""

import re

from hypothesis import given
from hypothesis import strategies as st

from pilotmtc.tui.widgets.log_lines import Lines, Stream, coloured


@given(st.lists(st.binary(max_size=30).map(lambda data: data.replace(b"x", b"\n")), max_size=8))
def test_lines_are_the_same_however_they_came(parts: list[bytes]) -> None:
    lines = Lines()
    for part in parts:
        lines.append(part)
    whole = b"".join(parts)
    wanted = whole.split(b"\n")[: -1 if whole.endswith(b"\n") or not whole else None]
    assert [lines.raw(number) for number in range(len(lines))] == [line.rstrip(b"\r\n") for line in wanted]


def test_search_goes_both_ways_and_starts_after_the_line() -> None:
    lines = Lines()
    lines.append(b"one\nTwo\nthree\ntwo again\n")
    two = re.compile(b"two", re.IGNORECASE)
    assert [lines.find(two, since) for since in (-1, 0, 1, 3)] == [1, 1, 3, None]
    assert [lines.find(two, since, back=True) for since in (4, 3, 1)] == [3, 1, None]


def test_end_of_a_stream_is_added_to_what_was_seen_of_it() -> None:
    stream = Stream()
    assert stream.take(b"rd\nnext\n", 100)  # the beginning did not arrive, and the first line is cut
    assert bytes(stream.lines.data) == b"next\n"
    assert stream.take(b"xt\nlast\n", 105)
    assert bytes(stream.lines.data) == b"next\nlast\n"
    assert stream.take(b"xt\nlast\n", 105)
    assert stream.take(b"end\n", 209)
    assert bytes(stream.lines.data).endswith(b"\n[100 bytes came too fast to be shown]\nend\n")
    assert not stream.take(b"", 0)


def test_colours_are_obeyed_and_nothing_else_is() -> None:
    text = coloured(b"a \x1b[31mred\x1b[0m \x1b[38;5;200mpink\x1b[m \x1b[2J\x07\xff \x1b[38;5;999mx\x1b[999m")
    assert text.plain == "a red pink \\x1b[2J\\x07\ufffd x"
    assert {str(span.style) for span in text.spans if str(span.style) != "none"} == {"color(1)", "color(200)"}
