-- The last rebuild of each read model that was asked for over HTTP. Any process of the role `projections` may take one that
-- is waiting; who does puts `due_at` off while it works, so that another goes on when it has gone. `attempt` counts how often
-- it was taken, and is what only the last who did may write under. `state` is waiting, running, done or failed. `examples`
-- are rows of `tenant`, who asked.
CREATE TABLE rebuilds (
    name       text COLLATE "C" PRIMARY KEY,
    tenant     text COLLATE "C" NOT NULL,
    actor      text NOT NULL,
    key_id     text,
    diff       boolean NOT NULL,
    state      text NOT NULL DEFAULT 'waiting',
    attempt    integer NOT NULL DEFAULT 0,
    asked_at   timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    ended_at   timestamptz,
    due_at     timestamptz NOT NULL DEFAULT now(),
    progress   jsonb,
    result     jsonb,
    examples   jsonb,
    error      text
);
