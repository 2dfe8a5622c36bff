"""Kept sessions as the worker of the sessions log has them: S1, S4 and S6."""

from dataclasses import replace

import pytest
from tests.support.claims import (
    CLEAN,
    EXPIRY_S,
    KEPT,
    LEASE_MS,
    PARTITIONS,
    WILL,
    ClaimsFold,
    end_of,
    sweep_of,
)

from monstermq_shared.bus.facts import EXPIRY_S_MAX, Claim, Detach, Fact, Gap, Lease, Marker, Subs
from monstermq_shared.sessions.distributed import ending, session_asks
from monstermq_shared.sessions.distributed.expiring import WIDTH_MS
from monstermq_shared.sessions.distributed.session_asks import Ask
from monstermq_shared.sessions.distributed.sweeping import AGAIN_MS, LOOK_MS

OVER_MS = EXPIRY_S * 1_000 + WIDTH_MS
"""After so long a session is over for certain."""


@pytest.fixture
def fold() -> ClaimsFold:
    return ClaimsFold()


# -- S1 ------------------------------------------------------------------------------------------


async def test_a_detach_leaves_what_the_next_edge_has_to_know(fold: ClaimsFold) -> None:
    epoch = fold.kept("a", "x/#", "y")
    fold.open(epoch, 7, (2, 5))
    fold.open(epoch, 8, (1, 6))
    fold.open(epoch, 9, None)
    await fold.commit()
    fold.take(Subs(client_id="a", epoch=epoch, remove=("y",)))
    fold.take(
        Detach(client_id="a", epoch=epoch, will=False, in_flight=(7, 9), sent=((0, 3), (2, 1)))
    )
    await fold.commit()
    stored = (await fold.rows())["a"]
    assert not stored.row.connected
    assert stored.subscriptions == {"x/#": 1}
    assert stored.opened == {7: (2, 5), 9: (None, None)}
    assert stored.row.sent == ((0, 3), (2, 1))


async def test_another_worker_goes_on_with_all_of_it(fold: ClaimsFold) -> None:
    epoch = fold.kept("a", "x/#")
    fold.open(epoch, 7, (2, 5))
    fold.take(Detach(client_id="a", epoch=epoch, will=False, sent=((0, 3),)))
    await fold.commit()
    before = await fold.rows()
    await fold.restart()
    fold.gap(0)
    (mark,) = await fold.commit()
    assert isinstance(mark.fact, Marker)
    assert mark.fact.whole == (("x/#", 1, 0),)
    again = fold.kept()
    await fold.commit()
    stored = (await fold.rows())["a"]
    assert (stored.subscriptions, stored.opened) == ({"x/#": 1}, {7: (2, 5)})
    assert stored.row.sent == before["a"].row.sent == ((0, 3),)
    assert (stored.row.incarnation, stored.row.epoch) == (epoch, again)


# -- S4: sessions that are over ------------------------------------------------------------------


def test_a_session_that_nobody_comes_back_to_is_ended(fold: ClaimsFold) -> None:
    epoch = fold.away(protocol=5)
    fold.time_ms += OVER_MS
    assert fold.at_end() == []
    # The time of the log is what counts, and it has passed with this.
    fold.take(Lease(run=KEPT.run, for_ms=LEASE_MS))
    assert fold.at_end() == [end_of(epoch, protocol=5)]
    assert fold.claims.counts.expired == 1


def test_it_is_not_ended_a_moment_too_early(fold: ClaimsFold) -> None:
    fold.away()
    fold.time_ms += EXPIRY_S * 1_000 - 1
    fold.take(Lease(run=KEPT.run, for_ms=LEASE_MS))
    assert fold.at_end() == []


def test_a_clock_that_is_wrong_ends_nothing(fold: ClaimsFold) -> None:
    """Neither this process's, nor an edge's."""
    epoch = fold.away()
    assert fold.at_end(wall_ms=fold.time_ms + 10 * OVER_MS) == []
    now_ms = fold.time_ms
    fold.time_ms += OVER_MS
    fold.take(Lease(run=KEPT.run, for_ms=LEASE_MS))
    assert fold.at_end(wall_ms=now_ms) == []
    assert fold.at_end() == [end_of(epoch)]


