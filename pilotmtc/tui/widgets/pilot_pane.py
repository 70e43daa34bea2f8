"""A pilot as a text: its head, its nodes with their slots, and what has happened to it."""

from rich.text import Text
from textual.containers import VerticalScroll
from textual.widgets import Static

from pilotmtc.host_lists import by_number
from pilotmtc.model import Pilot
from pilotmtc.protocol.client.pilots import PilotView
from pilotmtc.protocol.records import NodeState
from pilotmtc.session.look.overview import left_s
from pilotmtc.states import PILOT_FINAL
from pilotmtc.text.numbers import clock, rate, span
from pilotmtc.text.plain import plain
from pilotmtc.tui.widgets.cells import bar, even, pilot_state, style
from pilotmtc.tui.widgets.gantt import cores_of

_NODES = 12  # that are shown; the pilot's own screen shows all of them
_EVENTS = 10
_NAME = 16  # characters of a node's name


class PilotPane(VerticalScroll, can_focus=False):
    """A pane with one pilot."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 -- Textual's name
        super().__init__(Static(classes="pane-text", markup=False), id=id, classes="pane")
        self._shown: tuple[Pilot, PilotView] | None = None

    def show(self, pilot: Pilot, view: PilotView) -> None:
        """Show a pilot."""
        self._shown = pilot, view
        if self.size.width:  # before that it is not laid out: `on_resize` follows
            self.say(pilot_text(pilot, view, max(self.size.width - 3, 20)))

    def wait(self, number: int) -> None:
        """Show that a pilot is being read."""
        self._shown = None
        self.say(Text(f"pilot {number}", style="bold"))

    def on_resize(self) -> None:
        """Use the new width."""
        if self._shown is not None:
            self.show(*self._shown)

    def say(self, text: Text | str) -> None:
        """Show a text."""
        self.query_one(".pane-text", Static).update(text)


def pilot_text(pilot: Pilot, view: PilotView, width: int) -> Text:
    """Return a pilot's head, nodes and events, on lines that are cut if they are longer than `width`."""
    lines = [Text(f"pilot {pilot.id}", style="bold"), *pilot_head(pilot, view, wide=False).split("\n")]
    nodes = sorted(view.nodes, key=lambda node: (not node.note, by_number(node.name)))
    if nodes:
        more = f" · {len(nodes):,}, these first" if len(nodes) > _NODES else ""
        lines += [Text(), Text(f"── Nodes and their slots{more}", style="bold")]
    taken = taken_cores(view)
    name = min(max([len(node.name) for node in nodes], default=0), _NAME)
    for node in nodes[:_NODES]:
        slots = plain(node.note) or node_map(node, taken.get(node.name, set()), max(width - name - 12, 8))
        lines.append(Text(f"{even(plain(node.name))[:name]:<{name}} {f'{node.busy}/{node.cores}':>7}  {slots}"))
    if view.events:
        lines += [Text(), Text("── Events, the last first", style="bold")]
    for at, words in view.events[: -_EVENTS - 1 : -1]:
        lines.append(Text.assemble((f"{clock(at)}  ", style("bright_black")), even(plain(words))))
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return Text("\n").join(lines)


def pilot_head(pilot: Pilot, view: PilotView, *, wide: bool) -> Text:
    """Return three lines on a pilot: its state, its cores, its time."""
    asked = pilot.description
    left = left_s(pilot, view.now)
    first = Text.assemble(
        pilot_state(pilot.state), ", on hold" * pilot.on_hold, f" at {asked.site or 'local'}",
        f", queue {asked.queue}" if asked.queue else "",
        f", job {pilot.batch}" if pilot.batch else "", f" ({pilot.native_state})" if pilot.native_state else "",
        f": {plain(pilot.reason)}" if pilot.reason else "",
    )  # fmt: skip
    nodes = pilot.nodes or asked.nodes
    on = f"{nodes} node{'s' * (nodes != 1)}"
    share = f" {bar(pilot.busy / pilot.cores if pilot.cores else 0.0, 20)}" if wide else ""
    second = f"cores {pilot.busy:,}/{pilot.cores:,} busy{share} on {on}"
    if pilot.started_at is None:
        second = f"{on} asked for"
    elif pilot.state in PILOT_FINAL:
        second = f"{pilot.cores:,} core{'s' * (pilot.cores != 1)} on {on}"
    if view.pace is not None:
        lately = "" if pilot.state in PILOT_FINAL else f"{rate(view.pace.lately, 'tasks')}, "
        second += f"  {lately}{view.pace.ended:,} ended, {view.pace.failed:,} failed"
    third = ""
    if left is not None:
        width = 20 if wide else 10
        third = f"walltime {bar(left / asked.walltime_s, width)} {span(left)} left of {span(asked.walltime_s)}"
    if pilot.description.scheduler:
        waited = (pilot.started_at or view.now) - (pilot.submitted_at or pilot.created_at)
        third += f"  waited {span(max(waited, 0.0))} in the queue"
    if pilot.trouble:
        third += f"  scheduler: {plain(pilot.trouble)}"
    return Text("\n").join([first, Text(second), Text(third.strip())])


def taken_cores(view: PilotView) -> dict[str, set[int]]:
    """Return the cores on which tasks run, by node."""
    taken: dict[str, set[int]] = {}
    for task in view.tasks:
        if task.started_at:
            taken.setdefault(task.node, set()).update(cores_of(task.slot))
    return taken


def node_map(node: NodeState, taken: set[int], room: int) -> str:
    """Return a map of a node's cores, with one cell per core if there is room."""
    if node.cores > room or len(taken) != node.busy:
        return bar(node.busy / node.cores if node.cores else 0.0, min(room, max(node.cores, 1)))
    names = sorted({*taken, *range(node.cores)})[: max(node.cores, len(taken))]
    return "".join("■" if core in taken else "·" for core in names)
