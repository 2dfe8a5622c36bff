"""What the broker owes its clients when it comes back: after SIGTERM, and after SIGKILL."""

from collections.abc import Callable, Iterator

import pytest
from tests.conformance.requirements import requirement
from tests.conformance.scene import Scene
from tests.support.broker import BrokerProcess, RunningBroker
from tests.support.mqtt_client_frames import encode_publish
from tests.support.mqtt_peer import (
    Connack,
    ConnectOptions,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Will,
)

PERSISTENT = ConnectOptions(clean=False)
End = Callable[[BrokerProcess], object]


@pytest.fixture
def mortal(own_broker: RunningBroker) -> Iterator[Scene]:
    """A stage whose broker the test ends and starts again."""
    stage = Scene(own_broker.start())
    yield stage
    stage.close()


either_end = pytest.mark.parametrize("end", [BrokerProcess.stop, BrokerProcess.kill])


@requirement("MQTT-4.1.0-1", "MQTT-3.2.2-2", "MQTT-4.5.0-1", "MQTT-4.3.2-1")
@either_end
async def test_what_was_acknowledged_is_still_there(mortal: Scene, end: End) -> None:
    subscriber = await mortal.connect("b", PERSISTENT)
    await subscriber.subscribe((mortal.topic("+"), 1))
    await subscriber.disconnect()
    publisher = await mortal.connect("a")
    await publisher.publish(mortal.topic("x"), b"kept", qos=1, retain=True)
    end(mortal.broker)
    mortal.broker.start()
    subscriber, connack = await mortal.attach("b", PERSISTENT)
    assert connack == Connack(session_present=True)
    assert await subscriber.take() == Publish(mortal.topic("x"), b"kept", qos=1, dup=True)
    await subscriber.subscribe((mortal.topic("x"), 1))
    assert await subscriber.take() == Publish(mortal.topic("x"), b"kept", qos=1, retain=True)


@requirement("MQTT-4.4.0-1", "MQTT-3.3.1-1", "MQTT-4.6.0-1")
@either_end
async def test_what_was_in_flight_at_qos_1_comes_again_in_order_with_dup(
    mortal: Scene, end: End
) -> None:
    publisher, subscriber = await mortal.connect("a"), await mortal.connect("b", PERSISTENT)
    await subscriber.subscribe((mortal.topic(), 1))
    for n in range(3):
        await publisher.publish(mortal.topic(), str(n).encode(), qos=1)
    sent = [await subscriber.receive() for _ in range(3)]
    end(mortal.broker)
    mortal.broker.start()
    subscriber = await mortal.connect("b", PERSISTENT)
    again = [await subscriber.receive() for _ in range(3)]
    assert again == [Publish(m.topic, m.payload, qos=1, dup=True) for m in sent]
    assert len({message.packet_id for message in again}) == 3


@requirement("MQTT-4.4.0-1", "MQTT-4.3.3-1")
@either_end
async def test_an_exchange_of_qos_2_goes_on_where_it_was(mortal: Scene, end: End) -> None:
    publisher, subscriber = await mortal.connect("a"), await mortal.connect("b", PERSISTENT)
    await subscriber.subscribe((mortal.topic(), 2))
    for payload in (b"released", b"sent"):
        await publisher.publish(mortal.topic(), payload, qos=2)
    released, sent = await subscriber.receive(), await subscriber.receive()
    await subscriber.send(Pubrec(released.packet_id).encode())
    await subscriber.expect(Pubrel(released.packet_id))
    end(mortal.broker)
    mortal.broker.start()
    subscriber = await mortal.connect("b", PERSISTENT)
    again = [await subscriber.read_packet() for _ in range(2)]
    assert Pubrel(released.packet_id) in again
    assert Publish(mortal.topic(), b"sent", qos=2, dup=True) in again
    assert [p.packet_id for p in again if isinstance(p, Publish)] == [sent.packet_id]


@requirement("MQTT-4.3.3-2")
@either_end
async def test_an_open_id_of_qos_2_is_still_open(mortal: Scene, end: End) -> None:
    subscriber = await mortal.connect("b", PERSISTENT)
    await subscriber.subscribe((mortal.topic(), 2))
    publisher = await mortal.connect("a", PERSISTENT)
    await publisher.send(encode_publish(mortal.topic(), b"once", qos=2, packet_id=9))
    await publisher.expect(Pubrec(9))
    end(mortal.broker)
    mortal.broker.start()
    subscriber, publisher = [await mortal.connect(who, PERSISTENT) for who in "ba"]
    await publisher.send(encode_publish(mortal.topic(), b"once", qos=2, packet_id=9, dup=True))
    await publisher.expect(Pubrec(9))
    await publisher.send(Pubrel(9).encode())
    await publisher.expect(Pubcomp(9))
    assert (await subscriber.take()).payload == b"once"
    assert await mortal.received(subscriber, after=publisher) == []


@requirement("MQTT-3.1.2-8")
@either_end
async def test_the_will_is_published_although_the_broker_ended_first(
    mortal: Scene, end: End
) -> None:
    watcher = await mortal.connect("b", PERSISTENT)
    await watcher.subscribe((mortal.topic("will"), 1))
    await watcher.disconnect()
    will = Will(topic=mortal.topic("will"), qos=1)
    await mortal.connect("a", ConnectOptions(will=will))
    end(mortal.broker)
    mortal.broker.start()
    watcher = await mortal.connect("b", PERSISTENT)
    message = await watcher.take()
    assert (message.topic, message.payload) == (mortal.topic("will"), b"gone")
    assert await mortal.received(watcher, after=watcher) == []
