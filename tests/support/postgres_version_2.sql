-- A database of schema version 2, as an edge and two projectors on Kafka have left it, with a session
-- that an internal log left before. See postgres_version_2.py.
CREATE FUNCTION monstermq_json(payload bytea) RETURNS jsonb
    LANGUAGE plpgsql IMMUTABLE STRICT
    AS $$
BEGIN
    IF pg_catalog.position(
        pg_catalog.decode('20090a0d222d303132333435363738395b666e747b', 'hex'),
        pg_catalog.substr(payload, 1, 1)
    ) = 0 THEN
        RETURN NULL;
    END IF;
    RETURN pg_catalog.convert_from(payload, 'UTF8')::pg_catalog.jsonb;
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END
$$;
CREATE FUNCTION monstermq_text(payload bytea) RETURNS text
    LANGUAGE plpgsql IMMUTABLE STRICT
    AS $$
BEGIN
    RETURN pg_catalog.convert_from(payload, 'UTF8');
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END
$$;
CREATE TABLE fences (
    projection text NOT NULL COLLATE pg_catalog."C",
    generation smallint NOT NULL,
    partition integer NOT NULL,
    upto bigint NOT NULL,
    newest_ms bigint NOT NULL,
    clients json NOT NULL
);
CREATE TABLE generations (
    number smallint NOT NULL,
    generation text NOT NULL COLLATE pg_catalog."C"
);
CREATE TABLE inflight (
    client_digest bytea NOT NULL,
    packet_id integer NOT NULL,
    generation smallint NOT NULL,
    partition integer NOT NULL,
    "position" bigint NOT NULL,
    state smallint NOT NULL
);
CREATE TABLE mcparchive (
    topic text NOT NULL COLLATE pg_catalog."C",
    "time" timestamp with time zone NOT NULL,
    payload_blob bytea NOT NULL,
    payload text GENERATED ALWAYS AS (monstermq_text(payload_blob)) STORED COLLATE pg_catalog."C",
    payload_json jsonb GENERATED ALWAYS AS (monstermq_json(payload_blob)) STORED,
    qos smallint NOT NULL,
    retained boolean NOT NULL,
    client_id text NOT NULL COLLATE pg_catalog."C",
    message_uuid character varying(36) NOT NULL COLLATE pg_catalog."C",
    generation smallint NOT NULL,
    partition integer NOT NULL,
    "position" bigint NOT NULL,
    properties jsonb,
    expires_at timestamp with time zone
);
CREATE TABLE monstermq_meta (
    id boolean DEFAULT true NOT NULL,
    schema_version integer NOT NULL,
    generation text COLLATE pg_catalog."C",
    boot bigint,
    holder_host text COLLATE pg_catalog."C",
    holder_process bigint,
    holder_since timestamp with time zone,
    CONSTRAINT monstermq_meta_id_check CHECK (id)
);
CREATE TABLE monstermq_tables (
    name text NOT NULL COLLATE pg_catalog."C",
    kind text NOT NULL COLLATE pg_catalog."C"
);
CREATE TABLE open_ids (
    client_digest bytea NOT NULL,
    packet_id integer NOT NULL,
    generation smallint NOT NULL,
    partition integer NOT NULL,
    "position" bigint NOT NULL
);
CREATE TABLE quarantine (
    generation smallint NOT NULL,
    partition integer NOT NULL,
    "position" bigint NOT NULL,
    "time" timestamp with time zone NOT NULL,
    reason text NOT NULL COLLATE pg_catalog."C",
    key bytea NOT NULL,
    value bytea NOT NULL,
    headers json NOT NULL,
    size bigint NOT NULL,
    kept_size bigint NOT NULL
);
CREATE TABLE quarantine_drops (
    generation smallint NOT NULL,
    partition integer NOT NULL,
    dropped bigint NOT NULL
);
CREATE TABLE queuedmessages (
    message_uuid character varying(36) NOT NULL COLLATE pg_catalog."C",
    message_id integer DEFAULT 0 NOT NULL,
    topic text NOT NULL COLLATE pg_catalog."C",
    "time" timestamp with time zone NOT NULL,
    payload bytea NOT NULL,
    qos smallint NOT NULL,
    retained boolean NOT NULL,
    client_id text NOT NULL COLLATE pg_catalog."C",
    generation smallint NOT NULL,
    partition integer NOT NULL,
    "position" bigint NOT NULL,
    properties jsonb,
    expires_at timestamp with time zone
);
CREATE TABLE queuedmessagesclients (
    client_digest bytea NOT NULL,
    generation smallint NOT NULL,
    partition integer NOT NULL,
    "position" bigint NOT NULL,
    qos smallint NOT NULL,
    size bigint NOT NULL
);
CREATE TABLE retainedmessages (
    topic text NOT NULL COLLATE pg_catalog."C",
    topic_1 text GENERATED ALWAYS AS (split_part(topic, '/'::text, 1)) STORED NOT NULL COLLATE pg_catalog."C",
    topic_2 text GENERATED ALWAYS AS (split_part(topic, '/'::text, 2)) STORED NOT NULL COLLATE pg_catalog."C",
    topic_3 text GENERATED ALWAYS AS (split_part(topic, '/'::text, 3)) STORED NOT NULL COLLATE pg_catalog."C",
    topic_4 text GENERATED ALWAYS AS (split_part(topic, '/'::text, 4)) STORED NOT NULL COLLATE pg_catalog."C",
    topic_5 text GENERATED ALWAYS AS (split_part(topic, '/'::text, 5)) STORED NOT NULL COLLATE pg_catalog."C",
    topic_6 text GENERATED ALWAYS AS (split_part(topic, '/'::text, 6)) STORED NOT NULL COLLATE pg_catalog."C",
    topic_7 text GENERATED ALWAYS AS (split_part(topic, '/'::text, 7)) STORED NOT NULL COLLATE pg_catalog."C",
    topic_8 text GENERATED ALWAYS AS (split_part(topic, '/'::text, 8)) STORED NOT NULL COLLATE pg_catalog."C",
    topic_9 text GENERATED ALWAYS AS (split_part(topic, '/'::text, 9)) STORED NOT NULL COLLATE pg_catalog."C",
    topic_r text[] GENERATED ALWAYS AS ((string_to_array(topic, '/'::text))[10:]) STORED NOT NULL COLLATE pg_catalog."C",
    topic_l text GENERATED ALWAYS AS (reverse(split_part(reverse(topic), '/'::text, 1))) STORED NOT NULL COLLATE pg_catalog."C",
    "time" timestamp with time zone NOT NULL,
    payload_blob bytea NOT NULL,
    payload text GENERATED ALWAYS AS (monstermq_text(payload_blob)) STORED COLLATE pg_catalog."C",
    payload_json jsonb GENERATED ALWAYS AS (monstermq_json(payload_blob)) STORED,
    qos smallint NOT NULL,
    retained boolean NOT NULL,
    client_id text NOT NULL COLLATE pg_catalog."C",
    message_uuid character varying(36) NOT NULL COLLATE pg_catalog."C",
    generation smallint NOT NULL,
    partition integer NOT NULL,
    "position" bigint NOT NULL,
    properties jsonb,
    expires_at timestamp with time zone,
    topic_digest bytea NOT NULL
)
WITH (fillfactor='70');
CREATE TABLE sessions (
    client_id text NOT NULL COLLATE pg_catalog."C",
    node_id text DEFAULT 'N/A'::text NOT NULL COLLATE pg_catalog."C",
    clean_session boolean NOT NULL,
    connected boolean NOT NULL,
    update_time timestamp with time zone NOT NULL,
    information jsonb NOT NULL,
    last_will_topic text COLLATE pg_catalog."C",
    last_will_message bytea,
    last_will_qos smallint,
    last_will_retain boolean,
    incarnation bigint NOT NULL,
    queued_messages bigint DEFAULT 0 NOT NULL,
    queued_size bigint DEFAULT 0 NOT NULL,
    expiry_s bigint,
    client_digest bytea NOT NULL,
    generation smallint DEFAULT 1 NOT NULL,
    partition integer DEFAULT 0 NOT NULL,
    epoch bigint,
    run text DEFAULT ''::text NOT NULL COLLATE pg_catalog."C"
)
WITH (fillfactor='50');
CREATE TABLE subscriptions (
    client_id text NOT NULL COLLATE pg_catalog."C",
    topic text[] NOT NULL COLLATE pg_catalog."C",
    qos smallint NOT NULL,
    wildcard boolean GENERATED ALWAYS AS ((('+'::text = ANY (topic)) OR ('#'::text = ANY (topic)))) STORED NOT NULL,
    options smallint DEFAULT 0 NOT NULL,
    subscription_id integer,
    client_digest bytea NOT NULL,
    topic_digest bytea NOT NULL
);
CREATE TABLE watermarks (
    projection text NOT NULL COLLATE pg_catalog."C",
    generation smallint NOT NULL,
    partition integer NOT NULL,
    reflected bigint,
    restart bigint,
    version bigint NOT NULL,
    token text NOT NULL COLLATE pg_catalog."C",
    log_id text COLLATE pg_catalog."C",
    last_id text COLLATE pg_catalog."C",
    runs json
)
WITH (fillfactor='20');
INSERT INTO fences (projection, generation, partition, upto, newest_ms, clients) VALUES ('MCPArchive', 1, 3, 9, 1768478400000, '{"c":[3,1768478400000]}');
INSERT INTO fences (projection, generation, partition, upto, newest_ms, clients) VALUES ('RetainedMessages', 1, 3, 9, 1768478400000, '{"c":[3,1768478400000]}');
INSERT INTO generations (number, generation) VALUES (1, 'kafka:Zm9v:monstermq');
INSERT INTO generations (number, generation) VALUES (2, 'kafka:Zm9v:monstermq-sessions');
INSERT INTO generations (number, generation) VALUES (3, '5f0e7a52-4c53-4f0c-9c5b-6d1d3c1b7a10');
INSERT INTO inflight (client_digest, packet_id, generation, partition, "position", state) VALUES ('\xb8241fc8baaa7c30738c4fdc315afa10', 7, 3, 0, 8, 1);
INSERT INTO mcparchive (topic, "time", payload_blob, qos, retained, client_id, message_uuid, generation, partition, "position", properties, expires_at) VALUES ('plant/5', '2026-01-15 12:00:00.005+00', '\x32332e35', 1, true, 'publisher', '019bc186-de05-70cb-bf49-19da22aa06a5', 1, 3, 5, NULL, NULL);
INSERT INTO mcparchive (topic, "time", payload_blob, qos, retained, client_id, message_uuid, generation, partition, "position", properties, expires_at) VALUES ('plant/6', '2026-01-15 12:00:00.006+00', '\x32332e35', 1, true, 'publisher', '019bc186-de06-74b5-b874-41b64010a546', 1, 3, 6, NULL, NULL);
INSERT INTO mcparchive (topic, "time", payload_blob, qos, retained, client_id, message_uuid, generation, partition, "position", properties, expires_at) VALUES ('plant/7', '2026-01-15 12:00:00.007+00', '\x32332e35', 1, true, 'publisher', '019bc186-de07-74d8-8671-d6e6e248fd57', 1, 3, 7, NULL, NULL);
INSERT INTO mcparchive (topic, "time", payload_blob, qos, retained, client_id, message_uuid, generation, partition, "position", properties, expires_at) VALUES ('plant/8', '2026-01-15 12:00:00.008+00', '\x32332e35', 1, true, 'publisher', '019bc186-de08-74f2-8256-df9687c9b628', 1, 3, 8, NULL, NULL);
INSERT INTO monstermq_meta (id, schema_version, generation, boot, holder_host, holder_process, holder_since) VALUES (true, 2, 'kafka:Zm9v:monstermq', NULL, NULL, NULL, NULL);
INSERT INTO monstermq_tables (name, kind) VALUES ('generations', 'generations');
INSERT INTO monstermq_tables (name, kind) VALUES ('watermarks', 'watermarks');
INSERT INTO monstermq_tables (name, kind) VALUES ('fences', 'fences');
INSERT INTO monstermq_tables (name, kind) VALUES ('quarantine', 'quarantine');
INSERT INTO monstermq_tables (name, kind) VALUES ('quarantine_drops', 'quarantine_drops');
INSERT INTO monstermq_tables (name, kind) VALUES ('sessions', 'sessions');
INSERT INTO monstermq_tables (name, kind) VALUES ('subscriptions', 'subscriptions');
INSERT INTO monstermq_tables (name, kind) VALUES ('queuedmessages', 'queuedmessages');
INSERT INTO monstermq_tables (name, kind) VALUES ('queuedmessagesclients', 'queuedmessagesclients');
INSERT INTO monstermq_tables (name, kind) VALUES ('open_ids', 'open_ids');
INSERT INTO monstermq_tables (name, kind) VALUES ('inflight', 'inflight');
INSERT INTO monstermq_tables (name, kind) VALUES ('retainedmessages', 'messages');
INSERT INTO monstermq_tables (name, kind) VALUES ('mcparchive', 'archive');
INSERT INTO open_ids (client_digest, packet_id, generation, partition, "position") VALUES ('\xb8241fc8baaa7c30738c4fdc315afa10', 5, 3, 0, 8);
INSERT INTO quarantine (generation, partition, "position", "time", reason, key, value, headers, size, kept_size) VALUES (1, 3, 7, '2026-01-15 12:00:00+00', 'not a bus record', '\x6b', '\x76', '[]', 2, 2);
INSERT INTO queuedmessages (message_uuid, message_id, topic, "time", payload, qos, retained, client_id, generation, partition, "position", properties, expires_at) VALUES ('019bc186-de08-73cb-9437-374b8e08a7e7', 0, 'plant/1', '2026-01-15 12:00:00.008+00', '\x32332e35', 1, true, 'publisher', 3, 0, 8, NULL, NULL);
INSERT INTO queuedmessagesclients (client_digest, generation, partition, "position", qos, size) VALUES ('\xb8241fc8baaa7c30738c4fdc315afa10', 3, 0, 8, 1, 20);
INSERT INTO retainedmessages (topic, "time", payload_blob, qos, retained, client_id, message_uuid, generation, partition, "position", properties, expires_at, topic_digest) VALUES ('plant/5', '2026-01-15 12:00:00.005+00', '\x32332e35', 1, true, 'publisher', '019bc186-de05-70cb-bf49-19da22aa06a5', 1, 3, 5, NULL, NULL, '\x0d16076a99670485e298df3ead7f456d');
INSERT INTO retainedmessages (topic, "time", payload_blob, qos, retained, client_id, message_uuid, generation, partition, "position", properties, expires_at, topic_digest) VALUES ('plant/6', '2026-01-15 12:00:00.006+00', '\x32332e35', 1, true, 'publisher', '019bc186-de06-74b5-b874-41b64010a546', 1, 3, 6, NULL, NULL, '\x793d897be283efb2fe8703e8d905dc61');
INSERT INTO retainedmessages (topic, "time", payload_blob, qos, retained, client_id, message_uuid, generation, partition, "position", properties, expires_at, topic_digest) VALUES ('plant/7', '2026-01-15 12:00:00.007+00', '\x32332e35', 1, true, 'publisher', '019bc186-de07-74d8-8671-d6e6e248fd57', 1, 3, 7, NULL, NULL, '\xd290155c92d4802da5d526b9596bb8a7');
INSERT INTO retainedmessages (topic, "time", payload_blob, qos, retained, client_id, message_uuid, generation, partition, "position", properties, expires_at, topic_digest) VALUES ('plant/8', '2026-01-15 12:00:00.008+00', '\x32332e35', 1, true, 'publisher', '019bc186-de08-74f2-8256-df9687c9b628', 1, 3, 8, NULL, NULL, '\x4846832fe315c997949e2de557aae78b');
INSERT INTO sessions (client_id, node_id, clean_session, connected, update_time, information, last_will_topic, last_will_message, last_will_qos, last_will_retain, incarnation, queued_messages, queued_size, expiry_s, client_digest, generation, partition, epoch, run) VALUES ('here', 'N/A', true, true, '2026-01-15 12:00:00+00', '{"SSL": false, "RemoteAddress": "192.0.2.1:4711", "KeepAliveTimeSeconds": 60}', 'w', '\x676f6e65', 1, true, 1, 0, 0, 0, '\xc53da2b28903f1df8ee4ef0f0ec276b0', 2, 7, 4, '00112233445566ff');
INSERT INTO sessions (client_id, node_id, clean_session, connected, update_time, information, last_will_topic, last_will_message, last_will_qos, last_will_retain, incarnation, queued_messages, queued_size, expiry_s, client_digest, generation, partition, epoch, run) VALUES ('away', 'N/A', false, false, '2026-01-15 12:00:00+00', '{"SSL": false, "RemoteAddress": "192.0.2.1:4711", "KeepAliveTimeSeconds": 60}', NULL, NULL, NULL, NULL, 1, 1, 20, NULL, '\xb8241fc8baaa7c30738c4fdc315afa10', 3, 0, NULL, '');
INSERT INTO subscriptions (client_id, topic, qos, options, subscription_id, client_digest, topic_digest) VALUES ('away', '{plant,#}', 1, 0, NULL, '\xb8241fc8baaa7c30738c4fdc315afa10', '\xaa421394952c1b6dcd4ea01e1e48bb96');
INSERT INTO watermarks (projection, generation, partition, reflected, restart, version, token, log_id, last_id, runs) VALUES ('MCPArchive', 1, 3, 9, 9, 2, '', 'kafka:log', '1768478400000:00112233445566ff:8', '{"00112233445566ff":[8,1768478400000]}');
INSERT INTO watermarks (projection, generation, partition, reflected, restart, version, token, log_id, last_id, runs) VALUES ('RetainedMessages', 1, 3, 9, 9, 2, '', 'kafka:log', '1768478400000:00112233445566ff:8', '{"00112233445566ff":[8,1768478400000]}');
INSERT INTO watermarks (projection, generation, partition, reflected, restart, version, token, log_id, last_id, runs) VALUES ('sessions', 2, 7, 9, 9, 2, '', 'kafka:log-sessions', '1:00112233445566ff:2', '{"00112233445566ff":[2,1768478400000]}');
INSERT INTO watermarks (projection, generation, partition, reflected, restart, version, token, log_id, last_id, runs) VALUES ('sessions', 3, 0, 3298534883328, 3298534883328, 2, '', NULL, NULL, NULL);
ALTER TABLE ONLY fences
    ADD CONSTRAINT fences_pkey PRIMARY KEY (projection, generation, partition, upto);
