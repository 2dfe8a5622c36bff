"""The fold of the sessions log: claims, detaches, leases, and the wills they make due."""

from dataclasses import replace
from itertools import count

import pytest

from monstermq_shared.bus.control import kind_of
from monstermq_shared.bus.fact_reading import check_facts
from monstermq_shared.bus.facts import (
    Claim,
    Detach,
    Fact,
    Lease,
    Subs,
)
from monstermq_shared.messages import Will
from monstermq_shared.positions import Partition
from monstermq_shared.sessions.distributed.claims import Claims
from monstermq_shared.sessions.distributed.session_asks import WillDue
from monstermq_shared.sessions.distributed.silent_edges import LEASE_MS_MAX
from monstermq_shared.stores.changes import Commit, SessionRow, StoredSession
from monstermq_shared.stores.memory import MemoryDatabase
from monstermq_shared.testing.builders import NOON_MS, commit_once

LEASE_MS = 10_000
PARTITIONS = 3
EDGE, OTHER_EDGE = b"edge-one", b"edge-two"
WILL = Will(topic="gone", payload=b"away", qos=1, retain=True)
PARTITION = Partition("kafka:a:b-sessions", 3)


def claim(client_id: str = "a", *, run: bytes = EDGE, will: Will | None = WILL) -> Claim:
    return Claim(client_id=client_id, clean=True, expiry_s=0, will=will, run=run, protocol=4)


def kept(client_id: str = "a", *, clean: bool = False) -> Claim:
    return replace(claim(client_id), clean=clean, expiry_s=3_600)


def detach(epoch: int, client_id: str = "a", *, will: bool = True) -> Detach:
    return Detach(client_id=client_id, epoch=epoch, will=will)


def lease(run: bytes = EDGE, for_ms: int = LEASE_MS) -> Lease:
    return Lease(run=run, for_ms=for_ms)


class Fold:
    """Claims, and the rows that their changes make."""

    def __init__(self) -> None:
        self.database = MemoryDatabase()
        self.claims = Claims(partitions=PARTITIONS, lease_ms=LEASE_MS)
        self.offsets = count()

    def take(self, *facts: Fact) -> int:
        """Take the facts of one record; return its offset."""
        offset = next(self.offsets)
        check_facts(kind_of(facts[0]), facts)
        self.claims.take(facts, offset, NOON_MS + offset)
        return offset

    def at_end(self, elapsed_ms: int) -> list[Detach]:
        """Return the detaches that are to be appended to the sessions log."""
        self.claims.at_end(elapsed_ms, NOON_MS)
        found = []
        while asks := self.claims.asks():
            for partition, fact in asks:
                assert partition is None
                assert isinstance(fact, Detach)
                found.append(fact)
        return found

    async def commit(self) -> list[WillDue]:
        """Commit what has changed; return the wills that became due."""
        batch = self.claims.flush()
        commit = Commit(upto=next(self.offsets), sessions=batch.changes)
        await commit_once(self.database, commit, "sessions", partition=PARTITION)
        return [*batch.wills]

    async def stored(self) -> dict[str, StoredSession]:
        """Return the sessions as the database has them."""
        async with self.database.sessions.load(PARTITION) as snapshot:
            return {at.row.client_id: at async for page in snapshot.pages() for at in page}

    async def restart(self) -> None:
        """Go on with another worker, from the rows."""
        self.claims = Claims(partitions=PARTITIONS, lease_ms=LEASE_MS)
        self.claims.load((await self.stored()).values())


@pytest.fixture
def fold() -> Fold:
    return Fold()


async def test_a_claim_makes_a_row(fold: Fold) -> None:
    epoch = fold.take(claim())
    assert await fold.commit() == []
    stored = await fold.stored()
    assert stored["a"].row == SessionRow(
        client_id="a",
        incarnation=epoch,
        clean=True,
        connected=True,
        updated_ms=NOON_MS,
        information={"ProtocolVersion": 4},
        will=WILL,
        epoch=epoch,
        run=EDGE.hex(),
        expiry_s=0,
        sent=(),
    )


