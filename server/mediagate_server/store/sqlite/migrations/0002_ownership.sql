-- Who may write: one row. `epoch` grows with every owner, and every transaction checks it. `expires` is
-- in seconds of the machine's clock since it was started.
CREATE TABLE ownership (
    one     INTEGER PRIMARY KEY CHECK (one = 1),
    epoch   INTEGER NOT NULL,
    owner   TEXT NOT NULL,
    expires REAL NOT NULL
) STRICT;
INSERT INTO ownership VALUES (1, 0, '', 0);

-- Every accept and every save gets the next number, whatever generation it is of.
ALTER TABLE generations ADD COLUMN changed_seq INTEGER NOT NULL DEFAULT 0;
WITH numbered AS (
    SELECT id, row_number() OVER (ORDER BY created_us, id) AS number FROM generations
)
UPDATE generations SET changed_seq = numbered.number FROM numbered WHERE numbered.id = generations.id;
CREATE INDEX generations_changed ON generations (changed_seq, tenant);

-- The highest number of a generation that was deleted: changes up to it can no longer be told.
CREATE TABLE forgotten (
    one         INTEGER PRIMARY KEY CHECK (one = 1),
    changed_seq INTEGER NOT NULL
) STRICT;
INSERT INTO forgotten VALUES (1, 0);
CREATE TRIGGER generations_are_missed AFTER DELETE ON generations
BEGIN UPDATE forgotten SET changed_seq = max(changed_seq, OLD.changed_seq); END;

ALTER TABLE attempts ADD COLUMN created_us INTEGER NOT NULL DEFAULT 0;
CREATE INDEX attempts_in_doubt ON attempts (state, created_us)
    WHERE state IN ('unconfirmed', 'absent');

-- What a later process needs to send what is still to be sent. A table of its own, so that a save does
-- not write a large input again.
CREATE TABLE pending (
    generation_id TEXT PRIMARY KEY REFERENCES generations (id),
    sealed        BLOB NOT NULL
) STRICT;

-- Pieces of texts that are being streamed.
CREATE TABLE checkpoints (
    generation_id TEXT NOT NULL REFERENCES generations (id),
    sequence      INTEGER NOT NULL,
    start         INTEGER NOT NULL,
    event_id      TEXT NOT NULL,
    sealed        BLOB NOT NULL,
    PRIMARY KEY (generation_id, sequence)
) STRICT, WITHOUT ROWID;

-- Ids of webhooks that were taken, so that none is taken twice.
CREATE TABLE webhooks (
    id      TEXT PRIMARY KEY,
    seen_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX webhooks_oldest ON webhooks (seen_us);

CREATE TABLE secrets (
    name   TEXT PRIMARY KEY,
    sealed BLOB NOT NULL
) STRICT, WITHOUT ROWID;
