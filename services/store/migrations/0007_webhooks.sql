-- Webhooks: where events of a tenant are sent, and which of them. The secrets are encrypted; `old_secret` signs too until
-- `old_secret_until`.
--
-- The follower `webhooks` queues events for the webhooks whose `position` is NULL. What is behind (new, paused, full, or to
-- be replayed) has the position up to which events are queued; the rest is read from the log, up to where the follower is.
-- `pending` counts the deliveries that are queued. From `due_at` on one may be due, unless nothing is queued.
--
-- `failures` counts the deliveries that failed since the last one that did not, `failing_since` is when the first of them
-- did. While `probes` is not 0, the receiver is tried by one delivery at a time; it counts those that failed.
CREATE TABLE webhooks (
    tenant           text COLLATE "C" NOT NULL,
    id               text COLLATE "C" NOT NULL,
    url              text NOT NULL,
    types            text[],
    activities       text[],
    tasks            text[],
    members          text[],
    secret           text NOT NULL,
    old_secret       text,
    old_secret_until timestamptz,
    state            text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'paused', 'disabled')),
    cause            text,
    position         bigint,
    pending          integer NOT NULL DEFAULT 0,
    due_at           timestamptz,
    failures         integer NOT NULL DEFAULT 0,
    failing_since    timestamptz,
    probes           integer NOT NULL DEFAULT 0,
    error            text,
    created_by       text NOT NULL,
    created_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, id)
);
CREATE INDEX webhooks_due_idx ON webhooks (due_at) WHERE state = 'active';
CREATE INDEX webhooks_behind_idx ON webhooks (tenant, id) WHERE position IS NOT NULL AND state = 'active';

-- A row for each event that a webhook is to deliver, or has delivered, at the event's position. `entity` is what is
-- delivered in order: an activity with its tasks, or another stream. `event_id` tells whether the event at the position is
-- still the same one. While a process delivers it, it has `leased_until`.
CREATE TABLE webhook_deliveries (
    tenant        text COLLATE "C" NOT NULL,
    webhook       text COLLATE "C" NOT NULL,
    position      bigint NOT NULL,
    entity        text COLLATE "C" NOT NULL,
    event_id      text NOT NULL,
    state         text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'parked')),
    attempts      integer NOT NULL DEFAULT 0,
    next_at       timestamptz NOT NULL,
    leased_until  timestamptz,
    failing_since timestamptz,
    tried_at      timestamptz,
    status        integer,
    answer        text,
    PRIMARY KEY (tenant, webhook, position),
    FOREIGN KEY (tenant, webhook) REFERENCES webhooks (tenant, id) ON DELETE CASCADE
);
CREATE INDEX webhook_deliveries_pending_idx ON webhook_deliveries (tenant, webhook, entity, position)
    WHERE state = 'pending';
CREATE INDEX webhook_deliveries_state_idx ON webhook_deliveries (tenant, webhook, state, position);
CREATE INDEX webhook_deliveries_ended_idx ON webhook_deliveries (state, tried_at) WHERE state <> 'pending';

-- There is no webhook yet, so the follower need not read what is in the log.
INSERT INTO followers (name, position) SELECT 'webhooks', coalesce(max(notification_id), 0) FROM stored_events;
UPDATE followers SET position = position WHERE name = 'webhooks';
