"""What many calls returned, whole, as one pickle for the user's own programs."""

import pickle
from collections.abc import Sequence
from typing import Any

Record = dict[str, Any]


def dump_records(records: Sequence[Record]) -> bytes:
    """Pickle a list of records. What cannot be pickled is replaced by ``{"repr": ...}``."""
    import cloudpickle  # type: ignore[import-untyped]

    try:
        return bytes(cloudpickle.dumps(list(records)))
    except Exception:  # noqa: BLE001 -- whatever the user's classes do
        whole = [{key: _picklable(value) for key, value in record.items()} for record in records]
        return bytes(cloudpickle.dumps(whole))


def _picklable(value: object) -> object:
    import cloudpickle

    try:
        pickle.loads(cloudpickle.dumps(value))
    except Exception:  # noqa: BLE001 -- as above
        return {"repr": repr(value)}
    return value
