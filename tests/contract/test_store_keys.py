"""Keys of the store."""

from pathlib import Path

import pytest

from pilotmtc.errors import UsageError
from pilotmtc.protocol.base import Changed
from pilotmtc.protocol.client.maintenance import GetKeys, NewKey, RevokeKey
from pilotmtc.store.interface import Store


def test_key_is_made_once_and_revoked_once(store: Store, surroundings: Path) -> None:
    (made,) = store.call(NewKey("one")).keys
    assert store.call(NewKey("one")).keys == (made,)
    assert store.call(GetKeys()).keys == (made,)
    lines = (Path.home() / ".ssh" / "authorized_keys").read_text().splitlines()
    assert len(lines) == 1
    assert Path(made.path).is_file()
    assert store.call(RevokeKey("one")) == Changed(1)
    assert store.call(RevokeKey("one")) == Changed(0)
    assert store.call(GetKeys()).keys == ()


def test_bad_name_is_refused(store: Store) -> None:
    with pytest.raises(UsageError, match="key's name"):
        store.call(NewKey("../../x"))
