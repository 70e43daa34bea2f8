"""The last overview, so that the next one has only what is new."""

from pilotmtc.model import Campaign, CampaignId, Pilot, PilotId
from pilotmtc.protocol.records import FailureGroup


class LastOverview:
    """The last overview.

    Attributes
    ----------
    seq
        Its number; numbers of earlier servers are lower.
    first_seq
        The first number to which later overviews can add.
    pilots, campaigns
        Records by id, each with the number of the overview that was the first with this record.
    failed
        When `failures` were determined: number of FAILED tasks, and of those that had become FAILED.
    seen
        What users have marked as seen.
    held
        How many READY tasks are on hold, by campaign.
    """

    def __init__(self, seq: int) -> None:
        self._begin(seq)

    def _begin(self, seq: int) -> None:
        self.seq = seq
        self.first_seq = seq
        self.pilots: dict[PilotId, tuple[Pilot, int]] = {}
        self.campaigns: dict[CampaignId, tuple[Campaign, int]] = {}
        self.failures: tuple[FailureGroup, ...] = ()
        self.failures_seq = seq
        self.looked_at = 0
        self.silent: frozenset[PilotId] = frozenset()
        self.failed = (0, 0)
        self.look_again_at = 0.0
        self.seen: dict[str, float] = {}
        self.seen_seq = seq
        self.held: dict[CampaignId, int] = {}

    def mark(self) -> int:
        """Return the number of the last overview."""
        return self.seq

    def rewind(self, mark: int) -> None:
        """Show everything again if the last overview was made after `mark`, because no client has received it."""
        if self.seq != mark:
            self._begin(self.seq + 1)

    def commit(self) -> None:
        """Do nothing: the last overview is valid."""
