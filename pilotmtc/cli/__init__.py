"""The command line: it parses, draws and calls `pilotmtc.session`. Modules are imported when their command is used."""

import sys
from typing import NoReturn

from pilotmtc.boot import settle_path


def main() -> NoReturn:
    """Run the command in ``sys.argv``, and exit with its code."""
    settle_path()  # before any import that a user's file of the same name could take over
    from pilotmtc.cli import interrupts

    try:
        interrupts.begin()
        from pilotmtc.cli.app import main as run

        code = run()
        interrupts.end()
    except KeyboardInterrupt:
        interrupts.end()
        from pilotmtc.cli.command import EXIT_INTERRUPTED
        from pilotmtc.cli.output import streams

        if sys.stdout is not None:
            streams.silence()
        code = EXIT_INTERRUPTED
    sys.exit(code)
