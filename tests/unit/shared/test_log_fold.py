"""The fold of one partition: which records count, which are put aside, and where it must stop."""

import pytest
from tests.support.followed_log import LATENESS_MS, FollowedLog, describe

from monstermq_shared.bus.control import encode_facts
from monstermq_shared.bus.facts import Ack, Fact, Marker
from monstermq_shared.bus.header import Kind
from monstermq_shared.config import BrokerConfig, StoreType
from monstermq_shared.errors import UnknownFact
from monstermq_shared.records import CONTROL_TOPIC, ControlRecord, Record, StampedRecord
from monstermq_shared.stores.changes import LogState
from monstermq_shared.testing.builders import NOON_MS, make_record
from monstermq_shared.views import log_fold
from monstermq_shared.views.catalogue import Catalogue
from monstermq_shared.views.log_fold import LogFold, LogSettings
from monstermq_shared.views.view_set import ViewSet

LOG = LogSettings(log_id="log", lateness_ms=LATENESS_MS, describe=describe)


def views(topic_filter: str = "#") -> ViewSet:
    group = {"Name": "G", "TopicFilter": [topic_filter], "ArchiveType": "POSTGRES"}
    config = BrokerConfig.from_layers(
        {
            "SessionStoreType": "POSTGRES",
            "RetainedStoreType": "POSTGRES",
            "ArchiveGroups": [group],
        }
    )
    return ViewSet.of(Catalogue(config), StoreType.POSTGRES)


def folded(log: FollowedLog, fold: LogFold) -> list[int]:
    """Fold the rest of the log; return the offsets of the records that count."""
    batches = [*fold.fold(log.entries[fold.next_offset :]), fold.flush()]
    return [record.offset for batch in batches for record in batch.records]


def control(*facts: Fact, kind: Kind = Kind.CONTROL, text: str | None = None) -> ControlRecord:
    text = encode_facts(facts) if text is None else text
    return ControlRecord(CONTROL_TOPIC, text.encode(), NOON_MS, 0, kind)


def marker(epoch: int) -> Marker:
    return Marker(client_id="c", epoch=epoch, incarnation=0)


def stamped(epoch: int) -> Record:
    record = Record("a", b"x", 2, False, "c", NOON_MS, 0)
    return StampedRecord(record, 1, epoch)


def restarted(state: LogState, at: int) -> LogFold:
    return LogFold(LOG, views(), at, state)


def test_what_is_appended_twice_counts_once_also_after_a_restart() -> None:
    log, fold = FollowedLog(), LogFold(LOG, views(), 0)
    for sequence in (0, 1, 1, 2):
        log.append(make_record(0), sequence=sequence)
    batches = [*fold.fold(log.entries), fold.flush()]
    assert [record.offset for record in batches[0].records] == [0, 1, 3]
    assert fold.counts.doubles == 1
    again = restarted(batches[0].state, 4)
    for sequence in (2, 3):
        log.append(make_record(0), sequence=sequence)
    log.append(make_record(0), b"writer-2", 0)
    assert folded(log, again) == [5, 6]


def test_a_publish_of_a_dead_connection_does_not_count() -> None:
    log, fold = FollowedLog(), LogFold(LOG, views(), 0)
    for record in (stamped(5), control(marker(7)), stamped(5), stamped(7), control(marker(6))):
        log.append(record)
    assert folded(log, fold) == [0, 3]
    assert fold.counts.fenced == 2


def test_fences_are_kept_with_the_marks_those_of_this_commit_only() -> None:
    log, fold = FollowedLog(), LogFold(LOG, views(), 0)
    log.append(control(marker(7)))
    state = [*fold.fold(log.entries), fold.flush()][0].state
    assert state.fences == {"c": (7, NOON_MS)}
    assert state.fences_from_ms == NOON_MS - 2 * LATENESS_MS
    again = restarted(state, 1)
    log.append(stamped(6))
    assert folded(log, again) == []
    assert fold.flush().state.fences == {}


def test_what_is_no_record_is_put_aside_with_its_position() -> None:
    log, fold = FollowedLog(), LogFold(LOG, views(), 0)
    log.append(make_record(0))
    log.append(None)
    log.append(make_record(0))
    batch = [*fold.fold(log.entries), fold.flush()][0]
    assert [record.offset for record in batch.records] == [0, 2]
    assert [(at.offset, at.reason) for at in batch.quarantined] == [(1, "no header")]
    assert batch.upto == 3
    assert fold.counts.quarantined == 1


@pytest.mark.parametrize(
    "record",
    [
        control(text='{"v":2,"facts":[]}'),
        control(text='{"v":1,"facts":[{"f":"novel"}]}'),
        control(text="{"),
        control(kind=Kind(3)),
    ],
    ids=["version", "fact", "half", "kind"],
)
def test_what_a_later_release_may_have_meant_stops_the_partition(record: Record) -> None:
    log, fold = FollowedLog(), LogFold(LOG, views(), 0)
    log.append(make_record(0))
    log.append(record)
    log.append(make_record(0))
    with pytest.raises(UnknownFact):
        list(fold.fold(log.entries))
    assert fold.next_offset == 1
    batch = fold.flush()
    assert ([at.offset for at in batch.records], batch.upto) == ([0], 1)
    # A release that knows it reads it again, and for the first time.
    with pytest.raises(UnknownFact):
        list(restarted(batch.state, 1).fold(log.entries[1:]))


def test_acknowledgements_are_not_looked_into() -> None:
    log, fold = FollowedLog(), LogFold(LOG, views(), 0)
    log.append(control(Ack(client_id="c", offsets=(1,)), kind=Kind.ACKS))
    assert folded(log, fold) == []
    assert log.entries[0].decoded == 0


def test_only_what_a_view_wants_is_decoded() -> None:
    log, fold = FollowedLog(), LogFold(LOG, views("a/#"), 0)
    for topic, retained in (("a/1", False), ("b", False), ("b", True), ("$SYS/x", True)):
        log.append(make_record(0, topic, retained=retained))
    assert folded(log, fold) == [0, 2]
    assert [entry.decoded for entry in log.entries] == [1, 0, 1, 0]


@pytest.mark.parametrize(("records_max", "size_max"), [(2, 10**9), (10**9, 2 * 20)])
def test_a_batch_ends_at_its_bounds(
    monkeypatch: pytest.MonkeyPatch, records_max: int, size_max: int
) -> None:
    monkeypatch.setattr(log_fold, "RECORDS_MAX", records_max)
    monkeypatch.setattr(log_fold, "SIZE_MAX", size_max)
    log, fold = FollowedLog(), LogFold(LOG, views(), 0)
    for _ in range(5):
        log.append(make_record(0))
    batches = [*fold.fold(log.entries), fold.flush()]
    sizes = [len(batch.records) for batch in batches]
    assert [batch.upto for batch in batches] == [2, 4, 5]
    assert sizes == [2, 2, 1]


def test_the_record_below_the_mark_is_remembered() -> None:
    log, fold = FollowedLog(), LogFold(LOG, views(), 0)
    log.append(make_record(0, timestamp_ms=NOON_MS), sequence=7)
    state = [*fold.fold(log.entries), fold.flush()][0].state
    assert state.last_id == f"{NOON_MS}:{b'writer-1'.hex()}:7"
    assert (state.log_id, restarted(state, 1).last_id) == ("log", state.last_id)
    fold.skip_to(9)
    assert fold.flush().state.last_id is None
