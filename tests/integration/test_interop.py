"""One story, told by the clients people use; and a mosquitto that is bridged to us.

On Kafka the two sides of each conversation are on two edges.
"""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.support.broker import LOOPBACK, BrokerProcess, RunningBroker
from tests.support.interop import TELLERS, Teller, Told
from tests.support.kafka import KafkaServer
from tests.support.kafka_stack import KafkaStack
from tests.support.kafka_tools import new_topic_name
from tests.support.load import Cast
from tests.support.machine import program
from tests.support.mqtt_peer import Peer, Publish
from tests.support.postgres import PostgresServer

pytestmark = pytest.mark.integration

LARGE = bytes(range(256)) * 1_600


Sides = tuple[BrokerProcess, BrokerProcess]
"""Where the client that is tested is, and where its friend is."""


@pytest.fixture(scope="module")
def internal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sides]:
    """One broker for all stories."""
    process = RunningBroker(tmp_path_factory.mktemp("ours"))
    try:
        process.start()
        yield process, process
    finally:
        process.close()


@pytest.fixture(scope="module")
def kafka(
    tmp_path_factory: pytest.TempPathFactory,
    kafka_server: KafkaServer,
    postgres_server: PostgresServer,
) -> Iterator[Sides]:
    """Two edges on one bus, with projectors."""
    directory = tmp_path_factory.mktemp("edges")
    stack = KafkaStack(directory, kafka_server.address(), new_topic_name(), postgres_server)
    try:
        stack.start()
        yield stack.edges[0], stack.edges[1]
    finally:
        stack.close()


@pytest.fixture(params=["internal", "kafka"])
def sides(request: pytest.FixtureRequest) -> Sides:
    """Both sides on each bus."""
    both: Sides = request.getfixturevalue(request.param)
    return both


@pytest.fixture
def ours(sides: Sides) -> BrokerProcess:
    """Where the client that is tested is."""
    return sides[0]


@pytest.fixture(params=TELLERS)
async def teller(ours: BrokerProcess, request: pytest.FixtureRequest) -> AsyncIterator[Teller]:
    """A client of each make."""
    teller = TELLERS[request.param](ours)
    yield teller
    await teller.vanish()


@pytest.fixture
async def friends() -> AsyncIterator[Cast]:
    """Connections that are dropped in the end."""
    cast = Cast()
    yield cast
    await cast.close()


@pytest.fixture
async def friend(sides: Sides, friends: Cast) -> Peer:
    """The other side of each conversation."""
    peer = await friends.peer(sides[1].tcp_port)
    await peer.connect("")
    return peer


@pytest.fixture
async def neighbour(ours: BrokerProcess, friends: Cast) -> Peer:
    """Another client where the one that is tested is.

    An edge may read a moment later what was published on another one.
    """
    peer = await friends.peer(ours.tcp_port)
    await peer.connect("")
    return peer


async def test_messages_of_every_qos_go_both_ways(teller: Teller, friend: Peer, name: str) -> None:
    await teller.connect(name)
    assert await teller.subscribe(f"{name}/to", 2) == 2
    await friend.subscribe((f"{name}/from", 2))
    for qos in range(3):
        payload = f"at {qos}".encode()
        await friend.publish(f"{name}/to", payload, qos)
        assert await teller.receive() == Told(f"{name}/to", payload, qos)
        await teller.publish(Told(f"{name}/from", payload, qos))
        assert await friend.take() == Publish(f"{name}/from", payload, qos)


async def test_retained_messages_are_kept_and_cleared(
    teller: Teller, neighbour: Peer, name: str
) -> None:
    await neighbour.publish(f"{name}/a", b"before", 1, retain=True)
    await teller.connect(name)
    await teller.subscribe(f"{name}/+", 1)
    assert await teller.receive() == Told(f"{name}/a", b"before", 1, retain=True)
    await teller.publish(Told(f"{name}/b", b"kept", 1, retain=True))
    assert await teller.receive() == Told(f"{name}/b", b"kept", 1)
    await teller.publish(Told(f"{name}/a", b"", 1, retain=True))
    assert await teller.receive() == Told(f"{name}/a", b"", 1)
    await neighbour.subscribe((f"{name}/#", 0))
    assert await neighbour.receive() == Publish(f"{name}/b", b"kept", retain=True)
    await neighbour.publish("another", b"")
    assert await neighbour.ping() == []


async def test_the_will_follows_a_client_that_vanishes(
    teller: Teller, friend: Peer, name: str
) -> None:
    await friend.subscribe((f"{name}/will", 2))
    await teller.connect(name, will=Told(f"{name}/will", b"gone", 1, retain=True))
    await teller.subscribe(f"{name}/x", 0)
    await teller.vanish()
    assert await friend.take() == Publish(f"{name}/will", b"gone", 1)


