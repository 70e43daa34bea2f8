"""What a client writes first, and how much of what may wait is under way."""

from pilotmtc.store.client.send_queue import WINDOW_BYTES, Lanes

LEAST, FIRST, MOST = WINDOW_BYTES


class Call:
    def __init__(self, size: int = 1, bulky: bool = True, mark: bytes = b"x") -> None:
        self.frame = mark * size
        self.bulky = bulky


def test_small_requests_overtake_results() -> None:
    lanes = Lanes()
    results = [Call(100 << 10), Call(100 << 10)]
    for call in results:
        lanes.put(call)
    lanes.put(Call(3, bulky=False, mark=b"a"))
    lanes.put(Call(2, bulky=False, mark=b"b"))
    assert lanes.take(0.0) == b"aaabb"
    assert lanes.take(0.0) == results[0].frame


def test_no_more_results_are_under_way_than_the_window_has_room_for() -> None:
    lanes = Lanes()
    calls = [Call(FIRST // 2) for _ in range(4)]
    for call in calls:
        lanes.put(call)
    assert [len(lanes.take(0.0)) for _ in range(3)] == [FIRST // 2, FIRST // 2, 0]
    lanes.over(calls[0], 1.0)
    assert [len(lanes.take(1.0)) for _ in range(2)] == [FIRST // 2, 0]


def test_one_result_that_is_larger_than_the_window_goes_alone() -> None:
    lanes = Lanes()
    large, small = Call(MOST + 1), Call()
    lanes.put(large)
    lanes.put(small)
    assert [len(lanes.take(0.0)) for _ in range(2)] == [MOST + 1, 0]
    lanes.over(large, 100.0)
    assert lanes.take(100.0) == small.frame


def test_window_follows_the_link() -> None:
    lanes = Lanes()
    now = 0.0

    def answered_after(seconds: float, waiting: bool = True) -> int:
        nonlocal now
        call = Call()
        lanes.put(call)
        lanes.take(now)
        if waiting:
            lanes.put(Call())
        now += seconds
        lanes.over(call, now)
        while lanes.take(now):
            pass
        lanes.clear()
        return lanes.window

    assert answered_after(0.1) == 2 * FIRST
    assert answered_after(0.1, waiting=False) == 2 * FIRST  # it was no limit
    assert answered_after(1.0) == 2 * FIRST
    assert answered_after(5.0) == FIRST
    assert [answered_after(5.0) for _ in range(20)][-1] == LEAST
    assert [answered_after(0.1) for _ in range(20)][-1] == MOST


def test_new_link_begins_with_all_that_is_unanswered() -> None:
    lanes = Lanes()
    calls = [Call(FIRST), Call(FIRST), Call(1, bulky=False, mark=b"a")]
    for call in calls:
        lanes.put(call)
    while lanes.take(0.0):
        pass
    lanes.begin(calls)
    assert lanes.take(1.0) == b"a"
    assert len(lanes.take(1.0)) == FIRST
    assert lanes.take(1.0) == b""
    lanes.over(calls[2], 1.0)  # it takes no room
    assert lanes.take(1.0) == b""
