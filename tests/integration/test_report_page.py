"""A report's page in a real browser, without network."""

import re
from pathlib import Path

from pilotmtc.report.report import Report
from pilotmtc.report.show.page import page
from pilotmtc.states import Cause
from tests.lab.browser import dom_of, picture_of
from tests.unit.report.past import past_of, pilot_of, row


def test_browser_draws_and_finds_attempts(tmp_path: Path) -> None:
    rows = [
        row(core * 0.1 + at * 10.0, 9.9, str(core), task=1 + core * 10 + at, name=f"t{core}", node=f"n{core % 4}")
        for core in range(12)
        for at in range(10)
    ]
    rows.append(row(100.0, 5.0, "0", task=777, cause=int(Cause.OOM), code=9, node="n0", tags='["big"]'))
    file = tmp_path / "report.html"
    file.write_text("".join(page(Report(past_of(rows, pilot_of(12, end=120.0))))))
    dom = dom_of(file, "#777")
    assert 'data-ready="121"' in dom
    (words,) = re.findall(r'id="found"[^>]*>([^<]*)<', dom)
    assert words == "1 of 1: task 777, attempt 1"
    picture = tmp_path / "report.png"
    picture_of(file, picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 20_000  # a page on which nothing was drawn is smaller
