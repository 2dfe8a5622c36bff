"""The index of filters: who gets a topic, and at which QoS."""

import gc
import random
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.calls import calls_made

from monstermq_shared.filter_shapes import FilterTooCostlyError
from monstermq_shared.topic_index import TopicIndex
from monstermq_shared.topics import TOPIC_SIZE_MAX, matches

LEVELS = st.sampled_from(["", "a", "b", "$x"])
TOPICS = st.lists(LEVELS, min_size=1, max_size=4).map("/".join).filter(bool)
FILTERS = st.builds(
    lambda levels, end: "/".join([*levels, *end]),
    st.lists(LEVELS | st.just("+"), max_size=4),
    st.sampled_from([["#"], ["#"], ["+"], ["a"], [""]]),
).filter(bool)
SUBSCRIBERS = st.integers(0, 3)
# A QoS to add, None to remove.
CHANGES = st.lists(st.tuples(FILTERS, SUBSCRIBERS, st.sampled_from([0, 1, 2, None, None])))

Model = dict[tuple[str, int], int]


def expected_match(model: Model, topic: str) -> dict[int, int]:
    found: dict[int, int] = {}
    for (topic_filter, subscriber), qos in model.items():
        if matches(topic_filter, topic):
            found[subscriber] = max(qos, found.get(subscriber, 0))
    return found


@given(CHANGES, st.lists(TOPICS, min_size=1))
def test_a_match_is_what_trying_every_filter_would_find(
    changes: list[tuple[str, int, int | None]], topics: list[str]
) -> None:
    index: TopicIndex[int] = TopicIndex()
    model: Model = {}
    for topic_filter, subscriber, qos in changes:
        key = (topic_filter, subscriber)
        if qos is None:
            assert index.remove(topic_filter, subscriber) is (key in model)
            model.pop(key, None)
        else:
            assert index.add(topic_filter, subscriber, qos) is (key not in model)
            model[key] = qos
        assert len(index) == len(model)
    for topic in topics:
        assert index.match(topic) == expected_match(model, topic)
    for topic_filter, subscriber in model:
        assert index.remove(topic_filter, subscriber)
    assert len(index) == 0
    assert all(index.match(topic) == {} for topic in topics)


def test_a_subscriber_of_several_matching_filters_is_found_once_with_the_highest_qos() -> None:
    index: TopicIndex[str] = TopicIndex()
    for topic_filter, qos in [("a/b", 0), ("a/+", 2), ("a/#", 1), ("#", 0)]:
        index.add(topic_filter, "me", qos)
    index.add("a/#", "you", 1)
    assert index.match("a/b") == {"me": 2, "you": 1}


@pytest.mark.parametrize("topic_filter", ["a/b", "a/+", "a/#"])
def test_adding_again_replaces_the_qos(topic_filter: str) -> None:
    index: TopicIndex[str] = TopicIndex()
    for subscriber in ("one", "two"):
        assert index.add(topic_filter, subscriber, 2)
        assert not index.add(topic_filter, subscriber, 0)
    assert index.match("a/b") == {"one": 0, "two": 0}
    assert len(index) == 2


@pytest.mark.parametrize("topic_filter", ["a/b", "a/+", "a/#"])
def test_removing_one_of_many_subscribers_leaves_the_others(topic_filter: str) -> None:
    index: TopicIndex[int] = TopicIndex()
    for subscriber in range(5):
        index.add(topic_filter, subscriber, 1)
    for subscriber in (0, 3, 1):
        assert index.remove(topic_filter, subscriber)
        assert not index.remove(topic_filter, subscriber)
    assert index.match("a/b") == {2: 1, 4: 1}


def test_the_result_belongs_to_the_caller() -> None:
    index: TopicIndex[str] = TopicIndex()
    index.add("a/#", "one", 1)
    index.add("a/#", "two", 1)
    index.match("a/b").clear()
    assert index.match("a/b") == {"one": 1, "two": 1}


def test_the_deepest_filters_there_can_be_are_added_matched_and_removed() -> None:
    index: TopicIndex[int] = TopicIndex(match_nodes_max=1_000_000)
    deepest = "/" * (TOPIC_SIZE_MAX - 1)
    filters = [deepest, deepest + "#", deepest + "+", "+" + deepest, "+/" * 30_000 + "#"]
    for subscriber, topic_filter in enumerate(filters):
        index.add(topic_filter, subscriber, 0)
    assert set(index.match(deepest)) == {0, 1, 2, 3, 4}
    assert set(index.match(deepest + "/")) == {1, 4}
    for subscriber, topic_filter in enumerate(filters):
        assert index.remove(topic_filter, subscriber)
    assert index.match(deepest) == {}


def test_a_match_visits_no_more_nodes_than_the_index_allows() -> None:
    index: TopicIndex[int] = TopicIndex(match_nodes_max=300)
    prng = random.Random(1)
    topics = ["/".join("ab"[prng.random() < 0.5] for _ in range(12)) for _ in range(50)]
    granted = 0
    for number in range(2_000):
        levels = [prng.choice("+ab") for _ in range(prng.randint(1, 12))]
        try:
            granted += index.add("/".join([*levels, "#"]), number, 0)
        except FilterTooCostlyError:
            continue
    assert granted > 100
    for topic in topics:
        before = index.visited
        index.match(topic)
        assert index.visited - before <= 300


def test_who_unsubscribes_makes_room_for_other_shapes() -> None:
    index: TopicIndex[int] = TopicIndex(match_nodes_max=4)
    index.add("+/a/+/a", 1, 0)
    index.add("+/b/+/b", 1, 0)  # of the same shape
    with pytest.raises(FilterTooCostlyError):
        index.add("a/+", 1, 0)
    index.remove("+/a/+/a", 1)
    with pytest.raises(FilterTooCostlyError):
        index.add("a/+", 1, 0)
    index.remove("+/b/+/b", 1)
    index.add("a/+", 1, 0)
    index.add("a/+/+/#", 2, 0)


def traced_bytes() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def test_removing_gives_the_memory_back() -> None:
    index: TopicIndex[int] = TopicIndex()
    index.add("site/+/line", 0, 1)
    tracemalloc.start()
    try:
        empty = traced_bytes()
        for part in ("site/+/line/{}/+/{}/#", "site/+/{}/+/x", "{}/x/y/{}/#"):
            for number in range(300):
                index.add(part.format(number % 10, number), number, 1)
        full = traced_bytes()
        for part in ("site/+/line/{}/+/{}/#", "site/+/{}/+/x", "{}/x/y/{}/#"):
            for number in range(300):
                index.remove(part.format(number % 10, number), number)
        after = traced_bytes()
    finally:
        tracemalloc.stop()
    assert full - empty > 100_000
    assert after - empty < 2_000
    assert index.match("site/1/line") == {0: 1}


def test_filters_that_differ_from_the_topic_early_are_not_looked_at() -> None:
    index: TopicIndex[int] = TopicIndex()
    for number in range(10):
        index.add(f"plant/line{number}/+", number, 1)
    before = calls_made(lambda: index.match("plant/line7/x"))
    for number in range(10, 5_000):
        index.add(f"plant/line{number}/+", number, 1)
        index.add(f"+/room/{number}/#", number, 1)
    assert index.match("plant/line7/x") == {7: 1}
    assert calls_made(lambda: index.match("plant/line7/x")) <= before + 5
