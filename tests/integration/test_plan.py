"""Plans of work that has really been done."""

from collections import defaultdict
from pathlib import Path

import pytest

from pilotmtc.errors import UsageError
from pilotmtc.session import Session, make_tasks
from pilotmtc.session.submit.tasks import as_source


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
