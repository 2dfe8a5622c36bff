-- try_lock --
SELECT pg_try_advisory_lock(hashtextextended('monstermq ' || current_schema(), 0));

-- await_lock --
-- Behind all who wait already, and before all who come later.
SELECT pg_advisory_lock(hashtextextended('monstermq ' || current_schema(), 0));

-- unlock --
SELECT pg_advisory_unlock(hashtextextended('monstermq ' || current_schema(), 0));

-- lock_owner --
-- The session that has the lock, and for how long it has been silent: 0 while the server works for
-- it, NULL where this role may not look into it. Everybody may take an advisory lock, also who runs
-- SQL that only reads; but a broker can write.
SELECT
    activity.pid, backend_start, usename,
    has_table_privilege(
        usesysid, coalesce(to_regclass('monstermq_meta'), 'pg_class'::regclass)::oid, 'UPDATE'
    ) OR to_regclass('monstermq_meta') IS NULL AS may_be_broker,
    CASE
        WHEN state = 'active' AND wait_event_type IS DISTINCT FROM 'Client' THEN 0
        ELSE extract(epoch FROM clock_timestamp() - state_change)
    END::float8 AS silent_s
FROM pg_locks
JOIN pg_stat_activity AS activity ON activity.pid = pg_locks.pid
CROSS JOIN hashtextextended('monstermq ' || current_schema(), 0) AS key
WHERE locktype = 'advisory' AND granted AND objsubid = 1
AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
AND classid = ((key >> 32) & 4294967295)::oid AND objid = (key & 4294967295)::oid;

-- own_backend --
SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid();

-- end_backend --
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE pid = $1 AND backend_start = $2 AND datname = current_database();

-- ended_cleanly --
SELECT holder_host IS NULL FROM monstermq_meta;

-- has_meta --
SELECT to_regclass('monstermq_meta') IS NOT NULL;

-- holder --
SELECT holder_host, holder_process, holder_since FROM monstermq_meta;

-- set_holder --
UPDATE monstermq_meta SET holder_host = $1, holder_process = $2, holder_since = now();

-- clear_holder --
UPDATE monstermq_meta SET holder_host = NULL, holder_process = NULL, holder_since = NULL;
