"""The page, without a browser: what it holds, and that nothing in it can run or load."""

import base64
import json
import re
import struct
import zlib
from html.parser import HTMLParser
from io import BytesIO
from typing import Any

import pytest

from pilotmtc.report.report import Report
from pilotmtc.report.show.gantt_data import WAYS, gantt_data
from pilotmtc.report.show.page import page
from pilotmtc.report.show.plot import plot
from pilotmtc.states import Cause
from tests.unit.report.past import T0, past_of, pilot_of, row

ROWS = [
    row(0.0, 4.0, "0-1", name="wide <b>", tags='["a&b"]', task=9),
    row(4.5, 2.0, "0", task=2, cause=int(Cause.SIGNAL), code=11),
    row(4.0, 5.0, "1", task=300),
    row(9.0, 1.0, "1", task=4, campaign=2),
]


def decoded(text: str) -> tuple[dict[str, Any], dict[str, list[int]]]:
    """Read the columns as the page's script does."""
    data = zlib.decompress(base64.b64decode(text))
    (size,) = struct.unpack_from("<I", data)
    head = json.loads(data[4 : 4 + size])
    offset, columns = 4 + size, {}
    for name, width in head["columns"]:
        planes = [data[offset + at * head["count"] : offset + (at + 1) * head["count"]] for at in range(width)]
        columns[name] = [
            sum(plane[at] << 8 * number for number, plane in enumerate(planes)) for at in range(head["count"])
        ]
        offset += width * head["count"]
    assert offset == len(data)
    return head, columns


def test_columns_have_all_spans_lane_by_lane() -> None:
    head, columns = decoded(gantt_data(past_of(ROWS, pilot_of(2, end=20.0))))
    assert head["lanes"] == [[1, "n1", [0, 1], [2, 3]]]
    assert (head["begin"], head["whole"], head["count"]) == (T0, 10.0, 5)
    assert [WAYS[way] for way in columns["way"]] == ["succeeded", "failed", "succeeded", "succeeded", "others"]
    assert [head["causes"][cause] for cause in columns["cause"]] == ["EXIT", "SIGNAL", "EXIT", "EXIT", "EXIT"]
    assert [head["texts"][name] for name in columns["name"]] == ["wide <b>", "", "wide <b>", "", ""]
    times, task, tasks = [], 0, []
    for lane in (slice(0, 2), slice(2, 5)):
        at = 0
        for gap, length in zip(columns["gap"][lane], columns["length"][lane], strict=True):
            times.append((round((at + gap) * head["unit"], 3), round((at + gap + length) * head["unit"], 3)))
            at += gap + length
    for change in columns["task"]:
        task += -(change + 1) // 2 if change % 2 else change // 2
        tasks.append(task)
    assert times == [(0.0, 4.0), (4.5, 6.5), (0.0, 4.0), (4.0, 9.0), (9.0, 10.0)]
    assert tasks == [9, 2, 9, 300, 4]


def test_page_needs_nothing_else_and_lets_nothing_run_that_names_say() -> None:
    text = "".join(page(Report(past_of(ROWS, pilot_of(2, end=20.0)))))
    assert "Content-Security-Policy" in text
    assert re.findall(r"""(?:src|href)\s*=|https?://|@import|url\(""", text.split("<body>")[1]) == []
    assert "wide <b>" not in text

    class Counter(HTMLParser):
        open: list[str] = []

        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag not in ("meta", "input", "rect", "path"):
                self.open.append(tag)

        def handle_endtag(self, tag: str) -> None:
            if tag not in ("meta", "input", "rect", "path"):
                assert self.open.pop() == tag

    counter = Counter()
    counter.feed(text)
    assert counter.open == []


def test_page_without_attempts_has_no_chart() -> None:
    text = "".join(page(Report(past_of([]))))
    assert "canvas" not in text.split("</style>")[1]


@pytest.mark.parametrize(("form", "begins"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_figure_is_drawn(form: str, begins: bytes) -> None:
    stream = BytesIO()
    plot(Report(past_of(ROWS, pilot_of(2, end=20.0))), stream, form)
    assert stream.getvalue().startswith(begins)
