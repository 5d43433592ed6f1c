-- Bulk requests that are carried out in the background. `items` is what each part of the request is, for its receipt, with
-- the id and the fingerprint of its command; `commands` is what the parts are sent as, and NULL once the ledger has all
-- of them. The broker has taken the first `sent` of these, and at `sent_at` it had taken all. From `due_at` on any
-- process may send what is still to be sent or undecided; who does puts it off, so that another goes on when it has gone.
CREATE TABLE bulks (
    tenant      text COLLATE "C" NOT NULL,
    id          text COLLATE "C" NOT NULL,
    command     text NOT NULL,
    actor       text NOT NULL,
    traceparent text,
    items       bytea NOT NULL,
    commands    bytea,
    sent        integer NOT NULL DEFAULT 0,
    sent_at     timestamptz,
    due_at      timestamptz NOT NULL DEFAULT transaction_timestamp(),
    created_at  timestamptz NOT NULL DEFAULT transaction_timestamp(),
    PRIMARY KEY (tenant, id)
);
CREATE INDEX bulks_due_idx ON bulks (due_at) WHERE commands IS NOT NULL;
CREATE INDEX bulks_created_at_idx ON bulks USING brin (created_at);
