-- A command that must not overtake another waits as a dead letter (`waits`), until no earlier letter of its key is left
-- on which somebody has to decide. A letter is noted here before its message is acknowledged, so that ordered commands
-- know of it while it is on its way: `letter` is its own id, in the order in which letters were made, `id` that of its
-- row. It counts until the letter has arrived.
ALTER TABLE dead_letters ADD COLUMN waits boolean NOT NULL DEFAULT false;
CREATE INDEX dead_letters_waits_idx ON dead_letters (tenant, key, arrived) WHERE waits AND state = 'parked';
CREATE INDEX dead_letters_first_idx ON dead_letters (tenant, key, arrived)
    WHERE NOT waits AND state IN ('parked', 'retrying');
CREATE TABLE dead_letter_burials (
    letter     text COLLATE "C" PRIMARY KEY,
    tenant     text COLLATE "C" NOT NULL,
    key        text COLLATE "C" NOT NULL,
    message_id text COLLATE "C" NOT NULL,
    id         text COLLATE "C" NOT NULL,
    at         timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX dead_letter_burials_key_idx ON dead_letter_burials (tenant, key, letter);
