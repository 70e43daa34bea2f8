"""Options for amounts of resources, from the table of their kinds."""

from collections.abc import Callable
from typing import Any

import click

from pilotmtc.cli.options.types import Assignment, F, add_all, assigned
from pilotmtc.resources.kinds import COUNTED, MEMORY


def task_amounts(function: F) -> F:
    """Add the options for what a task needs."""
    return _options(function, "", "Amount of a named resource: of the pilot's nodes, or one that the store limits.")


def pilot_amounts(prefix: str = "") -> Callable[[F], F]:
    """Return a decorator that adds the options for what each node of a pilot has; `prefix` comes before their names."""
    return lambda function: _options(function, prefix, "Named resource per node, such as licences.", pilot=True)


def _options(function: F, prefix: str, named_help: str, *, pilot: bool = False) -> F:
    return add_all(
        function,
        [
            *(
                click.option(
                    f"--{prefix}{kind.name}", metavar=kind.metavar, help=kind.pilot_help if pilot else kind.task_help
                )
                for kind in (MEMORY, *COUNTED.values())
            ),
            click.option(
                f"--{prefix}resource", f"{prefix.replace('-', '_')}resources", multiple=True, metavar="NAME=N",
                type=Assignment("resource", number=True), help=named_help,
            ),
        ],
    )  # fmt: skip


def amount_names(prefix: str = "") -> tuple[str, ...]:
    """Return the names of the options with this prefix, as keys."""
    return tuple([f"{prefix.replace('-', '_')}{name}" for name in ("memory", *COUNTED, "resources")])


def take_amounts(options: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Remove the options of `task_amounts` or `pilot_amounts` from `options`; return them as a session takes them."""
    prefix = prefix.replace("-", "_")
    counted = [(name, options.pop(f"{prefix}{name}")) for name in COUNTED]
    pairs = [*options.pop(f"{prefix}resources"), *((name, amount) for name, amount in counted if amount is not None)]
    return {"memory": options.pop(f"{prefix}memory"), "resources": assigned("resource", pairs)}
