-- sessions_table --
-- A client id may have 65,535 bytes, which no index takes: the key of all these tables is a digest
-- of it. What waits for a session is counted as it comes and goes, so that a start reads one row a
-- session, however long its queue is. Rows change often, in place if there is room on their page.
-- Generation and partition are those of the log that the row was made from.
CREATE TABLE sessions (
    client_id text COLLATE "C" NOT NULL,
    node_id text COLLATE "C" NOT NULL DEFAULT 'N/A',
    clean_session boolean NOT NULL,
    connected boolean NOT NULL,
    update_time timestamptz NOT NULL,
    information jsonb NOT NULL,
    last_will_topic text COLLATE "C",
    last_will_message bytea,
    last_will_qos smallint,
    last_will_retain boolean,
    incarnation bigint NOT NULL,
    queued_messages bigint NOT NULL DEFAULT 0,
    queued_size bigint NOT NULL DEFAULT 0,
    expiry_s bigint,
    client_digest bytea PRIMARY KEY,
    generation smallint NOT NULL DEFAULT 1,
    partition integer NOT NULL DEFAULT 0,
    epoch bigint,
    run text COLLATE "C" NOT NULL DEFAULT '',
    sent json
) WITH (fillfactor = 50);

-- subscriptions_table --
-- The topic is the filter, level by level, as in the original. Its indexes by topic served its
-- matching in SQL; matching is done in memory here.
CREATE TABLE subscriptions (
    client_id text COLLATE "C" NOT NULL,
    topic text[] COLLATE "C" NOT NULL,
    qos smallint NOT NULL,
    wildcard boolean NOT NULL GENERATED ALWAYS AS ('+' = ANY(topic) OR '#' = ANY(topic)) STORED,
    options smallint NOT NULL DEFAULT 0,
    subscription_id integer,
    client_digest bytea NOT NULL,
    topic_digest bytea NOT NULL,
    PRIMARY KEY (client_digest, topic_digest)
);

-- queuedmessages_table --
-- One row per message, however many clients it waits for. The message_id is the original's, which
-- always has 0 there.
CREATE TABLE queuedmessages (
    message_uuid varchar(36) COLLATE "C" NOT NULL,
    message_id integer NOT NULL DEFAULT 0,
    topic text COLLATE "C" NOT NULL,
    time timestamptz NOT NULL,
    payload bytea NOT NULL,
    qos smallint NOT NULL,
    retained boolean NOT NULL,
    client_id text COLLATE "C" NOT NULL,
    generation smallint NOT NULL,
    partition integer NOT NULL,
    position bigint NOT NULL,
    properties jsonb,
    expires_at timestamptz,
    PRIMARY KEY (generation, partition, position)
);

-- queuedmessagesclients_table --
-- Which clients a message waits for. One row per delivery, so it names neither the client nor the
-- message in full: a client id of 65,535 bytes would be there as often as messages wait.
CREATE TABLE queuedmessagesclients (
    client_digest bytea NOT NULL,
    generation smallint NOT NULL,
    partition integer NOT NULL,
    position bigint NOT NULL,
    qos smallint NOT NULL,
    size bigint NOT NULL,
    PRIMARY KEY (client_digest, generation, partition, position)
);

-- queuedmessagesclients_index --
-- Answers whether anybody still waits for a message.
CREATE INDEX ON queuedmessagesclients (position);

-- open_ids_table --
-- The last two are of rows that several processes read: those of the queues on a shared log.
CREATE TABLE open_ids (
    client_digest bytea NOT NULL,
    packet_id integer NOT NULL,
    generation smallint NOT NULL,
    partition integer NOT NULL,
    position bigint NOT NULL,
    client_id text COLLATE "C",
    epoch bigint,
    PRIMARY KEY (client_digest, packet_id, partition)
);

-- inflight_table --
-- Rows without a state are those of a sessions log: their position is one of the bus, and NULL for a
-- retained message.
CREATE TABLE inflight (
    client_digest bytea NOT NULL,
    packet_id integer NOT NULL,
    generation smallint NOT NULL,
    partition integer,
    position bigint,
    state smallint,
    PRIMARY KEY (client_digest, packet_id)
);

