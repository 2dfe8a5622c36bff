"""Who has subscribed to what in which partition, under one router."""

import random
from collections.abc import Collection

import pytest
from tests.support.form import pure_only

from monstermq_shared.messages import Subscription
from monstermq_shared.sessions.distributed import varying
from monstermq_shared.sessions.distributed.queues import cuts
from monstermq_shared.sessions.distributed.queues.cuts import CutTable, changed
from monstermq_shared.stores.queue_changes import Cut
from monstermq_shared.topics import matches

EVERYTHING: Subscription = ("#", 1, 0)
ONE: Subscription = ("t/1", 2, 0)


@pytest.fixture
def table() -> CutTable:
    """Topics end with the number of their partition, of which there are three."""
    return CutTable(3, lambda topic: int(topic[-1]), topic_levels_max=10, route_cache_max=100)


def put(table: CutTable, partition: int, *subscriptions: Subscription, at: int = 5) -> None:
    table.put(partition, "c", Cut(9, at, 7, subscriptions, 0))


def targets(table: CutTable, topic: str) -> dict[str, int]:
    """Return who is to get a topic; twice, because a route is cached then."""
    found = [{c.client_id: qos for c, qos in table.targets(topic.encode())} for _ in range(3)]
    assert found[0] == found[1] == found[2]
    return found[0]


def test_a_client_with_the_same_everywhere_is_matched_everywhere(table: CutTable) -> None:
    for partition in range(3):
        put(table, partition, EVERYTHING)
    assert [targets(table, f"t/{p}") for p in range(3)] == [{"c": 1}] * 3
    assert table.varied == 0


def test_what_holds_in_one_partition_is_matched_there_alone(table: CutTable) -> None:
    for partition in range(3):
        put(table, partition)
    assert targets(table, "t/1") == {}
    put(table, 1, EVERYTHING)
    assert [targets(table, f"t/{p}") for p in range(3)] == [{}, {"c": 1}, {}]
    assert table.varied == 1
    put(table, 0, EVERYTHING)
    put(table, 2, EVERYTHING)
    assert [targets(table, f"t/{p}") for p in range(3)] == [{"c": 1}] * 3
    assert table.varied == 0


def test_what_is_removed_in_one_partition_is_matched_elsewhere(table: CutTable) -> None:
    for partition in range(3):
        put(table, partition, EVERYTHING, ONE)
    assert targets(table, "t/1") == {"c": 2}
    put(table, 1, EVERYTHING)
    assert targets(table, "t/1") == {"c": 1}
    assert targets(table, "t/0") == {"c": 1}


def test_another_qos_in_one_partition_is_that_of_its_topics(table: CutTable) -> None:
    for partition in range(3):
        put(table, partition, ("#", 2, 0))
    put(table, 1, ("#", 1, 0))
    assert [targets(table, f"t/{p}")["c"] for p in range(3)] == [2, 1, 2]


def test_routes_are_found_anew_once_a_client_has_a_cut_in_their_partition(
    table: CutTable,
) -> None:
    put(table, 0, EVERYTHING)
    # Whoever asks this has no cut of the client, and passes it over.
    assert targets(table, "t/1") == {"c": 1}
    assert table.clients["c"].at(1) == -1
    put(table, 1)
    assert targets(table, "t/1") == {}


def test_a_partition_that_is_given_up_is_forgotten(table: CutTable) -> None:
    put(table, 0, EVERYTHING)
    put(table, 1, ONE)
    table.give_up(0)
    assert targets(table, "t/1") == {"c": 2}
    assert len(table.router) == 1
    table.give_up(1)
    assert not table.clients
    assert not len(table.router)
    assert table.varied == 0


def test_a_cut_knows_where_it_stands(table: CutTable) -> None:
    put(table, 2, EVERYTHING, at=11)
    client = table.clients["c"]
    assert (client.at(2), client.epoch(2), client.incarnation(2)) == (11, 9, 7)
    assert client.partitions == [2]
    assert client.subscriptions(2) == (EVERYTHING,)
    assert client.subscriptions(0) == ()


def test_a_marker_sets_then_adds_then_removes() -> None:
    before = (EVERYTHING,)
    assert changed(before, None, [ONE], []) == (EVERYTHING, ONE)
    assert changed(before, None, [("#", 2, 0)], []) == (("#", 2, 0),)
    assert changed(before, (ONE,), [], []) == (ONE,)
    assert changed(before, None, [ONE], ["#", "not there"]) == (ONE,)


