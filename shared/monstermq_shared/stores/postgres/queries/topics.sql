-- value --
-- What rows.message_of reads of each value: of large payloads the beginning, and the length.
topic, {time_ms} AS time_ms, substr(payload_blob, 1, {payload_limit}) AS start,
octet_length(payload_blob) AS size, payload IS NOT NULL AS is_text, qos, retained, client_id,
message_uuid

-- columns --
topic, time, payload_blob, payload, qos, retained, client_id, message_uuid, generation, partition,
position

-- exact --
(
    SELECT {rank} AS rank, {columns} FROM "{table}"
    WHERE topic_digest = ANY($1::bytea[]) AND topic = ANY($2::text[])
)

-- walk --
-- From topic $1 on and above $2, below $3 (NULL: no end).
(
    SELECT {rank} AS rank, {columns} FROM "{table}"
    WHERE left(topic, 250) >= left($1, 250) AND topic >= $1
    AND left(topic, 250) >= left($2, 250) AND topic > $2
    AND ($3::text IS NULL OR (left(topic, 250) <= left($3, 250) AND topic < $3))
    AND topic ~ $4
    ORDER BY left(topic, 250), topic LIMIT {rows}
)

-- values --
-- Of each topic the newer value, up to a number of bytes; and how many there are without it.
SELECT {value}, rank, found FROM (
    SELECT
        *, count(*) OVER () AS found,
        sum(own) OVER (ORDER BY topic ROWS UNBOUNDED PRECEDING) - own AS before
    FROM (
        SELECT
            *,
            octet_length(topic) + octet_length(client_id) + 64
            + least(octet_length(payload_blob), {payload_limit}) AS own
        FROM (
            SELECT DISTINCT ON (topic) * FROM ({united}) AS united
            ORDER BY topic, time DESC, generation DESC, partition DESC, position DESC, rank
            LIMIT {rows}
        ) AS newer
    ) AS sized
) AS counted
WHERE before < {size_max} ORDER BY topic;

-- named --
-- Topics above $1, from $2 on and below $3 where the beginning of the name is known (NULL: not).
left(topic, 250) >= left($1, 250) AND topic > $1
AND ($2::text IS NULL OR left(topic, 250) >= left($2, 250))
AND ($3::text IS NULL OR left(topic, 250) <= left($3, 250))

-- stroll --
-- The first $5 topics in order: those whose names match, and the last one.
(
    SELECT {rank} AS rank, topic, is_match, number = $5 AS is_last FROM (
        SELECT topic, topic {like} $4 AS is_match, row_number() OVER () AS number FROM (
            SELECT topic FROM "{table}" WHERE {named} ORDER BY left(topic, 250), topic LIMIT $5
        ) AS stretch
    ) AS numbered
    WHERE is_match OR number = $5
)

-- names --
-- All that match, then the first of them. A walk in order until there are enough might go through
-- everything: what is named alike stands together, perhaps at the end.
WITH found AS MATERIALIZED ({united})
SELECT topic FROM found GROUP BY topic ORDER BY topic LIMIT $5;

-- matching --
SELECT topic FROM "{table}" WHERE topic {like} $4 AND {named}

-- description --
CASE
    WHEN jsonb_typeof(payload_json -> 'Description') = 'string' THEN payload_json ->> 'Description'
    WHEN jsonb_typeof(payload_json -> 'description') = 'string' THEN payload_json ->> 'description'
END

-- configs --
SELECT topic, left({description}, $3) AS description, left(payload, $3) AS config
FROM "{table}" WHERE topic_digest = ANY($1::bytea[]) AND topic = ANY($2::text[]);

-- described --
-- Above topic $1, from $2 on and below $3: the range of a namespace.
SELECT topic, left(description, $6) AS description, left(config, $6) AS config FROM (
    SELECT topic, {description} AS description, payload AS config FROM "{table}"
    WHERE topic_l = '<config>' AND topic LIKE '%/<config>'
    AND left(topic, 250) >= left($1, 250) AND topic > $1
    AND left(topic, 250) >= left($2, 250) AND topic >= $2
    AND ($3::text IS NULL OR (left(topic, 250) <= left($3, 250) AND topic < $3))
    AND topic <> $2 || '<config>'
) AS config
WHERE description {like} ALL($4::text[])
ORDER BY left(topic, 250), topic LIMIT $5;

-- first_topic --
-- The first topic from a text on and below $2.
(
    SELECT topic FROM "{table}"
    WHERE left(topic, 250) >= left({low}, 250) AND topic >= {low}
    AND left(topic, 250) <= left($2, 250) AND topic < $2
    ORDER BY left(topic, 250), topic LIMIT 1
)

-- hop_on --
-- Behind a topic, or behind all that is below the same child of $1: nothing is between a text and
-- the same with chr(1), and the digit 0 follows the slash.
CASE
    WHEN strpos(substr(hop.topic, length($1) + 1), '/') = 0 THEN hop.topic || chr(1)
    ELSE $1 || split_part(substr(hop.topic, length($1) + 1), '/', 1) || '0'
END

-- hops --
-- From child to child of what ends with a slash ($1), from a topic on ($3), $4 steps at most.
WITH RECURSIVE hop (topic) AS (
    SELECT least({first}) UNION ALL SELECT least({following}) FROM hop WHERE topic IS NOT NULL
)
SELECT topic FROM hop WHERE topic IS NOT NULL LIMIT $4;

-- is_there --
EXISTS (
    SELECT FROM "{table}"
    WHERE left(topic, 250) = left($1 || name, 250) AND topic = $1 || name
)

-- is_above --
EXISTS (
    SELECT FROM "{table}"
    WHERE left(topic, 250) >= left($1 || name || '/', 250) AND topic >= $1 || name || '/'
    AND left(topic, 250) <= left($1 || name || '0', 250) AND topic < $1 || name || '0'
)

-- children --
-- Which of these names ($2) are children of what ends with a slash ($1), and what they are.
SELECT name, has_value, has_children FROM (
    SELECT name, {has_value} AS has_value, {has_children} AS has_children
    FROM unnest($2::text[]) AS name
) AS found
WHERE has_value OR has_children;
