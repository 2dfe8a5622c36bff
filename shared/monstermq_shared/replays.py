"""How a message that was sent again is known: by who published it.

MQTT 3 has no other place for such a mark. It stands in every record, table and archive, so nothing
that reads them takes a replay for what happened.
"""

REPLAYED = "monstermq-replay-"
"""What the client ids of replays begin with. No archive group keeps their messages again."""

ARCHIVED_AGAIN = "monstermq-replay-archived-"
"""The same of replays whose messages archives are to keep like any others."""


def is_replayed(client_id: str) -> bool:
    """Whether a replay has sent a message, by its publisher."""
    return client_id.startswith(REPLAYED)


def is_archived(client_id: str) -> bool:
    """Whether archives keep the messages of a publisher."""
    return not client_id.startswith(REPLAYED) or client_id.startswith(ARCHIVED_AGAIN)
