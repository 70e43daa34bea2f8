"""Sends results that killed agents have left on disk, so that their tasks need not run again.

The values of calls that are there, too, are removed when their results have been sent.
"""

import fcntl
import logging
import os
import stat
from pathlib import Path

from pilotmtc.agent.functions.frames import VALUES
from pilotmtc.agent.value_files import remove, without_value
from pilotmtc.errors import NotPermitted, UsageError
from pilotmtc.model import PilotId, Result
from pilotmtc.protocol.agent import Finish
from pilotmtc.protocol.client.pilots import GetPilots
from pilotmtc.protocol.spool import read_file, spool_files
from pilotmtc.protocol.values import PART_BYTES, PutValue
from pilotmtc.states import PILOT_FINAL
from pilotmtc.store.client.connect import connect_store
from pilotmtc.store.interface import Store

_PATIENCE_S = 60.0
_log = logging.getLogger("pilotmtc.agent")


def send_spool(store: Store, pilot: PilotId, directory: Path) -> int:
    """Send what is in the spool of `pilot`, which nobody writes any more; return how many results were sent.

    It passes over those that it has already, or that come too late.
    """
    sent = 0
    for path in spool_files(directory):
        for results in read_file(path):
            store.call(Finish(pilot, tuple([_with_value(store, pilot, directory, result) for result in results])))
            sent += len(results)
        if _is_left(path):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:  # at worst it is sent again, which is harmless
                _log.warning("cannot remove %s: %s", path, error.strerror)
    if not spool_files(directory):
        remove(directory)
    return sent


def _with_value(store: Store, pilot: PilotId, directory: Path, result: Result) -> Result:
    """Bring a large value to the store, and return its result; if that value is lost, another one."""
    value = result.value
    if value is None or not value.digest:
        return result
    received = store.call(PutValue(value.digest, 0, value.size, b"", pilot=pilot)).received
    if received >= value.size:
        return result
    try:
        with (directory / VALUES / value.digest).open("rb") as file:
            while received < value.size:
                file.seek(received)
                data = file.read(PART_BYTES)
                if not data:
                    return without_value(result, f"its result was cut off at {received} of {value.size} bytes")
                received = store.call(PutValue(value.digest, received, value.size, data, pilot=pilot)).received
    except OSError as error:
        return without_value(result, f"its result was lost with its agent: {error.strerror}")
    except UsageError as error:
        return without_value(result, f"the store did not take its result: {error}")
    return result


def take_in(url: str, directory: Path) -> None:
    """Send what is in the spools of other pilots beside `directory` that died together with their guards.

    A pilot with a key of its own may not report for others: there, the steward does this.
    """
    others = {path.parent for path in directory.parent.glob("*/spool.*") if _size(path)}
    others |= {path.parent for path in directory.parent.glob(f"*/{VALUES}") if _has_left(path.parent)}
    others = {other for other in others - {directory} if _is_ours(other)}
    if not others:
        return
    with connect_store(url, patience_s=_PATIENCE_S) as store:
        try:
            _take_in(store, others)
        except NotPermitted:
            _log.info("what other pilots have left is not for this one to send")


def _take_in(store: Store, others: set[Path]) -> None:
    pilots = {Path(pilot.directory): pilot for pilot in store.call(GetPilots()).pilots if pilot.directory}
    for other in sorted(others):
        pilot = pilots.get(other)
        if pilot is None:  # it belongs to another store, or to an earlier one at this path
            continue
        try:
            if pilot.state not in PILOT_FINAL and not _has_left(other):
                continue  # its agent lives, and sends them itself
            sent = send_spool(store, pilot.id, other)
        except OSError as error:
            _log.warning("cannot read what pilot %s has left in %s: %s", pilot.id, other, error.strerror)
            continue
        _log.info("pilot %s had left %d results in %s", pilot.id, sent, other)


def _is_ours(directory: Path) -> bool:
    """Return whether only this user can have written the files in `directory`."""
    try:
        status = directory.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022


def _has_left(directory: Path) -> bool:
    """Return whether the agent of the pilot that has `directory` lives no more; False if nobody knows."""
    return all(map(_is_left, spool_files(directory)))


def _is_left(path: Path) -> bool:
    """Return whether the writer of `path` has ended; False if that is not known, as on a file system without locks."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
