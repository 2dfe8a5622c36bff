"""Claims, takeovers and ends on a bus of many edges (E2, E4, E11, E12)."""

from dataclasses import replace

import pytest
from tests.support.edges import SETTINGS, Bus, Edge, two_edges
from tests.support.links import Closed, Connack, Publish, RecordingLink, Suback

from monstermq_shared.bus.control import decode_facts, encode_facts, kind_of
from monstermq_shared.bus.facts import Claim, Detach, Fact, Lease
from monstermq_shared.bus.header import Kind
from monstermq_shared.close_reasons import CloseReason
from monstermq_shared.counters import Refusal
from monstermq_shared.messages import Will
from monstermq_shared.records import SESSION_TOPIC, ControlRecord, Record
from monstermq_shared.sessions.distributed import connections
from monstermq_shared.sessions.distributed.engine import KEPT_SESSIONS

RUN = b"stranger"
WILL = Will(topic="w", payload=b"gone", qos=1, retain=False)


def facts_of(bus: Bus, client_id: str) -> list[Fact]:
    """Return what the sessions log says of a client."""
    return [
        fact
        for entries in bus.sessions.entries
        for entry in entries
        if entry.kind == Kind.FACTS
        for fact in decode_facts(entry.record().payload)
        if getattr(fact, "client_id", None) == client_id
    ]


def append(bus: Bus, edge: Edge, fact: Claim | Detach, *, text: bytes | None = None) -> None:
    """Append a fact as another process does."""
    payload = encode_facts([fact]).encode() if text is None else text
    record = ControlRecord(SESSION_TOPIC, payload, edge.wall_ms, 0, Kind.FACTS)
    partition = edge.facts.partition_of(fact.client_id)
    bus.sessions.write(partition, [record], b"operator", len(bus.sessions.entries[partition]))


def detach(client_id: str, epoch: int) -> Detach:
    return Detach(client_id=client_id, epoch=epoch, will=False, reason="kick")


def test_connack_follows_when_the_claim_is_read_back() -> None:
    edge = Edge(Bus()).start()
    link = edge.attach("c")
    assert link.holds == 1
    edge.land()
    edge.work()
    assert not link.take(), "that it is appended says nothing"
    edge.settle()
    assert link.take() == [Connack(False)]
    assert link.holds == 0
    assert edge.session("c").epoch is not None


def test_a_claim_says_who_has_the_client_and_its_will() -> None:
    edge = Edge(bus := Bus()).start()
    edge.connect("c", will=WILL)
    (claim,) = facts_of(bus, "c")
    assert isinstance(claim, Claim)
    assert (claim.clean, claim.expiry_s, claim.will, claim.run) == (True, 0, WILL, edge.facts.run)


def test_an_end_is_told_with_what_becomes_of_the_will() -> None:
    bus, edge, _ = two_edges()
    for client_id, reason in (
        ("crashed", CloseReason.TRANSPORT_CLOSED),
        ("said so", CloseReason.CLIENT_DISCONNECTED),
        ("stopped", CloseReason.SHUTTING_DOWN),
    ):
        edge.drop(edge.connect(client_id, will=WILL), reason)
    edge.engine.connections.hands_over = True
    edge.drop(edge.connect("handed over", will=WILL), CloseReason.SHUTTING_DOWN)
    edge.settle()
    due = {}
    for client_id in ("crashed", "said so", "stopped", "handed over"):
        _, end = facts_of(bus, client_id)
        assert isinstance(end, Detach)
        due[client_id] = end.will
    assert due == {"crashed": True, "said so": False, "stopped": True, "handed over": False}
    assert not edge.engine.connections.sessions


def test_a_connection_that_goes_before_its_claim_is_read_back_is_detached() -> None:
    edge = Edge(bus := Bus()).start()
    link = edge.attach("c", will=WILL)
    edge.drop(link)
    edge.settle()
    _, end = facts_of(bus, "c")
    assert isinstance(end, Detach)
    assert end.will
    assert not link.take()
    assert not edge.engine.is_connected("c")


def test_a_newer_claim_takes_over_on_the_same_edge() -> None:
    edge = Edge(Bus()).start()
    first = edge.connect("c", ("t", 0))
    second = edge.attach("c")
    assert not first.take(), "the claim decides, and it is not read back yet"
    edge.settle()
    assert first.take() == [Closed(CloseReason.TAKEN_OVER)]
    assert second.take() == [Connack(False)]
    assert edge.counters.takeovers == 1


def test_a_newer_claim_takes_over_from_another_edge() -> None:
    bus, here, there = two_edges()
    old = here.connect("c", ("t", 1), will=WILL)
    new = there.connect("c")
    assert not new.take()
    here.settle()
    assert old.take() == [Closed(CloseReason.TAKEN_OVER)]
    here.settle()
    assert [type(fact) for fact in facts_of(bus, "c")] == [Claim, Claim], "the claim says it all"
    publisher = there.connect("p")
    there.publish(publisher, "t", b"x")
    there.settle()
    here.settle()
    assert not old.take()


