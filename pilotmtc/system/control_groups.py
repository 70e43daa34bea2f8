"""Where this process is among the control groups of Linux."""

import os
import re
from collections.abc import Iterator
from pathlib import Path


def own(controller: str, root: Path = Path("/")) -> Path | None:
    """Return the directory of this process's control group; None if it is not to be seen."""
    return next(own_and_above(controller, root), None)


def own_and_above(controller: str, root: Path = Path("/")) -> Iterator[Path]:
    """Yield the directories of this process's control group and its parents.

    Parameters
    ----------
    controller
        Which hierarchy of version 1; ``""`` is version 2.
    root
        What stands for ``/``, so that tests can provide other files.
    """
    group = _group(root, controller)
    mount = _mount(root, controller)
    if group is None or mount is None:
        return
    top, point = mount
    # In a container, the file system may start at the container's own group, or not show it at all.
    inside = os.path.relpath(group, top) if group == top or group.startswith(top.rstrip("/") + "/") else "."
    base = root / point.lstrip("/")
    path = (base / inside).absolute()
    while True:
        yield path
        if path == base.absolute():
            return
        path = path.parent


def read(path: Path) -> str:
    """Return the text of a control file; an empty one if it does not exist or may not be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def counter(path: Path, name: str) -> int:
    """Return a counter in a control file of several, such as ``memory.events``; 0 if it is not there."""
    for line in read(path).splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.isdecimal():
            return int(value)
    return 0


def _group(root: Path, controller: str) -> str | None:
    for line in read(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if (controller in names.split(",")) if controller else number == "0" and not names:
            return os.path.normpath(path)
    return None


def _mount(root: Path, controller: str) -> tuple[str, str] | None:
    """Return the group at the root of a hierarchy's file system, and its mount point."""
    for line in read(root / "proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        fields, more = before.split(" "), after.split(" ")
        if len(fields) < 5 or len(more) < 3:
            continue
        if (more[0] == "cgroup" and controller in more[2].split(",")) if controller else more[0] == "cgroup2":
            return _unescaped(fields[3]), _unescaped(fields[4])
    return None


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
