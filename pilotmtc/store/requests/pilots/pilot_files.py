"""Reads the end of a file in a pilot's directory, such as its log."""

import os
import stat

from pilotmtc.errors import UsageError
from pilotmtc.protocol.client.pilots import GetPilotFile, PilotFile
from pilotmtc.store.requests.handlers import StoreFile, handles_in_thread

_MOST = 1 << 20


@handles_in_thread(GetPilotFile)
def get_pilot_file(store: StoreFile, request: GetPilotFile) -> PilotFile:
    """Return the end of a file in the pilot's directory, perhaps on a file system that hangs.

    Raises
    ------
    UsageError
        If the name leads out of the directory.
    """
    name, directory = request.name, store.pilot_directory
    if not name or os.path.isabs(name) or ".." in name.split("/") or "\0" in name:
        raise UsageError(f"{name!r} is no file in a pilot's directory: give a name such as agent.log")
    if not directory:
        return PilotFile("", trouble="this pilot has no directory on this host")
    path = os.path.join(directory, name)
    limit = max(0, min(request.limit, _MOST))
    try:
        if not os.path.realpath(path).startswith(os.path.realpath(directory) + os.sep):
            return PilotFile(path, trouble="it is a link that leads out of the pilot's directory")
        # Not blocking, in case it is a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                return PilotFile(path, trouble="it is no regular file")
            data = os.pread(descriptor, limit, max(0, status.st_size - limit))
        finally:
            os.close(descriptor)
    except OSError as error:
        return PilotFile(path, trouble=error.strerror or str(error))
    return PilotFile(path, data, status.st_size)
