"""A store for the screen."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving import Place, a_place


@pytest.fixture
def place(tmp_path: Path, surroundings: Path) -> Iterator[Place]:
    """Give a store's path; its server, if a test starts one, is ended."""
    with a_place(tmp_path) as found:
        yield found
