-- cuts_table --
-- What a partition's rows reflect of a client's subscriptions, and how much waits for it there. The
-- newest markers are found by their time without its being in the way of the key: while the table is
-- empty, any index that begins as the key does would seem as good.
CREATE TABLE cuts (
    client_digest bytea NOT NULL,
    client_id text COLLATE "C" NOT NULL,
    generation smallint NOT NULL,
    partition integer NOT NULL,
    epoch bigint NOT NULL,
    position bigint NOT NULL,
    incarnation bigint NOT NULL,
    subscriptions json NOT NULL,
    marked_at timestamptz NOT NULL,
    queued_messages bigint NOT NULL DEFAULT 0,
    queued_size bigint NOT NULL DEFAULT 0,
    oldest timestamptz,
    PRIMARY KEY (generation, partition, client_digest)
) WITH (fillfactor = 70);

-- cuts_marked_index --
CREATE INDEX ON cuts (marked_at, generation, partition);

-- cuts_queued_index --
-- Only what is near its limit is counted there, so there are few.
CREATE INDEX ON cuts (generation, client_digest) WHERE queued_messages > 0;

-- delete_below --
-- Deletes links of clients between two positions, up to $6 in all, those of each client in order.
-- Returns what went, and up to where.
WITH links AS (
    DELETE FROM queuedmessagesclients WHERE ctid = ANY(ARRAY(
        SELECT link.ctid
        FROM unnest($1::bytea[], $2::bigint[], $3::bigint[]) AS client (digest, after, below)
        CROSS JOIN LATERAL (
            SELECT ctid FROM queuedmessagesclients
            WHERE client_digest = client.digest AND generation = $4 AND partition = $5
            AND position > client.after AND position < client.below
            ORDER BY position LIMIT $6
        ) AS link
        LIMIT $6
    ))
    RETURNING client_digest, position, size
)
SELECT client_digest, count(*) AS messages, sum(size)::bigint AS size,
    min(position) AS first, max(position) AS last
FROM links GROUP BY client_digest;

-- messages_there --
SELECT message.position FROM unnest($1::bigint[]) AS new (position)
CROSS JOIN LATERAL (
    SELECT position FROM queuedmessages
    WHERE generation = $2 AND partition = $3 AND position = new.position OFFSET 0
) AS message;

-- links_there --
SELECT link.client_digest, link.position
FROM unnest($1::bytea[], $2::bigint[]) AS new (client_digest, position)
CROSS JOIN LATERAL (
    SELECT client_digest, position FROM queuedmessagesclients
    WHERE client_digest = new.client_digest AND generation = $3 AND partition = $4
    AND position = new.position OFFSET 0
) AS link;

-- put_open_ids --
INSERT INTO open_ids (client_digest, client_id, packet_id, position, epoch, generation, partition)
SELECT client_digest, client_id, packet_id, position, epoch, $6, $7
FROM unnest($1::bytea[], $2::text[], $3::integer[], $4::bigint[], $5::bigint[])
AS new (client_digest, client_id, packet_id, position, epoch)
ON CONFLICT (client_digest, packet_id, partition) DO UPDATE SET
    client_id = excluded.client_id, position = excluded.position, epoch = excluded.epoch,
    generation = excluded.generation;

-- put_cuts --
INSERT INTO cuts (
    client_digest, client_id, epoch, position, incarnation, subscriptions, marked_at, generation,
    partition
)
SELECT
    client_digest, client_id, epoch, position, incarnation, subscriptions,
    to_timestamp(marked_ms / 1000), $8, $9
