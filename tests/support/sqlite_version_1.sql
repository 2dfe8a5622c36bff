-- A database of schema version 1, as it was after a third start: with
-- rows in every table, and times of six digits. See sqlite_version_1.py.
PRAGMA page_size = 2048;
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE inflight (
    client_id TEXT NOT NULL,
    packet_id INTEGER NOT NULL,
    position INTEGER NOT NULL,
    state INTEGER NOT NULL,
    PRIMARY KEY (client_id, packet_id)
) WITHOUT ROWID;
INSERT INTO "inflight" VALUES('away',7,3298534883331,1);
INSERT INTO "inflight" VALUES('away',8,3298534883330,2);
CREATE TABLE "mcparchive" (
    topic TEXT NOT NULL,
    time TEXT NOT NULL,
    payload_blob BLOB NOT NULL,
    is_text BOOLEAN NOT NULL,
    qos INTEGER NOT NULL,
    retained BOOLEAN NOT NULL,
    client_id TEXT NOT NULL,
    message_uuid TEXT NOT NULL,
    position INTEGER PRIMARY KEY,
    payload TEXT AS (CASE WHEN is_text THEN CAST(payload_blob AS TEXT) END),
    payload_json TEXT AS (CASE WHEN json_valid(payload) THEN payload END)
);
INSERT INTO "mcparchive" VALUES('plant/1','2026-01-15T12:00:00.001000Z',X'32312E35',1,1,0,'sensor','019bc186-de01-7556-82ff-3a43f1dcc0e0',3298534883329);
INSERT INTO "mcparchive" VALUES('plant/1','2026-01-15T12:00:00.123000Z',X'7B2276616C7565223A2032327D',1,1,0,'sensor','019bc186-de7b-7100-8398-494e713531de',3298534883330);
INSERT INTO "mcparchive" VALUES('plant/1','2026-01-15T12:00:00.123456Z',X'FF00',0,2,0,'sensor','019bc186-de7b-7533-b481-4cf054effd76',3298534883331);
INSERT INTO "mcparchive" VALUES('plant/1','2026-01-15T12:00:00.123999Z',X'7761726D20C3A4',1,1,1,'sensor','019bc186-de7b-7f17-848a-74ec71996bee',3298534883332);
INSERT INTO "mcparchive" VALUES('plant/2','2026-01-15T12:00:00.124000Z',X'',1,1,0,'sensor','019bc186-de7c-7bba-bcd3-4c50fb35186e',3298534883333);
INSERT INTO "mcparchive" VALUES('plant/1','2026-01-15T12:00:00.124001Z',X'32332E35',1,2,1,'sensor','019bc186-de7c-7556-8a98-35755f4ca87f',3298534883334);
CREATE TABLE "mcplastval" (
    topic TEXT PRIMARY KEY,
    time TEXT NOT NULL,
    payload_blob BLOB NOT NULL,
    is_text BOOLEAN NOT NULL,
    qos INTEGER NOT NULL,
    retained BOOLEAN NOT NULL,
    client_id TEXT NOT NULL,
    message_uuid TEXT NOT NULL,
    position INTEGER NOT NULL,
    levels TEXT AS ('[' || replace(json_quote(topic), '/', '","') || ']'),
    topic_1 TEXT AS (coalesce(json_extract(levels, '$[0]'), '')),
    topic_2 TEXT AS (coalesce(json_extract(levels, '$[1]'), '')),
    topic_3 TEXT AS (coalesce(json_extract(levels, '$[2]'), '')),
    topic_4 TEXT AS (coalesce(json_extract(levels, '$[3]'), '')),
    topic_5 TEXT AS (coalesce(json_extract(levels, '$[4]'), '')),
    topic_6 TEXT AS (coalesce(json_extract(levels, '$[5]'), '')),
    topic_7 TEXT AS (coalesce(json_extract(levels, '$[6]'), '')),
    topic_8 TEXT AS (coalesce(json_extract(levels, '$[7]'), '')),
    topic_9 TEXT AS (coalesce(json_extract(levels, '$[8]'), '')),
    topic_r TEXT AS (json_remove(
        levels, '$[0]', '$[0]', '$[0]', '$[0]', '$[0]', '$[0]', '$[0]', '$[0]', '$[0]'
    )),
    topic_l TEXT AS (json_extract(levels, '$[#-1]')),
    payload TEXT AS (CASE WHEN is_text THEN CAST(payload_blob AS TEXT) END),
    payload_json TEXT AS (CASE WHEN json_valid(payload) THEN payload END)
) WITHOUT ROWID;
INSERT INTO "mcplastval" VALUES('plant/1','2026-01-15T12:00:00.124001Z',X'32332E35',1,2,1,'sensor','019bc186-de7c-7556-8a98-35755f4ca87f',3298534883334);
INSERT INTO "mcplastval" VALUES('plant/2','2026-01-15T12:00:00.124000Z',X'',1,1,0,'sensor','019bc186-de7c-7bba-bcd3-4c50fb35186e',3298534883333);
CREATE TABLE monstermq_meta (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    generation TEXT NOT NULL,
    boot INTEGER NOT NULL,
    writer TEXT NOT NULL,
    version INTEGER NOT NULL
);
INSERT INTO "monstermq_meta" VALUES(1,'5f0e7a52-4c53-4f0c-9c5b-6d1d3c1b7a10',3,'a0d0bd04-0df3-4a3f-8b39-5d7b5ef7a1c2',3);
CREATE TABLE open_ids (
    client_id TEXT NOT NULL,
    packet_id INTEGER NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (client_id, packet_id)
) WITHOUT ROWID;
INSERT INTO "open_ids" VALUES('here',3,3298534883334);
CREATE TABLE queuedmessages (
    position INTEGER PRIMARY KEY,
    topic TEXT NOT NULL,
    time TEXT NOT NULL,
    payload BLOB NOT NULL,
    qos INTEGER NOT NULL,
    retained BOOLEAN NOT NULL,
    client_id TEXT NOT NULL,
    message_uuid TEXT NOT NULL,
    message_id INTEGER AS (0)
);
INSERT INTO "queuedmessages" VALUES(3298534883329,'plant/1','2026-01-15T12:00:00.001000Z',X'32312E35',1,0,'sensor','019bc186-de01-7556-82ff-3a43f1dcc0e0');
INSERT INTO "queuedmessages" VALUES(3298534883330,'plant/1','2026-01-15T12:00:00.123000Z',X'7B2276616C7565223A2032327D',1,0,'sensor','019bc186-de7b-7100-8398-494e713531de');
INSERT INTO "queuedmessages" VALUES(3298534883331,'plant/1','2026-01-15T12:00:00.123456Z',X'FF00',2,0,'sensor','019bc186-de7b-7533-b481-4cf054effd76');
INSERT INTO "queuedmessages" VALUES(3298534883332,'plant/1','2026-01-15T12:00:00.123999Z',X'7761726D20C3A4',1,1,'sensor','019bc186-de7b-7f17-848a-74ec71996bee');
CREATE TABLE queuedmessagesclients (
    client_id TEXT NOT NULL,
    position INTEGER NOT NULL,
    qos INTEGER NOT NULL,
    size INTEGER NOT NULL,
    PRIMARY KEY (client_id, position)
) WITHOUT ROWID;
INSERT INTO "queuedmessagesclients" VALUES('away',3298534883329,1,17);
INSERT INTO "queuedmessagesclients" VALUES('away',3298534883330,1,26);
INSERT INTO "queuedmessagesclients" VALUES('away',3298534883331,1,15);
INSERT INTO "queuedmessagesclients" VALUES('away',3298534883332,1,20);
INSERT INTO "queuedmessagesclients" VALUES('here',3298534883331,2,15);
CREATE TABLE "retainedmessages" (
    topic TEXT PRIMARY KEY,
    time TEXT NOT NULL,
    payload_blob BLOB NOT NULL,
    is_text BOOLEAN NOT NULL,
    qos INTEGER NOT NULL,
    retained BOOLEAN NOT NULL,
    client_id TEXT NOT NULL,
    message_uuid TEXT NOT NULL,
    position INTEGER NOT NULL,
    levels TEXT AS ('[' || replace(json_quote(topic), '/', '","') || ']'),
    topic_1 TEXT AS (coalesce(json_extract(levels, '$[0]'), '')),
    topic_2 TEXT AS (coalesce(json_extract(levels, '$[1]'), '')),
    topic_3 TEXT AS (coalesce(json_extract(levels, '$[2]'), '')),
    topic_4 TEXT AS (coalesce(json_extract(levels, '$[3]'), '')),
    topic_5 TEXT AS (coalesce(json_extract(levels, '$[4]'), '')),
    topic_6 TEXT AS (coalesce(json_extract(levels, '$[5]'), '')),
    topic_7 TEXT AS (coalesce(json_extract(levels, '$[6]'), '')),
    topic_8 TEXT AS (coalesce(json_extract(levels, '$[7]'), '')),
    topic_9 TEXT AS (coalesce(json_extract(levels, '$[8]'), '')),
    topic_r TEXT AS (json_remove(
        levels, '$[0]', '$[0]', '$[0]', '$[0]', '$[0]', '$[0]', '$[0]', '$[0]', '$[0]'
    )),
    topic_l TEXT AS (json_extract(levels, '$[#-1]')),
    payload TEXT AS (CASE WHEN is_text THEN CAST(payload_blob AS TEXT) END),
    payload_json TEXT AS (CASE WHEN json_valid(payload) THEN payload END)
) WITHOUT ROWID;
INSERT INTO "retainedmessages" VALUES('plant/1','2026-01-15T12:00:00.124001Z',X'32332E35',1,2,1,'sensor','019bc186-de7c-7556-8a98-35755f4ca87f',3298534883334);
INSERT INTO "retainedmessages" VALUES('plant/1/old','2026-01-15T12:00:00.000000Z',X'31',1,1,1,'sensor','019bc186-de00-7560-aaa4-d140a2bc8cde',3298534883328);
CREATE TABLE sessions (
    client_id TEXT PRIMARY KEY,
    node_id TEXT NOT NULL DEFAULT 'N/A',
    clean_session BOOLEAN NOT NULL,
    connected BOOLEAN NOT NULL,
    update_time TEXT NOT NULL,
    information TEXT NOT NULL,
    last_will_topic TEXT,
    last_will_message BLOB,
    last_will_qos INTEGER,
    last_will_retain BOOLEAN,
    incarnation INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO "sessions" VALUES('away','N/A',0,0,'2026-01-15T12:00:00.005250Z','{"RemoteAddress":"192.0.2.1:4711","SSL":false,"KeepAliveTimeSeconds":60}',NULL,NULL,NULL,NULL,3298534883328);
INSERT INTO "sessions" VALUES('here','N/A',0,1,'2026-01-15T12:00:00.005250Z','{"RemoteAddress":"192.0.2.1:4711","SSL":false,"KeepAliveTimeSeconds":60}','wills/here',X'00676F6E65',1,1,3298534883328);
INSERT INTO "sessions" VALUES('idle','N/A',0,0,'2026-01-15T12:00:00.005250Z','{"RemoteAddress":"192.0.2.1:4711","SSL":false,"KeepAliveTimeSeconds":60}',NULL,NULL,NULL,NULL,3298534883328);
CREATE TABLE subscriptions (
    client_id TEXT NOT NULL,
    topic TEXT NOT NULL,
    qos INTEGER NOT NULL,
    wildcard BOOLEAN AS (instr(topic, '+') > 0 OR instr(topic, '#') > 0),
    PRIMARY KEY (client_id, topic)
) WITHOUT ROWID;
INSERT INTO "subscriptions" VALUES('away','it''s',0);
INSERT INTO "subscriptions" VALUES('away','plant/#',1);
INSERT INTO "subscriptions" VALUES('away','plant/+/x',2);
INSERT INTO "subscriptions" VALUES('here','plant/1',2);
CREATE TABLE watermarks (
    projection TEXT NOT NULL,
    partition INTEGER NOT NULL,
    upto INTEGER NOT NULL,
    PRIMARY KEY (projection, partition)
) WITHOUT ROWID;
INSERT INTO "watermarks" VALUES('',-1,3);
INSERT INTO "watermarks" VALUES('MCPArchive',0,3298534883335);
INSERT INTO "watermarks" VALUES('MCPLastval',0,3298534883335);
INSERT INTO "watermarks" VALUES('retained',0,3298534883335);
CREATE INDEX queuedmessagesclients_position_idx
ON queuedmessagesclients (position);
CREATE INDEX "mcparchive_topic_time_idx" ON "mcparchive" (topic, time);
CREATE INDEX "mcparchive_time_idx" ON "mcparchive" (time);
COMMIT;
