-- table --
-- The position is the key: equal timestamps survive, a repeated batch changes nothing, and rows
-- are appended at the end of the tree. (One database holds one generation of one partition, so the
-- offset alone is unique.)
CREATE TABLE IF NOT EXISTS "{table}" (
    topic TEXT NOT NULL,
    time TEXT NOT NULL,
    payload_blob BLOB NOT NULL,
    is_text BOOLEAN NOT NULL,
    qos INTEGER NOT NULL,
    retained BOOLEAN NOT NULL,
    client_id TEXT NOT NULL,
    message_uuid TEXT NOT NULL,
    position INTEGER PRIMARY KEY,
    payload TEXT AS (CASE WHEN is_text THEN CAST(payload_blob AS TEXT) END),
    payload_json TEXT AS (CASE WHEN json_valid(payload) THEN payload END)
);

-- topic_time_index --
CREATE INDEX IF NOT EXISTS "{table}_topic_time_idx" ON "{table}" (topic, time);

-- time_index --
CREATE INDEX IF NOT EXISTS "{table}_time_idx" ON "{table}" (time);

-- append --
INSERT INTO "{table}"
    (topic, time, payload_blob, is_text, qos, retained, client_id, message_uuid, position)
VALUES {rows}
ON CONFLICT (position) DO NOTHING;

-- get --
SELECT {record}
FROM "{table}" WHERE position = ?;

-- oldest_first --
-- From (time, position) ?3, ?4 on, up to time ?2. Columns as JSON arrays, see rows.py.
SELECT {page}
FROM (
    SELECT
        {short_topic}, time, {payload_hex}, qos, retained,
        {short_client_id}, message_uuid, position
    FROM "{table}"
    WHERE topic = ?1 AND time <= ?2 AND (time, position) > (?3, ?4)
    ORDER BY time, position LIMIT ?5
);

-- newest_first --
-- From (time, position) ?3, ?4 back, down to time ?2. Columns as JSON arrays, see rows.py.
SELECT {page}
FROM (
    SELECT
        {short_topic}, time, {payload_hex}, qos, retained,
        {short_client_id}, message_uuid, position
    FROM "{table}"
    WHERE topic = ?1 AND time >= ?2 AND (time, position) < (?3, ?4)
    ORDER BY time DESC, position DESC LIMIT ?5
);

-- oldest --
SELECT unixepoch(substr(time, 1, 19)) * 1000 + substr(time, 21, 3)
FROM "{table}" ORDER BY time LIMIT 1;

-- purge_oldest --
DELETE FROM "{table}" WHERE position IN (SELECT position FROM "{table}" ORDER BY time LIMIT ?1);

-- purge --
DELETE FROM "{table}" WHERE position IN (
    SELECT position FROM "{table}" WHERE time < ?1 ORDER BY time LIMIT ?2
);
