-- add_column --
ALTER TABLE "{table}" ADD COLUMN {column};

-- written_size --
-- About the bytes of the rows that a migration writes.
SELECT coalesce(sum(length(CAST(client_id AS BLOB)) + 50), 0) FROM sessions;

-- v2_generations --
CREATE TABLE generations (
    number INTEGER PRIMARY KEY,
    generation TEXT NOT NULL UNIQUE
);

-- v2_first_generation --
INSERT INTO generations (number, generation) SELECT 1, generation FROM monstermq_meta;

-- v2_meta --
CREATE TABLE new_meta (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    generation TEXT,
    boot INTEGER NOT NULL,
    writer TEXT NOT NULL
);

-- v2_copy_meta --
INSERT INTO new_meta (id, generation, boot, writer)
SELECT id, generation, boot, writer FROM monstermq_meta;

-- v2_drop_meta --
DROP TABLE monstermq_meta;

-- v2_rename_meta --
ALTER TABLE new_meta RENAME TO monstermq_meta;

-- v2_watermarks --
CREATE TABLE new_watermarks (
    generation INTEGER NOT NULL,
    partition INTEGER NOT NULL,
    projection TEXT NOT NULL,
    reflected INTEGER,
    restart INTEGER,
    token TEXT NOT NULL,
    version INTEGER NOT NULL,
    PRIMARY KEY (generation, partition, projection)
) WITHOUT ROWID;

-- v2_copy_watermarks --
INSERT INTO new_watermarks (generation, partition, projection, reflected, restart, token, version)
SELECT 1, 0, projection, upto, upto, '', 0 FROM watermarks WHERE partition = 0;

-- v2_mark_of_sessions --
-- They had none, because every commit was theirs as well.
INSERT INTO new_watermarks (generation, partition, projection, reflected, restart, token, version)
SELECT 1, 0, 'sessions', upto, upto, '', 0
FROM (SELECT max(upto) AS upto FROM watermarks WHERE partition = 0) WHERE upto IS NOT NULL;

-- v2_drop_watermarks --
DROP TABLE watermarks;

-- v2_rename_watermarks --
ALTER TABLE new_watermarks RENAME TO watermarks;

-- v2_queues --
CREATE TABLE queues (
    client_id TEXT PRIMARY KEY,
    messages INTEGER NOT NULL,
    size INTEGER NOT NULL
) WITHOUT ROWID;

-- v2_count_queues --
INSERT INTO queues (client_id, messages, size)
SELECT client_id, count(*), sum(size) FROM queuedmessagesclients GROUP BY client_id;
