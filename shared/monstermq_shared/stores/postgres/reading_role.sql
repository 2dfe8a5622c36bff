-- role --
SELECT rolcanlogin, rolsuper FROM pg_roles WHERE rolname = $1;

-- may_make_roles --
SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user;

-- make_role --
-- The statement that makes it: names and passwords cannot be parameters there.
SELECT format(
    'CREATE ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS NOINHERIT '
    'CONNECTION LIMIT 10 PASSWORD %L', $1::text, $2::text
);

-- set_role --
-- For whoever else logs in with it: what we run is in such a transaction anyway.
SELECT format('ALTER ROLE %I SET default_transaction_read_only = on', $1::text);

-- limit_role --
-- Only a superuser may: what one query can take of the server's disk while it runs.
SELECT format('ALTER ROLE %I SET temp_file_limit = ''1GB''', $1::text)
FROM pg_roles WHERE rolname = current_user AND rolsuper;

-- grants --
-- What is missing so that a role ($1) can read these tables ($2), of those that are there.
SELECT format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), $1::text)
WHERE NOT has_database_privilege($1::name, current_database(), 'CONNECT')
UNION ALL
SELECT format('GRANT USAGE ON SCHEMA %I TO %I', current_schema(), $1::text)
WHERE NOT has_schema_privilege($1::name, current_schema(), 'USAGE')
UNION ALL
SELECT format('GRANT SELECT ON %I.%I TO %I', current_schema(), relname, $1::text)
FROM pg_class
WHERE relnamespace = quote_ident(current_schema())::regnamespace AND relname = ANY($2::text[])
AND NOT has_table_privilege($1::name, pg_class.oid, 'SELECT')
AND pg_has_role(relowner, 'USAGE');

-- revocations --
-- What takes from a role ($1) its rights in our tables ($3) but to read some ($2).
SELECT format('REVOKE %s ON %I.%I FROM %I', right_, current_schema(), relname, $1::text)
FROM pg_class CROSS JOIN unnest(
    ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']
) AS right_
WHERE relnamespace = quote_ident(current_schema())::regnamespace AND relname = ANY($3::text[])
AND NOT (right_ = 'SELECT' AND relname = ANY($2::text[]))
AND has_table_privilege($1::name, pg_class.oid, right_)
AND pg_has_role(relowner, 'USAGE');

-- rights --
-- What whoever is logged in can do beyond reading some of our tables ($1) of all ($2). A member of
-- a role can do what that can: SET ROLE needs no right to inherit.
WITH ours AS (
    SELECT pg_class.oid, relname::text AS name, relowner FROM pg_class
    WHERE relnamespace = quote_ident(current_schema())::regnamespace AND relname = ANY($2::text[])
)
SELECT
    rolsuper AS is_superuser,
    rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls AS is_mighty,
    ARRAY(
        SELECT other.rolname::text FROM pg_roles AS other
        WHERE other.rolname <> session_user AND pg_has_role(session_user, other.oid, 'MEMBER')
        AND (
            starts_with(other.rolname, 'pg_') OR other.rolsuper OR other.rolcreaterole
            OR other.rolreplication OR other.rolbypassrls
        )
    ) AS mighty_roles,
    ARRAY(
        SELECT 'the database ' || datname FROM pg_database
        WHERE datname = current_database() AND pg_has_role(session_user, datdba, 'MEMBER')
        UNION ALL
        SELECT 'the schema ' || nspname FROM pg_namespace
        WHERE nspname = current_schema() AND pg_has_role(session_user, nspowner, 'MEMBER')
        UNION ALL
        SELECT 'the table ' || name FROM ours WHERE pg_has_role(session_user, relowner, 'MEMBER')
    ) AS owned,
    ARRAY(
        SELECT name FROM ours WHERE has_table_privilege(
            ours.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER'
        ) OR has_any_column_privilege(ours.oid, 'INSERT, UPDATE, REFERENCES')
    ) AS writable,
    ARRAY(
        SELECT name FROM ours
        WHERE name <> ALL($1::text[]) AND has_any_column_privilege(ours.oid, 'SELECT')
    ) AS private
FROM pg_roles WHERE rolname = session_user;
