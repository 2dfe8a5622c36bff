"""Coming and going: takeover, clean sessions, wills, expiry, restarts."""

from dataclasses import replace

import pytest
from tests.support.disk import Disk
from tests.support.engine import SETTINGS, Bench, session_of, subscribe_to, unsubscribe_from
from tests.support.links import Closed, Connack, Publish, Suback, Unsuback

from monstermq_shared.close_reasons import CloseReason
from monstermq_shared.counters import DropReason
from monstermq_shared.messages import Will

WILL = Will(topic="w", payload=b"gone", qos=1, retain=False)


def test_connack_of_a_persistent_session_waits_for_its_row() -> None:
    bench = Bench()
    link = bench.attach("s")
    assert link.take() == []
    bench.commit()
    assert link.take() == [Connack(False)]
    assert bench.disk.client("s").row is not None


def test_connack_of_a_clean_session_leaves_at_once_and_writes_nothing() -> None:
    bench = Bench()
    link = bench.attach("s", clean=True)
    assert link.take() == [Connack(False)]
    bench.drop(link)
    assert bench.engine.take_turn() is None
    assert not bench.engine.sessions


def test_a_clean_session_that_replaces_a_persistent_one_waits_for_its_end() -> None:
    bench = Bench()
    subscriber = bench.connect("s", ("t", 2))
    bench.publish(subscriber, "t", b"x", qos=2)
    bench.settle()
    link = bench.attach("s", clean=True)
    assert link.take() == []
    bench.commit()
    assert link.take() == [Connack(False)]
    assert "s" not in bench.disk.clients or not bench.disk.client("s").queue


def test_a_second_clean_session_waits_for_the_end_of_the_persistent_one_too() -> None:
    bench = Bench()
    bench.connect("s", ("t", 2))
    bench.attach("s", clean=True)
    link = bench.attach("s", clean=True)
    assert link.take() == []
    bench.commit()
    assert link.take() == [Connack(False)]
    assert not bench.killed().engine.sessions


def test_session_present_survives_a_kill() -> None:
    bench = Bench()
    bench.connect("s", ("t", 1))
    link = bench.killed().connect_again("s")
    assert link.take() == [Connack(True)]


def test_a_takeover_closes_the_older_connection_before_anything_is_told() -> None:
    bench = Bench()
    older = bench.connect("s", ("t", 1))
    newer = bench.attach("s")
    assert older.take() == [Closed(CloseReason.TAKEN_OVER)]
    bench.settle()
    assert newer.take() == [Connack(True)]
    assert bench.counters.takeovers == 1
    bench.publish(bench.connect("p", clean=True), "t", b"x")
    assert (older.payloads(), newer.payloads()) == ([], [b"x"])


def test_what_an_older_connection_was_owed_is_not_said_to_the_newer() -> None:
    bench = Bench()
    older = bench.connect("s")
    subscribe_to(bench.engine, session_of(older), 9, [("t", 1)])
    newer = bench.attach("s")
    bench.settle()
    assert newer.take() == [Connack(True)]


def test_subscriptions_are_committed_before_suback_and_unsuback() -> None:
    bench = Bench()
    link = bench.connect("s")
    subscribe_to(bench.engine, session_of(link), 1, [("t", 1), ("u", 2)])
    assert link.take() == []
    bench.commit()
    assert link.take() == [Suback(1, (1, 2))]
    assert bench.disk.client("s").subscriptions == {"t": 1, "u": 2}
    unsubscribe_from(bench.engine, session_of(link), 2, ["t", "unknown"])
    assert link.take() == []
    bench.commit()
    assert link.take() == [Unsuback(2)]
    assert bench.disk.client("s").subscriptions == {"u": 2}


def test_a_subscription_holds_before_its_suback() -> None:
    bench = Bench()
    link = bench.connect("s")
    subscribe_to(bench.engine, session_of(link), 1, [("t", 1)])
    bench.publish(bench.attach("p", clean=True), "t", b"x")
    assert link.payloads() == [b"x"]


def test_subscriptions_above_the_limit_are_refused_and_known_ones_are_not() -> None:
    bench = Bench(replace(SETTINGS, subscriptions_max=2))
    link = bench.connect("s", clean=True)
    subscribe_to(bench.engine, session_of(link), 1, [("a", 1), ("b", 1), ("c", 1), ("a", 2)])
    assert link.take() == [Suback(1, (1, 1, 0x80, 2))]
    assert bench.counters.subscriptions_refused == 1
    bench.publish(bench.connect("p", clean=True), "c", b"x")
    assert link.take() == []


