"""The tables of sessions and what belongs to them, and the statements on them."""

from monstermq_shared.stores.postgres.queue_tables import CUTS
from monstermq_shared.stores.postgres.rows import FRAGMENTS
from monstermq_shared.stores.postgres.tables import TableKind, columns
from monstermq_shared.stores.sql import fill_in, load_queries

QUERIES = fill_in(load_queries(__package__, "sessions.sql"), FRAGMENTS)

KINDS = (
    TableKind(
        name="sessions",
        create=[QUERIES["sessions_table"]],
        columns=columns(
            "client_id text, node_id text, clean_session boolean, connected boolean, "
            "update_time timestamp with time zone, information jsonb, last_will_topic text, "
            "last_will_message bytea, last_will_qos smallint, last_will_retain boolean, "
            "incarnation bigint, queued_messages bigint, queued_size bigint, expiry_s bigint, "
            "client_digest bytea, generation smallint, partition integer, epoch bigint, run text, "
            "sent json"
        ),
        key=["client_digest"],
    ),
    TableKind(
        name="subscriptions",
        create=[QUERIES["subscriptions_table"]],
        columns=columns(
            "client_id text, topic text[], qos smallint, wildcard boolean, options smallint, "
            "subscription_id integer, client_digest bytea, topic_digest bytea"
        ),
        key=["client_digest", "topic_digest"],
    ),
    TableKind(
        name="queuedmessages",
        create=[QUERIES["queuedmessages_table"]],
        columns=columns(
            "message_uuid character varying(36), message_id integer, topic text, "
            "time timestamp with time zone, payload bytea, qos smallint, retained boolean, "
            "client_id text, generation smallint, partition integer, position bigint, "
            "properties jsonb, expires_at timestamp with time zone"
        ),
        key=["generation", "partition", "position"],
    ),
    TableKind(
        name="queuedmessagesclients",
        create=[QUERIES["queuedmessagesclients_table"], QUERIES["queuedmessagesclients_index"]],
        columns=columns(
            "client_digest bytea, generation smallint, partition integer, position bigint, "
            "qos smallint, size bigint"
        ),
        key=["client_digest", "generation", "partition", "position"],
    ),
    TableKind(
        name="open_ids",
        create=[QUERIES["open_ids_table"]],
        columns=columns(
            "client_digest bytea, packet_id integer, generation smallint, partition integer, "
            "position bigint, client_id text, epoch bigint"
        ),
        key=["client_digest", "packet_id", "partition"],
    ),
    TableKind(
        name="inflight",
        create=[QUERIES["inflight_table"]],
        columns=columns(
            "client_digest bytea, packet_id integer, generation smallint, partition integer, "
            "position bigint, state smallint"
        ),
        key=["client_digest", "packet_id"],
    ),
    CUTS,
)

TABLES = {kind.name: kind for kind in KINDS}
"""Each of these kinds has one table, of the same name."""
