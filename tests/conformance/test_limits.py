"""What the broker refuses by its own limits, said in the words of the standard."""

from collections.abc import Iterator

import pytest
from tests.conformance.requirements import requirement
from tests.conformance.scene import Scene
from tests.support.broker import RunningBroker
from tests.support.mqtt_client_frames import encode_publish
from tests.support.mqtt_peer import Pubcomp, Publish, Pubrec, Pubrel

LIMITS = """
Limits:
  SubscriptionsPerClient: 2
  InFlightPerClient: 3
  OpenQos2IdsPerClient: 3
"""


@pytest.fixture
def narrow(own_broker: RunningBroker) -> Iterator[Scene]:
    """A stage whose broker has tight limits."""
    stage = Scene(own_broker.start(LIMITS))
    yield stage
    stage.close()


@requirement("MQTT-3.8.4-4", "MQTT-3.8.4-5", "MQTT-3.9.3-1", "MQTT-3.9.3-2")
async def test_a_refused_filter_gets_0x80_in_its_place(narrow: Scene) -> None:
    client = await narrow.connect("a")
    assert await client.subscribe(("a", 1), ("b", 2), ("c", 0), ("a", 0)) == (1, 2, 0x80, 0)
    await client.publish("c", b"refused")
    await client.publish("b", b"granted")
    assert await client.take() == Publish("b", b"granted")


async def test_the_window_is_as_wide_as_configured(narrow: Scene) -> None:
    client = await narrow.connect("a")
    await client.subscribe(("a", 1))
    for n in range(4):
        await client.publish("a", str(n).encode(), qos=1)
    window = [await client.receive() for _ in range(3)]
    assert await client.ping() == []
    await client.answer(window[0])
    assert await client.receive() == Publish("a", b"3", qos=1)


@requirement("MQTT-4.8.0-2")
async def test_a_client_beyond_its_qos_2_ids_finishes_a_few_with_each_connection(
    narrow: Scene,
) -> None:
    watcher = await narrow.connect("watcher")
    await watcher.subscribe(("a", 0))
    backlog = [encode_publish("a", str(n).encode(), qos=2, packet_id=n) for n in range(1, 7)]
    for start in (0, 3):
        client = await narrow.connect("a")
        await client.send(*backlog[start:])
        ids = range(start + 1, start + 4)
        for packet_id in ids:
            await client.expect(Pubrec(packet_id))
        await client.send(*(Pubrel(packet_id).encode() for packet_id in ids))
        for packet_id in ids:
            await client.expect(Pubcomp(packet_id))
        if start == 0:
            await client.closed()
        else:
            assert await client.ping() == []
    assert await watcher.ping() == [Publish("a", str(n).encode()) for n in range(1, 7)]
