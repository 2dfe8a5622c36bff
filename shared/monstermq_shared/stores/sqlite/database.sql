-- meta_table --
-- One row. The generation says which log the positions belong to; a commit is conditional on the
-- writer, so that of two processes at most one can write.
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
RETURNING generation, boot;

-- begin_commits --
-- The number of the last commit stands beside the watermarks, in a partition that no log has, so
-- that a commit touches one page for both.
INSERT INTO watermarks (projection, partition, upto) VALUES ('', -1, 0)
ON CONFLICT (projection, partition) DO UPDATE SET upto = upto + 1
RETURNING upto;

-- advance_commits --
UPDATE watermarks SET upto = upto + 1
WHERE projection = '' AND partition = -1 AND upto = ?2
AND EXISTS (SELECT 1 FROM monstermq_meta WHERE writer = ?1);

-- last_commit --
SELECT writer, upto FROM monstermq_meta, watermarks WHERE projection = '' AND partition = -1;

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
