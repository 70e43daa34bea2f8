"""The command line: it parses, draws and calls `pilotmtc.session`. Modules are imported when their command is used."""

from typing import NoReturn

from pilotmtc.boot import settle_path


def main() -> NoReturn:
    """Run the command that ``sys.argv`` holds, and exit as it deserves."""
    settle_path()  # before anything is imported that a file of the user's could hide
    from pilotmtc.cli.app import main as run

    run()
