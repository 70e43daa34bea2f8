"""``python -m pilotmtc.agent --store URL --pilot ID --directory DIR``: what a pilot runs, under its guard."""

import sys

from pilotmtc.agent.main import main
from pilotmtc.system.locale import speak_utf8
from pilotmtc.system.streams import keep_exit_code

if __name__ == "__main__":
    speak_utf8()
    keep_exit_code()
    sys.exit(main(sys.argv[1:]))