@pytest.mark.parametrize("ever", [True, False])
async def test_time_away_goes_on_over_a_restart(fold: ClaimsFold, ever: bool) -> None:
    epoch = fold.away("a", expiry_s=EXPIRY_S if ever else EXPIRY_S_MAX)
    await fold.commit()
    await fold.restart()
    fold.time_ms += OVER_MS
    fold.take(Lease(run=KEPT.run, for_ms=LEASE_MS))
    assert fold.at_end() == ([end_of(epoch)] if ever else [])


@pytest.mark.parametrize("how", ["comes back", "is connected"])
def test_who_has_a_connection_is_not_ended(fold: ClaimsFold, how: str) -> None:
    if how == "comes back":
        fold.away()
    fold.kept()
    fold.time_ms += 2 * OVER_MS
    fold.take(Lease(run=KEPT.run, for_ms=LEASE_MS))
    assert fold.at_end() == []


def test_an_end_that_is_not_read_back_is_asked_for_again(fold: ClaimsFold) -> None:
    epoch = fold.away()
    fold.time_ms += OVER_MS
    fold.take(Lease(run=KEPT.run, for_ms=LEASE_MS))
    assert fold.at_end() == [end_of(epoch)]
    assert fold.at_end(ending.AGAIN_MS - 1) == []
    assert fold.at_end(1) == [end_of(epoch)]
    fold.take(end_of(epoch))
    assert fold.at_end(ending.AGAIN_MS) == []


def test_one_who_comes_back_before_the_end_keeps_the_session(fold: ClaimsFold) -> None:
    """R2: the end names the claim that it is about."""
    epoch = fold.away("a", "x/#")
    fold.time_ms += OVER_MS
    fold.take(Lease(run=KEPT.run, for_ms=LEASE_MS))
    assert fold.at_end() == [end_of(epoch)]
    fold.kept()
    fold.take(end_of(epoch))
    assert fold.claims.counts.invalid == 1
    batch, owed = fold.flush()
    row = batch.changes["a"].session
    assert row is not None
    assert (row.connected, row.incarnation) == (True, epoch)
    assert owed == []
    assert fold.at_end() == []


def test_only_so_many_ends_are_under_way(fold: ClaimsFold, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "ASKED_MAX", 3)
    epochs = {name: fold.away(name) for name in "abcde"}
    fold.time_ms += OVER_MS
    fold.take(Lease(run=KEPT.run, for_ms=LEASE_MS))
    first = fold.at_end()
    assert len(first) == 3
    fold.take(*first)
    assert {at.client_id for at in [*first, *fold.at_end()]} == set(epochs)  # type: ignore[union-attr]  # claims


# -- S4: what ended sessions leave ---------------------------------------------------------------


@pytest.mark.parametrize("how", ["an end", "a clean connection"])
def test_the_end_of_a_kept_session_is_marked_in_every_partition(fold: ClaimsFold, how: str) -> None:
    """Before it is committed."""
    epoch = fold.away("a", "x/#")
    ended = fold.take(end_of(epoch) if how == "an end" else CLEAN)
    _, owed = fold.flush()
    assert owed == [Ask(p, sweep_of(ended)) for p in range(PARTITIONS)]
    assert fold.claims.counts.swept == PARTITIONS


@pytest.mark.parametrize("claim", [KEPT, replace(KEPT, clean=True)])
def test_a_newer_kept_session_needs_no_such_markers(fold: ClaimsFold, claim: Fact) -> None:
    """Its own ones do the same (E3)."""
    fold.away()
    fold.take(claim)
    assert fold.flush()[1] == []
    assert fold.claims.to_sweep(10) == {}


def test_a_clean_session_leaves_nothing(fold: ClaimsFold) -> None:
    fold.take(Detach(client_id="a", epoch=fold.take(CLEAN), will=False))
    fold.take(CLEAN)
    assert fold.flush()[1] == []
    fold.at_end(LOOK_MS)
    assert fold.claims.to_sweep(10) == {}


@pytest.mark.parametrize("how", ["detach", "clean connection", "restart"])
async def test_a_connection_of_expiry_0_ends_the_kept_session_it_went_on_with(
    fold: ClaimsFold, how: str
) -> None:
    """S1, S4: it began no incarnation (R2), so cuts of every partition still subscribe."""
    epoch = fold.kept("a", "x/#")
    fold.open(epoch, 7, (2, 5))
    last = fold.take(replace(CLEAN, clean=False))
    assert await fold.commit() == []
    if how == "restart":
        await fold.restart()
    if how == "clean connection":
        last = fold.take(CLEAN)
    else:
        fold.take(Detach(client_id="a", epoch=last, will=False, in_flight=(7,)))
    assert await fold.commit() == [Ask(p, sweep_of(last)) for p in range(PARTITIONS)]
    stored = (await fold.rows())["a"]
    assert (stored.subscriptions, stored.opened) == ({}, {})
    await fold.restart()
    assert fold.claims.to_sweep(10) == {"a": last}
    assert fold.claims.swept({"a": last}, {}) == []
    await fold.commit()
    assert [*await fold.rows()] == (["a"] if how == "clean connection" else [])


