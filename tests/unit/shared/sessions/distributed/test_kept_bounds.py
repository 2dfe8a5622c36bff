"""What a client of a kept session may have on its way is bounded."""

from dataclasses import replace

import pytest
from tests.support.edges import Bus, Edge
from tests.support.kept_edges import KEPT
from tests.support.links import Connack, RecordingLink, Suback

from monstermq_shared.bus.facts import Marker
from monstermq_shared.positions import Mark
from monstermq_shared.sessions.distributed.kept_publishing import RELEASED_MAX
from monstermq_shared.sessions.distributed.kept_subscribing import CHANGES_MAX
from monstermq_shared.sessions.ports import AttachRequest
from monstermq_shared.stores.queues import KeptRows


@pytest.fixture
def edge() -> Edge:
    return Edge(Bus(), replace(KEPT, open_ids_max=1_000, subscriptions_max=10_000)).start()


def connect(edge: Edge) -> RecordingLink:
    """Connect a client that has no session."""
    link = RecordingLink()
    request = AttachRequest(client_id="c", clean=False, will=None, information={})
    link.session = edge.engine.attach(link, request, edge.wall_ms)
    edge.settle()
    for partition, client_ids in edge.engine.take_row_reads().items():
        edge.engine.kept_rows(partition, client_ids, KeptRows(Mark(0, 0), {}))
    edge.settle()
    assert link.take() == [Connack(session_present=False)]
    return link


def test_no_more_is_read_while_many_subscribes_are_on_their_way(edge: Edge) -> None:
    link = connect(edge)
    for number in range(1, CHANGES_MAX + 4):
        assert link.is_held == (number > CHANGES_MAX)
        edge.subscribe(link, number, (f"t/{number}", 1))
    edge.settle()
    assert not link.is_held
    subacks = [said for said in link.take() if isinstance(said, Suback)]
    assert [said.packet_id for said in subacks] == [*range(1, CHANGES_MAX + 4)]


@pytest.mark.parametrize("log", ["messages", "facts"])
def test_a_subscribe_that_waits_for_room_is_let_go_once_there_is_some(edge: Edge, log: str) -> None:
    link = connect(edge)
    full = getattr(edge, log).full
    full.add(link.session.partition)
    assert edge.engine.holds_subscribe(link.session)
    edge.work()
    assert link.holds == 1, "it would be held again at once, and so on in every turn"
    full.clear()
    edge.work()
    assert link.holds == 0
    assert not edge.engine.holds_subscribe(link.session)


def test_ids_that_a_marker_closes_are_paid_for(edge: Edge) -> None:
    """They may be all ids of a client."""
    charged = []
    for count in (0, 800):
        for packet_id in range(1, count + 1):
            edge.engine.kept.inbound.open("x", packet_id, 0, packet_id, 1)
        marker = Marker(client_id="x", epoch=1_000 + count, incarnation=1_000 + count, whole=())
        edge.messages.append_facts(0, [marker], edge.wall_ms, None)
        edge.messages.land(0)
        edge.read()
        before = edge.budget.left
        edge.work()
        charged.append(before - edge.budget.left)
    assert charged[1] - charged[0] == 100
    assert not edge.engine.kept.inbound.ids_of("x")


def test_what_was_released_is_not_remembered_for_ever(edge: Edge) -> None:
    link = connect(edge)
    for number in range(1, 2 * RELEASED_MAX):
        edge.publish(link, "t", b"x", qos=2, first_id=number)
        edge.settle()
        edge.engine.release(link.session, [number])
        edge.settle()
    assert len(link.session.released) <= RELEASED_MAX + 1


def test_what_was_released_and_is_not_read_back_is_remembered(edge: Edge) -> None:
    link = connect(edge)
    many = range(1, 2 * RELEASED_MAX)
    for number in many:
        edge.publish(link, "t", b"x", qos=2, first_id=number)
    edge.settle()
    for number in many:
        edge.engine.release(link.session, [number])
    link.take()
    # Its release is on its way, so this is a new use of the id.
    edge.publish(link, "t", b"y", qos=2, first_id=1)
    assert link.take() == []
    assert len(link.session.released) == len(many)


def test_what_a_change_on_its_way_does_not_concern_is_not_compared(edge: Edge) -> None:
    link = connect(edge)
    for first in range(0, 2_000, 100):
        edge.subscribe(link, 1, *((f"+/{first + number}/#", 1) for number in range(100)))
        edge.settle()
    router, varied = edge.engine.router, edge.engine.kept.varied
    edge.subscribe(link, 2, ("more/#", 2))
    edge.engine.subscribe(link.session, [("half/#", 2)])  # a part of the next one
    deep = "/y" * 8
    budget = edge.engine.budget
    before = budget.left
    assert [qos for _, qos in router.route(f"x/7{deep}".encode()).targets] == [1]
    assert varied.compared == 2
    assert not router.route(f"half/none{deep}".encode()).targets
    assert [qos for _, qos in router.route(f"more/7{deep}".encode()).targets] == [1]
    assert before - budget.left >= varied.compared > 2_000
    edge.engine.subscribed(link.session, 3, [2])
    edge.settle()
    assert [qos for _, qos in router.route(f"more/7{deep}".encode()).targets] == [2]
    assert [qos for _, qos in router.route(f"half/none{deep}".encode()).targets] == [2]
