-- tables --
SELECT name FROM sqlite_schema WHERE type = 'table';

-- message_tables --
-- A virtual table has no page of its own, and no columns where its module is missing.
SELECT name FROM sqlite_schema AS found
WHERE type = 'table' AND rootpage > 0 AND 4 = (
    SELECT count(*) FROM pragma_table_info(found.name) AS described
    WHERE described.name IN ('topic', 'payload_blob', 'message_uuid', 'position')
);

-- position_is_key --
SELECT name FROM sqlite_schema AS found
WHERE type = 'table' AND rootpage > 0 AND 2 = (
    SELECT count(*) FROM pragma_table_info(found.name) AS described
    WHERE (described.name = 'position' AND described.pk = 1) OR described.name = 'message_uuid'
);
