-- A command for many tasks or activities, which is previewed and then run. `data` is the command's data without the id,
-- `asked` what the set was chosen by. The set is what `bulk_items` has of it, and does not change. The ids of the commands
-- follow from `seed`. From `due_at` on any process may go on with a bulk that is previewed, run or aborted; who does puts
-- it off, so that another goes on when it has gone.
CREATE TABLE bulk_actions (
    tenant       text COLLATE "C" NOT NULL,
    id           text COLLATE "C" NOT NULL,
    command      text NOT NULL,
    data         bytea NOT NULL,
    asked        bytea NOT NULL,
    on_change    text NOT NULL,
    actor        text NOT NULL,
    traceparent  text,
    seed         uuid NOT NULL DEFAULT gen_random_uuid(),
    state        text NOT NULL DEFAULT 'previewing',
    reason       text,
    rate         text,
    total        integer NOT NULL,
    due_at       timestamptz NOT NULL DEFAULT transaction_timestamp(),
    created_at   timestamptz NOT NULL DEFAULT transaction_timestamp(),
    previewed_at timestamptz,
    started_at   timestamptz,
    ended_at     timestamptz,
    PRIMARY KEY (tenant, id)
);
CREATE INDEX bulk_actions_due_idx ON bulk_actions (due_at) WHERE state IN ('previewing', 'running', 'aborting');

-- The items of a bulk in the order in which they are run. `version` is the one that was previewed, NULL for an id that
-- nobody has. `would` are the types of the events that the command would record. `attempts` says how often the command was
-- sent in this state, before its answer came.
CREATE TABLE bulk_items (
    tenant         text COLLATE "C" NOT NULL,
    bulk_id        text COLLATE "C" NOT NULL,
    number         integer NOT NULL,
    entity_id      text COLLATE "C" NOT NULL,
    routing_key    text NOT NULL,
    version        bigint,
    state          text COLLATE "C" NOT NULL,
    reason         text,
    would          text[],
    code           text,
    detail         text,
    pointer        text,
    first_position bigint,
    last_position  bigint,
    attempts       integer NOT NULL DEFAULT 0,
    decided_at     timestamptz,
    PRIMARY KEY (tenant, bulk_id, number),
    FOREIGN KEY (tenant, bulk_id) REFERENCES bulk_actions ON DELETE CASCADE
) WITH (fillfactor = 70);
CREATE INDEX bulk_items_state_idx ON bulk_items (tenant, bulk_id, state, number);
CREATE INDEX bulk_items_next_idx ON bulk_items (tenant, bulk_id, state, attempts, number)
    WHERE state IN ('pending', 'ready');
