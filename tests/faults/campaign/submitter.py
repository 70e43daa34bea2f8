"""A client that is killed while it submits, again and again, and takes up where it was."""

import contextlib
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

from pilotmtc.campaign.submit import TaskSpec
from pilotmtc.model import Resources, Template
from pilotmtc.protocol.client.campaigns import GetCampaigns
from pilotmtc.protocol.client.maintenance import CheckStore, SnapshotStore
from pilotmtc.session import Session
from pilotmtc.store.client.connect import connect_store
from tests.faults.campaign.work import Count

KEY = "many"
_PARTS = 4  # after all but the last of them it waits to be killed


def submitter_killed(directory: Path, number: int, dice: Random) -> Count:
    """Kill it at random moments and let it get through; what it was told is there must be there, and nothing twice."""
    path = str(directory / "store.db")
    found = Count(1, 0, number)
    told = directory / "told"
    with connect_store(path, patience_s=60.0) as store:
        argv = [sys.executable, "-m", "tests.faults.campaign.submitter", path, str(number), str(told)]
        for part in range(1, _PARTS + 1):
            last = part == _PARTS
            process = subprocess.Popen([*argv, str(number * part // _PARTS)], stdin=subprocess.DEVNULL)
            try:
                before = _told(told)
                if not last:
                    # From its first acknowledged message on, it is in the middle.
                    while process.poll() is None and _told(told) == before:
                        time.sleep(0.002)
                    time.sleep(dice.uniform(0.0, 0.03))
                    process.kill()
                code = process.wait(600)
            finally:
                process.kill()
                process.wait(10)
            acknowledged = _told(told)
            there = store.call(GetCampaigns(key=KEY)).campaigns
            received = there[0].received if there else 0
            found.lost += max(0, acknowledged - received)
            found.struck += code == -signal.SIGKILL and acknowledged > 0 and received < number
        copy = directory / "copy.db"
        store.call(SnapshotStore(str(copy)))
        found.inconsistent += len(store.call(CheckStore()).problems)
    with contextlib.closing(sqlite3.connect(copy)) as db:
        rows, distinct = db.execute("SELECT count(*), count(DISTINCT params) FROM tasks").fetchone()
    found.lost += number - distinct
    found.twice += rows - distinct
    return found


def _told(path: Path) -> int:
    """Return how many tasks the client was told are there."""
    with contextlib.suppress(FileNotFoundError):
        whole = path.read_text().rpartition("\n")[0]
        return max(map(int, whole.split()), default=0)
    return 0


def _submit(path: str, number: int, told: str, wait_after: int) -> None:
    template = Template(("true", "{x}"), fields=("x",))

    def tasks() -> Iterator[TaskSpec]:
        for task in range(number):
            if task == wait_after:
                time.sleep(600)
            yield TaskSpec(template, Resources(), (str(task),))

    with Session(path) as session, open(told, "a", encoding="ascii", buffering=1) as file:
        session.submit_tasks(tasks(), key=KEY, on_submitted=lambda answer: print(answer.received, file=file))


if __name__ == "__main__":
    _submit(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
