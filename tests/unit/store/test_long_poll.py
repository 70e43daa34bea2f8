"""Requests that wait for their answer: what wakes them, and when they are given up."""

import math

from pilotmtc.model import PilotId, Resources, TaskId
from pilotmtc.protocol.agent import Batch, Claim, Heartbeat, Orders
from pilotmtc.protocol.client.maintenance import GetStore, StoreInfo
from pilotmtc.protocol.client.tasks import GetTail, Tail
from pilotmtc.protocol.client.watch import Changes, GetChanges
from pilotmtc.protocol.registry import AnyRequest
from pilotmtc.store.live.wakeups import Wakeup
from pilotmtc.store.server.long_poll import LongPolls, Ticket


def claim(wait_s: float = 10.0) -> Claim:
    return Claim(PilotId(1), 1, Resources(), Resources(), 1, wait_s=wait_s)


def parked(*requests: AnyRequest, peer: str = "a") -> tuple[LongPolls[str], list[Ticket[str]]]:
    long_polls: LongPolls[str] = LongPolls()
    tickets = [Ticket(peer, n, request, now=0.0) for n, request in enumerate(requests)]
    for ticket in tickets:
        long_polls.put(ticket)
    return long_polls, tickets


def test_request_without_wait_has_no_deadline_ahead() -> None:
    for request in (GetStore(), claim(0.0), claim(-1.0), claim(math.nan)):
        assert Ticket("a", 1, request, now=5.0).deadline == -math.inf


def test_nobody_waits_longer_than_the_server_likes() -> None:
    assert Ticket("a", 1, claim(math.inf), now=5.0).deadline == 5.0 + Claim.handling.longest_wait_s
    assert (
        Ticket("a", 1, Heartbeat(PilotId(1), wait_s=500), now=5.0).deadline == 5.0 + Heartbeat.handling.longest_wait_s
    )


def test_claim_wakes_for_ready_tasks_only() -> None:
    long_polls, tickets = parked(claim())
    long_polls.tell(Wakeup(changed=True, orders=frozenset({PilotId(1)})), 1.0)
    assert long_polls.take(1.0) == []
    long_polls.tell(Wakeup(ready=True), 2.0)
    assert long_polls.next_at() <= 2.0
    assert long_polls.take(2.0) == tickets
    assert len(long_polls) == 0


def test_heartbeat_wakes_for_orders_to_its_pilot_only() -> None:
    long_polls, tickets = parked(Heartbeat(PilotId(1), wait_s=9), Heartbeat(PilotId(2), wait_s=9))
    long_polls.tell(Wakeup(ready=True, changed=True, orders=frozenset({PilotId(2), PilotId(3)})), 1.0)
    assert long_polls.take(1.0) == tickets[1:]
    assert len(long_polls) == 1


def test_heartbeat_is_answered_when_somebody_wants_to_see_what_tasks_write() -> None:
    beat = Heartbeat(PilotId(1), seen=3, wait_s=9)
    assert not beat.worth_sending(Orders(3, 60.0))
    assert beat.worth_sending(Orders(3, 60.0, peek=((TaskId(1), 1),)))


def test_who_looks_at_what_a_task_writes_waits_for_something_newer_or_its_end() -> None:
    long_polls, tickets = parked(GetTail(TaskId(1), since=4.0, wait_s=9))
    long_polls.tell(Wakeup(changed=True), 1.0)
    assert long_polls.take(1.0) == tickets
    assert not tickets[0].request.worth_sending(Tail(1, 4.0))
    assert tickets[0].request.worth_sending(Tail(1, 5.0))
    assert tickets[0].request.worth_sending(Tail())


def test_watcher_wakes_for_changes() -> None:
    long_polls, tickets = parked(GetChanges(wait_s=9))
    long_polls.tell(Wakeup(changed=True), 1.0)
    assert long_polls.take(1.0) == tickets


def test_deadline_ends_the_waiting() -> None:
    long_polls, tickets = parked(claim(3.0), GetChanges(wait_s=5.0))
    assert long_polls.next_at() == 3.0
    assert long_polls.take(2.9) == []
    assert long_polls.take(3.0) == tickets[:1]
    assert long_polls.next_at() == 5.0
    assert long_polls.take(99.0) == tickets[1:]
    assert long_polls.next_at() == math.inf


def test_claims_are_asked_for_in_order_of_arrival() -> None:
    long_polls, tickets = parked(*(claim() for _ in range(20)))
    long_polls.tell(Wakeup(ready=True), 1.0)
    assert long_polls.take(1.0) == tickets


def test_costly_rounds_are_spaced_but_never_beyond_the_promise() -> None:
    long_polls, tickets = parked(claim(), GetChanges(wait_s=9))
    long_polls.spent(5.0, now=1.0)
    long_polls.tell(Wakeup(ready=True, changed=True), 1.0)
    assert long_polls.take(1.0) == []
    assert 1.0 < long_polls.next_at() <= 1.020
    assert long_polls.take(1.020) == tickets


def test_what_wakes_requests_is_joined_by_those_that_see_what_is_not_committed() -> None:
    long_polls, (asked, changes, tail) = parked(claim(), GetChanges(wait_s=9), GetTail(TaskId(1), since=4.0, wait_s=9))
    assert long_polls.join(Wakeup(ready=True), 1.0) == [asked]
    assert long_polls.join(Wakeup(ready=True, changed=True), 1.0) == [changes]
    assert len(long_polls) == 1
    long_polls.tell(Wakeup(ready=True, changed=True), 1.0)
    assert long_polls.take(1.0) == [tail]


def test_nothing_is_joined_during_a_pause() -> None:
    long_polls, tickets = parked(claim(), GetChanges(wait_s=9))
    long_polls.spent(5.0, now=1.0)
    assert long_polls.join(Wakeup(ready=True, changed=True), 1.001) == []
    long_polls.tell(Wakeup(ready=True, changed=True), 1.001)
    assert long_polls.take(1.020) == tickets


def test_departed_client_waits_no_more() -> None:
    long_polls, _ = parked(claim(), GetChanges(wait_s=9), Heartbeat(PilotId(1), wait_s=9), peer="gone")
    stays = Ticket("here", 1, claim(), now=0.0)
    long_polls.put(stays)
    long_polls.tell(Wakeup(ready=True, changed=True, orders=frozenset({PilotId(1)})), 1.0)
    long_polls.drop("gone")
    assert long_polls.take(500.0) == [stays]


def test_answered_tickets_leave_nothing_behind() -> None:
    long_polls: LongPolls[str] = LongPolls()
    for n in range(1000):
        long_polls.put(Ticket("a", n, claim(300.0), now=0.0))
        long_polls.tell(Wakeup(ready=True), 1.0)
        assert len(long_polls.take(1.0)) == 1
    assert len(long_polls._deadlines) <= 101


def test_only_an_answer_that_says_something_ends_the_waiting() -> None:
    assert not claim().worth_sending(Batch(1))
    assert not Heartbeat(PilotId(1), seen=4).worth_sending(Orders(4, 60.0, drain=True))
    assert Heartbeat(PilotId(1), seen=3).worth_sending(Orders(4, 60.0))
    assert not GetChanges(since=5).worth_sending(Changes(5))
    assert GetChanges().worth_sending(Changes(5, reset=True))
    assert GetStore().worth_sending(StoreInfo("", "", 1, "", "", 1, 1))
