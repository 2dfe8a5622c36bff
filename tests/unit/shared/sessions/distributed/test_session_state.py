"""One session's facts: which count, and what they make of it (R2, S1, S2, E9)."""

from dataclasses import replace
from itertools import count
from sys import getsizeof

import pytest
from tests.support.attributes import attributes_of

from monstermq_shared.bus.facts import (
    Ack,
    Claim,
    Detach,
    Fact,
    Open,
    Subs,
)
from monstermq_shared.messages import Will
from monstermq_shared.sessions.distributed.session_state import SessionState, Taken
from monstermq_shared.stores.queues import KeptRow

EDGE = b"edge-one"
WILL = Will(topic="gone", payload=b"away", qos=1, retain=True)
KEPT = Claim(client_id="a", clean=False, expiry_s=3_600, will=None, run=EDGE, protocol=4)
CLEAN = replace(KEPT, clean=True, expiry_s=0)
VALID, INVALID = Taken(True, None), Taken(False, None)


class Session:
    """A session, and the log that its facts stand in."""

    def __init__(self) -> None:
        self.state = SessionState()
        self.offsets = count(10)
        self.taken = INVALID

    def take(self, fact: Fact) -> int:
        """Take the next fact; return its offset."""
        offset = next(self.offsets)
        self.taken = self.state.take(fact, offset, 1_000 + offset)
        return offset

    def subscribe(self, epoch: int, *names: str) -> None:
        self.take(Subs(client_id="a", epoch=epoch, add=tuple((name, 1, 0) for name in names)))

    def open(self, epoch: int, packet_id: int, offset: int | None = 5) -> None:
        partition = None if offset is None else 2
        self.take(
            Open(
                client_id="a", epoch=epoch, packet_id=packet_id, partition=partition, offset=offset
            )
        )

    def detach(self, epoch: int, **more: object) -> None:
        self.take(replace(Detach(client_id="a", epoch=epoch, will=False), **more))  # type: ignore[arg-type]  # of any member

    @property
    def filters(self) -> list[str]:
        return [name for name, _, _ in self.state.subscriptions]


@pytest.fixture
def session() -> Session:
    return Session()


def test_a_first_claim_begins_a_session(session: Session) -> None:
    epoch = session.take(KEPT)
    state = session.state
    assert session.taken == VALID
    assert (state.epoch, state.incarnation, state.attached) == (epoch, epoch, True)
    assert (state.expiry_s, state.run, state.protocol) == (3_600, EDGE, 4)
    assert (state.changed_ms, state.sent) == (1_000 + epoch, ())


def test_a_claim_goes_on_with_a_kept_session(session: Session) -> None:
    first = session.take(KEPT)
    session.subscribe(first, "x/#", "y")
    session.take(Subs(client_id="a", epoch=first, add=(("x/#", 2, 0),), remove=("y", "z")))
    session.open(first, 7)
    session.open(first, 8, None)
    second = session.take(KEPT)
    state = session.state
    assert (state.epoch, state.incarnation) == (second, first)
    assert state.subscriptions == (("x/#", 2, 0),)
    assert state.in_flight == {7: (2, 5), 8: (None, None)}


@pytest.mark.parametrize(
    ("before", "claim"), [(KEPT, CLEAN), (CLEAN, KEPT), (KEPT, replace(KEPT, clean=True))]
)
def test_a_new_incarnation_has_nothing_of_the_one_before(
    session: Session, before: Claim, claim: Claim
) -> None:
    """R2: a claim that is clean, or one over a clean one."""
    first = session.take(before)
    session.subscribe(first, "x/#")
    session.open(first, 7)
    session.detach(first, sent=((1, 2),))
    epoch = session.take(claim)
    assert session.state.incarnation == epoch
    assert (session.filters, session.state.in_flight, session.state.sent) == ([], {}, ())


@pytest.mark.parametrize("late_by", ["takeover", "detach"])
def test_facts_of_an_epoch_that_is_over_do_not_count(session: Session, late_by: str) -> None:
    """R2."""
    epoch = session.take(KEPT)
    if late_by == "takeover":
        session.take(KEPT)
    else:
        session.detach(epoch)
    session.subscribe(epoch, "x/#")
    assert session.taken == INVALID
    session.open(epoch, 7)
    assert session.taken == INVALID
    session.detach(epoch, will=True)
    assert session.taken == INVALID
    assert (session.filters, session.state.in_flight) == ([], {})


def test_facts_of_a_client_that_nobody_knows_do_not_count(session: Session) -> None:
    session.detach(3)
    assert session.taken == INVALID
    session.take(replace(CLEAN, only_if=3))
    assert session.taken == INVALID
    assert session.state.epoch == -1