FROM unnest(
    $1::bytea[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::json[], $7::float8[]
) AS new (client_digest, client_id, epoch, position, incarnation, subscriptions, marked_ms)
ON CONFLICT (generation, partition, client_digest) DO UPDATE SET
    epoch = excluded.epoch,
    position = excluded.position,
    incarnation = excluded.incarnation,
    subscriptions = excluded.subscriptions,
    marked_at = excluded.marked_at;

-- delete_cuts --
DELETE FROM cuts WHERE ctid = ANY(ARRAY(
    SELECT stored.ctid FROM unnest($1::bytea[]) AS gone (client_digest)
    CROSS JOIN LATERAL (
        SELECT ctid FROM cuts
        WHERE generation = $2 AND partition = $3 AND client_digest = gone.client_digest OFFSET 0
    ) AS stored
));

-- put_counts --
-- Of the clients that have a cut.
UPDATE cuts SET
    queued_messages = ($2::bigint[])[array_position($1::bytea[], client_digest)],
    queued_size = ($3::bigint[])[array_position($1::bytea[], client_digest)],
    oldest = to_timestamp(($4::float8[])[array_position($1::bytea[], client_digest)] / 1000)
WHERE ctid = ANY(ARRAY(
    SELECT stored.ctid FROM unnest($1::bytea[]) AS counted (client_digest)
    CROSS JOIN LATERAL (
        SELECT ctid FROM cuts
        WHERE generation = $5 AND partition = $6 AND client_digest = counted.client_digest OFFSET 0
    ) AS stored
));

-- by_block --
-- Until the end of the transaction, what is read as a whole is read in the order in which it lies: in
-- that of a key, each row of a table that does not fit into memory would be a block to be fetched.
SET LOCAL enable_bitmapscan = on;
SET LOCAL enable_indexscan = off;

-- load_cuts --
-- All of a partition. There may be millions: extract would reckon in numeric, which takes a quarter
-- of the time.
SELECT
    client_digest, client_id, epoch, position, incarnation, subscriptions,
    (date_part('epoch', marked_at) * 1000)::bigint AS marked_ms
FROM cuts WHERE generation = $1 AND partition = $2;

-- open_ids --
SELECT client_id, packet_id, position, epoch FROM open_ids
WHERE generation = $1 AND partition = $2 AND client_id IS NOT NULL;

-- load_counts --
-- What waits for each client.
SELECT
    queue.client_digest, queue.messages, queue.size,
    (extract(epoch FROM message.time) * 1000)::bigint AS oldest_ms
FROM (
    SELECT client_digest, count(*) AS messages, sum(size)::bigint AS size, min(position) AS first
    FROM queuedmessagesclients WHERE generation = $1 AND partition = $2 GROUP BY client_digest
) AS queue
LEFT JOIN LATERAL (
    SELECT time FROM queuedmessages
    WHERE generation = $1 AND partition = $2 AND position = queue.first OFFSET 0
) AS message ON true;

-- fences --
SELECT client_id, epoch, (extract(epoch FROM marked_at) * 1000)::bigint AS marked_ms FROM cuts
WHERE marked_at >= to_timestamp($3::float8 / 1000) AND generation = $1 AND partition = $2
ORDER BY marked_at;

-- in_order --
-- Until the end of the transaction, what is asked for in an order is read from an index that has it.
-- Of a table that nobody has analysed the planner believes that a partition has one row: it would
-- read all of it, and sort.
SET LOCAL enable_sort = off;

-- pages --
-- A page for each ask, with the cut that says what it reflects. One statement sees one moment. Of
-- each one row more is looked at, for whether there is more; the last three columns are the QoS of
-- the delivery, how many rows were found, and which of them this is. Messages that are not there
-- (only another hand can have taken them) are passed over.
SELECT ask.number, cut.epoch, cut.at, page.*
FROM unnest($1::bytea[], $2::integer[], $3::bigint[], $4::bigint[], $5::integer[])
    WITH ORDINALITY AS ask (digest, partition, first, before, rows_max, number)
LEFT JOIN LATERAL (
    SELECT epoch, position AS at FROM cuts
    WHERE generation = $6 AND partition = ask.partition AND client_digest = ask.digest OFFSET 0
) AS cut ON true
LEFT JOIN LATERAL (
    SELECT {record}, delivery_qos, found, place FROM (
        SELECT
            *, count(*) OVER () AS found, row_number() OVER by_position AS place,
            sum(size) OVER (by_position ROWS UNBOUNDED PRECEDING) - size AS size_before
        FROM (
            SELECT link.position, link.qos AS delivery_qos, link.size, message.*
            FROM queuedmessagesclients AS link
            CROSS JOIN LATERAL (
                SELECT topic, time, payload AS payload_blob, qos, retained, client_id, message_uuid
                FROM queuedmessages
                WHERE generation = $6 AND partition = ask.partition
                AND position = link.position OFFSET 0
            ) AS message
            WHERE link.client_digest = ask.digest AND link.generation = $6
            AND link.partition = ask.partition
            AND link.position >= ask.first AND link.position < ask.before
            ORDER BY link.position LIMIT ask.rows_max + 1
        ) AS link
        WINDOW by_position AS (ORDER BY position)
    ) AS link
    WHERE place <= ask.rows_max AND size_before < $7
) AS page ON true
ORDER BY ask.number, page.place;

-- kept --
-- Sessions of partitions of the sessions log, with how far its worker has come in each; there is a row
-- for each client asked for, those of a partition together.
SELECT
    client.partition, mark.reflected, mark.restart, session.client_id, session.epoch, session.incarnation,
    session.expiry_s, session.connected, session.sent,
    (
        SELECT json_agg(json_build_array(array_to_string(topic, '/'), qos, options))
        FROM subscriptions WHERE client_digest = session.client_digest
    ) AS subscriptions,
    (
        SELECT json_agg(json_build_array(packet_id, partition, position))
        FROM inflight WHERE client_digest = session.client_digest AND state IS NULL
    ) AS opened
FROM unnest($1::bytea[], $2::integer[]) WITH ORDINALITY AS client (digest, partition, number)
LEFT JOIN LATERAL (
    SELECT reflected, restart FROM watermarks
    WHERE projection = $4 AND generation = $3 AND partition = client.partition
    AND reflected IS NOT NULL OFFSET 0
) AS mark ON true
LEFT JOIN LATERAL (
    SELECT * FROM sessions
    WHERE client_digest = client.digest AND generation = $3 AND partition = client.partition
    AND epoch IS NOT NULL OFFSET 0
) AS session ON true
ORDER BY client.number;

-- old_cuts --
SELECT ended.number, cut.partition
FROM unnest($1::bytea[], $2::bigint[]) WITH ORDINALITY AS ended (digest, epoch, number)
CROSS JOIN LATERAL (
    SELECT DISTINCT partition FROM watermarks WHERE projection = $4 AND generation = $3
) AS queue
CROSS JOIN LATERAL (
    SELECT partition, epoch FROM cuts
    WHERE generation = $3 AND partition = queue.partition AND client_digest = ended.digest OFFSET 0
) AS cut
WHERE cut.epoch < ended.epoch
ORDER BY ended.number, cut.partition;

-- queue_totals --
SELECT
    client_id, partition, queued_messages, queued_size,
    coalesce((extract(epoch FROM oldest) * 1000)::bigint, -1) AS oldest_ms
FROM (
    SELECT
        *, sum(queued_messages) OVER client AS messages, sum(queued_size) OVER client AS size
    FROM cuts WHERE generation = $1 AND queued_messages > 0
    WINDOW client AS (PARTITION BY client_digest)
) AS counted
WHERE messages > $2 OR size > $3;

-- oldest_rows --
-- For each ask the position behind the oldest rows of a client in a partition, and how many they are.
SELECT ask.number, oldest.below, oldest.messages
FROM unnest($1::bytea[], $2::integer[], $3::integer[])
    WITH ORDINALITY AS ask (digest, partition, rows_max, number)
CROSS JOIN LATERAL (
    SELECT max(position) + 1 AS below, count(*) AS messages FROM (
        SELECT position FROM queuedmessagesclients
        WHERE client_digest = ask.digest AND generation = $4 AND partition = ask.partition
        ORDER BY position LIMIT ask.rows_max
    ) AS link
) AS oldest
ORDER BY ask.number;

-- sweep --
-- Of the next $5 messages from one position on and below another, deletes those that nobody waits
-- for. Returns how many went, how many there were, and the last of them.
WITH looked AS (
    SELECT ctid, position FROM queuedmessages
    WHERE generation = $1 AND partition = $2 AND position >= $3 AND position < $4
    ORDER BY position LIMIT $5
), gone AS (
    DELETE FROM queuedmessages WHERE ctid = ANY(ARRAY(
        SELECT looked.ctid FROM looked
        WHERE NOT EXISTS (
            SELECT FROM queuedmessagesclients AS link
            WHERE link.position BETWEEN looked.position AND looked.position
            AND link.generation = $1 AND link.partition = $2
            ORDER BY link.position OFFSET 0
        )
    ))
    RETURNING position
)
SELECT (SELECT count(*) FROM gone) AS gone, count(*) AS looked, max(position) AS last FROM looked;

-- kept_totals --
-- Read as a whole, so without the settings that are best for pages.
SELECT
    (SELECT count(*) FROM sessions AS session JOIN generations AS log ON number = session.generation
        WHERE log.generation = $2 AND session.expiry_s > 0) AS sessions,
    (SELECT count(*) FROM sessions AS session JOIN generations AS log ON number = session.generation
        WHERE log.generation = $2 AND session.expiry_s > 0 AND session.connected) AS connected,
    count(*) AS queues, coalesce(sum(messages), 0)::bigint AS messages,
    coalesce(sum(size), 0)::bigint AS size
FROM (
    SELECT count(*) AS messages, sum(size) AS size FROM queuedmessagesclients AS link
    JOIN generations AS log ON number = link.generation
    WHERE log.generation = $1 GROUP BY client_digest
) AS queue;
