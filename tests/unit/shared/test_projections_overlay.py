"""View + overlay = now."""

import random
from collections.abc import Sequence

import pytest

from monstermq_shared.projections.overlay import FOLD_MAX, Overlay
from monstermq_shared.records import Record
from monstermq_shared.topics import matches


def record(offset: int, topic: str = "a", payload: bytes = b"x", *, kept: bool = True) -> Record:
    return Record(topic, payload, 1, kept, "publisher", offset, offset)


def fold(overlay: Overlay, uncommitted: Sequence[Sequence[Record]]) -> int:
    """Fold all; return in how many pieces."""
    pieces = 1
    while overlay.fold(uncommitted):
        pieces += 1
    return pieces


def matching(overlay: Overlay, topic_filter: str) -> list[tuple[str, Record | None]]:
    """Return all the changes, a page at a time."""
    found: list[tuple[str, Record | None]] = []
    start: str | None = ""
    while start is not None:
        part, start = overlay.scan(topic_filter, start=start, limit=2)
        found += part
    return found


def test_a_cleared_topic_has_a_change_without_a_record() -> None:
    overlay = Overlay()
    fold(overlay, [[record(1, payload=b"")]])
    assert matching(overlay, "#") == [("a", None)]


def test_what_is_not_to_be_retained_changes_nothing() -> None:
    overlay = Overlay()
    fold(overlay, [[record(1), record(2, payload=b"y", kept=False)]])
    assert matching(overlay, "#") == [("a", record(1))]


def test_a_committed_change_leaves() -> None:
    overlay = Overlay()
    fold(overlay, [[record(1), record(2, "b")]])
    overlay.committed(2)
    assert len(overlay) == 2
    overlay.committed(3)
    assert len(overlay) == 0
    assert matching(overlay, "#") == []


def test_a_newer_change_outlives_the_commit_of_an_older_one() -> None:
    overlay = Overlay()
    fold(overlay, [[record(1)], [record(5)]])
    overlay.committed(2)
    assert matching(overlay, "a") == [("a", record(5))]
    overlay.committed(6)
    assert matching(overlay, "a") == []


def test_what_has_been_folded_and_committed_does_not_come_back() -> None:
    overlay = Overlay()
    first, second = [record(1)], [record(5, "b")]
    fold(overlay, [first])
    overlay.committed(2)
    fold(overlay, [first, second])
    assert matching(overlay, "#") == [("b", record(5, "b"))]


def test_matching_is_in_order_of_topic_and_leaves_dollar_topics_alone() -> None:
    overlay = Overlay()
    fold(overlay, [[record(1, topic) for topic in ("b/x", "a/x", "$x/x", "a")]])
    assert [topic for topic, _ in matching(overlay, "#")] == ["a", "a/x", "b/x"]
    assert [topic for topic, _ in matching(overlay, "a/x")] == ["a/x"]
    assert [topic for topic, _ in matching(overlay, "$x/+")] == ["$x/x"]


def test_many_are_folded_in_pieces_and_forgotten_as_they_are_committed() -> None:
    overlay = Overlay()
    for turn in range(20):
        first = 2 * FOLD_MAX * turn
        records = [record(at, f"t/{at}") for at in range(first, first + 2 * FOLD_MAX)]
        assert fold(overlay, [records]) == 3
        assert len(overlay) <= 5 * FOLD_MAX
        overlay.committed(first + FOLD_MAX)
        assert len(matching(overlay, "#")) == FOLD_MAX
    overlay.committed(20 * 2 * FOLD_MAX)
    assert len(overlay) == 0


@pytest.mark.parametrize("seed", range(30))
def test_view_and_overlay_together_are_always_now(seed: int) -> None:
    """A PRNG mixes records, commits and questions; who asks must see a plain dictionary."""
    prng = random.Random(seed)
    overlay = Overlay()
    view: dict[str, Record] = {}
    now: dict[str, Record] = {}
    turns: list[list[Record]] = []
    for offset in range(0, 1_000, 5):
        if turns and prng.random() < 0.3:
            committed = turns.pop(0)
            _merge(view, committed)
            overlay.committed(committed[-1].offset + 1)
        turn = [
            record(at, prng.choice(["a", "a/b", "b", "$x"]), prng.choice([b"", b"x", b"y"]))
            for at in range(offset, offset + prng.randint(1, 4))
        ]
        turns.append(turn)
        _merge(now, turn)
        if prng.random() < 0.5:
            fold(overlay, turns)
            for topic_filter in ("#", "a/#", "+", "a", "$x"):
                seen = {topic: at for topic, at in view.items() if matches(topic_filter, topic)}
                for topic, change in matching(overlay, topic_filter):
                    _change(seen, topic, change)
                wanted = {at: found for at, found in now.items() if matches(topic_filter, at)}
                assert seen == wanted


def _merge(state: dict[str, Record], records: list[Record]) -> None:
    for one in records:
        _change(state, one.topic, one if one.payload else None)


def _change(state: dict[str, Record], topic: str, change: Record | None) -> None:
    if change is None:
        state.pop(topic, None)
    else:
        state[topic] = change
