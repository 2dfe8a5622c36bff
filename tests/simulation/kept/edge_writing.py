"""What edges are told, and what they append."""

import random
from collections.abc import Sequence
from dataclasses import replace

from tests.simulation.kept.configurations import Configuration
from tests.simulation.kept.ledger import Ledger, Violation
from tests.simulation.kept.logs import Log, SimWriter
from tests.support.edges import SETTINGS

from monstermq_shared.bus.facts import Claim, Fact, Marker
from monstermq_shared.sessions.distributed.kept_serving import LIMIT
from monstermq_shared.sessions.distributed.settings import DistributedSettings

WINDOW = 3
PAGE_MAX = 2

LEASE_S = 1_000.0
"""A lease ends only where an edge stands still: steps take next to no time."""

EXPIRY_S = 5
"""How long a kept session outlives its connection, where sessions expire."""

CUTS_MAX = 12
"""Cuts by E6 in one partition, with nothing delivered in between, that are too many."""


def settings_of(configuration: Configuration) -> DistributedSettings:
    """Return the settings of edges: all bounds that a rule is about are small."""
    hold = replace(SETTINGS.hold, pending_max=configuration.buffer // LIMIT)
    return replace(
        SETTINGS,
        in_flight_max=WINDOW,
        hold=hold,
        lease_s=LEASE_S,
        connect_timeout_s=1e9,
        protocol_version=2,
        session_expiry_s=EXPIRY_S,
        page_max=PAGE_MAX,
    )


class EdgeWriter(SimWriter):
    """What an edge appends.

    Some clients begin a new kept session, as MQTT 5 has it (Clean Start with a session expiry):
    only their claim says so.

    Attributes:
        starts_clean: Those whose next claim does.
    """

    def __init__(self, run: bytes, log: Log, chance: random.Random, ledger: Ledger) -> None:
        super().__init__(run, log, chance)
        self.starts_clean: set[str] = set()
        self._ledger = ledger

    def append_facts(
        self, partition: int, facts: Sequence[Fact], wall_ms: int, ticket: object
    ) -> tuple[int, int]:
        """See ``FactWriter``."""
        return super().append_facts(partition, [*map(self._seen, facts)], wall_ms, ticket)

    def _seen(self, fact: Fact) -> Fact:
        if isinstance(fact, Claim) and fact.client_id in self.starts_clean:
            self.starts_clean.discard(fact.client_id)
            return replace(fact, clean=True)
        if isinstance(fact, Marker) and not (fact.whole is not None or fact.add or fact.remove):
            self._cut(fact.client_id)
        return fact

    def _cut(self, client_id: str) -> None:
        """E6 marks a cut; something must be delivered before too many of them."""
        cuts = self._ledger.cuts
        cuts[client_id] = cuts.get(client_id, 0) + 1
        self._ledger.note("cut again")
        if cuts[client_id] > CUTS_MAX * self.partitions:
            raise Violation(f"g: {client_id} takes cut after cut and gets nothing")
