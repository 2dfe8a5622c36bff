"""Rules taken out, one at a time, each where the product keeps it.

The simulation must find each of them, in the configuration that has most to do with it.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
from tests.simulation.kept.database import Holder, Table

from monstermq_shared.bus.facts import Marker, Release
from monstermq_shared.bus.runs import Runs
from monstermq_shared.errors import StoreConflict
from monstermq_shared.sessions.distributed import kept_beginning
from monstermq_shared.sessions.distributed.bus_facts import BusFacts
from monstermq_shared.sessions.distributed.claims import Claims
from monstermq_shared.sessions.distributed.inbound_ids import InboundIds
from monstermq_shared.sessions.distributed.kept import KeptSession
from monstermq_shared.sessions.distributed.kept_line import Opening
from monstermq_shared.sessions.distributed.kept_port import EnginePort
from monstermq_shared.sessions.distributed.kept_publishing import KeptPublishing
from monstermq_shared.sessions.distributed.kept_window import KeptWindow
from monstermq_shared.sessions.distributed.own_runs import OwnRun
from monstermq_shared.sessions.distributed.queues.cuts import ClientCuts
from monstermq_shared.sessions.distributed.queues.fold import QueueFold
from monstermq_shared.sessions.distributed.queues.window import Window
from monstermq_shared.stores.queues import QueueAsk, QueuePage
from monstermq_shared.views.log_fold import LogFold

Patch = pytest.MonkeyPatch


class Break(NamedTuple):
    """A rule that is taken out.

    Attributes:
        configuration: Where that must be found.
        seeds: Within so many seeds.
        take_out: Takes it out.
    """

    configuration: str
    seeds: int
    take_out: Callable[[Patch], None]


# -- what counts -----------------------------------------------------------------------------------


def _seq(patch: Patch) -> None:
    """R1: what is appended twice counts twice."""
    patch.setattr(Runs, "is_new", lambda *_: True)


def _fence(patch: Patch) -> None:
    """R3: a publish of a dead connection enters after its repetition."""
    patch.setattr(BusFacts, "admits", lambda *_: True)
    patch.setattr(LogFold, "_is_admitted", lambda *_: True)


def _skips(patch: Patch) -> None:
    """P2: what did not count comes back when the window is rebuilt."""
    patch.setattr(QueueFold, "void", lambda *_: None)


# -- at the edge -----------------------------------------------------------------------------------


def _noapp(patch: Patch) -> None:
    """E8: a publish that is repeated enters twice."""
    patch.setattr(KeptPublishing, "_is_open", lambda *_: False)


def _pubrec(patch: Patch) -> None:
    """R4: PUBREC for a record of which nobody knows if it counts."""

    def appended(self: OwnRun) -> None:
        self.read_back()

    patch.setattr(OwnRun, "appended", appended)


def _relpos(patch: Patch) -> None:
    """E8, P4: a late release closes a newer use of its id."""
    release_here = InboundIds.release

    def release(
        self: InboundIds, client_id: str, packet_id: int, partition: int, since: int
    ) -> None:
        for at, opened, _ in [*self.openings(client_id, packet_id)]:
            release_here(self, client_id, packet_id, at, opened if at == partition else since)

    patch.setattr(InboundIds, "release", release)
    release_there = QueueFold._release

    def released(self: QueueFold, fact: Release) -> None:
        opened = self._open.get(fact.client_id, {}).get(fact.packet_id)
        since = fact.since if opened is None else opened.since
        release_there(self, replace(fact, since=since))

    patch.setattr(QueueFold, "_release", released)


def _readback(patch: Patch) -> None:
    """R4: the client knows a packet id that its session does not."""
    begin = EnginePort.open

    def opened(self: EnginePort, session: KeptSession, opening: Opening) -> None:
        begin(self, session, opening)
        session.opened(opening)

    patch.setattr(EnginePort, "open", opened)


def _ackrel(patch: Patch) -> None:
    """E9: a message is sent again after the client has forgotten its id."""
    receive = KeptWindow.receive

    def received(self: KeptWindow, packet_ids: Any) -> None:
        receive(self, packet_ids)
        self.acked(packet_ids)

    patch.setattr(KeptWindow, "receive", received)


def _carry(patch: Patch) -> None:
    """E3: a dead edge leaves a subscription in some partitions only."""

    def marker(**members: Any) -> Marker:
        return Marker(**{**members, "whole": None})

    patch.setattr(kept_beginning, "Marker", marker)


def _snap(patch: Patch) -> None:
    """E5: a page of a standby that is behind lacks rows."""
    take = KeptSession.page

    def page(self: KeptSession, ask: QueueAsk, page: QueuePage) -> None:
        take(self, ask, page._replace(cut=(2**62, 2**62)))

    patch.setattr(KeptSession, "page", page)


def _slots(patch: Patch) -> None:
    """E3: ids that wait for their rows leave no room for anything."""
    patch.setattr(KeptWindow, "_room", lambda self: self.window - len(self.in_flight))


# -- the workers -----------------------------------------------------------------------------------


def _inc(patch: Patch) -> None:
    """P4: rows and ids of an ended session live on."""
    patch.setattr(ClientCuts, "incarnation", lambda *_: 2**62)


def _flush(patch: Patch) -> None:
    """P4: the window is rebuilt with subscriptions of another time."""
    patch.setattr(Window, "pop_all", lambda *_: iter(()))


def _n(patch: Patch) -> None:
    """P1: what is read again to rebuild the window counts again."""
    begin = QueueFold.__init__

    def begin_at_restart(self: QueueFold, *arguments: Any, **named: Any) -> None:
        begin(self, *arguments, **named)
        self.begins = self.restarts

    patch.setattr(QueueFold, "__init__", begin_at_restart)
    count = LogFold.__init__

    def count_all(self: LogFold, *arguments: Any, **named: Any) -> None:
        count(self, *arguments, **named)
        self._counts_from = self.next_offset

    patch.setattr(LogFold, "__init__", count_all)


def _token(patch: Patch) -> None:
    """P5: whoever has the same version is taken for oneself."""

    def refuse_others(self: Table, holder: Holder) -> None:
        if self.holder[0] != holder[0]:
            raise StoreConflict("another version")

    patch.setattr(Table, "refuse_others", refuse_others)


def _sweep(patch: Patch) -> None:
    """S4: an ended session collects rows for ever."""
    patch.setattr(Claims, "debts", lambda *_: iter(()))
    patch.setattr(Claims, "swept", lambda *_: [])


def _gap(patch: Patch) -> None:
    """S6: what was lost in a gap stays lost."""
    patch.setattr(Claims, "_after", lambda *_: iter(()))


BREAKS = {
    "seq": Break("doubled", 100, _seq),
    "skips": Break("doubled", 400, _skips),
    "fence": Break("late", 200, _fence),
    "noapp": Break("q2in", 100, _noapp),
    "relpos": Break("oldrel", 100, _relpos),
    "pubrec": Break("q2in", 100, _pubrec),
    "readback": Break("lease", 1_000, _readback),
    "ackrel": Break("q2", 1_000, _ackrel),
    "carry": Break("latesub", 100, _carry),
    "inc": Break("end", 100, _inc),
    "flush": Break("wstress", 100, _flush),
    "N": Break("wstress", 100, _n),
    "token": Break("unknown", 1_500, _token),
    "snap": Break("failover", 300, _snap),
    "slots": Break("reuse", 1_000, _slots),
    "sweep": Break("nokeep", 100, _sweep),
    "gap": Break("gap", 200, _gap),
}
"""By the names that they had when the protocol was found."""
