"""The MCP server on a Kafka bus: the log from a place on, live messages, publishing."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.kafka import KafkaServer
from tests.support.kafka_bus import bus_settings, produce
from tests.support.kafka_tools import delete_below, new_topic_name
from tests.support.mcp_server import configured, served

from monstermq_mcp.kafka import door as door_module
from monstermq_mcp.kafka import log_queries
from monstermq_mcp.kafka.door import BusDoor
from monstermq_mcp.kafka.feed import KafkaFeed
from monstermq_mcp.kafka.log_queries import KafkaLogQueries
from monstermq_mcp.kafka.publishing import KafkaPublisher
from monstermq_shared.bus import watching
from monstermq_shared.bus.ports import Stamp
from monstermq_shared.bus.publishing import PublisherLimits
from monstermq_shared.clock import SystemClock
from monstermq_shared.errors import BusUnavailable, QueryRefused
from monstermq_shared.queries.cursors import Cursors
from monstermq_shared.queries.live import LogPage, LogQuery, LogSource, Publication
from monstermq_shared.records import Record

pytestmark = pytest.mark.integration

SOON_S = 30.0
TOPICS = [f"plant/{number}" for number in range(7)]


class Scene:
    """A bus, and all that is asked of it."""

    def __init__(self, servers: str) -> None:
        self.topic = new_topic_name()
        self.door = BusDoor(bus_settings(servers, self.topic))
        self.log = KafkaLogQueries(self.door, Cursors())
        self.feed = KafkaFeed(self.door)
        self.publisher = KafkaPublisher(self.door, PublisherLimits(levels_max=10, size_max=1000))
        self._sequence = 0
        self.begin_ms = 0

    async def publish(self, topic: str, payload: bytes, time_ms: int) -> None:
        """Append with a time of its own."""
        bus = await self.door.bus()
        log, self._sequence = bus.messages, self._sequence + 1
        record = Record(topic, payload, 1, False, "sensor", time_ms, 0)
        stamp = Stamp(b"a writer", self._sequence)
        await log.append(log.partition_of(topic), [record], stamp)

    async def publish_all(self, count: int) -> list[str]:
        """Publish messages, a second apart, to all topics in turn; return their payloads."""
        bus = await self.door.bus()
        now_ms = SystemClock().wall_ms() - count * 1000
        self.begin_ms = now_ms
        for number in range(count):
            topic = TOPICS[number % len(TOPICS)]
            await self.publish(topic, b"%d" % number, now_ms + number * 1000)
        assert bus.messages.partitions == 3
        return [str(number) for number in range(count)]


@pytest.fixture
async def scene(kafka_server: KafkaServer) -> AsyncIterator[Scene]:
    scene = Scene(kafka_server.address())
    yield scene
    await scene.door.close()


def texts(page: LogPage) -> list[str | None]:
    return [message.text for message in page.messages]


async def test_the_newest_come_without_a_place_merged_by_time(scene: Scene) -> None:
    payloads = await scene.publish_all(20)
    page = await scene.log.read(LogQuery(filters=("plant/#",), limit=5))
    assert texts(page) == payloads[-5:]
    assert (page.source, page.more) == (LogSource.BUS, False)
    assert page.messages[-1].client_id == "sensor"
    # Where to go on: with what comes next.
    await scene.publish("plant/1", b"news", scene.begin_ms)
    after = await scene.log.read(LogQuery(filters=("plant/#",), cursor=page.next_cursor))
    assert texts(after) == ["news"]


@pytest.mark.parametrize("limit", [1, 3, 8, 100])
async def test_pages_from_a_time_have_every_message_once(scene: Scene, limit: int) -> None:
    payloads = await scene.publish_all(30)
    start_ms = scene.begin_ms + 10_000
    query = LogQuery(filters=("plant/#",), start_ms=start_ms, limit=limit)
    page = await scene.log.read(query)
    found = texts(page)
    while page.more:
        page = await scene.log.read(
            LogQuery(filters=("plant/#",), limit=limit, cursor=page.next_cursor)
        )
        assert len(page.messages) <= limit
        found += texts(page)
    assert sorted(map(str, found), key=int) == payloads[10:]
    if limit == 100:
        assert found == payloads[10:]


async def test_one_goes_on_after_any_message_of_a_page(scene: Scene) -> None:
    payloads = await scene.publish_all(20)
    for start_ms in (None, scene.begin_ms):
        page = await scene.log.read(LogQuery(filters=("#",), start_ms=start_ms, limit=20))
        assert texts(page) == payloads
        for shown in (1, 7, 20):
            rest = await scene.log.read(LogQuery(filters=("#",), cursor=page.cursors[shown - 1]))
            assert texts(rest) == payloads[shown:]


async def test_filters_pick_and_payloads_are_cut(scene: Scene) -> None:
    await scene.publish_all(14)
    await scene.publish("wide", b"x" * 500, scene.begin_ms)
    page = await scene.log.read(LogQuery(filters=("plant/3", "wide"), payload_limit=10))
    assert sorted((m.topic, m.payload_size) for m in page.messages) == [
        ("plant/3", 1),
        ("plant/3", 2),
        ("wide", 500),
    ]
    assert max(len(message.payload) for message in page.messages) == 10


async def test_a_page_ends_where_it_has_looked_at_enough(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_queries, "SCANNED_MAX", 5)
    await scene.publish_all(14)
    found: list[str | None] = []
    query = LogQuery(filters=("plant/6",), start_ms=scene.begin_ms)
    page = await scene.log.read(query)
    while page.more:
        found += texts(page)
        page = await scene.log.read(LogQuery(filters=("plant/6",), cursor=page.next_cursor))
    assert found + texts(page) == ["6", "13"]


async def test_what_is_no_record_of_ours_is_passed_over(
    scene: Scene, kafka_server: KafkaServer
) -> None:
    await scene.publish_all(1)
    await produce(kafka_server.address(), scene.topic, {"key": b"plant/1", "value": b"{}"})
    page = await scene.log.read(LogQuery(filters=("plant/#",), start_ms=scene.begin_ms))
    assert texts(page) == ["0"]


async def test_a_forged_cursor_and_one_of_another_question_are_refused(scene: Scene) -> None:
    await scene.publish_all(1)
    page = await scene.log.read(LogQuery(filters=("plant/#",)))
    for query in (
        LogQuery(filters=("plant/#",), cursor="AAAA"),
        LogQuery(filters=("plant/+",), cursor=page.next_cursor),
    ):
        with pytest.raises(QueryRefused, match=r"this position .* go on with startTime"):
            await scene.log.read(query)


async def test_what_was_deleted_behind_a_position_is_told(
    scene: Scene, kafka_server: KafkaServer, tmp_path: Path
) -> None:
    await scene.publish_all(20)
    begun = LogQuery(filters=("plant/#",), start_ms=scene.begin_ms, limit=5)
    page = await scene.log.read(begun)
    await delete_below(kafka_server.address(), scene.topic, dict.fromkeys(range(3), -1))
    await scene.publish("plant/1", b"new", SystemClock().wall_ms())
    async with served(configured(tmp_path / "monstermq.db"), log=scene.log) as asked:
        found = await asked.answer("read-log", topics="plant/#", position=page.next_cursor)
        from_then_on = await asked.answer(
            "read-log", topics="plant/#", position=found["nextPosition"]
        )

    assert [row["payload"] for row in found["rows"]] == ["new"]
    assert found["hint"].startswith("Up to 15 messages that followed the position")
    assert "Up to" not in from_then_on["hint"]


# Live


async def test_a_watch_shows_what_is_published_from_then_on(scene: Scene) -> None:
    await scene.publish_all(3)
    async with scene.feed.watch(["plant/#"], payload_limit=10) as watch:
        async with scene.feed.watch(["other"], payload_limit=10) as other:
            await scene.publisher.publish(Publication(topic="plant/1", payload=b"23.5"))
            message = await watch.next(SOON_S)
            assert message is not None
            assert (message.topic, message.text, message.client_id) == ("plant/1", "23.5", "mcp")
            assert await other.next(0.01) is None
        await scene.publisher.publish(Publication(topic="plant/2", payload=b"", retained=True))
        message = await watch.next(SOON_S)
        assert message is not None
        assert (message.topic, message.retained) == ("plant/2", True)
    async with scene.feed.watch(["plant/#"], payload_limit=10) as again:
        await scene.publisher.publish(Publication(topic="plant/1", payload=b"again"))
        message = await again.next(SOON_S)
        assert message is not None
        assert message.text == "again"


async def test_who_watches_is_told_that_the_bus_is_lost(scene: Scene) -> None:
    async with scene.feed.watch(["plant/#"], payload_limit=10) as watch:
        await scene.door.close()
        with pytest.raises(BusUnavailable, match="the bus on Kafka was lost"):
            await watch.next(SOON_S)
    async with scene.feed.watch(["plant/#"], payload_limit=10) as again:
        await scene.publisher.publish(Publication(topic="plant/1", payload=b"again"))
        assert await again.next(SOON_S) is not None


async def test_there_is_a_bound_on_watches(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "WATCHES_MAX", 1)
    async with scene.feed.watch(["a"], payload_limit=0):
        with pytest.raises(BusUnavailable, match="1 watches run already"):
            async with scene.feed.watch(["a"], payload_limit=0):
                pass


# Publishing, and a Kafka that is away


async def test_what_no_client_may_publish_is_refused_without_asking_kafka(scene: Scene) -> None:
    for topic in ("a/#", "$SYS/bus/control", "x" * 1001):
        with pytest.raises(QueryRefused):
            await scene.publisher.publish(Publication(topic=topic, payload=b""))


async def test_a_kafka_that_is_away_is_told_by_everything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(door_module, "OPEN_S", 2.0)
    scene = Scene("127.0.0.1:1")
    with pytest.raises(BusUnavailable, match="Kafka"):
        await scene.publisher.publish(Publication(topic="a", payload=b""))
    with pytest.raises(BusUnavailable, match="Kafka"):
        await scene.log.read(LogQuery(filters=("a",)))
    with pytest.raises(BusUnavailable, match="Kafka"):
        async with scene.feed.watch(["a"], payload_limit=0):
            pass
    await asyncio.wait_for(scene.door.close(), SOON_S)


async def test_the_tools_read_the_bus_watch_it_and_say_so(scene: Scene, tmp_path: Path) -> None:
    payloads = await scene.publish_all(20)
    config = configured(tmp_path / "monstermq.db")
    async with served(config, log=scene.log, live=scene.feed) as asked:
        read = await asked.answer("read-log", topics="plant/#", limit=5)
        watching = asyncio.create_task(
            asked.answer("watch-topics", topics="live/#", seconds=60, limit=1)
        )
        while not watching.done():
            await scene.publish("live/1", b"news", SystemClock().wall_ms())
            await asyncio.wait([watching], timeout=0.1)
        watched = await watching
        rest = await asked.answer("read-log", topics="plant/#", position=read["nextPosition"])
        nothing = await asked.answer("read-log", topics="quiet")

    assert (read["source"], read["truncated"]) == ("the bus", False)
    assert [row["payload"] for row in read["rows"]] == payloads[-5:]
    assert [row["payload"] for row in watched["rows"]] == ["news"]
    assert rest["rows"] == []
    assert "give startTime" in nothing["hint"]
