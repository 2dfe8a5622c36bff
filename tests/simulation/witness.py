"""Stands where packets leave the process, and asks the disk whether what they tell is true."""

from collections.abc import Callable, Iterator

from tests.simulation.clients import Pipe
from tests.simulation.ledger import Ledger, Violation
from tests.support.disk import ClientRows, Disk
from tests.support.mqtt_peer import (
    Connack,
    Packet,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Unsuback,
    split_packet,
)

from monstermq_shared.stores.changes import InFlightState


class Witness:
    """Checks promise (h): no packet that tells a state leaves before its facts are committed.

    Args:
        disk: What is committed.
        ledger: What was published.
        queueing: Queues are always enabled, so a QoS 2 PUBLISH has a row.
        watching: Off, only what a client would notice later counts.
    """

    def __init__(self, disk: Disk, ledger: Ledger, *, queueing: bool, watching: bool) -> None:
        self._disk = disk
        self._ledger = ledger
        self._queueing = queueing
        self._watching = watching
        self._checks: dict[type[Packet], Callable[[Pipe, ClientRows, Packet], bool]] = {
            Connack: _connack,
            Suback: _suback,
            Unsuback: _unsuback,
            Puback: self._puback,
            Pubrec: self._pubrec,
            Pubcomp: _pubcomp,
            Pubrel: _pubrel,
            Publish: self._publish,
        }

    def watch(self, pipe: Pipe, data: bytes) -> None:
        """See what leaves for a client that is still there and keeps a session."""
        if not self._watching or pipe.clean or pipe.client.pipe is not pipe:
            return
        client_id = pipe.client.role.client_id
        rows = self._disk.client(client_id)
        for packet in _split(data):
            if not self._checks[type(packet)](pipe, rows, packet):
                raise Violation(f"h: {packet} left for {client_id} before its facts were committed")

    def _puback(self, pipe: Pipe, rows: ClientRows, packet: Packet) -> bool:
        assert isinstance(packet, Puback)
        return self._is_archived(pipe, packet.packet_id)

    def _pubrec(self, pipe: Pipe, rows: ClientRows, packet: Packet) -> bool:
        assert isinstance(packet, Pubrec)
        return packet.packet_id in rows.open_ids and self._is_archived(pipe, packet.packet_id)

    def _is_archived(self, pipe: Pipe, packet_id: int) -> bool:
        message = pipe.client.out[packet_id].message
        durable = message.topic[0] in "arw"
        if not durable or not message.payload:
            return True
        return not self._disk.archive.keys().isdisjoint(message.offsets)

    def _publish(self, pipe: Pipe, rows: ClientRows, packet: Packet) -> bool:
        assert isinstance(packet, Publish)
        if packet.qos < 2:
            return True
        offset, state = rows.in_flight.get(packet.packet_id, (0, None))
        if not self._queueing:
            return state is InFlightState.SENT
        row = rows.queue.get(offset)
        return state is InFlightState.SENT and row is not None and row[0].payload == packet.payload


def _split(data: bytes) -> Iterator[Packet]:
    buffer = bytearray(data)
    while (packet := split_packet(buffer)) is not None:
        yield packet


def _connack(pipe: Pipe, rows: ClientRows, packet: Packet) -> bool:
    assert isinstance(packet, Connack)
    return bool(packet.code) or (rows.row is not None and not rows.row.clean)


def _suback(pipe: Pipe, rows: ClientRows, packet: Packet) -> bool:
    assert pipe.client.request is not None
    periods = pipe.client.request.periods
    return all(rows.subscriptions.get(p.topic_filter) == p.qos for p in periods)


def _unsuback(pipe: Pipe, rows: ClientRows, packet: Packet) -> bool:
    assert pipe.client.request is not None
    return not set(rows.subscriptions).intersection(pipe.client.request.leaving)


def _pubcomp(pipe: Pipe, rows: ClientRows, packet: Packet) -> bool:
    assert isinstance(packet, Pubcomp)
    return packet.packet_id not in rows.open_ids


def _pubrel(pipe: Pipe, rows: ClientRows, packet: Packet) -> bool:
    assert isinstance(packet, Pubrel)
    _, state = rows.in_flight.get(packet.packet_id, (0, InFlightState.RECEIVED))
    return state is InFlightState.RECEIVED