@pytest.mark.parametrize("claim", [KEPT, CLEAN, replace(CLEAN, clean=False)])
def test_it_is_ended_once_whoever_comes_next(fold: ClaimsFold, claim: Claim) -> None:
    """A kept session has markers of its own (E3)."""
    fold.away("a", "x/#")
    last = fold.take(replace(CLEAN, clean=False))
    fold.take(Detach(client_id="a", epoch=last, will=False))
    assert len(fold.flush()[1]) == PARTITIONS
    epoch = fold.take(claim)
    batch, owed = fold.flush()
    assert owed == []
    row = batch.changes["a"].session
    assert row is not None
    assert row.incarnation == epoch
    fold.at_end(LOOK_MS)
    assert fold.claims.to_sweep(10) == ({} if claim is KEPT else {"a": last})


async def test_the_row_of_an_ended_session_goes_when_no_cut_is_older(fold: ClaimsFold) -> None:
    """S1, S4."""
    ended = fold.take(end_of(fold.away("a", "x/#")))
    await fold.commit()
    stored = (await fold.rows())["a"]
    assert (stored.row.epoch, stored.row.connected, stored.row.clean) == (ended, False, True)
    assert stored.subscriptions == {}
    assert fold.claims.to_sweep(10) == {}
    fold.at_end(LOOK_MS)
    assert fold.claims.to_sweep(10) == {"a": ended}
    assert fold.claims.swept({"a": ended}, {"a": [1]}) == []
    fold.at_end(LOOK_MS)
    assert fold.claims.swept(fold.claims.to_sweep(10), {}) == []
    await fold.commit()
    assert await fold.rows() == {}
    assert len(fold.claims) == 0


