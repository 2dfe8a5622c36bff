-- quarantine_table --
-- What stands in the log and is no record. Of keys and values only the beginning is kept; size is
-- that of both as they were. The headers are JSON: [[name, value as base64]].
CREATE TABLE quarantine (
    generation smallint NOT NULL,
    partition integer NOT NULL,
    position bigint NOT NULL,
    time timestamptz NOT NULL,
    reason text COLLATE "C" NOT NULL,
    key bytea NOT NULL,
    value bytea NOT NULL,
    headers json NOT NULL,
    size bigint NOT NULL,
    kept_size bigint NOT NULL,
    PRIMARY KEY (generation, partition, position)
);

-- drops_table --
-- How many went to make room for newer ones.
CREATE TABLE quarantine_drops (
    generation smallint NOT NULL,
    partition integer NOT NULL,
    dropped bigint NOT NULL,
    PRIMARY KEY (generation, partition)
);

-- add --
INSERT INTO quarantine (
    generation, partition, position, time, reason, key, value, headers, size, kept_size
)
SELECT
    $1, $2, position, to_timestamp(time_ms / 1000), reason, key, value, headers, size, kept_size
FROM unnest(
    $3::bigint[], $4::float8[], $5::text[], $6::bytea[], $7::bytea[], $8::json[], $9::bigint[],
    $10::bigint[]
) AS new (position, time_ms, reason, key, value, headers, size, kept_size)
ON CONFLICT (generation, partition, position) DO NOTHING;

-- trim --
WITH ranked AS (
    SELECT
        position,
        row_number() OVER newer AS number,
        sum(kept_size) OVER newer AS total
    FROM quarantine WHERE generation = $1 AND partition = $2
    WINDOW newer AS (ORDER BY position DESC ROWS UNBOUNDED PRECEDING)
), gone AS (
    DELETE FROM quarantine WHERE generation = $1 AND partition = $2 AND position IN (
        SELECT position FROM ranked WHERE number > $3 OR total > $4
    )
    RETURNING position
)
INSERT INTO quarantine_drops AS stored (generation, partition, dropped)
SELECT $1, $2, $5 + count(*) FROM gone HAVING $5 + count(*) > 0
ON CONFLICT (generation, partition) DO UPDATE SET dropped = stored.dropped + excluded.dropped;

-- newest --
SELECT
    generations.generation, partition, position, {time_ms}, reason, key, ''::bytea, headers, size
FROM quarantine JOIN generations ON number = quarantine.generation
ORDER BY time DESC, position DESC LIMIT $1;

-- at --
SELECT
    generations.generation, partition, position, {time_ms}, reason, key, value, headers, size
FROM quarantine JOIN generations ON number = quarantine.generation
WHERE generations.generation = $1 AND partition = $2 AND position = $3;

-- discard --
DELETE FROM quarantine USING generations
WHERE number = quarantine.generation
AND generations.generation = $1 AND partition = $2 AND position = $3
RETURNING position;

-- counts --
SELECT
    (SELECT count(*) FROM quarantine),
    (SELECT coalesce(sum(dropped), 0)::bigint FROM quarantine_drops);
