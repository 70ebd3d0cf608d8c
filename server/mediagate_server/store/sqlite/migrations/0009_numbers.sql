-- Generations by a number, in the order of their acceptance. By their ids, without row ids, whatever a
-- record holds beyond a quarter of a page lay on a page of its own, written anew with each version.
-- A keyed hash of what was asked stands beside the record: found by it are those that have one.
CREATE TABLE numbered (
    number      INTEGER PRIMARY KEY,
    id          TEXT NOT NULL UNIQUE,
    version     INTEGER NOT NULL,
    tenant      TEXT NOT NULL,
    state       TEXT NOT NULL,
    terminal    INTEGER NOT NULL,
    modality    TEXT NOT NULL,
    model       TEXT NOT NULL,
    labels      TEXT NOT NULL,
    created_us  INTEGER NOT NULL,
    changed_seq INTEGER NOT NULL,
    erased      INTEGER NOT NULL DEFAULT 0,
    likeness    TEXT,
    document    TEXT NOT NULL
) STRICT;
INSERT INTO numbered (id, version, tenant, state, terminal, modality, model, labels, created_us,
    changed_seq, erased, likeness, document)
SELECT id, version, tenant, state, terminal, modality, model, labels, created_us, changed_seq, erased,
    (SELECT substr(likeness, 1, 32) FROM likenesses WHERE generation_id = id), document
FROM generations ORDER BY created_us, id;

CREATE TABLE unsent (
    number INTEGER PRIMARY KEY REFERENCES generations (number),
    sealed BLOB NOT NULL
) STRICT;
INSERT INTO unsent
SELECT number, sealed FROM pending JOIN numbered ON numbered.id = pending.generation_id;

DROP TABLE likenesses;
DROP TABLE pending;
DROP TABLE generations;
ALTER TABLE numbered RENAME TO generations;
ALTER TABLE unsent RENAME TO pending;

-- Columns that only grow come where an index grows at its end: the last page is split without
-- moving half of it.
CREATE INDEX generations_newest ON generations (tenant, created_us, id);
CREATE INDEX generations_unfinished ON generations (tenant) WHERE terminal = 0;
CREATE INDEX generations_changed ON generations (changed_seq, tenant);
CREATE INDEX generations_to_erase ON generations (modality, created_us)
    WHERE erased = 0 AND terminal = 1;
CREATE INDEX generations_alike ON generations (tenant, likeness, created_us)
    WHERE likeness IS NOT NULL;
CREATE TRIGGER generations_are_missed AFTER DELETE ON generations
BEGIN UPDATE forgotten SET changed_seq = max(changed_seq, OLD.changed_seq); END;

-- The writing process counts what runs; whoever else asks counts rows.
DROP TABLE running;
-- A prediction leads to its attempt, and from there to its charge.
DROP INDEX charges_prediction;
