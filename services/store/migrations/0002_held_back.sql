-- What a follower holds back: an entity whose event it could not take, and the events that wait, in order, behind it.
-- `followers.held` changes whenever the set of a follower's held-back entities does, or when one is to be tried again.
ALTER TABLE followers ADD COLUMN held bigint NOT NULL DEFAULT 0;

CREATE TABLE held_entities (
    follower text COLLATE "C" NOT NULL REFERENCES followers (name) ON DELETE CASCADE,
    entity   text COLLATE "C" NOT NULL,
    position bigint NOT NULL,
    error    text NOT NULL,
    since    timestamptz NOT NULL DEFAULT now(),
    attempts integer NOT NULL DEFAULT 1,
    retry_at timestamptz NOT NULL,
    PRIMARY KEY (follower, entity)
);

CREATE TABLE held_events (
    follower text COLLATE "C" NOT NULL,
    entity   text COLLATE "C" NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (follower, entity, position),
    FOREIGN KEY (follower, entity) REFERENCES held_entities (follower, entity) ON DELETE CASCADE
);
