"""The command line: it parses, draws and calls `pilotmtc.session`. Modules are imported when their command is used."""

from pilotmtc.cli.app import main

__all__ = ["main"]
