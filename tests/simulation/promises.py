"""The promises of the engine, each with a letter, as anybody outside can check them.

a. What was acknowledged reaches every subscription that was acknowledged before it was sent.
b. QoS 2 comes once, over kills too, and has one position.
c. What was sent once comes in the order of the log, per topic and QoS.
d. A packet id is not used again while it is in flight.
e. At rest nothing is left of what was completed: no row, no id, no hold, no replay.
f. Session present is exact.
g. Acknowledgements come in the order of what they acknowledge.
h. What tells a state leaves after the commit of its facts.
i. A new subscription gets what is retained, and nothing older after something newer.
j. No more than the window is in flight.
k. Everything is bounded, and comes to rest.
w. A will is published if and only if the connection did not end with DISCONNECT.

d, f, g and j are checked by ``clients``, h by ``witness``, w by ``ledger`` and a.
"""

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from tests.simulation.clients import Client, Period, Receipt
from tests.simulation.ledger import Message, Violation

from monstermq_shared.sessions import retained
from monstermq_shared.sessions.local import LocalEngine
from monstermq_shared.sessions.local.persistent import PersistentSession
from monstermq_shared.topics import matches

if TYPE_CHECKING:
    from tests.simulation.world import Simulation

CHUNK_MESSAGES_MAX = 60
"""More messages than that are never under way from all publishers together."""


def check_bounds(world: "Simulation") -> None:
    """Check j and k on the engine itself, after every step."""
    engine = world.broker.engine
    settings = world.build.settings
    waiting_max = settings.hold.pending_max + settings.queue.tail_max
    waiting_max += 2 * retained.PAGE_MESSAGES + CHUNK_MESSAGES_MAX
    for session in engine.sessions.values():
        if len(session.in_flight) > world.window:
            raise Violation(f"j: {len(session.in_flight)} in flight in {session.client_id}")
        if session.pending_count > waiting_max:
            raise Violation(f"k: {session.pending_count} wait for {session.client_id}")
    if engine.router.cached > settings.route_cache_max:
        raise Violation(f"k: {engine.router.cached} routes are cached")


def check_at_rest(world: "Simulation") -> None:
    """Check everything that must hold when nothing is under way."""
    for client in world.clients.values():
        if client.out or client.receiving:
            raise Violation(f"e: {client.role.client_id} is left with {client.out}")
        _check_exactly_once(client)
        _check_order(client)
        if world.plan.lossless and client.role.persistent:
            _check_delivery(client, world.ledger.messages.values())
    _check_positions(world)
    _check_database(world)
    _check_engine(world)
    _check_retained(world)


def _check_delivery(client: Client, messages: Iterable[Message]) -> None:
    counts = client.counts()
    held = [p for p in client.periods if p.on is not None and p.qos and not p.ended]
    for message in messages:
        if message.acknowledged and message.qos and message.payload and not counts[message.number]:
            for period in held:
                if _promised(period, message):
                    raise Violation(
                        f"a: {client.role.client_id} never got {message.number} on {message.topic}"
                    )


def _promised(period: Period, message: Message) -> bool:
    assert period.on is not None
    return period.on < message.sent_at and matches(period.topic_filter, message.topic)


def _check_exactly_once(client: Client) -> None:
    seen: set[tuple[int, int]] = set()
    for receipt in client.receipts:
        message = receipt.message
        if message is None or receipt.retain or receipt.qos < 2:
            continue
        key = (receipt.generation, message.number)
        if key in seen:
            raise Violation(f"b: {client.role.client_id} got {message.number} twice")
        seen.add(key)


def _check_positions(world: "Simulation") -> None:
    positions = Counter(r.payload.partition(b":")[0] for r in world.disk.archive.values())
    for message in world.ledger.messages.values():
        if message.topic[0] not in "arb" or not message.payload:
            continue
        count = positions[b"%d" % message.number]
        if message.qos == 2 and count > 1:
            raise Violation(f"b: {message.number} has {count} positions")
        if message.qos and message.acknowledged and not count and message.topic[0] != "b":
            raise Violation(f"a: {message.number} was acknowledged and is not in the archive")


