-- number --
CASE WHEN jsonb_typeof(field) = 'number' THEN field::numeric END

-- held --
-- What a double cannot hold is none.
abs(number) <= 1.7976931348623157e308

-- of_topic --
"{table}" AS message
WHERE left(topic, 250) = left(wanted.name, 250) AND topic = wanted.name
AND time >= low AND time < high

-- of_stretch --
"{table}" AS message
WHERE time >= low AND time < high AND (topic = ANY($1::text[]) OR topic ~ $6)

-- numbers --
-- The number of each message, NULL if it has none. OFFSET 0 keeps what is inside from being worked
-- out again for each use of it outside.
(
    SELECT CASE WHEN {held} THEN number END AS number FROM (
        SELECT {number} AS number FROM (SELECT {field} AS field FROM {source} OFFSET 0) AS one
        OFFSET 0
    ) AS every OFFSET 0
) AS each

-- told --
-- What is not asked for is NULL, because every function costs a tenth of the time.
SELECT count(*) AS messages, count(number) AS numbers, {avg}, {min}, {max}, {sum}

-- end --
-- The first number or the last, which an index finds.
(
    SELECT number FROM (
        SELECT {number} AS number, time, generation, partition, position FROM (
            SELECT {field} AS field, time, generation, partition, position FROM {source}
        ) AS one
    ) AS each
    WHERE {held} ORDER BY {in_order} LIMIT 1
)

-- end_of_all --
(
    SELECT number FROM unnest($1::text[]) AS wanted (name) CROSS JOIN LATERAL (
        SELECT number, time, generation, partition, position FROM (
            SELECT {number} AS number, time, generation, partition, position FROM (
                SELECT {field} AS field, time, generation, partition, position FROM {source}
            ) AS one
        ) AS each
        WHERE {held} ORDER BY time {order}, position {order} LIMIT 1
    ) AS found
    ORDER BY time {order}, generation {order}, partition {order}, position {order} LIMIT 1
)

-- buckets_of_each --
-- Buckets ($2 to $3) of some topics, in that order, behind number $4 of the first topic.
SELECT
    wanted.name AS topic, bucket.number, messages, numbers, avg, min, max, sum,
    {first} AS first, {last} AS last
FROM unnest($1::text[]) WITH ORDINALITY AS wanted (name, place)
CROSS JOIN unnest($2::timestamptz[], $3::timestamptz[]) WITH ORDINALITY AS bucket (low, high, number)
CROSS JOIN LATERAL ({told} FROM {numbers}) AS told
WHERE messages > 0 AND (place > 1 OR bucket.number > $4)
ORDER BY place, bucket.number LIMIT $5;

-- buckets_of_topics --
-- The same with all topics in one bucket.
SELECT
    NULL::text AS topic, bucket.number, messages, numbers, avg, min, max, sum,
    {first} AS first, {last} AS last
FROM unnest($2::timestamptz[], $3::timestamptz[]) WITH ORDINALITY AS bucket (low, high, number)
CROSS JOIN LATERAL (
    {told} FROM unnest($1::text[]) AS wanted (name) CROSS JOIN LATERAL {numbers}
) AS told
WHERE messages > 0 AND bucket.number > $4
ORDER BY bucket.number LIMIT $5;

-- buckets_of_stretch --
-- The same for filters of very many topics: of all messages of that time, those that match.
SELECT
    NULL::text AS topic, bucket.number, messages, numbers, avg, min, max, sum,
    {first} AS first, {last} AS last
FROM unnest($2::timestamptz[], $3::timestamptz[]) WITH ORDINALITY AS bucket (low, high, number)
CROSS JOIN LATERAL ({told} FROM {numbers}) AS told
WHERE messages > 0 AND bucket.number > $4
ORDER BY bucket.number LIMIT $5;