def test_facts_of_other_logs_do_not_count(session: Session) -> None:
    session.take(KEPT)
    session.take(Ack(client_id="a", offsets=(1,)))
    assert session.taken == INVALID


def test_an_end_counts_only_over_the_claim_that_it_names(session: Session) -> None:
    """R2, S4: somebody came back meanwhile."""
    first = session.take(KEPT)
    session.detach(first)
    second = session.take(KEPT)
    session.take(replace(CLEAN, only_if=first))
    assert session.taken == INVALID
    assert session.state.attached
    session.detach(second)
    end = session.take(replace(CLEAN, only_if=second))
    assert session.taken == VALID
    state = session.state
    assert (state.epoch, state.incarnation, state.expiry_s) == (end, end, 0)
    assert not state.attached


def test_nothing_is_connected_by_an_end(session: Session) -> None:
    first = session.take(replace(KEPT, will=WILL))
    end = session.take(replace(CLEAN, only_if=first, will=WILL))
    assert session.taken == Taken(True, WILL)
    session.detach(end, will=True)
    assert session.taken == INVALID


def test_a_will_is_due_by_a_takeover_or_a_detach_that_says_so(session: Session) -> None:
    """S2."""
    session.take(replace(KEPT, will=WILL))
    epoch = session.take(replace(KEPT, will=WILL))
    assert session.taken == Taken(True, WILL)
    session.detach(epoch, will=True)
    assert session.taken == Taken(True, WILL)
    session.take(KEPT)
    assert session.taken == VALID


def test_a_will_that_was_not_due_is_gone(session: Session) -> None:
    session.detach(session.take(replace(KEPT, will=WILL)), will=False)
    assert session.taken == VALID
    session.take(KEPT)
    assert session.taken == VALID


@pytest.mark.parametrize(("says", "left"), [((8, 9), {8}), ((), set()), (None, {7, 8})])
def test_a_detach_keeps_the_ids_that_it_names(
    session: Session, says: tuple[int, ...] | None, left: set[int]
) -> None:
    """S1; None: the edge does not know."""
    epoch = session.take(KEPT)
    session.open(epoch, 7)
    session.open(epoch, 8)
    session.detach(epoch, in_flight=says)
    assert session.state.in_flight.keys() == left


def test_what_was_sent_is_known_until_the_next_end(session: Session) -> None:
    """E9: whoever reads rows that are ahead of its own claim is told the same."""
    session.detach(session.take(KEPT), sent=((1, 2), (0, 7)))
    epoch = session.take(KEPT)
    assert session.state.sent == ((1, 2), (0, 7))
    session.detach(epoch)
    assert session.state.sent is None


def test_after_a_takeover_nobody_knows_what_was_sent(session: Session) -> None:
    """E9."""
    session.detach(session.take(KEPT), sent=((1, 2),))
    session.take(KEPT)
    session.take(KEPT)
    assert session.state.sent is None


def test_a_row_goes_on_as_the_facts_below_it_would() -> None:
    state = SessionState.of_row(
        KeptRow(
            epoch=20,
            incarnation=10,
            expiry_s=60,
            attached=True,
            subscriptions={"x/#": (1, 0), "y": (2, 0)},
            in_flight={7: (2, 5)},
            sent=[(1, 2)],
        )
    )
    assert state.take(Subs(client_id="a", epoch=20, remove=("y",)), 21, 0) == VALID
    assert state.subscriptions == (("x/#", 1, 0),)
    assert (state.incarnation, state.in_flight, state.sent) == (10, {7: (2, 5)}, ((1, 2),))


def test_one_more_packet_id_does_not_copy_all_others(session: Session) -> None:
    """There may be 65,535, and one more is opened with each delivery."""
    epoch = session.take(KEPT)
    session.open(epoch, 7)
    in_flight = session.state.in_flight
    session.open(epoch, 8)
    assert session.state.in_flight is in_flight
    assert in_flight == {7: (2, 5), 8: (2, 5)}


def test_sessions_and_rows_share_no_packet_ids(session: Session) -> None:
    session.open(session.take(KEPT), 7)
    assert SessionState().in_flight == {}
    row = {9: (1, 3)}
    session.state.load(row, {})
    session.open(session.state.epoch, 8)
    assert (row, session.state.in_flight) == ({9: (1, 3)}, {9: (1, 3), 8: (2, 5)})


def test_a_session_takes_little_memory(session: Session) -> None:
    """There may be a million: five subscriptions take no object each."""
    names = [f"building/7/floor/{number}/#" for number in range(5)]
    session.subscribe(session.take(KEPT), *names)
    assert session.filters == names
    state = session.state
    parts = [getattr(state, name) for name in attributes_of(state)]
    assert getsizeof(state) + sum(map(getsizeof, parts)) < 800
