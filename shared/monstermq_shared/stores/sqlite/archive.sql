-- table --
-- The position is unique in its partition: equal timestamps survive, a repeated batch changes
-- nothing. In files of schema version 1 it is the key of the table, and of one partition only.
CREATE TABLE IF NOT EXISTS "{table}" (
    topic TEXT NOT NULL,
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
    payload TEXT AS (CASE WHEN is_text THEN CAST(payload_blob AS TEXT) END),
    payload_json TEXT AS (CASE WHEN json_valid(payload) THEN payload END),
    UNIQUE (position, partition, generation)
);

-- topic_time_index --
-- In the order of a history. Where the position is the table's key, SQLite adds it by itself.
CREATE INDEX IF NOT EXISTS "{table}_topic_time_idx" ON "{table}" (topic, time, position);

-- time_index --
CREATE INDEX IF NOT EXISTS "{table}_time_idx" ON "{table}" (time);

-- append --
INSERT INTO "{table}" (
    generation, partition,
    topic, time, payload_blob, is_text, qos, retained, client_id, message_uuid, position
)
VALUES {rows}
ON CONFLICT DO NOTHING;

-- get --
-- The number of a row that was purged may be given to another one.
SELECT {record}
FROM "{table}" WHERE rowid = ?1 AND message_uuid = ?2;

-- oldest_first --
-- From (time, position, row) ?3, ?4, ?5 on, up to time ?2. Columns as JSON arrays, see rows.py.
SELECT {page}, json_group_array(row), max(time)
FROM (
    SELECT
        {short_topic}, time, {payload_hex}, qos, retained,
        {short_client_id}, message_uuid, position, rowid AS row
    FROM "{table}"
    WHERE topic = ?1 AND time <= ?2 AND (time, position, rowid) > (?3, ?4, ?5)
    ORDER BY time, position, rowid LIMIT ?6
);

-- newest_first --
-- From (time, position, row) ?3, ?4, ?5 back, down to time ?2. Columns as JSON arrays, see rows.py.
SELECT {page}, json_group_array(row), min(time)
FROM (
    SELECT
        {short_topic}, time, {payload_hex}, qos, retained,
        {short_client_id}, message_uuid, position, rowid AS row
    FROM "{table}"
    WHERE topic = ?1 AND time >= ?2 AND (time, position, rowid) < (?3, ?4, ?5)
    ORDER BY time DESC, position DESC, rowid DESC LIMIT ?6
);

-- oldest --
SELECT unixepoch(substr(time, 1, 19)) * 1000 + substr(time, 21, 3)
FROM "{table}" ORDER BY time LIMIT 1;

-- purge_oldest --
DELETE FROM "{table}" WHERE rowid IN (SELECT rowid FROM "{table}" ORDER BY time LIMIT ?1);

-- purge --
DELETE FROM "{table}" WHERE rowid IN (
    SELECT rowid FROM "{table}" WHERE time < ?1 ORDER BY time LIMIT ?2
);
