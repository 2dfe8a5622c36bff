"""What is retained, for a new subscription."""

from dataclasses import replace

import pytest
from tests.support.engine import (
    HOLD,
    QUEUE,
    Bench,
    acknowledge_everything,
    session_of,
    settings,
    subscribe_to,
    unsubscribe_from,
)
from tests.support.links import Closed, Publish, RecordingLink, Suback

from monstermq_shared.close_reasons import CloseReason
from monstermq_shared.sessions import retained
from monstermq_shared.sessions.local.persistent import Phase


def retain(
    bench: Bench, publisher: RecordingLink, topic: str, payload: bytes, qos: int = 1
) -> None:
    bench.publish(publisher, topic, payload, qos=qos, retain=True)


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def publisher(bench: Bench) -> RecordingLink:
    return bench.connect("p", clean=True)


def subscribe(bench: Bench, link: RecordingLink, topic_filter: str, qos: int = 1) -> None:
    subscribe_to(bench.engine, session_of(link), 7, [(topic_filter, qos)])


def test_what_is_committed_comes_after_suback_with_the_retain_flag(
    bench: Bench, publisher: RecordingLink
) -> None:
    retain(bench, publisher, "r/a", b"1")
    retain(bench, publisher, "r/b", b"2", qos=0)
    bench.settle()
    subscriber = bench.connect("s", clean=True)
    subscribe(bench, subscriber, "r/#")
    bench.settle()
    suback, *publishes = subscriber.take()
    assert suback == Suback(7, (1,))
    assert sorted(publishes) == [
        Publish("r/a", b"1", 1, 1, retain=True),
        Publish("r/b", b"2", 0, 0, retain=True),
    ]


def test_what_is_not_committed_yet_comes_instead_of_what_is(
    bench: Bench, publisher: RecordingLink
) -> None:
    for topic in ("r/changed", "r/cleared", "r/same"):
        retain(bench, publisher, topic, b"old")
    bench.settle()
    retain(bench, publisher, "r/changed", b"new")
    retain(bench, publisher, "r/cleared", b"")
    retain(bench, publisher, "r/fresh", b"new")
    subscriber = bench.connect_without_commit("s")
    subscribe(bench, subscriber, "r/#", 0)
    bench.work()
    bench.answer_reads()
    assert sorted((p.topic, p.payload) for p in subscriber.publishes()) == [
        ("r/changed", b"new"),
        ("r/fresh", b"new"),
        ("r/same", b"old"),
    ]


def test_a_row_older_than_what_came_live_meanwhile_is_skipped(
    bench: Bench, publisher: RecordingLink
) -> None:
    retain(bench, publisher, "r/a", b"old")
    bench.settle()
    subscriber = bench.connect("s", clean=True)
    subscribe(bench, subscriber, "r/#")
    bench.work()
    reads = bench.engine.take_reads()
    (read,) = reads
    rows = bench.disk.retained_page(read)  # type: ignore[arg-type]  # there is but one kind here
    retain(bench, publisher, "r/a", b"new")
    bench.engine.retained_page(read, rows)  # type: ignore[arg-type]
    assert [(p.payload, p.retain) for p in subscriber.publishes()] == [(b"new", False)]
    assert not bench.engine.retained.replays


def test_many_come_page_by_page_as_the_client_acknowledges() -> None:
    bench = Bench(settings(hold=replace(HOLD, pending_max=6)))
    publisher = bench.connect("p", clean=True)
    for number in range(40):
        retain(bench, publisher, f"r/{number:02}", b"x")
    bench.settle()
    subscriber = bench.connect("s", clean=True)
    subscribe(bench, subscriber, "r/#")
    topics = []
    waiting_max = 0
    bench.settle()
    while publishes := subscriber.publishes():
        topics += [publish.topic for publish in publishes]
        waiting_max = max(waiting_max, session_of(subscriber).pending_count)
        bench.engine.acknowledge(session_of(subscriber), [p.packet_id for p in publishes])
        bench.settle()
    assert topics == [f"r/{number:02}" for number in range(40)]
    assert waiting_max < 2 * 3
    assert not bench.engine.retained.replays


