"""E3, E5, E9: a client of which the log knows every packet id.

PUBCOMP writes nothing, so a connection that ends without a detach leaves all ids that it has used.
"""

import pytest
from tests.support.kept_stage import MARK, KeptStage, live, row

from monstermq_shared.messages import MessageRun
from monstermq_shared.sessions.window import PACKET_ID_MAX

ALL = range(1, PACKET_ID_MAX + 1)


def retained(qos: int = 1) -> MessageRun:
    return MessageRun.single(b"t", b"kept", qos, retained_copy=True)


def sent_to(stage: KeptStage) -> list[tuple[bytes, int, bool]]:
    return [(each.payload, each.packet_id, each.dup) for each in stage.publishes()]


@pytest.fixture
def stage() -> KeptStage:
    """A session whose client may know every id, of deliveries of partition 1."""
    stage = KeptStage(page_max=16, window=16)
    stage.start(in_flight={packet_id: (1, packet_id) for packet_id in ALL})
    return stage


@pytest.mark.parametrize("what", ["live", "a run", "retained", "exactly once"])
def test_what_needs_an_id_waits_until_one_is_free(stage: KeptStage, what: str) -> None:
    stage.paged(0)
    runs = {
        "live": (live(0, MARK + 1, b"kept"), 1),
        "a run": (live(0, MARK + 1, b"kept", b"2", b"3"), 1),
        "retained": (retained(), 1),
        "exactly once": (live(0, MARK + 1, b"kept", qos=2), 2),
    }
    stage.session.offer(*runs[what])
    stage.session.fill_window()
    stage.open_all()
    assert stage.link.take() == []
    stage.paged(1)
    assert sorted(stage.pubrels()) == [*ALL]
    stage.complete([packet_id for packet_id in ALL if packet_id > 16])
    assert sent_to(stage) == []
    stage.complete([7])
    stage.open_all()
    assert sent_to(stage)[0] == (b"kept", 7, False)


def test_ids_that_are_known_come_to_be_free_though_much_waits(stage: KeptStage) -> None:
    """Rows of another partition have taken all the room that there is for rows."""
    stage.session.reflected(0)
    stage.page(0, *map(row, range(16)), last=False)
    assert [ask.partition for ask in stage.asks] == [0]
    stage.session.reflected(1)
    assert [ask.partition for ask in stage.asks] == [0, 1]
    stage.page(1, row(9), last=False)
    assert stage.pubrels() == [*range(1, 9)]
    stage.complete([3])
    assert sent_to(stage) == [(b"0", 3, False)]


def test_a_row_goes_out_under_its_id_though_what_has_none_came_before(stage: KeptStage) -> None:
    """Or none would ever be free, if every id had its row."""
    stage.session.offer(retained(), 1)
    stage.session.reflected(1)
    stage.page(1, row(1, 2), row(2, 2), row(3), row(4, 2), last=False)
    assert sent_to(stage) == [(b"1", 1, True), (b"2", 2, True), (b"3", 3, True), (b"4", 4, True)]
    stage.session.receive([2])
    stage.append_acks()
    stage.complete([2])
    assert sent_to(stage) == [(b"kept", 2, False)]


def test_nothing_of_its_own_partition_is_overtaken() -> None:
    """The window's worth of deliveries at QoS 1 were not acknowledged either."""
    stage = KeptStage()
    stage.start(in_flight={packet_id: (1, 2 * packet_id) for packet_id in ALL}, sent=((1, 3),))
    stage.session.reflected(1)
    stage.page(1, row(2, 2), row(3), row(4, 2), row(8, 2), last=False)
    assert sent_to(stage) == [(b"2", 1, True)]
    assert stage.pubrels() == []
    stage.session.receive([1])
    stage.append_acks()
    stage.complete([1])
    assert sent_to(stage) == [(b"3", 1, True), (b"4", 2, True), (b"8", 4, True)]


def test_without_room_in_the_window_nothing_is_sent(stage: KeptStage) -> None:
    stage.session.reflected(1)
    stage.page(1, *(row(offset, 2) for offset in range(1, 19)), last=False)
    assert len(stage.payloads()) == 16
    stage.session.stall()
    stage.complete([1])
    assert stage.payloads() == []
