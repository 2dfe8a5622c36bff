-- changes_table --
-- Topics that have come or gone, or are described anew, and are not in the index yet. A commit
-- appends to it and does no more: to take a topic into the index costs more than to store it.
CREATE TABLE IF NOT EXISTS topic_changes (
    id INTEGER PRIMARY KEY,
    topic TEXT NOT NULL
);

-- names_table --
-- What is in the index, by number. The description is that in a config, on the config's topic.
CREATE TABLE IF NOT EXISTS topic_names (
    id INTEGER PRIMARY KEY,
    topic TEXT NOT NULL UNIQUE,
    description TEXT
);

-- name_index_table --
-- Which topics have three characters in a row, by number; nothing else of them is kept here.
CREATE VIRTUAL TABLE IF NOT EXISTS topic_index USING fts5(
    name, content='', tokenize='trigram', detail='none', columnsize=0
);

-- description_index_table --
CREATE VIRTUAL TABLE IF NOT EXISTS description_index USING fts5(
    content, content='', tokenize='trigram', detail='none', columnsize=0
);

-- first_changes --
-- All topics of a table that is taken into the index. What tells whether it is in it already is
-- joined first: as a condition, SQLite would go through all topics at every start and try it on each.
INSERT INTO topic_changes (topic)
SELECT topic FROM (
    SELECT 1
    WHERE NOT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'trigger' AND name = '{table}_added')
) CROSS JOIN "{table}";

-- added_trigger --
CREATE TRIGGER IF NOT EXISTS "{table}_added" AFTER INSERT ON "{table}"
BEGIN
    INSERT INTO topic_changes (topic) VALUES (new.topic);
END;

-- removed_trigger --
CREATE TRIGGER IF NOT EXISTS "{table}_removed" AFTER DELETE ON "{table}"
BEGIN
    INSERT INTO topic_changes (topic) VALUES (old.topic);
END;

-- described_trigger --
CREATE TRIGGER IF NOT EXISTS "{retained}_described" AFTER UPDATE OF payload_blob ON "{retained}"
WHEN new.topic GLOB '?*/<config>'
BEGIN
    INSERT INTO topic_changes (topic) VALUES (new.topic);
END;

-- upto --
-- Up to which change one slice goes: ?1 rows, or ?2 bytes of topics.
SELECT max(id) FROM (
    SELECT id, length(topic) AS own, sum(length(topic)) OVER (ROWS UNBOUNDED PRECEDING) AS size
    FROM (SELECT id, topic FROM topic_changes ORDER BY id LIMIT ?1)
) WHERE size - own < ?2;

-- changed --
    SELECT topic FROM topic_changes WHERE id <= :upto

-- there_in --
EXISTS (SELECT 1 FROM "{table}" AS kept WHERE kept.topic = topic_names.topic)

-- described_now --
-- Long descriptions are found by their beginning.
(
    SELECT substr({description}, 1, 2048)
    FROM "{retained}" AS config WHERE config.topic = topic_names.topic
)

-- add_names --
-- What has gone again meanwhile never comes into it.
INSERT INTO topic_names (topic)
SELECT DISTINCT topic FROM topic_changes AS topic_names WHERE id <= :upto AND ({there})
ON CONFLICT DO NOTHING;

-- add_to_index --
INSERT INTO topic_index (rowid, name) SELECT id, topic FROM topic_names WHERE id > :last;

-- remove_descriptions --
INSERT INTO description_index (description_index, rowid, content)
SELECT 'delete', id, description FROM topic_names
WHERE topic IN ({changed}) AND description IS NOT NULL AND description IS NOT {described_now};

-- add_descriptions --
INSERT INTO description_index (rowid, content)
SELECT id, now FROM (
    SELECT id, description, {described_now} AS now FROM topic_names
    WHERE topic IN ({changed}) AND topic GLOB '?*/<config>'
) WHERE now IS NOT NULL AND now IS NOT description;

-- describe --
UPDATE topic_names SET description = {described_now}
WHERE topic IN ({changed}) AND topic GLOB '?*/<config>';

-- remove_from_index --
INSERT INTO topic_index (topic_index, rowid, name)
SELECT 'delete', id, topic FROM topic_names WHERE topic IN ({changed}) AND NOT ({there});

-- remove_names --
DELETE FROM topic_names WHERE topic IN ({changed}) AND NOT ({there});

-- done --
DELETE FROM topic_changes WHERE id <= :upto;

-- last_name --
SELECT coalesce(max(id), 0) FROM topic_names;

-- behind --
-- About how many changes there are: each end is one look.
SELECT coalesce((SELECT max(id) FROM topic_changes) - (SELECT min(id) FROM topic_changes) + 1, 0);