def test_a_will_is_stored_before_connack() -> None:
    bench = Bench()
    link = bench.attach("c", clean=True, will=WILL)
    assert link.take() == []
    bench.commit()
    assert link.take() == [Connack(False)]
    row = bench.disk.client("c").row
    assert row is not None
    assert row.will == WILL


@pytest.mark.parametrize("clean", [True, False], ids=["clean", "persistent"])
@pytest.mark.parametrize(
    ("reason", "published"),
    [
        (CloseReason.TRANSPORT_CLOSED, [b"gone"]),
        (CloseReason.KEEP_ALIVE_TIMEOUT, [b"gone"]),
        (CloseReason.PROTOCOL_ERROR, [b"gone"]),
        (CloseReason.CLIENT_DISCONNECTED, []),
    ],
)
def test_a_will_is_published_unless_the_client_said_disconnect(
    clean: bool, reason: CloseReason, published: list[bytes]
) -> None:
    bench = Bench()
    watcher = bench.connect("watcher", ("w", 1))
    client = bench.attach("c", clean=clean, will=WILL)
    bench.settle()
    bench.drop(client, reason)
    bench.settle()
    assert watcher.payloads() == published
    assert bench.counters.wills_published == len(published)
    assert not bench.killed().counters.wills_published


def test_a_takeover_publishes_the_will() -> None:
    bench = Bench()
    watcher = bench.connect("watcher", ("w", 1))
    bench.attach("c", clean=True, will=WILL)
    bench.attach("c", clean=True)
    bench.settle()
    assert watcher.payloads() == [b"gone"]


def test_a_kill_publishes_the_will_at_the_next_start_once() -> None:
    bench = Bench()
    bench.connect("watcher", ("w", 1))
    bench.attach("c", clean=True, will=WILL)
    bench.settle()
    after = bench.killed()
    after.settle()
    assert after.counters.wills_published == 1
    again = after.killed()
    assert again.counters.wills_published == 0
    assert again.connect_again("watcher").payloads() == [b"gone"]


def test_a_lowered_limit_of_topic_levels_drops_a_will_and_keeps_subscriptions() -> None:
    deep = "/".join("a" * 20)
    bench = Bench(replace(SETTINGS, topic_levels_max=50))
    bench.drop(bench.connect("s", (deep, 1)))
    bench.attach("c", clean=True, will=replace(WILL, topic=deep))
    bench.attach("d", clean=True, will=WILL)
    bench.settle()
    after = Bench(replace(SETTINGS, topic_levels_max=19), disk=Disk())
    assert after.engine.restore(bench.disk.load(), 0) == []
    (problem,) = after.engine.restored(0)
    assert "'c'" in problem
    assert "20 levels" in problem
    assert after.counters.dropped[DropReason.TOPIC_NOT_WRITABLE] == 1
    assert after.counters.wills_published == 1
    assert after.engine.sessions["s"].subscriptions == {deep: 1}


def test_a_retained_will_is_retained() -> None:
    bench = Bench()
    client = bench.attach("c", clean=True, will=replace(WILL, retain=True))
    bench.settle()
    bench.drop(client)
    bench.settle()
    assert bench.disk.retained["w"].payload == b"gone"


def test_the_rest_of_a_page_that_was_asked_for_an_ended_session_is_ignored() -> None:
    bench = Bench()
    bench.drop(bench.connect("s", ("t", 1)))
    bench.publish(bench.connect("p", clean=True), "t", b"x")
    bench.settle()
    bench.attach("s")
    bench.commit()
    clean = bench.attach("s", clean=True)
    bench.settle()
    assert clean.take() == [Connack(False)]


def test_a_stop_and_a_start_keep_subscriptions() -> None:
    bench = Bench()
    bench.drop(bench.connect("s", ("t", 1)))
    bench.settle()
    after = bench.killed()
    after.publish(after.connect("p", clean=True), "t", b"x")
    after.settle()
    assert after.connect_again("s").publishes() == [Publish("t", b"x", 1, 1)]


def test_connections_are_counted() -> None:
    bench = Bench()
    first = bench.connect("a", clean=True)
    bench.connect("b")
    bench.attach("b")
    assert bench.engine.connected == 2
    bench.drop(first)
    assert bench.engine.connected == 1
    assert bench.counters.clients_maximum == 2
    assert bench.engine.is_connected("b")
    assert not bench.engine.is_connected("a")


def test_a_shared_subscription_is_refused() -> None:
    bench = Bench()
    link = bench.connect("s", clean=True)
    subscribe_to(bench.engine, session_of(link), 1, [("$share/g/t", 1), ("$shared", 1)])
    assert link.take() == [Suback(1, (0x80, 1))]
    assert bench.counters.subscriptions_refused == 1