-- end_queues --
-- Here and below, what is to be changed is looked up row by row, each by its whole key (OFFSET 0
-- keeps a subquery a subquery): before anybody has analysed a table, the planner would rather read
-- all of a partition, and compare that with what is to be changed. Whether others wait for a
-- message is asked in order of position, which only the index by position has: while a table is
-- empty, reading all of its key would seem to cost no more, and that plan would be kept.
--
-- Deletes up to $2 links of the clients, of all partitions, and the messages that nobody else waits
-- for. Returns how many links there were.
WITH links AS (
    DELETE FROM queuedmessagesclients WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM queuedmessagesclients WHERE client_digest = ANY($1::bytea[]) LIMIT $2
    ))
    RETURNING generation, partition, position
), messages AS (
    DELETE FROM queuedmessages WHERE ctid = ANY(ARRAY(
        SELECT message.ctid FROM links
        CROSS JOIN LATERAL (
            SELECT ctid FROM queuedmessages
            WHERE generation = links.generation AND partition = links.partition
            AND position = links.position OFFSET 0
        ) AS message
        WHERE NOT EXISTS (
            SELECT FROM queuedmessagesclients AS other
            WHERE other.position BETWEEN links.position AND links.position
            AND other.generation = links.generation AND other.partition = links.partition
            AND other.client_digest <> ALL($1::bytea[])
            ORDER BY other.position OFFSET 0
        )
    ))
)
SELECT count(*) FROM links;

-- end_subscriptions --
DELETE FROM subscriptions WHERE client_digest = ANY($1::bytea[]);

-- end_open_ids --
DELETE FROM open_ids WHERE client_digest = ANY($1::bytea[]);

-- end_inflight --
DELETE FROM inflight WHERE client_digest = ANY($1::bytea[]);

-- end_sessions --
DELETE FROM sessions WHERE client_digest = ANY($1::bytea[]);

-- put_sessions --
INSERT INTO sessions (
    client_digest, client_id, clean_session, connected, update_time, information,
    last_will_topic, last_will_message, last_will_qos, last_will_retain, incarnation, epoch, run,
    expiry_s, sent, generation, partition
)
SELECT
    client_digest, client_id, clean, connected, to_timestamp(updated_ms / 1000), information,
    will_topic, will_payload, will_qos, will_retain, incarnation, epoch, run, expiry_s,
    sent, $16, $17
FROM unnest(
    $1::bytea[], $2::text[], $3::boolean[], $4::boolean[], $5::float8[], $6::jsonb[], $7::text[],
    $8::bytea[], $9::smallint[], $10::boolean[], $11::bigint[], $12::bigint[], $13::text[],
    $14::bigint[], $15::json[]
) AS new (
    client_digest, client_id, clean, connected, updated_ms, information, will_topic, will_payload,
    will_qos, will_retain, incarnation, epoch, run, expiry_s, sent
)
ON CONFLICT (client_digest) DO UPDATE SET
    clean_session = excluded.clean_session,
    connected = excluded.connected,
    update_time = excluded.update_time,
    information = excluded.information,
    last_will_topic = excluded.last_will_topic,
    last_will_message = excluded.last_will_message,
    last_will_qos = excluded.last_will_qos,
    last_will_retain = excluded.last_will_retain,
    incarnation = excluded.incarnation,
    epoch = excluded.epoch,
    run = excluded.run,
    expiry_s = excluded.expiry_s,
    sent = excluded.sent,
    generation = excluded.generation,
    partition = excluded.partition;

-- put_subscriptions --
INSERT INTO subscriptions (client_digest, topic_digest, client_id, topic, qos)
SELECT client_digest, topic_digest, client_id, string_to_array(topic_filter, '/'), qos
FROM unnest($1::bytea[], $2::bytea[], $3::text[], $4::text[], $5::smallint[])
AS new (client_digest, topic_digest, client_id, topic_filter, qos)
ON CONFLICT (client_digest, topic_digest) DO UPDATE SET qos = excluded.qos;

-- delete_subscriptions --
DELETE FROM subscriptions WHERE ctid = ANY(ARRAY(
    SELECT stored.ctid FROM unnest($1::bytea[], $2::bytea[]) AS gone (client_digest, topic_digest)
    CROSS JOIN LATERAL (
        SELECT ctid FROM subscriptions
        WHERE client_digest = gone.client_digest AND topic_digest = gone.topic_digest OFFSET 0
    ) AS stored
));

