-- Passes over upstream's list, and what they found. Times are microseconds since 1970 in UTC.

CREATE TABLE reconciliations (
    number    INTEGER PRIMARY KEY,
    account   TEXT NOT NULL,
    origin_us INTEGER NOT NULL,
    begun_us  INTEGER NOT NULL,
    ended_us  INTEGER NOT NULL,
    since_us  INTEGER NOT NULL,
    line      INTEGER NOT NULL,
    complete  INTEGER NOT NULL,
    listed    INTEGER NOT NULL,
    matched   INTEGER NOT NULL,
    found     TEXT NOT NULL
) STRICT;
CREATE INDEX reconciliations_begun ON reconciliations (begun_us);

CREATE TABLE discrepancies (
    prediction_id  TEXT NOT NULL,
    kind           TEXT NOT NULL,
    found_us       INTEGER NOT NULL,
    model          TEXT NOT NULL,
    generation_id  TEXT NOT NULL,
    ordinal        INTEGER NOT NULL,
    tenant         TEXT NOT NULL,
    ledger_nanos   INTEGER,
    upstream_nanos INTEGER,
    made_us        INTEGER,
    PRIMARY KEY (prediction_id, kind)
) STRICT, WITHOUT ROWID;
CREATE INDEX discrepancies_found ON discrepancies (found_us);
