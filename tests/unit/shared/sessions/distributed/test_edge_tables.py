"""What an edge keeps of all kept clients: fences (R3), and open inbound ids (E8)."""

import random

from monstermq_shared.bus.fences import Fences
from monstermq_shared.sessions.distributed.fence_table import FenceTable
from monstermq_shared.sessions.distributed.inbound_ids import InboundIds
from monstermq_shared.stores.queue_changes import OpenId

LATENESS_MS = 10_000


def test_fences_of_all_partitions_are_those_of_each() -> None:
    chance = random.Random(7)
    table = FenceTable(3, LATENESS_MS)
    each = [Fences(LATENESS_MS) for _ in range(3)]
    for _ in range(3_000):
        partition, client_id = chance.randrange(3), f"c{chance.randrange(20)}"
        epoch = chance.randrange(50)
        counts = each[partition].mark(client_id, epoch, 1_000_000)
        assert table.mark(partition, client_id, epoch, 1_000_000) == counts
        assert table.admits(partition, client_id, 25) == each[partition].admits(client_id, 25)


def test_a_fence_is_forgotten_after_twice_the_lateness_of_its_own_partition() -> None:
    table = FenceTable(2, LATENESS_MS)
    table.load(0, {"old": (9, 100_000), "new": (9, 125_000)})
    table.load(1, {"old": (9, 100_000)})
    for _ in range(2):
        table.sweep(10)
        assert (table.admits(0, "old", 1), table.admits(0, "new", 1)) == (True, False)
        assert not table.admits(1, "old", 1)
    table.mark(1, "new", 9, 125_000)
    table.sweep(10)
    assert table.admits(1, "old", 1)
    assert len(table) == 1
    table.mark(0, "other", 3, 126_000)
    assert (table.admits(0, "other", 2), table.admits(1, "other", 2)) == (False, True)


def test_a_release_closes_the_opening_it_names_and_no_other() -> None:
    ids = InboundIds()
    ids.load(0, {("c", 7): OpenId(since=5, epoch=1)})
    ids.open("c", 7, 1, 3, 1)
    ids.release("c", 7, 0, 4)
    ids.release("c", 7, 1, 5)
    ids.release("d", 7, 0, 5)
    assert [*ids.openings("c", 7)] == [(0, 5, 1), (1, 3, 1)]
    ids.release("c", 7, 0, 5)
    assert [*ids.openings("c", 7)] == [(1, 3, 1)]
    ids.release("c", 7, 1, 3)
    assert len(ids) == 0


def test_a_new_incarnation_closes_older_ids_in_its_partition() -> None:
    ids = InboundIds()
    for packet_id, partition, epoch in ((1, 0, 3), (2, 0, 9), (1, 1, 3)):
        ids.open("c", packet_id, partition, 20 + packet_id, epoch)
    assert (ids.count_of("c"), ids.ids_of("c")) == (3, {1, 2})
    assert sorted(ids.positions_of("c")) == [(0, 21), (0, 22), (1, 21)]
    ids.begun("c", 0, 9)
    assert [*ids.openings("c", 1), *ids.openings("c", 2)] == [(1, 21, 3), (0, 22, 9)]
    ids.begun("c", 1, 9)
    assert sorted(ids.positions_of("c")) == [(0, 22)]
    ids.begun("c", 0, 9)
    ids.begun("c", 0, 10)
    assert not ids.ids_of("c")
    assert len(ids) == 0


def test_a_marker_looks_at_the_ids_of_its_partition_alone_and_only_if_one_is_older() -> None:
    """Each client sends one to every partition, and may have left all its ids open."""
    ids = InboundIds()
    for packet_id in range(1, 101):
        ids.open("c", packet_id, packet_id % 2, packet_id, 3)
    ids.open("c", 200, 2, 1, 3)
    assert [ids.begun("c", partition, 3) for partition in range(4)] == [0, 0, 0, 0]
    assert [ids.begun("c", partition, 9) for partition in range(4)] == [50, 50, 1, 0]
    assert ids.begun("c", 0, 9) == 0
    assert len(ids) == 0


def test_what_is_opened_late_by_an_older_connection_is_closed_too() -> None:
    ids = InboundIds()
    ids.open("c", 1, 0, 20, 9)
    ids.begun("c", 0, 9)
    ids.open("c", 2, 0, 21, 3)
    assert ids.begun("c", 0, 9) == 2
    assert ids.ids_of("c") == {1}


def test_an_opening_takes_the_place_of_one_in_its_partition() -> None:
    ids = InboundIds()
    ids.open("c", 1, 0, 20, 3)
    ids.open("c", 1, 0, 25, 4)
    assert [*ids.openings("c", 1)] == [(0, 25, 4)]
    ids.release("c", 1, 0, 20)
    assert ids.count_of("c") == 1
    other = InboundIds()
    other.begin(ids)
    assert (len(ids), other.ids_of("c")) == (0, {1})