async def test_no_will_follows_a_client_that_says_good_bye(
    ours: BrokerProcess, teller: Teller, friend: Peer, friends: Cast, name: str
) -> None:
    await friend.subscribe((f"{name}/#", 2))
    await teller.connect(name, will=Told(f"{name}/will", b"gone", 1))
    await teller.subscribe(f"{name}/x", 0)
    await teller.disconnect()
    # A takeover of its client id comes after whatever its end has caused.
    successor = await friends.peer(ours.tcp_port)
    await successor.connect(name)
    await successor.publish(f"{name}/last", b"x", 1)
    assert await friend.take() == Publish(f"{name}/last", b"x", 1)


async def test_a_persistent_session_gets_what_came_while_it_was_away(
    teller: Teller, friend: Peer, name: str
) -> None:
    assert await teller.connect(name, clean=False) in {False, None}
    await teller.subscribe(f"{name}/#", 2)
    await teller.disconnect()
    for n in range(50):
        await friend.publish(f"{name}/{n % 5}", str(n).encode(), 1 + n % 2)
    assert await teller.connect(name, clean=False) in {True, None}
    await teller.subscribe(f"{name}/#", 2)
    received = [await teller.receive() for _ in range(50)]
    expected = [Told(f"{name}/{n % 5}", str(n).encode(), 1 + n % 2) for n in range(50)]
    assert sorted(received, key=lambda told: int(told.payload)) == expected


async def test_large_payloads_of_any_bytes_go_both_ways(
    teller: Teller, friend: Peer, name: str
) -> None:
    await teller.connect(name)
    await teller.subscribe(f"{name}/to", 2)
    await friend.subscribe((f"{name}/from", 2))
    for qos in range(3):
        await friend.publish(f"{name}/to", LARGE, qos)
        assert await teller.receive() == Told(f"{name}/to", LARGE, qos)
        await teller.publish(Told(f"{name}/from", LARGE, qos))
        assert await friend.take() == Publish(f"{name}/from", LARGE, qos)


# -- a bridge ------------------------------------------------------------------------------------


class BridgedMosquitto(BrokerProcess):
    """A mosquitto that is bridged to our broker."""

    def __init__(self, directory: Path, ours: BrokerProcess) -> None:
        super().__init__(directory)
        self._ours = ours

    def _prepare(self, config_yaml: str | None) -> list[str]:
        config = self.directory / "mosquitto.conf"
        config.write_text(
            f"listener {self.tcp_port} {LOOPBACK}\n"
            "allow_anonymous true\n"
            "connection ours\n"
            f"address {LOOPBACK}:{self._ours.tcp_port}\n"
            "remote_clientid bridge\n"
            "bridge_protocol_version mqttv311\n"
            "try_private true\n"
            "cleansession false\n"
            "restart_timeout 1\n"
            "topic out/# out 2\n"
            "topic in/# in 2\n"
            "topic both/# both 2\n",
            encoding="utf-8",
        )
        return [program("mosquitto"), "-v", "-c", str(config)]


@pytest.fixture
def theirs(ours: BrokerProcess, tmp_path: Path) -> Iterator[BridgedMosquitto]:
    """The other broker."""
    process = BridgedMosquitto(tmp_path, ours)
    try:
        yield process.start()
    finally:
        process.close()


async def connect_locally(theirs: BridgedMosquitto, friends: Cast) -> Peer:
    """Return a client of the other broker once the bridge stands, which it says itself."""
    local = await friends.peer(theirs.tcp_port)
    await local.connect("local")
    await local.subscribe(("$SYS/broker/connection/bridge/state", 1))
    while (await local.take()).payload != b"1":
        pass
    return local


async def test_a_mosquitto_bridge_carries_messages_both_ways_and_no_loop(
    theirs: BridgedMosquitto, friend: Peer, friends: Cast
) -> None:
    local = await connect_locally(theirs, friends)
    await friend.subscribe(("out/#", 2), ("both/#", 2))
    await local.subscribe(("in/#", 2), ("both/#", 2))
    for qos in range(3):
        payload = f"at {qos}".encode()
        await local.publish("out/x", payload, qos)
        assert await friend.take() == Publish("out/x", payload, qos)
        await friend.publish("in/x", payload, qos)
        assert await local.take() == Publish("in/x", payload, qos)
        for sender, other in ((local, friend), (friend, local)):
            await sender.publish("both/x", payload, qos)
            assert await sender.take() == Publish("both/x", payload, qos)
            assert await other.take() == Publish("both/x", payload, qos)
    # A loop would have sent each message round once more before these come back.
    for sender, other, topic in ((local, friend, "out/end"), (friend, local, "in/end")):
        await sender.publish(topic, b"end", 1)
        assert await other.take() == Publish(topic, b"end", 1)
