-- text_function --
-- What a payload says as text, NULL where it is not UTF-8 or has a NUL. Generated columns call it,
-- so it must be immutable: convert_from is not called so only because the database's encoding might
-- change, which is UTF-8 for good.
CREATE OR REPLACE FUNCTION monstermq_text(payload bytea) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT AS $$
BEGIN
    RETURN pg_catalog.convert_from(payload, 'UTF8');
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END
$$;

-- json_function --
-- What a payload says as JSON, NULL where it says nothing that jsonb takes. To try that and fail
-- costs several times as much as to succeed, so the first byte is looked at first: only a blank, a
-- quotation mark, a digit, a minus and any of [fnt{ begin JSON. (No literal with a backslash: what it
-- means is a setting of whoever calls.)
CREATE OR REPLACE FUNCTION monstermq_json(payload bytea) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE STRICT AS $$
BEGIN
    IF pg_catalog.position(
        pg_catalog.decode('20090a0d222d303132333435363738395b666e747b', 'hex'),
        pg_catalog.substr(payload, 1, 1)
    ) = 0 THEN
        RETURN NULL;
    END IF;
    RETURN pg_catalog.convert_from(payload, 'UTF8')::pg_catalog.jsonb;
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END
$$;

-- meta_table --
-- One row. The holder is the broker that has the database, as messages name it; NULL once it has
-- let go. The lock itself is an advisory lock of its connection.
CREATE TABLE monstermq_meta (
    id boolean PRIMARY KEY DEFAULT true CHECK (id),
    schema_version integer NOT NULL,
    generation text COLLATE "C",
    boot bigint,
    holder_host text COLLATE "C",
    holder_process bigint,
    holder_since timestamptz
);

-- meta_row --
INSERT INTO monstermq_meta (schema_version) VALUES ($1);

-- tables_table --
-- Which tables are ours, and of which kind; a migration changes all of a kind.
CREATE TABLE monstermq_tables (
    name text COLLATE "C" PRIMARY KEY,
    kind text COLLATE "C" NOT NULL
);

-- generations_table --
-- Rows name the log their position belongs to by a number.
CREATE TABLE generations (
    number smallint PRIMARY KEY,
    generation text COLLATE "C" NOT NULL UNIQUE
);

-- watermarks_table --
-- How far projections have come in partitions; NULL until the first commit. Whoever begins a tenure
-- sets the token, and every commit raises the version. The last five are what readers of a shared
-- log need to go on, and where they began; NULL for the internal log.
CREATE TABLE watermarks (
    projection text COLLATE "C" NOT NULL,
    generation smallint NOT NULL,
    partition integer NOT NULL,
    reflected bigint,
    restart bigint,
    version bigint NOT NULL,
    token text COLLATE "C" NOT NULL,
    log_id text COLLATE "C",
    last_id text COLLATE "C",
    runs json,
    skips json,
    began bigint,
    PRIMARY KEY (projection, generation, partition)
) WITH (fillfactor = 20);

-- find_generation --
SELECT number FROM generations WHERE generation = $1;

-- add_generation --
INSERT INTO generations (number, generation)
SELECT coalesce(max(number), 0) + 1, $1::text FROM generations
RETURNING number;

-- lock_generations --
-- For whoever adds one: two must not give it two numbers.
LOCK TABLE generations IN SHARE ROW EXCLUSIVE MODE;

-- add_watermarks --
INSERT INTO watermarks (projection, generation, partition, version, token)
SELECT projection, $2, $3, 0, '' FROM unnest($1::text[]) AS projection
ON CONFLICT (projection, generation, partition) DO NOTHING;

-- lock_watermarks --
-- So that a beginning tenure sees the last version there is, and no commit comes in between. Only
-- these rows: a process that stands still in the middle of a commit must not hold up all others.
SELECT FROM watermarks WHERE projection = ANY($1::text[]) AND generation = $2 AND partition = $3
ORDER BY projection FOR UPDATE;

-- begin --
UPDATE watermarks SET
    version = 1 + (
        SELECT max(version) FROM watermarks
        WHERE projection = ANY($1::text[]) AND generation = $2 AND partition = $3
    ),
    token = $4
WHERE projection = ANY($1::text[]) AND generation = $2 AND partition = $3
RETURNING projection, version, reflected, restart;

-- claim --
-- What is kept of the log belongs to the mark: where the mark stays, so does that.
UPDATE watermarks SET
    version = version + 1,
    reflected = greatest(reflected, $6),
    restart = greatest(restart, $7),
    log_id = CASE WHEN reflected > $6 THEN log_id ELSE coalesce($8, log_id) END,
    last_id = CASE WHEN reflected > $6 OR $8::text IS NULL THEN last_id ELSE $9 END,
    runs = CASE WHEN reflected > $6 THEN runs ELSE coalesce($10, runs) END,
    skips = CASE WHEN reflected > $6 OR $8::text IS NULL THEN skips ELSE $11 END
WHERE projection = ANY($1::text[]) AND generation = $2 AND partition = $3
AND token = $4 AND version = $5;

-- versions --
SELECT version, token FROM watermarks
WHERE projection = ANY($1::text[]) AND generation = $2 AND partition = $3;

-- touch --
-- Changes nothing; but its COMMIT waits for the standby that must have all commits before it.
UPDATE watermarks SET token = token
WHERE projection = ANY($1::text[]) AND generation = $2 AND partition = $3;

-- marks --
SELECT projection, reflected, restart FROM watermarks
WHERE generation = $1 AND partition = $2 AND reflected IS NOT NULL;

-- log --
SELECT generation, boot FROM monstermq_meta WHERE generation IS NOT NULL;

-- begin_boot --
UPDATE monstermq_meta SET generation = $1, boot = $2;

-- take_sessions --
-- Those that nobody has claimed on another log than an internal one.
UPDATE sessions SET generation = $1, partition = 0 WHERE epoch IS NULL AND generation <> $1;

-- size --
-- Chunks of hypertables, and partitions that somebody else has made, are children of our tables.
WITH RECURSIVE relations (oid) AS (
    SELECT pg_class.oid FROM pg_class
    JOIN monstermq_tables ON relname = name
    WHERE relnamespace = quote_ident(current_schema())::regnamespace AND relkind IN ('r', 'p')
    UNION
    SELECT inhrelid FROM relations JOIN pg_inherits ON inhparent = oid
)
SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM relations;

-- sessions --
SELECT count(*) FROM sessions;
