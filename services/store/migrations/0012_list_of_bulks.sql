-- The bulks of a tenant, the newest first.
CREATE INDEX bulk_actions_created_at_idx ON bulk_actions (tenant, created_at, id);