def test_two_claims_at_once_end_the_older_one_whoever_reads_first() -> None:
    _, here, there = two_edges()
    old, new = here.attach("c"), there.attach("c")
    here.land()
    there.land()
    there.settle()
    here.settle()
    assert new.take() == [Connack(False)]
    assert old.take() == [Connack(False), Closed(CloseReason.TAKEN_OVER)]
    there.settle()
    assert not new.take()


def test_a_detach_by_another_closes_the_connection_of_its_epoch() -> None:
    edge = Edge(bus := Bus()).start()
    link = edge.connect("c")
    epoch = edge.session("c").epoch
    assert epoch is not None
    append(bus, edge, detach("c", epoch + 1))
    append(bus, edge, detach("c", epoch - 1))
    edge.settle()
    assert not link.take()
    append(bus, edge, detach("c", epoch))
    edge.settle()
    assert link.take() == [Closed(CloseReason.DETACHED)]
    assert len(facts_of(bus, "c")) == 4, "the end is in the log already"


def test_a_conditional_claim_counts_only_over_the_claim_it_names() -> None:
    edge = Edge(bus := Bus()).start()
    link = edge.connect("c")
    epoch = edge.session("c").epoch
    assert epoch is not None
    for only_if, closed in ((epoch + 5, False), (epoch, True)):
        claim = Claim(
            client_id="c",
            clean=True,
            expiry_s=0,
            will=None,
            run=b"operator",
            protocol=4,
            only_if=only_if,
        )
        append(bus, edge, claim)
        edge.settle()
        assert bool(link.take()) is closed


def test_a_refused_claim_closes_its_connection_and_the_next_one_is_served() -> None:
    edge = Edge(Bus()).start()
    link = edge.attach("c")
    partition = edge.facts.partition_of("c")
    edge.engine.refused(edge.facts.refuse(partition))
    assert link.take() == [Closed(CloseReason.APPEND_REFUSED)]
    again = edge.attach("c")
    edge.settle()
    assert again.take() == [Connack(False)]
    assert edge.engine.is_connected("c")
    edge.drop(again)
    assert not edge.engine.is_connected("c"), "the refused claim waits for nothing"


def test_a_refused_claim_that_stands_all_the_same_is_detached() -> None:
    edge = Edge(bus := Bus()).start()
    edge.attach("c")
    edge.engine.refused(edge.facts.refuse(edge.facts.partition_of("c"), stands=True))
    edge.settle()
    assert [type(fact) for fact in facts_of(bus, "c")] == [Claim, Detach]


def test_a_refused_detach_is_appended_again() -> None:
    edge = Edge(bus := Bus()).start()
    edge.drop(edge.connect("c", will=WILL))
    edge.engine.refused(edge.facts.refuse(edge.facts.partition_of("c")))
    edge.settle()
    _, end = facts_of(bus, "c")
    assert isinstance(end, Detach)
    assert end.will


def test_kept_sessions_are_refused_and_told_when_they_come() -> None:
    edge = Edge(Bus()).start()
    assert edge.engine.refusal("c", clean=False) == (Refusal.KEPT_SESSION, KEPT_SESSIONS)
    assert edge.engine.refusal("c", clean=True) is None


def test_nobody_is_let_in_where_claims_do_not_get_through() -> None:
    edge = Edge(Bus()).start()
    edge.facts.full.add(edge.facts.partition_of("c"))
    refused = edge.engine.refusal("c", clean=True)
    assert refused is not None
    assert refused[0] is Refusal.SERVER_UNAVAILABLE


def test_nobody_is_let_in_while_too_many_claims_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "CLAIMS_MAX", 2)
    edge = Edge(Bus(), replace(SETTINGS, connect_timeout_s=1.0)).start()
    edge.attach("a")
    assert edge.engine.refusal("b", clean=True) is None
    gone = edge.attach("b")
    edge.tick(2)
    edge.work()
    assert gone.take() == [Closed(CloseReason.CONNECT_TIMEOUT)]
    assert edge.engine.refusal("c", clean=True) is not None, "its claim waits all the same"
    edge.settle()
    assert edge.engine.refusal("c", clean=True) is None


def test_what_a_later_release_wrote_stops_its_partition_and_says_where() -> None:
    edge = Edge(bus := Bus()).start()
    link = edge.connect("c")
    epoch = edge.session("c").epoch
    assert epoch is not None
    append(bus, edge, detach("c", epoch), text=b'{"v":2,"facts":[]}')
    append(bus, edge, detach("c", epoch))
    edge.settle()
    assert not link.take()
    (reason,) = edge.engine.unready()
    partition = edge.facts.partition_of("c")
    assert reason.startswith(f"sessions partition {partition} stopped at offset {epoch + 1}: ")
    assert "version 2" in reason


