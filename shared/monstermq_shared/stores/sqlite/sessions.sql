-- sessions_table --
CREATE TABLE IF NOT EXISTS sessions (
    client_id TEXT PRIMARY KEY,
    node_id TEXT NOT NULL DEFAULT 'N/A',
    clean_session BOOLEAN NOT NULL,
    connected BOOLEAN NOT NULL,
    update_time TEXT NOT NULL,
    information TEXT NOT NULL,
    last_will_topic TEXT,
    last_will_message BLOB,
    last_will_qos INTEGER,
    last_will_retain BOOLEAN,
    incarnation INTEGER NOT NULL,
    expiry_s INTEGER
) WITHOUT ROWID;

-- subscriptions_table --
-- The original's indexes by topic served its matching in SQL; matching is done in memory here.
CREATE TABLE IF NOT EXISTS subscriptions (
    client_id TEXT NOT NULL,
    topic TEXT NOT NULL,
    qos INTEGER NOT NULL,
    options INTEGER NOT NULL DEFAULT 0,
    subscription_id INTEGER,
    wildcard BOOLEAN AS (instr(topic, '+') > 0 OR instr(topic, '#') > 0),
    PRIMARY KEY (client_id, topic)
) WITHOUT ROWID;

-- queuedmessages_table --
-- One row per message, however many clients it waits for. The message_id is the original's, which
-- always has 0 there. In files of schema version 1 the position is the key of the table.
CREATE TABLE IF NOT EXISTS queuedmessages (
    generation INTEGER NOT NULL DEFAULT 1,
    partition INTEGER NOT NULL DEFAULT 0,
    position INTEGER NOT NULL,
    topic TEXT NOT NULL,
    time TEXT NOT NULL,
    payload BLOB NOT NULL,
    qos INTEGER NOT NULL,
    retained BOOLEAN NOT NULL,
    client_id TEXT NOT NULL,
    message_uuid TEXT NOT NULL,
    properties TEXT,
    expires_at TEXT,
    message_id INTEGER AS (0),
    UNIQUE (position, partition, generation)
);

-- queuedmessagesclients_table --
-- In files of schema version 1 the key is client_id and position.
CREATE TABLE IF NOT EXISTS queuedmessagesclients (
    client_id TEXT NOT NULL,
    generation INTEGER NOT NULL DEFAULT 1,
    partition INTEGER NOT NULL DEFAULT 0,
    position INTEGER NOT NULL,
    qos INTEGER NOT NULL,
    size INTEGER NOT NULL,
    PRIMARY KEY (client_id, generation, partition, position)
) WITHOUT ROWID;

-- queuedmessagesclients_index --
-- Answers whether anybody still waits for a message.
CREATE INDEX IF NOT EXISTS queuedmessagesclients_position_idx
ON queuedmessagesclients (position, partition, generation);

-- queues_table --
-- How long each queue is. Not in ``sessions``: a commit writes whole pages, and its rows are large.
CREATE TABLE IF NOT EXISTS queues (
    client_id TEXT PRIMARY KEY,
    messages INTEGER NOT NULL,
    size INTEGER NOT NULL
) WITHOUT ROWID;

-- open_ids_table --
CREATE TABLE IF NOT EXISTS open_ids (
    client_id TEXT NOT NULL,
    packet_id INTEGER NOT NULL,
    generation INTEGER NOT NULL DEFAULT 1,
    partition INTEGER NOT NULL DEFAULT 0,
    position INTEGER NOT NULL,
    PRIMARY KEY (client_id, packet_id)
) WITHOUT ROWID;

-- inflight_table --
CREATE TABLE IF NOT EXISTS inflight (
    client_id TEXT NOT NULL,
    packet_id INTEGER NOT NULL,
    generation INTEGER NOT NULL DEFAULT 1,
    partition INTEGER NOT NULL DEFAULT 0,
    position INTEGER NOT NULL,
    state INTEGER NOT NULL,
    PRIMARY KEY (client_id, packet_id)
) WITHOUT ROWID;

-- end_messages --
-- ?1 is a JSON array of clients. Deletes the messages that only they wait for; before end_links.
DELETE FROM queuedmessages
WHERE rowid IN (
    SELECT message.rowid
    FROM queuedmessagesclients AS link
    CROSS JOIN queuedmessages AS message
        ON message.generation = link.generation AND message.partition = link.partition
        AND message.position = link.position
    WHERE link.client_id IN (SELECT value FROM json_each(?1))
) AND NOT EXISTS (
    SELECT 1 FROM queuedmessagesclients AS others
    WHERE others.position = queuedmessages.position
    AND others.partition = queuedmessages.partition
    AND others.generation = queuedmessages.generation
    AND others.client_id NOT IN (SELECT value FROM json_each(?1))
);