-- add_messages --
-- For messages of which some may be there; all others are copied.
INSERT INTO queuedmessages (
    topic, time, payload, qos, retained, client_id, message_uuid, position, generation, partition
)
SELECT
    topic, to_timestamp(time_ms / 1000), payload, qos, retained, client_id, id, position, $9, $10
FROM unnest(
    $1::text[], $2::float8[], $3::bytea[], $4::smallint[], $5::boolean[], $6::text[], $7::text[],
    $8::bigint[]
) AS new (topic, time_ms, payload, qos, retained, client_id, id, position)
ON CONFLICT (generation, partition, position) DO NOTHING;

-- add_links --
-- For links of which some may be there. The messages are there already. Returns what came to the
-- queue of each client.
WITH links AS (
    INSERT INTO queuedmessagesclients (client_digest, generation, partition, position, qos, size)
    SELECT new.client_digest, $4, $5, new.position, new.qos, message.size
    FROM unnest($1::bytea[], $2::bigint[], $3::smallint[]) AS new (client_digest, position, qos)
    CROSS JOIN LATERAL (
        SELECT octet_length(topic) + octet_length(client_id) + octet_length(payload) AS size
        FROM queuedmessages
        WHERE generation = $4 AND partition = $5 AND position = new.position OFFSET 0
    ) AS message
    ON CONFLICT (client_digest, generation, partition, position) DO NOTHING
    RETURNING client_digest, size
)
SELECT client_digest, count(*) AS messages, sum(size)::bigint AS size
FROM links GROUP BY client_digest;

-- count_queued --
-- Adds to what is counted of queues. Returns the clients that there are.
UPDATE sessions SET
    queued_messages = queued_messages
        + ($2::bigint[])[array_position($1::bytea[], client_digest)],
    queued_size = queued_size + ($3::bigint[])[array_position($1::bytea[], client_digest)]
WHERE client_digest = ANY($1::bytea[])
RETURNING client_digest;

-- delete_links --
-- Returns what went of the queue of each client.
WITH links AS (
    DELETE FROM queuedmessagesclients WHERE ctid = ANY(ARRAY(
        SELECT link.ctid FROM unnest($1::bytea[], $2::bigint[]) AS gone (client_digest, position)
        CROSS JOIN LATERAL (
            SELECT ctid FROM queuedmessagesclients
            WHERE client_digest = gone.client_digest AND generation = $3 AND partition = $4
            AND position = gone.position OFFSET 0
        ) AS link
    ))
    RETURNING client_digest, size
)
SELECT client_digest, count(*) AS messages, sum(size)::bigint AS size
FROM links GROUP BY client_digest;

-- delete_messages --
-- Of these messages, delete those that nobody waits for any more.
DELETE FROM queuedmessages WHERE ctid = ANY(ARRAY(
    SELECT message.ctid FROM unnest($1::bigint[]) AS gone (position)
    CROSS JOIN LATERAL (
        SELECT ctid FROM queuedmessages
        WHERE generation = $2 AND partition = $3 AND position = gone.position OFFSET 0
    ) AS message
    WHERE NOT EXISTS (
        SELECT FROM queuedmessagesclients AS link
        WHERE link.position BETWEEN gone.position AND gone.position
        AND link.generation = $2 AND link.partition = $3
        ORDER BY link.position OFFSET 0
    )
));

-- oldest_links --
-- The next $5 links of each client after a position.
SELECT number, link.position, link.size
FROM unnest($1::bytea[], $2::bigint[]) WITH ORDINALITY AS client (digest, after, number)
CROSS JOIN LATERAL (
    SELECT position, size FROM queuedmessagesclients
    WHERE client_digest = digest AND generation = $3 AND partition = $4 AND position > after
    ORDER BY position LIMIT $5
) AS link
ORDER BY number, link.position;

-- put_open_ids --
INSERT INTO open_ids (client_digest, packet_id, position, generation, partition)
SELECT client_digest, packet_id, position, $4, $5
FROM unnest($1::bytea[], $2::integer[], $3::bigint[]) AS new (client_digest, packet_id, position)
ON CONFLICT (client_digest, packet_id, partition) DO UPDATE SET
    position = excluded.position, generation = excluded.generation, client_id = NULL, epoch = NULL;

