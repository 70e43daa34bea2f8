"""Keys of a store as a table or as JSON."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pilotmtc.cli.output import streams
from pilotmtc.text.tables import Column

if TYPE_CHECKING:
    from pilotmtc.protocol.records import Key

_COLUMNS = (Column("NAME"), Column("OPENS"), Column("PRIVATE PART"), Column("FINGERPRINT"))


def put_keys(found: "Iterable[Key]", as_json: bool) -> None:
    """Write keys as a table or as JSON."""
    if as_json:
        for one in found:
            streams.put_json(shape(one))
        return
    found = list(found)
    if not found:
        streams.tell("there are no keys")
        return
    streams.put_table(
        _COLUMNS,
        [
            (one.name, "yes" if one.authorized else "no", one.path if one.private else "", one.fingerprint)
            for one in found
        ],
    )


def shape(record: "Key") -> dict[str, object]:
    """Return what ``--json`` shows of a key."""
    return {
        "name": record.name,
        "path": record.path,
        "fingerprint": record.fingerprint,
        "authorized": record.authorized,
        "private": record.private,
    }
