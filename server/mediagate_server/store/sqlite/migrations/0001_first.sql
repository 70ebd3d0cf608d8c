-- Times are microseconds since 1970 in UTC. Documents are the records of records.py as JSON; what is
-- searched for stands beside them in columns.

CREATE TABLE generations (
    id         TEXT PRIMARY KEY,
    version    INTEGER NOT NULL,
    tenant     TEXT NOT NULL,
    state      TEXT NOT NULL,
    terminal   INTEGER NOT NULL,
    modality   TEXT NOT NULL,
    model      TEXT NOT NULL,
    labels     TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    document   TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX generations_newest ON generations (tenant, created_us DESC, id DESC);
CREATE INDEX generations_unfinished ON generations (tenant) WHERE terminal = 0;

-- The idempotency keys: one request_id of a tenant is bound to one generation.
CREATE TABLE request_ids (
    tenant        TEXT NOT NULL,
    request_id    TEXT NOT NULL,
    generation_id TEXT NOT NULL REFERENCES generations (id),
    fingerprint   TEXT NOT NULL,
    PRIMARY KEY (tenant, request_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE attempts (
    id            TEXT PRIMARY KEY,
    generation_id TEXT NOT NULL REFERENCES generations (id),
    ordinal       INTEGER NOT NULL,
    state         TEXT NOT NULL,
    prediction_id TEXT,
    UNIQUE (generation_id, ordinal)
) STRICT, WITHOUT ROWID;

-- Not unique: that upstream never gives one id twice is its promise, and a server that breaks it must
-- not keep us from recording what it took.
CREATE INDEX attempts_prediction ON attempts (prediction_id) WHERE prediction_id IS NOT NULL;

CREATE TABLE ledger (
    line         INTEGER PRIMARY KEY,
    attempt_id   TEXT NOT NULL REFERENCES attempts (id),
    kind         TEXT NOT NULL,
    amount_nanos INTEGER,
    state        TEXT NOT NULL,
    price_as_of  TEXT NOT NULL,
    UNIQUE (attempt_id, kind)
) STRICT;

CREATE TRIGGER ledger_keeps_its_lines BEFORE UPDATE ON ledger
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER ledger_loses_no_line BEFORE DELETE ON ledger
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
