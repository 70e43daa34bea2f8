"""What a check finds of files that hold large outputs."""

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
    kit.submit(*(row(n) for n in range(3)))
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
    gone, changed = store.call(CheckStore()).problems
    assert "gone" in gone
    assert changed == f"1 large outputs are not as they were written: {outputs}/2.1.out of task 2, attempt 1"
    store.close()