ALTER TABLE ONLY generations
    ADD CONSTRAINT generations_generation_key UNIQUE (generation);
ALTER TABLE ONLY generations
    ADD CONSTRAINT generations_pkey PRIMARY KEY (number);
ALTER TABLE ONLY inflight
    ADD CONSTRAINT inflight_pkey PRIMARY KEY (client_digest, packet_id);
ALTER TABLE ONLY mcparchive
    ADD CONSTRAINT mcparchive_pkey PRIMARY KEY ("time", generation, partition, "position");
ALTER TABLE ONLY monstermq_meta
    ADD CONSTRAINT monstermq_meta_pkey PRIMARY KEY (id);
ALTER TABLE ONLY monstermq_tables
    ADD CONSTRAINT monstermq_tables_pkey PRIMARY KEY (name);
ALTER TABLE ONLY open_ids
    ADD CONSTRAINT open_ids_pkey PRIMARY KEY (client_digest, packet_id, partition);
ALTER TABLE ONLY quarantine_drops
    ADD CONSTRAINT quarantine_drops_pkey PRIMARY KEY (generation, partition);
ALTER TABLE ONLY quarantine
    ADD CONSTRAINT quarantine_pkey PRIMARY KEY (generation, partition, "position");
ALTER TABLE ONLY queuedmessages
    ADD CONSTRAINT queuedmessages_pkey PRIMARY KEY (generation, partition, "position");
ALTER TABLE ONLY queuedmessagesclients
    ADD CONSTRAINT queuedmessagesclients_pkey PRIMARY KEY (client_digest, generation, partition, "position");
ALTER TABLE ONLY retainedmessages
    ADD CONSTRAINT retainedmessages_pkey PRIMARY KEY (topic_digest);
ALTER TABLE ONLY sessions
    ADD CONSTRAINT sessions_pkey PRIMARY KEY (client_digest);
ALTER TABLE ONLY subscriptions
    ADD CONSTRAINT subscriptions_pkey PRIMARY KEY (client_digest, topic_digest);
ALTER TABLE ONLY watermarks
    ADD CONSTRAINT watermarks_pkey PRIMARY KEY (projection, generation, partition);
CREATE INDEX mcparchive_left_time_position_idx ON mcparchive USING btree ("left"(topic, 250), "time", "position");
CREATE INDEX queuedmessagesclients_position_idx ON queuedmessagesclients USING btree ("position");
CREATE INDEX retainedmessages_left_idx ON retainedmessages USING btree ("left"(topic, 250));
