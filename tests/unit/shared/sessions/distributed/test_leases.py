"""What a missed lease means for clients, and how they go on (E1, E13)."""

from tests.support.edges import LEASE_S, Bus, Edge, two_edges
from tests.support.links import Closed, Publish, RecordingLink

from monstermq_shared.bus.facts import Detach
from monstermq_shared.bus.header import Kind
from monstermq_shared.close_reasons import CloseReason
from monstermq_shared.sessions.distributed.engine import NO_LEASE


def leases_in(bus: Bus) -> list[int]:
    """Return how many leases stand in each partition of the sessions log."""
    return [sum(e.kind == Kind.LEASE for e in entries) for entries in bus.sessions.entries]


def miss(edge: Edge) -> None:
    """Let a whole lease pass in which nothing lands."""
    edge.tick(LEASE_S + 1)
    edge.work()


def payloads(link: RecordingLink) -> list[bytes]:
    return [said.payload for said in link.take() if isinstance(said, Publish)]


def test_a_start_serves_after_its_leases_and_the_ends_of_both_logs() -> None:
    bus = Bus()
    other = Edge(bus).start()
    other.publish(other.connect("p"), "t", b"x", retain=True)
    other.land()
    edge = Edge(bus)
    assert edge.engine.unready() == [NO_LEASE]
    edge.tick()
    edge.land()
    edge.work()
    assert edge.engine.unready() == [NO_LEASE]
    edge.read("sessions")
    edge.work()
    assert edge.engine.unready() == [NO_LEASE], "the messages are not read yet"
    edge.read("messages")
    edge.work()
    assert not edge.engine.unready()


def test_leases_go_to_every_partition_three_times_as_often_as_needed() -> None:
    bus = Bus()
    edge = Edge(bus).start()
    before = leases_in(bus)
    for _ in range(9):
        edge.tick(1)
        edge.land()
    assert [now - then for now, then in zip(leases_in(bus), before, strict=True)] == [3, 3]
    assert not edge.engine.unready()


def test_few_leases_wait_while_the_log_is_away() -> None:
    bus = Bus()
    edge = Edge(bus).start()
    for _ in range(20):
        edge.tick(LEASE_S)
    assert [len(pending) for pending in edge.facts.pending] == [1, 1]


def test_without_a_lease_nobody_is_read_and_nothing_is_delivered() -> None:
    bus, edge, other = two_edges()
    subscriber = edge.connect("s", ("t", 0))
    miss(edge)
    assert subscriber.holds == 1
    assert edge.engine.unready() == [NO_LEASE]
    other.publish(other.connect("p"), "t", b"x")
    other.land()
    edge.read()
    edge.work()
    assert not subscriber.take()
    edge.settle()
    edge.tick(0)
    edge.tick(LEASE_S / 3)
    edge.settle()
    assert not edge.engine.unready()
    assert payloads(subscriber) == [b"x"]
    assert subscriber.holds == 0
    assert bus.sessions.ends()


def test_clients_that_were_taken_meanwhile_get_nothing_more() -> None:
    bus, edge, other = two_edges()
    taken, kept = edge.connect("taken", ("t", 1)), edge.connect("kept", ("t", 1))
    miss(edge)
    there = other.connect("taken", ("t", 1))
    other.publish(other.connect("p"), "t", b"x")
    other.land()
    edge.read()
    edge.work()
    edge.tick(LEASE_S / 3)
    edge.settle()
    other.settle()
    assert taken.take() == [Closed(CloseReason.TAKEN_OVER)]
    assert payloads(kept) == [b"x"]
    assert payloads(there) == [b"x"]
    assert bus.sessions.ends()


def test_clients_that_were_detached_meanwhile_are_closed() -> None:
    bus, edge, other = two_edges()
    link = edge.connect("c")
    partition, epoch = edge.session("c").partition, edge.session("c").epoch
    assert epoch is not None
    miss(edge)
    fact = Detach(client_id="c", epoch=epoch, will=True, reason="lease")
    other.facts.append_facts(partition, [fact], 0, None)
    other.facts.land(partition)
    edge.tick(LEASE_S / 3)
    edge.settle()
    assert link.take() == [Closed(CloseReason.DETACHED)]
    assert len(bus.sessions.entries[partition]) > epoch


def test_one_partition_without_a_lease_lets_its_own_clients_wait() -> None:
    edge = Edge(bus := Bus()).start()
    links = {name: edge.connect(name, ("t", 1)) for name in "abcdef"}
    publisher = edge.connect("p")
    stuck = edge.session("p").partition ^ 1
    edge.tick(LEASE_S + 1)
    edge.tick(0)
    while edge.facts.pending[1 - stuck]:
        edge.engine.appended(edge.facts.land(1 - stuck))
    edge.work()
    edge.read()
    edge.work()
    waiting = {name for name, link in links.items() if link.holds}
    assert waiting == {name for name in links if edge.session(name).partition == stuck}
    assert 0 < len(waiting) < len(links)
    assert edge.engine.unready() == [f"{NO_LEASE} (1 of 2 partitions)"]
    edge.publish(publisher, "t", b"x")
    edge.engine.appended(edge.messages.land(edge.messages.partition_of("t")))
    edge.read()
    edge.work()
    got = {name for name, link in links.items() if payloads(link)}
    assert got == set(links) - waiting
    edge.settle()
    edge.tick(LEASE_S / 3)
    edge.settle()
    assert not edge.engine.unready()
    assert {name for name, link in links.items() if payloads(link)} == waiting
    assert leases_in(bus)[stuck] > 1


def test_who_connects_while_its_partition_waits_waits_too() -> None:
    edge = Edge(Bus()).start()
    link = edge.attach("c")
    edge.land()
    miss(edge)
    edge.read("sessions")
    edge.work()
    assert link.holds == 1
    edge.tick(LEASE_S / 3)
    edge.settle()
    assert link.holds == 0


def test_a_lease_that_is_missed_again_while_catching_up_begins_anew() -> None:
    edge = Edge(Bus()).start()
    link = edge.connect("c")
    miss(edge)
    edge.tick(LEASE_S / 3)
    edge.land()
    assert edge.engine.stalls.asks_ends()
    edge.tick(LEASE_S + 1)
    edge.engine.ends(edge.bus.messages.ends(), edge.bus.sessions.ends())
    edge.read()
    edge.work()
    assert link.holds == 1
    edge.tick(LEASE_S / 3)
    edge.settle()
    assert link.holds == 0


def test_a_refused_lease_is_followed_by_the_next() -> None:
    edge = Edge(Bus()).start()
    edge.tick(LEASE_S / 3)
    for partition in range(2):
        edge.engine.refused(edge.facts.refuse(partition))
    edge.tick(LEASE_S / 3)
    assert [len(pending) for pending in edge.facts.pending] == [1, 1]
