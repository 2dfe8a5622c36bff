"""What the other tests stand on, and what the document promises to all readers."""

import json

import jsonschema
from tests.lake.filled_bus import AWKWARD, PER_ROOM, ROOMS, FilledBus
from tests.support.log_reading import CONTROL
from tests.support.repository import ROOT


def test_the_bus_has_messages_of_every_kind_and_control_records(bus: FilledBus) -> None:
    assert len(bus.messages) == PER_ROOM * len(ROOMS) + 6 * len(AWKWARD) + 1
    assert {(row.qos, row.retained) for row in bus.messages} == {
        (qos, retained) for qos in range(3) for retained in (False, True)
    }
    assert {"payload", "payloadBase64", "packetId", "epoch"} <= {
        member for record in bus.records for member in record.members()
    }
    facts = {
        fact["f"] for record in bus.records if record.kind == CONTROL for fact in record.facts()
    }
    assert "marker" in facts
    assert bus.controls > 0


def test_every_record_is_as_the_schema_says(bus: FilledBus) -> None:
    schema = json.loads((ROOT / "schemas/bus-record.v1.json").read_text(encoding="utf-8"))
    validator = jsonschema.Draft202012Validator(schema)
    wrong = [record for record in bus.records if not validator.is_valid(record.members())]
    assert wrong == []


def test_offsets_are_dense_and_each_topic_has_one_partition(bus: FilledBus) -> None:
    places: dict[str, set[int]] = {}
    for row in bus.messages:
        places.setdefault(row.topic, set()).add(row.partition)
    assert {len(partitions) for partitions in places.values()} == {1}
    assert len(set.union(*places.values())) > 1
    offsets: dict[int, list[int]] = {}
    for record in bus.records:
        offsets.setdefault(record.partition, []).append(record.offset)
    assert all(found == [*range(len(found))] for found in offsets.values())
