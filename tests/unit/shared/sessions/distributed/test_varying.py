"""E10: a subscription takes effect in each partition at its own marker."""

import pytest
from tests.support.form import pure_only

from monstermq_shared.sessions.distributed.varying import Change, Varying
from monstermq_shared.topics import matches

P = 2


@pytest.fixture
def varying() -> Varying:
    """Subscriptions that held everywhere until now."""
    varying = Varying()
    varying.vary({"a/+": 1, "b": 2})
    return varying


def test_a_subscription_holds_where_its_marker_was_read(varying: Varying) -> None:
    change = Change({"c/#": 2}, [], P)
    varying.begin(change)
    assert varying.granted("c/x", 0) is None
    assert not change.read(0)
    assert (varying.granted("c/x", 0), varying.granted("c/x", 1)) == (2, None)
    assert change.read(1)
    assert varying.settle(change) == []
    assert [varying.granted("c/x", partition) for partition in range(P)] == [2, 2]
    assert len(varying) == 0


def test_a_filter_that_is_removed_holds_until_its_marker_was_read(varying: Varying) -> None:
    change = Change({}, ["b"], P)
    varying.begin(change)
    change.read(1)
    assert (varying.granted("b", 0), varying.granted("b", 1)) == (2, None)
    change.read(0)
    assert varying.settle(change) == ["b"]
    assert varying.granted("b", 1) is None


def test_a_changed_qos_holds_where_its_marker_was_read(varying: Varying) -> None:
    change = Change({"b": 0, "a/+": 2}, [], P)
    varying.begin(change)
    change.read(0)
    assert (varying.granted("b", 0), varying.granted("b", 1)) == (0, 2)
    assert (varying.granted("a/x", 0), varying.granted("a/x", 1)) == (2, 1)


def test_the_highest_of_all_that_match_is_granted(varying: Varying) -> None:
    change = Change({"#": 1}, [], P)
    varying.begin(change)
    change.read(0)
    assert varying.granted("b", 0) == 2
    assert varying.granted("z", 0) == 1
    assert varying.granted("$SYS/x", 0) is None


def test_changes_behind_each_other_hold_in_order(varying: Varying) -> None:
    add, remove = Change({"c": 1}, [], P), Change({}, ["c"], P)
    again = Change({"c": 2}, [], P)
    for change in (add, remove, again):
        varying.begin(change)
        change.read(0)
    add.read(1)
    assert varying.settle(add) == []
    assert (varying.granted("c", 0), varying.granted("c", 1)) == (2, 1)
    remove.read(1)
    # It goes, and comes again: the router has to keep it.
    assert varying.settle(remove) == []
    assert varying.granted("c", 1) is None
    again.read(1)
    assert varying.settle(again) == []
    assert [varying.granted("c", partition) for partition in range(P)] == [2, 2]


def test_a_filter_that_is_not_subscribed_can_be_removed(varying: Varying) -> None:
    change = Change({}, ["nobody/has/this"], P)
    varying.begin(change)
    change.read(0)
    change.read(1)
    assert varying.settle(change) == ["nobody/has/this"]
    assert (varying.granted("a/x", 0), varying.granted("b", 1)) == (1, 2)


def test_what_held_everywhere_is_not_changed_from_here() -> None:
    subscriptions = {"b": 2}
    varying = Varying()
    varying.vary(subscriptions)
    change = Change({"c": 1}, ["b"], 1)
    varying.begin(change)
    change.read(0)
    varying.settle(change)
    assert subscriptions == {"b": 2}


def test_many_filters_grant_what_few_do() -> None:
    topics = ["a", "a/b", "/", "a//b", "a/b/c", "$SYS/a", "$SYS", "x/y/z"]
    filters = [
        "#",
        "+",
        "a",
        "a/#",
        "+/b",
        "a/+/#",
        "/+",
        "+/+",
        "a//b",
        "$SYS/#",
        "+/a",
        "a/b/c/#",
    ]
    many = {f"other/{number}": 2 for number in range(1_000)}
    for topic_filter in filters:
        few, crowd = Varying(), Varying()
        few.vary({topic_filter: 1})
        crowd.vary({**many, topic_filter: 1})
        for varying in (few, crowd):
            varying.begin(Change({"none": 0}, [], P))
        for topic in topics:
            assert few.granted(topic, 0) == crowd.granted(topic, 0), (topic_filter, topic)
            assert (few.granted(topic, 0) == 1) == matches(topic_filter, topic)


@pure_only
def test_a_thousand_changes_on_their_way_are_not_all_looked_at() -> None:
    varying = Varying()
    varying.vary({})
    looked_at = 0

    class Watched(Change):
        def holds(self, partition: int) -> bool:
            nonlocal looked_at
            looked_at += 1
            return super().holds(partition)

    changes = [Watched({f"a/{number}": 1}, [], P) for number in range(1_000)]
    for change in changes:
        varying.begin(change)
        change.read(0)
    assert varying.granted("a/7", 0) == 1
    assert varying.granted("a/7", 1) is None
    assert looked_at == 2
    changes[0].read(1)
    varying.settle(changes[0])
    assert varying.granted("a/0", 1) == 1
