"""E3, E5, E6, E13: how each partition comes to be live, and falls behind."""

import pytest
from tests.support.kept_stage import EPOCH, MARK, KeptStage, live, row
from tests.support.links import Told

from monstermq_shared.sessions.distributed.kept import PAGE_MIN
from monstermq_shared.sessions.ports import Answer
from monstermq_shared.stores.queues import QueueAsk, QueuePage

# -- E3: the first markers -----------------------------------------------------------------------


def test_connack_is_due_when_all_partitions_are_marked() -> None:
    stage = KeptStage(partitions=3)
    stage.begin()
    for partition in (2, 0):
        stage.session.marked(partition, MARK)
        assert not stage.session.is_marked
    stage.session.marked(1, MARK)
    assert stage.session.is_marked


@pytest.mark.parametrize("new", [False, True])
def test_what_stands_below_the_marker_is_not_live(new: bool) -> None:
    stage = KeptStage(window=10)
    stage.begin(new=new)
    stage.session.offer(live(0, MARK - 1), 1)
    stage.session.marked(0, MARK)
    stage.session.marked(1, MARK)
    stage.session.start()
    stage.session.offer(live(0, MARK + 1), 1)
    if not new:
        stage.paged()
    assert stage.payloads() == [b"101"]


def test_nothing_is_sent_before_connack() -> None:
    stage = KeptStage()
    stage.begin(new=True)
    stage.session.marked(0, MARK)
    stage.session.offer(live(0, MARK + 1), 1)
    assert stage.payloads() == []
    stage.session.marked(1, MARK)
    stage.session.start()
    assert stage.payloads() == [b"101"]


def test_a_new_session_is_not_present_and_an_old_one_is() -> None:
    new, old = KeptStage(), KeptStage()
    new.start(new=True)
    old.start()
    assert (new.session.is_new, old.session.is_new) == (True, False)


# -- E5: rows, the buffer, then live -------------------------------------------------------------


def test_a_new_session_is_live_at_once_and_is_owed_no_rows() -> None:
    stage = KeptStage()
    stage.start(new=True)
    stage.session.offer(live(1, MARK + 5), 1)
    assert stage.payloads() == [b"105"]
    assert (stage.waits, stage.asks) == ([], [])


def test_what_comes_from_the_marker_on_waits_until_the_rows_below_it_are_sent() -> None:
    stage = KeptStage()
    stage.start()
    assert stage.waits == [(0, MARK), (1, MARK)]
    stage.session.offer(live(0, MARK + 1), 1)
    assert (stage.payloads(), stage.asks) == ([], [])
    stage.session.reflected(0)
    assert stage.asks == [QueueAsk("c", 0, 0, MARK, PAGE_MIN)]
    stage.session.offer(live(0, MARK + 2), 1)
    assert stage.payloads() == []
    stage.page(0, row(7), row(9))
    assert stage.payloads() == [b"7", b"9", b"101", b"102"]
    stage.acknowledge([1])
    stage.session.offer(live(0, MARK + 3), 1)
    assert stage.payloads() == [b"103"]


def test_partitions_are_independent() -> None:
    stage = KeptStage()
    stage.start()
    stage.paged(1)
    stage.session.offer(live(0, MARK + 1), 1)
    stage.session.offer(live(1, MARK + 1, b"live"), 1)
    assert stage.payloads() == [b"live"]


def test_the_next_page_begins_behind_the_last_row() -> None:
    stage = KeptStage(window=10)
    stage.start()
    stage.session.reflected(0)
    stage.page(0, row(7), row(9), last=False)
    assert stage.asks[-1] == QueueAsk("c", 0, 10, MARK, PAGE_MIN)
    stage.page(0, row(12))
    assert stage.payloads() == [b"7", b"9", b"12"]
    assert len(stage.asks) == 2


def test_pages_of_many_rows_are_shared_by_the_partitions_that_are_paged() -> None:
    stage = KeptStage(page_max=100)
    stage.start()
    stage.session.reflected(0)
    assert stage.asks[-1].limit == 50
    stage.page(0)
    stage.session.reflected(1)
    assert stage.asks[-1].limit == 100


