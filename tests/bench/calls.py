"""Calls of functions beside commands, in a store without its server."""

import hashlib
import tempfile
import time
from functools import partial

import msgspec

from pilotmtc.model import Call, Claimed, Function, PilotDescription, Resources, TaskId, TaskRow, Template, Value
from pilotmtc.protocol.agent import AttachPilot, Claim, Finish
from pilotmtc.protocol.client.campaigns import Submit
from pilotmtc.protocol.client.pilots import CreatePilot
from pilotmtc.protocol.client.tasks import MAX_RETURNED, GetReturned
from pilotmtc.protocol.values import PutValue
from pilotmtc.store.sqlite import SqliteStore
from tests.bench.measure import Measured, Series, in_turn
from tests.bench.storage import BATCH, results_of

_TASKS = 100_000  # a round
_CHUNK = 4_000
_CODE = b"a pickled function, of which there is one for all calls" * 10
_ARGS = b"\x80\x05K\x01\x85}\x86." * 3  # as ``((1,), {})`` is pickled, three times over
_RESULT = Value(b"\x80\x05N.")
_encode = msgspec.msgpack.encode
_decode_submit = msgspec.msgpack.Decoder(Submit).decode
_decode_finish = msgspec.msgpack.Decoder(Finish).decode


def calls(rounds: int, scale: float, slots: int) -> list[Measured]:
    """What calls cost the store in CPU time beside commands: to be submitted; to be claimed, finished and returned."""
    number = int(_TASKS * scale)
    found: dict[str, list[float]] = {}
    for kind in ("submit", "work"):
        contenders = {what: partial(_measure, kind, number, call=what == "calls") for what in ("calls", "commands")}
        found |= {f"{kind} {what}": values for what, values in in_turn(contenders, rounds).items()}
    submits, works = (
        tuple(Series(what, "/s CPU", tuple(found[f"{kind} {what}"]), best=max) for what in ("calls", "commands"))
        for kind in ("submit", "work")
    )
    return [
        Measured("store: submit of calls", submits[0].value, "/s CPU", 150_000, at_least=True, series=submits),
        Measured(
            "store: claim + finish + returned, calls", works[0].value, "/s CPU", 40_000, at_least=True, series=works,
            note="of commands claim + finish",
        ),
    ]  # fmt: skip


def _measure(kind: str, number: int, *, call: bool) -> float:
    """Return tasks for each second of CPU time: submitted; or claimed, finished and, of calls, asked for."""
    with tempfile.TemporaryDirectory() as directory:
        store = SqliteStore(f"{directory}/store.db")
        try:
            submitted = _submit(store, number, call=call)
            return number / (submitted if kind == "submit" else _work(store, number, call=call))
        finally:
            store.close()


def _submit(store: SqliteStore, number: int, *, call: bool) -> float:
    digest = hashlib.sha256(_CODE).hexdigest()
    store.call(PutValue(digest, 0, len(_CODE), _CODE))
    template = Template(("work({args})",), fields=("args",), function=Function("work", digest) if call else None)
    called = Call(Value(_ARGS)) if call else None
    messages = [
        _encode(
            Submit(
                "bench", first, "", (template,), (Resources(),),
                tuple(TaskRow(0, 0, (str(n),), call=called) for n in range(first, min(first + _CHUNK, number))),
            )
        )
        for first in range(0, number, _CHUNK)
    ]  # fmt: skip
    began = time.process_time()
    for message in messages:
        store.call(_decode_submit(message))
    return time.process_time() - began


def _work(store: SqliteStore, number: int, *, call: bool) -> float:
    pilot = store.call(CreatePilot("bench", PilotDescription(cores=BATCH))).pilots[0].id
    store.call(AttachPilot(pilot, "bench", 1, 1, BATCH))
    room = Resources(cores=BATCH)
    spent = 0.0
    done: list[Claimed] = []
    while len(done) < number:
        began = time.process_time()
        batch = store.call(Claim(pilot, len(done) + 1, room, room, BATCH))
        _encode(batch)
        spent += time.process_time() - began
        results = results_of(batch)
        if call:
            results = tuple(
                msgspec.structs.replace(result, stdout=b"", stdout_bytes=0, value=_RESULT, value_text="None")
                for result in results
            )
        message = _encode(Finish(pilot, results))
        began = time.process_time()
        store.call(_decode_finish(message))
        spent += time.process_time() - began
        done += batch.tasks
    began = time.process_time()
    for first in range(1, number + 1, MAX_RETURNED) if call else ():
        _encode(store.call(GetReturned(tuple(map(TaskId, range(first, first + MAX_RETURNED))))))
    return spent + time.process_time() - began
