"""Who may send a large message while others do."""

from pilotmtc.store.server.frame_budget import SMALL_BYTES, FrameBudget

LARGE = SMALL_BYTES + 1
MANY = 4 * LARGE


def test_small_messages_need_no_leave() -> None:
    room: FrameBudget[str] = FrameBudget(LARGE)
    assert room.admit("a", LARGE)
    assert all(room.admit(name, SMALL_BYTES) for name in "bcd")
    assert room.admit("e", 0)


def test_large_ones_wait_for_room_in_order_of_arrival() -> None:
    room: FrameBudget[str] = FrameBudget(MANY)
    assert room.admit("a", 3 * LARGE)
    assert not room.admit("b", 2 * LARGE)
    assert not room.admit("c", LARGE)  # it would fit, and b would never
    assert room.admit("a", 3 * LARGE)
    assert room.full
    room.leave("a")
    admitted = [name for name in room.waiting() if room.admit(name, {"b": 2 * LARGE, "c": LARGE}[name])]
    assert admitted == ["b", "c"]
    assert not room.full


def test_those_that_still_do_not_fit_go_on_waiting() -> None:
    room: FrameBudget[str] = FrameBudget(MANY)
    assert room.admit("a", 2 * LARGE)
    assert room.admit("b", 2 * LARGE)
    assert not room.admit("c", 3 * LARGE)
    room.leave("a")
    assert [room.admit(name, 3 * LARGE) for name in room.waiting()] == [False]
    room.admit("b", 0)  # its message has come
    assert [room.admit(name, 3 * LARGE) for name in room.waiting()] == [True]


def test_one_that_is_larger_than_all_the_room_goes_alone() -> None:
    room: FrameBudget[str] = FrameBudget(LARGE)
    assert room.admit("a", MANY)
    assert not room.admit("b", LARGE)
    room.leave("a")
    assert [room.admit(name, LARGE) for name in room.waiting()] == [True]
    assert room.holders() == ["b"]


def test_one_that_leaves_the_queue_keeps_nobody_waiting() -> None:
    room: FrameBudget[str] = FrameBudget(LARGE)
    assert room.admit("a", LARGE)
    assert not room.admit("b", LARGE)
    assert not room.admit("c", LARGE)
    room.leave("b")
    room.leave("a")
    assert [name for name in room.waiting() if room.admit(name, LARGE)] == ["c"]
