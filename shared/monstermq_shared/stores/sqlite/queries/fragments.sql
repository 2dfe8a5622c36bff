-- filters --
-- The JSON of filters.filter_rows as rows.
filters(exact, low, last, shape, slashes_min, slashes_max, needed) AS MATERIALIZED (
    SELECT
        value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value -> 6
    FROM json_each(:filters)
)

-- matching --
-- Whether `topic` matches one of them.
EXISTS (
    SELECT 1 FROM filters AS wanted WHERE topic = wanted.exact OR (
        topic >= wanted.low
        AND topic < coalesce(wanted.last, x'')
        AND (wanted.shape IS NULL OR topic GLOB wanted.shape)
        AND length(topic) - length(replace(topic, '/', ''))
            BETWEEN wanted.slashes_min AND coalesce(wanted.slashes_max, 65535)
        AND (wanted.needed = 'null' OR NOT EXISTS (
            SELECT 1 FROM json_each(wanted.needed) AS level
            WHERE level.value ->> 1 IS NOT json_extract(
                '[' || replace(json_quote(topic), '/', '","') || ']', level.value ->> 0
            )
        ))
    )
)

-- message --
-- What rows.read_messages reads of each message: of large payloads the beginning, and the length.
-- (SQLite's substr makes NULL of a blob that is empty.)
    topic, time, coalesce(substr(payload_blob, 1, :payload_limit), x'') AS start,
    length(payload_blob) AS size, is_text, qos, retained, client_id, message_uuid

-- page --
-- One row with everything as JSON, because the driver waits for the interpreter lock for each row it
-- fetches. `total` is the size of all rows up to this one: what is beyond the bound stays here.
SELECT
    json_group_array(json_array(
        topic, unixepoch(substr(time, 1, 19)) * 1000 + substr(time, 21, 3), hex(start), size,
        is_text, qos, retained, client_id, message_uuid, json(place)
    )) FILTER (WHERE total - own < :size_max),
    count(*)
FROM (
    SELECT *, sum(own) OVER (ROWS UNBOUNDED PRECEDING) AS total
    FROM (
        SELECT *, length(start) + length(topic) + length(client_id) + 64 AS own FROM found
    )
)
