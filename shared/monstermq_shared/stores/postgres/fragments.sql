-- record --
-- The columns of a record, in the order that ``Record`` takes them.
topic, payload_blob, qos, retained, client_id, {time_ms}, position, message_uuid

-- time_ms --
(extract(epoch FROM time) * 1000)::bigint

-- size --
-- As ``records.size_of`` counts.
octet_length(topic) + octet_length(client_id) + octet_length(payload_blob)

-- here --
-- Not of a session that another partition has.
NOT EXISTS (
    SELECT FROM sessions AS other WHERE other.client_digest = mine.client_digest
    AND (other.generation <> $3 OR other.partition <> $4)
)
