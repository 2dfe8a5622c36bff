-- meta_table --
-- One row. The generation says which log the positions belong to; a commit is conditional on
-- writer and version, so that of two processes at most one can write.
CREATE TABLE monstermq_meta (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    generation TEXT NOT NULL,
    boot INTEGER NOT NULL,
    writer TEXT NOT NULL,
    version INTEGER NOT NULL
);

-- first_meta --
INSERT INTO monstermq_meta (id, generation, boot, writer, version) VALUES (1, ?, 0, '', 0);

-- watermarks_table --
CREATE TABLE watermarks (
    projection TEXT NOT NULL,
    partition INTEGER NOT NULL,
    upto INTEGER NOT NULL,
    PRIMARY KEY (projection, partition)
) WITHOUT ROWID;

-- begin_boot --
UPDATE monstermq_meta SET boot = boot + 1, writer = ?, version = version + 1
RETURNING generation, boot, version;

-- advance_version --
UPDATE monstermq_meta SET version = version + 1 WHERE writer = ? AND version = ?;

-- version --
SELECT writer, version FROM monstermq_meta;

-- advance_watermarks --
-- ?1 is a JSON array of projections. A watermark never goes back.
INSERT INTO watermarks (projection, partition, upto)
SELECT value, 0, ?2 FROM json_each(?1) WHERE true
ON CONFLICT (projection, partition) DO UPDATE SET upto = max(upto, excluded.upto);

-- watermarks --
SELECT projection, upto FROM watermarks WHERE partition = 0;

-- tables --
SELECT name FROM sqlite_schema WHERE type = 'table';

-- summary --
SELECT (SELECT count(*) FROM sessions), (SELECT count(*) FROM queuedmessagesclients);
