-- What a webhook was created by: a digest of the idempotency key with its actor, by which a repetition finds it, and one of
-- the request, with which the repetition is compared. NULL without a key.
ALTER TABLE webhooks ADD COLUMN asked_under bytea, ADD COLUMN asked bytea;
CREATE UNIQUE INDEX webhooks_asked_idx ON webhooks (tenant, asked_under);