def test_a_replay_waits_for_room_in_the_outbox(bench: Bench, publisher: RecordingLink) -> None:
    retain(bench, publisher, "r/a", b"x")
    bench.settle()
    subscriber = bench.connect("s", clean=True)
    subscriber.room = False
    subscribe(bench, subscriber, "r/#", 0)
    bench.settle()
    assert subscriber.payloads() == []
    subscriber.room = True
    bench.engine.drained(session_of(subscriber))
    bench.settle()
    assert subscriber.payloads() == [b"x"]


def test_each_filter_of_a_subscribe_is_replayed_in_turn(
    bench: Bench, publisher: RecordingLink
) -> None:
    retain(bench, publisher, "r/a", b"x")
    bench.settle()
    subscriber = bench.connect("s", clean=True)
    subscribe_to(bench.engine, session_of(subscriber), 7, [("r/a", 0), ("none", 0), ("r/+", 1)])
    bench.settle()
    assert [(p.payload, p.qos) for p in subscriber.publishes()] == [(b"x", 0), (b"x", 1)]


def test_a_connection_that_ends_takes_its_replays_with_it(
    bench: Bench, publisher: RecordingLink
) -> None:
    retain(bench, publisher, "r/a", b"x")
    bench.settle()
    subscriber = bench.connect("s")
    subscribe(bench, subscriber, "r/#")
    bench.drop(subscriber)
    assert not bench.engine.retained.replays
    bench.settle()
    assert not bench.engine.retained.replays


def test_a_replay_that_ended_does_not_end_the_one_of_the_next_connection(
    bench: Bench, publisher: RecordingLink
) -> None:
    retain(bench, publisher, "r/a", b"x")
    bench.settle()
    subscriber = bench.connect("s")
    subscribe(bench, subscriber, "r/a")
    bench.commit()
    stale = bench.engine.take_reads()
    bench.drop(subscriber)
    subscriber = bench.connect("s")
    subscribe(bench, subscriber, "r/+")
    bench.commit()
    for read in stale:
        bench.engine.retained_page(read, ())  # type: ignore[arg-type]  # no queue is read here
    bench.settle()
    assert subscriber.payloads() == [b"x"]


def test_retained_messages_of_a_persistent_session_are_rows(
    bench: Bench, publisher: RecordingLink
) -> None:
    retain(bench, publisher, "r/a", b"x", qos=2)
    bench.settle()
    subscriber = bench.connect("s")
    subscribe(bench, subscriber, "r/a", 2)
    bench.settle()
    assert subscriber.publishes() == [Publish("r/a", b"x", 2, 1, retain=True)]
    again = bench.killed().connect_again("s")
    assert again.publishes() == [Publish("r/a", b"x", 2, 1, dup=True, retain=True)]


def test_retained_messages_wait_until_the_rows_are_sent_and_count_for_no_queue_limit() -> None:
    queue = replace(QUEUE, messages_max=20)
    bench = Bench(settings(window=5, queue=queue, hold=replace(HOLD, pending_max=10)))
    publisher = bench.connect("p", clean=True)
    for number in range(60):
        retain(bench, publisher, f"r/{number:02}", b"kept")
    bench.settle()
    bench.drop(bench.connect("s", ("t", 1)))
    bench.publish(publisher, "t", *(b"%d" % i for i in range(18)))
    bench.settle()
    subscriber = bench.attach("s")
    subscribe(bench, subscriber, "r/#")
    bench.settle()
    received = acknowledge_everything(bench, subscriber)
    assert received == [b"%d" % i for i in range(18)] + [b"kept"] * 60
    assert sum(bench.counters.dropped) == 0
    assert not bench.engine.retained.replays


