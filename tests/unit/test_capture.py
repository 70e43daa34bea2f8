"""What a file that is still written to has at its end."""

import os
from pathlib import Path

import pytest

from pilotmtc.agent.capture import tail


def test_end_of_a_file_and_its_size(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"0123456789")
    assert tail(-1, str(path), 4) == (b"6789", 10)
    assert tail(-1, str(path), 99) == (b"0123456789", 10)
    fd = os.open(path, os.O_RDWR | os.O_APPEND)
    try:
        assert tail(fd, None, 4) == (b"6789", 10)
        os.write(fd, b"ab")
        assert tail(fd, None, 4) == (b"89ab", 12)
    finally:
        os.close(fd)


@pytest.mark.parametrize("name", ["none", "pipe", "/dev/null", ""])
def test_what_is_no_file_has_nothing(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "pipe")  # without a writer, which would be waited for
    assert tail(-1, str(tmp_path / name), 4) == (b"", 0)
