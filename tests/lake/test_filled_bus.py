"""What the other tests stand on."""

from tests.lake.filled_bus import AWKWARD, PER_ROOM, ROOMS, FilledBus
from tests.support.log_reading import CONTROL


def test_the_bus_has_messages_of_every_kind_and_control_records(bus: FilledBus) -> None:
    assert len(bus.messages) == PER_ROOM * len(ROOMS) + 6 * len(AWKWARD) + 1
    assert {(row.qos, row.retained) for row in bus.messages} == {
        (qos, retained) for qos in range(3) for retained in (False, True)
    }
    stamped = [record for record in bus.records if b'"epoch":' in record.value]
    assert stamped
    facts = {
        fact["f"] for record in bus.records if record.kind == CONTROL for fact in record.facts()
    }
    assert "marker" in facts
    assert bus.controls > 0
