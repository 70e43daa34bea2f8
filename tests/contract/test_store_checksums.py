"""What a check finds of files that hold large outputs."""

import os
import zlib
from pathlib import Path

from msgspec.structs import replace

from pilotmtc.clock import FakeClock
from pilotmtc.model import PilotDescription
from pilotmtc.protocol.agent import AttachPilot, Finish
from pilotmtc.protocol.client.maintenance import CheckStore
from pilotmtc.protocol.client.pilots import CreatePilot
from pilotmtc.store.sqlite import SqliteStore
from tests.contract.storekit import Kit, result, row


def test_changed_files_of_large_outputs_are_found(tmp_path: Path, clock: FakeClock) -> None:
    store = SqliteStore(tmp_path / "store.db", clock)
    kit = Kit(store)
    kit.submit(*(row(n) for n in range(4)))
    outputs = tmp_path / "store.db.d" / "pilots" / "key" / "outputs"
    outputs.mkdir(parents=True)
    pilot = store.call(CreatePilot("key", PilotDescription(), str(outputs.parent))).pilots[0].id
    store.call(AttachPilot(pilot, "host", 1, 1, 64))
    results = []
    for task in kit.claim(pilot):
        whole = outputs / f"{task.task}.1.out"
        whole.write_bytes(b"whole %d" % task.task)
        crc = zlib.crc32(whole.read_bytes())
        results.append(replace(result(task, out=b"part"), stdout_path=str(whole), stdout_crc=crc))
    store.call(Finish(pilot, tuple(results)))
    assert store.call(CheckStore()).problems == ()
    (outputs / "2.1.out").write_bytes(b"whole 3")
    (outputs / "3.1.out").unlink()
    (outputs / "4.1.out").unlink()
    os.mkfifo(outputs / "4.1.out")
    gone, changed = store.call(CheckStore()).problems
    assert "gone" in gone
    which = "; ".join(f"{outputs}/{task}.1.out of task {task}, attempt 1" for task in (2, 4))
    assert changed == f"2 large outputs are not as they were written: {which}"
    store.close()
