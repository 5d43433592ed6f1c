-- Bulk requests that are carried out in the background. `items` is what each part of the request is, for its receipt;
-- `commands` is what the parts are to be sent as, and NULL once the broker has taken all of them. The first `sent` of
-- these were taken. Who sends holds a lease, so that another process goes on when it has gone.
CREATE TABLE bulks (
    tenant       text COLLATE "C" NOT NULL,
    id           text COLLATE "C" NOT NULL,
    command      text NOT NULL,
    actor        text NOT NULL,
    traceparent  text,
    items        bytea NOT NULL,
    commands     bytea,
    sent         integer NOT NULL DEFAULT 0,
    leased_until timestamptz NOT NULL DEFAULT '-infinity',
    created_at   timestamptz NOT NULL DEFAULT transaction_timestamp(),
    PRIMARY KEY (tenant, id)
);
CREATE INDEX bulks_waiting_idx ON bulks (created_at) WHERE commands IS NOT NULL;
CREATE INDEX bulks_created_at_idx ON bulks USING brin (created_at);