@pytest.mark.parametrize("is_due", [True, False])
async def test_a_clean_session_is_gone_with_its_detach(fold: Fold, is_due: bool) -> None:
    """S1."""
    epoch = fold.take(claim())
    await fold.commit()
    ended = fold.take(claim("b", will=None), detach(epoch, will=is_due))
    wills = await fold.commit()
    assert wills == ([WillDue("a", WILL, ended * 65_536 + 1)] if is_due else [])
    assert [*await fold.stored()] == ["b"]


async def test_one_that_comes_and_goes_within_a_commit_leaves_nothing(fold: Fold) -> None:
    fold.take(detach(fold.take(claim(will=None))))
    assert await fold.commit() == []
    assert await fold.stored() == {}
    assert fold.claims.attached() == {}


async def test_a_takeover_makes_the_will_of_the_older_connection_due(fold: Fold) -> None:
    """S2."""
    older = fold.take(claim())
    newer = fold.take(claim(run=OTHER_EDGE, will=None))
    assert await fold.commit() == [WillDue("a", WILL, newer * 65_536)]
    assert fold.claims.attached() == {OTHER_EDGE.hex(): 1}
    fold.take(detach(older))
    assert await fold.commit() == []
    assert (await fold.stored())["a"].row.epoch == newer
    assert fold.claims.counts.invalid == 1


async def test_a_second_detach_of_an_epoch_counts_for_nothing(fold: Fold) -> None:
    """R2."""
    epoch = fold.take(claim())
    fold.take(detach(epoch, will=False), detach(epoch, will=True))
    assert await fold.commit() == []
    fold.take(detach(epoch))
    assert await fold.commit() == []
    assert fold.claims.counts.invalid == 2


async def test_wills_are_due_in_the_order_of_their_facts(fold: Fold) -> None:
    epochs = {name: fold.take(claim(name)) for name in "abc"}
    first = fold.take(*(detach(epochs[name], name) for name in "cab"))
    wills = await fold.commit()
    assert [will.client_id for will in wills] == ["c", "a", "b"]
    assert [will.sequence for will in wills] == [first * 65_536 + n for n in range(3)]


async def test_what_is_folded_again_is_due_again_with_the_same_sequence(fold: Fold) -> None:
    """The commit came to nothing: another worker reads the same facts."""
    epoch = fold.take(claim())
    await fold.commit()
    offset = fold.take(detach(epoch))
    wills = fold.claims.flush().wills
    await fold.restart()
    fold.claims.take([detach(epoch)], offset, NOON_MS)
    assert fold.claims.flush().wills == wills != []


# -- kept sessions -------------------------------------------------------------------------------


async def test_a_kept_session_stays_and_goes_on(fold: Fold) -> None:
    epoch = fold.take(kept())
    fold.take(Subs(client_id="a", epoch=epoch, add=(("x/#", 1, 0), ("y", 2, 0))))
    fold.take(Subs(client_id="a", epoch=epoch, remove=("y",)))
    fold.take(detach(epoch, will=False))
    assert await fold.commit() == []
    stored = (await fold.stored())["a"]
    assert (stored.row.connected, stored.row.clean, stored.row.will) == (False, False, None)
    assert stored.subscriptions == {"x/#": 1}
    await fold.restart()
    again = fold.take(kept())
    await fold.commit()
    stored = (await fold.stored())["a"]
    assert (stored.row.incarnation, stored.row.epoch) == (epoch, again)
    assert stored.subscriptions == {"x/#": 1}


@pytest.mark.parametrize("ending", [kept(clean=True), claim()])
async def test_a_clean_claim_ends_a_kept_session(fold: Fold, ending: Claim) -> None:
    epoch = fold.take(kept())
    fold.take(Subs(client_id="a", epoch=epoch, add=(("x/#", 1, 0),)))
    await fold.commit()
    newer = fold.take(ending)
    await fold.commit()
    stored = (await fold.stored())["a"]
    assert (stored.row.incarnation, stored.subscriptions) == (newer, {})