@pytest.mark.parametrize(
    "cut", [None, (EPOCH - 1, MARK + 9), (EPOCH, MARK - 1)], ids=["none", "epoch", "at"]
)
def test_rows_older_than_the_marker_are_not_used(cut: tuple[int, int] | None) -> None:
    stage = KeptStage()
    stage.start()
    stage.waits.clear()
    stage.session.reflected(0)
    stage.page(0, row(7), cut=cut)
    assert stage.payloads() == []
    assert stage.waits == [(0, MARK)]
    stage.session.reflected(0)
    stage.page(0, row(6), row(7))
    assert stage.payloads() == [b"6", b"7"]


@pytest.mark.parametrize("cut", [(EPOCH, MARK), (EPOCH, MARK + 1), (EPOCH + 1, 3)])
def test_rows_as_new_as_the_marker_are_used(cut: tuple[int, int]) -> None:
    stage = KeptStage()
    stage.start()
    stage.session.reflected(0)
    stage.page(0, row(7), cut=cut)
    assert stage.payloads() == [b"7"]


def test_only_the_page_that_is_waited_for_is_taken() -> None:
    stage = KeptStage()
    stage.start()
    stage.session.reflected(0)
    ask = stage.asks[0]
    stage.page(0, row(7), last=False)
    assert not stage.session.awaits(ask)
    stage.session.page(ask, QueuePage([row(7)], (EPOCH, MARK), True))
    assert stage.payloads() == [b"7"]


def test_a_page_has_a_few_rows_however_many_partitions_are_paged() -> None:
    stage = KeptStage(page_max=10)
    stage.start()
    stage.session.reflected(0)
    assert stage.asks[-1].limit == PAGE_MIN


def test_a_watermark_that_is_told_twice_begins_nothing_anew() -> None:
    stage = KeptStage(window=1, limits=(1, 1_000_000))
    stage.start()
    stage.paged()
    for offset in (101, 102, 103):
        stage.session.offer(live(0, offset), 1)
    stage.acknowledge([1])
    assert stage.marks == [0]
    stage.session.reflected(0)
    stage.session.reflected(1)
    assert len(stage.asks) == 2


def test_no_page_is_asked_for_while_enough_waits() -> None:
    stage = KeptStage(window=1, page_max=2)
    stage.start()
    stage.session.reflected(0)
    stage.page(0, row(1), row(2), row(3), last=False)
    assert len(stage.asks) == 1
    stage.acknowledge([1])
    assert len(stage.asks) == 2
    assert stage.payloads() == [b"1", b"2"]


def test_no_page_is_asked_for_while_enough_bytes_wait() -> None:
    stage = KeptStage(window=1, limits=(10, 100))
    stage.start()
    stage.session.reflected(0)
    stage.page(0, row(1), row(2, payload=bytes(200)), last=False)
    assert len(stage.asks) == 1
    stage.acknowledge([1])
    assert len(stage.asks) == 2


# -- E6: no room ---------------------------------------------------------------------------------


def test_what_finds_no_room_is_for_rows_once_all_before_it_is_sent() -> None:
    stage = KeptStage(window=1, limits=(2, 1_000_000))
    stage.start(new=True)
    for offset in range(101, 107):
        stage.session.offer(live(0, offset), 1)
    assert stage.counters.parked_sessions == 1
    assert stage.marks == []
    sent = stage.publishes()
    for _ in range(2):
        stage.acknowledge([sent[-1].packet_id])
        sent += stage.publishes()
    assert [each.payload for each in sent] == [b"101", b"102", b"103"]
    assert stage.marks == [0]
    stage.session.marked(0, 120)
    assert stage.waits == [(0, 120)]
    stage.session.offer(live(0, 121), 1)
    stage.acknowledge([sent[-1].packet_id])
    stage.session.reflected(0)
    assert stage.asks == [QueueAsk("c", 0, 104, 120, 32)]
    stage.page(0, row(104), row(105), cut=(EPOCH, 120))
    stage.acknowledge([4])
    stage.acknowledge([5])
    assert stage.payloads() == [b"104", b"105", b"121"]


def test_what_follows_a_lost_message_is_lost_even_if_there_is_room_again() -> None:
    stage = KeptStage(window=2, limits=(1, 1_000_000))
    stage.start(new=True)
    for offset in range(101, 105):
        stage.session.offer(live(0, offset), 1)
    stage.acknowledge([1])
    stage.session.offer(live(0, 105), 1)
    assert stage.marks == [0]
    stage.session.offer(live(0, 106), 1)
    stage.session.marked(0, 120)
    stage.session.reflected(0)
    assert stage.asks[0].first == 104
    assert stage.payloads() == [b"101", b"102", b"103"]


