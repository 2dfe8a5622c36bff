-- tables --
SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite!_%' ESCAPE '!';

-- columns --
-- Without those that are generated.
SELECT name, type, "notnull" FROM pragma_table_info(?) ORDER BY cid;

-- meta --
SELECT generation, boot FROM monstermq_meta;

-- set_meta --
UPDATE monstermq_meta SET generation = coalesce(?1, generation), boot = max(boot, ?2);

-- watermarks --
SELECT projection, partition, upto FROM watermarks;

-- put_watermark --
INSERT OR IGNORE INTO watermarks (projection, partition, upto) VALUES (?, ?, ?);

-- highest_watermark --
SELECT coalesce(max(upto), 0) FROM watermarks WHERE partition >= 0;

-- clients --
SELECT client_id FROM sessions ORDER BY client_id;

-- count --
SELECT count(*) FROM "{table}";

-- highest_position --
SELECT coalesce(max(position), 0) FROM "{table}";

-- by_position --
SELECT {columns} FROM "{table}" NOT INDEXED
WHERE position >= ?1 AND position < ?3 ORDER BY position LIMIT ?2;

-- by_text --
SELECT {columns} FROM "{table}" NOT INDEXED
WHERE {key} >= CAST(?1 AS TEXT) ORDER BY {key} LIMIT ?2;

-- of_client_by_number --
SELECT {columns} FROM "{table}" NOT INDEXED
WHERE client_id = ?3 AND {key} >= ?1 ORDER BY {key} LIMIT ?2;

-- of_client_by_text --
SELECT {columns} FROM "{table}" NOT INDEXED
WHERE client_id = ?3 AND {key} >= CAST(?1 AS TEXT) ORDER BY {key} LIMIT ?2;

-- put --
INSERT OR IGNORE INTO "{table}" ({columns}) VALUES ({values});

-- drop_links --
DELETE FROM queuedmessagesclients
WHERE position NOT IN (SELECT position FROM queuedmessages);

-- drop_messages --
DELETE FROM queuedmessages
WHERE position NOT IN (SELECT position FROM queuedmessagesclients);
