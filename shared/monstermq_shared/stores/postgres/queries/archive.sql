-- message --
-- What rows.read_page reads of each message: of large payloads the beginning, and the length.
topic, {time_ms} AS time_ms, substr(payload_blob, 1, $8) AS start,
octet_length(payload_blob) AS size, payload IS NOT NULL AS is_text, qos, retained, client_id,
message_uuid, time, generation, partition, position

-- in_order --
time {order}, generation {order}, partition {order}, position {order}

-- stretch --
-- The messages from the place where the page begins ($3 to $6) to the end of the stretch ($2).
time {from} $2 AND time {upto} $3
AND ($4::smallint IS NULL OR (time, generation, partition, position) {beyond} ($3, $4, $5, $6))

-- of_topics --
-- The newest (or oldest) message of each topic, which its index finds; the first $7 of those have all
-- that can be in the page, and nothing beyond the last of them is.
WITH heads AS MATERIALIZED (
    SELECT name, time FROM unnest($1::text[]) AS name CROSS JOIN LATERAL (
        SELECT time, generation, partition, position FROM "{table}"
        WHERE left(topic, 250) = left(name, 250) AND topic = name AND {stretch}
        ORDER BY time {order}, position {order} LIMIT 1
    ) AS head
    ORDER BY {in_order} LIMIT $7
),
found AS MATERIALIZED (
    SELECT message.* FROM heads CROSS JOIN LATERAL (
        SELECT * FROM "{table}"
        WHERE left(topic, 250) = left(name, 250) AND topic = name AND {stretch}
        AND time {from} coalesce((SELECT heads.time FROM heads OFFSET $7::bigint - 1), $2)
        ORDER BY time {order}, position {order} LIMIT $7
    ) AS message
    ORDER BY {in_order} LIMIT $7
)
{page}

-- of_stretch --
-- For filters of very many topics: all messages in order of time, those that match.
WITH found AS MATERIALIZED (
    SELECT * FROM "{table}" WHERE (topic = ANY($1::text[]) OR topic ~ $10) AND {stretch}
    ORDER BY {in_order} LIMIT $7
)
{page}

-- page --
-- Up to a number of bytes ($9); and how many were found, with and without it.
SELECT {message}, found FROM (
    SELECT *, count(*) OVER () AS found, sum(own) OVER so_far - own AS before
    FROM (
        SELECT
            *,
            octet_length(topic) + octet_length(client_id) + 64
            + least(octet_length(payload_blob), $8) AS own
        FROM found
    ) AS sized
    WINDOW so_far AS (ORDER BY {in_order} ROWS UNBOUNDED PRECEDING)
) AS counted
WHERE before < $9 ORDER BY {in_order};

-- topics --
-- From topic to topic ($1 to $2, NULL: no end), each by one look into the index, $4 at most; those
-- that match, and the last that was looked at. The index has 250 characters: what has more is told
-- by topics_beginning.
WITH RECURSIVE each (start, number) AS (
    (
        SELECT left(topic, 250), 1 FROM "{table}"
        WHERE left(topic, 250) >= left($1, 250)
        AND ($2::text IS NULL OR left(topic, 250) <= left($2, 250))
        ORDER BY left(topic, 250) LIMIT 1
    )
    UNION ALL
    SELECT (
        SELECT left(topic, 250) FROM "{table}"
        WHERE left(topic, 250) > each.start
        AND ($2::text IS NULL OR left(topic, 250) <= left($2, 250))
        ORDER BY left(topic, 250) LIMIT 1
    ), number + 1
    FROM each WHERE start IS NOT NULL AND number < $4
)
SELECT start, number, start ~ $3 AS is_match FROM each
WHERE start IS NOT NULL AND (
    start ~ $3 OR length(start) = 250
    OR number = (SELECT max(number) FROM each WHERE start IS NOT NULL)
);

-- topics_beginning --
-- Those above topic $3 that begin so; $4 at most.
SELECT DISTINCT topic FROM "{table}"
WHERE left(topic, 250) = ANY($1::text[]) AND topic ~ $2 AND topic > $3 ORDER BY topic LIMIT $4;
