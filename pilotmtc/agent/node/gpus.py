"""Which GPUs a job has, according to environment variables, and which of them a task gets. Pure."""

import re
from collections.abc import Iterable, Mapping

from pilotmtc.errors import ConfigError

VARIABLES = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "ZE_AFFINITY_MASK")
_NAME = re.compile(r"[A-Za-z0-9_./:+-]+", re.ASCII)
_NONE = ("-1", "NoDevFiles")  # these end a list, as in CUDA; SLURM sets the second one for a job without GPUs


def visible(env: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Return the names of GPUs (numbers or UUIDs) in each variable that is set.

    Raises
    ------
    ConfigError
        If a variable cannot be read.
    """
    found = {}
    for variable in VARIABLES:
        if variable not in env:
            continue
        names = [name.strip() for name in env[variable].split(",") if name.strip()]
        end = next((number for number, name in enumerate(names) if name in _NONE), len(names))
        if odd := [name for name in names[:end] if not _NAME.fullmatch(name)]:
            raise ConfigError(f"{variable}={env[variable]!r}: {odd[0]!r} is not the number or UUID of a GPU")
        found[variable] = tuple(names[:end])
    return found


def count(env: Mapping[str, str]) -> int:
    """Return the number of GPUs in the variables; 0 if none is set."""
    return max(map(len, visible(env).values()), default=0)


def lists(env: Mapping[str, str], asked: int) -> dict[str, tuple[str, ...]]:
    """Return the names of `asked` GPUs for each variable that tasks get: the job's own, or numbers from 0.

    Raises
    ------
    ConfigError
        If the job has fewer GPUs.
    """
    if not asked:
        return {}
    given = visible(env)
    if not given:
        return dict.fromkeys(VARIABLES[:2], tuple(map(str, range(asked))))
    listed = {variable: names for variable, names in given.items() if names} or given
    for variable, names in listed.items():
        if len(names) < asked:
            raise ConfigError(
                f"{asked} GPUs are asked for, and {variable}={env[variable]} lists {len(names)}: ask for as many, "
                f"or unset {variable}"
            )
    return listed


def elsewhere(env: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of an agent's `env` that are valid on another node, whose `own` variables are given."""
    lost = set(VARIABLES) if any(variable in own for variable in VARIABLES) else set()
    # Numbers are probably the same on all nodes of a job; a UUID belongs to one node.
    lost |= {variable for variable, names in visible(env).items() if not all(name.isdecimal() for name in names)}
    return {name: value for name, value in env.items() if name not in lost}


def chosen(names: Mapping[str, tuple[str, ...]], indexes: Iterable[int]) -> dict[str, str]:
    """Return the variables for a task or rank with the GPUs at these indexes of the lists."""
    own = list(indexes)
    return {variable: ",".join(each[index] for index in own) for variable, each in names.items()}
