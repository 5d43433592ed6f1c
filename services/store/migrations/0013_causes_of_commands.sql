-- The position of the event that a command answers, if it says so, and which commands an event has caused. Most commands
-- say none, and are not in the index.
ALTER TABLE ledger ADD COLUMN caused_by bigint;
CREATE INDEX ledger_caused_by_idx ON ledger (tenant, caused_by, recorded_at) WHERE caused_by IS NOT NULL;
