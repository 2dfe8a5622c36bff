-- record --
-- The columns of a record, in the order that ``Record`` takes them.
topic, payload_blob, qos, retained, client_id, {time_ms}, position, message_uuid

-- time_ms --
(extract(epoch FROM time) * 1000)::bigint

-- size --
-- As ``records.size_of`` counts.
octet_length(topic) + octet_length(client_id) + octet_length(payload_blob)
