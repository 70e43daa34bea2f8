"""Files that a command writes, and that are there when they are complete."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

from pilotmtc.errors import ConfigError

if TYPE_CHECKING:
    from pilotmtc.session import Session


@contextlib.contextmanager
def new_file(session: "Session", path: str | None, *, binary: bool = False) -> Iterator[IO[Any]]:
    """Yield the stream to write to; the file gets its name when all went well. None and ``-`` are stdout.

    Raises
    ------
    ConfigError
        If it cannot be written.
    UsageError
        If it is the store.
    """
    if path is None or path == "-":
        yield sys.stdout.buffer if binary else sys.stdout
        return
    where = os.path.realpath(os.path.expanduser(path))
    session.check_output(where)
    text: dict[str, Any] = {} if binary else {"encoding": "utf-8", "newline": ""}
    try:
        stream = tempfile.NamedTemporaryFile(  # noqa: SIM115 -- it is renamed or removed below
            "wb" if binary else "w",
            dir=os.path.dirname(where),
            prefix=f".{os.path.basename(where)}.",
            delete=False,
            **text,
        )
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error
    done = False
    try:
        with stream:
            yield stream
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(stream.name, 0o666 & ~umask)
        os.replace(stream.name, where)
        done = True
    finally:
        if not done:
            with contextlib.suppress(OSError):
                os.unlink(stream.name)
