"""What a client writes first, and how much of what may wait is under way."""

from pilotmtc.store.client.send_queue import WINDOW_BYTES, SendQueue

LEAST, FIRST, MOST = WINDOW_BYTES


class QueuedCall:
    def __init__(self, size: int = 1, bulky: bool = True, mark: bytes = b"x") -> None:
        self.frame = mark * size
        self.bulky = bulky


def test_small_requests_overtake_results() -> None:
    send_queue = SendQueue()
    results = [QueuedCall(100 << 10), QueuedCall(100 << 10)]
    for call in results:
        send_queue.put(call)
    send_queue.put(QueuedCall(3, bulky=False, mark=b"a"))
    send_queue.put(QueuedCall(2, bulky=False, mark=b"b"))
    assert send_queue.take(0.0) == b"aaabb"
    assert send_queue.take(0.0) == results[0].frame


def test_no_more_results_are_under_way_than_the_window_has_room_for() -> None:
    send_queue = SendQueue()
    calls = [QueuedCall(FIRST // 2) for _ in range(4)]
    for call in calls:
        send_queue.put(call)
    assert [len(send_queue.take(0.0)) for _ in range(3)] == [FIRST // 2, FIRST // 2, 0]
    send_queue.over(calls[0], 1.0)
    assert [len(send_queue.take(1.0)) for _ in range(2)] == [FIRST // 2, 0]


def test_one_result_that_is_larger_than_the_window_goes_alone() -> None:
    send_queue = SendQueue()
    large, small = QueuedCall(MOST + 1), QueuedCall()
    send_queue.put(large)
    send_queue.put(small)
    assert [len(send_queue.take(0.0)) for _ in range(2)] == [MOST + 1, 0]
    send_queue.over(large, 100.0)
    assert send_queue.take(100.0) == small.frame


def test_window_follows_the_link() -> None:
    send_queue = SendQueue()
    now = 0.0

    def answered_after(seconds: float, waiting: bool = True) -> int:
        nonlocal now
        call = QueuedCall()
        send_queue.put(call)
        send_queue.take(now)
        if waiting:
            send_queue.put(QueuedCall())
        now += seconds
        send_queue.over(call, now)
        while send_queue.take(now):
            pass
        send_queue.clear()
        return send_queue.window

    assert answered_after(0.1) == 2 * FIRST
    assert answered_after(0.1, waiting=False) == 2 * FIRST  # it was no limit
    assert answered_after(1.0) == 2 * FIRST
    assert answered_after(5.0) == FIRST
    assert [answered_after(5.0) for _ in range(20)][-1] == LEAST
    assert [answered_after(0.1) for _ in range(20)][-1] == MOST


def test_new_link_begins_with_all_that_is_unanswered() -> None:
    send_queue = SendQueue()
    calls = [QueuedCall(FIRST), QueuedCall(FIRST), QueuedCall(1, bulky=False, mark=b"a")]
    for call in calls:
        send_queue.put(call)
    while send_queue.take(0.0):
        pass
    send_queue.begin(calls)
    assert send_queue.take(1.0) == b"a"
    assert len(send_queue.take(1.0)) == FIRST
    assert send_queue.take(1.0) == b""
    send_queue.over(calls[2], 1.0)  # it takes no room
    assert send_queue.take(1.0) == b""
