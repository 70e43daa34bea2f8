"""States, bars and aligned text for cells of tables. Pure."""

import math
import os

from rich.text import Text

from pilotmtc.states import PilotState, TaskState

# A symbol beside each colour, because the screen must be readable without colours.
TASK_MARKS = {
    TaskState.WAITING: ("◌", "dim"), TaskState.READY: ("○", ""), TaskState.CLAIMED: ("◔", "cyan"),
    TaskState.RUNNING: ("▶", "bold cyan"), TaskState.DONE: ("✓", "green"), TaskState.FAILED: ("✗", "bold red"),
    TaskState.CANCELED: ("⊘", "yellow"), TaskState.SKIPPED: ("↷", "yellow"),
}  # fmt: skip
PILOT_MARKS = {
    PilotState.NEW: ("◌", "dim"), PilotState.PENDING: ("○", "yellow"), PilotState.ACTIVE: ("▶", "bold green"),
    PilotState.DRAINING: ("◔", "cyan"), PilotState.DONE: ("✓", "green"), PilotState.FAILED: ("✗", "bold red"),
    PilotState.CANCELED: ("⊘", "yellow"),
}  # fmt: skip
# Parts of a bar if there are no colours.
_GLYPHS = {"green": "█", "red": "X", "yellow": "▚", "cyan": "▓", "bright_black": "░"}
_ATTRIBUTES = frozenset({"bold", "dim", "reverse"})
_EIGHTHS = " ▏▎▍▌▋▊▉"


def has_colours() -> bool:
    """Return whether colours may be used: https://no-color.org."""
    return not os.environ.get("NO_COLOR")


def style(words: str) -> str:
    """Return a style; without colours, it is empty, because shades of grey would be hard to read."""
    return words if has_colours() else " ".join(word for word in words.split() if word in _ATTRIBUTES)


def bar(fraction: float, width: int) -> str:
    """Return a bar of `width` cells, a `fraction` of which is full."""
    eighths = round(max(0.0, min(1.0, fraction)) * width * 8)
    full, rest = divmod(eighths, 8)
    return f"{'█' * full}{_EIGHTHS[rest] if rest else ''}".ljust(width, "░")


def parts_bar(parts: list[tuple[int, str]], width: int) -> Text:
    """Return a bar of `width` cells, shared by counts: ``(count, colour)``, each with at least one cell."""
    total = sum(count for count, _ in parts)
    if not total:
        return Text("░" * width, style="dim")
    shares = [(max(1, math.floor(count / total * width)) if count else 0, colour) for count, colour in parts]
    spare = width - sum(cells for cells, _ in shares)
    largest = max(range(len(shares)), key=lambda index: shares[index][0])
    text = Text()
    for index, (cells, colour) in enumerate(shares):
        glyph = "█" if has_colours() else _GLYPHS[colour]
        text.append(glyph * max(0, cells + (spare if index == largest else 0)), style=style(colour))
    text.truncate(width)
    return text


def task_state(state: TaskState) -> Text:
    """Return a task's state with its symbol."""
    mark, look = TASK_MARKS[state]
    return Text(f"{mark} {state.name}", style=style(look))


def pilot_state(state: PilotState) -> Text:
    """Return a pilot's state with its symbol."""
    mark, look = PILOT_MARKS[state]
    return Text(f"{mark} {state.name}", style=style(look))


def right(text: str) -> Text:
    """Return a cell that is aligned to the right, with an ellipsis if it is cut off."""
    return Text(text, justify="right", no_wrap=True, overflow="ellipsis")
