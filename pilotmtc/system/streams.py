"""Standard streams that may lead to a full disk."""

import atexit
import contextlib
import os
import sys


def keep_exit_code() -> None:
    """Let this process end with its own exit code although its last words cannot be written.

    Python ends with 120 if stdout or stderr cannot be flushed, as in a log on a full disk. Who waits for the process
    would take that for its reason.
    """
    atexit.register(_drop_what_cannot_be_written)


def _drop_what_cannot_be_written() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            with contextlib.suppress(OSError):
                nothing = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nothing, stream.fileno())
                os.close(nothing)
