"""Pilots that are always the same, for pictures that are compared."""

from typing import Any

from msgspec.structs import replace

from pilotmtc.model import CampaignId, Pilot, TaskId
from pilotmtc.protocol.client.campaigns import Campaigns, GetCampaigns
from pilotmtc.protocol.client.pilots import GetPilotFile, GetPilotView, GetSpans, PilotFile, PilotView, Spans
from pilotmtc.protocol.client.tasks import GetTasks
from pilotmtc.protocol.records import NodeState, Pace, RunningTask, Span
from pilotmtc.states import Cause
from tests.tui.fixed import NOW, running
from tests.tui.fixed_tasks import mixed, pages, previews

_CORES = 48
_DIRECTORY = "/home/me/runs/store.db.pilots/1-6f1c"
_SCRIPT = b"""#!/bin/bash
#SBATCH --job-name=pilotmtc-6f1c
#SBATCH --nodes=64 --ntasks-per-node=1
#SBATCH --time=120
#SBATCH --partition=normal
exec /home/me/.local/share/pilotmtc/1.0/bin/pilotmtc agent --directory /home/me/runs/store.db.pilots/1-6f1c
"""


def known(id_: int) -> Pilot:
    """Return a pilot as the overview has it."""
    pilot = next(pilot for pilot in running().pilots if pilot.id == id_)
    description = replace(pilot.description, scheduler="slurm://localhost/")
    return replace(pilot, description=description, directory=_DIRECTORY)


def active() -> dict[type, Any]:
    """Return what a store says of a pilot that runs on 64 nodes, of which one does not answer and one is set aside."""
    pilot = replace(known(2), busy=2978, pid=4242)
    notes = {3: "no heartbeat for 41 s", 7: "set aside: 5 tasks in a row could not be started"}
    nodes = tuple([_node(number, notes.get(number, "")) for number in range(64, 0, -1)])
    held = []
    for number in range(1, 65):
        if number not in notes:
            used = range(0, 12, 4) if number == 2 else range(0, _CORES, 4)
            held += [_running(number, core) for core in used]
    waits = RunningTask(TaskId(990), 3, CampaignId(2), 0.0)
    events = (
        (NOW - 3600.0, "PENDING to ACTIVE: attached from c1-01"),
        (NOW - 1800.0, "node c1-03 does not answer: 12 attempts are lost"),
        (NOW - 240.0, "node c1-07 set aside: 5 tasks in a row could not be started"),
        (NOW - 4.0, "heartbeat: [31m is no colour here, and a line that is much too long for a terminal of this size"),
    )
    pace = Pace(2, 31.4, 366_120, 1_042)
    view = PilotView(NOW, pilot, nodes, (*held, waits), events, pace)
    spans = tuple([span for number in range(1, 5) for core in range(0, _CORES, 4) for span in _past(number, core)])
    log = b"".join(b"12:%02d:00 claimed 256 tasks, 12 ran\n" % minute for minute in range(60))
    return _answers(view, spans, job=_SCRIPT, log=log + b"12:59:59 \x1b[31mred\x1b[0m is said as it is\n")


def from_near() -> dict[type, Any]:
    """Return what a store says of a pilot and of a campaign that are shown beside the overview, or on their pages."""

    def known_ones(request: GetCampaigns) -> Campaigns:
        return Campaigns(tuple([one for one in running().campaigns if one.id == request.id]))

    return {GetTasks: pages(mixed()), GetCampaigns: known_ones, **previews(mixed()), **active()}


def pending() -> dict[type, Any]:
    """Return what a store says of a pilot that waits in the queue, whose scheduler did not answer of late."""
    pilot = replace(known(3), trouble="squeue did not answer within 20 s")
    events = ((NOW - 600.0, "NEW to PENDING: job 4712"),)
    return _answers(PilotView(NOW, pilot, events=events), (), job=_SCRIPT, log=None)


def over() -> dict[type, Any]:
    """Return what a store says of a pilot that has ended."""
    pilot = replace(known(1), cores=3072)
    view = PilotView(NOW, pilot, events=((NOW - 1000.0, "ACTIVE to DONE: walltime"),), pace=Pace(1, 0.0, 88_000, 0))
    return _answers(view, tuple(_past(1, 0)), job=_SCRIPT, log=b"")


def _answers(view: PilotView, spans: tuple[Span, ...], *, job: bytes, log: bytes | None) -> dict[type, Any]:
    def file(request: GetPilotFile) -> PilotFile:
        path = f"{_DIRECTORY}/{request.name}"
        data = job if request.name == "job.sh" else log
        return PilotFile(path, trouble="it is not there yet") if data is None else PilotFile(path, data, len(data))

    def ended(request: GetSpans) -> Spans:
        return Spans(() if request.since else spans, seq=1, reset=not request.since)

    return {GetPilotView: view, GetPilotFile: file, GetSpans: ended}


def _node(number: int, note: str) -> NodeState:
    busy = 0 if note else 12 if number == 2 else _CORES
    used = 4 + 3 * number
    return NodeState(f"c1-{number:02}", _CORES, busy, 0, busy * 1.02, 256 << 30, used << 30, note)


def _running(number: int, core: int) -> RunningTask:
    task = number * _CORES + core
    slot = f"{core}-{core + 3}"
    return RunningTask(TaskId(task), 1 + task % 2, CampaignId(2), NOW - task % 97, f"c1-{number:02}", slot)


def _past(number: int, core: int) -> list[Span]:
    """Return what four cores did for an hour, some of it not well."""
    found: list[Span] = []
    at = NOW - 3600.0
    while at < NOW - 250.0:
        task = int(number * 10_000 + core * 100 + len(found))
        elapsed_s = 150.0 + task * 37 % 90
        cause, code = Cause.EXIT, 0
        if task % 23 == 0:
            cause, code, elapsed_s = Cause.EXIT, 1, 60.0
        elif number == 3 and at > NOW - 2000.0:
            cause = Cause.NODE_LOST
        node, slot = f"c1-{number:02}", f"{core}-{core + 3}"
        found.append(Span(TaskId(task), 1, node, slot, at, elapsed_s, cause, code))
        at += elapsed_s + 5.0
        if cause is Cause.NODE_LOST:
            break
    return found
