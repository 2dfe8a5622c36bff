-- values --
-- Where the matches of the filters are, range by range, in order of topic.
WITH {filters},
ranges(low, last) AS MATERIALIZED (SELECT value ->> 0, value ->> 1 FROM json_each(:ranges)),
found AS (
    SELECT {message}, position AS place
    FROM ranges CROSS JOIN "{table}"
    WHERE topic >= ranges.low AND topic <= coalesce(ranges.last, x'')
    AND topic > :after AND {matching}
    LIMIT :rows
)
{page};

-- described --
-- Found topics, one row with everything as JSON, each with its config if there is one.
SELECT json_group_array(json_array(
    found.topic, substr(config.description, 1, :text_max), substr(config.payload, 1, :text_max),
    found.id
))
FROM found LEFT JOIN (
    SELECT topic, payload, {description} AS description FROM "{retained}"
) AS config ON config.topic = found.topic || '/<config>'

-- names --
-- Where there is no index. Where case matters, what every match begins with is a range.
WITH found(topic, id) AS (
    SELECT topic, 0 FROM (
        SELECT topic FROM "{table}"
        WHERE topic > :after AND topic >= :low AND topic < coalesce(:high, x'') AND {alike}
        UNION
        SELECT topic FROM "{other}"
        WHERE topic > :after AND topic >= :low AND topic < coalesce(:high, x'') AND {alike}
        ORDER BY topic LIMIT :rows
    )
)
{described};

-- there --
    (
        EXISTS (SELECT 1 FROM "{table}" AS kept WHERE kept.topic = named.topic)
        OR EXISTS (SELECT 1 FROM "{other}" AS kept WHERE kept.topic = named.topic)
    )

-- indexed_names --
-- In the order in which they came into the index, so it stops when the page is full.
WITH found(topic, id) AS (
    SELECT topic, id
    FROM topic_index AS hit CROSS JOIN topic_names AS named ON named.id = hit.rowid
    WHERE hit.topic_index MATCH :trigrams AND hit.rowid > :id
    AND +topic > :after AND {alike} AND {there}
    ORDER BY hit.rowid LIMIT :rows
)
{described};

-- all_names --
-- For patterns without three characters in a row.
WITH found(topic, id) AS (
    SELECT topic, id FROM topic_names AS named
    WHERE id > :id AND +topic > :after AND {alike} AND {there}
    ORDER BY id LIMIT :rows
)
{described};

-- noted_names --
-- What is not in the index yet; it comes last, in order of topic.
WITH found(topic, id) AS (
    SELECT topic, (SELECT coalesce(max(id), 0) FROM topic_names)
    FROM (SELECT DISTINCT topic FROM topic_changes WHERE topic > :after AND {alike}) AS named
    WHERE {there} AND NOT EXISTS (SELECT 1 FROM topic_names AS old WHERE old.topic = named.topic)
    ORDER BY topic LIMIT :rows
)
{described};

-- alike_ignoring_case --
topic LIKE :pattern ESCAPE '\'

-- alike --
topic GLOB :pattern

-- children --
-- From child to child by one look into each index: of a topic to the next one, of topics below a
-- child to what follows all of them. A child that is a topic and has others below it comes twice.
WITH RECURSIVE node(topic, number) AS (
    SELECT {first_from_low}, 1
    UNION ALL
    SELECT {first_from_next}, number + 1 FROM node WHERE topic IS NOT NULL AND number < :visited_max
)
SELECT json_group_array(topic), count(*) = :visited_max FROM node WHERE topic IS NOT NULL;

-- first_from_low --
(
    SELECT min(topic) FROM (
        SELECT min(topic) AS topic FROM "{table}"
        WHERE topic >= :low AND topic < coalesce(:high, x'')
        UNION ALL
        SELECT min(topic) FROM "{other}" WHERE topic >= :low AND topic < coalesce(:high, x'')
    )
)