-- delete_open_ids --
DELETE FROM open_ids WHERE ctid = ANY(ARRAY(
    SELECT stored.ctid FROM unnest($1::bytea[], $2::integer[]) AS gone (client_digest, packet_id)
    CROSS JOIN LATERAL (
        SELECT ctid FROM open_ids
        WHERE client_digest = gone.client_digest AND packet_id = gone.packet_id
        AND partition = $3 OFFSET 0
    ) AS stored
));

-- put_inflight --
INSERT INTO inflight (client_digest, packet_id, position, state, generation, partition)
SELECT client_digest, packet_id, position, state, $5, $6
FROM unnest($1::bytea[], $2::integer[], $3::bigint[], $4::smallint[])
AS new (client_digest, packet_id, position, state)
ON CONFLICT (client_digest, packet_id) DO UPDATE SET
    position = excluded.position, state = excluded.state,
    generation = excluded.generation, partition = excluded.partition;

-- put_opened --
-- Partition and position are of the bus; the generation is that of the sessions log.
INSERT INTO inflight (client_digest, packet_id, partition, position, generation)
SELECT client_digest, packet_id, partition, position, $5
FROM unnest($1::bytea[], $2::integer[], $3::integer[], $4::bigint[])
AS new (client_digest, packet_id, partition, position)
ON CONFLICT (client_digest, packet_id) DO UPDATE SET
    partition = excluded.partition, position = excluded.position, state = NULL,
    generation = excluded.generation;

-- delete_inflight --
DELETE FROM inflight WHERE ctid = ANY(ARRAY(
    SELECT stored.ctid FROM unnest($1::bytea[], $2::integer[]) AS gone (client_digest, packet_id)
    CROSS JOIN LATERAL (
        SELECT ctid FROM inflight
        WHERE client_digest = gone.client_digest AND packet_id = gone.packet_id OFFSET 0
    ) AS stored
));

-- load_sessions --
-- The next sessions after a client's digest, in that order.
SELECT
    client_digest, client_id, incarnation, clean_session, connected,
    (extract(epoch FROM update_time) * 1000)::bigint AS updated_ms, information,
    last_will_topic, last_will_message, last_will_qos, last_will_retain,
    queued_messages, queued_size, epoch, run, expiry_s, sent
FROM sessions WHERE client_digest > $1 AND generation = $3 AND partition = $4
ORDER BY client_digest LIMIT $2;

-- load_subscriptions --
-- What belongs to clients from after one digest up to another, but for those of other partitions.
SELECT client_digest, array_to_string(topic, '/'), qos
FROM subscriptions AS mine WHERE client_digest > $1 AND client_digest <= $2 AND {here};

-- load_open_ids --
SELECT client_digest, packet_id, position
FROM open_ids AS mine
WHERE client_digest > $1 AND client_digest <= $2 AND partition = $4 AND client_id IS NULL AND {here};

-- load_inflight --
SELECT client_digest, packet_id, partition, position, state
FROM inflight AS mine
WHERE client_digest > $1 AND client_digest <= $2 AND (state IS NULL OR partition = $4) AND {here};

-- page --
-- The last two columns are the QoS of the delivery and the size of the record.
SELECT {record}, delivery_qos, size FROM (
    SELECT
        position, delivery_qos, size,
        sum(size) OVER (ORDER BY position ROWS UNBOUNDED PRECEDING) - size AS size_before
    FROM (
        SELECT position, qos AS delivery_qos, size FROM queuedmessagesclients
        WHERE client_digest = $1 AND generation = $2 AND partition = $3
        AND position > $4 AND position < $5
        ORDER BY position LIMIT $6
    ) AS link
) AS page
CROSS JOIN LATERAL (
    SELECT topic, time, payload AS payload_blob, qos, retained, client_id, message_uuid
    FROM queuedmessages
    WHERE generation = $2 AND partition = $3 AND queuedmessages.position = page.position OFFSET 0
) AS message
WHERE size_before < $7 ORDER BY position;

-- clients_by_run --
SELECT run, count(*) AS clients FROM sessions
JOIN generations ON number = sessions.generation
WHERE generations.generation = $1 AND connected GROUP BY run;