def test_a_lost_partition_leaves_the_others_live() -> None:
    stage = KeptStage(window=1, limits=(2, 1_000_000))
    stage.start(new=True)
    for offset in range(101, 105):
        stage.session.offer(live(0, offset), 1)
    stage.acknowledge([1])
    stage.session.offer(live(1, 103, b"other"), 1)
    stage.acknowledge([2])
    assert stage.marks == []
    stage.acknowledge([3])
    assert stage.payloads() == [b"101", b"102", b"103", b"other"]
    assert stage.marks == [0]


def test_too_many_bytes_are_for_rows_too() -> None:
    stage = KeptStage(window=1, limits=(100, 300))
    stage.start(new=True)
    for offset in range(101, 105):
        stage.session.offer(live(0, offset, bytes(200)), 1)
    stage.acknowledge([1])
    stage.acknowledge([2])
    assert len(stage.payloads()) == 3
    assert stage.marks == [0]


@pytest.mark.parametrize("limits", [(2, 1_000_000), (100, 300)], ids=["count", "bytes"])
def test_a_full_buffer_keeps_what_it_has_and_the_marker(limits: tuple[int, int]) -> None:
    stage = KeptStage(window=10, limits=limits)
    stage.start()
    for offset in range(101, 106):
        stage.session.offer(live(0, offset, str(offset).encode().rjust(200)), 1)
    assert stage.counters.parked_sessions == 1
    assert stage.marks == []
    stage.session.reflected(0)
    stage.page(0, row(7))
    sent = stage.payloads()
    assert [payload.strip() for payload in sent] == [b"7", b"101", b"102"]
    assert stage.marks == [0]
    stage.session.marked(0, 120)
    stage.session.reflected(0)
    assert (stage.asks[-1].first, stage.asks[-1].before) == (103, 120)


def test_a_full_buffer_takes_no_room_of_the_partitions_that_are_live() -> None:
    stage = KeptStage(window=10, limits=(2, 1_000_000))
    stage.start()
    stage.paged(1)
    for offset in range(101, 106):
        stage.session.offer(live(0, offset), 1)
    stage.session.offer(live(1, 101, b"live"), 1)
    assert stage.payloads() == [b"live"]


@pytest.mark.parametrize("limits", [(2, 1_000_000), (100, 8)], ids=["count", "bytes"])
def test_the_room_of_the_buffer_is_given_back(limits: tuple[int, int]) -> None:
    stage = KeptStage(window=10, limits=limits)
    stage.start()
    stage.session.offer(live(0, 101), 1)
    stage.session.offer(live(0, 102), 1)
    stage.paged(0)
    stage.session.offer(live(1, 101), 1)
    stage.session.offer(live(1, 102), 1)
    stage.paged(1)
    assert stage.payloads() == [b"101", b"102", b"101", b"102"]
    assert stage.marks == []


def test_whoever_held_publishers_too_long_falls_behind() -> None:
    stage = KeptStage(window=1, limits=(100, 1_000_000))
    stage.start(new=True)
    for offset in (101, 102):
        stage.session.offer(live(0, offset), 1)
    stage.session.fall_behind()
    stage.session.offer(live(0, 103), 1)
    stage.acknowledge([1])
    assert stage.marks == [0]
    stage.session.offer(live(1, 101, b"live"), 1)
    stage.acknowledge([2])
    assert stage.payloads() == [b"101", b"102", b"live"]


def test_the_last_ack_is_enough_to_mark_anew() -> None:
    stage = KeptStage(window=1, limits=(1, 1_000_000))
    stage.start(new=True)
    stage.session.offer(live(0, 101, qos=2), 2)
    stage.session.offer(live(0, 102, qos=2), 2)
    stage.session.offer(live(0, 103, qos=2), 2)
    stage.open_all()
    stage.session.receive([1])
    stage.append_acks()
    stage.session.complete([1])
    stage.open_all()
    assert stage.marks == [0]


def test_an_ack_alone_goes_on() -> None:
    stage = KeptStage(window=1, limits=(1, 1_000_000))
    stage.start(new=True)
    for offset in (101, 102, 103):
        stage.session.offer(live(0, offset), 1)
    stage.session.acknowledge([1])
    assert stage.marks == [0]


