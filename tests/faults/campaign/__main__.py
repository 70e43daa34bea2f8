"""``make faults``: everything that can die, break or fill up does so at random moments, again and again.

`work` is what has to be done meanwhile, and counts afterwards; `field` is a store behind a real sshd with real pilots,
`strikes` is what befalls them; `paper` has agents that only pretend to run tasks, for hosts that share a store and for
messages that come twice, late and in any order; `submitter` is killed while it submits; `calls` are of functions.
"""

import argparse
import contextlib
import secrets
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path

import pytest

from tests.faults.campaign.faults import FAULTS, play
from tests.faults.campaign.work import Count
from tests.support import kill, processes_with, surroundings, wait_until

_COLUMNS = ("rounds", "struck", "tasks", "lost", "twice", "wrong", "orphans", "dropped", "inconsistent", "again")


def main() -> int:
    """Run what the command line asks for; return 1 if any round did not end well."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.campaign", description="Let things die, and count.")
    parser.add_argument("names", nargs="*", metavar="FAULT", help=f"of {', '.join(FAULTS)}; all without one")
    parser.add_argument("--minutes", type=float, default=6.0, help="begin rounds for so long (default: %(default)s)")
    parser.add_argument("--tasks", type=int, default=300, help="of a round, or a multiple (default: %(default)s)")
    parser.add_argument("--seed", default=secrets.token_hex(4), help="of another run, to have its moments again")
    asked = parser.parse_args()
    if unknown := set(asked.names) - set(FAULTS):
        parser.error(f"no fault is called {', '.join(sorted(unknown))}: there are {', '.join(FAULTS)}")
    names = asked.names or list(FAULTS)
    missing = {name: why for name in names if (why := FAULTS[name].missing())}
    print(f"seed {asked.seed}", flush=True)

    counts = {name: Count() for name in names if name not in missing}
    bad: list[str] = []
    until = time.monotonic() + 60.0 * asked.minutes
    number = 0
    while number == 0 or time.monotonic() < until:
        for name, count in counts.items():
            if number and time.monotonic() >= until:
                break
            size = asked.tasks * FAULTS[name].scale
            if not _round(name, f"{asked.seed}-{name}-{number}", size, count):
                bad.append(f"{name}, round {number}")
        number += 1
    print(_table(counts))
    for name, why in missing.items():
        print(f"{name}: not done, for {why}")
    for words in bad:
        print(f"not well: {words} of seed {asked.seed}")
    return 1 if bad else 0


def _round(name: str, seed: str, size: int, total: Count) -> bool:
    """Play a round, and add what came of it; return whether all is well."""
    directory = Path(tempfile.mkdtemp(prefix="mtcf-"))
    directory.chmod(0o755)
    began = time.monotonic()
    with pytest.MonkeyPatch.context() as patch, surroundings(directory, patch) as runtime:
        try:
            found = play(name, directory, runtime, size, seed)
            found.orphans += _leave(runtime)
        except Exception as error:  # noqa: BLE001 -- whatever it is, the other rounds are to be played
            traceback.print_exception(error)
            print(f"{name}: {type(error).__name__}: {error}; see {directory}", file=sys.stderr, flush=True)
            _leave(runtime)
            return False
    words = ", ".join(f"{each} {getattr(found, each)}" for each in _COLUMNS[1:])
    print(f"{name}: {words}; {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)
    total.add(found)
    if found.well and found.struck:
        shutil.rmtree(directory)
        return True
    print(f"{name}: {'nothing was hit; ' if found.well else ''}see {directory}", file=sys.stderr, flush=True)
    return False


def _leave(runtime: Path) -> int:
    """Return how many processes of a round that is over do not leave, and end them."""

    def left() -> dict[int, str]:
        return processes_with(f"XDG_RUNTIME_DIR={runtime}")

    with contextlib.suppress(TimeoutError):
        wait_until(lambda: not left(), 20.0)
    found = left()
    for pid in found:
        kill(pid)
    return len(found)


def _table(counts: dict[str, Count]) -> str:
    heads = (
        "rounds",
        "struck",
        "tasks",
        "lost",
        "recorded twice",
        "wrong values",
        "orphans",
        "given up",
        "inconsistent",
        "run again",
    )
    width = max(map(len, counts), default=0)
    lines = ["  ".join((" " * width, *heads))]
    total = Count()
    for count in counts.values():
        total.add(count)
    for name, count in (*counts.items(), ("all", total)):
        cells = (f"{getattr(count, each):>{len(head)},}" for each, head in zip(_COLUMNS, heads, strict=True))
        lines.append("  ".join((f"{name:<{width}}", *cells)))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
