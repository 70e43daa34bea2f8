"""Traces, read back by Perfetto's own package."""

from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TrackEvent

from pilotmtc.report.show.trace import trace
from pilotmtc.states import Cause
from tests.unit.report.past import T0, past_of, pilot_of, row


def test_trace_has_a_track_for_each_core_and_a_slice_for_each_attempt() -> None:
    rows = [
        row(0.0, 4.0, "0-1", name="wide", tags='["a"]', memory_bytes=1 << 31),
        row(4.5, 2.0, "0", task=2, cause=int(Cause.SIGNAL), code=11),
        row(3.9, 2.0, "1", task=3),  # a clock lets it overlap a little
    ]
    found = Trace()
    found.ParseFromString(b"".join(trace(past_of(rows, pilot_of(2, end=20.0)))))
    tracks = {
        one.track_descriptor.uuid: one.track_descriptor for one in found.packet if one.HasField("track_descriptor")
    }
    cores = {
        uuid: tracks[track.parent_uuid].name + " " + track.name
        for uuid, track in tracks.items()
        if "core" in track.name
    }
    assert sorted(cores.values()) == ["n1 core 0", "n1 core 1"]
    assert [track.name for track in tracks.values() if not track.parent_uuid] == ["pilot 1"]
    names: dict[int, str] = {}
    facts: dict[int, str] = {}
    spans: dict[str, list[tuple[str, str, float, float]]] = {}
    begun: dict[int, tuple[float, str, str]] = {}
    for packet in found.packet:
        names.update({one.iid: one.name for one in packet.interned_data.event_names})
        facts.update({one.iid: one.name for one in packet.interned_data.debug_annotation_names})
        event, at = packet.track_event, packet.timestamp / 1e9 - T0
        if event.type == TrackEvent.TYPE_SLICE_BEGIN:
            said = {facts[one.name_iid]: one.string_value for one in event.debug_annotations}
            begun[event.track_uuid] = (at, names[event.name_iid], said["cause"])
        elif event.type == TrackEvent.TYPE_SLICE_END:
            start, name, cause = begun.pop(event.track_uuid)
            spans.setdefault(cores[event.track_uuid], []).append((name, cause, round(start, 3), round(at, 3)))
    assert spans == {
        "n1 core 0": [("wide", "EXIT", 0.0, 4.0), ("work {x}", "SIGNAL", 4.5, 6.5)],
        "n1 core 1": [("wide", "EXIT", 0.0, 4.0), ("work {x}", "EXIT", 4.0, 5.9)],
    }
    assert begun == {}
