"""E3, E5, E9, E11: packet ids and acknowledgements, also of connections before."""

import pytest
from tests.support.kept_stage import EPOCH, MARK, KeptStage, live, row
from tests.support.links import Publish, Told

from monstermq_shared.bus.facts import Open
from monstermq_shared.messages import MessageRun
from monstermq_shared.sessions.distributed.kept_acks import Acking
from monstermq_shared.sessions.ports import Answer
from monstermq_shared.sessions.window import PACKET_ID_MAX


def retained(qos: int, payload: bytes = b"kept") -> MessageRun:
    return MessageRun.single(b"t", payload, qos, retained_copy=True)


def sent_to(stage: KeptStage) -> list[tuple[bytes, int, int, bool]]:
    return [(each.payload, each.qos, each.packet_id, each.dup) for each in stage.publishes()]


@pytest.fixture
def stage() -> KeptStage:
    """A session that is live."""
    stage = KeptStage()
    stage.start(new=True)
    return stage


# -- E9: QoS 1 -----------------------------------------------------------------------------------


def test_acks_are_parted_once_a_turn(stage: KeptStage) -> None:
    stage.session.offer(live(0, 101, b"a", b"b"), 1)
    stage.session.offer(live(1, 205), 1)
    stage.acknowledge([2, 3])
    stage.acknowledge([1])
    assert stage.turns == 1
    assert stage.session.take_acks() == {0: ([102, 101], []), 1: ([205], [])}
    assert stage.session.take_acks() == {}
    stage.session.offer(live(0, 103), 1)
    stage.acknowledge([4])
    assert stage.turns == 2


def test_what_the_log_does_not_know_to_be_acknowledged_is_told_at_the_end(
    stage: KeptStage,
) -> None:
    """Its row may be sent again, which takes DUP [MQTT-3.3.1-1]."""
    stage.session.offer(live(0, 101, b"a", b"b"), 1)
    stage.acknowledge([1])
    assert stage.session.unfinished() == ((), ((0, 101), (0, 102)))
    assert stage.session.take_acks() == {0: ([101], [])}
    acks = Acking(0, (101,))
    stage.session.acking(acks)
    assert stage.session.unfinished() == ((), ((0, 101), (0, 102)))
    stage.session.appended(acks)
    assert stage.session.unfinished() == ((), ((0, 102),))


def test_more_than_fits_is_not_told_at_the_end(stage: KeptStage) -> None:
    stage.session.acking(Acking(1, range(PACKET_ID_MAX + 1)))
    assert stage.session.unfinished() == ((), None)


def test_an_ack_of_what_is_not_in_flight_says_nothing(stage: KeptStage) -> None:
    stage.session.offer(live(0, 101), 1)
    stage.acknowledge([1, 1, 9])
    stage.acknowledge([1])
    assert stage.session.take_acks() == {0: ([101], [])}
    assert stage.turns == 1


def test_a_part_of_a_run_is_acknowledged_by_its_own_offsets(stage: KeptStage) -> None:
    stage.session.offer(live(1, 101, b"a", b"b", b"c", b"d", b"e", b"f"), 1)
    assert stage.payloads() == [b"a", b"b", b"c", b"d"]
    stage.acknowledge([1, 3])
    assert stage.payloads() == [b"e", b"f"]
    stage.acknowledge([2, 4, 5, 6])
    offsets, _ = stage.append_acks()[1]
    assert sorted(offsets) == [101, 102, 103, 104, 105, 106]


def test_acks_of_a_connection_that_has_gone_are_still_there(stage: KeptStage) -> None:
    stage.session.offer(live(0, 101), 1)
    stage.session.offer(live(0, 102, qos=2), 2)
    stage.open_all()
    stage.acknowledge([1])
    stage.session.receive([2])
    stage.link.take()
    stage.session.end()
    stage.session.link = None
    assert stage.append_acks() == {0: ([101, 102], [2])}
    assert stage.link.take() == []


# -- E9: QoS 2 -----------------------------------------------------------------------------------


def test_a_packet_id_is_in_the_log_before_the_client_knows_it(stage: KeptStage) -> None:
    stage.session.offer(live(1, 101, b"a", b"b", qos=2), 2)
    assert stage.payloads() == []
    (opening,) = stage.opening
    assert opening.facts("c", EPOCH) == [
        Open(client_id="c", epoch=EPOCH, packet_id=1, partition=1, offset=101),
        Open(client_id="c", epoch=EPOCH, packet_id=2, partition=1, offset=102),
    ]
    stage.open_all()
    assert sent_to(stage) == [(b"a", 2, 1, False), (b"b", 2, 2, False)]


