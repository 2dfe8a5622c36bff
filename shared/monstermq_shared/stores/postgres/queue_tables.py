"""The table of cuts, which only a shared log has, and the statements on queues there."""

from monstermq_shared.stores.postgres.rows import FRAGMENTS
from monstermq_shared.stores.postgres.tables import TableKind, columns
from monstermq_shared.stores.sql import fill_in, load_queries

QUERIES = fill_in(load_queries(__package__, "queues.sql"), FRAGMENTS)

CUTS = TableKind(
    name="cuts",
    create=[QUERIES["cuts_table"], QUERIES["cuts_marked_index"], QUERIES["cuts_queued_index"]],
    columns=columns(
        "client_digest bytea, client_id text, generation smallint, partition integer, "
        "epoch bigint, position bigint, incarnation bigint, subscriptions json, "
        "marked_at timestamp with time zone, queued_messages bigint, queued_size bigint, "
        "oldest timestamp with time zone"
    ),
    key=["generation", "partition", "client_digest"],
)
