"""Tasks that need each other, fail and are tried again; and the count of what became of them."""

import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from random import Random

from msgspec import Struct

from pilotmtc.model import After, CampaignId, Resources, TaskRow, Template
from pilotmtc.protocol.client.campaigns import Submit
from pilotmtc.states import TaskState
from pilotmtc.store.interface import Store

PLAIN, FLAKY, HOPELESS, TREE = range(4)
RETRIES = 2  # of the hopeless
_MANY = 20  # of the others, whose processes may be killed again and again
_CHUNK = 100
# Of its environment a daemon keeps only that by which it is counted here.
_DAEMON = "env -i MTC_FAULTS=$MTC_FAULTS PILOTMTC_PILOT_ID=$PILOTMTC_PILOT_ID setsid sleep 599"
_BAD = (TaskState.FAILED, TaskState.SKIPPED)


class Count(Struct):
    """What became of the tasks of one round or of many. All but the first three and the last must be 0."""

    rounds: int = 0
    struck: int = 0
    tasks: int = 0
    lost: int = 0
    twice: int = 0
    wrong: int = 0  # values of calls
    orphans: int = 0
    dropped: int = 0  # pilots given up although they were well
    inconsistent: int = 0
    again: int = 0  # executed again, which is allowed

    def add(self, other: "Count") -> None:
        """Add another count to this one."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    @property
    def well(self) -> bool:
        """Whether nothing is lost, recorded twice, wrong, left over, given up or inconsistent."""
        return not (self.lost or self.twice or self.wrong or self.orphans or self.dropped or self.inconsistent)


class Work:
    """So many tasks for an empty store, where task n gets the id n + 1. The last one waits until `let_end` is called.

    Parameters
    ----------
    log
        A file in which each try of a task says its number.
    mark
        A word in the environment of their processes, by which those are known.
    pause_s
        How long most of them take.
    heavy_bytes
        How much they write to stderr.

    Attributes
    ----------
    kinds, needs
        What each does, and which others it needs.
    expected
        How each must end.
    """

    def __init__(
        self, dice: Random, number: int, log: Path, mark: str, pause_s: float = 0.03, heavy_bytes: int = 0
    ) -> None:
        self.number = number
        self.log = log
        self.mark = mark
        self.gate = Path(f"{log}.gate")
        self.kinds = [*dice.choices((PLAIN, FLAKY, HOPELESS, TREE), (70, 15, 5, 10), k=number - 1), TREE]
        self.needs = [*(self._needs(dice, task) for task in range(number - 1)), ()]
        self.expected: list[TaskState] = []
        for task, kind in enumerate(self.kinds):
            well = all(not need.well or self.expected[int(need.task) - 1] not in _BAD for need in self.needs[task])
            self.expected.append(
                TaskState.SKIPPED if not well else TaskState.FAILED if kind == HOPELESS else TaskState.DONE
            )
        say = f"echo {{x}} >> {log}"
        wait = f"until test {{x}} != {number - 1} -o -e {self.gate}; do sleep 0.05; done; sleep {pause_s}"
        lines = {
            PLAIN: f"{say}; sleep {pause_s}; head -c {heavy_bytes} /dev/urandom >&2; echo {{x}}",
            FLAKY: f"{say}; mkdir {log}.{{x}} 2> /dev/null && exit 3; echo {{x}}",
            HOPELESS: f"{say}; exit 4",
            TREE: f"{say}; {_DAEMON} & setsid sleep 600 & (trap '' TERM; sleep 600) & {wait}; echo {{x}}",
        }
        self.templates = tuple(
            Template(
                (line,), shell=True, fields=("x",), env={"MTC_FAULTS": mark},
                max_retries=RETRIES if kind == HOPELESS else _MANY,
            )
            for kind, line in lines.items()
        )  # fmt: skip
        log.touch()

    def _needs(self, dice: Random, task: int) -> tuple[After, ...]:
        if task == 0 or dice.random() < 0.5:
            return ()
        picked = {dice.randint(max(1, task - 20), task) for _ in range(dice.randint(1, 2))}
        return tuple([After(need, dice.random() < 0.5) for need in sorted(picked)])

    def let_end(self) -> None:
        """Let the last task end."""
        self.gate.touch()

    def submit(self, store: Store, key: str = "work") -> CampaignId:
        """Submit all of it."""
        for offset in range(0, self.number, _CHUNK):
            tasks = range(offset, min(self.number, offset + _CHUNK))
            rows = tuple([TaskRow(self.kinds[task], 0, (str(task),), after=self.needs[task]) for task in tasks])
            last = tasks.stop == self.number
            answer = store.call(Submit(key, offset, "faults", self.templates, (Resources(),), rows, last))
        return answer.campaign

    def count(self, copy: Path, problems: tuple[str, ...]) -> Count:
        """Return what became of the tasks, by a copy of the store and what its check has found."""
        ran = Counter(int(word) for word in self.log.read_text().split())
        with closing(sqlite3.connect(copy)) as db:
            states = {id_ - 1: TaskState[state] for id_, state in db.execute("SELECT id, state FROM tasks")}
            attempts = db.execute(
                "SELECT task_id - 1, cause, exit_code, stdout FROM attempts ORDER BY task_id, attempt"
            ).fetchall()
            told = db.execute("SELECT sum(done), sum(failed), sum(skipped) FROM campaigns").fetchone()
        ended = Counter((task, code) for task, cause, code, _ in attempts if cause == "EXIT")
        charged = Counter(task for task, cause, _, _ in attempts if cause in ("EXIT", "SIGNAL"))
        said = {task: out for task, _, code, out in attempts if code == 0}
        found = Count(1, 0, self.number)
        for task, state in enumerate(self.expected):
            kind = self.kinds[task]
            well = states.get(task) is state and (state is TaskState.SKIPPED or ran[task] > 0)
            if state is TaskState.DONE:
                well = well and said.get(task) == f"{task}\n"
            found.lost += not well
            most = {0: 1, 3: 1, 4: RETRIES + 1}
            found.twice += any(ended[task, code] > limit for code, limit in most.items())
            found.inconsistent += (kind == HOPELESS and well and state is TaskState.FAILED) and (
                charged[task] != RETRIES + 1  # whether it failed by itself or was killed with all its processes
            )
            found.inconsistent += state is TaskState.SKIPPED and ran[task] > 0
            found.again += max(0, ran[task] - sum(ended[task, code] for code in most))
        counted = Counter(states.values())
        found.inconsistent += len(problems) + (len(states) != self.number)
        found.inconsistent += told != tuple(
            counted[state] for state in (TaskState.DONE, TaskState.FAILED, TaskState.SKIPPED)
        )
        return found