def test_many_packet_ids_are_asked_for_at_once_and_leave_in_order(stage: KeptStage) -> None:
    for offset in (101, 102, 103, 104, 105):
        stage.session.offer(live(0, offset, qos=2), 2)
    assert len(stage.opening) == 4  # the window
    for opening in stage.opening[1:]:
        stage.session.opened(opening)
    assert stage.payloads() == []
    stage.session.opened(stage.opening[0])
    assert stage.payloads() == [b"101", b"102", b"103", b"104"]


def test_qos_1_overtakes_no_qos_2_that_waits_for_the_log(stage: KeptStage) -> None:
    stage.session.offer(live(0, 101, qos=2), 2)
    stage.session.offer(live(0, 102), 1)
    assert stage.payloads() == []
    stage.open_all()
    assert sent_to(stage) == [(b"101", 2, 1, False), (b"102", 1, 2, False)]


def test_pubrel_follows_once_the_log_has_the_ack(stage: KeptStage) -> None:
    stage.session.offer(live(1, 101, qos=2), 2)
    stage.open_all()
    stage.link.take()
    stage.session.receive([1])
    assert stage.pubrels() == []
    assert stage.session.take_acks() == {1: ([101], [1])}
    stage.session.receive([1])
    assert stage.session.take_acks() == {}
    assert stage.pubrels() == []
    stage.session.acked([1])
    assert stage.pubrels() == [1]


def test_pubcomp_frees_the_id_and_writes_nothing(stage: KeptStage) -> None:
    stage.session.offer(live(0, 101, qos=2), 2)
    stage.open_all()
    stage.session.complete([1])
    assert stage.session.unfinished() == ((1,), ())
    stage.session.receive([1])
    stage.append_acks()
    turns = stage.turns
    stage.session.complete([1])
    assert stage.session.unfinished() == ((), ())
    assert (stage.turns, stage.opening) == (turns, [])


def test_a_pubrec_that_comes_again_is_answered_again(stage: KeptStage) -> None:
    stage.session.offer(live(0, 101, qos=2), 2)
    stage.open_all()
    stage.session.receive([1])
    stage.append_acks()
    stage.link.take()
    stage.session.receive([1])
    assert stage.pubrels() == [1]
    assert stage.session.take_acks() == {}


def test_a_pubrec_of_an_unknown_id_is_answered_so_that_the_client_can_forget_it(
    stage: KeptStage,
) -> None:
    stage.session.receive([77])
    assert stage.pubrels() == [77]
    assert stage.session.take_acks() == {}


def test_answers_to_what_was_not_sent_yet_do_not_count(stage: KeptStage) -> None:
    stage.session.offer(live(0, 101, qos=2), 2)
    stage.session.offer(live(0, 102), 1)
    stage.session.offer(retained(2), 2)
    stage.session.receive([1, 3])
    stage.acknowledge([2])
    stage.session.complete([1, 3])
    assert (stage.link.take(), stage.session.take_acks()) == ([], {})
    stage.open_all()
    assert len(stage.publishes()) == 3


def test_a_puback_ends_no_qos_2_and_a_pubrec_no_qos_1(stage: KeptStage) -> None:
    stage.session.offer(live(0, 101), 1)
    stage.session.offer(live(0, 102, qos=2), 2)
    stage.open_all()
    stage.acknowledge([2])
    stage.session.receive([1])
    stage.session.complete([1])
    assert stage.session.take_acks() == {}
    assert stage.session.unfinished() == ((2,), ((0, 101),))


# -- E9: retained messages -----------------------------------------------------------------------


def test_a_retained_message_is_not_acknowledged_to_the_log(stage: KeptStage) -> None:
    stage.session.offer(retained(1), 1)
    assert stage.publishes() == [Publish("t", b"kept", 1, 1, retain=True)]
    assert stage.session.unfinished() == ((), ())
    stage.acknowledge([1])
    assert stage.session.take_acks() == {}
    assert stage.session.unfinished() == ((), ())


