"""Halting a campaign of which too many tasks fail."""

import re

from pilotmtc.errors import UsageError, shown
from pilotmtc.model import CampaignId
from pilotmtc.protocol.client.campaigns import SetHalt
from pilotmtc.session.link import StoreLink


def parse_halt(halt: str | int) -> tuple[int, float]:
    """Return after how many failures to halt, and after which part of all tasks; the other one is 0.

    Raises
    ------
    UsageError
        If `halt` is neither a number of tasks nor a percentage.
    """
    text = str(halt).strip()
    if re.fullmatch(r"\d{1,9}", text) and int(text):
        return int(text), 0.0
    part = re.fullmatch(r"(\d{1,3}(?:\.\d+)?)%", text)
    if part and 0 < float(part[1]) <= 100:
        return 0, float(part[1]) / 100
    raise UsageError(f"halt={shown(halt)} is neither a number of failures nor a part of the tasks: give 5, or 10%")


def set_halt(link: StoreLink, campaign: CampaignId, failed: int, share: float) -> None:
    """Let the store put the campaign on hold after so many failures, or after this part of its tasks has failed."""
    link.call(SetHalt(campaign, failed, share))
