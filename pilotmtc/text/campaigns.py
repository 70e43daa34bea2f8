"""Campaigns, in words."""

import shlex

from pilotmtc.model import Awaited, Campaign, Learned
from pilotmtc.protocol.client.campaigns import CALLS
from pilotmtc.text.numbers import count
from pilotmtc.text.plain import plain
from pilotmtc.units import format_duration, format_rate, type_memory

_TITLE = 60  # characters of a command


def campaign_title(campaign: Campaign) -> str:
    """Return a campaign's name, or else its command, which may be cut; and whether it is on hold, halted or waits."""
    line = plain(campaign.name) if campaign.name else command_title(campaign)
    if not campaign.name and len(line) > _TITLE:
        line = line[: _TITLE - 1] + "…"
    return f"{line}{marks_of(campaign)}".lstrip()


def marks_of(campaign: Campaign) -> str:
    """Return what stands behind a campaign's name: whether it is on hold, halted or waits for others."""
    held = " (halted)" if campaign.halted else " (on hold)" if campaign.on_hold else ""
    if others := ", ".join([str(one.campaign) for one in campaign.after if not one.met]):
        held += f" (after {others})"
    return held


def known_words(campaign: Campaign) -> str:
    """Return how many tasks of a campaign were known from earlier ones."""
    return f"{campaign.known:,} of {campaign.received:,} are known: their results are those of earlier tasks"


def command_title(campaign: Campaign) -> str:
    """Return the command of a campaign's first task, on one line, with placeholders; empty if there is none.

    Of calls of functions it is the first function, as ``work(...)``.
    """
    words = campaign.command
    if campaign.key.startswith(CALLS):
        words = tuple([word.removesuffix("({args})") + "(...)" for word in words])
    line = words[0] if len(words) == 1 else " ".join(word if "{" in word else shlex.quote(word) for word in words)
    return plain(" ".join(line.split()))


def awaited_words(one: Awaited) -> str:
    """Return which campaign is waited for, and how far it is."""
    which = f"campaign {one.campaign}{f' ({plain(one.name)})' if one.name else ''}"
    bad = f"{count(one.bad, 'task')} of it {'is' if one.bad == 1 else 'are'} not DONE"
    if one.failed:
        return f"{which}, which has ended, but {bad}"
    if not one.left:
        return f"{which}, whose submission has not finished"
    left = f"{count(one.left, 'task')} of it {'has' if one.left == 1 else 'have'} not ended"
    return f"{which}: {left}{f', and {bad}' if one.bad else ''}"


def waits_words(campaign: Campaign) -> list[str]:
    """Return for which campaigns this one waits."""
    return [awaited_words(one) for one in campaign.after if not one.met]


def learned_words(one: Learned) -> str:
    """Return what later tasks begin with, and why."""
    before, after = one.before, one.after
    parts = []
    if after.memory_bytes != before.memory_bytes:
        parts.append(f"{type_memory(after.memory_bytes)} of memory in place of {type_memory(before.memory_bytes)}")
    if after.time_limit_s != before.time_limit_s:
        limits = format_duration(after.time_limit_s), format_duration(before.time_limit_s)
        parts.append(f"a time limit of {limits[0]} in place of {limits[1]}")
    return f"{' and '.join(parts)}, which was enough for {count(one.tasks, 'task')} that had lacked it"


def steering_rows(campaign: Campaign) -> list[tuple[str, str]]:
    """Return what holds a campaign's tasks back, and what they begin with: names and words."""
    hold = f"until it is released{', because of its failures' * campaign.halted}" if campaign.on_hold else ""
    met = ", ".join([f"campaign {one.campaign}" for one in campaign.after if one.met])
    return [
        ("on hold", hold),
        *[("waits for", words) for words in waits_words(campaign)],
        ("ran after", met),
        ("at once", f"at most {count(campaign.max_running, 'task')}" if campaign.max_running else ""),
        ("starts", f"at most {format_rate(campaign.start_rate)}" if campaign.start_rate else ""),
        *[("learned", f"tasks begin with {learned_words(one)}") for one in campaign.learned],
    ]
