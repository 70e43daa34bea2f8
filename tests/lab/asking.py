"""Ask a scheduler from a process of its own: dialect, verb and argument come as JSON, and so the answer goes.

The pool's tests run this as the account that submits, so that it is an ordinary user who asks, each time anew.
"""

import sys
from importlib import import_module

import msgspec

from pilotmtc.errors import PilotMTCError
from pilotmtc_adaptors import _driver
from pilotmtc_adaptors._dialect import JobRecord, JobRequest


def answer(question: dict[str, object]) -> object:
    """Return what the scheduler says."""
    module, _, name = str(question["dialect"]).partition(":")
    dialect = getattr(import_module(module), name)
    verb, argument = question["verb"], question["argument"]
    if verb == "submit":
        return _driver.submit(dialect, msgspec.convert(argument, JobRequest))
    if verb == "jobs":
        return _driver.jobs(dialect)
    if verb == "find":
        return _driver.find(dialect, str(argument))
    ids = msgspec.convert(argument, list[str])
    if verb == "cancel":
        return {batch_id: _told(error) for batch_id, error in _driver.cancel(dialect, ids).items()}
    found = _driver.status(dialect, ids)
    return {key: each if isinstance(each, JobRecord) else _told(each) for key, each in found.items()}


def _told(error: PilotMTCError) -> dict[str, str]:
    return {"error": type(error).__name__, "text": str(error)}


if __name__ == "__main__":
    try:
        found = answer(msgspec.json.decode(sys.stdin.buffer.read()))
    except PilotMTCError as refusal:
        found = _told(refusal)
    sys.stdout.buffer.write(msgspec.json.encode(found))
