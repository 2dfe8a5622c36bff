-- table --
-- WITHOUT ROWID: the topic is the table's own order, so a first ingest writes one tree and a page
-- of topics is one stretch of it. The original's columns that follow from others are generated
-- when somebody selects them: they cost nothing to write. The levels of a topic are its JSON text
-- with every slash turned into a border between two strings.
--
-- The original's index on (topic_1 .. topic_9, topic_r) is left out: it would be as large as the
-- table, and for a filter it finds nothing that the range of topics below the filter's literal
-- prefix does not find as well.
CREATE TABLE IF NOT EXISTS "{table}" (
    topic TEXT PRIMARY KEY,
    time TEXT NOT NULL,
    payload_blob BLOB NOT NULL,
    is_text BOOLEAN NOT NULL,
    qos INTEGER NOT NULL,
    retained BOOLEAN NOT NULL,
    client_id TEXT NOT NULL,
    message_uuid TEXT NOT NULL,
    generation INTEGER NOT NULL DEFAULT 1,
    partition INTEGER NOT NULL DEFAULT 0,
    position INTEGER NOT NULL,
    properties TEXT,
    expires_at TEXT,
    levels TEXT AS ('[' || replace(json_quote(topic), '/', '","') || ']'),
    topic_1 TEXT AS (coalesce(json_extract(levels, '$[0]'), '')),
    topic_2 TEXT AS (coalesce(json_extract(levels, '$[1]'), '')),
    topic_3 TEXT AS (coalesce(json_extract(levels, '$[2]'), '')),
    topic_4 TEXT AS (coalesce(json_extract(levels, '$[3]'), '')),
    topic_5 TEXT AS (coalesce(json_extract(levels, '$[4]'), '')),
    topic_6 TEXT AS (coalesce(json_extract(levels, '$[5]'), '')),
    topic_7 TEXT AS (coalesce(json_extract(levels, '$[6]'), '')),
    topic_8 TEXT AS (coalesce(json_extract(levels, '$[7]'), '')),
    topic_9 TEXT AS (coalesce(json_extract(levels, '$[8]'), '')),
    topic_r TEXT AS (json_remove(
        levels, '$[0]', '$[0]', '$[0]', '$[0]', '$[0]', '$[0]', '$[0]', '$[0]', '$[0]'
    )),
    topic_l TEXT AS (json_extract(levels, '$[#-1]')),
    payload TEXT AS (CASE WHEN is_text THEN CAST(payload_blob AS TEXT) END),
    payload_json TEXT AS (CASE WHEN json_valid(payload) THEN payload END)
) WITHOUT ROWID;

-- upsert --
-- Positions can be compared only within a partition.
INSERT INTO "{table}" (
    generation, partition,
    topic, time, payload_blob, is_text, qos, retained, client_id, message_uuid, position
)
VALUES {rows}
ON CONFLICT (topic) DO UPDATE SET
    generation = excluded.generation,
    partition = excluded.partition,
    time = excluded.time,
    payload_blob = excluded.payload_blob,
    is_text = excluded.is_text,
    qos = excluded.qos,
    retained = excluded.retained,
    client_id = excluded.client_id,
    message_uuid = excluded.message_uuid,
    position = excluded.position
WHERE excluded.position > "{table}".position
    OR excluded.partition <> "{table}".partition
    OR excluded.generation <> "{table}".generation;

-- clear --
-- ?1 is a JSON array of topics; what is newer than the commit that clears them stays.
DELETE FROM "{table}"
WHERE topic IN (SELECT value FROM json_each(?1))
AND (position < ?4 OR partition <> ?3 OR generation <> ?2);

-- get --
SELECT {record}
FROM "{table}" WHERE topic = ?;

-- page --
-- Columns as JSON arrays, see rows.py.
SELECT {page}
FROM (
    SELECT
        {short_topic}, time, {payload_hex}, qos, retained,
        {short_client_id}, message_uuid, position
    FROM "{table}" WHERE topic >= ?1 AND topic < ?2 ORDER BY topic LIMIT ?3
);

-- topics --
SELECT json_group_array(short_topic)
FROM (SELECT {short_topic} FROM "{table}" WHERE topic >= ?1 AND topic < ?2 ORDER BY topic LIMIT ?3);

-- first --
-- For a topic that is left out of a page.
SELECT {record}
FROM "{table}" WHERE topic >= ?1 AND topic < ?2 ORDER BY topic LIMIT 1;

-- page_of_topics --
-- Like page, for the topics of a JSON array.
SELECT {page}
FROM (
    SELECT
        {short_topic}, time, {payload_hex}, qos, retained,
        {short_client_id}, message_uuid, position
    FROM "{table}" WHERE topic IN (SELECT value FROM json_each(?1)) ORDER BY topic LIMIT -1
);

-- count --
SELECT count(*) FROM "{table}";

-- topics_before --
-- Up to ?2 of them, unless their topics have more than ?3 bytes.
SELECT json_group_array(topic) FROM (
    SELECT topic, sum(length(CAST(topic AS BLOB))) OVER (ROWS UNBOUNDED PRECEDING) AS size
    FROM (SELECT topic FROM "{table}" WHERE time < ?1 LIMIT ?2)
) WHERE size <= ?3;

-- purge --
DELETE FROM "{table}" WHERE topic IN (SELECT value FROM json_each(?1)) AND time < ?2;