def test_nothing_overtakes_what_waits() -> None:
    stage = KeptStage(window=1)
    stage.start(new=True)
    stage.session.offer(live(0, 101), 1)
    stage.session.offer(live(0, 102), 1)
    stage.session.acknowledge([1])
    stage.session.offer(live(0, 103), 1)
    stage.acknowledge([2])
    assert stage.payloads() == [b"101", b"102", b"103"]


def test_nobody_falls_behind_with_nothing_to_send() -> None:
    stage = KeptStage()
    stage.start(new=True)
    stage.session.fall_behind()
    stage.session.offer(live(0, 101), 1)
    assert stage.payloads() == [b"101"]


def test_no_marker_while_packet_ids_are_on_their_way() -> None:
    stage = KeptStage(window=10, limits=(1, 1_000_000))
    stage.start(new=True)
    stage.session.offer(live(0, 101, qos=2), 2)
    stage.session.fall_behind()
    stage.session.offer(live(0, 102, qos=2), 2)
    stage.session.fill_window()
    assert stage.marks == []
    stage.open_all()
    assert stage.marks == [0]


# -- E13: no lease -------------------------------------------------------------------------------


def test_without_a_lease_nothing_is_delivered_and_no_page_is_read() -> None:
    stage = KeptStage(window=10)
    stage.start()
    stage.session.reflected(0)
    early = stage.asks[0]
    stage.session.stall()
    assert not stage.session.awaits(early)
    stage.session.page(early, QueuePage([row(7)], (EPOCH, MARK), True))
    stage.session.reflected(1)
    assert (stage.payloads(), len(stage.asks)) == ([], 1)
    stage.session.go_on()
    assert [ask.partition for ask in stage.asks] == [0, 0, 1]
    stage.page(0, row(7))
    assert stage.payloads() == [b"7"]
    assert not stage.link.is_held


def test_without_a_lease_no_marker_is_written_anew() -> None:
    stage = KeptStage(window=1, limits=(1, 1_000_000))
    stage.start(new=True)
    for offset in (101, 102, 103):
        stage.session.offer(live(0, offset), 1)
    stage.session.stall()
    stage.session.drop_pending()
    stage.session.fill_window()
    assert stage.marks == []
    stage.session.go_on()
    assert stage.marks == [0]


def test_without_a_lease_packet_ids_that_are_read_back_are_not_used_yet() -> None:
    stage = KeptStage()
    stage.start(new=True)
    stage.session.offer(live(0, 101, qos=2), 2)
    stage.session.fall_behind()
    stage.session.offer(live(0, 102, qos=2), 2)
    stage.session.stall()
    stage.open_all()
    assert stage.payloads() == []
    stage.session.go_on()
    assert stage.payloads() == [b"101"]
    assert stage.marks == [0]


def test_a_session_that_begins_without_a_lease_waits_for_it() -> None:
    stage = KeptStage()
    stage.begin(new=True)
    stage.session.stall()
    for partition in range(2):
        stage.session.marked(partition, MARK)
    stage.session.start()
    stage.session.offer(live(0, 101), 1)
    assert stage.payloads() == []
    stage.session.go_on()
    assert stage.payloads() == [b"101"]


# -- it ends -------------------------------------------------------------------------------------


def test_an_ended_session_takes_no_markers_and_no_pages() -> None:
    stage = KeptStage()
    stage.start()
    stage.session.reflected(0)
    ask = stage.asks[0]
    stage.session.end()
    stage.session.marked(0, 120)
    stage.session.page(ask, QueuePage([row(7)], (EPOCH, MARK), True))
    stage.session.reflected(1)
    assert not stage.session.awaits(ask)
    assert stage.link.take() == []
    assert len(stage.asks) == 1


def test_old_ids_and_rows_do_not_mix_between_partitions() -> None:
    stage = KeptStage()
    stage.start(in_flight={9: (1, 7)})
    stage.session.reflected(0)
    stage.page(0, row(7, 2))
    stage.open_all()
    published = stage.publishes()
    assert [(each.packet_id, each.dup) for each in published] == [(1, False)]
    stage.session.reflected(1)
    stage.page(1)
    assert stage.link.take() == [Told(Answer.PUBREL, 9)]
