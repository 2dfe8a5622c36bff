"""The ``$SYS`` topics: mosquitto's tree, and the original's statistics of each client.

They live in memory and take no position in the log. Nothing here does I/O or reads a clock: the
caller ticks the load averages all the time, and asks for values only while somebody subscribes.
"""

import math
from collections import OrderedDict
from collections.abc import Iterator
from typing import NamedTuple

import orjson

from monstermq_edge.operation.gauges import Gauges
from monstermq_shared.counters import PACKET_TYPES, Counters
from monstermq_shared.records import format_timestamp
from monstermq_shared.topics import TOPIC_SIZE_MAX, escape_level

_ROOT = "$SYS/broker/"
_PUBLISH = PACKET_TYPES.index("publish")

_WINDOWS = (("1min", 60.0), ("5min", 300.0), ("15min", 900.0))
"""The load averages' names, and the seconds after which a past load counts 1/e."""

_BOTH_WAYS = ("publish", "puback", "pubrec", "pubrel", "pubcomp")
_FROM_CLIENTS = ("connect", "subscribe", "unsubscribe", "pingreq", "disconnect", *_BOTH_WAYS)
_TO_CLIENTS = ("connack", "suback", "unsuback", "pingresp", *_BOTH_WAYS)


class LoadAverage:
    """A rate per minute, averaged as mosquitto does: the past fades exponentially."""

    __slots__ = ("_averages", "_total")

    def __init__(self, total: float) -> None:
        """Begin with no load; ``total`` is what the counter says now."""
        self._total = total
        self._averages = [0.0] * len(_WINDOWS)

    def update(self, total: float, elapsed_s: float) -> None:
        """Take in that the counter now says ``total``, ``elapsed_s`` > 0 seconds after the last."""
        per_minute = (total - self._total) * 60.0 / elapsed_s
        self._total = total
        for place, (_, window_s) in enumerate(_WINDOWS):
            faded = math.exp(-elapsed_s / window_s)
            self._averages[place] = per_minute + faded * (self._averages[place] - per_minute)

    def texts(self) -> list[tuple[str, str]]:
        """Return the window's name and its average, with two digits as mosquitto writes it."""
        named = zip(_WINDOWS, self._averages, strict=True)
        return [(name, f"{average:.2f}") for (name, _), average in named]


class SystemTree:
    """The tree below ``$SYS/broker``, with mosquitto's names and formats."""

    def __init__(
        self,
        counters: Counters,
        gauges: Gauges,
        *,
        version: str,
        started_s: float,
        started_ms: int,
    ) -> None:
        """Begin to watch.

        Args:
            counters: What is counted.
            gauges: What is held.
            version: Of MonsterMQ.
            started_s: When the broker started, monotonic seconds as in all later calls.
            started_ms: The same moment in milliseconds since 1970 UTC.
        """
        self._counters = counters
        self._gauges = gauges
        self._started_s = started_s
        self._ticked_s = started_s
        self._resident_bytes_max = 0.0
        self._published: dict[str, bytes] = {}
        self._fixed = {
            "version": f"MonsterMQ version {version}",
            "timestamp": format_timestamp(started_ms),
        }
        self._loads = {name: LoadAverage(total) for name, total in self._load_totals().items()}

    def tick(self, now_s: float) -> None:
        """Bring the load averages and maxima up to date; to be called every few seconds."""
        elapsed_s = now_s - self._ticked_s
        if elapsed_s <= 0:
            return
        self._ticked_s = now_s
        for name, total in self._load_totals().items():
            self._loads[name].update(total, elapsed_s)
        self._note_memory()

    def values(self, now_s: float) -> dict[str, bytes]:
        """Return every topic and its payload: what a new subscriber gets."""
        self._note_memory()
        texts: dict[str, object] = {
            **self._fixed,
            "uptime": f"{int(now_s - self._started_s)} seconds",
            **self._held(),
            **self._counted(),
            **self._packets(),
        }
        for name, load in self._loads.items():
            texts.update((f"load/{name}/{window}", text) for window, text in load.texts())
        return {_ROOT + name: str(text).encode() for name, text in texts.items()}

    def changed(self, now_s: float) -> list[tuple[str, bytes]]:
        """Return the topics whose payload differs from the last call's; the first returns all."""
        values = self.values(now_s)
        published = self._published
        changes = [item for item in values.items() if published.get(item[0]) != item[1]]
        self._published = values
        return changes

    def _note_memory(self) -> None:
        self._resident_bytes_max = max(self._resident_bytes_max, self._gauges.resident_bytes())

    def _load_totals(self) -> dict[str, float]:
        counters = self._counters
        return {
            "messages/received": counters.messages_received,
            "messages/sent": counters.messages_sent,
            "publish/received": sum(counters.publish_received),
            "publish/sent": sum(counters.publish_sent),
            "publish/dropped": sum(counters.dropped),
            "bytes/received": counters.bytes_received,
            "bytes/sent": counters.bytes_sent,
            "sockets": counters.sockets_opened,
            "connections": counters.connections_total,
        }

    def _held(self) -> dict[str, object]:
        gauges = self._gauges
        connected = int(gauges.host.clients_connected())
        sessions = int(gauges.host.sessions())
        away = max(0, sessions - connected)
        queued = int(gauges.queued_messages())
        retained = int(gauges.host.retained_messages())
        return {
            "clients/connected": connected,
            "clients/active": connected,
            "clients/disconnected": away,
            "clients/inactive": away,
            "clients/total": connected + away,
            "connections/socket/count": int(gauges.connections_open()),
            "messages/stored": queued + retained,
            "messages/inflight": int(gauges.in_flight_messages()),
            "store/messages/count": queued + retained,
            "store/messages/bytes": int(gauges.queued_bytes()),
            "retained messages/count": retained,
            "subscriptions/count": int(gauges.host.subscriptions()),
            "shared_subscriptions/count": 0,
            "packet/out/bytes": int(gauges.outbox_bytes()),
            "heap/current": int(gauges.resident_bytes()),
            "heap/maximum": int(self._resident_bytes_max),
        }

    def _counted(self) -> dict[str, object]:
        counters = self._counters
        return {
            "clients/maximum": counters.clients_maximum,
            "clients/expired": counters.sessions_expired,
            "messages/received": counters.messages_received,
            "messages/sent": counters.messages_sent,
            "publish/messages/received": sum(counters.publish_received),
            "publish/messages/sent": sum(counters.publish_sent),
            "publish/messages/dropped": sum(counters.dropped),
            "publish/bytes/received": counters.publish_bytes_received,
            "publish/bytes/sent": counters.publish_bytes_sent,
            "bytes/received": counters.bytes_received,
            "bytes/sent": counters.bytes_sent,
        }

    def _packets(self) -> dict[str, object]:
        received = list(self._counters.packets_received)
        received[_PUBLISH] = sum(self._counters.publish_received)
        sent = list(self._counters.packets_sent)
        sent[_PUBLISH] = sum(self._counters.publish_sent)
        texts: dict[str, object] = {}
        for kind, name in enumerate(PACKET_TYPES):
            if name in _FROM_CLIENTS:
                texts[f"mqtt/{name}/received"] = received[kind]
            if name in _TO_CLIENTS:
                texts[f"mqtt/{name}/sent"] = sent[kind]
        return texts