-- first_from_next --
(
    SELECT min(topic) FROM (
        SELECT min(topic) AS topic FROM "{table}"
        WHERE topic >= {next} AND topic < coalesce(:high, x'')
        UNION ALL
        SELECT min(topic) FROM "{other}" WHERE topic >= {next} AND topic < coalesce(:high, x'')
    )
)

-- next --
CASE instr(substr(node.topic, :skipped + 1), '/')
    WHEN 0 THEN node.topic || char(1)
    ELSE substr(node.topic, 1, :skipped + instr(substr(node.topic, :skipped + 1), '/') - 1) || '0'
END

-- nodes --
-- What there is of some children: a value, topics below.
SELECT json_group_array(json_array(
    value,
    EXISTS (SELECT 1 FROM "{table}" WHERE topic = :prefix || value)
        OR EXISTS (SELECT 1 FROM "{other}" WHERE topic = :prefix || value),
    EXISTS (
        SELECT 1 FROM "{table}"
        WHERE topic >= :prefix || value || '/' AND topic < :prefix || value || '0'
    ) OR EXISTS (
        SELECT 1 FROM "{other}"
        WHERE topic >= :prefix || value || '/' AND topic < :prefix || value || '0'
    )
))
FROM json_each(:names);

-- undescribed --
-- The same where nothing retained is kept here.
SELECT json_group_array(json_array(found.topic, NULL, NULL, found.id)) FROM found

-- worded --
-- Whether a config, with its topic, is wanted. Long descriptions count by their beginning.
    topic GLOB '?*/<config>' AND (:pattern IS NULL OR {alike}) AND description IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM json_each(:words) WHERE NOT {containing})

-- configs --
(SELECT topic, substr({description}, 1, :text_max) AS description FROM "{retained}")

-- descriptions --
-- Where there is no index. In order of the topics that have the configs.
WITH found(topic, id) AS (
    SELECT substr(topic, 1, length(topic) - length('/<config>')), 0 FROM {configs}
    WHERE topic > :after AND {worded}
    ORDER BY topic LIMIT :rows
)
{described};

-- indexed_descriptions --
WITH found(topic, id) AS (
    SELECT substr(topic, 1, length(topic) - length('/<config>')), id FROM (
        SELECT kept.topic, kept.description, named.id
        FROM description_index AS hit CROSS JOIN topic_names AS named ON named.id = hit.rowid
        CROSS JOIN {configs} AS kept ON kept.topic = named.topic
        WHERE hit.description_index MATCH :trigrams AND hit.rowid > :id
        AND named.topic NOT IN (SELECT topic FROM topic_changes)
        ORDER BY hit.rowid LIMIT -1
    ) WHERE topic > :after AND {worded}
    LIMIT :rows
)
{described};

-- all_descriptions --
-- For words without three characters in a row.
WITH found(topic, id) AS (
    SELECT substr(topic, 1, length(topic) - length('/<config>')), id FROM (
        SELECT kept.topic, kept.description, named.id
        FROM topic_names AS named CROSS JOIN {configs} AS kept ON kept.topic = named.topic
        WHERE named.id > :id AND named.description IS NOT NULL
        AND named.topic NOT IN (SELECT topic FROM topic_changes)
        ORDER BY named.id LIMIT -1
    ) WHERE topic > :after AND {worded}
    LIMIT :rows
)
{described};

-- noted_descriptions --
WITH found(topic, id) AS (
    SELECT
        substr(topic, 1, length(topic) - length('/<config>')),
        (SELECT coalesce(max(id), 0) FROM topic_names)
    FROM {configs}
    WHERE topic IN (SELECT topic FROM topic_changes) AND topic > :after AND {worded}
    ORDER BY topic LIMIT :rows
)
{described};

-- has_index --
SELECT sqlite_compileoption_used('ENABLE_FTS5')
    AND EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'topic_index');

-- containing_ignoring_case --
description LIKE value ESCAPE '\'

-- containing --
description GLOB value
