"""Plans of work that has really been done."""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import pytest

from pilotmtc.errors import UsageError
from pilotmtc.report.report import Report
from pilotmtc.session import Session, make_tasks
from pilotmtc.session.submit.tasks import as_source, read_campaign


def test_plan_of_what_was_run_is_within_five_percent(tmp_path: Path) -> None:
    with Session(tmp_path / "store.db") as session:
        words = ["0.5", "0.2", "0.6", "0.3", "0.4", "0.3"] * 4
        run = session.run(make_tasks("sleep {}", as_source(words), {}), pilot=session.pilots.describe(cores=2))
        for _ in run.events():
            pass
        assert run.campaign is not None
        campaign = run.campaign.id
        report = session.report(campaign)
        plan = session.plan(campaign, shapes=["1x1x2", "2x1x1"])
        (pilot,) = report.summary.pilots
        assert pilot.last_task_at is not None
        real = pilot.last_task_at - pilot.from_at
        # A plan knows the mean pause between two tasks. On a busy machine a slot may have had worse luck than that.
        pauses: dict[str, float] = defaultdict(float)
        ended: dict[str, float] = {}
        for row in sorted(report.rows(), key=lambda row: row.started_at):
            pauses[row.slot] += max(row.started_at - ended.get(row.slot, row.started_at), 0.0)
            ended[row.slot] = row.ended_at
        luck = max(pauses.values()) - min(pauses.values())
        for row_ in plan.rows:
            assert row_.finish_s == pytest.approx(real, abs=0.05 * real + luck + 0.1 * (row_.shape != "1x1x2"))
        assert (plan.tasks, plan.measured, plan.best in ("1x1x2", "2x1x1")) == (24, 24, True)

        left = session.submit("sleep {}", ["0.1"] * 10)  # nothing is known of it but what another campaign tells
        with pytest.raises(UsageError, match="nothing is known of how long"):
            session.plan(left, shapes=["1x1x2"])
        found = session.plan(left, shapes=["1x1x2"], duration="10s")
        assert found.rows[0].finish_s == pytest.approx(50.0, abs=0.2)
        file = tmp_path / "more.toml"
        file.write_text('[[task]]\ncommand = "sleep {x}"\ngrid = { x = "1..4" }\n')
        with pytest.raises(UsageError, match="how many cores"):
            session.plan(file=file, duration="1m")
        (only,) = session.plan(file=file, duration="1m", shapes=["1x1x2"]).rows
        assert only.finish_s == pytest.approx(120.0, abs=0.2)


def chain_s(report: Report, needs: Mapping[int, set[int]]) -> tuple[float, float, int]:
    """Return how long attempts took, and the pauses before them, along what the last one waited for, and how many.

    An attempt waits for what ended last of: the attempt before it on its slot, or of its task, and the tasks it needs.
    """
    rows = sorted(report.rows(), key=lambda row: row.started_at)
    last = max(rows, key=lambda row: row.ended_at)
    ran, paused, number = last.elapsed_s, 0.0, 1
    while True:
        before = [
            row for row in rows
            if row.started_at < last.started_at
            and (row.slot == last.slot or row.task == last.task or row.task in needs.get(last.task, ()))
        ]  # fmt: skip
        if not before:
            return ran, paused, number
        latest = max(before, key=lambda row: row.ended_at)
        paused += last.started_at - latest.ended_at
        ran, number, last = ran + latest.elapsed_s, number + 1, latest


CHAIN = """\
[[task]]
name = "map"
command = "sleep {x}"
grid = { x = [0.5, 0.4, 0.5, 0.4, 0.6] }

[[task]]
name = "flaky"
command = "sleep 0.5; mkdir seen"
retries = 2

[[task]]
name = "good at last"
command = "sleep 0.3; ! mkdir first 2>/dev/null"
retries = 1
backoff = 0.7

[[task]]
name = "reduce"
after = ["map", "good at last"]
command = "sleep 0.8"

[[task]]
after = ["reduce"]
command = "sleep {x}"
grid = { x = [0.3, 0.4, 0.3] }

[[task]]
after = ["flaky"]
command = "true"
"""


def test_plan_of_tasks_that_wait_and_fail_is_within_five_percent(tmp_path: Path) -> None:
    (tmp_path / "seen").mkdir()
    file = tmp_path / "chain.toml"
    file.write_text(CHAIN)
    with Session(tmp_path / "store.db") as session:
        run = session.run(read_campaign(file)[0], pilot=session.pilots.describe(cores=2))
        for _ in run.events():
            pass
        assert run.campaign is not None
        report = session.report(run.campaign.id)
        plan = session.plan(run.campaign.id, shapes=["1x1x2", "1x1x1", "1x1x8"])
        (pilot,) = report.summary.pilots
        assert pilot.last_task_at is not None
        real = pilot.last_task_at - pilot.from_at
        # What the machine, when busy, has added to the pauses that a plan knows of.
        _, paused, number = chain_s(report, {8: {1, 2, 3, 4, 5, 7}, 9: {8}, 10: {8}, 11: {8}})
        luck = abs(paused - 0.7 - number * plan.gap_s)
        two, one, many = [row.finish_s for row in plan.rows]
        assert two == pytest.approx(real, abs=0.05 * real + luck)
        assert (plan.tasks, plan.failures, plan.failed, plan.skipped) == (11, 4, 1, 0)
        assert one is not None
        assert one >= plan.work_core_s
        assert many is not None
        assert many >= 0.3 + 0.7 + 0.3 + 0.8 + 0.4  # good at last, its pause, its retry, reduce, the longest after it
        again = session.plan(run.campaign.id, file=file, shapes=["1x1x2"], duration="1s")
        assert (again.tasks, again.measured, again.skipped) == (12, 11, 1)
