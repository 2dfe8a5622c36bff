"""Rules taken out, one at a time, each where the product keeps it.

The simulation must find each of them, in the configuration that has most to do with it.
"""

from collections.abc import Callable
from typing import NamedTuple

import pytest
from tests.simulation.kept.database import Holder, Table

from monstermq_shared.bus.runs import Runs
from monstermq_shared.errors import StoreConflict
from monstermq_shared.sessions.distributed.queues.cuts import ClientCuts
from monstermq_shared.sessions.distributed.queues.fold import QueueFold
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


def _seq(patch: Patch) -> None:
    """R1: what is appended twice counts twice."""
    patch.setattr(Runs, "is_new", lambda *_: True)


def _n(patch: Patch) -> None:
    """P1: what is read again to rebuild the window counts again."""
    begin = QueueFold.__init__

    def begin_at_restart(self: QueueFold, *arguments: object) -> None:
        begin(self, *arguments)  # type: ignore[arg-type]
        self.begins = self.restarts

    patch.setattr(QueueFold, "__init__", begin_at_restart)
    count = LogFold.__init__

    def count_all(self: LogFold, *arguments: object, **named: object) -> None:
        count(self, *arguments, **named)  # type: ignore[arg-type]
        self._counts_from = self.next_offset

    patch.setattr(LogFold, "__init__", count_all)


def _token(patch: Patch) -> None:
    """P5: whoever has the same version is taken for oneself."""

    def refuse_others(self: Table, holder: Holder) -> None:
        if self.holder[0] != holder[0]:
            raise StoreConflict("another version")

    patch.setattr(Table, "refuse_others", refuse_others)


def _inc(patch: Patch) -> None:
    """P4: rows and ids of an ended session live on."""
    patch.setattr(ClientCuts, "incarnation", lambda *_: 2**62)


BREAKS = {
    "seq": Break("doubled", 100, _seq),
    "N": Break("wstress", 100, _n),
    "token": Break("unknown", 1_500, _token),
    "inc": Break("end", 100, _inc),
}
"""By the names of the table."""