class ClientStatistics(NamedTuple):
    """What ``$SYS/clients/<id>/statistics`` tells of one client.

    Attributes:
        client_id: As the client gave it.
        connected: Whether it is connected now.
        last_ping_ms: When its last PINGREQ came, milliseconds since 1970 UTC; None before the
            first.
        in_flight_received: Inbound QoS 2 messages whose exchange is not complete.
        in_flight_sent: Outbound QoS 1 and 2 messages whose exchange is not complete.
    """

    client_id: str
    connected: bool
    last_ping_ms: int | None
    in_flight_received: int
    in_flight_sent: int


class _Told(NamedTuple):
    """What was last told of a client: in which walk it was last met, and in which round told."""

    client: ClientStatistics
    walk: int
    round: int


class ClientTopics:
    """Remembers what was last told of each client, so that only changes are published.

    It is shown all clients again and again, in walks, and forgets those that a walk did not meet.
    """

    def __init__(self) -> None:
        self._walk = 0
        self._round = 0
        # The one met longest ago is first.
        self._told: OrderedDict[str, _Told] = OrderedDict()

    def __len__(self) -> int:
        """Return how many clients are remembered."""
        return len(self._told)

    def begin(self) -> None:
        """A walk begins: ``change`` for each client, then ``gone``."""
        self._walk += 1

    def change(self, client: ClientStatistics) -> tuple[str, bytes] | None:
        """Return topic and payload of a client if something new is to be told of it."""
        told = self._told.get(client.client_id)
        self._told[client.client_id] = _Told(client, self._walk, self._round)
        self._told.move_to_end(client.client_id)
        if told is not None and told.client == client and told.round == self._round:
            return None
        return _change(client)

    def gone(self) -> Iterator[tuple[str, bytes] | None]:
        """Forget the clients that the walk did not meet, one by one.

        Yields:
            That the client is not connected, or None if that has been told.
        """
        while self._told:
            client_id, told = next(iter(self._told.items()))
            if told.walk == self._walk:
                return
            del self._told[client_id]
            last = ClientStatistics(client_id, False, None, 0, 0)
            yield _change(last) if told.client.connected else None

    def tell_again(self) -> None:
        """Let everything be told anew: somebody has come who knows nothing."""
        self._round += 1

    def forget(self, count: int) -> None:
        """Nobody is interested: forget some clients, and that the others were told of."""
        self._round += 1
        for _ in range(min(count, len(self._told))):
            self._told.popitem(last=False)


def _change(client: ClientStatistics) -> tuple[str, bytes] | None:
    topic = client_topic(client.client_id)
    return None if topic is None else (topic, client_payload(client))


def client_topic(client_id: str) -> str | None:
    """Return the client's topic, or None where its escaped id is too long for one."""
    topic = f"$SYS/clients/{escape_level(client_id)}/statistics"
    return topic if len(topic.encode()) <= TOPIC_SIZE_MAX else None


def client_payload(client: ClientStatistics) -> bytes:
    """Return the statistics with the original's member names."""
    ping_ms = client.last_ping_ms
    return orjson.dumps(
        {
            "Connected": client.connected,
            "LastPing": None if ping_ms is None else format_timestamp(ping_ms),
            "InFlightMessagesRcv": client.in_flight_received,
            "InFlightMessagesSnd": client.in_flight_sent,
        }
    )
