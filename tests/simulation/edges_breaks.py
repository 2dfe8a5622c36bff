"""Edges that break one rule each; the simulation must find each of them."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from tests.support.edges import SETTINGS, Bus, Edge

from monstermq_shared.bus.facts import Claim, Detach
from monstermq_shared.bus.ports import Entry
from monstermq_shared.bus.runs import Runs
from monstermq_shared.messages import MessageRun
from monstermq_shared.records import Record
from monstermq_shared.sessions.distributed.connections import Connections
from monstermq_shared.sessions.distributed.overlay import BusOverlay
from monstermq_shared.sessions.distributed.own_runs import OwnRun, OwnRuns
from monstermq_shared.sessions.distributed.session import BusSession, CleanSession, Owed
from monstermq_shared.sessions.distributed.stalls import Stalls
from monstermq_shared.sessions.ports import Answer

Build = Callable[[Bus], Edge]

_TIGHT = replace(SETTINGS, in_flight_max=3, overlay_size_max=3_000)


class _NothingIsDoubled(Runs):
    __slots__ = ()

    def is_new(self, run: bytes, sequence: int, time_ms: int) -> bool:
        """Take every record for new."""
        return True


def _doubles_count(bus: Bus) -> Edge:
    edge = Edge(bus, _TIGHT)
    edge._runs["messages"] = [_NothingIsDoubled(0) for _ in bus.messages.entries]
    return edge


class _HastySession(CleanSession):
    __slots__ = ()

    def owe(self, kind: Answer, packet_ids: Sequence[int]) -> Owed:
        """Answer before the log has it."""
        assert self.link is not None
        self.link.answer(kind, packet_ids)
        return Owed(self, kind, packet_ids)


class _Unordered(CleanSession):
    __slots__ = ()

    def owe(self, kind: Answer, packet_ids: Sequence[int]) -> Owed:
        """Let every answer leave by itself."""
        return _AtOnce(self, kind, packet_ids)


class _AtOnce(Owed):
    __slots__ = ()

    def appended(self) -> None:
        """Answer, whatever waits before."""
        link = self._session.link
        if link is not None:
            link.answer(self.kind, self.packet_ids)


def _with_session(kind: type[CleanSession]) -> Build:
    def build(bus: Bus) -> Edge:
        edge = Edge(bus, _TIGHT)
        attach = edge.engine.attach

        def attached(*arguments: object) -> BusSession:
            session = attach(*arguments)  # type: ignore[arg-type]
            session.__class__ = kind
            return session

        edge.engine.attach = attached  # type: ignore[assignment, method-assign]
        return edge

    return build


def _with_part(name: str, kind: type) -> Build:
    def build(bus: Bus) -> Edge:
        edge = Edge(bus, _TIGHT)
        getattr(edge.engine, name).__class__ = kind
        return edge

    return build


class _Deaf(Connections):
    def _claimed(self, partition: int, entry: Entry, index: int, fact: Claim) -> None:
        """Take notice of own claims only."""
        if entry.writer == self._facts.run:
            super()._claimed(partition, entry, index, fact)


class _Undetached(Connections):
    def _detached(self, fact: Detach) -> None:
        """Go on, whatever another process says."""


class _WholeAtOnce(OwnRuns):
    def match(
        self, partition: int, entries: Sequence[Entry], index: int
    ) -> tuple[OwnRun, MessageRun, int] | None:
        """Deliver all of a run with its first message."""
        kept = self._kept[partition]
        sequence = entries[index].sequence
        whole = kept[0].run if kept and kept[0].first == sequence else None
        found = super().match(partition, entries, index)
        return found if found is None or whole is None else (found[0], whole, found[2])


class _Forgetful(BusOverlay):
    def scan(
        self, topic_filter: str, *, start: str, limit: int
    ) -> tuple[list[tuple[str, Record | None]], str | None]:
        """Trust the table alone."""
        return [], None


class _Confident(BusOverlay):
    def is_shown_by(self, positions: object) -> bool:
        """Trust the table, however old."""
        return True


class _NeverAsks(Stalls):
    def asks_ends(self) -> bool:
        """Never find out whether clients were taken meanwhile."""
        return False


BREAKS: dict[str, Build] = {
    "what is appended twice counts twice": _doubles_count,
    "PUBACK leaves before the append": _with_session(_HastySession),
    "answers leave in the order of the appends": _with_session(_Unordered),
    "a claim made elsewhere is not noticed": _with_part("connections", _Deaf),
    "a detach by another is not noticed": _with_part("connections", _Undetached),
    "a run is delivered with its first message": _with_part("own", _WholeAtOnce),
    "the overlay is not looked at": _with_part("overlay", _Forgetful),
    "clients wait for ever after a missed lease": _with_part("stalls", _NeverAsks),
    "a page of a table that lacks what is not kept is taken": _with_part("overlay", _Confident),
}
"""Rule -> how it is broken."""
