"""The ``$SYS`` topics have mosquitto's names and formats, and tell only what changed."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.operation import settable_gauges

from monstermq_edge.operation.system_tree import (
    ClientStatistics,
    ClientTopics,
    LoadAverage,
    SystemTree,
    client_payload,
    client_topic,
)
from monstermq_shared.counters import Counters, DropReason

STARTED_S = 1000.0

LOADS = (
    "messages/received",
    "messages/sent",
    "publish/received",
    "publish/sent",
    "publish/dropped",
    "bytes/received",
    "bytes/sent",
    "sockets",
    "connections",
)
# What mosquitto 2.0 publishes, from its manual page; exporters look for these.
MOSQUITTO = {
    "version",
    "uptime",
    "timestamp",
    *(
        f"clients/{name}"
        for name in (
            "connected",
            "disconnected",
            "active",
            "inactive",
            "total",
            "maximum",
            "expired",
        )
    ),
    *(f"messages/{name}" for name in ("received", "sent", "stored", "inflight")),
    *(f"publish/messages/{name}" for name in ("received", "sent", "dropped")),
    *(f"{name}/{way}" for name in ("publish/bytes", "bytes") for way in ("received", "sent")),
    "subscriptions/count",
    "shared_subscriptions/count",
    "retained messages/count",
    "store/messages/count",
    "store/messages/bytes",
    "heap/current",
    "heap/maximum",
    *(f"load/{name}/{window}" for name in LOADS for window in ("1min", "5min", "15min")),
}


class Watched:
    """A tree, and what it reads."""

    def __init__(self) -> None:
        self.counters = Counters()
        self.gauges, self.present = settable_gauges()
        self.tree = SystemTree(
            self.counters,
            self.gauges,
            version="1.2.3",
            started_s=STARTED_S,
            started_ms=1_768_473_000_000,
        )

    def text(self, name: str, now_s: float = STARTED_S) -> str:
        return self.tree.values(now_s)["$SYS/broker/" + name].decode()


def test_every_name_of_mosquitto_is_there() -> None:
    names = {topic.removeprefix("$SYS/broker/") for topic in Watched().tree.values(STARTED_S)}
    assert names >= MOSQUITTO
    assert {name.partition("/")[0] for name in names - MOSQUITTO} == {
        "mqtt",
        "packet",
        "connections",
    }


def test_values_are_written_as_mosquitto_writes_them() -> None:
    watched = Watched()
    assert watched.text("version") == "MonsterMQ version 1.2.3"
    assert watched.text("uptime", STARTED_S + 61.9) == "61 seconds"
    assert watched.text("timestamp") == "2026-01-15T10:30:00.000Z"
    assert watched.text("load/sockets/1min") == "0.00"


def test_clients_are_split_into_present_and_away() -> None:
    watched = Watched()
    watched.present.update(clients_connected=3, sessions=5)
    watched.counters.clients_maximum = 4
    watched.counters.sessions_expired = 2
    assert watched.text("clients/connected") == watched.text("clients/active") == "3"
    assert watched.text("clients/disconnected") == watched.text("clients/inactive") == "2"
    assert watched.text("clients/total") == "5"
    assert watched.text("clients/maximum") == "4"
    assert watched.text("clients/expired") == "2"


def test_counters_arrive_under_their_names() -> None:
    watched = Watched()
    watched.counters.publish_received[:] = [1, 2, 4]
    watched.counters.packets_received[8] = 8
    watched.counters.dropped[DropReason.OUTBOX_FULL_QOS0] = 5
    watched.present.update(queued_messages=10, retained_messages=20, queued_bytes=300)
    assert watched.text("publish/messages/received") == "7"
    assert watched.text("messages/received") == "15"
    assert watched.text("mqtt/publish/received") == "7"
    assert watched.text("mqtt/subscribe/received") == "8"
    assert watched.text("publish/messages/dropped") == "5"
    assert watched.text("messages/stored") == watched.text("store/messages/count") == "30"
    assert watched.text("store/messages/bytes") == "300"
    assert watched.text("retained messages/count") == "20"


def test_the_highest_memory_is_remembered() -> None:
    watched = Watched()
    watched.present["resident_bytes"] = 500
    watched.tree.tick(STARTED_S + 1)
    watched.present["resident_bytes"] = 300
    assert watched.text("heap/current") == "300"
    assert watched.text("heap/maximum") == "500"


def test_load_follows_the_formula_of_mosquitto() -> None:
    watched = Watched()
    watched.counters.sockets_opened = 10
    watched.tree.tick(STARTED_S + 10)
    # 60 per minute, of which 1 - exp(-10 / window) has arrived.
    assert watched.text("load/sockets/1min") == "9.21"
    assert watched.text("load/sockets/5min") == "1.97"
    assert watched.text("load/sockets/15min") == "0.66"
    watched.tree.tick(STARTED_S + 20)
    assert watched.text("load/sockets/1min") == "7.80"


def test_a_tick_in_no_time_changes_nothing() -> None:
    watched = Watched()
    watched.counters.sockets_opened = 10
    watched.tree.tick(STARTED_S)
    watched.tree.tick(STARTED_S - 5)
    assert watched.text("load/sockets/1min") == "0.00"
    watched.tree.tick(STARTED_S + 10)
    assert watched.text("load/sockets/1min") == "9.21"


@given(
    steps=st.lists(st.tuples(st.integers(0, 10**6), st.floats(0.001, 3600)), min_size=1),
)
def test_load_stays_between_nothing_and_the_highest_rate(steps: list[tuple[int, float]]) -> None:
    load = LoadAverage(0)
    total = 0
    for added, elapsed_s in steps:
        total += added
        load.update(total, elapsed_s)
    highest = max(added * 60 / elapsed_s for added, elapsed_s in steps)
    assert all(0 <= float(text) <= highest + 0.01 for _, text in load.texts())


def test_only_changes_are_told_after_the_first_time() -> None:
    watched = Watched()
    assert dict(watched.tree.changed(STARTED_S)) == watched.tree.values(STARTED_S)
    assert watched.tree.changed(STARTED_S) == []
    watched.present["subscriptions"] = 2
    assert watched.tree.changed(STARTED_S) == [("$SYS/broker/subscriptions/count", b"2")]


def test_client_statistics_have_the_members_of_the_original() -> None:
    payload = client_payload(ClientStatistics("c", True, 1_768_473_000_000, 1, 2))
    assert json.loads(payload) == {
        "Connected": True,
        "LastPing": "2026-01-15T10:30:00.000Z",
        "InFlightMessagesRcv": 1,
        "InFlightMessagesSnd": 2,
    }


def test_before_the_first_ping_there_is_none() -> None:
    assert json.loads(client_payload(ClientStatistics("c", True, None, 0, 0)))["LastPing"] is None


@pytest.mark.parametrize("client_id", ["a/b", "+", "#", "a\x00b", "100%"])
def test_a_client_id_is_one_level_of_its_topic(client_id: str) -> None:
    topic = client_topic(client_id)
    assert topic is not None
    assert topic.count("/") == 3
    assert not set("+#\x00") & set(topic)


def test_a_client_id_too_long_for_a_topic_has_none() -> None:
    client_id = "/" * 65_535
    assert client_topic(client_id) is None
    assert ClientTopics().change(ClientStatistics(client_id, True, None, 0, 0)) is None


def test_a_client_is_told_of_when_something_changed() -> None:
    topics = ClientTopics()
    idle, busy = ClientStatistics("a", True, None, 0, 0), ClientStatistics("b", True, None, 0, 1)
    assert topics.change(idle) == ("$SYS/clients/a/statistics", client_payload(idle))
    assert topics.change(busy) == ("$SYS/clients/b/statistics", client_payload(busy))
    assert topics.change(idle) is None
    away = busy._replace(connected=False)
    assert topics.change(away) == ("$SYS/clients/b/statistics", client_payload(away))


def test_a_client_that_a_walk_does_not_meet_is_told_to_be_gone_and_forgotten() -> None:
    topics = ClientTopics()
    stays, goes = (ClientStatistics(name, True, 1, 2, 3) for name in "ab")
    away = ClientStatistics("c", False, None, 0, 0)
    for clients, gone in (
        ((goes, away, stays), []),
        ((stays,), [("$SYS/clients/b/statistics", ClientStatistics("b", False, None, 0, 0)), None]),
        ((stays,), []),
    ):
        topics.begin()
        for client in clients:
            topics.change(client)
        expected = [at and (at[0], client_payload(at[1])) for at in gone]
        assert list(topics.gone()) == expected
    assert len(topics) == 1


def test_a_client_is_told_of_again_to_who_comes_later() -> None:
    topics = ClientTopics()
    clients = [ClientStatistics(name, True, None, 0, 0) for name in "abc"]
    for forgotten in (0, 0, 2):
        topics.tell_again()
        assert all(topics.change(client) for client in clients)
        assert not any(topics.change(client) for client in clients)
        topics.forget(forgotten)
        assert all(topics.change(client) for client in clients)
    topics.forget(9)
    assert len(topics) == 0
