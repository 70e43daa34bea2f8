"""Campaigns before they are in the store: files that describe them, and the messages that submit them."""

from pilotmtc.campaign.file import CampaignFile, load, loads
from pilotmtc.campaign.submit import TaskSpec, chunks

__all__ = ["CampaignFile", "TaskSpec", "chunks", "load", "loads"]
