"""A place of its own for a store and its server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving import Place, a_place


@pytest.fixture
def place(tmp_path: Path, surroundings: Path) -> Iterator[Place]:
    """A store's path and its server; nothing of it remains, no descriptor either."""
    with a_place(tmp_path) as place:
        yield place