def test_a_page_of_a_replay_that_comes_when_its_client_fell_behind_is_read_again() -> None:
    queue = replace(QUEUE, messages_max=10)
    bench = Bench(settings(window=1, queue=queue, hold=replace(HOLD, pending_max=8)))
    publisher = bench.connect("p", clean=True)
    for number in range(12):
        retain(bench, publisher, f"r/{number:02}", b"kept")
    bench.settle()
    subscriber = bench.connect("s", ("t", 1))
    subscribe(bench, subscriber, "r/#")
    bench.commit()
    bench.publish(publisher, "t", *(b"%d" % i for i in range(10)))
    bench.engine.tick(1.0, 1)
    bench.engine.tick(9.0, 9)
    assert bench.persistent("s").phase is Phase.LAGGING
    bench.settle()
    received = acknowledge_everything(bench, subscriber)
    assert received == [b"%d" % i for i in range(10)] + [b"kept"] * 12
    assert sum(bench.counters.dropped) == 0


def test_a_replay_overtaken_by_too_many_topics_ends_its_connection(
    bench: Bench, publisher: RecordingLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retained, "NOTED_TOPICS_MAX", 5)
    subscriber = bench.connect("s", clean=True)
    subscribe(bench, subscriber, "r/#", 0)  # whose first page is not answered
    for number in range(6):
        retain(bench, publisher, f"r/{number}", b"x", qos=0)
        retain(bench, publisher, f"other/{number}", b"x", qos=0)
    assert subscriber.take()[-1] == Closed(CloseReason.SLOW_CONSUMER)
    assert not bench.engine.retained.replays


def test_system_topics_are_replayed_from_memory(bench: Bench) -> None:
    bench.system_values["$SYS/uptime"] = b"5"
    subscriber = bench.connect("s", clean=True)
    subscribe(bench, subscriber, "$SYS/#")
    bench.settle()
    assert subscriber.publishes() == [Publish("$SYS/uptime", b"5", retain=True)]
    assert bench.engine.system_watchers.topics == 1


def test_only_the_brokers_own_topics_are_system_topics(
    bench: Bench, publisher: RecordingLink
) -> None:
    bench.system_values["$SYS/uptime"] = b"5"
    subscriber = bench.connect("s", clean=True)
    subscribe(bench, subscriber, "$SYSTEM/#")
    bench.settle()
    bench.publish(publisher, "$SYSTEM/x", b"mine")
    assert subscriber.payloads() == [b"mine"]
    assert bench.engine.system_watchers.topics == 0


def test_a_repeated_subscription_has_one_replay(bench: Bench, publisher: RecordingLink) -> None:
    retain(bench, publisher, "r/a", b"x", qos=0)
    bench.settle()
    subscriber = bench.connect("s", clean=True)
    subscriber.room = False
    for _ in range(5):
        subscribe(bench, subscriber, "r/#", 0)
    subscriber.room = True
    bench.engine.drained(bench.engine.sessions["s"])
    bench.settle()
    assert subscriber.payloads() == [b"x"]


def test_a_subscription_that_is_repeated_while_it_is_read_asks_for_no_second_page(
    bench: Bench, publisher: RecordingLink
) -> None:
    retain(bench, publisher, "r/a", b"x", qos=0)
    bench.settle()
    subscriber = bench.connect("s", clean=True)
    for _ in range(1_000):
        subscribe(bench, subscriber, "r/#", 0)
    assert bench.engine.chores.waiting == 1
    bench.work()
    assert len(bench.engine._reads) == 1
    bench.settle()
    assert subscriber.payloads() == [b"x"]
    assert not bench.engine.retained._reading


def test_an_ended_subscription_is_not_replayed(bench: Bench, publisher: RecordingLink) -> None:
    retain(bench, publisher, "r/a", b"x", qos=0)
    bench.settle()
    subscriber = bench.connect("s", clean=True)
    subscriber.room = False
    subscribe(bench, subscriber, "r/#", 0)
    unsubscribe_from(bench.engine, bench.engine.sessions["s"], 7, ["r/#"])
    assert not bench.engine.retained.replays
