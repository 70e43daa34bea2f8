"""The options of pilots: of a scheduler's, and of those that a command starts for its own tasks."""

from typing import TYPE_CHECKING, Any, cast

import click

from pilotmtc.cli.command import Clearable
from pilotmtc.cli.options.amounts import amount_names, pilot_amounts, take_amounts
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


def own_pilot_options(function: F) -> F:
    """Add what pilots of a command's own may use, and what a scheduler gets for them."""
    return add_all(
        function,
        [
            click.option("-j", "--pilot-cores", type=Number(1), metavar="N", help="Cores to use  [default: all]"),
            click.option("--pilot-gpus", type=Number(0), metavar="N", help="GPUs to use  [default: 0]"),
            pilot_amounts("pilot-"),
            scheduler_options,
        ],
    )  # fmt: skip


OWN_PILOT_NAMES = ("pilot_cores", "pilot_gpus", *amount_names("pilot-"), *SCHEDULER_NAMES)


def own_pilot(options: dict[str, Any]) -> "PilotOptions":
    """Remove the options of `own_pilot_options` from `options`; return those that were given."""
    asked = pilot_options(options)
    given = take_amounts(options, "pilot-") | {key: options.pop(f"pilot_{key}") for key in ("cores", "gpus")}
    return cast("PilotOptions", asked | {key: value for key, value in given.items() if value is not None})
