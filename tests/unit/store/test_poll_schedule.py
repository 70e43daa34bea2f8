"""When schedulers are asked."""

import math

from pilotmtc.store.requests.pilots.jobs import OpenJobs
from pilotmtc.store.server.poll_schedule import FIRST_S, LONGEST_S, SILENT_S, UNTOLD_S, WATCHED_S, PollSchedule

URL = "slurm://localhost/"


def after_rounds(rounds: PollSchedule, now: float, n: int) -> float:
    """Let `n` rounds go by that bring nothing new; return when the last one has ended."""
    for _ in range(n):
        now = max(now, rounds.next_at())
        assert rounds.due(now) == [URL]
        rounds.ended(URL, now)
    return now


def test_nothing_is_asked_without_a_pilot() -> None:
    assert PollSchedule().next_at() == math.inf


def test_new_pilot_is_asked_for_at_once_and_then_more_and_more_seldom() -> None:
    rounds = PollSchedule()
    rounds.look({URL: OpenJobs()}, 0.0)
    assert rounds.due(0.0) == [URL]
    assert rounds.due(0.0) == []  # one at a time
    rounds.ended(URL, 1.0)
    pauses = []
    now = 1.0
    for _ in range(20):
        pauses.append(rounds.next_at() - now)
        now = after_rounds(rounds, now, 1)
    assert pauses[0] == FIRST_S
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_S


def test_what_happens_during_a_round_is_asked_about_right_after_it() -> None:
    rounds = PollSchedule()
    rounds.look({URL: OpenJobs()}, 0.0)
    rounds.due(0.0)
    rounds.happened({URL: True}, 0.5)
    rounds.ended(URL, 1.0)
    assert rounds.next_at() == 1.0


def test_news_bring_the_next_round_forward() -> None:
    rounds = PollSchedule()
    rounds.look({URL: OpenJobs()}, 0.0)
    now = after_rounds(rounds, 0.0, 20)
    rounds.happened({URL: False}, now + 5)
    assert rounds.next_at() == now + 5 + FIRST_S
    rounds.happened({URL: True}, now + 6)
    assert rounds.next_at() == now + 6


def test_watching_people_and_silent_agents_bring_it_forward() -> None:
    rounds = PollSchedule()
    rounds.look({URL: OpenJobs()}, 0.0)
    now = after_rounds(rounds, 0.0, 20)
    rounds.watched(now)
    assert rounds.next_at() == now + WATCHED_S
    rounds.look({URL: OpenJobs(silent=True)}, now)
    assert rounds.next_at() == now + SILENT_S


def test_what_the_scheduler_must_be_told_does_not_wait_for_long() -> None:
    rounds = PollSchedule()
    rounds.look({URL: OpenJobs(untold=True)}, 0.0)
    assert rounds.untold
    now = after_rounds(rounds, 0.0, 20)
    assert rounds.next_at() - now == UNTOLD_S


def test_no_more_pilots_no_more_rounds() -> None:
    rounds = PollSchedule()
    rounds.look({URL: OpenJobs()}, 0.0)
    rounds.due(0.0)
    rounds.look({}, 0.5)
    rounds.ended(URL, 1.0)
    rounds.look({}, 1.0)
    assert rounds.next_at() == math.inf
