-- The log. `eventsourcing` reads and writes these columns; positions are given out under the append lock, without gaps.
CREATE TABLE stored_events (
    originator_id      text COLLATE "C" NOT NULL,
    originator_version bigint NOT NULL,
    topic              text COLLATE "C" NOT NULL,
    state              bytea NOT NULL,
    notification_id    bigint NOT NULL,
    recorded_at        timestamptz NOT NULL DEFAULT transaction_timestamp(),
    PRIMARY KEY (originator_id, originator_version)
) WITH (autovacuum_analyze_scale_factor = 0.02);
CREATE UNIQUE INDEX stored_events_notification_id_idx ON stored_events (notification_id);

-- What was decided on each command: the answer that a repetition gets again.
CREATE TABLE ledger (
    tenant         text COLLATE "C" NOT NULL,
    command_id     text COLLATE "C" NOT NULL,
    fingerprint    bytea NOT NULL,
    code           text,
    detail         text,
    pointer        text,
    first_position bigint,
    last_position  bigint,
    recorded_at    timestamptz NOT NULL DEFAULT transaction_timestamp(),
    PRIMARY KEY (tenant, command_id)
);
CREATE INDEX ledger_recorded_at_idx ON ledger USING brin (recorded_at);

-- What is unique over many streams.
CREATE TABLE claims (
    tenant text COLLATE "C" NOT NULL,
    kind   text COLLATE "C" NOT NULL,
    key    text COLLATE "C" NOT NULL,
    holder text COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant, kind, key)
);

-- Attempts at commands that the broker delivered again, counted before they are decided.
CREATE TABLE attempts (
    tenant     text COLLATE "C" NOT NULL,
    message_id text COLLATE "C" NOT NULL,
    attempts   integer NOT NULL,
    last_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, message_id)
);

-- How far each follower of the log is. `epoch` fences a follower that acts on the outside world.
CREATE TABLE followers (
    name       text COLLATE "C" PRIMARY KEY,
    position   bigint NOT NULL DEFAULT 0,
    epoch      bigint NOT NULL DEFAULT 0,
    halted_at  bigint,
    error      text,
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- Which tables of a read model serve, and which are being built beside them.
CREATE TABLE read_models (
    name     text COLLATE "C" PRIMARY KEY,
    serving  text COLLATE "C" NOT NULL,
    building text COLLATE "C"
);

-- The roll-up policy's own children, one row per activity.
CREATE TABLE rollup_activities (
    tenant      text COLLATE "C" NOT NULL,
    activity_id text COLLATE "C" NOT NULL,
    status      text COLLATE "C" NOT NULL,
    version     bigint NOT NULL,
    state       bytea NOT NULL,
    PRIMARY KEY (tenant, activity_id)
);

CREATE TABLE api_keys (
    id          text COLLATE "C" PRIMARY KEY,
    digest      bytea NOT NULL UNIQUE,
    tenant      text COLLATE "C" NOT NULL,
    actor       text COLLATE "C" NOT NULL,
    permissions text[] NOT NULL,
    name        text,
    created_at  timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz,
    revoked_at  timestamptz
);
CREATE INDEX api_keys_tenant_idx ON api_keys (tenant);
