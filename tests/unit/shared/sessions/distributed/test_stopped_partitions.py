"""What a partition that is read no more (R6) means for who is there, and for who comes."""

from dataclasses import replace

import pytest
from tests.support.edges import LEASE_S, Edge, two_edges
from tests.support.kept_edges import KEPT, KeptBus, KeptEdge
from tests.support.links import Closed, Connack, RecordingLink, Told

from monstermq_shared.bus.header import Kind
from monstermq_shared.close_reasons import CloseReason
from monstermq_shared.counters import Refusal
from monstermq_shared.records import CONTROL_TOPIC, SESSION_TOPIC, ControlRecord
from monstermq_shared.sessions.distributed import connections
from monstermq_shared.sessions.ports import Answer

LATER = b'{"v":2,"facts":[]}'
STOPPED = 1
UNAVAILABLE = Refusal.SERVER_UNAVAILABLE


@pytest.fixture
def edge() -> KeptEdge:
    edge = KeptEdge(KeptBus(), replace(KEPT, connect_timeout_s=5.0))
    edge.start()
    return edge


def topic_there(edge: Edge) -> str:
    """Return a topic whose messages go to the partition that is stopped."""
    return next(t for t in "abcdefghijk" if edge.messages.partition_of(t) == STOPPED)


def stop(edge: KeptEdge, log: str) -> None:
    """Let a process of a later release write what nobody here knows."""
    facts = log == "sessions"
    topic, kind = (SESSION_TOPIC, Kind.FACTS) if facts else (CONTROL_TOPIC, Kind.CONTROL)
    record = ControlRecord(topic, LATER, edge.wall_ms, 0, kind)
    getattr(edge.bus, log).write(STOPPED, [record], b"later", 0)


def client_of(edge: KeptEdge, partition: int) -> str:
    """Return a client whose facts stand in a partition of the sessions log."""
    return next(name for name in "abcdefghijk" if edge.facts.partition_of(name) == partition)


def refusal(edge: KeptEdge, client_id: str, *, clean: bool) -> Refusal | None:
    refused = edge.engine.refusal(client_id, clean=clean)
    return None if refused is None else refused[0]


def miss_and_get_back(edge: KeptEdge) -> None:
    """Miss the lease, and let all be read that is read before clients go on (E13)."""
    edge.tick(LEASE_S + 1)
    edge.settle()
    edge.tick(LEASE_S / 3)
    edge.settle()


# -- the sessions log ----------------------------------------------------------------------------


@pytest.mark.parametrize("clean", [True, False])
def test_nobody_is_let_in_whose_claim_would_not_be_read(edge: KeptEdge, clean: bool) -> None:
    stop(edge, "sessions")
    edge.settle()
    there, here = client_of(edge, 1 - STOPPED), client_of(edge, STOPPED)
    assert refusal(edge, there, clean=clean) is None
    assert refusal(edge, here, clean=clean) is UNAVAILABLE


def test_claims_that_are_never_read_count_no_more(
    edge: KeptEdge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "CLAIMS_MAX", 1)
    there, here = client_of(edge, 1 - STOPPED), client_of(edge, STOPPED)
    stop(edge, "sessions")
    link = edge.attach(here)
    assert refusal(edge, there, clean=True) is UNAVAILABLE
    edge.settle()
    assert refusal(edge, there, clean=True) is None
    assert not edge.engine.is_connected(here)
    assert not edge.engine.connections.claiming
    edge.tick(6)
    edge.work()
    assert link.take() == [Closed(CloseReason.CONNECT_TIMEOUT)]


def test_clients_whose_takeovers_are_not_read_wait(edge: KeptEdge) -> None:
    here, there = (
        edge.connect_kept(client_of(edge, partition), ("t", 1))
        for partition in (STOPPED, 1 - STOPPED)
    )
    stop(edge, "sessions")
    edge.settle()
    assert (here.holds, there.holds) == (1, 0)
    edge.publish(edge_publisher(edge), "t", b"x")
    edge.settle()
    assert (here.payloads(), there.payloads()) == ([], [b"x"])
    miss_and_get_back(edge)
    assert (here.holds, there.holds) == (1, 0), "a lease changes nothing where none is read"
    (reason,) = edge.engine.unready()
    assert reason.startswith(f"sessions partition {STOPPED} stopped")


