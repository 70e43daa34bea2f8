"""Makes attempts in columns, as a store sends them."""

from array import array
from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace

from pilotmtc.model import Campaign, CampaignId, Pilot, PilotDescription, PilotId, Resources
from pilotmtc.protocol.client.history import COLUMNS, History
from pilotmtc.report.measure.columns import Attempts
from pilotmtc.report.measure.make import Past
from pilotmtc.states import Cause, PilotState, TaskState

T0 = 1_700_000_000.0
Row = dict[str, Any]


def row(start: float, elapsed_s: float, slot: str = "0", **more: Any) -> Row:
    """Return an attempt that starts `start` seconds after `T0` and is recorded at once."""
    task = more.pop("task", 1)
    late = more.pop("recorded_late_s", 0.0)
    return {
        "task": task, "attempt": 1, "campaign": 1, "state": int(TaskState.DONE), "newest": 1, "cause": int(Cause.EXIT),
        "code": 0, "pilot": 1, "node": "n1", "slot": slot, "name": "", "tags": "", "template": 1, "resources": 1,
        "started_at": T0 + start, "elapsed_s": elapsed_s, "cpu_s": elapsed_s, "memory_bytes": 0,
        "recorded_at": T0 + start + elapsed_s + late, **more,
    }  # fmt: skip


def page(rows: Iterable[Row], needs: dict[int, Resources] | None = None) -> History:
    """Return the page with these rows."""
    rows = list(rows)
    texts: dict[str, int] = {"": 0}
    columns = []
    for name, code in COLUMNS:
        values = [one[name] for one in rows]
        if name in ("node", "slot", "name", "tags"):
            values = [texts.setdefault(text, len(texts)) for text in values]
        columns.append(array(code, values).tobytes())
    return History(
        now=T0 + 1000.0, columns=tuple(columns), texts=tuple(texts), commands={1: "work {x}", 2: "other"},
        resources=needs or {1: Resources()},
    )  # fmt: skip


def attempts_of(rows: Iterable[Row], needs: dict[int, Resources] | None = None) -> Attempts:
    """Return these attempts."""
    found = Attempts()
    found.add(page(rows, needs))
    return found


def pilot_of(cores: int, *, begin: float = 0.0, end: float | None = None, id_: int = 1, **more: Any) -> Pilot:
    """Return a pilot of the campaign that started `begin` seconds after `T0`, 5 s after its submission."""
    pilot = Pilot(
        PilotId(id_), PilotDescription(campaign=CampaignId(1)),
        PilotState.ACTIVE if end is None else PilotState.DONE, T0 + begin - 5.0, T0 + begin,
        None if end is None else T0 + end, nodes=1, cores=cores,
    )  # fmt: skip
    return replace(pilot, **more)


def past_of(
    rows: Iterable[Row], *pilots: Pilot, needs: dict[int, Resources] | None = None, created: float = -10.0,
    now: float = 1000.0,
) -> Past:  # fmt: skip
    """Return the past of campaign 1."""
    rows = list(rows)
    campaign = Campaign(CampaignId(1), "k", "study", T0 + created, len(rows), True, {TaskState.DONE: len(rows)})
    return Past(attempts_of(rows, needs), [campaign], pilots, T0 + now)
