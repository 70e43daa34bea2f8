"""The part of a session about the store itself: its file, how it is opened, its limits and keys."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from pilotmtc.errors import UsageError
from pilotmtc.protocol.client.maintenance import (
    CheckStore,
    Compacted,
    CompactStore,
    GetKeys,
    GetLimits,
    GetStore,
    NewKey,
    RevokeKey,
    SetLimits,
    SetMode,
    SnapshotStore,
    StoreInfo,
)
from pilotmtc.protocol.records import Key, Limit
from pilotmtc.session.arguments import by_name, number
from pilotmtc.session.link import StoreLink
from pilotmtc.store.location import locate


class Maintenance:
    """The part of a session that is about the store itself."""

    _link: StoreLink

    def info(self) -> StoreInfo:
        """Return facts about the store's file and server, and the number of tasks."""
        return self._link.call(GetStore())

    def limits(self) -> tuple[Limit, ...]:
        """Return the limits of named resources over all pilots of the store, and how much is in use."""
        return self._link.call(GetLimits()).limits

    def set_limits(self, amounts: Mapping[str, float | None]) -> None:
        """Limit how much of each named resource tasks of all pilots may use together; None removes a limit.

        Running tasks continue, even if they use more. If one amount is wrong, no limit changes.

        Raises
        ------
        UsageError
            If an amount is not a number of at least 0, or if a limit to remove does not exist.
        """
        given = by_name("amounts", amounts, lambda name, amount: None if amount is None else number(name, amount))
        known = [one.name for one in self.limits()]
        for name, amount in given.items():
            if amount is None and name not in known:
                raise UsageError(f"there is no limit {name!r}: there are {', '.join(known) or 'none'}")
        self._link.call(SetLimits(given))

    def set_mode(self, mode: str) -> None:
        """Let all hosts open the store as ``local`` or ``network``, or as its file system requires (``auto``)."""
        self._link.call(SetMode(mode))

    def check(self) -> tuple[str, ...]:
        """Return messages about what is wrong with the store; none if it is sound."""
        return self._link.call(CheckStore()).problems

    def compact(self) -> Compacted:
        """Return unused space in the store's file to the file system; return the sizes before and after."""
        return self._link.call(CompactStore())

    def snapshot(self, path: str | Path, *, lacks: Callable[[str], None] | None = None) -> Path:
        """Write a consistent copy of the store to `path` on its host while it is in use; return the copy's path.

        Parameters
        ----------
        lacks
            Called with a message if the copy lacks outputs, which are in files beside the store.
        """
        where = Path(path) if "://" in self._link.url else Path(os.path.abspath(os.path.expanduser(path)))
        note = self._link.call(SnapshotStore(str(where))).note
        if note and lacks is not None:
            lacks(note)
        return where

    def check_output(self, path: str | Path) -> None:
        """Raise `UsageError` if `path` is one of the store's own files, and so no place for an output."""
        from pilotmtc.store.file.maintenance import refuse_output  # imports sqlite3

        if (where := locate(self._link.url)).target is None:
            refuse_output(Path(where.path), Path(path))

    def new_key(self, name: str) -> Key:
        """Make a key on the store's host that opens this store over SSH, and nothing else; return it.

        An existing key of that name is kept.
        """
        return self._link.call(NewKey(name)).keys[0]

    def keys(self) -> tuple[Key, ...]:
        """Return the keys of the store, by name."""
        return self._link.call(GetKeys()).keys

    def revoke_key(self, name: str) -> bool:
        """Revoke and remove a key; return whether it existed."""
        return bool(self._link.call(RevokeKey(name)).changed)
