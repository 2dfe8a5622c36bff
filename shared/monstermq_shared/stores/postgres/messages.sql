-- table --
-- A topic may have 65,535 bytes, which no index takes: the key is a digest of it, and the order
-- that of its first 250 characters. Rows are replaced most of the time, in place if there is room
-- on their page, hence the fill factor.
--
-- The original's index on (topic_1 .. topic_9, topic_r) is left out: topics with long levels do not
-- fit into it, and for a filter it finds nothing that the range of topics below the filter's
-- literal prefix does not find as well.
CREATE TABLE "{table}" (
    topic text COLLATE "C" NOT NULL,
    topic_1 text COLLATE "C" NOT NULL GENERATED ALWAYS AS (split_part(topic, '/', 1)) STORED,
    topic_2 text COLLATE "C" NOT NULL GENERATED ALWAYS AS (split_part(topic, '/', 2)) STORED,
    topic_3 text COLLATE "C" NOT NULL GENERATED ALWAYS AS (split_part(topic, '/', 3)) STORED,
    topic_4 text COLLATE "C" NOT NULL GENERATED ALWAYS AS (split_part(topic, '/', 4)) STORED,
    topic_5 text COLLATE "C" NOT NULL GENERATED ALWAYS AS (split_part(topic, '/', 5)) STORED,
    topic_6 text COLLATE "C" NOT NULL GENERATED ALWAYS AS (split_part(topic, '/', 6)) STORED,
    topic_7 text COLLATE "C" NOT NULL GENERATED ALWAYS AS (split_part(topic, '/', 7)) STORED,
    topic_8 text COLLATE "C" NOT NULL GENERATED ALWAYS AS (split_part(topic, '/', 8)) STORED,
    topic_9 text COLLATE "C" NOT NULL GENERATED ALWAYS AS (split_part(topic, '/', 9)) STORED,
    topic_r text[] COLLATE "C" NOT NULL
        GENERATED ALWAYS AS ((string_to_array(topic, '/'))[10:]) STORED,
    topic_l text COLLATE "C" NOT NULL
        GENERATED ALWAYS AS (reverse(split_part(reverse(topic), '/', 1))) STORED,
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
    topic_digest bytea PRIMARY KEY
) WITH (fillfactor = 70);

-- topic_index --
CREATE INDEX ON "{table}" (left(topic, 250));

-- upsert --
-- A row is never replaced by an older one of its own partition.
INSERT INTO "{table}" AS stored (
    topic_digest, topic, time, payload_blob, qos, retained, client_id, message_uuid, position,
    generation, partition
)
SELECT
    topic_digest, topic, to_timestamp(time_ms / 1000), payload, qos, retained, client_id, id,
    position, $10, $11
FROM unnest(
    $1::bytea[], $2::text[], $3::float8[], $4::bytea[], $5::smallint[], $6::boolean[], $7::text[],
    $8::text[], $9::bigint[]
) AS new (topic_digest, topic, time_ms, payload, qos, retained, client_id, id, position)
ON CONFLICT (topic_digest) DO UPDATE SET
    topic = excluded.topic,
    time = excluded.time,
    payload_blob = excluded.payload_blob,
    qos = excluded.qos,
    retained = excluded.retained,
    client_id = excluded.client_id,
    message_uuid = excluded.message_uuid,
    position = excluded.position,
    generation = excluded.generation,
    partition = excluded.partition,
    properties = NULL,
    expires_at = NULL
WHERE excluded.position > stored.position
OR excluded.generation <> stored.generation OR excluded.partition <> stored.partition;

-- staging --
SELECT
    to_regclass('pg_temp.{staging}') IS NOT NULL AS is_there,
    has_database_privilege(current_database(), 'TEMPORARY') AS may_be_made;

-- make_staging --
-- What is on its way to a message store, in the session's own space, until the transaction ends.
CREATE TEMPORARY TABLE {staging} (
    time timestamptz, generation smallint, qos smallint, partition integer, position bigint,
    retained boolean, topic text, client_id text, message_uuid text, payload bytea,
    topic_digest bytea
) ON COMMIT DELETE ROWS;

