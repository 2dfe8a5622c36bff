"""The internal bus beside a running engine: taps see everything and cost nothing when closed."""

import asyncio
from contextlib import aclosing, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.engine import subscribe_to
from tests.support.local_bus import PENDING_MAX, SETTINGS, WALL_MS, LocalBus, a_run

from monstermq_shared.bus import internal
from monstermq_shared.bus.backlog import Backlog
from monstermq_shared.bus.internal import BOOT_SHIFT, run_of
from monstermq_shared.bus.ports import Stamp
from monstermq_shared.bus.ring import BATCH_RECORDS_MAX, RingReader
from monstermq_shared.bus.room import Room
from monstermq_shared.errors import BusGap, BusUnavailable, InvalidTopic
from monstermq_shared.records import Record
from monstermq_shared.sessions.ports import Answer
from monstermq_shared.testing.bus_contract import begun, next_batch, outcome_of

FIRST_OFFSET = (1 << BOOT_SHIFT) + 1


def a_record(topic: str, payload: bytes, *, qos: int = 1, retained: bool = False) -> Record:
    return Record(topic, payload, qos, retained, "tool", WALL_MS, 0)


async def tap(local: LocalBus) -> RingReader:
    return local.bus.messages.read(await local.bus.messages.end_positions())


async def read_all(reader: RingReader, count: int) -> list[Record]:
    records: list[Record] = []
    while len(records) < count:
        batch = await next_batch(reader)
        records += [entry.record() for entry in batch.entries]
    return records


# -- taps --------------------------------------------------------------------------------------


async def test_a_tap_sees_every_message_in_order_whatever_its_qos_and_whoever_stores_it() -> None:
    local = LocalBus()
    session, _ = local.connect("p", clean=False)
    async with aclosing(await tap(local)) as reader:
        local.publish(session, a_run("live", [b"0", b"1"]))
        local.publish(session, a_run("stored/a", [b"2"]))
        local.publish(session, a_run("live", [b"3", b"4"], qos=1))
        local.publish(session, a_run("live", [b"5"], qos=2, first_id=10))
        retained = a_run("live", [b"6"])
        retained.retain = True
        local.publish(session, retained)
        local.connect("another", clean=False)  # its incarnation takes an offset
        local.publish(session, a_run("stored/a", [b"7"], qos=2, first_id=20))
        records = await read_all(reader, 8)
    assert [record.payload for record in records] == [b"%d" % n for n in range(8)]
    assert [record.qos for record in records] == [0, 0, 0, 1, 1, 2, 0, 2]
    assert [record.retained for record in records] == [False] * 6 + [True, False]
    assert {record.client_id for record in records} == {"p"}
    assert [record.topic for record in records[1:3]] == ["live", "stored/a"]
    offsets = [record.offset for record in records]
    assert offsets == sorted(set(offsets))


async def test_a_qos_2_message_sent_again_is_seen_once() -> None:
    local = LocalBus()
    session, _ = local.connect("p")
    async with aclosing(await tap(local)) as reader:
        local.publish(session, a_run("live", [b"once"], qos=2))
        local.publish(session, a_run("live", [b"once"], qos=2))
        local.publish(session, a_run("live", [b"end"]))
        records = await read_all(reader, 2)
    assert [record.payload for record in records] == [b"once", b"end"]


async def test_only_while_a_tap_is_open_a_message_nobody_stores_becomes_a_record() -> None:
    local = LocalBus()
    session, _ = local.connect("p")

    def became_a_record() -> bool:
        run = a_run("live", [b"x"], qos=1)
        local.publish(session, run)
        try:
            run.only([0])  # refuses once the payloads were cut out
        except AssertionError:
            return True
        return False

    assert not became_a_record()
    one, other = await tap(local), await tap(local)
    assert became_a_record()
    await one.aclose()
    assert became_a_record()
    await other.aclose()
    assert not became_a_record()
    assert len(local.bus.messages.kept) == 0
    assert local.bus.messages.kept.size == 0


async def test_what_only_taps_want_does_not_reach_the_views() -> None:
    local = LocalBus()
    session, _ = local.connect("p")
    async with aclosing(await tap(local)) as reader:
        local.publish(session, a_run("live", [b"1", b"2"]))
        local.publish(session, a_run("stored/a", [b"3"]))
        await read_all(reader, 3)
    assert local.committed_records == 1


async def test_the_engines_records_are_stamped_with_its_run_and_their_offset() -> None:
    local = LocalBus(boot=3)
    session, _ = local.connect("p")
    async with aclosing(await tap(local)) as reader:
        local.publish(session, a_run("live", [b"1", b"2"]))
        batch = await next_batch(reader)
    assert [e.stamp for e in batch.entries] == [(run_of(3), e.offset) for e in batch.entries]


