"""Connections of kept sessions over two edges: E2, E3, E11, E12, E14 and R4."""

from dataclasses import replace

import pytest
from tests.support.kept_edges import KEPT, KeptBus, KeptEdge, kept_edges
from tests.support.links import Closed, Connack, Publish, Suback

from monstermq_shared.bus.facts import EXPIRY_S_MAX, Claim, Detach, Marker
from monstermq_shared.close_reasons import CloseReason
from monstermq_shared.counters import Refusal

PARTITIONS = 3


@pytest.fixture
def edges() -> tuple[KeptBus, KeptEdge, KeptEdge]:
    return kept_edges()


Edges = tuple[KeptBus, KeptEdge, KeptEdge]


def markers(edge: KeptEdge) -> list[Marker]:
    return [fact for fact in edge.facts_of("messages") if isinstance(fact, Marker)]


# -- E2 ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("projected", [False, True])
def test_a_session_is_found_at_another_edge(edges: Edges, projected: bool) -> None:
    bus, first, second = edges
    first.drop(first.connect_kept("c", ("a/#", 1), ("b", 0)))
    first.settle()
    if projected:
        bus.project_sessions()
        second.engine.sessions_reflected(bus.reflected)
    link = second.attach_kept("c")
    second.settle()
    assert link.take() == [Connack(session_present=True)]
    second.publish(second.connect("p"), "a/b", b"x")
    second.settle()
    assert link.publishes() == [Publish("a/b", b"x", 1, 1)]


@pytest.mark.parametrize("before", ["nothing", "clean"])
def test_a_session_that_begins_is_not_present(edges: Edges, before: str) -> None:
    _, first, second = edges
    if before == "clean":
        first.drop(first.connect_kept("c", ("a", 1)))
        first.settle()
        first.drop(first.connect("c"))
        first.settle()
    link = second.attach_kept("c")
    second.settle()
    assert link.take() == [Connack(session_present=False)]
    assert second.session("c").subscriptions == {}


def test_a_claim_says_how_long_the_session_outlives_its_connection(edges: Edges) -> None:
    _, first, _ = edges
    first.connect_kept("c")
    using = replace(KEPT, session_expiry_s=60)
    _, other, _ = kept_edges(using)
    other.connect_kept("c")
    other.connect("d")
    claims = [fact for fact in [*first.facts_of(), *other.facts_of()] if isinstance(fact, Claim)]
    assert [(claim.clean, claim.expiry_s) for claim in claims] == [
        (False, EXPIRY_S_MAX),
        (False, 60),
        (True, 0),
    ]


def test_kept_sessions_are_refused_while_their_database_is_down(edges: Edges) -> None:
    _, first, _ = edges
    waiting = first.attach_kept("waiting")
    first.land()
    first.read()
    first.work()
    first.engine.databases_down(True)
    assert waiting.take() == [Closed(CloseReason.SERVER_UNAVAILABLE)]
    refused = first.engine.refusal("c", clean=False)
    assert refused is not None
    assert refused[0] is Refusal.SERVER_UNAVAILABLE
    assert first.engine.refusal("c", clean=True) is None
    first.engine.databases_down(False)
    assert first.engine.refusal("c", clean=False) is None


def test_an_overlay_over_its_bound_refuses_until_the_worker_has_caught_up() -> None:
    bus, first, _ = kept_edges(replace(KEPT, facts_size_max=2_000))
    link = first.connect("c")
    for number in range(10):
        first.connect(f"c/{number}")
    assert first.engine.refusal("c", clean=False) is not None
    link = first.connect("other")
    assert link.session.epoch is not None
    bus.project_sessions()
    first.engine.sessions_reflected(bus.reflected)
    assert first.engine.refusal("c", clean=False) is None


def test_rows_that_show_a_newer_claim_close_the_connection(edges: Edges) -> None:
    bus, first, second = edges
    link = first.attach_kept("c")
    first.engine.appended(first.facts.land(link.session.partition))
    first.read("sessions")
    first.work()
    other = second.connect_kept("c")
    bus.project_sessions()
    first.answer_rows()
    assert link.take() == [Closed(CloseReason.SERVER_UNAVAILABLE)]
    assert other.take() == []


def test_version_1_refuses_kept_sessions() -> None:
    _, first, _ = kept_edges(replace(KEPT, protocol_version=1))
    refused = first.engine.refusal("c", clean=False)
    assert refused is not None
    assert refused[0] is Refusal.KEPT_SESSION


def test_version_1_keeps_no_facts_that_nobody_asks_for() -> None:
    _, first, _ = kept_edges(replace(KEPT, protocol_version=1, facts_size_max=2_000))
    for number in range(10):
        first.connect(f"c/{number}")
    assert first.engine.kept.states.size == 0
    assert first.counters.session_overlay_drops == 0


# -- E3 ------------------------------------------------------------------------------------------


def test_connack_waits_for_the_markers_of_all_partitions(edges: Edges) -> None:
    _, first, _ = edges
    link = first.claimed("c")
    for partition in range(PARTITIONS):
        assert link.take() == []
        first.land_markers(partition)
    assert link.take() == [Connack(session_present=False)]
    assert [(at.whole, at.incarnation == at.epoch) for at in markers(first)] == [((), True)] * 3


