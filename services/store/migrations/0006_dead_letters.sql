-- Messages that were no commands, or poison: taken out of the broker's queue of dead letters, so that they can be listed,
-- grouped, sent again and discarded. `id` is derived from the message, so the same message again raises `count`.
-- `tenant` is NULL where the message names none, or its sender may not speak for it. `arrived` is a UUID of version 7,
-- made when the letter was: the order of letters. `edited` is what was sent in place of `body` the last time. The hash
-- and the fingerprint of what was sent tell whether it died again, or was decided. `due_at` is when it is (next) sent.
CREATE TABLE dead_letters (
    id               text COLLATE "C" PRIMARY KEY,
    tenant           text COLLATE "C",
    arrived          text COLLATE "C" NOT NULL,
    key              text COLLATE "C" NOT NULL,
    message_id       text COLLATE "C",
    type             text COLLATE "C",
    actor            text COLLATE "C",
    correlation_id   text COLLATE "C",
    broker_user      text COLLATE "C",
    headers          bytea NOT NULL,
    body             bytea NOT NULL,
    bytes            bigint NOT NULL,
    sha256           bytea NOT NULL,
    code             text COLLATE "C" NOT NULL,
    detail           text NOT NULL,
    pointer          text NOT NULL,
    fingerprint      text COLLATE "C" NOT NULL,
    first_at         timestamptz NOT NULL DEFAULT now(),
    last_at          timestamptz NOT NULL DEFAULT now(),
    count            bigint NOT NULL DEFAULT 1,
    state            text COLLATE "C" NOT NULL DEFAULT 'parked'
        CHECK (state IN ('parked', 'retrying', 'retried', 'discarded')),
    acted_by         text,
    acted_at         timestamptz,
    note             text,
    retries          integer NOT NULL DEFAULT 0,
    out_of_order     boolean NOT NULL DEFAULT false,
    edited           bytea,
    sent_sha256      bytea,
    sent_fingerprint bytea,
    sends            integer NOT NULL DEFAULT 0,
    due_at           timestamptz,
    outcome          text,
    outcome_code     text,
    outcome_detail   text,
    outcome_pointer  text,
    decided_at       timestamptz
);
CREATE INDEX dead_letters_arrived_idx ON dead_letters (tenant, arrived);
CREATE INDEX dead_letters_key_idx ON dead_letters (tenant, key, arrived) WHERE state IN ('parked', 'retrying');
CREATE INDEX dead_letters_message_idx ON dead_letters (tenant, message_id);
CREATE INDEX dead_letters_parked_idx ON dead_letters (code) WHERE state = 'parked';
CREATE INDEX dead_letters_due_idx ON dead_letters (due_at) WHERE state = 'retrying';
CREATE INDEX dead_letters_done_idx ON dead_letters (acted_at) WHERE state IN ('retried', 'discarded');

-- The letters that were taken out of the queue, since the broker delivers one again that was not acknowledged.
CREATE TABLE dead_letter_arrivals (
    letter text COLLATE "C" PRIMARY KEY,
    at     timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX dead_letter_arrivals_at_idx ON dead_letter_arrivals USING brin (at);