async def test_what_every_tap_has_read_is_kept_no_longer() -> None:
    local = LocalBus()
    session, _ = local.connect("p")
    async with aclosing(await tap(local)) as fast, aclosing(await tap(local)) as slow:
        local.publish(session, a_run("live", [b"1", b"2"]))
        await read_all(fast, 2)
        assert len(local.bus.messages.kept) == 2
        await read_all(slow, 2)
        assert len(local.bus.messages.kept) == 0
        local.publish(session, a_run("live", [b"3"]))
        await read_all(fast, 1)
        await slow.aclose()
        assert len(local.bus.messages.kept) == 0


async def test_a_tap_that_does_not_read_holds_no_publisher_and_is_bounded() -> None:
    local = LocalBus(size_max=20_000)
    session, link = local.connect("p")
    local.stuck = True  # nor does a database that stands still hold what it need not store
    async with aclosing(await tap(local)) as reader:
        for _ in range(1000):
            local.publish(session, a_run("live", [b"x" * 100]))
            assert local.bus.messages.kept.size <= 20_000
        assert not link.is_held
        assert len(local.bus.messages.kept) + local.bus.messages.kept.dropped == 1000
        with pytest.raises(BusGap) as gap:
            await next_batch(reader)
    assert gap.value.lost == local.bus.messages.kept.dropped
    assert gap.value.found == FIRST_OFFSET + gap.value.lost


async def test_long_topics_count_towards_the_bound() -> None:
    local = LocalBus(size_max=100_000)
    session, _ = local.connect("p")
    async with aclosing(await tap(local)):
        for number in range(20):
            local.publish(session, a_run(f"{number:010000}", [b""]))
        assert len(local.bus.messages.kept) < 10


async def test_a_tap_gets_a_bounded_batch_at_a_time() -> None:
    local = LocalBus(size_max=10_000_000)
    session, _ = local.connect("p")
    async with aclosing(await tap(local)) as reader:
        local.publish(session, a_run("live", [b""] * (BATCH_RECORDS_MAX + 5)))
        first, second = await next_batch(reader), await next_batch(reader)
    assert (len(first.entries), len(second.entries)) == (BATCH_RECORDS_MAX, 5)
    assert first.upto == second.first == second.entries[0].offset


async def test_what_was_published_before_the_first_tap_is_a_gap() -> None:
    local = LocalBus()
    session, _ = local.connect("p")
    local.publish(session, a_run("live", [b"1", b"2"]))
    async with aclosing(local.bus.messages.read({0: FIRST_OFFSET})) as reader:
        with pytest.raises(BusGap) as gap:
            await next_batch(reader)
    assert (gap.value.lost, gap.value.found) == (2, FIRST_OFFSET + 2)


async def test_a_position_of_an_earlier_boot_is_a_gap_but_no_count_of_losses() -> None:
    bus = LocalBus(boot=2).bus
    for log in (bus.messages, bus.sessions):
        async with aclosing(log.read({0: FIRST_OFFSET + 5})) as reader:
            with pytest.raises(BusGap, match="began anew") as gap:
                await next_batch(reader)
        assert gap.value.lost is None
        assert gap.value.found == (2 << BOOT_SHIFT) + 1


async def test_a_reader_above_the_end_does_not_take_from_others() -> None:
    local = LocalBus()
    session, _ = local.connect("p")
    async with aclosing(local.bus.messages.read({0: FIRST_OFFSET + 1000})):
        await (await tap(local)).aclose()
        async with aclosing(await tap(local)) as reader:
            local.publish(session, a_run("live", [b"1"]))
            assert len(await read_all(reader, 1)) == 1


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.booleans()), max_size=30))
def test_taps_get_exactly_what_was_published_however_they_are_interleaved(
    steps: list[tuple[int, bool, bool]],
) -> None:
    async def run() -> None:
        local = LocalBus()
        session, _ = local.connect("p")
        published: list[bytes] = []
        read: list[list[bytes]] = [[], []]
        readers = [await tap(local), await tap(local)]
        for count, stored, second in steps:
            for _ in range(count):
                published.append(b"%d" % len(published))
                local.publish(session, a_run("stored/a" if stored else "live", published[-1:]))
            if len(read[second]) < len(published):
                batch = await next_batch(readers[second])
                read[second] += [entry.record().payload for entry in batch.entries]
                assert read[second] == published
        local.bus.messages.close()
        assert [batch async for batch in readers[0]] == []

    asyncio.run(run())


# -- appending ---------------------------------------------------------------------------------


