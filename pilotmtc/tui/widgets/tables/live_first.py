"""What is shown first of pilots and campaigns: what runs, what waits, what has just ended. Pure."""

from collections.abc import Container

from pilotmtc.model import Campaign, Pilot
from pilotmtc.session.look.overview import Board
from pilotmtc.states import PILOT_FINAL, TASK_FINAL, TASK_HELD, PilotState

_JUST_S = 600.0
_AT_LEAST = 3  # that are shown although they are over, if nothing else is there to see
_PILOTS = (PilotState.ACTIVE, PilotState.DRAINING, PilotState.PENDING, PilotState.NEW)


def pilots_first(board: Board, *, unfolded: bool) -> tuple[list[Pilot], int]:
    """Return the pilots to show in their order, and how many are folded."""
    live = [pilot for pilot in board.pilots.values() if pilot.state not in PILOT_FINAL]
    live.sort(key=lambda pilot: (_PILOTS.index(pilot.state), -pilot.id))
    ended = [pilot for pilot in board.pilots.values() if pilot.state in PILOT_FINAL]
    ended.sort(key=lambda pilot: (-(pilot.ended_at or 0.0), -pilot.id))
    just = sum(board.clock - (pilot.ended_at or 0.0) < _JUST_S for pilot in ended)
    shown = len(ended) if unfolded else max(just, 0 if live else _AT_LEAST)
    return [*live, *ended[:shown]], len(ended[shown:])


def is_over(campaign: Campaign) -> bool:
    """Return whether all tasks of a campaign have ended, and no more will come."""
    return campaign.sealed and all(state in TASK_FINAL for state in campaign.counts)


def is_running(campaign: Campaign) -> bool:
    """Return whether a pilot holds tasks of a campaign."""
    return any(state in TASK_HELD for state in campaign.counts)


def campaigns_first(board: Board, seen_live: Container[int], *, unfolded: bool) -> tuple[list[Campaign], int]:
    """Return the campaigns to show in their order, and how many are folded; `seen_live` are those to keep in sight."""
    newest = sorted(board.campaigns.values(), key=lambda campaign: -campaign.id)
    live = sorted([one for one in newest if not is_over(one)], key=lambda one: not is_running(one))
    kept = {one.id for one in newest if one.id in seen_live or board.clock - one.created_at < _JUST_S}
    just = [one for one in newest if is_over(one) and one.id in kept]
    over = [one for one in newest if is_over(one) and one.id not in kept]
    shown = len(over) if unfolded else max(0 if live else _AT_LEAST - len(just), 0)
    return [*live, *just, *over[:shown]], len(over[shown:])
