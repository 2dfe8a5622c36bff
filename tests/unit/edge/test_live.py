"""Live messages and publishing on the internal bus, asked from another thread's event loop."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.broker import LOOPBACK, free_ports
from tests.support.form import pure_only
from tests.support.host import host_of
from tests.support.mqtt_peer import Peer
from tests.support.other_loop import OtherLoop, other_loop

from monstermq_edge.broker import Broker
from monstermq_edge.engines.local.live import LiveMessages, PublisherElsewhere
from monstermq_shared.bus import publishing, watching
from monstermq_shared.bus.publishing import LogPublisher, PublisherLimits
from monstermq_shared.bus.watching import MessageWatch, Published
from monstermq_shared.clock import SystemClock
from monstermq_shared.config import load_config
from monstermq_shared.errors import BusUnavailable, QueryRefused
from monstermq_shared.queries.history import Message
from monstermq_shared.queries.live import Publication

SOON_S = 30.0


class Scene:
    """A broker in this loop, and who asks it from another one."""

    def __init__(self, broker: Broker, port: int, elsewhere: OtherLoop) -> None:
        host = host_of(broker)
        loop = asyncio.get_running_loop()
        clock = SystemClock()
        self.engine = host.engine
        self.port = port
        self.elsewhere = elsewhere
        self.feed = LiveMessages(host.engine, loop, clock, broker.hub.touch)
        limits = PublisherLimits(levels_max=10, size_max=1000)
        publisher = LogPublisher(host.bus.messages, b"mcp-test", clock, limits)
        self.publisher = PublisherElsewhere(publisher, loop)
        self._watching = AsyncExitStack()

    async def watch(self, *filters: str, payload_limit: int = 100) -> MessageWatch:
        entering = self._watching.enter_async_context(
            self.feed.watch(filters, payload_limit=payload_limit)
        )
        return await self.elsewhere.run(entering)

    async def unwatch(self) -> None:
        await self.elsewhere.run(self._watching.aclose())

    async def next(self, watch: MessageWatch) -> Message | None:
        return await self.elsewhere.run(watch.next(SOON_S))

    async def publish(self, topic: str, payload: bytes, **more: Any) -> None:
        publication = Publication(topic=topic, payload=payload, **more)
        await self.elsewhere.run(self.publisher.publish(publication))

    async def peer(self) -> Peer:
        peer = await Peer.open(self.port)
        await peer.connect("peer")
        return peer


@pytest.fixture
def elsewhere() -> Iterator[OtherLoop]:
    with other_loop() as loop:
        yield loop


@pytest.fixture
async def scene(tmp_path: Path, elsewhere: OtherLoop) -> AsyncIterator[Scene]:
    (port,) = free_ports(1)
    settings = {
        "TCP": port,
        "BindAddress": LOOPBACK,
        "Metrics": {"Enabled": False},
        "SessionStoreType": "SQLITE",
        "RetainedStoreType": "SQLITE",
        "SQLite": {"Path": str(tmp_path / "monstermq.db"), "MinFreeMb": 0},
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    broker = Broker(load_config(path, {}).config, "1.2.3")
    await broker.start()
    scene = Scene(broker, port, elsewhere)
    try:
        yield scene
    finally:
        await scene.unwatch()
        await broker.stop()


async def test_a_watch_shows_what_is_published_from_then_on(scene: Scene) -> None:
    peer = await scene.peer()
    await peer.publish("plant/1", b"before", 1, retain=True)
    watch = await scene.watch("plant/+", "plant/#")
    await peer.publish("other", b"1", 1)
    await peer.publish("plant/1", b"23.5", 1, retain=True)
    message = await scene.next(watch)
    assert message is not None
    assert (message.topic, message.text, message.qos, message.retained) == (
        "plant/1",
        "23.5",
        1,
        True,
    )
    assert await scene.elsewhere.run(watch.next(0.01)) is None
    peer.drop()


async def test_a_payload_is_cut_and_its_size_and_kind_are_told(scene: Scene) -> None:
    watch = await scene.watch("a", payload_limit=3)
    await scene.publish("a", b"12345")
    await scene.publish("a", b"\xff\x00")
    first, second = await scene.next(watch), await scene.next(watch)
    assert first is not None
    assert second is not None
    assert (first.payload, first.payload_size, first.is_text) == (b"123", 5, True)
    assert (second.payload, second.is_text) == (b"\xff\x00", False)


async def test_what_nobody_takes_is_dropped_and_counted(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "WAITING_MAX", 3)
    watch = await scene.watch("a")
    for number in range(5):
        await scene.publish("a", b"%d" % number)
    assert [(await scene.next(watch) or message_none()).payload for _ in range(3)] == [
        b"0",
        b"1",
        b"2",
    ]
    assert watch.dropped == 2


async def test_what_waits_is_bounded_in_bytes(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "WAITING_SIZE_MAX", 250)
    watch = await scene.watch("a")
    for _ in range(5):
        await scene.publish("a", bytes(100))
    assert watch.dropped == 2
    await scene.next(watch)
    await scene.publish("a", bytes(100))
    assert watch.dropped == 2


async def test_topics_count_among_the_bytes_that_wait(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "WAITING_SIZE_MAX", 250)
    watch = await scene.watch("#")
    for number in range(5):
        await scene.publish(f"{number}{'a' * 99}", b"")
    assert watch.dropped == 2


async def test_who_watches_is_told_that_the_broker_has_ended_it(scene: Scene) -> None:
    watch = await scene.watch("a")
    await scene.publish("a", b"last")
    (client_id,) = scene.engine.sessions
    other = await Peer.open(scene.port)
    await other.connect(client_id)
    assert (await scene.next(watch) or message_none()).payload == b"last"
    with pytest.raises(BusUnavailable, match=r"has ended this watch \(taken over\)"):
        await scene.next(watch)
    other.drop()


def test_who_fills_a_watch_does_not_suffer_when_its_loop_has_ended() -> None:
    async def begin() -> MessageWatch:
        watch = MessageWatch(10)
        await watch.next(0.0)
        return watch

    watch = asyncio.run(begin())
    watch.put(Published(b"a", b"1", 0, 0, False))


def message_none() -> Message:
    raise AssertionError("nothing came")


async def test_a_watch_that_ends_leaves_nothing(scene: Scene) -> None:
    await scene.watch("a/#", "b")
    assert (scene.engine.connected, len(scene.engine.router)) == (1, 2)
    await scene.unwatch()
    await scene.publish("a", b"")  # a round trip through the broker's loop
    assert (scene.engine.connected, len(scene.engine.router)) == (0, 0)
    assert not scene.engine.sessions


@pytest.mark.parametrize("topic_filter", ["a/#/b", "", "$share/g/a", "/" * 1000])
async def test_a_filter_that_is_none_is_refused(scene: Scene, topic_filter: str) -> None:
    with pytest.raises(QueryRefused):
        await scene.watch(topic_filter)
    await scene.publish("a", b"")
    assert not scene.engine.sessions


async def test_there_is_a_bound_on_watches(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "WATCHES_MAX", 2)
    await scene.watch("a")
    await scene.watch("a")
    with pytest.raises(BusUnavailable, match="2 watches run already"):
        await scene.watch("a")
    await scene.unwatch()
    await scene.watch("a")


# Publishing


async def test_what_is_published_reaches_subscribers_and_is_retained(scene: Scene) -> None:
    peer = await scene.peer()
    await peer.subscribe(("set/#", 1))
    await scene.publish("set/1", b"on", retained=True)
    message = await peer.take()
    assert (message.topic, message.payload, message.qos) == ("set/1", b"on", 1)
    await peer.subscribe(("set/1", 1))
    assert (await peer.take()).retain
    peer.drop()


@pytest.mark.parametrize(
    ("topic", "problem"),
    [
        ("a/#", "contains a wildcard"),
        ("", "at least one character"),
        ("$SYS/broker/load", r"begins with \$"),
        ("$bus/control", r"begins with \$"),
        ("a\0b", "NUL"),
        ("/".join("a" * 11), "levels"),
        ("a" * 995, "995|1001|bytes"),
    ],
)
async def test_what_no_client_may_publish_is_refused(
    scene: Scene, topic: str, problem: str
) -> None:
    with pytest.raises(QueryRefused, match=problem):
        await scene.publish(topic, b"123456")


async def test_a_qos_that_is_none_is_refused(scene: Scene) -> None:
    with pytest.raises(QueryRefused, match="the QoS is 3"):
        await scene.publish("a", b"", qos=3)


@pure_only
async def test_a_broker_that_does_not_commit_is_told_in_time(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "ANSWER_S", 0.05)
    monkeypatch.setattr(scene.engine, "take_turn", lambda: None)
    with pytest.raises(BusUnavailable, match="whether it was published is not known"):
        await scene.publish("a", b"1", retained=True)
    monkeypatch.undo()
