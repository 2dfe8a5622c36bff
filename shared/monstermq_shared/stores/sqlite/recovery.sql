-- tables --
SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite!_%' ESCAPE '!';

-- columns --
-- Without those that are generated.
SELECT name, type, "notnull" FROM pragma_table_info(?) ORDER BY cid;

-- meta --
SELECT generation, boot FROM monstermq_meta;

-- set_meta --
UPDATE monstermq_meta SET
    generation = coalesce(?1, (SELECT generation FROM generations ORDER BY number DESC LIMIT 1)),
    boot = ?2;

-- generations --
SELECT number, generation FROM generations;

-- put_generation --
INSERT OR IGNORE INTO generations (number, generation) VALUES (?, ?);

-- newest_generation --
SELECT coalesce(max(generation), 1) FROM queuedmessages;

-- watermarks --
SELECT generation, partition, projection, reflected, restart FROM watermarks;

-- watermarks_of_version_1 --
SELECT 1, 0, projection, upto, upto FROM watermarks WHERE partition = 0
UNION ALL
SELECT 1, 0, 'sessions', max(upto), max(upto) FROM watermarks WHERE partition = 0;

-- put_watermark --
INSERT OR IGNORE INTO watermarks
    (generation, partition, projection, reflected, restart, token, version)
VALUES (?, ?, ?, ?, ?, '', 0);

-- highest_watermark --
SELECT coalesce(max(reflected), 0) FROM watermarks;

-- clients --
SELECT client_id FROM sessions ORDER BY client_id;

-- partitions --
SELECT DISTINCT generation, partition FROM queuedmessages;

-- count --
SELECT count(*) FROM "{table}";

-- highest_position --
SELECT coalesce(max(position), 0) FROM "{table}";

-- by_row --
SELECT rowid, {columns} FROM "{table}" NOT INDEXED
WHERE rowid >= ?1 AND rowid < ?3 ORDER BY rowid LIMIT ?2;

-- by_text --
SELECT {key}, {columns} FROM "{table}" NOT INDEXED
WHERE {key} >= CAST(?1 AS TEXT) ORDER BY {key} LIMIT ?2;

-- of_client_by_number --
SELECT {key}, {columns} FROM "{table}" NOT INDEXED
WHERE client_id = ?3 AND {key} >= ?1 ORDER BY {key} LIMIT ?2;

-- of_client_by_text --
SELECT {key}, {columns} FROM "{table}" NOT INDEXED
WHERE client_id = ?3 AND {key} >= CAST(?1 AS TEXT) ORDER BY {key} LIMIT ?2;

-- of_client_and_partition --
-- Of schema version 1, generation and partition are constants.
SELECT {key}, {columns} FROM "{table}" NOT INDEXED
WHERE client_id = ?3 AND {generation} = ?4 AND {partition} = ?5
AND {key} >= ?1 ORDER BY {key} LIMIT ?2;

-- put --
INSERT OR IGNORE INTO "{table}" ({columns}) VALUES ({values});

-- drop_links --
DELETE FROM queuedmessagesclients AS link WHERE NOT EXISTS (
    SELECT 1 FROM queuedmessages AS message
    WHERE message.generation = link.generation AND message.partition = link.partition
    AND message.position = link.position
);

-- drop_messages --
DELETE FROM queuedmessages AS message WHERE NOT EXISTS (
    SELECT 1 FROM queuedmessagesclients AS link
    WHERE link.position = message.position AND link.partition = message.partition
    AND link.generation = message.generation
);

-- count_queues --
INSERT INTO queues (client_id, messages, size)
SELECT client_id, count(*), sum(size) FROM queuedmessagesclients GROUP BY client_id;
