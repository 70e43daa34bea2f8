"""A store that always says the same, for pictures that are compared."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from pilotmtc.model import BatchId, Campaign, CampaignId, Pilot, PilotDescription, PilotId, TaskId
from pilotmtc.protocol.base import R, Request
from pilotmtc.protocol.client.watch import GetOverview, Overview
from pilotmtc.protocol.records import FailureGroup, Pace, Series
from pilotmtc.session import Session
from pilotmtc.states import Cause, PilotState, TaskState
from pilotmtc.tui.gateway import Questioner, T

NOW = 1_700_000_000.0


class _NoNews(Exception):
    """There is nothing to answer."""


class _FixedStore:
    def __init__(self, answers: Mapping[type, Any]) -> None:
        self._answers = answers

    def call(self, request: Request[R]) -> R:
        if isinstance(request, GetOverview) and request.since:
            raise _NoNews
        found = self._answers[type(request)]
        answer: R = found(request) if callable(found) else found
        return answer


class FixedGateway:
    """Answers each request with what is given for its type, or with what a function that is given says of it."""

    def __init__(self, answers: Mapping[type, Any], trouble: str = "") -> None:
        self.url = "ssh://me@login.boulder/~/runs/store.db"
        self.site = "boulder"
        self.trouble = trouble
        self.answers = answers

    async def open(self, question: Questioner) -> None:
        return

    async def do(self, work: Callable[[Session], T]) -> T:
        try:
            return work(Session(_FixedStore(self.answers)))
        except _NoNews:
            await asyncio.Event().wait()
            raise

    def close(self) -> None:
        return


def empty() -> Overview:
    return Overview(seq=1, now=NOW, since_at=NOW - 60.0, series=Series(10.0, NOW - 60.0), whole=True)


def running(*, failures: bool = False) -> Overview:
    counts = {TaskState.DONE: 512_345, TaskState.RUNNING: 3_072, TaskState.CLAIMED: 900, TaskState.READY: 483_683}
    small = {TaskState.DONE: 60, TaskState.WAITING: 40}
    if failures:
        small = {TaskState.DONE: 20, TaskState.FAILED: 42, TaskState.SKIPPED: 18, TaskState.WAITING: 20}
    boulder = PilotDescription(site="boulder", nodes=64, cores=48, walltime_s=7200.0, queue="normal")
    pilots = (
        Pilot(
            PilotId(1), boulder, PilotState.DONE, NOW - 9000.0, NOW - 8900.0, NOW - 1000.0, nodes=64, reason="walltime",
        ),
        Pilot(
            PilotId(2), boulder, PilotState.ACTIVE, NOW - 3900.0, NOW - 3600.0, seen_at=NOW - 2.0, nodes=64, cores=3072,
            busy=3072, host="c1-01", batch=BatchId("4711"), native_state="RUNNING",
        ),
        Pilot(
            PilotId(3), boulder, PilotState.PENDING, NOW - 600.0, reason="QOSMaxJobsPerUserLimit",
            native_state="PENDING", batch=BatchId("4712"), submitted_at=NOW - 600.0, asked_at=NOW - 12.0,
        ),
    )  # fmt: skip
    tasks = {state: counts.get(state, 0) + small.get(state, 0) for state in TaskState}
    ended = tuple(900 + (index * 37) % 120 for index in range(60))
    return Overview(
        seq=7, now=NOW, since_at=NOW - 3600.0, whole=True, pilots=pilots,
        series=Series(
            30.0, NOW - 1800.0, ended=ended, failed=tuple(7 if failures and index > 50 else 0 for index in range(60)),
            busy=tuple(min(3072, index * 300) for index in range(60)), cores=(3072,) * 60,
        ),
        campaigns=(
            Campaign(CampaignId(1), "a", "higgs mass scan", NOW - 9000.0, 1_000_000, True, counts),
            Campaign(CampaignId(2), "b", "ensemble [night]", NOW - 600.0, 100, True, small),
        ),
        pilot_paces=(Pace(2, 31.4, 512_000, 42 if failures else 0),),
        campaign_paces=(Pace(1, 31.2, 512_345, 0), Pace(2, 0.2, 62, 42 if failures else 0)),
        tasks={state: count for state, count in tasks.items() if count},
        failures=(
            FailureGroup(CampaignId(2), Cause.EXIT, 137, None, "", 40, TaskId(1_000_040)),
            FailureGroup(CampaignId(2), Cause.TIMEOUT, None, None, "over 10m", 2, TaskId(1_000_041)),
        ) if failures else (),
        looked_at=42 if failures else 0,
    )  # fmt: skip
