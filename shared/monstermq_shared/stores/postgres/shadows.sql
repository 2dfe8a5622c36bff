-- planner --
-- A copy reads in the order of the key, slice by slice, whatever is expected of its condition.
SET plan_cache_mode = force_custom_plan;
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SET enable_sort = off;
SET max_parallel_workers_per_gather = 0;

-- lock --
-- For as long as the session lasts: one process at a time makes a table anew.
SELECT pg_try_advisory_lock(
    hashtextextended('monstermq rebuild of ' || current_schema() || '.' || $1, 0)
);

-- dependents --
-- Views of others, and tables with foreign keys, which go with the table that is replaced.
SELECT relname FROM pg_depend
JOIN pg_rewrite ON pg_rewrite.oid = objid
JOIN pg_class ON pg_class.oid = ev_class
WHERE classid = 'pg_rewrite'::regclass AND refobjid = to_regclass($1) AND ev_class <> refobjid
UNION
SELECT relname FROM pg_constraint JOIN pg_class ON pg_class.oid = conrelid
WHERE confrelid = to_regclass($1) AND conrelid <> confrelid
ORDER BY relname;

-- is_there --
SELECT EXISTS (SELECT FROM monstermq_tables WHERE name = $1);

-- drop --
DROP TABLE IF EXISTS "{shadow}";

-- forget_table --
DELETE FROM monstermq_tables WHERE name = $1;

-- forget_marks --
DELETE FROM watermarks WHERE projection = $1;

-- forget_fences --
DELETE FROM fences WHERE projection = $1;

-- copy_archive --
-- Up to $9 rows behind a key, of the log those from $2 up to $3 of each partition, and if $4 is true
-- all of other logs; returns the last of them, and how many there were.
WITH part AS (
    SELECT stored.* FROM "{table}" AS stored
    WHERE (time, generation, partition, position) > ($5, $6::smallint, $7::integer, $8::bigint)
    AND CASE WHEN generation = $1
        THEN position >= ($2::bigint[])[partition + 1] AND position < ($3::bigint[])[partition + 1]
        ELSE $4::boolean END
    ORDER BY time, generation, partition, position LIMIT $9
), written AS (
    INSERT INTO "{shadow}" (
        topic, time, payload_blob, qos, retained, client_id, message_uuid, generation, partition,
        position, properties, expires_at
    )
    SELECT
        topic, time, payload_blob, qos, retained, client_id, message_uuid, generation, partition,
        position, properties, expires_at
    FROM part
    ON CONFLICT (time, generation, partition, position) DO NOTHING
)
SELECT time, generation, partition, position, (SELECT count(*) FROM part) AS rows FROM part
ORDER BY time DESC, generation DESC, partition DESC, position DESC LIMIT 1;

-- copy_messages --
-- The same for a table of one row for each topic, behind a digest of a topic.
WITH part AS (
    SELECT stored.* FROM "{table}" AS stored
    WHERE topic_digest > $5
    AND CASE WHEN generation = $1
        THEN position >= ($2::bigint[])[partition + 1] AND position < ($3::bigint[])[partition + 1]
        ELSE $4::boolean END
    ORDER BY topic_digest LIMIT $6
), written AS (
    INSERT INTO "{shadow}" AS stored (
        topic_digest, topic, time, payload_blob, qos, retained, client_id, message_uuid,
        generation, partition, position, properties, expires_at
    )
    SELECT
        topic_digest, topic, time, payload_blob, qos, retained, client_id, message_uuid,
        generation, partition, position, properties, expires_at
    FROM part
    ON CONFLICT (topic_digest) DO UPDATE SET
        time = excluded.time, payload_blob = excluded.payload_blob, qos = excluded.qos,
        retained = excluded.retained, client_id = excluded.client_id,
        message_uuid = excluded.message_uuid, generation = excluded.generation,
        partition = excluded.partition, position = excluded.position,
        properties = excluded.properties, expires_at = excluded.expires_at
    WHERE stored.generation <> excluded.generation OR stored.position < excluded.position
)
SELECT topic_digest, (SELECT count(*) FROM part) AS rows FROM part
ORDER BY topic_digest DESC LIMIT 1;

-- drop_cleared --
-- Rows of other logs are copies: where there is none any more, a record of this log has ended it.
DELETE FROM "{shadow}" AS stored
WHERE (generation <> $1 OR partition = $2) AND NOT EXISTS (
    SELECT FROM "{table}" AS used WHERE used.topic_digest = stored.topic_digest
);

-- analyze --
ANALYZE "{shadow}";

-- patience --
-- Whoever waits for the table waits behind us, so we do not wait long.
SET LOCAL lock_timeout = '10s';

-- add_marks --
-- Of a table that nobody has begun yet: so that nobody begins it now.
INSERT INTO watermarks (projection, generation, partition, version, token)
SELECT $1, generation, partition, 0, '' FROM watermarks WHERE projection = $2 AND generation = $3
ON CONFLICT (projection, generation, partition) DO NOTHING;

-- lock_marks --
-- Whoever commits the table waits from here on.
SELECT partition, coalesce(reflected, 0) AS reflected FROM watermarks
WHERE projection = $1 AND generation = $2 ORDER BY partition FOR UPDATE;

-- hold_table --
LOCK TABLE "{table}", "{shadow}" IN ACCESS EXCLUSIVE MODE;

-- put_away --
ALTER TABLE "{table}" RENAME TO "{replaced}";

-- put_in_place --
ALTER TABLE "{shadow}" RENAME TO "{table}";

-- take_rights --
-- Who may read the table, or some of its columns, is not to notice that it is another one.
DO $$
DECLARE
    granted record;
    was name := (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = '"{replaced}"'::regclass);
BEGIN
    IF was <> (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = '"{table}"'::regclass) THEN
        EXECUTE format('ALTER TABLE "{table}" OWNER TO %I', was);
    END IF;
    FOR granted IN
        SELECT privilege_type, '' AS columns, grantee, is_grantable
        FROM pg_class CROSS JOIN aclexplode(relacl)
        WHERE pg_class.oid = '"{replaced}"'::regclass AND grantee <> relowner
        UNION ALL
        SELECT privilege_type, format(' (%I)', attname), grantee, is_grantable
        FROM pg_attribute CROSS JOIN aclexplode(attacl)
        WHERE attrelid = '"{replaced}"'::regclass AND NOT attisdropped
    LOOP
        EXECUTE format(
            'GRANT %s%s ON "{table}" TO %s%s', granted.privilege_type, granted.columns,
            CASE granted.grantee WHEN 0 THEN 'PUBLIC'
            ELSE quote_ident(pg_get_userbyid(granted.grantee)) END,
            CASE WHEN granted.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
        );
    END LOOP;
END
$$;

-- drop_replaced --
DROP TABLE "{replaced}";

-- take_marks --
-- The new table's marks, under nobody's tenure: who has committed the old one begins again.
UPDATE watermarks AS mark SET
    reflected = shadow.reflected, restart = shadow.restart, began = shadow.began,
    log_id = shadow.log_id, last_id = shadow.last_id, runs = shadow.runs, skips = shadow.skips,
    version = mark.version + 1, token = ''
FROM watermarks AS shadow
WHERE shadow.projection = $2 AND shadow.generation = $3 AND mark.projection = $1
AND mark.generation = shadow.generation AND mark.partition = shadow.partition;

-- drop_fences --
DELETE FROM fences WHERE projection = $1 AND generation = $2;

-- take_fences --
UPDATE fences SET projection = $1 WHERE projection = $2;
