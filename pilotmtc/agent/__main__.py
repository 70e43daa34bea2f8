"""``python -m pilotmtc.agent --store URL --pilot ID --directory DIR``: what a pilot runs, under its guard."""

import sys

from pilotmtc.agent.main import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
