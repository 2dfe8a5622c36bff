"""What has come of facts of the sessions log, and what its worker has to append (S2 to S6)."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from monstermq_shared.bus.facts import Claim, Detach, Fact, Marker
from monstermq_shared.messages import Will
from monstermq_shared.sessions.distributed.session_state import SessionState
from monstermq_shared.stores.changes import SessionChanges

PIECE_MAX = 500
"""Facts that are asked for at once, and filters in them: a few milliseconds of work."""

END_RUN = bytes(8)
"""Of a claim that ends a session: no edge has the client."""


class WillDue(NamedTuple):
    """A will to append (S2).

    Attributes:
        client_id: Whose.
        will: What it says.
        sequence: Of the fact that made it due; it grows from will to will of one partition.
    """

    client_id: str
    will: Will
    sequence: int


class Ask(NamedTuple):
    """A fact to append.

    Attributes:
        partition: Of the bus; None: to this partition of the sessions log.
        fact: What.
    """

    partition: int | None
    fact: Fact


class Ended(NamedTuple):
    """A kept session that a claim of expiry 0 has ended (S4)."""

    client_id: str
    epoch: int


class BusGap(NamedTuple):
    """A gap of the bus, and the offset of the fact that tells of it (S6)."""

    partition: int
    told_at: int


@dataclass(slots=True, kw_only=True)
class ClaimsBatch:
    """What has come of some facts.

    Attributes:
        changes: Of sessions.
        wills: What became due, in order of the facts.
        ended: Kept sessions that ended.
        gaps: Of the bus.
    """

    changes: SessionChanges
    wills: Sequence[WillDue]
    ended: Sequence[Ended]
    gaps: Sequence[BusGap]


@dataclass(slots=True, kw_only=True)
class ClaimCounts:
    """What was met and asked for; every number only grows.

    Attributes:
        invalid: Facts that did not count (R2).
        detached: Times a client of a silent edge was to be detached (S3).
        expired: Times a session was to be ended (S4).
        swept: Markers for what ended sessions have left (S4).
        marked: Sessions marked again, or detached, because the bus has a gap (S6).
    """

    invalid: int = 0
    detached: int = 0
    expired: int = 0
    swept: int = 0
    marked: int = 0


def detach_of(client_id: str, state: SessionState, reason: str) -> Detach:
    """Return what ends a connection that its edge has not ended."""
    return Detach(client_id=client_id, epoch=state.epoch, will=True, reason=reason)


def end_of(client_id: str, state: SessionState) -> Claim:
    """Return what ends a session unless somebody claims it before (S4)."""
    return Claim(
        client_id=client_id,
        clean=True,
        expiry_s=0,
        will=None,
        run=END_RUN,
        protocol=state.protocol,
        only_if=state.epoch,
    )


def sweep_of(client_id: str, epoch: int) -> Marker:
    """Return what takes a session that was ended by this claim from a partition of the bus (S4)."""
    return Marker(client_id=client_id, epoch=epoch, incarnation=epoch, whole=())


def mark_of(client_id: str, state: SessionState) -> Marker:
    """Return what gives a session its subscriptions in a partition of the bus again (S6)."""
    return Marker(
        client_id=client_id,
        epoch=state.epoch,
        incarnation=state.incarnation,
        whole=state.subscriptions,
    )


def in_pieces(asks: Iterable[Ask]) -> Iterator[list[Ask]]:
    """Yield them, so many at a time that they have ``PIECE_MAX`` facts and filters or just more."""
    piece: list[Ask] = []
    weight = 0
    for ask in asks:
        piece.append(ask)
        weight += 1 + (len(ask.fact.whole or ()) if isinstance(ask.fact, Marker) else 0)
        if weight >= PIECE_MAX:
            yield piece
            piece, weight = [], 0
    if piece:
        yield piece
