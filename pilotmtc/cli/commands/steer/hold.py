"""``pilotmtc hold`` and ``release``."""

from typing import Any, cast

import click

from pilotmtc.cli.command import command, open_session
from pilotmtc.cli.options.selection import check_ids, condition_options, selected
from pilotmtc.cli.options.types import CAMPAIGN, F, Ids, add_all, json_option
from pilotmtc.cli.output import shapes, streams
from pilotmtc.text.numbers import count

_HOLD_EXAMPLES = """\
pilotmtc hold scan
pilotmtc hold 7 'night-*'
pilotmtc hold --task 17-20
pilotmtc hold -c scan --filter 'mass>3'
"""


def _options(function: F) -> F:
    return add_all(
        function,
        [
            click.argument("campaigns", metavar="[CAMPAIGN]...", type=CAMPAIGN, nargs=-1),
            click.option("--task", "ids", multiple=True, type=Ids(), metavar="ID", help="This task, or 17-20."),
            condition_options,
            json_option,
        ],
    )


@command("hold", examples=_HOLD_EXAMPLES)
@_options
def hold(campaigns: tuple[int | str, ...], as_json: bool, **options: Any) -> int:
    """Put each CAMPAIGN (a number or name), or some tasks, on hold: no pilot takes more of them.

    What runs goes on, and so does what a pilot has taken already. Without a CAMPAIGN, it is the tasks that meet every
    condition. To put a pilot on hold, see pilot hold.
    """
    return _set(campaigns, options, hold=True, as_json=as_json)


@command("release", examples="pilotmtc release scan\npilotmtc release --task 17-20\npilotmtc release --all\n")
@_options
def release(campaigns: tuple[int | str, ...], as_json: bool, **options: Any) -> int:
    """Let pilots take the tasks of each CAMPAIGN (a number or name), or some tasks, again, after hold.

    A campaign and its tasks are held and released apart: to release a campaign leaves tasks on hold that were put so by
    themselves.
    """
    return _set(campaigns, options, hold=False, as_json=as_json)


def _set(campaigns: tuple[int | str, ...], options: dict[str, Any], *, hold: bool, as_json: bool) -> int:
    select = selected(options)
    if campaigns and select:
        raise click.UsageError(
            "a CAMPAIGN is taken as a whole: to choose tasks of it, give -c and no CAMPAIGN by itself",
            click.get_current_context(),
        )
    if list(select) == ["campaign"]:
        campaigns, select = cast("tuple[int | str, ...]", select["campaign"]), {}
    if not campaigns and not select:
        raise click.UsageError("what? give a CAMPAIGN, --task or another condition", click.get_current_context())
    now = "on hold" if hold else "released"
    with open_session() as session:
        if select:
            check_ids(session, select)
            changed = (session.hold_tasks if hold else session.release_tasks)(**select)
            if as_json:
                streams.put_json({"changed": changed.changed, "unfit": changed.unfit})
            else:
                left = f"; {changed.unfit:,} skipped: pilots have taken them, or they have finished"
                streams.put([f"{count(changed.changed, 'task')} {now}{left if changed.unfit else ''}"])
            return 0
        for found in session.campaigns_named(*campaigns):
            done = (session.hold if hold else session.release)(found.id).changed
            if as_json:
                streams.put_json(shapes.campaign(session.campaign(found.id)))
            else:
                streams.put([f"campaign {found.id} is {now}" if done else f"campaign {found.id} was {now} already"])
    return 0
