"""The Python API: `Session`, and what it takes and gives."""

TYPE_CHECKING = False  # as in `typing`
if TYPE_CHECKING:
    from pilotmtc.pilots.capacity import never_starts
    from pilotmtc.session.api import Session
    from pilotmtc.session.look.follow import Step
    from pilotmtc.session.look.results import TaskResult, output_blocks, output_text
    from pilotmtc.session.look.select import NewValues, Selection
    from pilotmtc.session.pilots import Pilots
    from pilotmtc.session.run.events import (
        Advanced,
        Begun,
        Ended,
        HeldElsewhere,
        PilotLost,
        PilotMoved,
        RunEvent,
        StoreTroubled,
        Wrote,
    )
    from pilotmtc.session.run.runner import Run
    from pilotmtc.session.submit.pilot import PilotOptions, describe
    from pilotmtc.session.submit.plan import Plan, make_plan
    from pilotmtc.session.submit.tasks import (
        Params,
        TaskOptions,
        TaskStream,
        as_source,
        make_tasks,
        read_campaign,
    )

__all__ = [
    "Advanced", "Begun", "Ended", "HeldElsewhere", "NewValues", "Params", "PilotLost", "PilotMoved", "PilotOptions",
    "Pilots", "Plan", "Run", "RunEvent", "Selection", "Session", "Step", "StoreTroubled", "TaskOptions",
    "TaskResult", "TaskStream", "Wrote", "as_source", "describe", "make_plan", "make_tasks", "never_starts",
    "output_blocks", "output_text",
    "read_campaign",
]  # fmt: skip

_PLACES = {
    "pilots.capacity": "never_starts",
    "session.api": "Session",
    "session.look.follow": "Step",
    "session.look.results": "TaskResult output_blocks output_text",
    "session.look.select": "NewValues Selection",
    "session.pilots": "Pilots",
    "session.run.events": "Advanced Begun Ended HeldElsewhere PilotLost PilotMoved RunEvent StoreTroubled Wrote",
    "session.run.runner": "Run",
    "session.submit.pilot": "PilotOptions describe",
    "session.submit.plan": "Plan make_plan",
    "session.submit.tasks": "Params TaskOptions TaskStream as_source make_tasks read_campaign",
}


def __getattr__(name: str) -> object:
    """Import what users name, when they do: a pool of functions needs little of it, and starts sooner without."""
    for place, names in _PLACES.items():
        if name in names.split():
            import importlib

            return getattr(importlib.import_module(f"pilotmtc.{place}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
