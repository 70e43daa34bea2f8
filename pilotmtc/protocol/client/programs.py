"""Requests of clients about the programs that tasks run."""

from pilotmtc.model import CampaignId, Program, Template
from pilotmtc.protocol.base import CLIENTS, Done, Effect, Execution, Handling, Reply, Request


class SeenProgram(Reply, frozen=True):
    """The answer to `LookAtProgram`.

    Attributes
    ----------
    unreadable
        Why the content of files is not known, by their paths.
    """

    program: Program
    unreadable: dict[str, str] = {}


class LookAtProgram(Request[SeenProgram], frozen=True, tag="look_at_program"):
    """Look at programs on the store's host; nothing is stored.

    Attributes
    ----------
    directory
        Whose git revision is wanted; empty: none.
    files
        Absolute paths of files whose content is wanted.
    maybe
        Paths of which those are wanted that are programs: files that may be executed, or have a script's suffix.
    """

    handling = Handling(said_by=CLIENTS, effect=Effect.READ, execution=Execution.THREAD)

    directory: str = ""
    files: tuple[str, ...] = ()
    maybe: tuple[str, ...] = ()


class CampaignProgram(Reply, frozen=True):
    """The answer to `GetProgram`: what was seen last, and the template of the campaign's first task."""

    program: Program | None = None
    template: Template | None = None


class GetProgram(Request[CampaignProgram], frozen=True, tag="program"):
    """Get what is known of the programs of a campaign."""

    handling = Handling(said_by=CLIENTS, effect=Effect.READ)

    campaign: CampaignId


class SetProgram(Request[Done], frozen=True, tag="set_program"):
    """Note what was seen of the programs of a campaign: attempts from now on run this. Safe to repeat.

    Files of earlier ones that are not in `program` stay as they were.
    """

    handling = Handling(said_by=CLIENTS, effect=Effect.DURABLE)

    campaign: CampaignId
    program: Program
