-- stretch --
-- The messages between the place where the page begins and the end of the stretch of time.
    time {from} :until AND time {upto} :time
    AND (time, position, rowid) {beyond} (:time, :position, :row)

-- of_topics --
-- The newest (or oldest) message of each topic, which its index finds; the `limit` newest of those
-- have all that can be in the page, and nothing older than the last of them is.
WITH
topics(name) AS (SELECT value FROM json_each(:topics)),
heads(name, moment) AS MATERIALIZED (
    SELECT topics.name, head.time
    FROM topics CROSS JOIN "{table}" AS head ON head.rowid = (
        SELECT rowid FROM "{table}" WHERE topic = topics.name AND {stretch}
        ORDER BY time {order}, position {order}, rowid {order} LIMIT 1
    )
    ORDER BY head.time {order}, head.position {order}, head.rowid {order} LIMIT :rows
),
found AS (
    SELECT {message}, json_array(time, position, message.rowid) AS place
    FROM heads CROSS JOIN "{table}" AS message ON message.rowid IN (
        SELECT rowid FROM "{table}"
        WHERE topic = heads.name AND {stretch}
        AND time {from} coalesce((SELECT moment FROM heads LIMIT 1 OFFSET :rows - 1), :until)
        ORDER BY time {order}, position {order}, rowid {order} LIMIT :rows
    )
    ORDER BY time {order}, position {order}, message.rowid {order} LIMIT :rows
)
{page};

-- of_stretch --
-- For filters of very many topics: all messages in order of time, those that match.
WITH {filters},
found AS (
    SELECT {message}, json_array(time, position, rowid) AS place
    FROM "{table}" INDEXED BY "{table}_time_idx"
    WHERE {stretch} AND {matching}
    ORDER BY time {order}, position {order}, rowid {order} LIMIT :rows
)
{page};

-- distinct_topics --
-- From topic to topic, each by one look into the index; and the last that was looked at, if there
-- may be others.
WITH RECURSIVE {filters},
each(topic, number) AS (
    SELECT min(topic), 1 FROM "{table}" WHERE topic >= :low AND topic <= coalesce(:last, x'')
    UNION ALL
    SELECT (
        SELECT min(topic) FROM "{table}"
        WHERE topic > each.topic AND topic <= coalesce(:last, x'')
    ), number + 1
    FROM each WHERE topic IS NOT NULL AND number < :visited_max
)
SELECT
    json_group_array(topic) FILTER (WHERE {matching}),
    CASE WHEN count(topic) = :visited_max THEN max(topic) END
FROM each WHERE topic IS NOT NULL;

-- number --
-- The number of a message, NULL if it has none; what a double cannot hold is none. For few messages.
CASE WHEN json_type(payload_json, :field) IN ('integer', 'real')
    AND CAST(json_extract(payload_json, :field) AS REAL)
        BETWEEN -1.7976931348623157e308 AND 1.7976931348623157e308
    THEN CAST(json_extract(payload_json, :field) AS REAL) END

-- in_bucket --
    message.time >= buckets.low AND message.time < buckets.high

-- told --
-- What a bucket tells; numbers as texts of 17 digits, since JSON would have 15. The limits keep
-- SQLite from working each number out once for every place where it is used. Of true and false it
-- makes 1 and 0, so only for these the document is looked at again.
(
    SELECT json_array(
        count(*), count(number), printf('%!.17g', avg(number)), printf('%!.17g', min(number)),
        printf('%!.17g', max(number)), printf('%!.17g', total(number))
    )
    FROM (
        SELECT CASE typeof(value)
            WHEN 'real' THEN CASE WHEN abs(value) <= 1.7976931348623157e308 THEN value END
            WHEN 'integer' THEN CASE
                WHEN value NOT IN (0, 1)
                    OR json_type(CAST(payload_blob AS TEXT), :field) = 'integer'
                THEN CAST(value AS REAL) END
            END AS number
        FROM (
            SELECT json_extract(payload_json, :field) AS value, payload_blob FROM {source} LIMIT -1
        ) LIMIT -1
    )
)

-- first_number --
(
    SELECT printf('%!.17g', number) FROM (
        SELECT {number} AS number, message.time, message.position, message.rowid AS row
        FROM {source}
    ) WHERE number IS NOT NULL ORDER BY time, position, row LIMIT 1
)

-- last_number --
(
    SELECT printf('%!.17g', number) FROM (
        SELECT {number} AS number, message.time, message.position, message.rowid AS row
        FROM {source}
    ) WHERE number IS NOT NULL ORDER BY time DESC, position DESC, row DESC LIMIT 1
)

-- source_of_topic --
"{table}" AS message WHERE message.topic = topics.name AND {in_bucket}

-- source_of_topics --
topics CROSS JOIN "{table}" AS message ON message.topic = topics.name AND {in_bucket}

-- source_of_stretch --
"{table}" AS message INDEXED BY "{table}_time_idx" WHERE {in_bucket} AND {matching}

-- buckets_by_topic --
-- Topic by topic, bucket by bucket, in that order: it stops when the page is full.
WITH topics(name) AS MATERIALIZED (SELECT value FROM json_each(:topics)),
buckets(start, low, high) AS MATERIALIZED (
    SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each(:buckets)
)
SELECT json_group_array(json_array(name, start, json(told), first, last)) FROM (
    SELECT
        topics.name, buckets.start, {told} AS told,
        CASE WHEN :first THEN {first_number} END AS first,
        CASE WHEN :last THEN {last_number} END AS last
    FROM topics CROSS JOIN buckets
    WHERE (topics.name > :after_topic OR buckets.start > :after_start)
    AND EXISTS (SELECT 1 FROM {source})
    LIMIT :rows
);

-- buckets_of_all --
-- The same with all topics in one bucket. Without a list of topics it is all that match.
WITH {filters}, topics(name) AS MATERIALIZED (SELECT value FROM json_each(:topics)),
buckets(start, low, high) AS MATERIALIZED (
    SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each(:buckets)
)
SELECT json_group_array(json_array(NULL, start, json(told), first, last)) FROM (
    SELECT
        buckets.start, {told} AS told,
        CASE WHEN :first THEN {first_number} END AS first,
        CASE WHEN :last THEN {last_number} END AS last
    FROM buckets
    WHERE buckets.start > :after_start AND EXISTS (SELECT 1 FROM {source})
    LIMIT :rows
);
