-- meta_table --
-- One row. The log is the one of the last run, none before the first.
CREATE TABLE monstermq_meta (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    generation TEXT,
    boot INTEGER NOT NULL,
    writer TEXT NOT NULL
);

-- first_meta --
INSERT INTO monstermq_meta (id, boot, writer) VALUES (1, 0, '');

-- generations_table --
-- Rows have the number, because a generation is as long as a message.
CREATE TABLE generations (
    number INTEGER PRIMARY KEY,
    generation TEXT NOT NULL UNIQUE
);

-- watermarks_table --
-- The mark of a projection, and the tenure of whoever may move it. The rows of one partition are
-- together, so that a commit touches one page.
CREATE TABLE watermarks (
    generation INTEGER NOT NULL,
    partition INTEGER NOT NULL,
    projection TEXT NOT NULL,
    reflected INTEGER,
    restart INTEGER,
    token TEXT NOT NULL,
    version INTEGER NOT NULL,
    PRIMARY KEY (generation, partition, projection)
) WITHOUT ROWID;

-- take_over --
UPDATE monstermq_meta SET writer = ?;

-- writer --
SELECT writer FROM monstermq_meta;

-- log --
SELECT generation, boot FROM monstermq_meta WHERE generation IS NOT NULL;

-- begin_boot --
UPDATE monstermq_meta SET generation = ?, boot = ?;

-- put_generation --
INSERT INTO generations (generation) VALUES (?) ON CONFLICT (generation) DO NOTHING;

-- generation_number --
SELECT number FROM generations WHERE generation = ?;

-- begin_tenure --
-- ?4 is a JSON array of projections.
INSERT INTO watermarks (generation, partition, token, version, projection)
SELECT ?1, ?2, ?3, 0, value FROM json_each(?4) WHERE true
ON CONFLICT (generation, partition, projection) DO UPDATE SET token = excluded.token, version = 0;

-- marks --
SELECT projection, reflected, restart FROM watermarks
WHERE generation = (SELECT number FROM generations WHERE generation = ?1) AND partition = ?2
AND reflected IS NOT NULL;

-- advance --
-- Its row count tells whether the tenure goes on. A mark never goes back.
UPDATE watermarks SET
    reflected = max(coalesce(reflected, 0), ?5),
    restart = max(coalesce(restart, 0), ?6),
    version = version + 1
WHERE generation = ?1 AND partition = ?2 AND token = ?3 AND version = ?4;

-- version_of_tenure --
SELECT max(version) FROM watermarks WHERE generation = ?1 AND partition = ?2 AND token = ?3;

-- count_sessions --
SELECT count(*) FROM sessions;
