"""A disk that dies: a file system of its own, on which every read and write is an error from one moment on.

The kernel does it (ext4's EXT4_IOC_SHUTDOWN): what was not flushed is lost, as when the power goes.
"""

import contextlib
import fcntl
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from tests.support import wait_until

_BYTES = 16 << 20
_SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN in linux/ext4.h
_NO_FLUSH = (2).to_bytes(4, "little")  # EXT4_GOING_FLAGS_NOLOGFLUSH


class DyingDisk:
    """An ext4 file system in the file `image`, mounted at the directory `place` of its owner. Only root can have it."""

    def __init__(self, image: Path, place: Path) -> None:
        self._image = image
        self._place = place
        self._owner = place.stat().st_uid
        with image.open("wb") as file:
            file.truncate(_BYTES)
        _run("mkfs.ext4", "-q", "-F", image)
        self._mount()

    def __enter__(self) -> "DyingDisk":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _run("umount", "--lazy", self._place)

    @contextlib.contextmanager
    def dead(self) -> Iterator[None]:
        """Let every use of it end in EIO; when nobody uses it any more, it is as it was when it was last flushed."""
        fd = os.open(self._place, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, _SHUTDOWN, _NO_FLUSH)
        finally:
            os.close(fd)
        yield
        unmount = ["umount", str(self._place)]
        wait_until(lambda: not subprocess.run(unmount, capture_output=True, check=False, timeout=60).returncode)
        self._mount()

    def _mount(self) -> None:
        _run("mount", "-o", "loop", self._image, self._place)
        os.chown(self._place, self._owner, -1)
        self._place.chmod(0o700)


def _run(*words: str | Path) -> None:
    subprocess.run(words, check=True, timeout=60)
