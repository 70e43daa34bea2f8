"""``pilotmtc tui``."""

import os
import signal
import sys

from pilotmtc.cli.command import command, site_word, store_word

_EXAMPLES = """\
pilotmtc tui
pilotmtc --store ssh://me@login.site/~/runs/store.db tui
pilotmtc --site boulder tui
"""
_CANNOT = ("dumb", "unknown")  # terminals that cannot move the cursor


@command("tui", examples=_EXAMPLES)
def tui() -> int:
    """Watch pilots and tasks on a full screen, and steer them.

    For terminals that cannot show it, and for scripts, there is pilotmtc top.
    """
    from pilotmtc.errors import UsageError

    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("pilotmtc tui needs a terminal: see pilotmtc top for plain text")
    if os.environ.get("TERM") in _CANNOT:
        raise UsageError(
            f"pilotmtc tui cannot draw on a terminal with TERM={os.environ['TERM']}: see pilotmtc top for plain text"
        )
    from pilotmtc.tui.app import MtcApp
    from pilotmtc.tui.gateway import SessionGateway

    app = MtcApp(SessionGateway(store_word(), site_word()))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # asyncio replaces it, for an orderly end
    try:
        app.run()
    finally:
        signal.signal(signal.SIGINT, before)
    return app.return_code or 0
