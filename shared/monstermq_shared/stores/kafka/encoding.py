"""The JSON of archived records: as ``records.encode_record`` writes a message's, at half the cost.

What belongs to a topic, a client or a millisecond is written once for many records. The members of
a kept session's publish that the bus alone has a use for (``packetId``, ``epoch``) are left out.
"""

import orjson

from monstermq_shared.records import Record, format_timestamp, payload_member

CLIENTS_MAX = 10_000
"""Remembered texts of clients; beyond that all are forgotten, and the busy ones soon back."""

TEXT_SIZE_MAX = 1_024
"""Bytes of the longest one that is remembered."""

_FLAGS = {
    (qos, retained): b'","qos":%d,"retained":%s,"clientId":'
    % (qos, b"true" if retained else b"false")
    for qos in range(3)
    for retained in (False, True)
}


def topic_text(topic: str) -> bytes:
    """Return the beginning of the JSON of every record on a topic."""
    return b'{"topic":%s,"' % orjson.dumps(topic)


class Encoder:
    """Writes records; it keeps what the next one may have in common with those before."""

    def __init__(self) -> None:
        self._clients: dict[str, bytes] = {}
        self._time_ms = -1
        self._time = b""

    def encode(self, record: Record, beginning: bytes) -> bytes:
        """Return the JSON of a record.

        Args:
            record: A message; its id is made if it has none yet.
            beginning: What ``topic_text`` returns for its topic.
        """
        if record.timestamp_ms != self._time_ms:
            self._time_ms = record.timestamp_ms
            self._time = b',"timestamp":"' + format_timestamp(record.timestamp_ms).encode()
        name, text = payload_member(record.payload)
        client = self._clients.get(record.client_id)
        return b"".join(
            (
                beginning,
                _NAMES[name],
                text,
                self._time,
                _FLAGS[record.qos, record.retained],
                self._client(record.client_id) if client is None else client,
                record.id.encode(),
                b'"}',
            )
        )

    def _client(self, client_id: str) -> bytes:
        text = orjson.dumps(client_id) + b',"id":"'
        if len(text) <= TEXT_SIZE_MAX:
            if len(self._clients) >= CLIENTS_MAX:
                self._clients.clear()
            self._clients[client_id] = text
        return text


_NAMES = {name: name.encode() + b'":' for name in ("payload", "payloadBase64")}
