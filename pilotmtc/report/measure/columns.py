"""Attempts in columns: a million of them take some 110 MB, as records they would take many times that."""

import sys
from array import array
from typing import Any

from pilotmtc.host_lists import expand
from pilotmtc.model import Resources
from pilotmtc.protocol.client.history import COLUMNS, History
from pilotmtc.protocol.records import RunningTask
from pilotmtc.states import Cause, TaskState

RUNNING = -1  # in place of a cause: it has not ended
_INDEXES = frozenset({"node", "slot", "name", "tags"})

Cores = tuple[tuple[str, int], ...]  # the node and the number of each


class Attempts:
    """Attempts, one array for each of `COLUMNS`, in order of their tasks; those that run come last.

    Attributes
    ----------
    texts
        What ``node``, ``slot``, ``name`` and ``tags`` are indexes into.
    commands, resources
        By the ids in ``template`` and ``resources``; 0 is unknown.
    """

    task: "array[int]"
    attempt: "array[int]"
    campaign: "array[int]"
    state: "array[int]"
    newest: "array[int]"
    cause: "array[int]"
    code: "array[int]"
    pilot: "array[int]"
    node: "array[int]"
    slot: "array[int]"
    name: "array[int]"
    tags: "array[int]"
    template: "array[int]"
    resources_id: "array[int]"
    started_at: "array[float]"
    elapsed_s: "array[float]"
    cpu_s: "array[float]"
    memory_bytes: "array[int]"
    recorded_at: "array[float]"

    def __init__(self) -> None:
        self._columns: dict[str, array[Any]] = {}
        for name, code in COLUMNS:
            column: array[Any] = array(code)
            self._columns[name] = column
            setattr(self, "resources_id" if name == "resources" else name, column)
        self.texts = [""]
        self._numbers = {"": 0}
        self.commands: dict[int, str] = {0: ""}
        self.resources: dict[int, Resources] = {0: Resources()}

    def __len__(self) -> int:
        """Return the number of attempts."""
        return len(self.task)

    def add(self, page: History) -> None:
        """Add a page that the store has sent."""
        numbers = [self._number(text) for text in page.texts]
        for (name, code), data in zip(COLUMNS, page.columns, strict=True):
            column = unpacked(code, data)
            if name in _INDEXES:
                column = array(code, map(numbers.__getitem__, column))
            self._columns[name].extend(column)
        self.commands.update(page.commands)
        self.resources.update(page.resources)

    def add_running(self, task: RunningTask, pilot: int, now: float) -> None:
        """Add an attempt that runs; what its task needs is only known by its slot."""
        values: dict[str, Any] = {
            "task": task.task, "attempt": task.attempt, "campaign": task.campaign, "state": TaskState.RUNNING,
            "newest": 1, "cause": RUNNING, "pilot": pilot, "node": self._number(task.node),
            "slot": self._number(task.slot), "started_at": task.started_at,
            "elapsed_s": max(now - task.started_at, 0.0), "recorded_at": now,
        }  # fmt: skip
        for name, column in self._columns.items():
            column.append(values.get(name, 0))

    def _number(self, text: str) -> int:
        number = self._numbers.get(text)
        if number is None:
            number = self._numbers[text] = len(self.texts)
            self.texts.append(text)
        return number

    def succeeded(self, at: int) -> bool:
        """Return whether an attempt was a success."""
        return self.cause[at] == Cause.EXIT and self.code[at] == 0

    def node_name(self, at: int) -> str:
        """Return the node of an attempt; of a task on several nodes the list of them."""
        return self.texts[self.node[at]]

    def cores(self, at: int) -> int:
        """Return how many cores an attempt had; 0 if nobody knows where it ran."""
        return len(places_of(self.texts[self.node[at]], self.texts[self.slot[at]]))

    def cause_name(self, at: int) -> str:
        """Return why an attempt ended."""
        return "RUNNING" if self.cause[at] == RUNNING else Cause(self.cause[at]).name


def unpacked(code: str, data: bytes) -> "array[Any]":
    """Return the array whose bytes the store has sent."""
    column: array[Any] = array(code)
    column.frombytes(data)
    if sys.byteorder == "big":
        column.byteswap()
    return column


def cores_of(slot: str) -> list[int]:
    """Return the cores in a text such as ``0-3,8``."""
    found: list[int] = []
    for part in slot.split(","):
        first, _, last = part.partition("-")
        if first.isdecimal():
            found.extend(range(int(first), int(last if last.isdecimal() else first) + 1))
    return found


def places_of(node: str, slot: str) -> Cores:
    """Return the cores of an attempt, from its node (or nodes, as ``n[1-4]``) and slot (``0-11;0-3``)."""
    if not node or not slot:
        return ()
    nodes = expand(node) if "[" in node or "," in node else [node]
    slots = slot.split(";")
    if len(slots) != len(nodes):
        slots = slots[:1] * len(nodes)
    return tuple([(name, core) for name, text in zip(nodes, slots, strict=True) for core in cores_of(text)])