def _check_order(client: Client) -> None:
    """Compare first receipts of messages that were sent once with the log."""
    newest: dict[tuple[int, str, int], int] = {}
    seen: set[tuple[int, int]] = set()
    for receipt in client.receipts:
        message = receipt.message
        if message is None or receipt.retain or (receipt.generation, message.number) in seen:
            continue
        seen.add((receipt.generation, message.number))
        if len(message.offsets) != 1:
            continue
        key = (receipt.generation, receipt.topic, receipt.qos)
        if newest.get(key, 0) > message.offsets[0]:
            raise Violation(f"c: {client.role.client_id} got {message.number} too late")
        newest[key] = message.offsets[0]


def _check_database(world: "Simulation") -> None:
    for client_id, rows in world.disk.clients.items():
        if rows.queue or rows.open_ids or rows.in_flight:
            raise Violation(
                f"e: {client_id} leaves rows {[*rows.queue]}, open {rows.open_ids}, "
                f"in flight {rows.in_flight}"
            )


def _check_engine(world: "Simulation") -> None:
    engine = world.broker.engine
    _check_views(engine)
    if engine.journal.backlog_size:
        raise Violation(f"e: {engine.journal.backlog_size} bytes are said to wait, and none do")
    if engine.backpressure.slow:
        raise Violation("e: publishers are held for ever")
    for session in engine.sessions.values():
        if session.in_flight or session.pending_count or session.open_ids:
            raise Violation(f"e: {session.client_id} keeps ids in memory")
        if isinstance(session, PersistentSession) and (session.queued or session.queued_size):
            raise Violation(f"e: {session.client_id} counts {session.queued} rows of none")
    for pipe in world.broker.pipes:
        assert pipe.connection is not None
        if pipe.client.pipe is not pipe or pipe.connection.stops_reading:
            raise Violation(f"e: a connection of {pipe.client.role.client_id} hangs")


def _check_views(engine: LocalEngine) -> None:
    if any(backlog.count for backlog in engine.views.backlogs):
        raise Violation("e: a view elsewhere is left behind")
    while engine.overlay.fold(engine.journal.uncommitted()):
        pass
    if engine.retained.replays or len(engine.overlay):
        raise Violation("e: a replay or the overlay is left")


# -- retained ------------------------------------------------------------------------------------


def _check_retained(world: "Simulation") -> None:
    client = world.clients["C"]
    pipe = client.pipe
    receipts = [r for r in client.receipts if r.pipe is pipe]
    # At QoS 0 a live message may be dropped at the outbox's bound.
    granted = max((p.qos for p in client.periods if not p.ended), default=0)
    got = {r.message.number for r in receipts if r.message is not None}
    for topic, record in world.disk.retained.items():
        message = world.ledger.read(record.payload)
        assert message is not None
        if granted and topic.startswith("r/") and message.number not in got and message.qos:
            raise Violation(f"i: C never got {message.number}, which is retained on {topic}")
    for pipe_receipts in _by_pipe(client.receipts):
        _check_replay(pipe_receipts)


def _by_pipe(receipts: list[Receipt]) -> list[list[Receipt]]:
    by_pipe: dict[int, list[Receipt]] = {}
    for receipt in receipts:
        by_pipe.setdefault(id(receipt.pipe), []).append(receipt)
    return list(by_pipe.values())


def _check_replay(receipts: list[Receipt]) -> None:
    """Check one replay: of each topic the newest at that time, or a newer one, and only once."""
    replayed: set[str] = set()
    live: dict[tuple[str, int], int] = {}
    for receipt in receipts:
        message = receipt.message
        if message is None:
            continue
        if not receipt.retain:
            if message.retain:
                live[receipt.topic, receipt.qos] = message.offsets[0]
            continue
        newest = message.offsets[-1]
        floor = receipt.pipe.floor or {}
        if newest < floor.get(receipt.topic, 0):
            raise Violation(f"i: {message.number} was not retained on {receipt.topic} any more")
        if newest < live.get((receipt.topic, receipt.qos), 0):
            raise Violation(f"i: retained {message.number} came after a newer one")
        if receipt.topic in replayed:
            raise Violation(f"i: two retained messages came for {receipt.topic}")
        replayed.add(receipt.topic)


def check_goodbye(world: "Simulation") -> None:
    """Check that whoever is subscribed gets what is published when all is well."""
    last = [m for m in world.ledger.messages.values() if m.sent_at >= world.farewell]
    for client in world.clients.values():
        if not client.role.persistent or world.build.settings.queue.enabled:
            _check_delivery(client, last)
