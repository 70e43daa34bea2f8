"""`Board`: the sum of all overviews from a store, and what in it needs attention. Pure."""

from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace

from pilotmtc.model import Campaign, CampaignId, Pilot, PilotId
from pilotmtc.protocol.client.watch import Overview
from pilotmtc.protocol.records import FailureGroup, Pace, Series
from pilotmtc.session.look.explain import advice, pending
from pilotmtc.states import PILOT_FINAL, TASK_FINAL, TASK_HELD, Cause, PilotState, TaskState
from pilotmtc.text.campaigns import awaited_words, learned_words
from pilotmtc.text.endings import how_failed, signal_name
from pilotmtc.text.numbers import count
from pilotmtc.text.plain import plain
from pilotmtc.text.tables import shorten
from pilotmtc.units import format_duration

_ENDS_SOON_S = 600.0
_LATELY_S = 3600.0
_LULL_S = 5.0
_NAME = 30  # characters of a name
_SAID = tuple(how_failed(cause, None, None, 1) for cause in (Cause.TIMEOUT, Cause.OOM))


class Notice(Struct, frozen=True):
    """Something that needs attention: its severity (``bad``, ``warn``, ``note``), a text, and where to look.

    `tasks` is a filter, `pilot` a pilot's id; `about` tells it from others of the same tasks or pilot. `mark` is higher
    when there is more of it: it is `seen` as long as `mark` is not higher than it was when the user saw it.
    """

    level: str
    text: str
    tasks: str = ""
    pilot: int | None = None
    about: str = ""
    mark: float = 0.0
    seen: bool = False

    @property
    def key(self) -> str:
        """What it is about, which stays the same while its text changes."""
        return f"{self.tasks or f'pilot {self.pilot}'} {self.about}"


class Board:
    """What is known about a store: the sum of all its overviews so far."""

    def __init__(self) -> None:
        self.seq = 0
        self.now = 0.0  # the time on the store's host at the last overview
        self.age_s = 0.0  # how long ago that was, set by the owner of the board
        self.since_at = 0.0
        self.pilots: dict[int, Pilot] = {}
        self.campaigns: dict[int, Campaign] = {}
        self.pilot_paces: dict[int, Pace] = {}
        self.campaign_paces: dict[int, Pace] = {}
        self.tasks: dict[TaskState, int] = {}
        self.series = Series(1.0, 0.0)
        self.series_at = 0.0  # the end of the series; since then no task has ended, and the busy cores are the same
        self.failures: tuple[FailureGroup, ...] = ()
        self.looked_at = 0
        self.silent: frozenset[PilotId] = frozenset()
        self.seen: dict[str, float] = {}
        self.held: dict[CampaignId, int] = {}

    def take(self, news: Overview) -> None:
        """Add an overview."""
        if news.whole:
            self.pilots.clear()
            self.campaigns.clear()
        if news.whole or news.seq != self.seq:
            self.series, self.series_at = news.series, news.now
        self.seq, self.now, self.since_at, self.age_s = news.seq, news.now, news.since_at, 0.0
        self.pilots.update({pilot.id: pilot for pilot in news.pilots})
        self.campaigns.update({campaign.id: campaign for campaign in news.campaigns})
        self.pilot_paces = {pace.id: pace for pace in news.pilot_paces}
        self.campaign_paces = {pace.id: pace for pace in news.campaign_paces}
        self.tasks = news.tasks
        self.silent = frozenset(news.silent)
        self.held = news.held
        if news.failures is not None:
            self.failures, self.looked_at = news.failures, news.looked_at
        if news.seen is not None:
            self.seen = dict(news.seen)

    @property
    def clock(self) -> float:
        """The time on the store's host now."""
        return self.now + self.age_s

    @property
    def live(self) -> list[Pilot]:
        """Active pilots, newest first."""
        return [
            self.pilots[id_] for id_ in sorted(self.pilots, reverse=True) if self.pilots[id_].state not in PILOT_FINAL
        ]

    @property
    def cores(self) -> tuple[int, int]:
        """Number of busy cores, and of all cores."""
        return sum(pilot.busy for pilot in self.live), sum(pilot.cores for pilot in self.live)

    @property
    def pace(self) -> float:
        """Recent number of tasks per second."""
        return sum(self.campaign_rate(campaign) for campaign in self.campaigns.values())

    def campaign_rate(self, campaign: Campaign) -> float:
        """Return the recent number of a campaign's tasks per second."""
        return self._lately(self.campaign_paces.get(campaign.id), campaign.counts.get(TaskState.RUNNING, 0))

    def pilot_rate(self, pilot: Pilot) -> float:
        """Return the recent number of a pilot's tasks per second."""
        return self._lately(self.pilot_paces.get(pilot.id), pilot.busy)

    def _lately(self, pace: Pace | None, running: int) -> float:
        """Return the present pace: since the last overview no task has ended, so each takes longer than that."""
        lately = 0.0 if pace is None else pace.lately
        return lately if self.age_s < _LULL_S else min(lately, running / self.age_s)

    def unfinished(self) -> int:
        """Return the number of tasks that have not finished."""
        return sum(n for state, n in self.tasks.items() if state not in TASK_FINAL)

    def eta_s(self, campaign: Campaign) -> float | None:
        """Return the time that a campaign still needs at its recent rate; None if unknown."""
        left = sum(n for state, n in campaign.counts.items() if state not in TASK_FINAL)
        held = sum(campaign.counts.get(state, 0) for state in TASK_HELD)
        a_second = self.campaign_rate(campaign)
        if not left or not held or a_second <= 0:
            return None
        return max(left / a_second - self.age_s, 0.0)


