"""Someone at a shell; and a store in which things of every kind have happened, made once."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.user import User

# Ids: good 1 to 3, bad 4, after-bad 5, slow 6, gone 7, shot 8, large 9, waits-for-a-licence 10.
CAMPAIGN = """\
name = "mix"

[[task]]
name = "good-{n}"
command = "echo out {n}; echo more; echo err {n} >&2"
grid = { n = "1..3" }
tags = ["night", "n{n}"]
env = { COLOUR = "blue" }

[[task]]
name = "bad"
command = "echo try {attempt}; echo oh >&2; echo broken >&2; exit 3"
retries = 1

[[task]]
name = "after-bad"
command = "true"
after = "bad"

[[task]]
name = "slow"
command = ["sleep", "30"]
time_limit = 0.2

[[task]]
name = "gone"
command = ["no-such-program", "x y"]

[[task]]
name = "shot"
command = "kill -SEGV $$"

[[task]]
name = "large"
command = "head -c 200000 /dev/zero | tr '\\\\0' x"

[[task]]
name = "licensed"
command = "true"
resources = { licence = 1 }
"""


@pytest.fixture
def user(tmp_path: Path, surroundings: Path) -> Iterator[User]:
    user = User(tmp_path)
    yield user
    user.leave()


@pytest.fixture(scope="session")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which the campaign above was run by a pilot, except for what needs a licence."""
    user = User(tmp_path_factory.mktemp("history"))
    runtime = user.here / "run"
    runtime.mkdir(mode=0o700)
    user.env |= {"HOME": str(user.here), "XDG_RUNTIME_DIR": str(runtime), "PILOTMTC_SERVER_LINGER_S": "0.2"}
    user.file("campaign.toml", CAMPAIGN)
    assert user.cli("submit", "campaign.toml").out == "1\n"
    user.cli("pilot", "submit", "--cores", "2", "--idle", "1s")
    user.cli("pilot", "list", "--json")
    user.wait_counts(DONE=4, FAILED=4, SKIPPED=1, READY=1)
    user.wait_alone()
    return user.store


@pytest.fixture
def past(user: User, history: Path) -> User:
    """The same user with that store."""
    shutil.copy(history, user.store)
    os.chmod(user.store, 0o600)
    return user
