"""Peers that mean harm, or are broken: each costs its own connection, and nobody else's.

The rows are past bugs of MQTT brokers. Whatever happens, two other clients go on talking, and the
process does not grow: that is ``undisturbed``.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator

import pytest
from tests.integration.observing import metric, undisturbed, until_metric
from tests.support.broker import RunningBroker
from tests.support.load import Cast
from tests.support.mqtt_client_frames import (
    PINGREQ,
    encode_publish,
    encode_subscribe,
    encode_unsubscribe,
    frame,
    string,
)
from tests.support.mqtt_peer import (
    Connack,
    ConnectOptions,
    Peer,
    PeerClosed,
    Puback,
    Publish,
    Pubrec,
    Suback,
    Unsuback,
    Will,
    connect_packet,
)

pytestmark = pytest.mark.integration

CONFIG = """
Limits:
  ConnectTimeoutS: 5
  TakeoversPerMinute: 5
  SlowConsumerHoldS: 1
  PendingMessagesPerClient: 100
"""

OPEN_IDS = 65_535
"""The default of ``Limits.OpenQos2IdsPerClient``: all there are."""

MESSAGE_SIZE_MAX = 512 * 1024
"""The default of ``MaxMessageSizeKb``."""

_names = (f"h{number}" for number in itertools.count())


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBroker]:
    """One broker for all attacks that leave nothing behind."""
    process = RunningBroker(tmp_path_factory.mktemp("target"))
    try:
        yield process.start(CONFIG)
    finally:
        process.close()


@pytest.fixture
async def attackers(target: RunningBroker) -> AsyncIterator[Cast]:
    """Connections that are dropped in the end."""
    cast = Cast()
    yield cast
    await cast.close()


async def connected(
    broker: RunningBroker, cast: Cast, options: ConnectOptions | None = None
) -> Peer:
    """Return a client that has its CONNACK."""
    peer = await cast.peer(broker.tcp_port)
    assert await peer.connect(next(_names), options) == Connack()
    return peer


async def read_until_closed(peer: Peer) -> list[object]:
    """Return all packets before the end of the connection."""
    packets: list[object] = []
    while True:
        try:
            packets.append(await peer.read_packet())
        except PeerClosed:
            return packets


async def send_or_be_closed(peer: Peer, data: bytes) -> None:
    """Send; that the broker hangs up meanwhile is what the caller looks at next."""
    try:
        await peer.send(data)
    except ConnectionError:
        return


FIRST_PACKETS = {
    "1 a PUBLISH of 240 MB": b"\x30" + b"\x80\x80\xb8\x72" + bytes(4_096),
    "1 a CONNECT of 240 MB": b"\x10" + b"\x80\x80\xb8\x72" + bytes(4_096),
    "3 a remaining length of five bytes": b"\x10\xff\xff\xff\xff\x01",
    "14 CONNACK": b"\x20\x02\x00\x00",
    "14 PINGREQ before CONNECT": PINGREQ,
    "14 packet type 0": b"\x00\x00",
    "14 packet type 15": b"\xf0\x00",
    "30 a TLS handshake": bytes.fromhex("1603010200010001fc0303") + bytes(505),
    "30 an HTTP request": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "6 a will of wildcards": connect_packet("w", ConnectOptions(will=Will(topic="a/+"))),
    "6 a will without a topic": connect_packet("w", ConnectOptions(will=Will(topic=""))),
    "6 a will of QoS 3": connect_packet("w", ConnectOptions(will=Will(topic="a", qos=3))),
    "6 a will that is cut": connect_packet("w", ConnectOptions(flags=0x06)),
}


@pytest.mark.parametrize("data", FIRST_PACKETS.values(), ids=FIRST_PACKETS.keys())
async def test_a_wrong_first_packet_closes_its_connection(
    target: RunningBroker, attackers: Cast, data: bytes
) -> None:
    async with undisturbed(target, growth_mib=10) as neighbours:
        peers = [await attackers.peer(target.tcp_port) for _ in range(14)]
        for peer in peers:
            await send_or_be_closed(peer, data)
        await neighbours.exchange()
        for peer in peers:
            await peer.closed()


async def test_row_10_65_thousand_filters_in_one_packet_are_answered_one_by_one(
    target: RunningBroker, attackers: Cast
) -> None:
    peer = await connected(target, attackers)
    filters = [f"{number:05}" for number in range(65_000)]
    async with undisturbed(target, growth_mib=30) as neighbours:
        await peer.send(encode_subscribe(1, [(topic_filter, 0) for topic_filter in filters]))
        await neighbours.exchange()
        await peer.expect(Suback(1, (0,) * 1_000 + (0x80,) * 64_000))
        await peer.send(encode_unsubscribe(2, filters))
        await neighbours.exchange()
        await peer.expect(Unsuback(2))


LATER_PACKETS = {
    "7 no topic": encode_publish("", b"x"),
    "7 a topic with +": encode_publish("a/+", b"x"),
    "7 a topic with #": encode_publish("#", b"x"),
    "7 U+0000": encode_publish("a\0b", b"x"),
    "7 U+D800": encode_publish(b"a\xed\xa0\x80b", b"x"),
    "7 overlong UTF-8": encode_publish(b"a\xc0\xaf", b"x"),
    "7 truncated UTF-8": encode_publish(b"a\xe2\x82", b"x"),
    "8 a topic of slashes": encode_publish("/" * 65_535, b"x"),
    "8 a filter of slashes": encode_subscribe(1, [("/" * 65_535, 0)]),
    "9 +# as a filter": encode_subscribe(1, [("+#", 0)]),
    "10 no filter": frame(0x82, b"\x00\x01"),
    "12 a QoS 1 PUBLISH that ends after the topic": frame(0x32, string("a")),
    "12 a PUBLISH shorter than its topic": frame(0x30, b"\x00\x09a"),
    "12 SUBSCRIBE without the QoS": frame(0x82, b"\x00\x01" + string("a")),
    "12 packet id 0": encode_publish("a", b"x", qos=1),
    "12 QoS 3": frame(0x36, string("a") + b"\x00\x01"),
    "12 PUBACK that is cut": b"\x40\x01\x00",
    "14 a second CONNECT": connect_packet("again"),
    "14 CONNACK": b"\x20\x02\x00\x00",
    "14 SUBACK": b"\x90\x03\x00\x01\x00",
    "14 UNSUBACK": b"\xb0\x02\x00\x01",
    "14 PINGRESP": b"\xd0\x00",
    "14 reserved bits of SUBSCRIBE": b"\x80" + encode_subscribe(1, [("a", 0)])[1:],
    "23 a retained message of 256 MB": b"\x31\xff\xff\xff\x7f" + bytes(4_096),
    "23 one byte too much": encode_publish("a", bytes(MESSAGE_SIZE_MAX), retain=True),
}


@pytest.mark.parametrize("data", LATER_PACKETS.values(), ids=LATER_PACKETS.keys())
async def test_a_wrong_packet_closes_its_connection(
    target: RunningBroker, attackers: Cast, data: bytes
) -> None:
    peer = await connected(target, attackers)
    async with undisturbed(target, growth_mib=10) as neighbours:
        await send_or_be_closed(peer, data)
        await neighbours.exchange()
        await peer.closed()


async def test_row_2_half_a_packet_or_nothing_is_closed_after_the_deadline(
    target: RunningBroker, attackers: Cast
) -> None:
    async with undisturbed(target):
        silent = await attackers.peer(target.tcp_port)
        halting = await attackers.peer(target.tcp_port)
        await halting.send(connect_packet("halting")[:-1])
        await silent.closed()
        await halting.closed()


async def test_row_2_a_connect_byte_by_byte_is_closed_after_the_deadline(
    target: RunningBroker, attackers: Cast
) -> None:
    drips = iter(connect_packet("x" * 60_000))
    async with undisturbed(target) as neighbours:
        slow = await attackers.peer(target.tcp_port)
        while not slow.is_closed():
            await send_or_be_closed(slow, bytes([next(drips)]))
            await neighbours.exchange()


async def test_row_4_one_qos_2_id_over_and_over_is_one_message(
    target: RunningBroker, attackers: Cast
) -> None:
    topic = next(_names)
    subscriber = await connected(target, attackers)
    await subscriber.subscribe((topic, 0))
    peer = await connected(target, attackers)
    burst = encode_publish(topic, bytes(100), qos=2, packet_id=7) * 100
    async with undisturbed(target, growth_mib=10) as neighbours:
        for _ in range(50):
            await peer.send(burst)
            for _ in range(100):
                await peer.expect(Pubrec(7))
        await neighbours.exchange()
        await until_metric(target, "monstermq_open_ids", 1)
        assert await metric(target, "monstermq_open_ids") == 1
        assert await subscriber.ping() == [Publish(topic, bytes(100))]


async def test_row_5_qos_2_without_release_is_bounded_by_the_packet_ids(
    target: RunningBroker, attackers: Cast
) -> None:
    topic = next(_names)
    peer = await connected(target, attackers)
    flood = (encode_publish(topic, bytes(100), qos=2, packet_id=n) for n in range(1, OPEN_IDS + 1))
    async with undisturbed(target, growth_mib=30) as neighbours:
        await peer.send(b"".join(flood))
        for packet_id in range(1, OPEN_IDS + 1):
            await peer.expect(Pubrec(packet_id))
        await neighbours.exchange()
        await until_metric(target, "monstermq_open_ids_bytes", OPEN_IDS * 100)


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_row_15_the_brokers_own_topics_cannot_be_written(
    target: RunningBroker, attackers: Cast, qos: int
) -> None:
    watcher, peer = await connected(target, attackers), await connected(target, attackers)
    await watcher.subscribe(("$SYS/evil/#", 2), ("#", 2))
    dropped, reason = "monstermq_messages_dropped_total", "topic_not_writable"
    before = await metric(target, dropped, reason=reason)
    async with undisturbed(target):
        await peer.publish("$SYS/evil", b"x", qos, retain=True)
        await peer.ping()
    await until_metric(target, dropped, before + 1, reason=reason)
    seen = [p for p in await watcher.ping() if isinstance(p, Publish)]
    assert not [p for p in seen if p.topic.startswith("$SYS")]


async def test_row_15_topics_with_a_dollar_reach_only_who_names_them(
    target: RunningBroker, attackers: Cast
) -> None:
    everything, named = await connected(target, attackers), await connected(target, attackers)
    await everything.subscribe(("+/x", 0))
    await named.subscribe(("$foo/+", 0))
    peer = await connected(target, attackers)
    async with undisturbed(target):
        await peer.publish("$foo/x", b"x", 1)
        assert await named.ping() == [Publish("$foo/x", b"x")]
        assert await everything.ping() == []


async def test_row_6_a_will_on_the_brokers_own_topics_is_refused(
    target: RunningBroker, attackers: Cast
) -> None:
    peer = await attackers.peer(target.tcp_port)
    will = Will(topic="$SYS/evil", retain=True)
    async with undisturbed(target):
        assert (await peer.connect(next(_names), ConnectOptions(will=will))).code == 5
        await peer.closed()


async def test_row_9_many_wildcards_and_deep_topics_hold_nobody_up(
    target: RunningBroker, attackers: Cast
) -> None:
    peer = await connected(target, attackers)
    forks = ["deep/" + "/".join(levels) for levels in itertools.product("a+", repeat=9)]
    stairs = ["deep/" + "+/" * n + "#" for n in range(1, 190)]
    await peer.subscribe(*((topic_filter, 0) for topic_filter in forks + stairs))
    async with undisturbed(target) as neighbours:
        for n in range(50):
            await peer.send(encode_publish("deep/" + "a/" * 150 + str(n), b"x"))
            await peer.send(encode_publish("deep/" + "a/" * 8 + str(n), b"x"))
        for _ in range(5):
            await neighbours.exchange()
        assert len(await peer.ping()) == 100


async def test_row_10_a_filter_that_is_wrong_undoes_those_before_it(
    target: RunningBroker, attackers: Cast
) -> None:
    name, topic = next(_names), next(_names)
    persistent = ConnectOptions(clean=False)
    peer = await attackers.peer(target.tcp_port)
    await peer.connect(name, persistent)
    async with undisturbed(target):
        await send_or_be_closed(peer, encode_subscribe(1, [(topic, 1), ("a/#/b", 1)]))
        await peer.closed()
        publisher = await connected(target, attackers)
        await publisher.publish(topic, b"not for you", qos=1)
        again = await attackers.peer(target.tcp_port)
        await again.connect(name, persistent)
        assert await again.ping() == []


async def test_row_16_an_empty_id_of_a_persistent_session_is_refused_and_closed(
    target: RunningBroker, attackers: Cast
) -> None:
    peer = await attackers.peer(target.tcp_port)
    async with undisturbed(target):
        assert (await peer.connect("", ConnectOptions(clean=False))).code == 2
        await peer.closed()


async def test_row_21_a_takeover_storm_is_slowed_down(
    target: RunningBroker, attackers: Cast
) -> None:
    name = next(_names)
    codes: list[int] = []
    async with undisturbed(target) as neighbours:
        accepted = []
        for _ in range(20):
            peer = await attackers.peer(target.tcp_port)
            connack = await peer.connect(name)
            codes.append(connack.code)
            if connack.code == 0:
                accepted.append(peer)
            else:
                await peer.closed()
        await neighbours.exchange()
        assert codes == [0] * 6 + [3] * 14
        for peer in accepted[:-1]:
            await peer.closed()
        assert await accepted[-1].ping() == []
    await until_metric(target, "monstermq_connections_refused_total", 14, reason="takeover_rate")


async def test_row_22_a_half_open_connection_ends_and_its_will_is_published(
    target: RunningBroker, attackers: Cast
) -> None:
    topic = next(_names)
    watcher = await connected(target, attackers)
    await watcher.subscribe((topic, 1))
    options = ConnectOptions(keep_alive_s=1, will=Will(topic=topic, qos=1))
    async with undisturbed(target):
        silent = await connected(target, attackers, options)
        assert await watcher.take() == Publish(topic, b"gone", qos=1)
        await silent.closed()
    await until_metric(target, "monstermq_disconnects_total", 1, reason="keep_alive_timeout")


async def test_row_22_a_client_that_never_reads_loses_qos_0_and_slows_nobody(
    target: RunningBroker, attackers: Cast
) -> None:
    deaf, loud = await connected(target, attackers), await connected(target, attackers)
    await deaf.subscribe(("#", 0))
    dropped, reason = "monstermq_messages_dropped_total", "outbox_full_qos0"
    before = await metric(target, dropped, reason=reason)
    async with undisturbed(target, growth_mib=30) as neighbours:
        for _ in range(40):
            for _ in range(5):
                await loud.publish("noise", bytes(200_000))
            await loud.ping()
            await neighbours.exchange()
        assert await metric(target, dropped, reason=reason) > before
        received = await deaf.ping()
    assert 0 < len(received) < 200 + 3 * 40


async def flood_with_qos_1(loud: Peer, topic: str, count: int) -> None:
    """Publish many messages of 1 KB and wait for all PUBACKs, in order."""
    for start in range(1, count, 100):
        ids = range(start, start + 100)
        await loud.send(
            *(
                encode_publish(topic, str(n).encode().ljust(1_024, b"."), qos=1, packet_id=n)
                for n in ids
            )
        )
        for packet_id in ids:
            await loud.expect(Puback(packet_id))


async def test_row_22_a_clean_client_that_never_acknowledges_is_disconnected(
    target: RunningBroker, attackers: Cast
) -> None:
    topic = next(_names)
    deaf, loud = await connected(target, attackers), await connected(target, attackers)
    await deaf.subscribe((topic, 1))
    held = await metric(target, "monstermq_held_publishers_total")
    async with undisturbed(target) as neighbours:
        async with asyncio.TaskGroup() as group:
            flood = group.create_task(flood_with_qos_1(loud, topic, 1_000))
            while not flood.done():
                await neighbours.exchange()
        packets = await read_until_closed(deaf)
    assert all(isinstance(packet, Publish) for packet in packets)
    assert await metric(target, "monstermq_held_publishers_total") > held
    await until_metric(target, "monstermq_disconnects_total", 1, reason="slow_consumer")
    assert await metric(target, "monstermq_messages_dropped_total", reason="slow_consumer") > 0


async def test_row_22_a_persistent_client_that_never_acknowledges_loses_nothing(
    target: RunningBroker, attackers: Cast
) -> None:
    topic, count = next(_names), 1_000
    deaf = await connected(target, attackers, ConnectOptions(clean=False))
    loud = await connected(target, attackers)
    await deaf.subscribe((topic, 1))
    async with undisturbed(target) as neighbours:
        async with asyncio.TaskGroup() as group:
            flood = group.create_task(flood_with_qos_1(loud, topic, count))
            while not flood.done():
                await neighbours.exchange()
        taken = [(await deaf.take()).payload.rstrip(b".") for _ in range(count)]
    assert taken == [str(n).encode() for n in range(1, count + 1)]
    assert await metric(target, "monstermq_parked_sessions_total") > 0


async def test_row_10_a_client_gets_no_more_subscriptions_than_the_limit(
    broker: RunningBroker, cast: Cast
) -> None:
    broker.start("Limits: {SubscriptionsPerClient: 100}")
    peer = await connected(broker, cast)
    async with undisturbed(broker):
        codes = await peer.subscribe(*((f"topic/{n}", 1) for n in range(150)))
        assert codes == (1,) * 100 + (0x80,) * 50
        assert await metric(broker, "monstermq_subscriptions_refused_total") == 50


async def test_row_23_a_retained_flood_goes_to_the_disk_and_comes_back_as_it_is_read(
    broker: RunningBroker, cast: Cast
) -> None:
    topics, per_batch = 20_000, 500
    broker.start("Limits: {CommitBacklogKb: 4096}")
    peer = await connected(broker, cast)
    async with undisturbed(broker, growth_mib=120) as neighbours:
        for start in range(0, topics, per_batch):
            await peer.send(
                *(
                    encode_publish(f"flood/{n:06}", bytes(1_024), retain=True)
                    for n in range(start, start + per_batch)
                )
            )
            await peer.ping()
        await peer.publish("flood/last", b"x", qos=1, retain=True)
        await neighbours.exchange()
    # The caches of the reading connections, and an outbox for each reader: not all of it for each.
    async with undisturbed(broker, growth_mib=80) as neighbours:
        deaf = [await connected(broker, cast) for _ in range(8)]
        for reader in deaf:
            await reader.subscribe(("flood/#", 0))
        for _ in range(10):
            await neighbours.exchange()
        seen = {(await deaf[0].receive()).topic for _ in range(topics + 1)}
        assert len(seen) == topics + 1


async def test_row_30_connections_beyond_the_limit_are_closed_at_once(
    broker: RunningBroker, cast: Cast
) -> None:
    broker.start("Limits: {Connections: 10}")
    async with undisturbed(broker):
        accepted = [await connected(broker, cast) for _ in range(8)]
        for _ in range(20):
            await (await cast.peer(broker.tcp_port)).closed()
        refused = await metric(
            broker, "monstermq_connections_refused_total", reason="connections_max"
        )
        assert refused == 20
        await accepted[0].disconnect()
        await connected(broker, cast)


async def test_a_suback_follows_every_subscribe_of_a_burst(
    target: RunningBroker, attackers: Cast
) -> None:
    peer = await connected(target, attackers)
    topics = [next(_names) for _ in range(500)]
    async with undisturbed(target):
        await peer.send(
            *(encode_subscribe(n, [(topic, 0)]) for n, topic in enumerate(topics, start=1))
        )
        for n in range(1, 501):
            await peer.expect(Suback(n, (0,)))