def left_s(pilot: Pilot, now: float) -> float | None:
    """Return the rest of a pilot's walltime; None if it has no limit, or has not started."""
    if not pilot.description.walltime_s or pilot.started_at is None or pilot.state in PILOT_FINAL:
        return None
    return max(pilot.started_at + pilot.description.walltime_s - now, 0.0)


def notices(board: Board) -> list[Notice]:
    """Return what needs attention: first what stops all tasks, then by severity; pilots before tasks, newest first."""
    found = []
    for pilot in sorted(board.pilots.values(), key=lambda pilot: -pilot.id):
        found += _pilot(pilot, board)
    found += _failures(board)
    found += _learned(board)
    found = [*_starving(board), *sorted(found, key=lambda notice: ("bad", "warn", "note").index(notice.level))]
    return [replace(one, seen=board.seen.get(one.key, -1.0) >= one.mark) for one in found]


def _failures(board: Board) -> list[Notice]:
    found = []
    failed = board.tasks.get(TaskState.FAILED, 0)
    if not failed:
        return []
    for group in sorted(board.failures, key=lambda group: -group.task):
        more = "at least " if failed > board.looked_at and group.count == board.looked_at else ""
        tasks = f"{more}{count(group.count, 'task')} of {_campaign(board, group.campaign)}"
        hint = next(iter(advice(group.cause, group.exit_code)), "") if group.cause is Cause.EXIT else group.message
        hint = "" if hint in _SAID else hint  # it is in the list already
        how = how_failed(group.cause, group.exit_code, group.signal, group.count)
        ago = _ago(board.clock - group.newest_at) if group.newest_at else ""
        when = f", {'the last ' if ago and group.count > 1 else ''}{ago}" if ago else ""
        text = f"{tasks} failed {how}{when}{f': {hint}' if hint else ''}"
        mark = group.newest_at or float(group.count)
        found.append(Notice("bad", " ".join(text.split()), tasks=filter_of(group), mark=mark))
    return found


def _learned(board: Board) -> list[Notice]:
    """Return what tasks begin with since others needed it, of campaigns that have tasks which have not begun."""
    return [
        Notice("note", f"tasks of campaign {campaign.id} begin with {learned_words(one)}",
               tasks=f"campaign:{campaign.id}", about=f"learned {number}")
        for campaign in board.campaigns.values()
        if campaign.counts.get(TaskState.READY) or campaign.counts.get(TaskState.WAITING)
        for number, one in enumerate(campaign.learned)
    ]  # fmt: skip


def _campaign(board: Board, id_: int) -> str:
    """Return a campaign's number and, if it is known, its name."""
    name = board.campaigns[id_].name if id_ in board.campaigns else ""
    return f"campaign {id_}{f' ({shorten(plain(name), _NAME)})' if name else ''}"


def filter_of(group: FailureGroup) -> str:
    """Return a filter for the tasks of a group."""
    how = f"cause:{group.cause.name.lower().replace('_', '-')}"
    if group.cause is Cause.EXIT:
        how = f"exit:{group.exit_code}"
    elif group.cause is Cause.SIGNAL:
        name = signal_name(group.signal or 0)
        how += f" signal:{name.removeprefix('SIG') if name.startswith('SIG') else group.signal or 0}"
    return f"state:failed campaign:{group.campaign} {how}"


