"""View + overlay = now."""

import random

import pytest

from monstermq_shared.projections.overlay import Overlay
from monstermq_shared.records import Record
from monstermq_shared.topics import matches


def record(offset: int, topic: str = "a") -> Record:
    return Record(topic, b"x", 1, True, "publisher", offset, offset)


def test_a_cleared_topic_has_a_change_without_a_record() -> None:
    overlay = Overlay()
    overlay.put("a", None, 2)
    assert overlay.matching("#") == [("a", None)]


def test_a_committed_change_leaves() -> None:
    overlay = Overlay()
    overlay.put("a", record(1), 3)
    overlay.put("b", record(2, "b"), 3)
    overlay.committed(2)
    assert len(overlay) == 2
    overlay.committed(3)
    assert len(overlay) == 0
    assert overlay.matching("#") == []


def test_a_newer_change_outlives_the_commit_of_an_older_one() -> None:
    overlay = Overlay()
    overlay.put("a", record(1), 2)
    overlay.put("a", record(5), 6)
    overlay.committed(2)
    assert overlay.matching("a") == [("a", record(5))]
    overlay.committed(6)
    assert overlay.matching("a") == []


def test_matching_is_in_order_of_topic_and_leaves_dollar_topics_alone() -> None:
    overlay = Overlay()
    for topic in ("b/x", "a/x", "$SYS/x", "a"):
        overlay.put(topic, record(1, topic), 2)
    assert [topic for topic, _ in overlay.matching("#")] == ["a", "a/x", "b/x"]
    assert [topic for topic, _ in overlay.matching("a/x")] == ["a/x"]
    assert [topic for topic, _ in overlay.matching("$SYS/+")] == ["$SYS/x"]


@pytest.mark.parametrize("seed", range(30))
def test_view_and_overlay_together_are_always_now(seed: int) -> None:
    """A PRNG mixes changes and commits; what a reader sees must equal a plain dictionary."""
    prng = random.Random(seed)
    overlay = Overlay()
    view: dict[str, Record] = {}
    now: dict[str, Record] = {}
    waiting: list[tuple[int, dict[str, Record | None]]] = []
    for offset in range(200):
        if waiting and prng.random() < 0.3:
            count = prng.randint(1, len(waiting))
            for _, changes in waiting[:count]:
                _merge(view, changes)
            overlay.committed(waiting[count - 1][0])
            del waiting[:count]
        topics = prng.sample(["a", "a/b", "b", "$x"], prng.randint(1, 3))
        folded = {at: None if prng.random() < 0.3 else record(offset, at) for at in topics}
        for topic, change in folded.items():
            overlay.put(topic, change, offset + 1)
        waiting.append((offset + 1, folded))
        _merge(now, folded)
        for topic_filter in ("#", "a/#", "+", "a", "$x"):
            seen = {topic: at for topic, at in view.items() if matches(topic_filter, topic)}
            _merge(seen, dict(overlay.matching(topic_filter)))
            assert seen == {at: found for at, found in now.items() if matches(topic_filter, at)}


def _merge(state: dict[str, Record], changes: dict[str, Record | None]) -> None:
    for topic, change in changes.items():
        if change is None:
            state.pop(topic, None)
        else:
            state[topic] = change
