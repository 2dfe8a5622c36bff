"""What becomes of one partition of the bus: entries, markers and acknowledgements in, rows out."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from tests.support.followed_log import LATENESS_MS, FollowedLog, describe

from monstermq_shared.bus.control import encode_facts, kind_of
from monstermq_shared.bus.facts import Ack, Drop, Fact, Marker, Release
from monstermq_shared.bus.header import Kind
from monstermq_shared.errors import UnknownFact
from monstermq_shared.messages import Subscription
from monstermq_shared.positions import Mark
from monstermq_shared.records import CONTROL_TOPIC, ControlRecord, Record, StampedRecord
from monstermq_shared.sessions.distributed.queues import fold
from monstermq_shared.sessions.distributed.queues.cuts import CutTable
from monstermq_shared.sessions.distributed.queues.empties import REST_S
from monstermq_shared.sessions.distributed.queues.fold import QueueFold
from monstermq_shared.stores.changes import StoredLogState
from monstermq_shared.stores.queue_changes import NOTHING_WAITS, OpenId, QueueBatch
from monstermq_shared.stores.queues import StoredQueue
from monstermq_shared.testing.builders import NOON_MS
from monstermq_shared.views.log_fold import Batch, LogFold, LogSettings
from monstermq_shared.views.view_set import ViewSet

LOG = LogSettings(log_id="log", lateness_ms=LATENESS_MS, describe=describe)
EVERYTHING: Subscription = ("#", 2, 0)


class Partition:
    """A partition, its worker, and what a database would have of it.

    Attributes:
        batch: What was committed last.
    """

    def __init__(self) -> None:
        self.log = FollowedLog()
        self.state = StoredLogState(mark=Mark(0, 0), log_id="log", last_id=None, runs={}, fences={})
        self.stored: dict[str, StoredQueue] = {}
        self.load()

    def load(self) -> None:
        """Begin anew, with what is stored (P1)."""
        self.table = CutTable(1, lambda _: 0, topic_levels_max=10, route_cache_max=100)
        self.queues = QueueFold(0, self.table, self.state, lateness_ms=LATENESS_MS)
        self.queues.load(self.stored.values())
        restart = self.state.mark.restart
        self.fold = LogFold(LOG, ViewSet([], []), restart, self.state, queues=self.queues)

    def append(self, record: Record, *, sequence: int | None = None) -> int:
        """Append a record; return its offset."""
        return self.log.append(record, sequence=sequence).offset

    def say(self, *facts: Fact) -> int:
        """Append facts."""
        text = encode_facts(facts).encode()
        return self.append(ControlRecord(CONTROL_TOPIC, text, NOON_MS, 0, kind_of(facts[0])))

    def publish(self, qos: int = 1, topic: str = "t") -> int:
        """Append a message."""
        return self.append(Record(topic, b"x", qos, False, "p", NOON_MS, 0))

    def read(self) -> None:
        """Fold all there is."""
        assert not [*self.fold.fold(self.log.entries[self.fold.next_offset :])]

    def commit(self) -> QueueBatch:
        """Fold all there is, and commit it."""
        self.read()
        batch: Batch = self.fold.flush()
        queues = batch.queues
        assert queues is not None
        self.state = replace(
            self.state,
            mark=Mark(batch.upto, queues.restart),
            last_id=batch.state.last_id,
            runs=batch.state.runs,
            fences={**self.state.fences, **batch.state.fences},
            skips=batch.state.skips,
        )
        for client_id, cut in queues.changes.cuts.items():
            before = self.stored.get(client_id)
            opened = {} if before is None else before.open_ids
            self.stored[client_id] = StoredQueue(client_id, cut, opened, NOTHING)
        return queues


NOTHING = NOTHING_WAITS


@pytest.fixture
def partition() -> Partition:
    """One with a client ``c`` that has subscribed to everything."""
    partition = Partition()
    partition.say(marker(whole=(EVERYTHING,)))
    partition.commit()
    return partition


def marker(
    epoch: int = 1, incarnation: int = 1, whole: Sequence[Subscription] | None = None
) -> Marker:
    return Marker(
        client_id="c",
        epoch=epoch,
        incarnation=incarnation,
        whole=None if whole is None else tuple(whole),
    )


def ack(*offsets: int) -> Ack:
    return Ack(client_id="c", offsets=offsets)


def rows(batch: QueueBatch) -> dict[int, list[tuple[str, int]]]:
    return {offset: targets for offset, (_, targets) in batch.changes.queued.items()}


def test_what_is_acknowledged_in_time_never_becomes_a_row(partition: Partition) -> None:
    at = partition.publish()
    partition.say(ack(at))
    batch = partition.commit()
    assert batch.changes.is_empty
    assert batch.restart == at + 2


def test_what_waits_is_where_reading_begins_again(partition: Partition) -> None:
    at = partition.publish()
    batch = partition.commit()
    assert batch.changes.is_empty
    assert (batch.restart, partition.fold.next_offset) == (at, at + 1)


def test_what_is_older_than_t_becomes_a_row_and_its_ack_deletes_it(partition: Partition) -> None:
    at = partition.publish(qos=1)
    partition.read()
    partition.queues.age(partition.queues.now_s)
    assert rows(partition.commit()) == {at: [("c", 1)]}
    partition.say(ack(at))
    assert partition.commit().changes.dequeued == {("c", at)}


def test_the_oldest_of_a_window_over_its_bound_become_rows(partition: Partition) -> None:
    first, second = partition.publish(), partition.publish()
    partition.read()
    partition.queues.shrink(partition.queues.window.size - 1)
    batch = partition.commit()
    assert rows(batch) == {first: [("c", 1)]}
    assert batch.restart == second


def test_a_marker_makes_rows_of_what_was_matched_until_then(partition: Partition) -> None:
    at = partition.publish(qos=2)
    partition.say(marker(epoch=2))
    batch = partition.commit()
    assert rows(batch) == {at: [("c", 2)]}
    cut = batch.changes.cuts["c"]
    assert cut is not None
    assert (cut.epoch, cut.at, cut.subscriptions) == (2, at + 1, (EVERYTHING,))


def test_a_newer_incarnation_ends_rows_and_ids(partition: Partition) -> None:
    stamped = StampedRecord(Record("t", b"x", 2, False, "c", NOON_MS, 0), 7, 1)
    partition.append(stamped)
    partition.commit()
    at = partition.say(marker(epoch=5, incarnation=5, whole=()))
    batch = partition.commit()
    assert rows(batch) == {}
    assert batch.changes.below == {"c": at}
    assert batch.changes.open_ids == {("c", 7): None}


def test_a_marker_of_a_dead_connection_changes_nothing(partition: Partition) -> None:
    partition.say(marker(epoch=3))
    partition.commit()
    partition.say(marker(epoch=2, whole=()))
    assert partition.commit().changes.is_empty


def test_only_the_opening_that_is_released_is_over(partition: Partition) -> None:
    stamped = StampedRecord(Record("t", b"x", 2, False, "p", NOON_MS, 0), 7, 1)
    at = partition.append(stamped)
    assert partition.commit().changes.open_ids == {("p", 7): OpenId(at, 1)}
    partition.say(Release(client_id="p", packet_id=7, since=at - 1))
    assert partition.commit().changes.open_ids == {}
    partition.say(Release(client_id="p", packet_id=7, since=at))
    assert partition.commit().changes.open_ids == {("p", 7): None}


def test_a_drop_takes_entries_and_rows_below(partition: Partition) -> None:
    first, second = partition.publish(), partition.publish()
    partition.say(Drop(client_id="c", below=second, count=1))
    batch = partition.commit()
    assert batch.changes.below == {"c": second}
    assert batch.restart == second > first


def test_a_message_before_the_cut_is_not_for_the_client() -> None:
    partition = Partition()
    partition.publish()
    partition.say(marker(whole=(EVERYTHING,)))
    batch = partition.commit()
    assert not batch.changes.queued
    assert batch.restart == partition.fold.next_offset


def test_qos_0_and_what_nobody_wants_is_not_held(partition: Partition) -> None:
    partition.say(marker(epoch=2, whole=(("a/#", 1, 0), ("b", 0, 0))))
    partition.publish(topic="t")
    partition.publish(topic="b")
    partition.publish(qos=0, topic="a/b")
    partition.read()
    assert len(partition.queues.window) == 0


def test_the_window_is_rebuilt_without_what_did_not_count(partition: Partition) -> None:
    at = partition.publish()
    sequence = partition.log.entries[-1].sequence
    double = partition.append(partition.log.entries[-1].record(), sequence=sequence)
    batch = partition.commit()
    assert (batch.restart, list(batch.skips)) == (at, [double])
    partition.load()
    partition.read()
    assert len(partition.queues.window) == 1
    # A row of it may be there, so the ack deletes it, whatever is in the window (P3).
    partition.say(ack(at))
    batch = partition.commit()
    assert batch.changes.dequeued == {("c", at)}
    assert (list(batch.skips), batch.restart) == ([], partition.fold.next_offset)


def test_below_n_only_acks_and_drops_do_something(partition: Partition) -> None:
    partition.publish()
    partition.say(marker(epoch=4))
    held = partition.publish()
    partition.commit()
    cut = partition.stored["c"].cut
    partition.load()
    partition.read()
    batch = partition.commit()
    assert batch.changes.is_empty
    assert partition.stored["c"].cut == cut
    assert batch.restart == held


def test_nothing_is_committed_before_n_is_reached(partition: Partition) -> None:
    partition.publish()
    partition.publish()
    partition.commit()
    partition.load()
    assert partition.fold.flush().queues is None


def test_a_gap_leaves_nothing_under_way(partition: Partition) -> None:
    partition.publish()
    partition.append(StampedRecord(Record("t", b"x", 2, False, "p", NOON_MS, 0), 7, 1))
    partition.read()
    partition.fold.skip_to(100)
    batch = partition.fold.flush().queues
    assert batch is not None
    assert (batch.restart, batch.changes.open_ids) == (100, {("p", 7): None})
    assert not batch.changes.queued


def test_a_fact_that_no_row_could_say_stops_the_partition(partition: Partition) -> None:
    partition.say(Drop(client_id="a\0b", below=1, count=1))
    with pytest.raises(UnknownFact):
        partition.read()


def test_a_marker_among_acknowledgements_stops_the_partition(partition: Partition) -> None:
    """R6: no edge looks into such a record, so it must not be a cut here."""
    text = encode_facts([ack(0), marker(whole=(EVERYTHING,))]).encode()
    partition.append(ControlRecord(CONTROL_TOPIC, text, NOON_MS, 0, Kind.ACKS))
    with pytest.raises(UnknownFact):
        partition.read()


def test_a_cut_without_subscriptions_goes_when_nothing_late_can_ask_for_it() -> None:
    partition = Partition()
    at_ms = [NOON_MS]
    queues = partition.queues

    def said(fact: Fact) -> QueueBatch:
        text = encode_facts([fact]).encode()
        partition.append(ControlRecord(CONTROL_TOPIC, text, at_ms[0], 0, kind_of(fact)))
        return partition.commit()

    said(marker(whole=()))
    at_ms[0] += 2 * LATENESS_MS
    assert not said(ack(0)).changes.cuts, "somebody may be waiting to see it"
    queues.now_s = REST_S
    assert said(ack(0)).changes.cuts == {"c": None}
    assert not partition.table.clients


def test_a_cut_with_subscriptions_stays(partition: Partition) -> None:
    partition.queues.now_s = REST_S
    late = ControlRecord(CONTROL_TOPIC, b"", NOON_MS + 2 * LATENESS_MS, 0, 1)
    late.payload = encode_facts([ack(0)]).encode()
    partition.append(late)
    assert not partition.commit().changes.cuts
    assert partition.table.clients


def test_what_is_acknowledged_before_its_row_is_written_needs_none(partition: Partition) -> None:
    at = partition.publish()
    partition.read()
    partition.queues.age(partition.queues.now_s)
    partition.say(ack(at))
    assert partition.commit().changes.is_empty


def test_an_old_marker_is_fenced_when_fences_have_forgotten_it(partition: Partition) -> None:
    """R3: the cut still knows; a fence is kept for 2 L."""
    partition.say(marker(epoch=3))
    partition.commit()
    partition.state = replace(partition.state, fences={})
    partition.load()
    partition.say(marker(epoch=2, whole=()))
    assert partition.commit().changes.is_empty


def test_markers_and_releases_below_n_are_known_by_the_rows(partition: Partition) -> None:
    partition.say(
        Marker(client_id="d", epoch=1, incarnation=1, whole=(EVERYTHING,)),
        Marker(client_id="c", epoch=1, incarnation=1, whole=()),
    )
    partition.publish()  # it waits for d, so reading begins here again
    partition.say(marker(epoch=1, whole=(EVERYTHING,)))
    partition.say(marker(epoch=1, whole=()))
    partition.commit()
    partition.load()
    partition.read()
    changes = partition.commit().changes
    assert not changes.cuts
    assert not partition.table.clients["c"].subscriptions(0)


def test_a_commit_ends_at_so_many_rows_and_bytes(
    partition: Partition, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P5: what is old enough for more than one commit becomes rows in several."""
    others = [f"d{number}" for number in range(4)]
    partition.say(
        *(Marker(client_id=name, epoch=1, incarnation=1, whole=(EVERYTHING,)) for name in others)
    )
    at = partition.publish()
    partition.commit()
    monkeypatch.setattr(fold, "ROWS_MAX", 3)
    sizes: list[int] = []
    for batch in [*partition.fold.tick(fold.AGE_S), partition.fold.flush()]:
        assert batch.queues is not None
        sizes.append(len(rows(batch.queues).get(at, ())))
        assert (batch.queues.restart > at) == (sum(sizes) == 5)
    assert max(sizes) <= 3

    monkeypatch.setattr(fold, "ROWS_MAX", 5_000)
    monkeypatch.setattr(fold, "SIZE_MAX", 2)
    first = partition.publish()
    partition.publish()
    partition.publish()
    partition.read()
    found = [batch.queues for batch in partition.fold.tick(2 * fold.AGE_S)]
    assert [len(batch.changes.queued) for batch in found if batch is not None] == [2]
    assert [*rows(partition.commit())] == [first + 2]