def test_a_message_in_the_sessions_log_stops_its_partition() -> None:
    edge = Edge(bus := Bus()).start()
    record = Record("stray", b"", 0, False, "", edge.wall_ms, 0)
    bus.sessions.write(0, [record], b"stranger", 0)
    edge.settle()
    (reason,) = edge.engine.unready()
    assert "a record of kind 0" in reason


@pytest.mark.parametrize("kind", [Kind.LEASE, Kind.FACTS])
@pytest.mark.parametrize("by_edge", [False, True], ids=["stranger", "own run"])
def test_a_record_that_the_worker_stops_at_stops_the_edge(kind: Kind, by_edge: bool) -> None:
    """R6: a lease with a claim in it, or a claim with a lease, was written by nobody."""
    edge = Edge(bus := Bus()).start()
    link = edge.connect("c")
    claim = Claim(client_id="c", clean=True, expiry_s=0, will=None, run=RUN, protocol=4)
    both: list[Fact] = [claim, Lease(run=RUN, for_ms=1)]
    facts = sorted(both, key=lambda fact: kind_of(fact) != kind)
    record = ControlRecord(SESSION_TOPIC, encode_facts(facts).encode(), edge.wall_ms, 0, kind)
    partition = edge.facts.partition_of("c")
    bus.sessions.write(partition, [record], edge.facts.run if by_edge else RUN, 1_000)
    edge.settle()
    assert not link.take()
    (reason,) = edge.engine.unready()
    assert f"in a record of kind {kind}" in reason


def test_two_claims_of_a_client_in_one_record_stop_the_edge() -> None:
    """As they stop the worker: it would not know of whose connection an epoch is."""
    edge = Edge(bus := Bus()).start()
    link = edge.connect("c")
    claim = Claim(client_id="c", clean=True, expiry_s=0, will=None, run=RUN, protocol=4)
    append(bus, edge, claim, text=encode_facts([claim, claim]).encode())
    edge.settle()
    assert not link.take()
    (reason,) = edge.engine.unready()
    assert "two claims of 'c'" in reason


def test_other_edges_are_known_by_their_leases() -> None:
    _, here, there = two_edges()
    here.settle()
    assert here.engine.connections.others_live(10.0)
    assert not there.engine.connections.others_live(-1.0)
    here.tick(20)
    assert not here.engine.connections.others_live(10.0)


def test_suback_waits_for_nothing_and_routes_hold_at_once() -> None:
    edge = Edge(Bus()).start()
    link = edge.connect("c")
    edge.subscribe(link, 7, ("t", 0))
    assert link.take() == [Suback(7, (0,))]
    publisher = edge.connect("p")
    edge.publish(publisher, "t", b"x", qos=0)
    edge.settle()
    assert link.take() == [Publish("t", b"x")]


def test_a_bridge_does_not_hear_itself() -> None:
    edge = Edge(Bus()).start()
    bridge = edge.attach("bridge", link=RecordingLink(is_bridge=True))
    other = edge.connect("other", ("t", 0))
    edge.settle()
    edge.subscribe(bridge, 1, ("t", 0))
    bridge.take()
    edge.publish(bridge, "t", b"x", qos=0)
    edge.settle()
    assert not bridge.publishes()
    assert other.payloads() == [b"x"]


def test_facts_are_handled_in_pieces_by_their_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "PIECE_SIZE", 4_000)
    bus = Bus()
    edge, other = Edge(bus).start(), Edge(bus).start()
    other.connect("large", will=Will(topic="t", payload=bytes(10_000), qos=0, retain=False))
    for name in ("b", "c"):
        other.connect(name)
    edge.read("sessions")
    found = edge.engine.connections
    waiting = [found.waiting]
    while found.work():
        waiting.append(found.waiting)
    assert len(waiting) > 1, "what comes behind a large record waits for the next turn"


def test_a_connect_does_not_wait_for_its_claim_for_ever() -> None:
    bus = Bus()
    edge = Edge(bus, replace(SETTINGS, connect_timeout_s=10.0)).start()
    late = edge.attach("late", will=WILL)
    edge.tick(5)
    early = edge.attach("early")
    edge.tick(5)
    edge.work()
    assert (late.take(), early.take()) == ([Closed(CloseReason.CONNECT_TIMEOUT)], [])
    edge.settle()
    assert early.take() == [Connack(session_present=False)]
    epoch = next(
        e.offset
        for e in bus.sessions.entries[edge.facts.partition_of("late")]
        if e.kind == Kind.FACTS
    )
    assert facts_of(bus, "late")[-1] == Detach(
        client_id="late", epoch=epoch, will=True, reason="gone before its claim"
    )


def test_clients_that_edges_take_from_each_other_count_as_connected() -> None:
    _, here, there = two_edges()
    here.connect("c")
    assert not there.engine.is_connected("c"), "only what was taken from here is known"
    there.connect("c")
    here.settle()
    assert here.engine.is_connected("c")
    link = here.connect("c")
    there.settle()
    assert there.engine.is_connected("c")
    here.drop(link)
    for edge in (here, there):
        edge.settle()
        assert not edge.engine.is_connected("c")
