-- trigram_schema --
-- Where pg_trgm has its operator class; no row where the extension is not installed.
SELECT nspname FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace
WHERE extname = 'pg_trgm';

-- may_make_trigrams --
-- Whether the extension could be: the server has it, and we may (it is a trusted one from 13 on).
SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_trgm')
AND has_database_privilege(current_database(), 'CREATE');

-- make_trigrams --
CREATE EXTENSION IF NOT EXISTS pg_trgm;

-- indexed --
-- Which of these tables are there, and which of the two indexes they have. One whose making was
-- interrupted is invalid, and does not count.
SELECT
    relname,
    EXISTS (
        SELECT FROM pg_index JOIN pg_opclass ON pg_opclass.oid = ANY(indclass::oid[])
        WHERE indrelid = pg_class.oid AND indisvalid AND opcname = 'gin_trgm_ops'
    ) AS has_names,
    EXISTS (
        SELECT FROM pg_index WHERE indrelid = pg_class.oid AND indisvalid
        AND pg_get_expr(indpred, indrelid) LIKE '%<config>%'
    ) AS has_descriptions
FROM pg_class
WHERE relnamespace = quote_ident(current_schema())::regnamespace AND relname = ANY($1::text[])
ORDER BY relname;

-- broken --
-- What an interrupted making has left, as statements that remove it.
SELECT format('DROP INDEX CONCURRENTLY %s', indexrelid::regclass)
FROM pg_index JOIN pg_class ON pg_class.oid = indrelid
WHERE relnamespace = quote_ident(current_schema())::regnamespace AND relname = ANY($1::text[])
AND NOT indisvalid AND (
    pg_get_expr(indpred, indrelid) LIKE '%<config>%'
    OR EXISTS (
        SELECT FROM pg_opclass
        WHERE pg_opclass.oid = ANY(indclass::oid[]) AND opcname = 'gin_trgm_ops'
    )
);

-- names --
-- Topics by any part of their name. New topics wait in a list, which every search reads to its
-- end: a short one.
CREATE INDEX {concurrently} ON "{table}" USING gin (topic "{schema}".gin_trgm_ops)
WITH (gin_pending_list_limit = 512);

-- descriptions --
-- The few that describe others. Its condition is on a column that never changes, so that a row
-- that is replaced in place stays out of all indexes.
CREATE INDEX {concurrently} ON "{table}" (left(topic, 250)) WHERE topic_l = '<config>';
