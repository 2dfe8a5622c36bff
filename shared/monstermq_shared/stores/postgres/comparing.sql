-- planner --
-- What is looked up is few rows, by their whole key, in tables that nobody may have analysed.
SET plan_cache_mode = force_custom_plan;
SET max_parallel_workers_per_gather = 0;
SET default_transaction_read_only = on;

-- look_up --
-- Row by row, each by its whole key: of a table that looks empty, as one that was just made does,
-- the planner would keep a copy instead, and go through it for each record.
SET LOCAL enable_seqscan = off;
SET LOCAL enable_bitmapscan = off;
SET LOCAL enable_hashjoin = off;
SET LOCAL enable_material = off;
SET LOCAL enable_mergejoin = off;

-- marks --
SELECT projection, partition, reflected, began FROM watermarks
JOIN generations ON number = watermarks.generation
WHERE generations.generation = $1 AND reflected IS NOT NULL AND projection = ANY($2::text[]);

-- generation --
SELECT number FROM generations WHERE generation = $1;

-- hold --
-- Before a snapshot is taken: who puts another table in its place waits.
LOCK TABLE "{table}" IN ACCESS SHARE MODE;

-- archive_differences --
-- Which of these records are not in the archive as they are here, and which columns say so; none
-- where there is no row.
SELECT ordinal, array_remove(ARRAY[
    CASE WHEN stored.topic <> new.topic THEN 'topic' END,
    CASE WHEN stored.payload_blob <> new.payload THEN 'payload' END,
    CASE WHEN stored.qos <> new.qos THEN 'qos' END,
    CASE WHEN stored.retained <> new.retained THEN 'retained' END,
    CASE WHEN stored.client_id <> new.client_id THEN 'clientId' END,
    CASE WHEN stored.message_uuid <> new.id THEN 'id' END
], NULL) AS columns
FROM unnest(
    $1::text[], $2::float8[], $3::bytea[], $4::smallint[], $5::boolean[], $6::text[], $7::text[],
    $8::bigint[]
) WITH ORDINALITY AS new (
    topic, time_ms, payload, qos, retained, client_id, id, position, ordinal
)
LEFT JOIN "{table}" AS stored
ON stored.time = to_timestamp(new.time_ms / 1000) AND stored.generation = $9
AND stored.partition = $10 AND stored.position = new.position
WHERE stored.position IS NULL
OR (stored.topic, stored.payload_blob, stored.qos, stored.retained, stored.client_id,
    stored.message_uuid)
    IS DISTINCT FROM (new.topic, new.payload, new.qos, new.retained, new.client_id, new.id);

-- archive_doubles --
-- Which of these records have no row, while the same message has one among those from $10 up to $11.
-- What is appended again by another process has another id, and another time.
SELECT new.position FROM unnest(
    $1::text[], $2::float8[], $3::bytea[], $4::smallint[], $5::boolean[], $6::text[], $7::bigint[]
) AS new (topic, time_ms, payload, qos, retained, client_id, position)
WHERE NOT EXISTS (
    SELECT FROM "{table}" AS stored WHERE stored.time = to_timestamp(new.time_ms / 1000)
    AND stored.generation = $8 AND stored.partition = $9 AND stored.position = new.position
) AND EXISTS (
    SELECT FROM "{table}" AS stored
    WHERE left(stored.topic, 250) = left(new.topic, 250)
    AND stored.time >= to_timestamp((new.time_ms - $12::float8) / 1000)
    AND stored.time <= to_timestamp((new.time_ms + $12::float8) / 1000)
    AND stored.generation = $8 AND stored.partition = $9
    AND stored.position >= $10 AND stored.position < $11
    AND (stored.topic, stored.payload_blob, stored.qos, stored.retained, stored.client_id)
        = (new.topic, new.payload, new.qos, new.retained, new.client_id)
);

-- archive_counts --
-- Rows of each partition that the log still has, from $5 on, and those that are older than it.
-- Of other logs, and of partitions that are not given, is what has no partition here.
SELECT
    within.partition,
    count(*) FILTER (
        WHERE position >= within.first AND position < within.upto
        AND time >= to_timestamp($5::float8 / 1000)
    ) AS rows,
    count(*) FILTER (WHERE within.partition IS NULL OR position < within.first) AS older
FROM "{table}" AS stored
LEFT JOIN unnest($2::integer[], $3::bigint[], $4::bigint[]) AS within (partition, first, upto)
ON stored.generation = $1 AND stored.partition = within.partition
GROUP BY within.partition;

-- archive_positions --
SELECT position, topic FROM "{table}"
WHERE generation = $1 AND partition = $2 AND position >= $3 AND position < $4
AND time >= to_timestamp($5::float8 / 1000);

-- message_differences --
-- The same for a table of one row for each topic. A row may also be of another position.
SELECT ordinal, array_remove(ARRAY[
    CASE WHEN (stored.generation, stored.partition, stored.position)
        <> ($10, $11, new.position) THEN 'position' END,
    CASE WHEN stored.payload_blob <> new.payload THEN 'payload' END,
    CASE WHEN stored.time <> to_timestamp(new.time_ms / 1000) THEN 'time' END,
    CASE WHEN stored.qos <> new.qos THEN 'qos' END,
    CASE WHEN stored.retained <> new.retained THEN 'retained' END,
    CASE WHEN stored.client_id <> new.client_id THEN 'clientId' END,
    CASE WHEN stored.message_uuid <> new.id THEN 'id' END
], NULL) AS columns
FROM unnest(
    $1::bytea[], $2::text[], $3::float8[], $4::bytea[], $5::smallint[], $6::boolean[], $7::text[],
    $8::text[], $9::bigint[]
) WITH ORDINALITY AS new (
    topic_digest, topic, time_ms, payload, qos, retained, client_id, id, position, ordinal
)
LEFT JOIN "{table}" AS stored ON stored.topic_digest = new.topic_digest
WHERE stored.topic IS NULL
OR (stored.generation, stored.partition, stored.position, stored.payload_blob, stored.time,
    stored.qos, stored.retained, stored.client_id, stored.message_uuid)
    IS DISTINCT FROM ($10, $11, new.position, new.payload, to_timestamp(new.time_ms / 1000),
    new.qos, new.retained, new.client_id, new.id);

-- message_rows --
-- Those of the partition, and of other logs, which may be of any.
SELECT topic, CASE WHEN generation = $1 THEN position END AS position FROM "{table}"
WHERE generation <> $1 OR partition = $2;

-- first_rows --
SELECT partition, min(position) AS first FROM "{table}" WHERE generation = $1 GROUP BY partition;