async def test_an_appended_record_reaches_subscribers_and_views_as_a_clients_would() -> None:
    local = LocalBus()
    session, link = local.connect("s")
    subscribe_to(local.engine, session, 1, [("#", 1)])
    position = await local.bus.messages.append(
        0, [a_record("stored/a", b"1")], Stamp(b"w-------", 1)
    )
    assert link.payloads == [b"1"]
    assert local.committed_records == 1
    assert position == (0, FIRST_OFFSET)


async def test_a_retained_record_that_is_appended_is_retained() -> None:
    local = LocalBus()
    await local.bus.messages.append(0, [a_record("a", b"1", retained=True)], Stamp(b"w-------", 1))
    assert local.committed_records == 1


async def test_an_append_is_done_once_it_is_committed_and_never_before_an_earlier_one() -> None:
    local = LocalBus()
    local.stuck = True
    stored = local.bus.messages.append(0, [a_record("stored/a", b"1")], Stamp(b"w-------", 1))
    live = local.bus.messages.append(0, [a_record("live", b"2")], Stamp(b"w-------", 2))
    again = local.bus.messages.append(0, [a_record("stored/a", b"1")], Stamp(b"w-------", 1))
    local.end_turn()
    assert not stored.done()
    assert not live.done()
    assert not again.done()
    local.stuck = False
    local.end_turn()
    assert stored.result() == (0, FIRST_OFFSET)
    assert live.result() == (0, FIRST_OFFSET + 1)
    assert again.result() is None


async def test_an_append_that_causes_no_rows_does_not_wait_for_the_database() -> None:
    local = LocalBus()
    local.stuck = True
    assert local.bus.messages.append(0, [a_record("live", b"1")], Stamp(b"w-------", 1)).done()


async def test_an_append_repeated_with_its_stamp_is_not_delivered_again() -> None:
    local = LocalBus()
    session, link = local.connect("s")
    subscribe_to(local.engine, session, 1, [("#", 1)])
    records = [a_record("a", b"1"), a_record("a", b"2")]
    await local.bus.messages.append(0, records, Stamp(b"w-------", 1))
    await local.bus.messages.append(0, [*records, a_record("a", b"3")], Stamp(b"w-------", 1))
    assert link.payloads == [b"1", b"2", b"3"]


@pytest.mark.parametrize("topic", ["a/#", "", "$SYS/broker/uptime", "a\0b", "/" * 20])
async def test_a_topic_nobody_may_append_to_refuses_the_whole_batch(topic: str) -> None:
    local = LocalBus()
    session, link = local.connect("s")
    subscribe_to(local.engine, session, 1, [("#", 1)])
    good = a_record("a", b"1")
    with pytest.raises(InvalidTopic):
        local.bus.messages.append(0, [good, a_record(topic, b"2")], Stamp(b"w-------", 1))
    assert link.payloads == []
    # Nothing of it counts as appended.
    await local.bus.messages.append(0, [good], Stamp(b"w-------", 1))
    assert link.payloads == [b"1"]


async def test_too_much_that_is_not_committed_refuses_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(internal, "APPEND_SIZE_MAX", 1_000)
    local = LocalBus()
    local.stuck = True
    record = a_record("stored/a", b"x" * 600)
    first = local.bus.messages.append(0, [record], Stamp(b"w-------", 1))
    with pytest.raises(BusUnavailable, match="not committed"):
        local.bus.messages.append(0, [record], Stamp(b"w-------", 2))
    waiting = await begun(local.bus.messages.room())
    assert not waiting.done()
    local.stuck = False
    local.end_turn()
    await first
    await outcome_of(waiting)
    await local.bus.messages.append(0, [record], Stamp(b"w-------", 2))
    assert local.committed_records == 2


async def test_the_bound_of_all_that_waits_for_the_database_holds_for_appends_too() -> None:
    local = LocalBus()
    local.stuck = True
    record = a_record("stored/a", b"x" * SETTINGS.hold.backlog_size_max)
    local.bus.messages.append(0, [record], Stamp(b"w-------", 1))
    with pytest.raises(BusUnavailable, match="behind"):
        local.bus.messages.append(0, [a_record("live", b"")], Stamp(b"w-------", 2))
    waiting = await begun(local.bus.messages.room())
    local.stuck = False
    local.end_turn()
    await outcome_of(waiting)


