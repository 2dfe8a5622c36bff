-- lock_meta --
-- Until the end of the transaction: several processes may start at once. Who may only read cannot
-- take this one.
LOCK TABLE monstermq_meta IN SHARE ROW EXCLUSIVE MODE;

-- lock_schema --
-- The same before there is that table.
SELECT pg_advisory_xact_lock(hashtextextended('monstermq tables of ' || current_schema(), 0));

-- take_time --
-- A migration of large tables takes as long as it takes; until the end of the transaction.
SET LOCAL statement_timeout = 0;

-- version --
SELECT schema_version FROM monstermq_meta;

-- set_version --
UPDATE monstermq_meta SET schema_version = $1;

-- relations --
-- Which of these names are taken in our schema.
SELECT relname FROM pg_class
WHERE relnamespace = quote_ident(current_schema())::regnamespace AND relname = ANY($1::text[]);

-- meta_schema --
-- The first schema of the search path in which a broker is, and the first there is.
SELECT nspname, current_schema() FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE pg_class.oid = to_regclass('monstermq_meta');

-- our_tables --
SELECT name, kind FROM monstermq_tables;

-- add_table --
INSERT INTO monstermq_tables (name, kind) VALUES ($1, $2);

-- columns --
SELECT relname, attname, format_type(atttypid, atttypmod) AS type
FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
WHERE relnamespace = quote_ident(current_schema())::regnamespace AND relname = ANY($1::text[])
AND attnum > 0 AND NOT attisdropped;

-- keys --
SELECT relname, array_agg(attname ORDER BY place) AS key
FROM pg_class
JOIN pg_index ON indrelid = pg_class.oid AND indisprimary AND indisvalid
CROSS JOIN LATERAL unnest(indkey::smallint[]) WITH ORDINALITY AS part (attnum, place)
JOIN pg_attribute ON attrelid = pg_class.oid AND pg_attribute.attnum = part.attnum
WHERE relnamespace = quote_ident(current_schema())::regnamespace AND relname = ANY($1::text[])
GROUP BY relname;
