"""A client with more open QoS 2 ids than it may have gets rid of all its messages all the same."""

from dataclasses import replace

import pytest
from tests.support.engine import SETTINGS, Bench, session_of
from tests.support.links import Closed, RecordingLink, Told

from monstermq_shared.close_reasons import CloseReason
from monstermq_shared.sessions.open_ids import RELEASE_PATIENCE_S
from monstermq_shared.sessions.ports import Answer

LIMIT = replace(SETTINGS, open_ids_max=3)
ENDED = Closed(CloseReason.QUOTA_EXCEEDED)


def told(link: RecordingLink, kind: Answer) -> list[int]:
    """Return the ids of one kind of answer; all that was said is forgotten."""
    return [at.packet_id for at in link.take() if isinstance(at, Told) and at.kind is kind]


def send(bench: Bench, link: RecordingLink, packet_ids: list[int]) -> None:
    """Publish one message after the other; each tells its packet id."""
    for packet_id in packet_ids:
        bench.publish(link, "t", str(packet_id).encode(), qos=2, first_id=packet_id)


@pytest.mark.parametrize("clean", [True, False], ids=["clean", "persistent"])
@pytest.mark.parametrize("in_one_run", [True, False], ids=["one run", "one by one"])
def test_each_connection_brings_the_client_further(clean: bool, in_one_run: bool) -> None:
    """As libraries do it: all that is left is sent first, and PUBRECs are read later."""
    bench = Bench(LIMIT)
    subscriber = bench.connect("s", ("t", 2), clean=True)
    left = list(range(1, 11))
    connections = 0
    delivered: list[bytes] = []
    while left:
        connections += 1
        publisher = bench.connect("p", clean=clean)
        if in_one_run:
            payloads = [str(packet_id).encode() for packet_id in left]
            bench.publish(publisher, "t", *payloads, qos=2, first_id=left[0])
        else:
            send(bench, publisher, left)
        bench.settle()
        bench.engine.release(session_of(publisher), told(publisher, Answer.PUBREC))
        bench.settle()
        said = publisher.take()
        completed = [at.packet_id for at in said if isinstance(at, Told)]
        assert completed, "a connection that finishes nothing is one of an endless row"
        left = [packet_id for packet_id in left if packet_id not in completed]
        assert (said[-1] == ENDED) is bool(left)
        bench.engine.acknowledge(session_of(subscriber), [])
        published = subscriber.publishes()
        delivered += [at.payload for at in published]
        bench.engine.receive(session_of(subscriber), [at.packet_id for at in published])
        bench.engine.complete(session_of(subscriber), [at.packet_id for at in published])
    assert connections == 4
    assert delivered == [str(packet_id).encode() for packet_id in range(1, 11)]


def test_beyond_the_limit_nothing_is_taken_before_the_next_connection() -> None:
    bench = Bench(LIMIT)
    subscriber = bench.connect("s", ("t", 2), clean=True)
    publisher = bench.connect("p", clean=True)
    send(bench, publisher, [1, 2, 3, 4])
    bench.engine.release(session_of(publisher), [1])
    send(bench, publisher, [5, 2])
    assert subscriber.payloads() == [b"1", b"2", b"3"]
    assert told(publisher, Answer.PUBREC) == [1, 2, 3]


def test_a_repetition_of_what_is_open_needs_no_room() -> None:
    bench = Bench(LIMIT)
    publisher = bench.connect("p", clean=True)
    send(bench, publisher, [1, 2, 3, 3, 1])
    bench.publish(publisher, "t", b"2", b"3", qos=2, first_id=2)
    assert told(publisher, Answer.PUBREC) == [1, 2, 3, 3, 1, 2, 3]


def test_the_end_comes_behind_the_pubcomps_that_wait_for_their_commit() -> None:
    bench = Bench(LIMIT)
    publisher = bench.connect("p")
    send(bench, publisher, [1, 2, 3, 4])
    bench.commit()
    publisher.take()
    bench.engine.release(session_of(publisher), [1, 2, 3])
    assert publisher.take() == []
    bench.commit()
    assert publisher.take() == [Told(Answer.PUBCOMP, i) for i in (1, 2, 3)] + [ENDED]


def test_what_an_earlier_connection_left_open_takes_no_room() -> None:
    bench = Bench(LIMIT)
    send(bench, bench.connect("p"), [1, 2, 3])
    bench.settle()
    bench = bench.killed(LIMIT)
    publisher = bench.connect("p")
    send(bench, publisher, [11, 12, 13])
    bench.settle()
    assert told(publisher, Answer.PUBREC) == [11, 12, 13]
    send(bench, publisher, [14])
    bench.engine.release(session_of(publisher), [11, 12, 13])
    bench.settle()
    assert publisher.take()[-1] == ENDED


def test_room_that_was_an_earlier_connections_is_gone_with_its_release() -> None:
    bench = Bench(LIMIT)
    bench.drop(bench.connect("p"))
    publisher = bench.connect("p")
    send(bench, publisher, [1, 2, 3])
    bench.drop(publisher)
    publisher = bench.connect("p")
    bench.engine.release(session_of(publisher), [1, 2, 3])
    send(bench, publisher, [11, 12, 13, 14])
    bench.settle()
    assert told(publisher, Answer.PUBREC) == [11, 12, 13]


def test_a_client_that_releases_nothing_is_not_waited_for_for_ever() -> None:
    bench = Bench(LIMIT)
    publisher = bench.connect("p")
    send(bench, publisher, [1, 2, 3, 4])
    bench.engine.tick(100.0, 0)
    bench.engine.tick(1_000.0, 0)
    assert ENDED not in publisher.take(), "its PUBRECs wait for their commit: that is our doing"
    bench.commit()
    publisher.take()
    bench.engine.tick(1_001.0, 0)
    bench.engine.release(session_of(publisher), [1])
    bench.commit()
    bench.engine.tick(1_002.0 + RELEASE_PATIENCE_S, 0)
    assert ENDED not in publisher.take(), "it goes on with its releases"
    bench.engine.tick(1_002.0 + 2 * RELEASE_PATIENCE_S, 0)
    assert publisher.take() == [ENDED]


def test_open_ids_count_towards_the_backlog_of_the_database() -> None:
    bench = Bench()
    publisher = bench.connect("p")
    before = bench.engine.journal.backlog_size
    bench.publish(publisher, "t", *[b""] * 100, qos=2)
    opened = bench.engine.journal.backlog_size - before
    assert opened >= 100 * 100
    bench.commit()
    bench.engine.release(session_of(publisher), range(1, 101))
    assert bench.engine.journal.backlog_size >= 100 * 100
