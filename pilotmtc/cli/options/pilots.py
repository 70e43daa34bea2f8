"""The options of a scheduler's pilot."""

from typing import TYPE_CHECKING, Any, cast

import click

from pilotmtc.cli.command import Clearable
from pilotmtc.cli.options.types import F, Number, add_all

if TYPE_CHECKING:
    from pilotmtc.session import PilotOptions


def scheduler_options(function: F) -> F:
    """Add the options that a scheduler gets for a pilot."""
    return add_all(
        function,
        [
            click.option(
                "--scheduler", metavar="NAME",
                help="Scheduler on the store's host: slurm, pbs, moab, condor, or auto.",
            ),
            click.option("--nodes", type=Number(1), metavar="N", help="Nodes per pilot  [default: 1]"),
            click.option(
                "--queue", "--partition", "queue", cls=Clearable, metavar="NAME", help="Queue of the scheduler."
            ),
            click.option("--account", cls=Clearable, metavar="NAME", help="Account to charge."),
            click.option("--qos", cls=Clearable, metavar="NAME", help="Quality of service."),
            click.option("--constraint", cls=Clearable, metavar="WORDS", help="Features that the nodes must have."),
            click.option("--reservation", cls=Clearable, metavar="NAME", help="Reservation to run in."),
            click.option(
                "--exclusive/--no-exclusive", default=None, help="Share nodes with nobody; this is so without --cores."
            ),
            click.option(
                "--signal", metavar="TIME",
                help="Warning before the end of the walltime  [default: a tenth of it, 2m at the most]",
            ),
            click.option(
                "--login", cls=Clearable, metavar="HOST",
                help="How nodes reach the store's host, [user@]host[:port]; -: they are that host  "
                "[default: its name; with local: -]",
            ),
        ],
    )  # fmt: skip


SCHEDULER_NAMES = (
    "scheduler", "nodes", "queue", "account", "qos", "constraint", "reservation", "exclusive", "signal", "login",
)  # fmt: skip


def pilot_options(options: dict[str, Any]) -> "PilotOptions":
    """Remove the options of `scheduler_options` from `options`; return those that were given."""
    taken = {name: options.pop(name) for name in SCHEDULER_NAMES}
    return cast("PilotOptions", {name: value for name, value in taken.items() if value is not None})
