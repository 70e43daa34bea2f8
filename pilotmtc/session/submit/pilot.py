"""Describe a pilot, from options and the defaults of its site."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict, Unpack, cast

from pilotmtc.errors import UsageError
from pilotmtc.model import CampaignId, PilotDescription
from pilotmtc.resources.amounts import check_amounts
from pilotmtc.session.arguments import amount, campaign_word, check_names, flag, several, text, whole
from pilotmtc.session.needs import read_named
from pilotmtc.sites import LOCAL, Site, check_word, find_scheduler, get_site, scheduler_url
from pilotmtc.units import format_duration, parse_duration, parse_memory

if TYPE_CHECKING:
    from pilotmtc.pilots.preview import JobPreview

AUTO = "auto"
_MOST = 1_000_000
_ASKED = ("queue", "account", "qos", "constraint", "reservation", "login")


class PilotOptions(TypedDict, total=False):
    """Options of a pilot. If one is missing or None, the site's default applies; 0, "" and False are values.

    Attributes
    ----------
    site
        ``local``: this machine, without a scheduler; otherwise a site in ``sites.toml``.
    scheduler
        A scheduler of the store's host, without a site: ``slurm``, ``pbs``..., a SAGA URL, or ``auto``.
    nodes
        Number of nodes; more than one only through a scheduler.
    cores, gpus, memory, resources
        Amounts on each node for tasks; 0 cores or memory: all of it.
    walltime, idle
        It ends after this time, and after this time without a task (``"2h"`` or seconds); 0: never.
    queue, account, qos, constraint, reservation, exclusive
        For the scheduler.
    signal
        How long before the end of its walltime a scheduler's pilot is warned, and takes no new tasks.
    login
        How its nodes reach the store's host: ``[user@]host[:port]``; ``-``: without SSH, because they are on that host.
    setup
        Lines of shell in its job before the agent starts.
    campaign
        It takes only tasks of this campaign.
    pin
        Whether tasks are bound to their cores.
    """

    site: str
    scheduler: str
    nodes: int
    cores: int
    gpus: int
    memory: str | int
    resources: Mapping[str, float]
    walltime: str | float
    idle: str | float
    queue: str
    account: str
    qos: str
    constraint: str
    reservation: str
    exclusive: bool
    signal: str | float
    login: str
    setup: Sequence[str]
    campaign: int | str | None
    pin: bool


_READ: dict[str, Callable[[str, object], Any]] = {
    **dict.fromkeys(("nodes", "cores", "gpus"), whole),
    "campaign": campaign_word,
    **dict.fromkeys(("memory", "walltime", "idle", "signal"), amount),
    "resources": read_named,
    **dict.fromkeys(("site", "scheduler", *_ASKED), text),
    "setup": lambda name, value: several(name, value, text),
    **dict.fromkeys(("exclusive", "pin"), flag),
}


def describe(*, remote: bool = False, **options: Unpack[PilotOptions]) -> PilotDescription:
    """Return a checked description of a pilot.

    Parameters
    ----------
    remote
        Whether the store is on another host, whose scheduler cannot be found from here.

    Raises
    ------
    TypeError
        If an option is unknown.
    UsageError
        If a value is invalid, or there is no such site.
    """
    check_names(options, (*PilotOptions.__annotations__, "wait_s"))
    options = cast("PilotOptions", {key: _READ[key](key, value) for key, value in options.items() if value is not None})
    site = _site(options, remote=remote)

    def given(key: str, default: Any) -> Any:
        """Return the option's value, or else the site's; 0, "" and False are values, too, which override the site's."""
        value = options.get(key)
        return default if value is None else value

    cores, gpus, nodes = (given(key, getattr(site, key) if site else least) for key, least in _COUNTS)
    if not (0 <= cores <= _MOST and 0 <= gpus <= _MOST and 1 <= nodes <= _MOST):
        raise UsageError(
            f"a pilot of {nodes} node{'s' * (nodes != 1)} with {cores} core{'s' * (cores != 1)} and "
            f"{gpus} GPU{'s' * (gpus != 1)} cannot be: give 1 node or more, up to {_MOST}"
        )
    resources = options.get("resources", {})
    check_amounts("a pilot cannot have", resources)
    scheduler = site.scheduler_url if site else ""
    for key in _ASKED:
        check_word(key, given(key, ""), scheduler)
    walltime_s = parse_duration(given("walltime", site.walltime or 0 if site else 0))
    signal_s = parse_duration(options.get("signal", 0))
    if 0 < walltime_s <= signal_s:
        raise UsageError(
            f"--signal {format_duration(signal_s)} before the end of a walltime of {format_duration(walltime_s)} is "
            "before its beginning: give a longer --walltime, or a shorter --signal"
        )
    return PilotDescription(
        site=site.name if site else LOCAL,
        cores=cores,
        gpus=gpus,
        memory_bytes=parse_memory(given("memory", site.memory or 0 if site else 0)),
        named=dict(resources),
        walltime_s=walltime_s,
        idle_s=parse_duration(given("idle", site.idle or 0 if site else 0)),
        campaign=_campaign(options.get("campaign")),
        pin=options.get("pin", True),
        nodes=nodes,
        scheduler=scheduler,
        exclusive=bool(given("exclusive", site.exclusive if site else False)),
        signal_s=signal_s,
        setup=(*(site.setup if site else ()), *options.get("setup", ())),
        **{key: given(key, getattr(site, key) if site else "") for key in _ASKED},
    )


def _campaign(campaign: int | str | None) -> CampaignId | None:
    if isinstance(campaign, str):
        raise UsageError(f"campaign {campaign!r} is a name: give the number, for only the store knows names")
    return None if campaign is None else CampaignId(campaign)


def preview(description: PilotDescription) -> "JobPreview | None":
    """Return what a scheduler would be given for such a pilot; None if it needs no scheduler."""
    if not description.scheduler:
        return None
    from pilotmtc.pilots.preview import preview  # it loads much

    return preview(description)


_COUNTS = (("cores", 0), ("gpus", 0), ("nodes", 1))


def usual_options(site: str) -> dict[str, str | int]:
    """Return the defaults of pilots at `site`.

    Raises
    ------
    ConfigError
        If there is no such site.
    """
    known = Site() if site == LOCAL else get_site(site)
    names = ("nodes", "cores", "gpus", "memory", "walltime", "idle", *_ASKED)
    return {"site": site, **{name: getattr(known, name) for name in names}}


def _site(options: PilotOptions, *, remote: bool) -> Site | None:
    """Return the site; None: this machine without a scheduler."""
    name, scheduler = options.get("site") or LOCAL, options.get("scheduler") or ""
    if name != LOCAL:
        site = get_site(name)
        if scheduler:
            raise UsageError(f"--scheduler {scheduler} and --site {name}, which says its own: give one of them")
        return site
    if scheduler == AUTO:
        if remote:
            raise UsageError("the store is on another host, whose scheduler is not seen from here: name it, or a site")
        scheduler = find_scheduler()
    if scheduler:
        url = scheduler_url(scheduler)
        return Site(name=url.partition(":")[0], scheduler=url)
    asked = [key for key in (*_ASKED, "exclusive", "signal", "setup") if options.get(key)]
    if options.get("nodes", 1) > 1:
        asked.insert(0, "nodes")
    if asked:
        raise UsageError(
            f"only pilots of a scheduler take {', '.join(asked)}: name a site, or a scheduler such as {AUTO!r}"
        )
    return None