async def test_a_subscriber_that_is_behind_refuses_more_until_it_has_caught_up() -> None:
    local = LocalBus()
    session, _ = local.connect("s")
    subscribe_to(local.engine, session, 1, [("#", 1)])
    records = [a_record("a", b"x")] * (PENDING_MAX + 21)
    await local.bus.messages.append(0, records, Stamp(b"w-------", 0))
    with pytest.raises(BusUnavailable, match="behind"):
        local.bus.messages.append(0, [a_record("a", b"y")], Stamp(b"w-------", 100))
    waiting = await begun(local.bus.messages.room())
    assert not waiting.done()
    for _ in range(len(records)):
        local.engine.acknowledge(session, list(session.in_flight))
    await outcome_of(waiting)
    await local.bus.messages.append(0, [a_record("a", b"y")], Stamp(b"w-------", 100))


async def test_a_view_that_is_behind_refuses_more_so_that_its_backlog_stays_bounded() -> None:
    backlog = Backlog("PG", 10_000, lambda records: records)
    local = LocalBus(followed=backlog)
    record = a_record("followed/a", b"x" * 1_000)
    taken = 0
    while not backlog.is_full:
        await local.bus.messages.append(0, [record], Stamp(b"w-------", taken))
        local.end_turn()
        taken += 1
    for sequence in range(taken, taken + 20):
        with suppress(BusUnavailable):
            local.bus.messages.append(0, [record], Stamp(b"w-------", sequence))
        local.end_turn()
    assert backlog.count == taken + 1  # as a client, it is held for what it says to a full one
    waiting = await begun(local.bus.messages.room())
    assert not waiting.done()
    with pytest.raises(BusUnavailable, match="behind"):
        local.bus.messages.append(0, [a_record("live", b"")], Stamp(b"w-------", 100))
    backlog.committed(backlog.upto)
    await outcome_of(waiting)
    await local.bus.messages.append(0, [record], Stamp(b"w-------", 100))


async def test_a_message_that_goes_out_in_pieces_is_waited_for() -> None:
    local = LocalBus()
    for number in range(3):
        session, _ = local.connect(f"s{number}")
        subscribe_to(local.engine, session, 1, [("a", 0)])
    publisher, _ = local.connect("p")
    local.engine.publisher.deliveries_max = 1
    local.engine.publish(publisher, a_run("a", [b"1"]), WALL_MS)
    assert local.engine.is_busy
    with pytest.raises(BusUnavailable):
        local.bus.messages.append(0, [a_record("a", b"2")], Stamp(b"w-------", 1))
    waiting = await begun(local.bus.messages.room())
    assert not waiting.done()
    while local.engine.work():
        pass
    await outcome_of(waiting)
    await local.bus.messages.append(0, [a_record("a", b"2")], Stamp(b"w-------", 1))


async def test_an_append_nobody_waits_for_any_more_is_still_committed() -> None:
    local = LocalBus()
    local.stuck = True
    local.bus.messages.append(0, [a_record("stored/a", b"1")], Stamp(b"w-------", 1)).cancel()
    local.stuck = False
    local.end_turn()
    assert local.committed_records == 1


async def test_an_append_that_the_close_overtakes_fails() -> None:
    local = LocalBus()
    local.stuck = True
    future = local.bus.messages.append(0, [a_record("stored/a", b"1")], Stamp(b"w-------", 1))
    await local.bus.close()
    with pytest.raises(BusUnavailable):
        await future
    local.stuck = False
    local.end_turn()
    assert local.committed_records == 1


async def test_a_clients_acknowledgement_does_not_wait_for_a_tap() -> None:
    local = LocalBus()
    session, link = local.connect("p")
    local.stuck = True
    async with aclosing(await tap(local)):
        local.publish(session, a_run("live", [b"1"], qos=1, first_id=7))
    assert link.answers == [(Answer.PUBACK, [7])]


# -- room --------------------------------------------------------------------------------------


async def test_so_many_wait_for_room_and_no_more() -> None:
    free = False
    room = Room(lambda: free, waiters_max=2)
    waiting = [await begun(room.wait()) for _ in range(2)]
    with pytest.raises(BusUnavailable, match="2 others"):
        await room.wait()
    waiting[0].cancel()
    room.look()
    await asyncio.wait([waiting[0]])
    waiting.append(await begun(room.wait()))
    free = True
    room.look()
    for task in waiting[1:]:
        await outcome_of(task)


async def test_who_is_woken_for_room_that_another_took_waits_on() -> None:
    places = 0
    taken: list[str] = []
    room = Room(lambda: places > 0)

    async def take(name: str) -> None:
        nonlocal places
        await room.wait()
        places -= 1
        taken.append(name)

    one, other = await begun(take("one")), await begun(take("other"))
    places = 1
    room.look()
    await outcome_of(one)
    assert taken == ["one"]
    places = 1
    room.look()
    await outcome_of(other)
    assert taken == ["one", "other"]