-- end_links --
DELETE FROM queuedmessagesclients WHERE client_id IN (SELECT value FROM json_each(?1));

-- end_queues --
DELETE FROM queues WHERE client_id IN (SELECT value FROM json_each(?1));

-- end_subscriptions --
DELETE FROM subscriptions WHERE client_id IN (SELECT value FROM json_each(?1));

-- end_open_ids --
DELETE FROM open_ids WHERE client_id IN (SELECT value FROM json_each(?1));

-- end_inflight --
DELETE FROM inflight WHERE client_id IN (SELECT value FROM json_each(?1));

-- end_sessions --
DELETE FROM sessions WHERE client_id IN (SELECT value FROM json_each(?1));

-- put_sessions --
INSERT INTO sessions (
    client_id, clean_session, connected, update_time, information,
    last_will_topic, last_will_message, last_will_qos, last_will_retain, incarnation
)
VALUES {rows}
ON CONFLICT (client_id) DO UPDATE SET
    clean_session = excluded.clean_session,
    connected = excluded.connected,
    update_time = excluded.update_time,
    information = excluded.information,
    last_will_topic = excluded.last_will_topic,
    last_will_message = excluded.last_will_message,
    last_will_qos = excluded.last_will_qos,
    last_will_retain = excluded.last_will_retain,
    incarnation = excluded.incarnation;

-- put_subscriptions --
-- ?1 is JSON: client -> filter -> QoS.
INSERT INTO subscriptions (client_id, topic, qos)
SELECT client.key, item.key, item.value
FROM json_each(?1) AS client, json_each(client.value) AS item WHERE true
ON CONFLICT (client_id, topic) DO UPDATE SET qos = excluded.qos;

-- delete_subscriptions --
-- ?1 is JSON: client -> filters.
DELETE FROM subscriptions WHERE (client_id, topic) IN (
    SELECT client.key, item.value
    FROM json_each(?1) AS client, json_each(client.value) AS item
);

-- put_messages --
INSERT INTO queuedmessages (
    generation, partition, topic, time, payload, qos, retained, client_id, message_uuid, position
)
VALUES {rows}
ON CONFLICT DO NOTHING;

-- put_links --
-- ?1 is JSON: client -> position -> 4 * size + QoS, where the size is ``records.size_of``; ?2 and ?3
-- are generation and partition, as in all statements below.
INSERT INTO queuedmessagesclients (client_id, generation, partition, position, qos, size)
SELECT client.key, ?2, ?3, CAST(item.key AS INTEGER), item.value & 3, item.value >> 2
FROM json_each(?1) AS client, json_each(client.value) AS item WHERE true
ON CONFLICT DO NOTHING;

-- sizes_of_links --
-- ?1 is JSON: client -> positions. Returns JSON: client -> the bytes of them.
SELECT json_group_object(client_id, size) FROM (
    SELECT link.client_id, sum(link.size) AS size
    FROM json_each(?1) AS client, json_each(client.value) AS item
    CROSS JOIN queuedmessagesclients AS link
        ON link.client_id = client.key AND link.generation = ?2 AND link.partition = ?3
        AND link.position = item.value
    GROUP BY link.client_id
);

-- delete_links --
-- ?1 is JSON: client -> positions.
DELETE FROM queuedmessagesclients
WHERE generation = ?2 AND partition = ?3 AND (client_id, position) IN (
    SELECT client.key, item.value
    FROM json_each(?1) AS client, json_each(client.value) AS item
);

-- delete_messages --
-- ?1 as in delete_links: of these messages, delete those nobody waits for any more.
DELETE FROM queuedmessages
WHERE generation = ?2 AND partition = ?3 AND position IN (
    SELECT item.value FROM json_each(?1) AS client, json_each(client.value) AS item
) AND NOT EXISTS (
    SELECT 1 FROM queuedmessagesclients AS link
    WHERE link.position = queuedmessages.position AND link.partition = ?3 AND link.generation = ?2
);

-- oldest_links --
-- ?1 is JSON: client -> position. Returns for each client the next ?4 links after the position, as
-- JSON: client -> [positions, sizes].
SELECT json_group_object(key, json((
    SELECT json_array(json_group_array(position), json_group_array(size)) FROM (
        SELECT position, size FROM queuedmessagesclients
        WHERE client_id = client.key AND generation = ?2 AND partition = ?3
        AND position > client.value
        ORDER BY position LIMIT ?4
    )
))) FROM json_each(?1) AS client;

