"""Numbers and times in words. Pure."""

import time

from pilotmtc.units import format_duration


def count(n: int, noun: str) -> str:
    """Return ``1 task``, ``2,000 tasks``."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def rate(a_second: float, noun: str = "") -> str:
    """Return a rate per second, ``31 tasks/s``, or if it is low per hour, ``2 tasks/h``.

    Without a noun, for columns whose titles have it: ``31``, ``2/h``.
    """
    number, unit = f"{a_second:,.0f}" if a_second >= 100 else f"{a_second:.2g}", "s"
    if a_second < 0.01:
        an_hour = a_second * 3600
        number, unit = ("0", "s") if an_hour < 0.1 else (f"{an_hour:.2g}", "h")
    return f"{number} {noun}/{unit}" if noun else f"{number}{'' if unit == 's' else '/h'}"


def span(seconds: float | None) -> str:
    """Return a duration; empty for None."""
    return "" if seconds is None else format_duration(seconds)


def ago(then: float | None, now: float) -> str:
    """Return how long ago that was: ``3m05s ago``, ``in 10s``; empty for None."""
    if then is None:
        return ""
    past = now - then
    if abs(past) < 1:
        return "now"
    return f"{format_duration(round(past))} ago" if past > 0 else f"in {format_duration(round(-past))}"


def clock(at: float | None) -> str:
    """Return a time, with its date unless it is today; empty for None or 0."""
    if not at:
        return ""
    there, now = time.localtime(at), time.localtime()
    return time.strftime("%H:%M:%S" if there[:3] == now[:3] else "%b %d %H:%M", there)


def sentence(words: str) -> str:
    """Return a text that starts with a capital letter."""
    return words[:1].upper() + words[1:]
