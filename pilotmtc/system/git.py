"""The git revision of a directory."""

import os

_LONGEST_S = 5.0  # on a slow file system, it is not known


def revision(directory: str) -> tuple[str, bool]:
    """Return the commit that a directory is at, and whether files that git knows differ from it.

    The commit is empty if the directory is in no repository, or if git is missing, refuses or takes too long.
    """
    if not _in_repository(directory):
        return "", False
    import subprocess

    environ = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    # Neither take locks, which the user's own git may need, nor run what the repository says.
    command = ["git", "--no-optional-locks", "-c", "core.fsmonitor=false", "-C", directory, "status"]
    try:
        found = subprocess.run(
            [*command, "--porcelain=v2", "--branch", "--untracked-files=no"],
            env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            timeout=_LONGEST_S, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return "", False
    if found.returncode != 0:
        return "", False
    lines = found.stdout.decode("utf-8", "replace").splitlines()
    commits = [line.split()[-1] for line in lines if line.startswith("# branch.oid ")]
    if not commits or commits[0].startswith("("):  # (initial): nothing is committed yet
        return "", False
    return commits[0], any(not line.startswith("#") for line in lines)


def _in_repository(directory: str) -> bool:
    """Return whether this directory or one above it may be a repository."""
    at = os.path.realpath(directory)
    while True:
        if os.path.lexists(os.path.join(at, ".git")):
            return True
        above = os.path.dirname(at)
        if above == at:
            return False
        at = above
