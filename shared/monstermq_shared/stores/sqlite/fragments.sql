-- record --
-- What rows.read_record reads.
    topic, payload_blob, qos, retained, client_id,
    unixepoch(substr(time, 1, 19)) * 1000 + substr(time, 21, 3),
    position, message_uuid

-- page --
-- What rows.read_page reads: a page is one row whose columns are JSON arrays, because the
-- driver lets go of the interpreter lock, and waits for it again, for every row it fetches: with a
-- busy event loop that is up to a switch interval each (``sys.getswitchinterval``).
    json_group_array(short_topic),
    json_group_array(payload_hex),
    json_group_array(qos),
    json_group_array(retained),
    json_group_array(short_client_id),
    json_group_array(unixepoch(substr(time, 1, 19)) * 1000 + substr(time, 21, 3)),
    json_group_array(position),
    json_group_array(message_uuid)

-- payload_hex --
-- For the select that `page` is read from. Large payloads are left out and fetched one by one. To
-- be told the length, SQLite need not read the payload, but only where it selects from the table.
    CASE WHEN length(payload_blob) <= 4096 THEN hex(payload_blob) END AS payload_hex

-- short_topic --
-- The same for topics; a table is asked for more than a page holds, so every column has a bound.
    CASE WHEN length(topic) <= 1024 THEN topic END AS short_topic

-- short_client_id --
    CASE WHEN length(client_id) <= 1024 THEN client_id END AS short_client_id

-- description --
-- What describes a topic, in the row of its config: the first of the two members that is a text.
    CASE
        WHEN json_type(payload_json, '$.Description') = 'text'
            THEN json_extract(payload_json, '$.Description')
        WHEN json_type(payload_json, '$.description') = 'text'
            THEN json_extract(payload_json, '$.description')
    END
