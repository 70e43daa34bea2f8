"""Colours of a theme that can be read: text has a contrast of at least 4.5 to 1 wherever it may stand. Pure."""

from collections.abc import Mapping, Sequence

from rich.terminal_theme import TerminalTheme
from textual.color import BLACK, WHITE, Color

LEAST = 4.5
_GOAL = 4.7  # more than the least, because colours are rounded
_TINT = 0.2  # of the cursor's row and the first line
# This app's own variables, for themes that leave all colours to the terminal.
OWN_VARIABLES = {
    "cursor": "ansi_blue", "cursor-blurred": "ansi_bright_black", "line": "ansi_blue", "line-dead": "ansi_red",
}  # fmt: skip
_FEW = ((255, 85, 85), (85, 255, 85), (255, 255, 85), (85, 170, 255), (255, 85, 255), (85, 255, 255))
# Texts of Textual's own widgets that some themes draw too faintly.
_TEXTS = (
    "text-primary", "text-secondary", "text-warning", "text-error", "text-success", "text-accent",
    "footer-foreground", "footer-key-foreground", "footer-description-foreground",
)  # fmt: skip


def contrast(one: Color, other: Color) -> float:
    """Return the contrast of two colours, from 1 to 21, as the Web's accessibility guidelines define it."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: Color) -> float:
    parts = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour.normalized]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def readable(colour: Color, grounds: Sequence[Color], *, dark: bool) -> Color:
    """Return `colour`, as much lighter or darker as necessary to be read on all `grounds`."""
    towards = WHITE if dark else BLACK
    for step in range(41):
        found = colour.lighten(step / 40) if dark else colour.darken(step / 40)
        if all(contrast(found, ground) >= _GOAL for ground in grounds):
            return found
    return towards


def variables_of(variables: Mapping[str, str], *, dark: bool) -> dict[str, str]:
    """Return a theme's variables with readable texts, and this app's own variables."""
    background = Color.parse(variables["background"])
    primary, error = Color.parse(variables["primary"]), Color.parse(variables["error"])
    cursor, dead = background.blend(primary, _TINT), background.blend(error, _TINT)
    grounds = _grounds(variables)
    found = {name: readable(Color.parse(variables[name]), grounds, dark=dark).hex for name in _TEXTS}
    foreground = readable(Color.parse(variables["foreground"]), grounds, dark=dark)
    muted = readable(background.blend(foreground, 0.5), grounds, dark=dark).hex
    return {
        **variables, **found, "foreground": foreground.hex, "text": foreground.hex, "text-muted": muted,
        "text-disabled": muted, "cursor": cursor.hex, "cursor-blurred": background.blend(primary, _TINT / 2).hex,
        "line": cursor.hex, "line-dead": dead.hex, "button-foreground": foreground.hex,
    }  # fmt: skip


def terminal_theme(variables: Mapping[str, str], *, dark: bool, few: bool) -> TerminalTheme:
    """Return what the names of colours in cells mean; with `few`, for a terminal that has 16 colours."""
    grounds = _grounds(variables)[:3]

    def seen(colour: str) -> tuple[int, int, int]:
        return readable(Color.parse(colour), grounds, dark=dark).rgb

    red, green, yellow = seen(variables["error"]), seen(variables["success"]), seen(variables["warning"])
    blue, magenta, cyan = seen("#5a8dee"), seen("#c678dd"), seen("#00b7c7")
    if few and dark:  # those of which the terminal's colour of that name is the nearest
        red, green, yellow, blue, magenta, cyan = _FEW
    plain, muted = Color.parse(variables["foreground"]).rgb, Color.parse(variables["text-muted"]).rgb
    row = [BLACK.rgb, red, green, yellow, blue, magenta, cyan, plain]
    return TerminalTheme(Color.parse(variables["background"]).rgb, plain, row, [muted, *row[1:]])


def _grounds(variables: Mapping[str, str]) -> tuple[Color, ...]:
    """Return all backgrounds on which text may stand."""
    background, primary = Color.parse(variables["background"]), Color.parse(variables["primary"])
    error = Color.parse(variables["error"])
    return (
        background, Color.parse(variables["surface"]), background.blend(primary, _TINT),
        Color.parse(variables["panel"]), background.blend(error, _TINT),
    )  # fmt: skip
