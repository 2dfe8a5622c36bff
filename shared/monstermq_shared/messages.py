"""Runs of messages: what one read chunk of one publisher says on one topic, handled as one piece.

Everything on the hot path is paid once per run where it can be: the routing lookup, the offset
counter, the wire form that is shared by all receivers. Only what truly differs from message to
message (a packet id, a payload a store wants) is paid per message, and lazily.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any


class MessageRun:
    """Consecutive messages on one topic with the same QoS and retain flag, in order.

    A run is free of the protocol version: ``frames`` and ``encodings`` are caches that connections
    fill with the wire forms of their version; the engine never looks inside.

    Attributes:
        topic: The topic name as it stood on the wire: UTF-8, not yet validated. The router
            validates it once per distinct topic.
        qos: 0, 1 or 2; the same for all messages of the run.
        retain: The publisher asked for the message to be retained. A live copy never carries the
            flag on [MQTT-3.3.1-9]; ``retained_copy`` is the one exception.
        retained_copy: This is a stored message sent to a new subscription, so the wire form
            carries the retain flag [MQTT-3.3.1-8].
        packet_ids: One per message for QoS 1 and 2, empty for QoS 0 and for runs the broker made.
        count: How many messages.
        size: Bytes of topic and payload of all messages, for bounds.
        first_offset: Offset of the first message on the bus; the others follow without a gap.
            Set by the engine when the run is published.
        partition: Of the bus, in which they stand.
        frames: The bytes of all messages at QoS 0, which all receivers share; None until they are
            made, where they did not come like that.
        encodings: Those of other QoS, keyed as the encoder likes; None until there are any.
        epoch: Of the connection, where the log is to be told of it with each packet id: the QoS 2
            publishes of a kept session. They are *stamped*.
    """

    __slots__ = (
        "_data",
        "_payloads",
        "_starts",
        "_stops",
        "count",
        "encodings",
        "epoch",
        "first_offset",
        "frames",
        "packet_ids",
        "partition",
        "qos",
        "retain",
        "retained_copy",
        "size",
        "topic",
    )

    def __init__(  # noqa: PLR0913, PLR0917 - positional, because one is made per run and chunk
        self,
        topic: bytes,
        qos: int,
        retain: bool,
        data: bytes,
        packet_ids: Sequence[int] = (),
        starts: Sequence[int] | None = None,
        stops: Sequence[int] = (),
    ) -> None:
        """Describe messages whose payloads are ``data[starts[i]:stops[i]]``; without them, one.

        ``data`` is kept alive until the payloads are asked for or the run is dropped.
        """
        self.topic = topic
        self.qos = qos
        self.retain = retain
        self.retained_copy = False
        self.packet_ids = packet_ids
        if starts is None:
            self.count = 1
            self.size = len(data) + len(topic)
        else:
            self.count = len(starts)
            self.size = stops[-1] - starts[0] + len(topic)
        self.first_offset = 0
        self.partition = 0
        self.epoch: int | None = None
        self.frames: bytes | None = None
        self.encodings: dict[Any, Any] | None = None
        self._data = data
        self._starts = starts
        self._stops = stops
        self._payloads: list[bytes] | None = None

    @classmethod
    def single(
        cls, topic: bytes, payload: bytes, qos: int, *, retained_copy: bool = False
    ) -> "MessageRun":
        """Make a run of one message that did not come from a read chunk: a row, a will, $SYS."""
        run = cls(topic, qos, False, payload)
        run.retained_copy = retained_copy
        return run

    @classmethod
    def of(cls, topic: bytes, payloads: list[bytes], qos: int) -> "MessageRun":
        """Make a run of messages that did not come from one read chunk."""
        stops = list(accumulate(map(len, payloads)))
        run = cls(topic, qos, False, b"".join(payloads), (), (0, *stops[:-1]), stops)
        run._payloads = payloads
        return run

    def part(self, first: int, stop: int) -> "MessageRun":
        """Return a run of the messages ``first`` <= index < ``stop``."""
        run = MessageRun.of(self.topic, self.payloads[first:stop], self.qos)
        run.retain = self.retain
        run.packet_ids = self.packet_ids[first:stop]
        run.partition = self.partition
        run.epoch = self.epoch
        return run

    @property
    def payloads(self) -> list[bytes]:
        """The payload of every message, in order. Cut out of the read chunk on first use."""
        payloads = self._payloads
        if payloads is None:
            data, starts = self._data, self._starts
            if starts is None:
                payloads = [data]
            else:
                payloads = [data[a:b] for a, b in zip(starts, self._stops, strict=True)]
            self._payloads = payloads
            self._data = b""  # lets the read chunk go
        return payloads

    def only(self, indexes: Sequence[int]) -> "MessageRun":
        """Return a run of just these messages, of one whose payloads nobody has asked for yet."""
        starts = self._starts
        assert self._payloads is None
        assert starts is not None
        return MessageRun(
            self.topic,
            self.qos,
            self.retain,
            self._data,
            [self.packet_ids[i] for i in indexes],
            [starts[i] for i in indexes],
            [self._stops[i] for i in indexes],
        )


Subscription = tuple[str, int, int]
"""Filter, QoS, and the options of MQTT 5 as its SUBSCRIBE has them (0 before)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Will:
    """The message to publish if the connection ends without DISCONNECT [MQTT-3.1.2-8]."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
