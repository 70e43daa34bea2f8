"""Campaigns, in words."""

import shlex

from pilotmtc.model import Campaign
from pilotmtc.protocol.client.campaigns import CALLS
from pilotmtc.text.plain import plain

_TITLE = 60  # characters of a command


def campaign_title(campaign: Campaign) -> str:
    """Return a campaign's name, or else its command, which may be cut; and whether it is on hold or halted."""
    line = plain(campaign.name) if campaign.name else command_title(campaign)
    if not campaign.name and len(line) > _TITLE:
        line = line[: _TITLE - 1] + "…"
    held = " (halted)" if campaign.halted else " (on hold)" if campaign.on_hold else ""
    return f"{line}{held}".lstrip()


def command_title(campaign: Campaign) -> str:
    """Return the command of a campaign's first task, on one line, with placeholders; empty if there is none.

    Of calls of functions it is the first function, as ``work(...)``.
    """
    words = campaign.command
    if campaign.key.startswith(CALLS):
        words = tuple([word.removesuffix("({args})") + "(...)" for word in words])
    line = words[0] if len(words) == 1 else " ".join(word if "{" in word else shlex.quote(word) for word in words)
    return plain(" ".join(line.split()))