def test_the_id_of_a_retained_message_is_guarded_without_a_position(stage: KeptStage) -> None:
    stage.session.offer(retained(2), 2)
    (opening,) = stage.opening
    assert opening.facts("c", EPOCH) == [
        Open(client_id="c", epoch=EPOCH, packet_id=1, partition=None, offset=None)
    ]
    assert stage.payloads() == []
    stage.open_all()
    stage.link.take()
    stage.session.receive([1])
    assert stage.pubrels() == [1]
    assert (stage.session.take_acks(), stage.turns) == ({}, 0)


def test_retained_messages_are_not_for_the_rows() -> None:
    stage = KeptStage()
    stage.start()
    stage.session.offer(retained(1), 1)
    assert stage.payloads() == [b"kept"]


def test_retained_messages_of_a_run_have_no_positions(stage: KeptStage) -> None:
    run = live(0, 0, b"a", b"b")
    run.retained_copy = True
    stage.session.offer(run, 1)
    stage.acknowledge([1, 2])
    assert stage.session.take_acks() == {}


# -- E5: what was in flight ----------------------------------------------------------------------


def test_a_row_that_is_in_flight_goes_out_under_its_old_id() -> None:
    stage = KeptStage()
    stage.start(in_flight={9: (0, 7), 3: (0, 20)})
    stage.session.reflected(0)
    stage.page(0, row(5, 2), row(7, 2), row(20, 2))
    assert [opening.packet_ids for opening in stage.opening] == [(1,)]
    stage.open_all()
    assert sent_to(stage) == [(b"5", 2, 1, False), (b"7", 2, 9, True), (b"20", 2, 3, True)]
    stage.session.receive([9])
    assert stage.append_acks() == {0: ([7], [9])}


def test_a_row_that_is_sent_again_can_be_received_while_others_wait() -> None:
    stage = KeptStage()
    stage.start(in_flight={9: (0, 7), 8: (1, 3)})
    stage.session.reflected(0)
    stage.page(0, row(7, 2))
    stage.session.receive([8, 9])
    assert stage.append_acks() == {0: ([7], [9])}


def test_ids_without_a_row_are_released_once_the_partition_is_paged() -> None:
    stage = KeptStage()
    stage.start(in_flight={9: (0, 7), 8: (1, 7)})
    stage.session.reflected(0)
    stage.page(0, row(5), last=False)
    assert stage.pubrels() == []
    stage.page(0, row(8))
    assert stage.pubrels() == [9]
    stage.complete([9])
    assert stage.session.unfinished()[0] == (8,)
    stage.paged(1)
    assert stage.pubrels() == [8]


def test_ids_without_a_position_are_released_at_once() -> None:
    stage = KeptStage()
    stage.begin(in_flight={9: (None, None)})
    stage.session.marked(0, MARK)
    stage.session.marked(1, MARK)
    assert stage.link.take() == []
    stage.session.start()
    assert stage.link.take() == [Told(Answer.PUBREL, 9)]
    stage.complete([9])
    assert stage.session.unfinished()[0] == ()


def test_ids_that_wait_for_their_row_are_taken_but_take_no_room() -> None:
    stage = KeptStage(window=2)
    stage.start(in_flight={1: (0, 7), 2: (0, 8), 4: (0, 9)})
    stage.paged(1)
    stage.session.offer(live(1, 101, b"a", b"b", b"c"), 1)
    assert sent_to(stage) == [(b"a", 1, 3, False), (b"b", 1, 5, False)]


def test_ids_that_are_sent_again_or_released_take_room() -> None:
    stage = KeptStage(window=2)
    stage.start(in_flight={1: (0, 7), 2: (0, 8), 3: (1, 5)})
    stage.session.reflected(0)
    stage.page(0, row(7, 2))
    stage.paged(1)
    stage.link.take()
    stage.session.offer(live(1, 101), 1)
    assert stage.payloads() == []
    stage.complete([2])
    assert stage.payloads() == []
    stage.complete([3])
    assert stage.payloads() == [b"101"]


def test_a_pubrec_for_an_id_that_waits_for_its_row_does_not_count() -> None:
    stage = KeptStage()
    stage.start(in_flight={9: (0, 7)})
    stage.session.receive([9])
    assert (stage.link.take(), stage.session.take_acks()) == ([], {})
    stage.session.reflected(0)
    stage.page(0, row(7, 2))
    assert sent_to(stage) == [(b"7", 2, 9, True)]


