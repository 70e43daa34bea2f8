"""States, bars and aligned text for cells of tables. Pure."""

import os
from collections.abc import Sequence

from rich.text import Text

from pilotmtc.model import Campaign
from pilotmtc.states import PilotState, TaskState

# A symbol beside each colour, because the screen must be readable without colours.
TASK_MARKS = {
    TaskState.WAITING: ("◌", "bright_black"), TaskState.READY: ("○", ""), TaskState.CLAIMED: ("◔", "blue"),
    TaskState.RUNNING: ("▶", "bold cyan"), TaskState.DONE: ("✓", "green"), TaskState.FAILED: ("✗", "bold red"),
    TaskState.CANCELED: ("⊘", "yellow"), TaskState.SKIPPED: ("↷", "yellow"),
}  # fmt: skip
PILOT_MARKS = {
    PilotState.NEW: ("◌", "bright_black"), PilotState.PENDING: ("○", "yellow"), PilotState.ACTIVE: ("▶", "bold green"),
    PilotState.DRAINING: ("◔", "cyan"), PilotState.DONE: ("✓", "green"), PilotState.FAILED: ("✗", "bold red"),
    PilotState.CANCELED: ("⊘", "yellow"),
}  # fmt: skip
# In bars, from what is over to what has not begun.
TASK_ORDER = (
    TaskState.DONE, TaskState.FAILED, TaskState.CANCELED, TaskState.SKIPPED, TaskState.RUNNING, TaskState.CLAIMED,
    TaskState.READY, TaskState.WAITING,
)  # fmt: skip
TASK_COLOURS = {
    TaskState.DONE: "green", TaskState.FAILED: "red", TaskState.CANCELED: "yellow", TaskState.SKIPPED: "yellow",
    TaskState.RUNNING: "cyan", TaskState.CLAIMED: "blue", TaskState.READY: "bright_black",
    TaskState.WAITING: "bright_black",
}  # fmt: skip
# Parts of a bar if there are no colours.
_GLYPHS = {"green": "█", "red": "X", "yellow": "▚", "cyan": "▓", "blue": "▒", "bright_black": "░"}
_ATTRIBUTES = frozenset({"bold", "reverse"})
_EIGHTHS = " ▏▎▍▌▋▊▉"


# Terminals do not agree on how wide joined emoji are: without what joins them, each is drawn alone.
_JOINING = {
    **dict.fromkeys((0x200B, 0x200D, 0x2060, 0xFEFF, *range(0xFE00, 0xFE10), *range(0x1F3FB, 0x1F400))),
    **{0x1F1E6 + index: chr(ord("A") + index) for index in range(26)},  # a flag is two such letters
}


def even(text: str) -> str:
    """Return `text` so that all terminals draw it equally wide."""
    return text if text.isascii() else text.translate(_JOINING)


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
    """Return a bar of `width` cells, shared by counts, ``(count, colour)``, as exactly as whole cells can."""
    total = sum(count for count, _ in parts)
    if not total:
        return Text("░" * width, style=style("bright_black"))
    text = Text()
    for (_, colour), cells in zip(parts, shares([count for count, _ in parts], width), strict=True):
        text.append(("█" if has_colours() else _GLYPHS[colour]) * cells, style=style(colour))
    return text


def campaign_bar(campaign: Campaign, width: int) -> Text:
    """Return a bar of a campaign's tasks by state."""
    return parts_bar([(campaign.counts.get(state, 0), TASK_COLOURS[state]) for state in TASK_ORDER], width)


def shares(counts: Sequence[int], width: int) -> list[int]:
    """Return whole shares of `width` for `counts`, by largest remainder: none is off by a cell."""
    total = sum(counts)
    found = [count * width // total for count in counts]
    rest = sorted(range(len(counts)), key=lambda index: -(counts[index] * width % total))
    for index in rest[: width - sum(found)]:
        found[index] += 1
    return found


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
