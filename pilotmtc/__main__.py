"""``python -m pilotmtc`` is ``pilotmtc``."""

from pilotmtc.cli import main

main()