async def test_a_session_is_ended_by_a_claim_that_names_its_newest_one(fold: Fold) -> None:
    """S4 writes such a claim; R2 says when it counts."""
    epoch = fold.take(kept())
    fold.take(detach(epoch))
    newer = fold.take(kept())
    end = replace(claim(), only_if=epoch, will=None)
    fold.take(end)
    await fold.commit()
    assert (await fold.stored())["a"].row.epoch == newer
    fold.take(replace(end, only_if=newer))
    (will,) = await fold.commit()
    assert will.client_id == "a"
    assert not (await fold.stored())["a"].row.connected
    fold.take(replace(end, only_if=newer))
    assert await fold.commit() == []
    assert fold.claims.counts.invalid == 2


async def test_subscriptions_of_an_old_epoch_do_not_count(fold: Fold) -> None:
    epoch = fold.take(kept())
    fold.take(kept())
    fold.take(Subs(client_id="a", epoch=epoch, add=(("x/#", 1, 0),)))
    await fold.commit()
    assert (await fold.stored())["a"].subscriptions == {}


# -- leases (S3) ---------------------------------------------------------------------------------


async def test_clients_of_a_silent_edge_are_detached_after_a_whole_lease(fold: Fold) -> None:
    epochs = [fold.take(claim("a")), fold.take(claim("b"))]
    fold.take(claim("c", run=OTHER_EDGE))
    assert fold.at_end(LEASE_MS - 1) == []
    fold.take(lease(OTHER_EDGE))
    detaches = sorted(fold.at_end(1), key=lambda at: at.client_id)
    assert [(at.client_id, at.epoch, at.will) for at in detaches] == [
        ("a", epochs[0], True),
        ("b", epochs[1], True),
    ]
    assert fold.at_end(LEASE_MS - 2) == []
    offset = fold.take(*detaches)
    wills = await fold.commit()
    assert [will.sequence for will in wills] == [offset * 65_536, offset * 65_536 + 1]
    assert [*await fold.stored()] == ["c"]


async def test_detaches_that_are_not_read_back_are_asked_for_again(fold: Fold) -> None:
    fold.take(claim())
    first = fold.at_end(LEASE_MS)
    assert fold.at_end(LEASE_MS - 1) == []
    assert fold.at_end(1) == first != []


async def test_a_lease_counts_from_when_it_is_read(fold: Fold) -> None:
    fold.take(claim())
    for _ in range(5):
        assert fold.at_end(LEASE_MS - 1) == []
        fold.take(lease())
    fold.take(lease(for_ms=2 * LEASE_MS))
    assert fold.at_end(2 * LEASE_MS - 1) == []
    assert len(fold.at_end(1)) == 1


async def test_a_lease_for_ever_is_bounded(fold: Fold) -> None:
    fold.take(claim())
    fold.take(lease(for_ms=2**62))
    assert len(fold.at_end(LEASE_MS_MAX)) == 1


async def test_a_worker_that_starts_gives_every_edge_a_whole_lease(fold: Fold) -> None:
    epoch = fold.take(claim())
    await fold.commit()
    await fold.restart()
    assert fold.claims.attached() == {EDGE.hex(): 1}
    assert fold.at_end(LEASE_MS - 1) == []
    assert [at.epoch for at in fold.at_end(1)] == [epoch]


async def test_an_edge_that_speaks_up_keeps_whom_nobody_was_told_of(fold: Fold) -> None:
    for name in "abc":
        fold.take(claim(name))
    fold.claims.at_end(LEASE_MS, NOON_MS)
    (first,) = fold.claims.asks(1)
    assert isinstance(first.fact, Detach)
    fold.take(lease())
    assert fold.claims.asks() == []


async def test_a_client_that_has_gone_by_itself_is_not_detached(fold: Fold) -> None:
    epochs = [fold.take(kept(name)) for name in "ab"]
    fold.claims.at_end(LEASE_MS, NOON_MS)
    fold.take(detach(epochs[0], "a"))
    assert [ask.fact for ask in fold.claims.asks()] == [
        Detach(client_id="b", epoch=epochs[1], will=True, reason="lease")
    ]


async def test_an_edge_whose_clients_have_gone_is_forgotten(fold: Fold) -> None:
    fold.take(detach(fold.take(claim())))
    fold.take(lease())
    assert fold.at_end(10 * LEASE_MS) == []
    fold.take(claim())
    assert fold.at_end(LEASE_MS - 1) == []
