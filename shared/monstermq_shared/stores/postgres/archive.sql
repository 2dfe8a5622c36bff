-- table --
-- The key holds the time, as that of a TimescaleDB hypertable must; it answers ranges of time. No
-- index takes a topic of 65,535 bytes, so they hold its first 250 characters.
CREATE TABLE "{table}" (
    topic text COLLATE "C" NOT NULL,
    time timestamptz NOT NULL,
    payload_blob bytea NOT NULL,
    payload text COLLATE "C" GENERATED ALWAYS AS (monstermq_text(payload_blob)) STORED,
    payload_json jsonb GENERATED ALWAYS AS (monstermq_json(payload_blob)) STORED,
    qos smallint NOT NULL,
    retained boolean NOT NULL,
    client_id text COLLATE "C" NOT NULL,
    message_uuid varchar(36) COLLATE "C" NOT NULL,
    generation smallint NOT NULL,
    partition integer NOT NULL,
    position bigint NOT NULL,
    properties jsonb,
    expires_at timestamptz,
    PRIMARY KEY (time, generation, partition, position)
);

-- topic_index --
CREATE INDEX ON "{table}" (left(topic, 250), time, position);

-- append --
-- For records of which some may be there; all others are copied.
INSERT INTO "{table}" (
    topic, time, payload_blob, qos, retained, client_id, message_uuid, position, generation,
    partition
)
SELECT
    topic, to_timestamp(time_ms / 1000), payload, qos, retained, client_id, id, position, $9, $10
FROM unnest(
    $1::text[], $2::float8[], $3::bytea[], $4::smallint[], $5::boolean[], $6::text[], $7::text[],
    $8::bigint[]
) AS new (topic, time_ms, payload, qos, retained, client_id, id, position)
ON CONFLICT (time, generation, partition, position) DO NOTHING;

-- oldest_first --
SELECT {record} FROM (
    SELECT *, sum(size) OVER (ORDER BY time, position ROWS UNBOUNDED PRECEDING) AS total
    FROM (
        SELECT *, {size} AS size FROM "{table}"
        WHERE left(topic, 250) = left($1, 250) AND topic = $1
        AND time >= coalesce(to_timestamp($2::float8 / 1000), '-infinity')
        AND time <= coalesce(to_timestamp($3::float8 / 1000), 'infinity')
        ORDER BY time, position LIMIT $4
    ) AS found
) AS page WHERE total - size < $5 ORDER BY time, position;

-- newest_first --
SELECT {record} FROM (
    SELECT *, sum(size) OVER (ORDER BY time DESC, position DESC ROWS UNBOUNDED PRECEDING) AS total
    FROM (
        SELECT *, {size} AS size FROM "{table}"
        WHERE left(topic, 250) = left($1, 250) AND topic = $1
        AND time >= coalesce(to_timestamp($2::float8 / 1000), '-infinity')
        AND time <= coalesce(to_timestamp($3::float8 / 1000), 'infinity')
        ORDER BY time DESC, position DESC LIMIT $4
    ) AS found
) AS page WHERE total - size < $5 ORDER BY time DESC, position DESC;

-- purge --
DELETE FROM "{table}" WHERE (time, generation, partition, position) IN (
    SELECT time, generation, partition, position FROM "{table}"
    WHERE time < to_timestamp($1::float8 / 1000) ORDER BY time LIMIT $2
);

-- timescale_schema --
-- Where TimescaleDB has its functions; no row where the extension is not installed.
SELECT nspname FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace
WHERE extname = 'timescaledb';

-- hypertable --
SELECT "{timescale}".create_hypertable(
    '"{table}"', 'time', if_not_exists => true, migrate_data => true, create_default_indexes => false
);