def test_what_a_varied_client_has_is_asked_again_after_a_change(table: CutTable) -> None:
    put(table, 0, EVERYTHING)
    put(table, 1, ONE)
    assert [targets(table, f"t/{p}") for p in range(3)] == [{"c": 1}, {"c": 2}, {}]
    put(table, 1, EVERYTHING, ("t/+", 2, 0))
    put(table, 0)
    assert [targets(table, f"t/{p}") for p in range(3)] == [{}, {"c": 2}, {}]


def test_what_any_number_of_sessions_may_have_is_matched() -> None:
    prng = random.Random(1)
    table = CutTable(1, lambda _: 0, topic_levels_max=250, route_cache_max=100)
    for number in range(260):
        filters = ["/".join(prng.choice("+a") for _ in range(200)) for _ in range(20)]
        subscriptions = tuple((each, 1, 0) for each in filters)
        table.put(0, f"c{number}", Cut(9, 5, 7, subscriptions, 0))
    assert len(table.targets("/".join("a" * 200).encode())) == 260


def test_whatever_changes_where_each_partition_has_its_own_list(table: CutTable) -> None:
    prng = random.Random(2)
    filters = ["#", "+/#", "t/+", "t/0", "t/1", "t/2", "u/#"]
    lists: dict[tuple[str, int], tuple[Subscription, ...]] = {}
    for _ in range(3_000):
        client_id, partition = prng.choice("ab"), prng.randrange(3)
        chosen = prng.sample(filters, prng.randrange(3))
        subscriptions = tuple((each, prng.randrange(3), 0) for each in chosen)
        if prng.random() < 0.1:
            lists.pop((client_id, partition), None)
            if client_id in table.clients:
                table.put(partition, client_id, None)
        else:
            lists[client_id, partition] = subscriptions
            table.put(partition, client_id, Cut(9, 5, 7, subscriptions, 0))
        for number in range(3):
            topic = f"t/{number}"
            expected = {
                who: max(qos for name, qos, _ in there if matches(name, topic))
                for (who, at), there in lists.items()
                if at == number and any(matches(name, topic) for name, _, _ in there)
            }
            found = {
                client.client_id: qos
                for client, qos in table.targets(topic.encode())
                if client.at(number) >= 0
            }
            assert found == expected
        differ = [{there for (who, _), there in lists.items() if who == c} for c in "ab"]
        assert table.varied == sum(len(each) > 1 for each in differ)


class Hashed(str):
    """A filter that counts how often it is looked up."""

    __slots__ = ()
    hashes = 0

    def __hash__(self) -> int:
        Hashed.hashes += 1
        return super().__hash__()


def test_one_filter_more_costs_each_partition_the_same_however_many_there_are() -> None:
    costs = {}
    for partitions in (4, 16):
        table = CutTable(partitions, lambda _: 0, topic_levels_max=10, route_cache_max=100)
        before = tuple((Hashed(f"t/{number}"), 1, 0) for number in range(300))
        for partition in range(partitions):
            table.put(partition, "c", Cut(9, 5, 7, before, 0))
        Hashed.hashes = 0
        for partition in range(partitions):
            after = changed(before, None, [(Hashed("more"), 1, 0)], [])
            table.put(partition, "c", Cut(9, 6, 7, after, 0))
        assert not table.varied
        costs[partitions] = Hashed.hashes / partitions
    assert costs[16] <= costs[4] < 10 * 300


@pure_only
def test_what_a_change_does_not_concern_costs_a_varied_client_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked_at: list[int] = []

    def counted(topic: str, *filters: Collection[str]) -> list[str]:
        looked_at.append(sum(map(len, filters)))
        return varying.matching(topic, *filters)

    monkeypatch.setattr(cuts, "matching", counted)
    table = CutTable(2, lambda topic: int(topic[-1]), topic_levels_max=50, route_cache_max=100)
    before = tuple((f"+/{number}/#", 1, 0) for number in range(5_000))
    for partition in range(2):
        table.put(partition, "c", Cut(9, 5, 7, before, 0))
    table.put(0, "c", Cut(9, 6, 7, (*before, ("more/#", 2, 0)), 0))
    assert table.varied
    deep = "x/7" + "/y" * 20
    assert targets(table, f"{deep}/0") == targets(table, f"{deep}/1") == {"c": 1}
    assert set(looked_at) == {1}
    assert targets(table, "more/7/0") == {"c": 2}
    assert targets(table, "more/7/1") == {"c": 1}