def test_markers_are_repeated_each_minute_where_a_cut_stays_older(fold: ClaimsFold) -> None:
    ended = fold.take(end_of(fold.away()))
    fold.flush()
    repeated = []
    for _ in range(3 * AGAIN_MS // LOOK_MS):
        fold.at_end(LOOK_MS)
        repeated += fold.claims.swept(fold.claims.to_sweep(10), {"a": [0, 2]})
    assert repeated == 3 * [Ask(0, sweep_of(ended)), Ask(2, sweep_of(ended))]


async def test_a_clean_connection_stays_when_nothing_is_left(fold: ClaimsFold) -> None:
    fold.away("a", "x/#")
    epoch = fold.take(CLEAN)
    fold.at_end(LOOK_MS)
    fold.claims.swept(fold.claims.to_sweep(10), {})
    await fold.commit()
    assert (await fold.rows())["a"].row.connected
    fold.take(Detach(client_id="a", epoch=epoch, will=False))
    await fold.commit()
    assert await fold.rows() == {}


async def test_a_clean_connection_that_ends_before_that_leaves_its_row(fold: ClaimsFold) -> None:
    fold.away("a", "x/#")
    epoch = fold.take(CLEAN)
    fold.take(Detach(client_id="a", epoch=epoch, will=False))
    await fold.commit()
    assert [*await fold.rows()] == ["a"]
    await fold.restart()
    assert fold.claims.to_sweep(10) == {"a": epoch}
    fold.claims.swept({"a": epoch}, {})
    await fold.commit()
    assert await fold.rows() == {}


def test_a_clean_connection_is_looked_after_under_the_epoch_that_ended_the_session(
    fold: ClaimsFold,
) -> None:
    """Cuts show that one: a newer clean claim marks nothing."""
    fold.away()
    ended = fold.take(CLEAN)
    fold.take(CLEAN)
    fold.at_end(LOOK_MS)
    assert fold.claims.to_sweep(10) == {"a": ended}


def test_what_was_found_of_a_client_that_has_come_back_counts_for_nothing(
    fold: ClaimsFold,
) -> None:
    ended = fold.take(end_of(fold.away()))
    fold.at_end(LOOK_MS)
    asked = fold.claims.to_sweep(10)
    assert asked == {"a": ended}
    epoch = fold.kept()
    assert fold.claims.swept(asked, {}) == []
    row = fold.flush()[0].changes["a"].session
    assert row is not None
    assert row.epoch == epoch


def test_a_newer_kept_session_is_not_swept(fold: ClaimsFold) -> None:
    fold.away()
    fold.take(CLEAN)
    fold.kept()
    fold.at_end(LOOK_MS)
    assert fold.claims.to_sweep(10) == {}


def test_what_was_found_of_an_earlier_end_counts_for_nothing(fold: ClaimsFold) -> None:
    fold.take(end_of(fold.away()))
    fold.at_end(LOOK_MS)
    asked = fold.claims.to_sweep(10)
    ended = fold.take(end_of(fold.away()))
    assert fold.claims.swept(asked, {}) == []
    fold.at_end(LOOK_MS)
    assert fold.claims.to_sweep(10) == {"a": ended}


def test_only_so_many_are_looked_at_in_turn(fold: ClaimsFold) -> None:
    ended = {name: fold.take(end_of(fold.away(name), name)) for name in "abc"}
    fold.at_end(LOOK_MS)
    first = fold.claims.to_sweep(2)
    assert first == {name: ended[name] for name in "ab"}
    fold.claims.swept(first, {name: [0] for name in "ab"})
    assert fold.claims.to_sweep(2) == {"c": ended["c"]}


# -- S6 ------------------------------------------------------------------------------------------


def test_after_a_gap_who_is_away_is_marked_there_again(fold: ClaimsFold) -> None:
    epoch = fold.kept("a", "x/#", "y")
    again = fold.away()
    fold.gap(partition=2)
    _, owed = fold.flush()
    marker = Marker(
        client_id="a", epoch=again, incarnation=epoch, whole=(("x/#", 1, 0), ("y", 1, 0))
    )
    assert owed == [Ask(2, marker)]
    assert fold.claims.counts.marked == 1


def test_after_a_gap_who_is_connected_is_detached(fold: ClaimsFold) -> None:
    """Its reconnect marks again."""
    epoch = fold.kept(will=WILL)
    fold.gap()
    _, owed = fold.flush()
    detach = Detach(client_id="a", epoch=epoch, will=True, reason="gap")
    assert owed == [Ask(None, detach)]
    fold.take(detach)
    assert [due.will for due in fold.flush()[0].wills] == [WILL]


def test_a_gap_does_not_concern_clean_connections_and_newer_claims(fold: ClaimsFold) -> None:
    """Clean ones are owed nothing by rows, and who comes after the gap has marked behind it."""
    fold.take(replace(CLEAN, client_id="clean"))
    fold.away()
    fold.gap()
    fold.kept()
    assert fold.flush()[1] == []


def test_what_has_come_since_the_gap_counts(fold: ClaimsFold) -> None:
    epoch = fold.kept("a", "x/#")
    fold.gap()
    batch = fold.claims.flush()
    fold.take(Detach(client_id="a", epoch=epoch, will=False))
    ((ask,),) = fold.claims.debts(batch)
    assert isinstance(ask.fact, Marker)


def test_a_gap_with_many_sessions_is_dealt_with_in_pieces(
    fold: ClaimsFold, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Filters count, so that no piece is large."""
    monkeypatch.setattr(session_asks, "PIECE_MAX", 6)
    for number in range(12):
        fold.away(f"{number}")
    fold.away("many", *(f"{number}" for number in range(100)))
    fold.away("last")
    fold.gap()
    pieces = [len(piece) for piece in fold.claims.debts(fold.claims.flush())]
    assert pieces == [6, 6, 1, 1]


def test_a_gap_of_a_partition_that_there_is_not_counts_for_nothing(fold: ClaimsFold) -> None:
    fold.away()
    fold.take(Gap(partition=PARTITIONS, to=1))
    assert fold.flush()[1] == []
    assert fold.claims.counts.invalid == 1


def test_a_gap_that_is_read_again_asks_for_the_same(fold: ClaimsFold) -> None:
    """The commit came to nothing, or two workers act at once."""
    fold.away("a", "x/#")
    fold.gap()
    _, owed = fold.flush()
    other = ClaimsFold()
    for facts in fold.log:
        other.take(*facts)
    assert other.flush()[1] == owed != []
