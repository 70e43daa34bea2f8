"""``logs --follow``: what a task writes, while it runs."""

import re

from tests.support import wait_until
from tests.user import User


def test_output_is_followed_through_retries_to_the_end(user: User) -> None:
    line = (
        "echo try $PILOTMTC_ATTEMPT; echo alas >&2; "
        "while ! test -e go-$PILOTMTC_ATTEMPT; do sleep 0.05; done; seq 100000; test $PILOTMTC_ATTEMPT = 2"
    )
    user.cli("submit", "--retries", "1", "--backoff", "0", line)
    following = user.start("logs", "--follow", "1", stdout=(out := (user.here / "out").open("wb")))
    with out, following:
        try:
            assert following.poll() is None  # it waits for the start
            user.cli("pilot", "submit", "--cores", "1", "--idle", "0.2s")
            for attempt in (1, 2):
                words = f"try {attempt}\n".encode()
                wait_until(lambda words=words: words in (user.here / "out").read_bytes(), 30.0)  # type: ignore[misc]
                if attempt == 1:
                    assert "pilotmtc logs --follow 1" in user.cli("logs", "1", code=2).err
                user.file(f"go-{attempt}", "")
            _, errors = following.communicate(timeout=30.0)
        finally:
            following.kill()
    numbers = "".join(f"{number}\n" for number in range(1, 100_001))
    whole = f"try 1\n{numbers}try 2\n{numbers}"
    gap = re.compile(rb"\[pilotmtc: ([0-9,]+) bytes of stdout left out here\]\n")
    # A look at the task in the instant in which it writes all its numbers sees the last of them, and says so.
    left_out = sum(int(count.replace(b",", b"")) for count in gap.findall(errors))
    shown = (user.here / "out").read_text()
    assert len(shown) + left_out == len(whole)
    assert left_out or shown == whole
    assert shown.startswith("try 1\n")
    assert shown.endswith(numbers[-10_000:])
    assert gap.sub(b"", errors) == b"alas\nalas\n"
    assert following.returncode == 0


def test_task_that_is_over_is_shown_at_once(user: User) -> None:
    user.cli("run", "-q", "echo one; echo two >&2")
    assert user.cli("logs", "-f", "1") == ("one\n", "two\n", 0)
    assert user.cli("logs", "-f", "--stderr", "1") == ("two\n", "", 0)


def test_what_cannot_be_followed_is_refused(user: User) -> None:
    user.cli("submit", "true")
    for words in (["1-2"], ["1", "--json"], ["1", "--attempt", "1"]):
        assert "--follow takes one task" in user.cli("logs", "-f", *words, code=2).err
    assert "no task 9" in user.cli("logs", "-f", "9", code=2).err
    user.cli("cancel", "1")
    assert "has no attempt that has ended" in user.cli("logs", "-f", "1", code=2).err