def test_packets_wait_for_connack(edges: Edges) -> None:
    _, first, _ = edges
    link = first.claimed("c")
    assert link.is_held
    first.settle()
    assert not link.is_held


def test_every_partition_gets_the_subscriptions_that_an_edge_left_half_done(edges: Edges) -> None:
    _, first, second = edges
    link = first.connect_kept("c")
    first.subscribe(link, 5, ("a/#", 1))
    first.engine.appended(first.facts.land(link.session.partition))
    first.read("sessions")
    first.work()
    first.land_markers(1)
    assert link.take() == []  # and its edge is gone
    link = second.attach_kept("c")
    second.settle()
    assert link.take() == [Connack(session_present=True)]
    whole = [at for at in markers(second) if at.epoch == link.session.epoch]
    assert [at.whole for at in whole] == [(("a/#", 1, 0),)] * PARTITIONS


def test_a_marker_that_is_refused_ends_the_connection(edges: Edges) -> None:
    _, first, _ = edges
    link = first.claimed("c")
    first.engine.refused(first.messages.refuse(1))
    assert link.take() == [Closed(CloseReason.APPEND_REFUSED)]


# -- E11, E12 ------------------------------------------------------------------------------------


def test_a_detach_says_what_is_unfinished(edges: Edges) -> None:
    _, first, _ = edges
    link = first.connect_kept("c", ("a", 2))
    publisher = first.connect("p")
    first.publish(publisher, "a", b"1", qos=1)
    first.publish(publisher, "a", b"2", qos=2, first_id=2)
    first.settle()
    assert [at.qos for at in link.publishes()] == [1, 2]
    first.drop(link)
    first.settle()
    (detach,) = [fact for fact in first.facts_of() if isinstance(fact, Detach)]
    assert detach.in_flight == (2,)
    assert detach.sent is not None
    assert len(detach.sent) == 1


def test_a_detach_is_appended_until_the_log_has_it(edges: Edges) -> None:
    _, first, _ = edges
    link = first.connect_kept("c")
    first.drop(link)
    first.engine.refused(first.facts.refuse(link.session.partition))
    first.settle()
    assert [fact for fact in first.facts_of() if isinstance(fact, Detach)]


def test_a_claim_without_a_connection_is_detached_and_marks_nothing(edges: Edges) -> None:
    _, first, _ = edges
    first.drop(first.attach_kept("c"))
    first.settle()
    (detach,) = [fact for fact in first.facts_of() if isinstance(fact, Detach)]
    assert (detach.in_flight, detach.sent) == (None, None)
    assert markers(first) == []


def test_a_newer_claim_ends_the_connection_and_what_it_waits_for(edges: Edges) -> None:
    _, first, second = edges
    link = first.connect_kept("c", ("a", 1))
    first.subscribe(link, 7, ("b", 1))
    second.connect_kept("c")
    first.settle()
    assert link.take() == [Closed(CloseReason.TAKEN_OVER)]


@pytest.mark.parametrize("own", [True, False])
def test_a_detach_by_another_ends_the_connection_it_names(edges: Edges, own: bool) -> None:
    _, first, second = edges
    link = first.connect_kept("c")
    epoch = link.session.epoch if own else link.session.epoch - 1
    fact = Detach(client_id="c", epoch=epoch, will=True, reason="kicked")
    second.facts.append_facts(link.session.partition, [fact], 0, None)
    second.facts.land(link.session.partition)
    first.settle()
    assert link.take() == ([Closed(CloseReason.DETACHED)] if own else [])


# -- E14 -----------------------------------------------------------------------------------------


def test_markers_wait_for_room_in_every_partition(edges: Edges) -> None:
    _, first, _ = edges
    first.messages.full.add(2)
    link = first.attach_kept("c")
    first.settle()
    assert markers(first) == []
    first.messages.full.clear()
    first.work()
    first.settle()
    assert link.take() == [Connack(session_present=False)]


def test_a_connect_that_is_not_done_in_time_ends(edges: Edges) -> None:
    _, first, _ = edges
    link = first.claimed("c")
    first.land_markers(0)
    first.tick(KEPT.connect_timeout_s)
    first.work()
    assert link.take() == [Closed(CloseReason.CONNECT_TIMEOUT)]


@pytest.mark.parametrize("full", [True, False], ids=["no room", "not read back"])
def test_a_subscribe_that_is_not_done_in_time_ends(edges: Edges, full: bool) -> None:
    _, first, _ = edges
    link = first.connect_kept("c")
    first.work()
    if full:
        first.messages.full.add(1)
        assert first.engine.holds_subscribe(link.session)
    else:
        first.subscribe(link, 3, ("a", 1))
    first.tick(KEPT.connect_timeout_s - 1)
    assert link.take() == []
    first.tick(1)
    assert link.take() == [Closed(CloseReason.CONNECT_TIMEOUT)]


def test_a_subscribe_goes_on_when_there_is_room(edges: Edges) -> None:
    _, first, _ = edges
    link = first.connect_kept("c")
    first.messages.full.add(1)
    assert first.engine.holds_subscribe(link.session)
    assert link.holds == 1
    first.messages.full.clear()
    first.work()
    assert link.holds == 0
    assert not first.engine.holds_subscribe(link.session)
    first.subscribe(link, 3, ("a", 1))
    first.settle()
    first.tick(2 * KEPT.connect_timeout_s)
    assert link.take() == [Suback(3, (1,))]