def deserted(campaigns: Iterable[Campaign], pilots: Iterable[Pilot]) -> list[Campaign]:
    """Return campaigns with ready tasks, kept for pilots of their own, that have no such pilot."""
    own = {pilot.description.campaign for pilot in pilots if pilot.state not in PILOT_FINAL}
    ours = [one for one in campaigns if one.own_pilots and not (one.on_hold or one.waits)]
    return [one for one in ours if one.counts.get(TaskState.READY) and one.id not in own]


def _starving(board: Board) -> list[Notice]:
    found = []
    ready = board.tasks.get(TaskState.READY, 0) - sum(board.held.values())

    def free(campaign: Campaign) -> int:
        return campaign.counts.get(TaskState.READY, 0) - board.held.get(campaign.id, 0)

    for campaign in board.campaigns.values():
        if campaign.on_hold and (waits := free(campaign)):
            ready -= waits
            held = "was halted after its failures" if campaign.halted else "is on hold"
            words = f"{count(waits, 'task')} of campaign {campaign.id} could run, and the campaign {held}"
            level = "bad" if campaign.halted else "note"
            about = "halted" if campaign.halted else "held"
            found.append(Notice(level, words, f"state:ready campaign:{campaign.id}", about=about, mark=waits))
        elif campaign.waits:
            ready -= (waits := free(campaign))
            for one in campaign.after:
                if one.failed and waits:
                    words = f"{count(waits, 'task')} of campaign {campaign.id} could run after {awaited_words(one)}"
                    found.append(
                        Notice("warn", words, tasks=f"campaign:{one.campaign}", about=f"for {campaign.id}", mark=waits)
                    )
    for campaign in deserted(board.campaigns.values(), board.live):
        ready -= (waits := free(campaign))
        if not waits:
            continue
        words = f"{count(waits, 'task')} of campaign {campaign.id} could run, and its own pilots have ended"
        found.append(Notice("warn", words, f"state:ready campaign:{campaign.id}", about="deserted", mark=waits))
    if ready > 0 and not board.live:
        words = f"{count(ready, 'task')} could run, and no pilot is active"
        found.append(Notice("warn", words, tasks="state:ready hold:no", mark=ready))
    return found


def _pilot(pilot: Pilot, board: Board) -> list[Notice]:
    now = board.clock
    if pilot.state in (PilotState.NEW, PilotState.PENDING):
        return [Notice("note", f"pilot {pilot.id} {pending(pilot, now)}", pilot=pilot.id, about="waits")]
    if pilot.state is PilotState.FAILED and pilot.ended_at is not None and now - pilot.ended_at < _LATELY_S:
        words = f"pilot {pilot.id} failed {_ago(now - pilot.ended_at)}: {pilot.reason or 'for an unknown reason'}"
        return [Notice("bad", words, pilot=pilot.id, about="failed", mark=pilot.ended_at)]
    if pilot.state in PILOT_FINAL:
        return []
    found = []
    if pilot.on_hold:
        words = f"pilot {pilot.id} is on hold: it takes nothing new until it is released"
        found.append(Notice("note", words, pilot=pilot.id, about="on hold"))
    if pilot.id in board.silent and pilot.seen_at is not None:
        words = f"pilot {pilot.id} has not reported for {_seconds(now - pilot.seen_at)}"
        found.append(Notice("warn", words, pilot=pilot.id, about="silent", mark=pilot.seen_at))
    left = left_s(pilot, now)
    unfinished = board.unfinished()
    if left is not None and left < _ENDS_SOON_S and unfinished:
        tasks = f"{count(unfinished, 'task')} {'is' if unfinished == 1 else 'are'} left"
        words = f"pilot {pilot.id} ends in {_seconds(left)}, and {tasks}"
        found.append(Notice("warn", words, pilot=pilot.id, about="ends"))
    return found


def _seconds(seconds: float) -> str:
    """Return a duration in whole seconds."""
    return format_duration(seconds) if seconds >= 10 else f"{round(max(seconds, 0.0))}s"


def _ago(seconds: float) -> str:
    return "just now" if seconds < 1 else f"{_seconds(seconds)} ago"
