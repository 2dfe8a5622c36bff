"""Projections fold records into changes, and nothing else."""

import random
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.form import pure_only

from monstermq_shared.projections import selection
from monstermq_shared.projections.archive import ArchiveProjection
from monstermq_shared.projections.last_value import LastValueProjection
from monstermq_shared.projections.retained import RetainedProjection
from monstermq_shared.projections.selection import GroupSelection
from monstermq_shared.records import Record
from monstermq_shared.replays import ARCHIVED_AGAIN, REPLAYED, is_replayed
from monstermq_shared.topics import matches


def record(offset: int, topic: str, payload: bytes = b"x", *, retained: bool = True) -> Record:
    return Record(topic, payload, 1, retained, "publisher", offset, offset)


def test_the_last_retained_record_of_a_topic_wins() -> None:
    last = record(3, "a")
    changes = RetainedProjection().fold([record(1, "a"), record(2, "a", retained=False), last])
    assert changes == {"a": last}


def test_an_empty_retained_payload_clears() -> None:
    fold = RetainedProjection().fold
    assert fold([record(1, "a"), record(2, "a", b"")]) == {"a": None}
    assert fold([record(1, "a", b""), record(2, "a", b"y")]) == {"a": record(2, "a", b"y")}


def test_an_empty_payload_without_the_flag_clears_nothing() -> None:
    assert RetainedProjection().fold([record(1, "a", b"", retained=False)]) == {}


def test_the_brokers_own_topics_are_never_retained() -> None:
    projection = RetainedProjection()
    folded = projection.fold([record(1, "$SYS/x"), record(2, "$SYSTEM/x"), record(3, "$x")])
    assert list(folded) == ["$SYSTEM/x", "$x"]
    assert not projection.wants("$SYS/x")
    assert projection.wants("$SYSTEM/x")


def test_a_last_value_may_be_empty() -> None:
    empty = record(2, "a", b"", retained=False)
    assert LastValueProjection("g", GroupSelection(["#"])).fold([record(1, "a"), empty]) == {
        "a": empty
    }


def test_a_retained_message_that_is_cleared_is_no_last_value() -> None:
    fold = LastValueProjection("g", GroupSelection(["#"])).fold
    clearing, live = record(2, "a", b""), record(3, "a", b"", retained=False)
    assert fold([record(1, "a"), clearing]) == {"a": None}
    assert fold([clearing, live]) == {"a": live}


def test_an_archive_keeps_every_record_in_order() -> None:
    records = [record(1, "a"), record(2, "a", b""), record(3, "b"), record(4, "a")]
    projection = ArchiveProjection("g", GroupSelection(["a", "c/#"]))
    assert projection.fold(records) == [*records[:2], records[3]]


def test_an_archive_keeps_a_replay_only_if_that_was_asked_for() -> None:
    records = [record(n, "a") for n in range(3)]
    records[1].client_id = f"{REPLAYED}0123"
    records[2].client_id = f"{ARCHIVED_AGAIN}0123"
    selection = GroupSelection(["#"])
    assert ArchiveProjection("g", selection).fold(records) == [records[0], records[2]]
    assert LastValueProjection("g", selection).fold(records) == {"a": records[2]}
    assert [is_replayed(record.client_id) for record in records] == [False, True, True]


@pytest.mark.parametrize("kind", [LastValueProjection, ArchiveProjection])
def test_retained_only_leaves_the_others_out(
    kind: type[LastValueProjection] | type[ArchiveProjection],
) -> None:
    projection = kind("g", GroupSelection(["#"], retained_only=True))
    folded = projection.fold([record(1, "a", retained=False), record(2, "b")])
    assert len(folded) == 1
    assert projection.retained_only


@pytest.mark.parametrize(
    ("filters", "wanted", "unwanted"),
    [
        ([], ["a", "a/b"], ["$SYS/a"]),
        (["#"], ["a"], ["$SYS/a"]),
        (["$SYS/#", "a/+"], ["$SYS/a", "a/b"], ["a", "a/b/c", "b"]),
    ],
)
def test_filters_decide_what_a_group_wants(
    filters: list[str], wanted: list[str], unwanted: list[str]
) -> None:
    selected = GroupSelection(filters)
    for projection in (LastValueProjection("g", selected), ArchiveProjection("g", selected)):
        assert all(projection.wants(topic) for topic in wanted)
        assert not any(projection.wants(topic) for topic in unwanted)
        folded = projection.fold([record(i, at) for i, at in enumerate(wanted + unwanted)])
        assert len(folded) == len(wanted)


def test_a_projection_can_have_a_watermark_of_its_own() -> None:
    selected = GroupSelection(["a"])
    for projection in (
        RetainedProjection("g"),
        LastValueProjection("g", selected),
        ArchiveProjection("g", selected),
    ):
        named = projection.named("g.shadow")
        assert type(named) is type(projection)
        assert (named.name, projection.name) == ("g.shadow", "g")
        assert (named.wants("a"), named.every_topic) == (True, projection.every_topic)
        records = [record(1, "a"), record(2, "b")]
        assert named.fold(records) == projection.fold(records)


def matched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the topics that selections match with a filter from now on."""
    topics: list[str] = []

    def watched(topic_filter: str, topic: str) -> bool:
        topics.append(topic)
        return matches(topic_filter, topic)

    monkeypatch.setattr(selection, "matches", watched)
    return topics


@pure_only
def test_remembered_decisions_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "DECISIONS_SIZE_MAX", 10 * 200)
    asked = matched(monkeypatch)
    group = GroupSelection(["a/+"])
    for number in range(25):
        assert f"a/{number:048}" in group
        assert f"b/{number:048}" not in group
    assert len(asked) == 50
    assert f"b/{24:048}" not in group
    assert len(asked) == 50, "the last one was remembered"
    assert f"a/{0:048}" in group
    assert len(asked) == 51, "the first one was forgotten"


def test_long_topics_are_decided_each_time_and_take_no_memory() -> None:
    group = GroupSelection(["#"])
    tracemalloc.start()
    try:
        for number in range(1_000):
            assert f"{number}" + "x" * 65_000 in group
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 1_000_000


@given(seed=st.integers(0, 2**32), cuts=st.lists(st.integers(0, 40), max_size=5))
def test_batches_do_not_matter(seed: int, cuts: list[int]) -> None:
    """Folding in pieces ends in the same state as folding at once."""
    prng = random.Random(seed)
    records = [
        record(
            i,
            prng.choice(["a", "b", "c", "$SYS/x"]),
            prng.choice([b"", b"x"]),
            retained=prng.random() < 0.7,
        )
        for i in range(40)
    ]
    ends = sorted({*cuts, 40})
    pieces = [records[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    for projection in (RetainedProjection(), LastValueProjection("g", GroupSelection(["a", "b"]))):
        state: dict[str, Record | None] = {}
        for piece in pieces:
            state.update(projection.fold(piece))
        assert state == projection.fold(records)
