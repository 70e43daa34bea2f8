"""Pipes, by system calls that keep Python's interpreter lock.

Those of the standard library let other threads run meanwhile. These take a microsecond, and threads that wait for what
the calling one will have done next would only be woken in vain: with two slots, a dozen such calls cost a short task
more than all of Python's own work for it.
"""

import ctypes
import os
import termios

_LIBC = ctypes.PyDLL(None, use_errno=True)
_pipe2, _close, _ioctl = _LIBC.pipe2, _LIBC.close, _LIBC.ioctl


def make() -> tuple[int, int]:
    """Return the two ends of a new pipe, the one to read from first; no child inherits them."""
    ends = (ctypes.c_int * 2)()
    if _pipe2(ends, os.O_CLOEXEC):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return ends[0], ends[1]


def close(fd: int) -> None:
    """Close an end of a pipe."""
    if _close(fd):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def available(fd: int) -> int:
    """Return how many bytes wait in a pipe."""
    count = ctypes.c_int()
    if _ioctl(fd, termios.FIONREAD, ctypes.byref(count)):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return count.value
