-- Which log this is. `epoch` increases when a restored store is adopted. `place` is where the log was when it was made or
-- adopted: a copy, and what was restored from a dump, is at another place. It is NULL until `db upgrade` has noted it.
CREATE TABLE log_identity (
    id         uuid NOT NULL DEFAULT gen_random_uuid(),
    epoch      bigint NOT NULL DEFAULT 1,
    place      text,
    adopted_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX log_identity_one_row_idx ON log_identity ((true));
INSERT INTO log_identity DEFAULT VALUES;

-- What distinguishes the event at a position from any other that was ever there, and the log from any other.
CREATE FUNCTION log_mark(of_position bigint) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT concat_ws(' ', l.id, l.epoch, e.originator_id, e.originator_version, extract(epoch FROM e.recorded_at))
    FROM stored_events AS e, log_identity AS l WHERE e.notification_id = of_position
$$;

-- The mark of the event at the position of a follower, kept by whoever moves it. If it is not that of the log, the log or
-- the follower was restored from a backup of another time.
ALTER TABLE followers ADD COLUMN mark text;
CREATE FUNCTION mark_follower() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.mark := log_mark(NEW.position);
    RETURN NEW;
END
$$;
CREATE TRIGGER mark_follower BEFORE UPDATE OF position ON followers FOR EACH ROW EXECUTE FUNCTION mark_follower();
UPDATE followers SET position = position;
