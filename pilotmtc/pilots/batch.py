"""Starting a pilot through a scheduler, which the store's server asks."""

import os
import time
from collections.abc import Iterable, Mapping, MutableMapping

from pilotmtc.errors import SubmitRejected, UsageError
from pilotmtc.model import Pilot, PilotDescription
from pilotmtc.protocol.client.pilots import CreatePilot, GetPilots
from pilotmtc.states import PilotState
from pilotmtc.store.interface import Store

_LOOK_S = 0.1
# Fields of a description that not every scheduler supports, and their names in dialects.
_FIELDS = {name: name for name in ("queue", "account", "qos", "constraint", "reservation", "exclusive")} | {
    "gpus": "gpus_per_node"
}
# Variables with which schedulers' commands are found and find their server. The store gets none of a user's others.
_NAMES = (
    "PATH", "LD_LIBRARY_PATH", "PBS_CONF_FILE", "PBS_DEFAULT", "PBS_SERVER", "SLURM_CONF", "CONDOR_CONFIG",
    "MOABHOMEDIR",
)  # fmt: skip


def scheduler_environ(env: Mapping[str, str]) -> dict[str, str]:
    """Return those of a submitter's variables that are needed to find a scheduler's commands.

    The store's server, which asks the scheduler, may have been started by an agent's login with a short PATH.
    """
    return {name: env[name] for name in _NAMES if env.get(name)}


def adopt(own: MutableMapping[str, str], others: Iterable[Mapping[str, str]]) -> None:
    """Add submitters' variables to this process's `own` variables, which take precedence."""
    paths = own.get("PATH", "").split(os.pathsep)
    for each in others:
        for name, value in each.items():
            if name == "PATH":
                paths += [path for path in value.split(os.pathsep) if os.path.isabs(path)]
            else:
                own.setdefault(name, value)
    own["PATH"] = os.pathsep.join(dict.fromkeys(path for path in paths if path))


def refuse_unmapped(description: PilotDescription) -> None:
    """Raise `UsageError` if the scheduler has no option for a field, as far as this is known here; it names the field.

    What depends on the scheduler's version is refused on its host.
    """
    from importlib.metadata import entry_points  # slow to import, and most programs need no scheduler

    scheme = description.scheduler.partition(":")[0]
    found = list(entry_points(group="pilotmtc.dialects", name=scheme))
    if len(found) != 1:  # it may be on another host; if not, the adaptors say what is wrong
        return
    try:
        maps = found[0].load().maps
    except (ImportError, AttributeError):  # the adaptors report it where they ask the scheduler
        return
    refused = [
        f"{name} ({value!r})"
        for name, field in _FIELDS.items()
        if (value := getattr(description, name)) and field not in maps
    ]
    if refused:
        raise UsageError(f"{scheme} jobs cannot have {', '.join(refused)}: leave it out, or use another scheduler")


def start_queued(store: Store, description: PilotDescription, wait_s: float = 30.0) -> Pilot:
    """Start a pilot through the scheduler of the store's host, and return its record.

    Parameters
    ----------
    store
        A connection to the store.
    description
        The pilot to start.
    wait_s
        How long to wait for the scheduler to accept it before returning anyway; 0: do not wait.

    Raises
    ------
    SubmitRejected
        If the scheduler refuses.
    UsageError
        If the scheduler has no option for a field; no pilot is created then.
    """
    refuse_unmapped(description)
    key = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.urandom(3).hex()}"
    pilot = store.call(CreatePilot(key, description)).pilots[0]
    until = time.monotonic() + wait_s
    while pilot.state is PilotState.NEW and not pilot.trouble and time.monotonic() < until:
        time.sleep(_LOOK_S)
        pilot = store.call(GetPilots(id=pilot.id)).pilots[0]
    if pilot.state is PilotState.FAILED:
        raise SubmitRejected(f"pilot {pilot.id}: {pilot.reason}")
    return pilot