-- add_staged --
-- What is not there. ON CONFLICT alone would make all generated columns of a row before it looks.
INSERT INTO "{table}" (
    topic_digest, topic, time, payload_blob, qos, retained, client_id, message_uuid, position,
    generation, partition
)
SELECT
    topic_digest, topic, time, payload, qos, retained, client_id, message_uuid, position,
    generation, partition
FROM pg_temp.{staging} AS new
WHERE NOT EXISTS (SELECT FROM "{table}" AS stored WHERE stored.topic_digest = new.topic_digest)
ON CONFLICT (topic_digest) DO NOTHING;

-- replace_staged --
-- What was there already; a row is never replaced by an older one of its own partition.
UPDATE "{table}" AS stored SET
    topic = new.topic,
    time = new.time,
    payload_blob = new.payload,
    qos = new.qos,
    retained = new.retained,
    client_id = new.client_id,
    message_uuid = new.message_uuid,
    position = new.position,
    generation = new.generation,
    partition = new.partition,
    properties = NULL,
    expires_at = NULL
FROM pg_temp.{staging} AS new
WHERE stored.topic_digest = new.topic_digest AND (
    new.position > stored.position
    OR new.generation <> stored.generation OR new.partition <> stored.partition
);

-- clear --
-- What is newer than the commit that clears it stays.
DELETE FROM "{table}" WHERE topic_digest = ANY($1::bytea[])
AND (position < $2 OR generation <> $3 OR partition <> $4);

-- get --
SELECT {record} FROM "{table}" WHERE topic_digest = $1 AND topic = $2;

-- page --
-- Up to $5 rows from topic $1 on and above $2, below $3 (NULL: no end), of those of which $4 is
-- NULL or a pattern they are like. Others come without a payload, and only if they are the last
-- of the $6 rows that were looked at: there it goes on.
SELECT
    topic, CASE WHEN wanted THEN payload_blob END, qos, retained, client_id,
    {time_ms}, position, message_uuid, wanted, number = $6 AS is_last
FROM (
    SELECT
        *,
        count(*) FILTER (WHERE wanted) OVER so_far AS rows_so_far,
        sum(CASE WHEN wanted THEN size ELSE 0 END) OVER so_far - size AS size_before
    FROM (
        SELECT
            *,
            row_number() OVER () AS number,
            $4::text IS NULL OR topic LIKE $4 AS wanted,
            {size} AS size
        FROM (
            SELECT * FROM "{table}"
            WHERE left(topic, 250) >= left($1, 250) AND topic >= $1
            AND left(topic, 250) >= left($2, 250) AND topic > $2
            AND ($3::text IS NULL OR (left(topic, 250) <= left($3, 250) AND topic < $3))
            ORDER BY left(topic, 250), topic LIMIT $6
        ) AS stretch
    ) AS numbered
    WINDOW so_far AS (ORDER BY number ROWS UNBOUNDED PRECEDING)
) AS counted
WHERE (wanted AND rows_so_far <= $5 AND size_before < $7) OR number = $6
ORDER BY number;

-- hold --
-- Before a snapshot is taken: who puts another table in its place (rebuild) waits.
LOCK TABLE "{table}" IN ACCESS SHARE MODE;

-- view_marks --
SELECT partition, reflected FROM watermarks
JOIN generations ON number = watermarks.generation
WHERE projection = $1 AND generations.generation = $2 AND reflected IS NOT NULL;

-- of_other_logs --
SELECT topic FROM "{table}"
WHERE topic_digest = ANY($1::bytea[])
AND generation <> (SELECT number FROM generations WHERE generation = $2);

-- count --
SELECT count(*) FROM (SELECT FROM "{table}" LIMIT $1) AS found;

-- estimate --
SELECT reltuples::bigint FROM pg_class WHERE oid = '"{table}"'::regclass;

-- purge --
-- Rows that a commit is just replacing are left to the next time. (ANY reads the subquery once.)
DELETE FROM "{table}" WHERE topic_digest = ANY(ARRAY(
    SELECT topic_digest FROM "{table}"
    WHERE time < to_timestamp($1::float8 / 1000) LIMIT $2 FOR UPDATE SKIP LOCKED
));
