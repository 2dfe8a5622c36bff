"""A message for many goes out in pieces, and nobody can tell from what it causes."""

import pytest
from tests.support.engine import Bench, session_of
from tests.support.links import Publish, RecordingLink, Told

from monstermq_shared.close_reasons import CloseReason
from monstermq_shared.errors import BusUnavailable
from monstermq_shared.messages import Will
from monstermq_shared.records import Record
from monstermq_shared.sessions.chores import PIECE
from monstermq_shared.sessions.local.appending import RecordAppender
from monstermq_shared.sessions.ports import Answer
from monstermq_shared.sessions.subscriptions import REMOVAL_WORK

SUBSCRIBERS = 5


def bench_of_small_pieces() -> Bench:
    bench = Bench()
    bench.engine.publisher.deliveries_max = 2
    return bench


def subscribers(bench: Bench, *, clean: bool, qos: int = 2) -> list[RecordingLink]:
    return [bench.connect(f"s{number}", ("t", qos), clean=clean) for number in range(SUBSCRIBERS)]


def pieces(bench: Bench) -> int:
    """Work until the run is out; return how many pieces that took."""
    count = 0
    while bench.engine.is_busy:
        bench.engine.work()
        count += 1
    return count


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("clean", [True, False])
def test_everybody_gets_it_in_bounded_pieces(qos: int, clean: bool) -> None:
    bench = bench_of_small_pieces()
    links = subscribers(bench, clean=clean)
    bench.publish(bench.connect("p", clean=True), "t", b"x", qos=qos)
    assert sum(len(link.publishes()) for link in links) == (2 if qos < 2 or clean else 0)
    assert pieces(bench) == 2
    bench.settle()
    assert sum(len(link.publishes()) for link in links) == (3 if qos < 2 or clean else 5)


def test_messages_times_receivers_count_above_qos_0() -> None:
    bench = bench_of_small_pieces()
    links = subscribers(bench, clean=True)
    publisher = bench.connect("p", clean=True)
    bench.publish(publisher, "t", b"1", b"2", b"3", qos=1)
    assert pieces(bench) == SUBSCRIBERS - 1
    bench.publish(publisher, "t", b"4", b"5", b"6", qos=0)
    assert pieces(bench) == 2
    assert [link.payloads() for link in links] == [[b"1", b"2", b"3", b"4", b"5", b"6"]] * 5


@pytest.mark.parametrize(("qos", "answer"), [(1, Answer.PUBACK), (2, Answer.PUBREC)])
def test_the_publisher_is_answered_when_the_last_row_is_committed(qos: int, answer: Answer) -> None:
    bench = bench_of_small_pieces()
    # The last one alone has a queue: before its turn it seems that nothing waits for a commit.
    for link in subscribers(bench, clean=True)[2:]:
        bench.drop(link)
    bench.drop(bench.connect("last", ("t", 2)))
    publisher = bench.connect("p", clean=True)
    bench.engine.publisher.deliveries_max = 1
    bench.publish(publisher, "t", b"x", qos=qos)
    assert publisher.take() == []
    pieces(bench)
    assert publisher.take() == []
    bench.commit()
    assert publisher.take() == [Told(answer, 1)]
    assert len(bench.disk.client("last").queue) == 1


def test_what_a_message_causes_is_committed_together_or_not_at_all() -> None:
    bench = bench_of_small_pieces()
    for link in subscribers(bench, clean=False):
        bench.drop(link)
    publisher = bench.connect("p")
    bench.publish(publisher, "t", b"x", qos=2)
    assert bench.engine.take_turn() is None
    after = bench.killed()
    assert not any(after.disk.client(f"s{number}").queue for number in range(SUBSCRIBERS))
    assert not after.disk.client("p").open_ids
    # The publisher repeats it, as it must, and everybody gets it once.
    again = after.connect_again("p")
    after.publish(again, "t", b"x", qos=2)
    after.settle()
    assert all(len(after.disk.client(f"s{n}").queue) == 1 for n in range(SUBSCRIBERS))