def test_facts_that_contradict_themselves_leave_no_id_taken_for_ever() -> None:
    stage = KeptStage()
    stage.start(in_flight={9: (0, 7), 8: (0, 7), 7: (5, 1)}, sent=((7, 3),))
    assert stage.session.unfinished()[1] == ()
    assert sorted(stage.pubrels()) == [7, 8]
    stage.session.reflected(0)
    stage.page(0, row(7, 2))
    assert sent_to(stage) == [(b"7", 2, 9, True)]


# -- E9: what may have been sent before ----------------------------------------------------------


def test_rows_that_the_end_before_named_are_marked() -> None:
    stage = KeptStage()
    stage.start(sent=((0, 7), (1, 9)))
    stage.session.reflected(0)
    stage.page(0, row(5), row(7), row(9))
    assert sent_to(stage) == [(b"5", 1, 1, False), (b"7", 1, 2, True), (b"9", 1, 3, False)]


def test_all_rows_are_marked_if_the_end_before_named_none() -> None:
    stage = KeptStage(window=10)
    stage.start(sent=None)
    stage.session.reflected(0)
    stage.page(0, row(5), row(6, 2))
    stage.session.offer(live(0, 101), 1)
    stage.open_all()
    assert sent_to(stage) == [(b"5", 1, 1, True), (b"6", 2, 2, False), (b"101", 1, 3, False)]


def test_rows_that_were_never_sent_before_are_not_marked() -> None:
    stage = KeptStage(window=1, limits=(1, 1_000_000))
    stage.start(sent=None)
    stage.paged()
    for offset in (101, 102, 103):
        stage.session.offer(live(0, offset), 1)
    stage.acknowledge([1])
    stage.session.marked(0, 120)
    stage.acknowledge([2])
    stage.session.reflected(0)
    stage.page(0, row(103), cut=(EPOCH, 120))
    assert sent_to(stage)[-1] == (b"103", 1, 3, False)


# -- E11: what the detach says -------------------------------------------------------------------


def test_the_end_names_what_is_unfinished(stage: KeptStage) -> None:
    stage.session.offer(live(0, 101, b"a", b"b"), 1)
    stage.session.offer(live(1, 101, b"c", b"d", qos=2), 2)
    stage.open_all()
    stage.acknowledge([1])
    stage.session.receive([3])
    stage.append_acks()
    ids, sent = stage.session.unfinished()
    assert (ids, sent) == ((3, 4), ((0, 102),))
    stage.session.complete([3])
    assert stage.session.unfinished()[0] == (4,)


def test_the_end_names_what_an_end_before_named_and_no_row_was_read_of() -> None:
    stage = KeptStage(window=1)
    stage.start(in_flight={9: (1, 4)}, sent=((0, 7), (0, 8), (0, 9), (1, 3)))
    stage.session.reflected(0)
    stage.page(0, row(7), row(9))
    stage.acknowledge([1])
    stage.append_acks()
    # 8 was acknowledged meanwhile, and partition 1 has not been read at all.
    assert stage.session.unfinished() == ((9,), ((1, 3), (0, 9)))


def test_what_was_sent_before_is_not_named_for_ever() -> None:
    stage = KeptStage()
    stage.start(sent=((0, 7), (1, 3)))
    stage.paged()
    assert stage.session.unfinished() == ((), ())


def test_the_end_does_not_know_what_was_sent_while_an_end_before_did_not_say() -> None:
    stage = KeptStage(window=1)
    stage.start(in_flight={9: (0, 7)}, sent=None)
    stage.paged(0)
    assert stage.session.unfinished() == ((9,), None)
    stage.complete([9])
    stage.session.reflected(1)
    stage.page(1, row(5), row(6))
    assert stage.session.unfinished() == ((), ((1, 5), (1, 6)))


def test_the_end_names_no_qos_2_among_what_was_sent_once() -> None:
    stage = KeptStage(window=1)
    stage.start(in_flight={9: (0, 7)}, sent=None)
    stage.session.reflected(0)
    stage.page(0, row(5), row(7, 2))
    stage.paged(1)
    assert stage.session.unfinished() == ((9,), ((0, 5),))


def test_a_connection_that_has_gone_before_its_claim_knows_of_nothing() -> None:
    assert KeptStage().session.unfinished() == (None, None)
