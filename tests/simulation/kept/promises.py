"""The promises of kept sessions, held against what happened; each has a letter.

a: what was acknowledged is not lost. b: what has QoS 2 arrives once. c: the order of a topic and
publisher is kept. d: nothing comes from before its subscription. e: when all is quiet the tables
hold nothing of what is over, and edges, rows and sessions log agree about subscriptions. f: nobody
waits for ever (``steps``). g: nobody takes cut after cut and gets nothing (``edges``). s: session
present is exact (``clients``). u: what is sent again has DUP (E9). w: a will is published once, and
only if it is due.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

from tests.simulation.kept.clients import Client
from tests.simulation.kept.ledger import FOREVER, Delivery, Message, Wanted, number_of
from tests.simulation.kept.oracle import Position, Stream, read_stream
from tests.simulation.kept.world import World

from monstermq_shared.bus.facts import Marker


class Promises:
    """Looks at a world in which nothing happens any more."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._stream: Stream = read_stream(world.messages.partitions)

    def broken(self) -> Iterator[str]:
        """Yield what is broken."""
        yield from self._publishers()
        subscribers: dict[str, list[Client]] = {}
        for client in self._world.clients:
            if client.client_id not in self._world.publishers:
                subscribers.setdefault(client.client_id, []).append(client)
        for client_id, devices in subscribers.items():
            log = sorted((each for at in devices for each in at.log), key=lambda each: each.step)
            yield from self._lost(client_id, devices, log)
            yield from self._from_before(client_id, devices, log)
            if len(devices) == 1:
                yield from self._twice(client_id, log)
                yield from self._unmarked(client_id, log)
                yield from self._out_of_order(client_id, log)
            yield from self._subscriptions(client_id)
        for partition in range(len(self._world.messages.partitions)):
            yield from self._left_over(partition)

    # -- what entered the log ----------------------------------------------------------------------

    def _publishers(self) -> Iterator[str]:
        due = set(self._world.oracle.due)
        for number, message in self._world.ledger.messages.items():
            positions = self._stream.positions.get(number, [])
            if message.is_will:
                message.acknowledged = number in due
                if len(positions) != message.acknowledged:
                    yield f"w: will {message} stands at {positions}, due: {message.acknowledged}"
            elif message.qos == 2 and len(positions) > 1:
                yield f"b: {message} enters the stream more than once: {positions}"
            if message.acknowledged and not positions:
                yield f"a: {message} was acknowledged and is not in the stream"

    # -- what subscribers received -----------------------------------------------------------------

    def _lost(
        self, client_id: str, devices: Sequence[Client], log: Sequence[Delivery]
    ) -> Iterator[str]:
        received = {number_of(each.payload) for each in log}
        for number, message in self._world.ledger.messages.items():
            if number in received or not message.acknowledged or not message.landed:
                continue
            for device in devices:
                wanted = [at for at in device.wanted if self._is_owed(device, at, message)]
                if not wanted or self._is_given_up(client_id, number):
                    continue
                others = [at for each in devices if each is not device for at in each.wanted]
                if all(each.ended == FOREVER for each in others):
                    yield f"a: {client_id} never got {message}, wanted {wanted}"

    @staticmethod
    def _is_owed(device: Client, wanted: Wanted, message: Message) -> bool:
        if wanted.generation != device.generation or not wanted.matches(message.topic):
            return False
        if wanted.held is None or (wanted.loose and wanted.ended != FOREVER):
            return False
        return wanted.held < min(message.landed) and max(message.landed) < wanted.ended

    def _is_given_up(self, client_id: str, number: int) -> bool:
        """Whether a limit or a gap cost a message, as they may."""
        positions = self._stream.positions.get(number, [])
        return any(
            self._stream.is_dropped(client_id, position) or self._is_in_gap(client_id, position)
            for position in positions
        )

    def _is_in_gap(self, client_id: str, position: Position) -> bool:
        """P7: what stood below the gap, and until the session is marked again (S6)."""
        for partition, upto in self._world.gaps:
            if partition == position.partition:
                entries = self._world.messages.partitions[partition]
                marked = FOREVER
                for entry in entries[upto:]:
                    whole = [at for at in entry.facts if isinstance(at, Marker)]
                    if any(at.client_id == client_id and at.whole is not None for at in whole):
                        marked = entry.offset
                        break
                if position.offset < marked:
                    return True
        return False

    @staticmethod
    def _twice(client_id: str, log: Sequence[Delivery]) -> Iterator[str]:
        counts = Counter(number_of(each.payload) for each in log)
        for number, count in counts.items():
            if count > 1:
                found = [each for each in log if number_of(each.payload) == number]
                once = any(each.qos == 2 for each in found)
                if once and len({each.generation for each in found}) == 1:
                    yield f"b: {client_id} got {found}"

    def _unmarked(self, client_id: str, log: Sequence[Delivery]) -> Iterator[str]:
        # A publish of QoS 1 that its client repeats stands twice, and each is delivered anew. A gap
        # may have taken an ack, of which nobody knows any more (P7).
        anew = Counter((each.payload, each.generation) for each in log if not each.dup)
        for (payload, _), count in anew.items():
            number = number_of(payload)
            is_given_up = self._is_given_up(client_id, number)
            if count > len(self._stream.positions[number]) and not is_given_up:
                found = [each for each in log if each.payload == payload]
                yield f"u: {client_id} got {found}, which stands {self._stream.positions[number]}"

    def _out_of_order(self, client_id: str, log: Sequence[Delivery]) -> Iterator[str]:
        seen: set[bytes] = set()
        newest: dict[str, tuple[int, Delivery]] = {}
        for each in log:
            if each.payload in seen:
                continue
            seen.add(each.payload)
            place = self._stream.places.get(each.payload)
            if place is None:
                yield f"d: {client_id} got {each}, which does not count"
                continue
            before = newest.get(each.topic)
            if before is not None and before[0] > place.offset:
                yield f"c: {client_id} got {each} after {before[1]}"
            else:
                newest[each.topic] = place.offset, each

    def _from_before(
        self, client_id: str, devices: Sequence[Client], log: Sequence[Delivery]
    ) -> Iterator[str]:
        wanted = [each for device in devices for each in device.wanted]
        for delivery in log:
            landed = self._stream.landed.get(delivery.payload, -1)
            if not any(
                (each.sent < landed or each.loose) and each.matches(delivery.topic)
                for each in wanted
            ):
                yield f"d: {client_id} got {delivery} from before its subscribe"

    # -- what is left ------------------------------------------------------------------------------

    def _subscriptions(self, client_id: str) -> Iterator[str]:
        session = self._world.oracle.session(client_id)
        for partition, table in enumerate(self._world.database.queues):
            rows = table.subscriptions(client_id)
            if rows != session.subscriptions:
                yield (
                    f"e: rows of {client_id} in partition {partition} say {rows}, "
                    f"its session says {session.subscriptions}"
                )
            for edge in self._world.living():
                routes = edge.routes(client_id)
                if routes is not None and routes != rows:
                    yield f"e: an edge routes {client_id} in {partition} by {routes}, not {rows}"

    def _left_over(self, partition: int) -> Iterator[str]:
        table = self._world.database.queues[partition]
        end = len(self._world.messages.partitions[partition])
        if table.rows:
            yield f"e: rows of partition {partition} are left: {sorted(table.rows)}"
        if table.open_ids:
            yield f"e: open ids of partition {partition} are left: {table.open_ids}"
        if table.state.skips:
            yield f"e: skips of partition {partition} are left: {table.state.skips}"
        mark = table.state.mark
        if (mark.restart, mark.reflected) != (end, end):
            yield f"e: partition {partition} ends at {end}, its mark is {mark}"