def edge_publisher(edge: KeptEdge) -> RecordingLink:
    """Connect a publisher that can be judged."""
    names = (f"p{number}" for number in range(20))
    name = next(each for each in names if edge.facts.partition_of(each) != STOPPED)
    return edge.connect(name)


def test_with_all_partitions_stopped_nothing_is_delivered() -> None:
    edge = KeptEdge(KeptBus(partitions=3, sessions=2), KEPT)
    edge.start()
    link = edge.connect("a", ("t", 0))
    for partition in range(2):
        edge.engine.connections.stopped[partition] = "stopped"
    edge.publish(link, "t", b"x", qos=0)
    edge.settle()
    assert link.take() == []
    assert len(edge.engine.stalls) == 0, "nobody waits for a lease"


def test_an_edge_that_starts_serves_who_can_be_judged() -> None:
    bus = KeptBus()
    first = KeptEdge(bus, KEPT)
    for log in ("sessions", "messages"):
        stop(first, log)
    edge = KeptEdge(bus, KEPT)
    edge.tick()
    edge.settle()
    assert len(edge.engine.stalls) == 0
    link = edge.attach(client_of(edge, 1 - STOPPED))
    edge.settle()
    assert link.take() == [Connack(session_present=False)]


# -- the log of messages -------------------------------------------------------------------------


def test_kept_sessions_are_refused_whose_markers_would_not_be_read(edge: KeptEdge) -> None:
    stop(edge, "messages")
    edge.settle()
    assert refusal(edge, "c", clean=False) is UNAVAILABLE
    assert refusal(edge, "c", clean=True) is None


def test_markers_that_are_never_read_are_waited_for_until_the_deadline(edge: KeptEdge) -> None:
    link = edge.attach_kept("c")
    stop(edge, "messages")
    edge.settle()
    assert len(edge.engine.kept.markers) == 0
    assert link.take() == []
    edge.tick(6)
    edge.work()
    assert link.take() == [Closed(CloseReason.CONNECT_TIMEOUT)]


def test_a_subscribe_there_waits_until_the_deadline(edge: KeptEdge) -> None:
    link = edge.connect_kept("c")
    stop(edge, "messages")
    edge.settle()
    edge.subscribe(link, 1, ("t", 1))
    edge.settle()
    assert len(edge.engine.kept.markers) == 0
    edge.tick(6)
    assert link.take() == [Closed(CloseReason.CONNECT_TIMEOUT)]


def test_a_publish_that_waits_for_its_pubrec_ends_its_connection(edge: KeptEdge) -> None:
    link = edge.connect_kept("c")
    topic = topic_there(edge)
    stop(edge, "messages")
    edge.publish(link, topic, b"x", qos=2)
    edge.settle()
    assert link.take() == [Closed(CloseReason.APPEND_REFUSED)]


def test_a_lease_that_is_missed_is_not_waited_for_for_ever(edge: KeptEdge) -> None:
    link = edge.connect("c")
    stop(edge, "messages")
    edge.settle()
    miss_and_get_back(edge)
    assert link.holds == 0
    assert len(edge.engine.stalls) == 0


def test_what_is_given_up_twice_counts_once() -> None:
    _, edge, _ = two_edges()
    link = edge.connect("c")
    topic = topic_there(edge)
    edge.publish(link, topic, b"x")
    own = edge.engine.own
    own.clear(STOPPED)
    edge.engine.refused(edge.messages.refuse(STOPPED))
    assert (own.size, own.sizes[STOPPED]) == (0, 0)
    assert Told(Answer.PUBACK, 1) not in link.take()
