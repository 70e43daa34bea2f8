"""Pipes without the standard library."""

import errno
import os

import pytest

from pilotmtc.system import pipes


def test_what_is_written_can_be_counted_and_read() -> None:
    reading, writing = pipes.make()
    assert not os.get_inheritable(reading)
    assert not os.get_inheritable(writing)
    assert pipes.available(reading) == 0
    os.write(writing, b"x" * 40_000)
    assert pipes.available(reading) == 40_000
    pipes.close(writing)
    assert os.read(reading, 65_536) == b"x" * 40_000
    assert pipes.available(reading) == 0
    pipes.close(reading)


def test_what_is_not_open_is_an_error() -> None:
    reading, writing = pipes.make()
    pipes.close(writing)
    pipes.close(reading)
    for call in (pipes.close, pipes.available):
        with pytest.raises(OSError, match="Bad file descriptor") as caught:
            call(reading)
        assert caught.value.errno == errno.EBADF