def test_a_turn_on_its_way_is_reported_once_the_message_is_out() -> None:
    bench = bench_of_small_pieces()
    subscribers(bench, clean=True)
    publisher, other = bench.connect("p", clean=True), bench.connect("o", clean=True)
    bench.publish(other, "stored/x", b"1", qos=1)
    turn = bench.engine.take_turn()
    assert turn is not None
    bench.publish(publisher, "t", b"x", qos=1)
    bench.engine.committed(bench.disk.apply(turn))
    assert other.take() == []
    pieces(bench)
    assert other.take() == [Told(Answer.PUBACK, 1)]


def test_whoever_leaves_meanwhile_has_left_after_it() -> None:
    bench = bench_of_small_pieces()
    links = subscribers(bench, clean=False, qos=1)
    watcher = bench.connect("w", ("will", 0), clean=True)
    leaving = bench.attach(
        "l", clean=True, will=Will(topic="will", payload=b"", qos=0, retain=False)
    )
    bench.settle()
    bench.publish(bench.connect("p", clean=True), "t", b"x", qos=1)
    bench.drop(links[0])
    bench.drop(links[-1])
    bench.drop(leaving)
    assert watcher.take() == []
    pieces(bench)
    bench.settle()
    assert watcher.take() == [Publish("will", b"")]
    for number in (0, SUBSCRIBERS - 1):
        assert len(bench.disk.client(f"s{number}").queue) == 1
        assert bench.connect_again(f"s{number}").payloads() == [b"x"]


def test_a_session_that_ends_meanwhile_leaves_no_rows() -> None:
    bench = bench_of_small_pieces()
    links = subscribers(bench, clean=False)
    bench.publish(bench.connect("p", clean=True), "t", b"x")
    session_of(links[-1]).end()
    pieces(bench)
    bench.settle()
    assert not bench.disk.client(f"s{SUBSCRIBERS - 1}").queue


def test_a_will_goes_out_in_pieces_too() -> None:
    bench = bench_of_small_pieces()
    links = subscribers(bench, clean=True, qos=1)
    will = Will(topic="t", payload=b"gone", qos=1, retain=False)
    bench.drop(bench.attach("l", clean=True, will=will), CloseReason.TRANSPORT_CLOSED)
    assert bench.engine.is_busy
    bench.settle()
    assert [link.payloads() for link in links] == [[b"gone"]] * SUBSCRIBERS


def test_a_will_of_a_killed_process_reaches_all_before_anybody_connects() -> None:
    bench = Bench()
    for link in subscribers(bench, clean=False):
        bench.drop(link)
    bench.attach("l", will=Will(topic="t", payload=b"gone", qos=1, retain=False))
    bench.commit()
    after = bench.killed()
    assert not after.engine.is_busy
    after.settle()
    assert all(len(after.disk.client(f"s{n}").queue) == 1 for n in range(SUBSCRIBERS))


def test_what_is_appended_to_the_bus_waits_for_nobody_else() -> None:
    bench = bench_of_small_pieces()
    links = subscribers(bench, clean=True, qos=1)
    appender = RecordAppender(bench.engine)
    done: list[int] = []
    record = Record("t", b"x", 1, False, "tool", 0, 0)
    publisher = bench.connect("p", clean=True)
    bench.publish(publisher, "t", b"first")
    with pytest.raises(BusUnavailable):
        appender.append(session_of(publisher), [record], lambda: done.append(1))
    pieces(bench)
    appender.append(session_of(publisher), [record, record], lambda: done.append(1))
    assert not bench.engine.is_busy
    assert [link.payloads() for link in links] == [[b"first", b"x", b"x"]] * SUBSCRIBERS
    assert done == [1]


@pytest.mark.parametrize("clean", [True, False])
def test_many_subscriptions_of_a_session_that_ends_go_bit_by_bit(clean: bool) -> None:
    bench = Bench()
    link = bench.connect("s", clean=clean)
    session = session_of(link)
    count = 3 * PIECE // REMOVAL_WORK
    session.subscriptions |= {f"t/{number}": 1 for number in range(count)}
    for topic_filter in session.subscriptions:
        bench.engine.router.add(topic_filter, session, 1)
    if not clean:
        bench.attach("s", clean=True)
    bench.drop(link)
    more = 0
    while bench.engine.work():
        more += 1
        # What they still match is nobody's, though it is routed there.
        bench.publish(bench.connect_without_commit("p"), f"t/{count - 1}", b"x")
    assert more == 2
    assert len(bench.engine.router) == 0
    bench.settle()
    assert not bench.disk.client("s").queue
