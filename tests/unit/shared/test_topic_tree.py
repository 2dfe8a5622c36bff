"""Values by topic: what a filter finds, in which order and pages."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.calls import calls_made

from monstermq_shared.topic_tree import TopicTree
from monstermq_shared.topics import TOPIC_SIZE_MAX, matches

# Characters on both sides of the slash and of the dollar sign.
LEVELS = st.sampled_from(["", "a", "b", "a!", "a0", "a.b", "$", "$x", "%", "é", "\U0010ffff"])
TOPICS = st.lists(LEVELS, min_size=1, max_size=4).map("/".join).filter(bool)
FILTERS = st.builds(
    lambda levels, end: "/".join([*levels, *end]),
    st.lists(LEVELS | st.just("+"), max_size=4),
    st.sampled_from([["#"], ["#"], ["+"], ["a"], [""]]),
).filter(bool)


def tree_of(*topics: str) -> TopicTree[str]:
    tree: TopicTree[str] = TopicTree()
    for topic in topics:
        tree.set(topic, topic.upper())
    return tree


def found(tree: TopicTree[str], topic_filter: str) -> list[str]:
    return [topic for topic, _ in tree.find(topic_filter)]


@given(st.lists(TOPICS), st.lists(FILTERS, min_size=1), TOPICS | st.just(""), st.integers(1, 4))
def test_a_search_is_what_trying_every_topic_would_find(
    topics: list[str], filters: list[str], after: str, limit: int
) -> None:
    tree = tree_of(*topics)
    for topic_filter in filters:
        every = sorted({topic for topic in topics if matches(topic_filter, topic)})
        expected = [(topic, topic.upper()) for topic in every]
        rest = [(topic, value) for topic, value in expected if topic > after]
        assert tree.find(topic_filter) == expected
        assert tree.find(topic_filter, after=after) == rest
        assert tree.find(topic_filter, after=after, limit=limit) == rest[:limit]


@given(st.lists(st.tuples(TOPICS, st.none() | st.integers())), st.lists(FILTERS))
def test_changes_are_those_of_a_dictionary(
    changes: list[tuple[str, int | None]], filters: list[str]
) -> None:
    tree: TopicTree[int] = TopicTree()
    model: dict[str, int] = {}
    for topic, value in changes:
        if value is None:
            assert tree.pop(topic) == model.pop(topic, None)
        else:
            tree.set(topic, value)
            model[topic] = value
        assert len(tree) == len(model)
        assert tree.get(topic) == model.get(topic)
    assert list(tree) == sorted(model)
    for topic_filter in filters:
        expected = sorted(item for item in model.items() if matches(topic_filter, item[0]))
        assert tree.find(topic_filter) == expected


@pytest.mark.parametrize("order", ["ascending", "descending", "mixed"])
def test_thousands_of_topics_stay_in_order(order: str) -> None:
    numbers = list(range(7_000))
    if order == "descending":
        numbers.reverse()
    if order == "mixed":
        numbers = [number * 2_999 % 7_000 for number in numbers]
    topics = [f"site{number % 7}/device{number}/state" for number in numbers]
    tree = tree_of(*topics)
    assert list(tree) == sorted(topics)
    assert found(tree, "site3/#") == sorted(t for t in topics if t.startswith("site3/"))
    assert found(tree, "+/device4242/+") == ["site0/device4242/state"]
    for topic in topics[1::2]:
        assert tree.pop(topic) == topic.upper()
    assert list(tree) == sorted(topics[::2])
    assert found(tree, "+/+/state") == sorted(topics[::2])
    for topic in topics[::2]:
        tree.pop(topic)
    assert list(tree) == []
    assert tree.find("#") == []


@pytest.mark.parametrize("topic_filter", ["#", "+/#", "+/+", "a/#", "a/+"])
def test_pages_put_together_are_the_whole(topic_filter: str) -> None:
    tree = tree_of(*(f"{first}/{number}" for first in "$ab" for number in range(2_500)))
    whole = tree.find(topic_filter)
    pages, after = [], ""
    while page := tree.find(topic_filter, after=after, limit=999):
        pages.append(page)
        after = page[-1][0]
    assert [item for page in pages for item in page] == whole
    assert all(len(page) == 999 for page in pages[:-1])
    assert all(one < other for one, other in pairwise(whole))


def test_a_level_that_continues_below_the_slash_does_not_disturb_the_order() -> None:
    tree = tree_of("a", "a/x", "a!", "a!/x", "a0", "a0/x")
    assert found(tree, "#") == ["a", "a!", "a!/x", "a/x", "a0", "a0/x"]
    assert found(tree, "a/#") == ["a", "a/x"]
    assert found(tree, "+/x") == ["a!/x", "a/x", "a0/x"]
    assert found(tree, "+") == ["a", "a!", "a0"]


def test_topics_with_a_dollar_sign_are_found_by_their_own_filters_only() -> None:
    tree = tree_of("$SYS/x", "a/x", "!/x", "%/x")
    assert found(tree, "#") == ["!/x", "%/x", "a/x"]
    assert found(tree, "+/x") == ["!/x", "%/x", "a/x"]
    assert found(tree, "$SYS/#") == ["$SYS/x"]
    assert list(tree) == ["!/x", "$SYS/x", "%/x", "a/x"]


def test_an_exact_filter_finds_its_topic_and_pages_behind_it() -> None:
    tree = tree_of("a/b")
    assert tree.find("a/b") == [("a/b", "A/B")]
    assert tree.find("a/b", after="a/b") == []
    assert tree.find("a") == []


@pytest.mark.parametrize(
    ("topic_filter", "count"), [("#", 10), ("site1/#", 10), ("+/device7/+", 10), ("x/+/y", 0)]
)
def test_a_page_costs_what_it_finds_not_what_there_is(topic_filter: str, count: int) -> None:
    tree = tree_of(*(f"site{i % 10}/device{i // 10}/state" for i in range(20_000)))
    assert len(tree.find(topic_filter, after="s", limit=10)) == count
    assert calls_made(lambda: tree.find(topic_filter, after="s", limit=10)) < 500


def test_none_is_a_value() -> None:
    tree: TopicTree[None] = TopicTree()
    tree.set("a", None)
    assert tree.find("#") == [("a", None)]
    assert tree.pop("a") is None
    assert len(tree) == 0


def test_the_deepest_topics_there_can_be_are_found() -> None:
    deepest = "/" * TOPIC_SIZE_MAX
    tree = tree_of(deepest, deepest[:-1], "x")
    assert found(tree, "/" * (TOPIC_SIZE_MAX - 1) + "#") == [deepest[:-1], deepest]
    assert found(tree, "+/" * 30_000 + "#") == [deepest[:-1], deepest]
    assert found(tree, "+/" * 30_000 + "x") == []
