-- What was asked, as far as its tenant has it kept; sealed. A table of its own, so that it can go by
-- itself.
CREATE TABLE requests (
    generation_id TEXT PRIMARY KEY REFERENCES generations (id),
    created_us    INTEGER NOT NULL,
    sealed        BLOB NOT NULL
) STRICT;
CREATE INDEX requests_oldest ON requests (created_us);

-- A keyed hash of what was asked, to find an earlier answer by.
CREATE TABLE likenesses (
    tenant        TEXT NOT NULL,
    likeness      TEXT NOT NULL,
    created_us    INTEGER NOT NULL,
    generation_id TEXT NOT NULL REFERENCES generations (id),
    PRIMARY KEY (tenant, likeness, created_us, generation_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX likenesses_of ON likenesses (generation_id);

-- Whether inputs and outputs are gone; what is not, and has ended, is erased when its time is over.
ALTER TABLE generations ADD COLUMN erased INTEGER NOT NULL DEFAULT 0;
CREATE INDEX generations_to_erase ON generations (modality, created_us)
    WHERE erased = 0 AND terminal = 1;
