-- fences_table --
-- The newest markers of clients, as one commit has read them: client -> [epoch, time in ms].
CREATE TABLE fences (
    projection text COLLATE "C" NOT NULL,
    generation smallint NOT NULL,
    partition integer NOT NULL,
    upto bigint NOT NULL,
    newest_ms bigint NOT NULL,
    clients json NOT NULL,
    PRIMARY KEY (projection, generation, partition, upto)
);

-- put_fences --
-- A projection that was ahead has its own of that commit, which may begin below this one.
INSERT INTO fences (projection, generation, partition, upto, newest_ms, clients)
SELECT projection, $2, $3, $4, $5, $6 FROM unnest($1::text[]) AS projection
ON CONFLICT (projection, generation, partition, upto) DO NOTHING;

-- forget_fences --
DELETE FROM fences
WHERE projection = ANY($1::text[]) AND generation = $2 AND partition = $3 AND newest_ms < $4;

-- fences --
-- Newer ones last: they replace older ones of the same client.
SELECT projection, clients FROM fences WHERE generation = $1 AND partition = $2
AND ($3::text[] IS NULL OR projection = ANY($3)) ORDER BY projection, upto;

-- log_states --
SELECT projection, reflected, restart, log_id, last_id, runs, skips FROM watermarks
WHERE generation = $1 AND partition = $2 AND reflected IS NOT NULL
AND ($3::text[] IS NULL OR projection = ANY($3));

-- positions --
SELECT projection, partition, reflected FROM watermarks
JOIN generations ON number = watermarks.generation
WHERE generations.generation = $1 AND reflected IS NOT NULL;

-- versions --
SELECT projection, partition, version, token FROM watermarks
JOIN generations ON number = watermarks.generation
WHERE generations.generation = $1;

-- begin_marks --
-- Whoever has begun a tenure, and committed nothing, keeps it.
INSERT INTO watermarks AS stored (
    projection, generation, partition, reflected, restart, began, log_id, version, token
)
SELECT projection, $4, partition, reflected, reflected, reflected, $5, 0, ''
FROM unnest($1::text[], $2::integer[], $3::bigint[]) AS new (projection, partition, reflected)
WHERE NOT EXISTS (
    -- Else it would wait for whoever is just moving that mark.
    SELECT FROM watermarks AS there WHERE there.projection = new.projection
    AND there.generation = $4 AND there.partition = new.partition AND there.reflected IS NOT NULL
)
ON CONFLICT (projection, generation, partition) DO UPDATE SET
    reflected = excluded.reflected, restart = excluded.restart, began = excluded.began,
    log_id = excluded.log_id
WHERE stored.reflected IS NULL;

-- owner --
-- A boot is counted on the internal log only.
SELECT generation, boot FROM monstermq_meta FOR UPDATE;

-- set_owner --
UPDATE monstermq_meta SET generation = $1, boot = NULL;

-- has_owner --
SELECT generation FROM monstermq_meta;

-- hold_owner --
-- It stays so until the transaction ends.
SELECT generation FROM monstermq_meta FOR SHARE;

-- end_tenures --
UPDATE watermarks SET token = '';