-- add_to_queues --
-- Rows of what each client has more than before.
INSERT INTO queues (client_id, messages, size) VALUES {rows}
ON CONFLICT (client_id) DO UPDATE SET
    messages = messages + excluded.messages, size = size + excluded.size;

-- count_queues --
-- ?1 is a JSON array of clients.
INSERT INTO queues (client_id, messages, size)
SELECT client.value, count(link.client_id), coalesce(sum(link.size), 0)
FROM json_each(?1) AS client
LEFT JOIN queuedmessagesclients AS link ON link.client_id = client.value
GROUP BY client.value
ON CONFLICT (client_id) DO UPDATE SET messages = excluded.messages, size = excluded.size;

-- put_open_ids --
-- ?1 is JSON: client -> packet id -> position.
INSERT INTO open_ids (client_id, packet_id, generation, partition, position)
SELECT client.key, CAST(item.key AS INTEGER), ?2, ?3, item.value
FROM json_each(?1) AS client, json_each(client.value) AS item WHERE true
ON CONFLICT (client_id, packet_id) DO UPDATE SET
    generation = excluded.generation, partition = excluded.partition, position = excluded.position;

-- delete_open_ids --
-- ?1 is JSON: client -> packet ids.
DELETE FROM open_ids WHERE (client_id, packet_id) IN (
    SELECT client.key, item.value
    FROM json_each(?1) AS client, json_each(client.value) AS item
);

-- put_inflight --
-- ?1 is JSON: client -> packet id -> [position, state].
INSERT INTO inflight (client_id, packet_id, generation, partition, position, state)
SELECT
    client.key, CAST(item.key AS INTEGER), ?2, ?3, item.value ->> 0, item.value ->> 1
FROM json_each(?1) AS client, json_each(client.value) AS item WHERE true
ON CONFLICT (client_id, packet_id) DO UPDATE SET
    generation = excluded.generation, partition = excluded.partition, position = excluded.position,
    state = excluded.state;

-- delete_inflight --
-- ?1 is JSON: client -> packet ids.
DELETE FROM inflight WHERE (client_id, packet_id) IN (
    SELECT client.key, item.value
    FROM json_each(?1) AS client, json_each(client.value) AS item
);

-- load_sessions --
-- The first ?2 after client ?1.
SELECT
    client_id, incarnation, clean_session, connected,
    unixepoch(substr(update_time, 1, 19)) * 1000 + substr(update_time, 21, 3),
    information, last_will_topic, last_will_message, last_will_qos, last_will_retain,
    coalesce(messages, 0), coalesce(size, 0)
FROM sessions LEFT JOIN queues USING (client_id)
WHERE client_id > ?1 ORDER BY client_id LIMIT ?2;

-- load_subscriptions --
-- Of the clients after ?1 and before ?2; as those below.
SELECT client_id, topic, qos FROM subscriptions
WHERE client_id > ?1 AND client_id < ?2 LIMIT ?3;

-- load_open_ids --
SELECT client_id, packet_id, position FROM open_ids
WHERE client_id > ?1 AND client_id < ?2 LIMIT ?3;

-- load_inflight --
SELECT client_id, packet_id, position, state FROM inflight
WHERE client_id > ?1 AND client_id < ?2 LIMIT ?3;

-- get_message --
SELECT {record}
FROM (SELECT *, payload AS payload_blob FROM queuedmessages)
WHERE generation = (SELECT number FROM generations WHERE generation = ?1)
AND partition = ?2 AND position = ?3;

-- page --
-- Columns as JSON arrays, see rows.py; the last one is the QoS of the delivery.
SELECT {page},
    json_group_array(delivery_qos)
FROM (
    SELECT
        {short_topic}, message.time, {payload_hex}, message.qos,
        message.retained, short_client_id, message.message_uuid, message.position,
        link.qos AS delivery_qos
    FROM queuedmessagesclients AS link
    CROSS JOIN (
        SELECT *, payload AS payload_blob, {short_client_id} FROM queuedmessages
    ) AS message
        ON message.generation = link.generation AND message.partition = link.partition
        AND message.position = link.position
    WHERE link.client_id = ?3
    AND link.generation = (SELECT number FROM generations WHERE generation = ?1)
    AND link.partition = ?2
    AND link.position > ?4 AND link.position < ?5
    ORDER BY link.position LIMIT ?6
);
